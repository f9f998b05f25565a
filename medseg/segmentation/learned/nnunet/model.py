"""Runs a model of nnU-Net v2: its preprocessing, its windows and its way back, on medseg's engine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import IncompatibleModelError
from medseg.core.finding import Finding, Severity
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.segmentation.learned.dependencies import import_torch
from medseg.segmentation.learned.device import resolve_device
from medseg.segmentation.learned.engine.stream import EngineRecord, run
from medseg.segmentation.learned.engine.uncertainty import NullSink, PassMeter, dropout_networks
from medseg.segmentation.learned.engine.windows import Windows
from medseg.segmentation.learned.nnunet.back import label_dtype, way_back
from medseg.segmentation.learned.nnunet.cascade import Stage, read_stages
from medseg.segmentation.learned.nnunet.checks import check_grid, check_scans
from medseg.segmentation.learned.nnunet.folder import chosen_folds, find_model_folder
from medseg.segmentation.learned.nnunet.passes import pass_names, uncertainty
from medseg.segmentation.learned.nnunet.preprocess import Prepared, prepare
from medseg.segmentation.learned.nnunet.reading import Reading, check_channels, read_as
from medseg.segmentation.learned.nnunet.totalsegmentator import Task, find_task, model_segments
from medseg.segmentation.learned.trained import ModelIdentity, ModelUncertainty, Outcome, Request

KIND = "nnunet"
REFERENCE = "doi:10.1038/s41592-020-01008-z"
_STEP = 0.5  # nnU-Net's tile_step_size
_CUDA_BATCH = 2

Described = tuple[str, Mapping[str, str], str]
"""Title, licences and intended use, where a converted folder says them."""


@dataclass(frozen=True)
class _Scan:
    """A scan as its reader gives it, and the labels (K,J,I) on its grid that are being written."""

    reading: Reading
    labels: npt.NDArray[Any]
    voxel_volume_mm3: float

    def part(self, array: npt.NDArray[Any], stage: Stage, prepared: Prepared) -> npt.NDArray[Any]:
        """A view of an array (K,J,I) of the scan: what the network of a stage saw, in its own axes."""
        return self.reading.view(array.T).transpose(stage.plans.transpose_forward)[prepared.box]


@dataclass(frozen=True)
class NnunetModel:
    """A model of nnU-Net v2, ready to run; weights are read when they are first needed.

    `stages` are one, or two for a cascade, the one that gives the result last. `task` is the TotalSegmentator task the
    model is of, None for others. `described` is what a converted folder says beyond nnU-Net's own files.
    """

    name: str
    stages: tuple[Stage, ...]
    segments: tuple[Segment, ...]
    task: Task | None = None
    described: Described | None = None

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> NnunetModel:
        """Return the model in a folder of nnU-Net (or of a `DatasetNNN_…` around it), nothing in it executed.

        Raises ModelNotFoundError, IncompatibleModelError, UnsafeModelError, ChecksumError.
        """
        folder = find_model_folder(Path(path))
        return cls.from_stages(read_stages(folder), folder.absolute().parent.name)

    @classmethod
    def from_stages(
        cls, stages: tuple[Stage, ...], dataset_folder: str, *, name: str | None = None, described: Described | None = None
    ) -> NnunetModel:
        """Return the model of checked stages; `dataset_folder` is the name of nnU-Net's `DatasetNNN_…` it came from."""
        plans, dataset = stages[-1].plans, stages[-1].dataset
        own = name or plans.dataset_name or dataset_folder or dataset.name or KIND
        return cls(own, stages, model_segments(dataset.labels, own), find_task(plans.dataset_name, dataset_folder), described)

    @property
    def title(self) -> str:
        """A line for people."""
        if self.described is not None:
            return self.described[0]
        return self.task.title if self.task is not None else self.stages[-1].dataset.description or self.name

    @property
    def mirrors_by_default(self) -> bool:
        """Whether the model's origin averages over mirrored passes unless told otherwise: nnU-Net does, TotalSegmentator does not."""
        return bool(self.stages[-1].mirror_axes) and self.task is None

    @cached_property
    def identity(self) -> ModelIdentity:
        """Which model it is; reads every byte of the weights, for their hash."""
        stage = self.stages[-1]
        dataset = stage.dataset
        modalities = set(dataset.modalities)
        if self.task is not None:
            modalities = {self.task.modality}
        back = stage.plans.transpose_backward
        spacing = [stage.configuration.spacing_mm[axis] for axis in back]
        _, licence, intended_use = self.described or ("", {"weights": dataset.licence} if dataset.licence else {}, "")
        return ModelIdentity(
            name=self.name,
            version=stage.configuration.name,
            title=self.title,
            kind=KIND,
            sha256=self._sha256(),
            licence=licence,
            intended_use=intended_use,
            modality=modalities.pop() if len(modalities) == 1 else "",
            channels=dataset.channels,
            spacing_mm=(spacing[2], spacing[1], spacing[0]),  # (i,j,k), as the readers that keep the file's axes have it
        )

    def segment(self, volumes: tuple[Volume, ...], request: Request) -> Outcome:
        """Segment one scan as nnU-Net would: one volume per channel, all on one grid.

        Raises ModelError and its children; GeometryMismatchError for channels on different grids; InputError for scans
        that hold nothing.
        """
        last = self.stages[-1]
        check_channels(self.name, last.dataset.channels, volumes)
        findings = check_scans(self.name, last.dataset, volumes)
        reading = read_as(last.plans.reader, volumes, to_ras=self.task is not None)
        findings += check_grid(self.name, last.plans, last.configuration, reading, volumes[0])
        resolve_device(request.device)  # a wrong name is said before the scan is prepared
        previous: npt.NDArray[Any] | None = None
        records: list[dict[str, Any]] = []
        for stage in self.stages:
            labels = np.zeros(volumes[0].array.T.shape, label_dtype(stage.dataset.labels))
            scan = _Scan(reading, labels, volumes[0].geometry.voxel_volume_mm3)
            for other in self.stages:
                if other is not stage:
                    other.networks.leave_device()  # one stage at a time has the memory of the device
            folds = chosen_folds(stage.folds, request.folds, self.name)
            with stage.networks.lent({fold.path: partial(stage.network, fold) for fold in folds}) as networks:
                engine, spread = self._run(stage, networks, scan, previous, request)
            previous = reading.view(labels.T)
            records.append(self._record(stage, reading, engine, request))
        findings += [Finding("LESS_MEMORY_THAN_WANTED", Severity.INFO, note) for note in records[-1]["notes"]]
        records[-1]["notes"] += self._notes(volumes[0])
        record = {**records[-1], **({"previous_stage": records[0]} if len(records) > 1 else {})}
        return Outcome(labels, self.segments, tuple(findings), record, spread)

    def leave_device(self) -> None:
        """Move networks that the last scan left on a CUDA device to main memory; the next scan finds them there."""
        for stage in self.stages:
            stage.networks.leave_device()

    def _run(
        self, stage: Stage, networks: Sequence[Any], scan: _Scan, previous: npt.NDArray[Any] | None, request: Request
    ) -> tuple[EngineRecord, ModelUncertainty | None]:
        """Write the labels of one stage into those of the scan; only the last stage is asked how sure it is."""
        configuration, labels = stage.configuration, stage.dataset.labels
        folds = chosen_folds(stage.folds, request.folds, self.name)
        asked = request if stage is self.stages[-1] else replace(request, uncertainty="none")
        device = resolve_device(request.device)
        foreground = labels.foreground if configuration.previous_stage else ()
        inputs = scan.reading, stage.plans, configuration
        seeds = previous if foreground else None
        prepared = _prepared(lambda where: prepare(*inputs, where, seeds, foreground), device, stage)
        windows = Windows.nnunet(
            configuration.patch_size, step=_STEP if request.step is None else request.step, mirror_axes=self._mirror_axes(stage, request)
        )
        windows = replace(windows, batch_size=_CUDA_BATCH if device.type == "cuda" else 1)
        way = way_back(prepared, stage)
        names = pass_names(asked, folds, networks, windows)
        meter = PassMeter(names, way.sink, regions=bool(labels.regions)) if names else None
        sink = way.sink(scan.part(scan.labels, stage, prepared), request.progress)
        in_main_run = meter is not None and request.uncertainty != "dropout"
        pass_sinks = meter.sinks if meter and in_main_run else ()
        engine = run(networks, prepared.image, windows, sink, request, pass_sinks=pass_sinks, forms=stage.networks.forms)
        sink.finish()
        if meter is None:
            return engine, None
        if not in_main_run:
            passes = [one for network in networks for one in dropout_networks(network)]
            run(passes, prepared.image, replace(windows, mirror_axes=()), NullSink(), request, pass_sinks=meter.sinks)
        entropy = np.zeros(scan.labels.shape, np.float32)
        numbers = [segment.number for segment in self.segments]
        return engine, uncertainty(meter, way, scan.part(entropy, stage, prepared), entropy, scan.voxel_volume_mm3, numbers)

    def _mirror_axes(self, stage: Stage, request: Request) -> tuple[int, ...]:
        wanted = self.mirrors_by_default if request.mirroring is None else request.mirroring
        if request.mirroring and not stage.mirror_axes:
            raise IncompatibleModelError(f"model {self.name!r} was not trained for mirroring (left and right differ): leave it off")
        return stage.mirror_axes if wanted or request.uncertainty == "mirror" else ()

    def _record(self, stage: Stage, reading: Reading, engine: EngineRecord, request: Request) -> dict[str, Any]:
        folds = chosen_folds(stage.folds, request.folds, self.name)
        patch = [0, 0, 0]
        for size, axis in zip(engine.patch_size, stage.plans.transpose_forward, strict=True):
            patch[reading.axes[axis]] = size
        return {
            **engine.to_dict(),
            "patch_size": patch,
            "configuration": stage.configuration.name,
            "plans": stage.plans.plans_name,
            "trainer": folds[0].about.trainer,
            "reader": stage.plans.reader,
            "folds": [fold.name for fold in folds],
            "mirror_axes": list(self._mirror_axes(stage, request)),
            "weights": [{"file": f"{fold.path.parent.name}/{fold.path.name}", "sha256": fold.sha256} for fold in folds],
        }

    def _notes(self, volume: Volume) -> list[str]:
        if self.task is not None:
            return [
                "the scan was turned to RAS first, as TotalSegmentator does; its own last step (nearest voxel of a resampled "
                "label map) is replaced by interpolating the network's outputs on the grid of the scan"
            ]
        if self.stages[-1].plans.reader.endswith("WithReorient"):
            return []
        return [
            f"this model reads scans as they are stored ({volume.geometry.orientation} here): where its training scans were stored "
            "otherwise, left and right may be exchanged"
        ]

    def _sha256(self) -> str:
        digests = [fold.sha256 for stage in self.stages for fold in stage.folds]
        return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _prepared(prepare_on: Callable[[Any], Prepared], device: Any, stage: Stage) -> Prepared:
    """Prepare a scan on the device, where there is memory for it; patches go there one by one anyway."""
    shortage = import_torch().OutOfMemoryError
    try:
        return prepare_on(device)
    except shortage:
        pass  # outside of the handler, for the error holds what was on the device
    if stage.networks.leave_device():  # networks of the scan before
        try:
            return prepare_on(device)
        except shortage:
            pass
    return prepare_on("cpu")
