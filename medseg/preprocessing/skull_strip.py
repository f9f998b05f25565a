"""The brain in a T1-weighted MR scan of a head, by classical means: thresholds, morphology in mm and the strongest edge."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number
from medseg.preprocessing.crop import plane_distance_mm
from medseg.preprocessing.denoise import gaussian_mm, refuse_non_finite
from medseg.preprocessing.foreground import foreground_mask, refuse_hounsfield

SMOOTHING_MM = 1.0
SCALP_MM = 6.0  # skin and skull together are thicker than this everywhere on a head
DEEP_SHARE = 0.4  # of the greatest depth: beyond it lies brain for the most part
GREY_SHARE = 0.55  # of the median of brain: grey matter is brighter, fluid darker
FAT_SHARE = 1.4  # of the median of brain: fat is brighter
LARGEST_BRAIN_ML = 2200.0  # with the fluid around it
BRIDGE_FACTORS = (1.0, 1.5, 2.0, 2.5, 3.0)


class SkullStripParams(MethodParams):
    """Parameters of `skull-strip`."""

    bridge_mm: Number = Field(
        4.0, description="Radius of the bridges (vessels, nerves, meninges) between brain and scalp that are cut", unit="mm", gt=0, le=15
    )
    closing_mm: Number = Field(8.0, description="Width of the clefts (sulci) that count as brain", unit="mm", ge=0, le=30)
    outside: Number = Field(0.0, description="Intensity that everything but the brain gets", unit="image")


@method("skull-strip", stage=Stage.PREPROCESS, reference="doi:10.1006/nimg.2000.0730")
def skull_strip(volume: Volume, params: SkullStripParams) -> Volume:
    """Keep the brain of a T1-weighted MR scan of the head and set everything else to one intensity.

    The brain is found as `brain` does it; grid and dtype stay. Raises InputError for a CT, where no brain is found, where the scan
    holds NaN or infinity, and where the dtype cannot hold `outside`.

    >>> from medseg.core.geometry import Geometry
    >>> distance = np.linalg.norm(np.indices((64, 64, 64)).T - 31.5, axis=-1).T * 3.0
    >>> head = np.select([distance < 60, distance < 75, distance < 85], [100, 10, 90], 0).astype(np.int16)
    >>> scan = Volume(head, Geometry((64, 64, 64), np.diag([3.0, 3.0, 3.0, 1.0])), "MR")
    >>> kept = skull_strip(scan, SkullStripParams()).array
    >>> bool(kept[31, 31, 31] == 100), int(kept[distance > 66].max())
    (True, 0)
    """
    array = volume.array
    if array.dtype.kind != "f" and not (
        np.iinfo(array.dtype).min <= params.outside <= np.iinfo(array.dtype).max and float(params.outside).is_integer()
    ):
        raise InputError(f"skull-strip: outside {params.outside:g} cannot be held by {array.dtype}: give a whole number in its range")
    mask = brain_mask(volume, params.bridge_mm, params.closing_mm, "skull-strip")
    return volume.with_array(np.where(mask, array.T, array.dtype.type(params.outside)).T)


def brain_mask(volume: Volume, bridge_mm: float, closing_mm: float, method_name: str) -> npt.NDArray[np.uint8]:
    """Return the brain as a mask (k,j,i).

    In the head, what is as bright as brain and deeper than the scalp is eroded until bridges to muscles and eyes break; of what is
    left the component deepest in the head is the brain. Where that is larger than a brain can be, more is eroded. It
    grows back within its own intensities by a little more than it lost, clefts are closed and holes filled.
    """
    from medseg.kernels import components
    from medseg.kernels.distance import close, dilate, distance_mm, erode

    refuse_hounsfield(volume, method_name)
    refuse_non_finite(volume.array, method_name)
    spacing_mm = plane_distance_mm(volume.geometry)[::-1].tolist()
    across_mm = math.hypot(*((count - 1) * step for count, step in zip(volume.array.T.shape, spacing_mm, strict=True)))
    if across_mm <= SCALP_MM:  # balls of millimetres would take minutes on a grid of micrometres, and find nothing
        raise InputError(
            f"{method_name}: no brain was found: the scan is {across_mm:.3g} mm across; "
            "this needs a T1-weighted MR scan of a whole head; check the spacing of the file"
        )
    head, _ = foreground_mask(volume, None, method_name)
    depth_mm = np.asarray(distance_mm(head, spacing_mm))
    depth_mm[np.isinf(depth_mm)] = 0
    smooth = gaussian_mm(volume.array.T, volume.geometry, SMOOTHING_MM)
    low, high = _brain_range(smooth, depth_mm, method_name)
    deep = depth_mm > SCALP_MM
    tissue = np.asarray((smooth >= low) & (smooth <= high) & deep).view(np.uint8)
    most_voxels = LARGEST_BRAIN_ML * 1000 / volume.geometry.voxel_volume_mm3
    grown = None
    for factor in BRIDGE_FACTORS:
        core = _deepest(erode(tissue, bridge_mm * factor, spacing_mm), depth_mm)
        if core is None:
            break
        grown = dilate(core, bridge_mm * factor * 1.25, spacing_mm) & tissue
        if np.count_nonzero(grown) <= most_voxels:
            break
    if grown is None:
        raise InputError(
            f"{method_name}: no brain was found: nothing from {low:g} to {high:g} in the head is thicker than {2 * bridge_mm:g} mm; "
            "this needs a T1-weighted MR scan of a whole head; give a smaller bridge_mm for a child or a crop"
        )
    closed = close(grown, closing_mm / 2, spacing_mm) if closing_mm > 0 else grown
    return components.fill_holes(components.keep_largest(closed & deep.view(np.uint8), connectivity=6))


def _brain_range(smooth: npt.NDArray[np.float32], depth_mm: npt.NDArray[np.float32], method_name: str) -> tuple[float, float]:
    """The intensities of brain, from the deep half of the head: well above fluid, and below fat."""
    from medseg.kernels import histogram

    inner = smooth[depth_mm > DEEP_SHARE * float(depth_mm.max())].reshape(1, 1, -1)
    if inner.size == 0:
        raise InputError(f"{method_name}: no part of the scan lies deep in a head; this needs a T1-weighted MR scan of a whole head")
    bright = inner
    if inner.min() < inner.max():
        bright = inner[inner > histogram.otsu_thresholds(*histogram.histogram(inner), 2)[0]]
    middle, upper = np.percentile(bright, [50, 95]).tolist()
    return GREY_SHARE * middle, max(middle + 2 * (upper - middle), FAT_SHARE * middle)


def _deepest(mask: npt.NDArray[np.uint8], depth_mm: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8] | None:
    """The component with the greatest sum of depths: large, and in the middle of the head."""
    from medseg.kernels.components import label_components

    labels, sizes = label_components(mask, 6)
    if len(sizes) < 2:
        return None
    weights: npt.NDArray[Any] = np.bincount(labels.ravel(), depth_mm.ravel(), len(sizes))
    best = 1 + int(weights[1:].argmax())
    if not math.isfinite(float(weights[best])):
        return None
    return np.asarray(labels == best).view(np.uint8)
