"""A MONAI bundle as a trained model: its own rules, medseg's engine, nothing of it executed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medseg.core.errors import IncompatibleModelError, ModelNotFoundError
from medseg.core.finding import Finding, Severity
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.segmentation.learned.bundle.config import unsafe
from medseg.segmentation.learned.bundle.contents import BundleContents, read_folder
from medseg.segmentation.learned.bundle.expression import RefusedError
from medseg.segmentation.learned.bundle.inferer import SliceNetwork, checked_step
from medseg.segmentation.learned.bundle.network import TORCHSCRIPT, find_weights, load_network, sha256_of
from medseg.segmentation.learned.bundle.outputs import LargestSink, as_labels
from medseg.segmentation.learned.bundle.postprocess import Prediction, WayBack, run_steps
from medseg.segmentation.learned.bundle.transforms import without_values
from medseg.segmentation.learned.engine.kept_networks import KeptNetworks
from medseg.segmentation.learned.engine.sinks import ArraySink
from medseg.segmentation.learned.engine.stream import run
from medseg.segmentation.learned.networks.registry import build, output_shape
from medseg.segmentation.learned.store.file_state import while_unchanged
from medseg.segmentation.learned.trained import ModelIdentity, Outcome, Request

KIND = "monai-bundle"
_CHECKED_PATCHES = 16


def _takes_any(channels: int, patch: tuple[int, int, int]) -> None:
    """Accept a patch of any size."""


@dataclass(frozen=True)
class BundleModel:
    """A bundle that is ready to run; `load` returns a new network on the CPU, `networks` keeps the one that ran.

    `check_patch` is given the channels and the size of a patch and raises IncompatibleModelError where the network cannot take it.
    """

    contents: BundleContents
    identity: ModelIdentity
    segments: tuple[Segment, ...]
    load: Callable[[], Any]
    notes: tuple[str, ...] = field(default=())
    check_patch: Callable[[int, tuple[int, int, int]], None] = field(default=_takes_any, compare=False)
    networks: KeptNetworks = field(default_factory=KeptNetworks, init=False, repr=False, compare=False)

    @classmethod
    def open(cls, path: Path, trusted_sha256: str | None = None) -> BundleModel:
        """Return the bundle in a folder, or in one TorchScript file; see `open_bundle`."""
        return open_bundle(path, trusted_sha256)

    def segment(self, volumes: tuple[Volume, ...], request: Request) -> Outcome:
        """Segment one scan, one volume per channel, by the rules of the bundle.

        Raises IncompatibleModelError for what the bundle cannot do, GeometryMismatchError for channels on other grids.
        """
        self._check(volumes, request)
        contents = self.contents
        volumes, findings = _finite(volumes)
        prepared = contents.preprocessing.prepare(volumes)
        affine = np.asarray(prepared.affine, np.float64)
        geometry = volumes[0].geometry
        way = WayBack(
            contents.preprocessing,
            without_values(prepared),
            geometry.shape,
            (float(abs(np.linalg.det(affine[:3, :3]))), geometry.voxel_volume_mm3),
        )
        image = prepared.as_tensor().float().contiguous()
        del prepared
        inference = checked_step(contents.inference, request.step)
        windows = inference.windows(image.shape[1:])
        self.check_patch(image.shape[0], windows.patch_size)
        sink = LargestSink() if contents.postprocessing.labels_at_once else ArraySink()
        with self.networks.lent({None: self._loaded}) as networks:
            record = run(networks, image, windows, sink, request, forms=self.networks.forms)
        del image
        values = sink.finish()
        channels = sink.channels if isinstance(sink, LargestSink) else values.shape[0]
        contents.metadata.check_outputs(channels)
        prediction = Prediction(values, "labels" if isinstance(sink, LargestSink) else "outputs")
        prediction = run_steps(prediction, contents.postprocessing, way)
        labels, segments, doubts = as_labels(prediction, contents.metadata, channels)
        entries = {**record.to_dict(), "inferer": inference.name, "preprocessing": list(contents.preprocessing.names)}
        entries["notes"] = [*entries.get("notes", []), *self.notes]
        return Outcome(labels, segments, (*findings, *way.findings, *doubts), entries)

    def leave_device(self) -> None:
        """Move the network that the last scan left on a CUDA device to main memory; the next scan finds it there."""
        self.networks.leave_device()

    def _loaded(self) -> Any:
        network, axis = self.load(), self.contents.inference.slice_axis
        return network if axis is None else SliceNetwork(network, axis)

    def _check(self, volumes: Sequence[Volume], request: Request) -> None:
        name = self.identity.name
        needed = self.contents.network.in_channels if self.contents.network else len(self.identity.channels)
        if not volumes or (needed and len(volumes) != needed):
            named = f" ({', '.join(self.identity.channels)})" if len(self.identity.channels) == needed else ""
            raise IncompatibleModelError(f"bundle {name!r} needs {needed} scan(s){named} on one grid, {len(volumes)} given")
        if request.mirroring:
            raise IncompatibleModelError(f"bundle {name!r} does not say that it was trained for mirroring: leave it off")
        if request.uncertainty != "none":
            raise IncompatibleModelError(
                f"bundle {name!r} has one pass, so it gives no uncertainty of its own: leave `uncertainty` at none"
            )
        if request.folds not in (None, (0,)):
            raise IncompatibleModelError(f"bundle {name!r} has one network, no folds: leave `folds` out")


def open_bundle(path: Path, trusted_sha256: str | None = None, configs: Sequence[str] = ()) -> BundleModel:
    """Return a bundle that is ready to run; `configs` names other files than `inference` in its folder `configs`.

    Nothing in it is executed: its configuration is read as data, its network built by medseg, its weights read as data.
    Only where `trusted_sha256` is the hash of the whole bundle (`bundle_sha256`) does MONAI run what would be refused.
    Raises UnsafeModelError with the list of everything that is not data, ChecksumError for another hash,
    ModelNotFoundError and IncompatibleModelError for bundles that are not whole.
    """
    path = Path(path)
    if path.suffix == ".ts" and path.is_file():
        from medseg.segmentation.learned.bundle.torchscript import open_archive

        return open_archive(path, trusted_sha256)
    if not path.is_dir():
        raise ModelNotFoundError(f"{path} is no folder of a MONAI bundle")
    if trusted_sha256 is not None:
        from medseg.segmentation.learned.bundle.trust import open_trusted

        return open_trusted(path, trusted_sha256, configs)
    contents = read_folder(path, configs)
    if contents.network is None:
        from medseg.segmentation.learned.bundle.torchscript import script_loader

        weights = path / TORCHSCRIPT
        load = while_unchanged(weights, script_loader(weights))
        return bundle_model(contents, sha256_of(weights), load)
    try:
        weights = find_weights(path, contents.configuration)
    except RefusedError as err:
        raise unsafe(contents.metadata.name, [str(err)]) from err
    definition = contents.network
    load = while_unchanged(weights, lambda: load_network(definition, weights))
    return bundle_model(contents, sha256_of(weights), load)


def bundle_model(contents: BundleContents, sha256: str, load: Callable[[], Any], notes: tuple[str, ...] = ()) -> BundleModel:
    """Return the model of what was read; its segments are known before it runs where the bundle names its outputs."""
    metadata = contents.metadata
    channels = contents.network.out_channels if contents.network else (metadata.output_count or len(metadata.outputs))
    masks = not any(step.argmax for step in contents.postprocessing.steps) and any(
        step.arguments.get("threshold") is not None for step in contents.postprocessing.steps
    )
    segments: tuple[Segment, ...] = ()
    if channels and contents.postprocessing.choices:
        segments = metadata.segments_of_choices(contents.postprocessing.choices, channels)
    elif channels:
        segments = metadata.segments_of_masks(channels) if masks or channels == 1 else metadata.segments_of_labels(channels)
    inputs = contents.network.in_channels if contents.network else metadata.input_count
    names = metadata.inputs if inputs in (None, len(metadata.inputs)) else ()
    identity = ModelIdentity(
        metadata.name,
        metadata.version,
        metadata.title,
        KIND,
        sha256,
        _licence(metadata.licence),
        metadata.intended_use,
        metadata.modality,
        names or tuple(f"channel {number}" for number in range(inputs or 1)),
        contents.preprocessing.spacing_mm,
    )
    return BundleModel(contents, identity, segments, load, notes, _patch_check(contents))


def _patch_check(contents: BundleContents) -> Callable[[int, tuple[int, int, int]], None]:
    """What finds out without computing anything whether the network takes patches of a size, once for each size."""
    definition = contents.network
    if definition is None or contents.inference.slice_axis is not None:
        return _takes_any

    @functools.lru_cache(_CHECKED_PATCHES)
    def check(channels: int, patch: tuple[int, int, int]) -> None:
        output_shape(build(definition.name, definition.arguments), channels, patch)

    return check


def _licence(entries: Mapping[str, str]) -> dict[str, str]:
    return dict(entries) or {"code": "not stated by the bundle"}


def _finite(volumes: tuple[Volume, ...]) -> tuple[tuple[Volume, ...], list[Finding]]:
    """The volumes with voxels that are no numbers set to the lowest intensity."""
    findings, clean = [], []
    for volume in volumes:
        array = volume.array
        broken = int(array.size - np.count_nonzero(np.isfinite(array))) if array.dtype.kind == "f" else 0
        if broken == array.size:
            raise IncompatibleModelError("the scan holds no finite number: there is nothing to segment")
        if broken:
            lowest = array[np.isfinite(array)].min()
            clean.append(volume.with_array(np.where(np.isfinite(array), array, lowest)))
            text = f"{broken} voxels are no finite numbers: taken for outside the scan"
            findings.append(Finding("NON_FINITE_REPLACED", Severity.WARNING, text))
        else:
            clean.append(volume)
    return tuple(clean), findings
