"""Runs networks over a volume patch by patch and hands finished rows of their blended outputs on at once.

Memory: the image, one slab of sums (patch depth × plane × channels), one batch of patches with its outputs, and what
the sink holds. It does not grow with the number of channels times the number of voxels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError
from medseg.segmentation.learned.dependencies import import_torch
from medseg.segmentation.learned.device import resolve_device
from medseg.segmentation.learned.engine.accumulate import Slab, slab_axis
from medseg.segmentation.learned.engine.backend import with_backend
from medseg.segmentation.learned.engine.forward import Forward, Network
from medseg.segmentation.learned.engine.kept_networks import Forms
from medseg.segmentation.learned.engine.ladder import Rung, climb_down
from medseg.segmentation.learned.engine.precision import determinism, resolve_precision
from medseg.segmentation.learned.engine.sinks import Sink
from medseg.segmentation.learned.engine.skipping import ConstantPatches
from medseg.segmentation.learned.engine.windows import Shape, Windows, padding, window_starts, window_weights
from medseg.segmentation.learned.networks.host_memory import kept_host_memory
from medseg.segmentation.learned.trained import Request

if TYPE_CHECKING:
    import torch

_ROWS_BYTES = 16 << 20  # finished rows are handed on in blocks of at most about this size
_KEPT_BYTES = 512 << 20  # outputs of constant patches are kept up to this
_NOT_COMPILED = "torch.compile does not work for this network on this machine: it ran as it is"
_IMAGE_SHARE = 0.4  # the image moves to the device where it needs at most this share of its free memory


@dataclass(frozen=True)
class EngineRecord:
    """How a run went: where, with what patches (array axes) and precision; `notes` say what had to be given up."""

    device: str
    patch_size: Shape
    step: float
    batch_size: int
    precision: str
    passes: int
    patches: int
    skipped_patches: int
    slab_axis: int
    deterministic: bool = False
    compiled: bool = False
    backend: str = "torch"
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**vars(self), "patch_size": list(self.patch_size), "notes": list(self.notes)}


def run(
    networks: Sequence[Network],
    image: npt.NDArray[np.float32] | torch.Tensor,
    windows: Windows,
    sink: Sink,
    request: Request,
    *,
    pass_sinks: Sequence[Sink] = (),
    forms: Forms | None = None,
) -> EngineRecord:
    """Run `networks` (folds, their outputs averaged) over `image` (C,K,J,I), already normalised; push rows into `sink`.

    A network maps (B,C,k,j,i) float32 to (B,C',k,j,i). `request` gives device, precision, determinism, memory and
    progress; what else it holds (mirroring, step, folds) is the model's to put into `windows` and `networks`.
    `pass_sinks` get the outputs of the single passes: one per network (the mean of its mirrored passes), or one per
    network and mirrored pass, those of the first network first. `forms` are those of networks that serve scan after scan:
    what a backend makes of them is taken from there. The caller calls `sink.finish()`.

    Where memory runs out, the batch is halved, then sums are kept in main memory, then the patch is made smaller where
    `windows.multiple` allows it, then (device "auto") the CPU used; each is noted. Raises OutOfMemoryError where nothing
    is left to try, IncompatibleModelError for outputs that are not finite or have another shape than the input,
    DeviceError where the device failed.
    """
    torch = import_torch()
    device = resolve_device(request.device)
    tensor = torch.as_tensor(image)
    if not tensor.numel():
        raise InputError("the image to segment has no voxels")
    if len(pass_sinks) not in (0, len(networks), len(networks) * len(windows.mirrors())):
        raise ValueError(f"{len(pass_sinks)} sinks for {len(networks)} networks and {len(windows.mirrors())} mirrored passes")
    first = Rung(device, windows.for_shape(tensor.shape[1:]))
    with determinism(request.deterministic), kept_host_memory():
        # within, so that the memory of image and sums is free when what was kept is given back
        return _run(networks, tensor, first, sink, request, pass_sinks, forms)


def _run(
    networks: Sequence[Network],
    image: torch.Tensor,
    first: Rung,
    sink: Sink,
    request: Request,
    pass_sinks: Sequence[Sink],
    forms: Forms | None,
) -> EngineRecord:
    course, rung, notes = climb_down(
        lambda rung: _Course(networks, image, rung, request, forms).run(sink, pass_sinks), first, may_use_cpu=request.device == "auto"
    )
    return EngineRecord(
        device=str(rung.device),
        patch_size=rung.windows.patch_size,
        step=rung.windows.step,
        batch_size=rung.windows.batch_size,
        precision=course.forward.precision,
        passes=len(networks) * len(course.mirrors),
        patches=len(course.order),
        skipped_patches=course.constant.skipped,
        slab_axis=course.axis,
        deterministic=request.deterministic,
        compiled=course.forward.compiled,
        backend=request.backend,
        notes=notes if course.forward.compiled or not request.compile else (*notes, _NOT_COMPILED),
    )


class _Course:
    """One attempt to run networks over an image."""

    def __init__(self, networks: Sequence[Network], image: torch.Tensor, rung: Rung, request: Request, forms: Forms | None) -> None:
        torch = import_torch()
        self.windows, self.request, self.rung = rung.windows, request, rung
        precision = resolve_precision(request, rung.device)
        networks = with_backend(networks, request.backend, rung.device, precision, forms)
        compiled = request.compile and request.backend == "torch"
        self.forward = Forward(networks, rung.device, precision, compiled=compiled, forms=forms)
        self.mirrors = rung.windows.mirrors()
        self.shape: Shape = (image.shape[1], image.shape[2], image.shape[3])
        missing = padding(self.shape, self.windows.patch_size)
        # where a patch lies on padding, that part of it is not summed up: along such an axis there is one patch only
        self.inside = tuple(slice(low, low + n) if low or high else slice(None) for (low, high), n in zip(missing, self.shape, strict=True))
        with torch.inference_mode():
            self.image = _on_device(_padded(image, missing, self.windows), rung.device)
        self.extents: Shape = (self.image.shape[1], self.image.shape[2], self.image.shape[3])
        self.axis = slab_axis(self.extents, self.windows, free=rung.free_axis)
        starts = window_starts(self.extents, self.windows)
        self.layers = starts[self.axis]
        others = [[0] if axis == self.axis else line for axis, line in enumerate(starts)]
        self.plane = list(itertools.product(*others))
        self.order = [self._at(layer, start) for layer in self.layers for start in self.plane]
        self.constant = ConstantPatches(self.image, self.order, self.windows.patch_size)
        self.slab: Slab | None = None
        self.pass_slabs: list[Slab] = []
        self._done = 0

    def run(self, sink: Sink, pass_sinks: Sequence[Sink]) -> _Course:
        """Push all rows into the sinks, in order along the slab axis."""
        torch = import_torch()
        group = max(1, self.windows.batch_size // len(self.mirrors))
        with torch.inference_mode():
            for number, layer in enumerate(self.layers):
                starts = [self._at(layer, start) for start in self.plane]
                for fold in range(len(self.forward)):
                    for first in range(0, len(starts), group):
                        self._add(fold, starts[first : first + group], sink, pass_sinks)
                self._count(starts)
                following = self.layers[number + 1] if number + 1 < len(self.layers) else self.extents[self.axis]
                self._push(layer, following, sink, pass_sinks)
        return self

    def _at(self, layer: int, start: Sequence[int]) -> tuple[int, int, int]:
        k, j, i = (layer if axis == self.axis else begin for axis, begin in enumerate(start))
        return k, j, i

    def _add(self, fold: int, starts: Sequence[Shape], sink: Sink, pass_sinks: Sequence[Sink]) -> None:
        """Add the mean over the mirrored passes of a few patches to the sums."""
        totals: list[Any] = [None] * len(starts)  # of outputs, or of what the last layer is given: it is linear
        for which, mirror, outputs in self._outputs(fold, starts):
            if self.slab is None:
                self._begin(self.forward.channels(fold, outputs), sink, pass_sinks)
            if len(self.pass_slabs) > len(self.forward):
                slab = self.pass_slabs[fold * len(self.mirrors) + mirror]
                for row, rows in self._rows(fold, outputs):
                    slab.add(0, rows, starts[which], row)
            totals[which] = outputs if totals[which] is None else totals[which].add_(outputs)
        assert self.slab is not None
        for start, total in zip(starts, totals, strict=True):
            mean = total if len(self.mirrors) == 1 else total.div_(len(self.mirrors))
            for row, rows in self._rows(fold, mean):
                self.slab.add(fold, rows, start, row)
                if len(self.pass_slabs) == len(self.forward):
                    self.pass_slabs[fold].add(0, rows, start, row)
            self._done += 1
            self.request.progress("segmenting", self._done, len(self.order) * len(self.forward))

    def _outputs(self, fold: int, starts: Sequence[Shape]) -> Iterator[tuple[int, int, torch.Tensor]]:
        """The outputs (C,k,j,i) of each patch and mirrored pass, turned back; each tensor is the caller's to change."""
        torch = import_torch()
        fresh = []
        for which, start in enumerate(starts):
            value = self.constant.value(start) if self.rung.keep_constant else None
            base = self.constant.get(fold, value) if value is not None else None
            if value is not None and base is None:
                base = self.forward.outputs(fold, self._patch(start)[None])[0]
                self.constant.keep(fold, value, base, _KEPT_BYTES)
            elif base is not None:
                self.constant.skipped += 1
            if base is None:
                fresh += [(which, mirror) for mirror in range(len(self.mirrors))]
                continue
            for mirror, axes in enumerate(self.mirrors):
                yield which, mirror, base.flip([axis + 1 for axis in axes])  # flip copies
        for first in range(0, len(fresh), self.windows.batch_size):
            batch = fresh[first : first + self.windows.batch_size]
            patches = [self._patch(starts[which]).flip([axis + 1 for axis in self.mirrors[mirror]]) for which, mirror in batch]
            for (which, mirror), outputs in zip(batch, self.forward.outputs(fold, torch.stack(patches)), strict=True):
                yield which, mirror, outputs.flip([axis + 1 for axis in self.mirrors[mirror]]) if self.mirrors[mirror] else outputs

    def _rows(self, fold: int, outputs: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        return self.forward.rows(fold, outputs[(slice(None), *self.inside)])

    def _patch(self, start: Shape) -> torch.Tensor:
        box = tuple(slice(begin, begin + size) for begin, size in zip(start, self.windows.patch_size, strict=True))
        return self.image[(slice(None), *box)].to(self.rung.device)

    def _begin(self, channels: int, sink: Sink, pass_sinks: Sequence[Sink]) -> None:
        """Make the sums once the number of channels is known."""
        torch = import_torch()
        device = torch.device("cpu") if self.rung.sums_on_cpu else self.rung.device
        weights = torch.from_numpy(window_weights(self.windows))[self.inside].contiguous()
        half = self.windows.accumulators == "half-per-fold"
        self._check_plan(channels, 2 * len(self.forward) if half else 4, len(pass_sinks))
        self.slab = Slab(channels, self.shape, self.axis, weights, folds=len(self.forward) if half else 1, half=half, device=device)
        self.pass_slabs = [Slab(channels, self.shape, self.axis, weights, device=device) for _ in pass_sinks]
        for one in (sink, *pass_sinks):
            one.begin(channels, self.shape, self.axis, device)

    def _check_plan(self, channels: int, bytes_each: int, passes: int) -> None:
        """Raise MemoryError where the sums would need more than the request allows: the next attempt needs less."""
        plane = math.prod(n for axis, n in enumerate(self.shape) if axis != self.axis)
        depth = min(self.windows.patch_size[self.axis], self.shape[self.axis])
        needed = depth * plane * (channels * (bytes_each + 4 * passes) + bytes_each)
        if self.request.memory_mb is not None and needed > self.request.memory_mb << 20:
            raise MemoryError(f"the sums need {needed >> 20} MB, {self.request.memory_mb} MB are allowed")

    def _count(self, starts: Sequence[Shape]) -> None:
        assert self.slab is not None
        times = 1 if self.windows.accumulators == "half-per-fold" else len(self.forward)
        for start in starts:
            self.slab.count(start, times)
            for slab in self.pass_slabs:
                slab.count(start)
            self.constant.passed(start)

    def _push(self, layer: int, following: int, sink: Sink, pass_sinks: Sequence[Sink]) -> None:
        """Hand on the rows from `layer` to `following`, which no later patch touches."""
        assert self.slab is not None
        stop = min(following, self.shape[self.axis])
        row_bytes = 4 * self.slab.channels * math.prod(n for axis, n in enumerate(self.shape) if axis != self.axis)
        step = max(1, _ROWS_BYTES // row_bytes)
        for row in range(layer, stop, step):
            for slab, one in zip((self.slab, *self.pass_slabs), (sink, *pass_sinks), strict=True):
                one.push(slab.mean(row, min(row + step, stop)))
        if following < self.extents[self.axis]:
            for slab in (self.slab, *self.pass_slabs):
                slab.advance(following)


def _padded(image: torch.Tensor, missing: Sequence[tuple[int, int]], windows: Windows) -> torch.Tensor:
    """The image, at least as large as a patch."""
    torch = import_torch()
    if not any(map(any, missing)):
        return image
    width = [n for pair in reversed(missing) for n in pair]
    if windows.padding != "constant":
        return torch.nn.functional.pad(image[None], width, mode=windows.padding)[0]
    values = windows.padding_value if len(windows.padding_value) == len(image) else windows.padding_value[:1] * len(image)
    channels = [torch.nn.functional.pad(channel, width, value=value) for channel, value in zip(image, values, strict=True)]
    return torch.stack(channels)


def _on_device(image: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The image on the device where it fits, else in memory the device can read from at once."""
    if device.type != "cuda":
        return image
    free = import_torch().cuda.mem_get_info(device)[0]
    if image.numel() * image.element_size() <= _IMAGE_SHARE * free:
        return image.to(device, non_blocking=True)
    return image.pin_memory()
