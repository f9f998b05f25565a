"""The inferer of a bundle as windows of medseg's engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from medseg.core.errors import IncompatibleModelError
from medseg.segmentation.learned.bundle.config import Component
from medseg.segmentation.learned.bundle.expression import Device, RefusedError
from medseg.segmentation.learned.bundle.transforms import LARGEST_SIZE
from medseg.segmentation.learned.engine.windows import Windows

SLIDING = frozenset(("SlidingWindowInferer", "SlidingWindowInfererAdapt"))
INFERER_NAMES = SLIDING | {"SimpleInferer", "SliceInferer"}
# How much is computed at once and where does not change the result, so these are medseg's to choose.
_ENGINE_ARGUMENTS = frozenset(("sw_device", "device", "progress", "cache_roi_weight_map", "cpu_thresh", "buffer_steps", "buffer_dim"))
_ARGUMENTS = frozenset(("roi_size", "sw_batch_size", "overlap", "mode", "sigma_scale", "padding_mode", "cval", "spatial_dim"))
_PADDINGS = ("constant", "replicate", "reflect", "circular")


@dataclass(frozen=True)
class Inference:
    """How a bundle runs its network over an image: patch (axes i,j,k; None or 0 for the whole extent), overlap, weights.

    `slice_axis` is the axis a 2D network goes along, slice by slice; None for a 3D network.
    """

    roi_size: tuple[int, int, int] = (0, 0, 0)
    overlap: float = 0.25
    mode: str = "constant"
    sigma: float | tuple[float, float, float] = 0.125
    padding_mode: str = "constant"
    padding_value: float = 0.0
    batch_size: int = 1
    slice_axis: int | None = None
    name: str = "SimpleInferer"

    def windows(self, shape: Sequence[int], step: float | None = None) -> Windows:
        """Return the windows for an image of `shape`; `step` (share of the patch) replaces the bundle's overlap."""
        sizes = [size if size > 0 else n for size, n in zip(self.roi_size, shape, strict=True)]
        weights = "monai" if self.mode == "gaussian" else "constant"
        return Windows(
            patch_size=(sizes[0], sizes[1], sizes[2]),
            step=1 - self.overlap if step is None else step,
            weights=weights,  # type: ignore[arg-type]
            padding=self.padding_mode,  # type: ignore[arg-type]
            padding_value=(self.padding_value,),
            batch_size=self.batch_size,
            sigma_share=self.sigma,
        )


def build_inference(component: Any) -> Inference:
    """Return the windows of an inferer component; raises RefusedError for what is not read."""
    if not isinstance(component, Component) or component.target not in INFERER_NAMES:
        raise RefusedError(f"{getattr(component, 'where', 'inferer')}: not one of {', '.join(sorted(INFERER_NAMES))}")
    where = component.where
    if component.target == "SimpleInferer":
        if component.arguments:
            raise RefusedError(f"{where}: SimpleInferer with arguments")
        return Inference()
    arguments = {name: value for name, value in component.arguments.items() if name not in _ENGINE_ARGUMENTS}
    for name in ("with_coord", "roi_weight_map", "process_fn"):
        if not arguments.pop(name, None):
            continue
        raise RefusedError(f"{where}: {component.target} with {name}")
    unknown = sorted(set(arguments) - _ARGUMENTS)
    if unknown or any(isinstance(value, (Component, Device)) for value in arguments.values()):
        raise RefusedError(f"{where}: {component.target} with {', '.join(unknown)[:160] or 'an argument that is no plain value'}")
    slice_axis = None
    if component.target == "SliceInferer":
        slice_axis = arguments.pop("spatial_dim", 0)
    elif "spatial_dim" in arguments:
        raise RefusedError(f"{where}: {component.target} with spatial_dim")
    return from_values(arguments, where, component.target, slice_axis)


def from_values(values: dict[str, Any], where: str, name: str, slice_axis: int | None = None) -> Inference:
    """Return the windows of plain values named as MONAI's SlidingWindowInferer names them."""
    roi_size = _roi_size(values.get("roi_size"), where, slice_axis)
    padding_mode = values.get("padding_mode", "constant")
    mode = values.get("mode", "constant")
    if padding_mode not in _PADDINGS or mode not in ("constant", "gaussian"):
        raise RefusedError(f"{where}: {name} with mode {str(mode)[:40]!r} and padding_mode {str(padding_mode)[:40]!r}")
    overlap = _one_number(values.get("overlap", 0.25), where, f"{name} with overlap")
    if not 0 <= overlap < 1:
        raise RefusedError(f"{where}: {name} with overlap {overlap}")
    sigma = values.get("sigma_scale", 0.125)
    if isinstance(sigma, (list, tuple)) and len(sigma) == 3:
        sigma = (float(sigma[0]), float(sigma[1]), float(sigma[2]))
    else:
        sigma = _one_number(sigma, where, f"{name} with sigma_scale")
    batch = values.get("sw_batch_size", 1)
    return Inference(
        roi_size,
        overlap,
        mode,
        sigma,
        padding_mode,
        _one_number(values.get("cval", 0.0), where, f"{name} with cval"),
        max(1, min(int(batch), 8)) if isinstance(batch, (int, float)) else 1,
        slice_axis,
        name,
    )


def _roi_size(value: Any, where: str, slice_axis: int | None) -> tuple[int, int, int]:
    count = 3 if slice_axis is None else 2
    sizes = [value] * count if isinstance(value, (int, float)) else list(value or [])
    if len(sizes) == 1:
        sizes *= count
    if slice_axis is not None:
        if slice_axis not in (0, 1, 2):
            raise RefusedError(f"{where}: slices along axis {str(slice_axis)[:20]}")
        sizes.insert(slice_axis, 1)
    fine = len(sizes) == 3 and all(size is None or (isinstance(size, (int, float)) and size <= LARGEST_SIZE) for size in sizes)
    if not fine:
        raise RefusedError(f"{where}: roi_size {str(value)[:80]}: three numbers of voxels are needed")
    i, j, k = (0 if size is None or size < 0 else int(size) for size in sizes)
    return i, j, k


def _one_number(value: Any, where: str, what: str) -> float:
    if isinstance(value, (list, tuple)) and value and all(entry == value[0] for entry in value):
        value = value[0]
    if not isinstance(value, (int, float)):
        raise RefusedError(f"{where}: {what} {str(value)[:80]}: one number for all axes is needed")
    return float(value)


class SliceNetwork:
    """A 2D network as one over patches that are one voxel thick along `axis` (0, 1, 2)."""

    def __init__(self, network: Any, axis: int) -> None:
        self.network = network
        self.axis = axis

    def __call__(self, patches: Any) -> Any:
        """Return the outputs for patches (B, C, ...) that are one voxel thick."""
        return self.network(patches.squeeze(self.axis + 2)).unsqueeze(self.axis + 2)

    def to(self, *args: Any, **kwargs: Any) -> SliceNetwork:
        """Move the network, as `torch.nn.Module.to`; memory formats of 3D patches mean nothing to a 2D network."""
        kwargs.pop("memory_format", None)
        self.network.to(*args, **kwargs)
        return self


def checked_step(inference: Inference, step: float | None) -> Inference:
    """Return the inference with another step between patches; raises IncompatibleModelError where it is none."""
    if step is None:
        return inference
    if not 0 < step <= 1:
        raise IncompatibleModelError(f"step {step:g} is no share of the patch: give a number above 0, at most 1")
    return replace(inference, overlap=1 - step)
