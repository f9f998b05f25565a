"""Models in medseg's own format: a folder with `model.json` and safetensors weights."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import IncompatibleModelError
from medseg.core.finding import Finding, Severity
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.preprocessing.plan import reversed_axes
from medseg.segmentation.learned.description import ModelDescription
from medseg.segmentation.learned.device import resolve_device
from medseg.segmentation.learned.engine.export import AffineLabelSink
from medseg.segmentation.learned.engine.kept_networks import KeptNetworks
from medseg.segmentation.learned.engine.stream import EngineRecord, run
from medseg.segmentation.learned.engine.uncertainty import NullSink, PassMeter, dropout_networks, mirror_name
from medseg.segmentation.learned.engine.windows import Windows
from medseg.segmentation.learned.network import load_network
from medseg.segmentation.learned.prepared import Prepared, check_channels, prepare
from medseg.segmentation.learned.store import ModelFolder, find_model
from medseg.segmentation.learned.trained import ModelIdentity, ModelUncertainty, Outcome, Request

KIND = "medseg"
_CUDA_BATCH = 2
# Every CT that shows air has voxels below this; a "CT" without any is likely to be no CT, or not in HU.
_AIR_HU = -200.0


@dataclass(frozen=True)
class MedsegModel:
    """A model folder that is ready to run; its weights are read, and compared with their hash, when it first runs."""

    folder: ModelFolder
    _networks: KeptNetworks = field(default_factory=KeptNetworks, init=False, repr=False, compare=False)

    @classmethod
    def open(cls, name_or_path: str | os.PathLike[str], folders: Iterable[Path] = ()) -> MedsegModel:
        """Return the model of a name or of the path of its folder; raises as `store.find_model`."""
        return cls(find_model(name_or_path, folders))

    @cached_property
    def identity(self) -> ModelIdentity:
        """Which model it is; of several folds the hash is that of their hashes, one a line."""
        about = self.folder.description
        hashes = [entry.sha256 for entry in about.fold_weights]
        return ModelIdentity(
            name=about.name,
            version=about.version,
            title=about.title,
            kind=KIND,
            sha256=hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest(),
            licence=about.licence.model_dump(),
            intended_use=about.intended_use,
            modality=about.modality,
            channels=about.channels,
            spacing_mm=about.spacing_mm,
        )

    @property
    def segments(self) -> tuple[Segment, ...]:
        """What it finds, in the order of the output channels 1, 2, ..."""
        return self.folder.description.label_segments()

    def segment(self, volumes: tuple[Volume, ...], request: Request) -> Outcome:
        """Segment one scan: one volume per channel, all on one grid.

        Raises ModelError and its children, GeometryMismatchError for channels on different grids, InputError for scans
        that hold nothing to segment.
        """
        description = self.folder.description
        check_channels(volumes, description)
        findings = doubts(volumes, description)
        folds = self._folds(request)
        mirrored = self._is_mirrored(request)
        resolve_device(request.device)  # a wrong name is said before the scan is prepared
        prepared = prepare(volumes, description)
        windows = self._windows(prepared, request, mirrored=mirrored)
        with self._networks.lent({fold: partial(self._load, fold) for fold in folds}) as networks:
            labels, record, uncertainty = self._run(networks, prepared, windows, volumes[0], request)
        findings += [Finding("LESS_MEMORY_THAN_WANTED", Severity.INFO, note) for note in record.notes]
        return Outcome(labels, self.segments, tuple(findings), _record(record, folds), uncertainty)

    def leave_device(self) -> None:
        """Move networks that the last scan left on a CUDA device to main memory; the next scan finds them there."""
        self._networks.leave_device()

    def _run(
        self, networks: Sequence[Any], prepared: Prepared, windows: Windows, volume: Volume, request: Request
    ) -> tuple[npt.NDArray[Any], EngineRecord, ModelUncertainty | None]:
        """Run the networks and bring their labels back to the grid of the scan."""
        numbers = [0, *(segment.number for segment in self.segments)]
        way_back = (reversed_axes(prepared.plan.source_to_target()), volume.geometry.shape[::-1])
        sink = AffineLabelSink(*way_back, numbers=numbers, progress=request.progress)
        names = self._pass_names(request, networks, windows)
        meter = PassMeter(names, lambda: AffineLabelSink(*way_back, numbers=numbers, keep=False)) if names else None
        in_main_run = meter is not None and request.uncertainty != "dropout"
        pass_sinks = meter.sinks if meter and in_main_run else ()
        record = run(networks, prepared.image, windows, sink, request, pass_sinks=pass_sinks, forms=self._networks.forms)
        if meter and not in_main_run:
            passes = [one for network in networks for one in dropout_networks(network)]
            run(passes, prepared.image, self._windows(prepared, request, mirrored=False), NullSink(), request, pass_sinks=meter.sinks)
        uncertainty = _uncertainty(meter, numbers[1:], way_back, volume.geometry.voxel_volume_mm3) if meter else None
        return sink.finish(), record, uncertainty

    def _load(self, fold: int) -> Any:
        return load_network(self.folder, fold) if fold else load_network(self.folder)

    def _folds(self, request: Request) -> tuple[int, ...]:
        count = len(self.folder.description.fold_weights)
        folds = request.folds if request.folds is not None else tuple(range(count))
        if not folds or len(set(folds)) != len(folds) or not all(0 <= fold < count for fold in folds):
            raise IncompatibleModelError(f"model {self.identity.name!r} has folds 0 to {count - 1}; asked for {list(folds)}")
        if request.uncertainty == "folds" and len(folds) < 2:
            raise IncompatibleModelError(f"model {self.identity.name!r}: the spread of folds needs two or more of them, {len(folds)} used")
        return folds

    def _is_mirrored(self, request: Request) -> bool:
        usual = self.folder.description.mirroring
        wanted = (usual if request.mirroring is None else request.mirroring) or request.uncertainty == "mirror"
        if wanted and not self.folder.description.mirror_axes:
            raise IncompatibleModelError(
                f"model {self.identity.name!r} was not trained for mirroring (left and right differ): leave it off"
            )
        return wanted

    def _windows(self, prepared: Prepared, request: Request, *, mirrored: bool) -> Windows:
        about = self.folder.description
        i, j, k = about.patch_size
        axes = tuple(2 - axis for axis in about.mirror_axes) if mirrored else ()
        return Windows(
            patch_size=(k, j, i),
            step=1 - about.overlap if request.step is None else request.step,
            mirror_axes=axes,
            padding_value=tuple(float(value) for value in prepared.background),
            batch_size=_CUDA_BATCH if resolve_device(request.device).type == "cuda" else 1,
            multiple=about.patch_multiple,
        )

    def _pass_names(self, request: Request, networks: Sequence[Any], windows: Windows) -> list[str]:
        folds = self._folds(request)
        several = len(folds) > 1
        if request.uncertainty == "folds":
            return [f"fold {fold}" for fold in folds]
        if request.uncertainty == "mirror":
            mirrors = [mirror_name(axes) for axes in windows.mirrors()]
        elif request.uncertainty == "dropout":
            count = len(dropout_networks(networks[0]))
            mirrors = [f"dropout {number}" for number in range(count)]
        else:
            return []
        return [f"fold {fold} {name}" if several else name for fold in folds for name in mirrors]


def doubts(volumes: Sequence[Volume], description: ModelDescription) -> list[Finding]:
    """Return what is doubtful about the intensities of a scan for a model."""
    findings = []
    for volume in volumes:
        broken = int(np.count_nonzero(~np.isfinite(volume.array))) if volume.array.dtype.kind == "f" else 0
        if broken:
            message = f"{broken} voxels are no finite numbers: taken for outside the scan"
            findings.append(Finding("NON_FINITE_REPLACED", Severity.WARNING, message))
        least = float(np.fmin.reduce(volume.array, axis=None))  # NaN only where every voxel is NaN
        if description.modality == "CT" and not least < _AIR_HU:
            message = f"the lowest intensity is {least:g}: a CT in HU has air near -1000, so this may be no CT or not in HU"
            findings.append(Finding("INTENSITIES_NOT_HU", Severity.WARNING, message, {"minimum": least}))
    return findings


def _uncertainty(meter: PassMeter, numbers: Sequence[int], way_back: tuple[Any, Any], voxel_volume_mm3: float) -> ModelUncertainty:
    from medseg.kernels.resample import resample_linear

    matrix, shape = way_back
    volumes_ml = meter.volumes_ml(numbers, voxel_volume_mm3)
    entropy: npt.NDArray[Any] = resample_linear(meter.entropy(), matrix[:, :3], matrix[:, 3], shape)
    return ModelUncertainty(meter.names, volumes_ml, entropy)


def _record(record: EngineRecord, folds: Sequence[int]) -> dict[str, Any]:
    """The record of the engine with the patch in the order of the scan's axes (i,j,k)."""
    k, j, i = record.patch_size
    return {**record.to_dict(), "patch_size": [i, j, k], "overlap": round(1 - record.step, 6), "folds": list(folds)}
