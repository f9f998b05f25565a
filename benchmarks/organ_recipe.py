"""A recipe of medseg's own methods that finds abdominal organs of a CT from one point each.

1. `body-composition` takes muscle, fat, bone and air out; what is left (organs, vessels) is smoothed within itself.
2. `leak-guarded-growing` from each point, within a fixed difference of a median that follows the region; `opening` leaves its core.
3. `watershed` on the edges of the scan from the cores. Background are voxels far from every organ's intensity, and what has
   an organ's intensity and touches it, but was cut off as a leak (and survives `opening`: thin parts are left open).
4. `fill-holes`, `opening` and `keep-largest` of each organ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.postprocessing.postprocess import postprocess
from medseg.preprocessing.denoise import gaussian_mm
from medseg.segmentation.segment import segment

SIGMA_MM = 3.0  # smoothing within the organs
TISSUE_HU = (-60.0, 300.0)  # of organs and vessels
CORE_HU = 20.0  # difference from an organ's median in which its core grows
FAR_HU = 40.0  # difference from every organ's median from which on a voxel is background
GUARD = {"seed_radius_mm": 12.0, "sigma_mm": 0.0, "neck_mm": 16.0, "widening": 1.5, "iterations": 4}
OPENING_MM = 4.5
RIM_MM = 3.1  # around a core that the watershed decides about even where it was cut off
EDGE_SIGMA_MM = 1.5
EDGE_HU = (-100.0, 250.0)  # beyond these fat, air and bone count alike

Mask = np.ndarray


@dataclass(frozen=True)
class Core:
    """The core of an organ, all that has its intensity and touches it, and its median."""

    mask: Mask
    unguarded: Mask
    median: float


def trunk_cleared(volume: Volume) -> Volume:
    """The scan smoothed within what body-composition calls body (organs and vessels), NaN elsewhere."""
    image = volume.array.T.astype(np.float32)
    organs = segment(volume, "body-composition").mask("body").T & (image > TISSUE_HU[0]) & (image < TISSUE_HU[1])
    weight = gaussian_mm(organs.astype(np.float32), volume.geometry, SIGMA_MM)
    mean = gaussian_mm(np.where(organs, image, 0), volume.geometry, SIGMA_MM) / np.maximum(weight, 1e-3)
    return volume.with_array(np.where(organs, mean, np.float32(np.nan)).T)


def core_of(cleared: Volume, point: Any) -> Core:
    grown = segment(cleared, "leak-guarded-growing", seeds=[point], tolerance=CORE_HU, **GUARD)
    (limits,) = [finding.details for finding in grown.findings if finding.code == "GROWN_LIMITS"]
    touching = segment(cleared, "region-growing", seed_mask=grown, lower=limits["lower"], upper=limits["upper"])
    return Core(_opened(grown).array > 0, touching.array > 0, (limits["lower"] + limits["upper"]) / 2)


def marks_of(cleared: Volume, cores: Sequence[Core]) -> LabelMap:
    """A marker for the core of each organ (a voxel of two cores: the more alike) and one for background."""
    background = len(cores) + 1
    marks = np.zeros(cleared.array.shape, np.uint8)
    apart = np.stack([np.abs(cleared.array - core.median) for core in cores])
    least = np.fmin.reduce(apart)
    marks[least > FAR_HU] = background
    for core in cores:
        rim = _mask_map(core.mask, cleared)
        near = postprocess(rim, "margin", margin_mm=RIM_MM).array > 0
        cut = postprocess(_mask_map(core.unguarded & ~near, cleared), "opening", radius_mm=OPENING_MM)
        marks[cut.array > 0] = background
    apart = np.stack([np.where(core.mask, difference, np.inf) for core, difference in zip(cores, apart, strict=True)])
    held = np.isfinite(apart).any(axis=0)
    marks[held] = apart.argmin(axis=0)[held] + 1
    segments = [Segment(n + 1, f"organ_{n + 1}") for n in range(len(cores))]
    return LabelMap(marks, cleared.geometry, (*segments, Segment(background, "background")))


def organs_from_seeds(volume: Volume, points: Sequence[Any]) -> list[Mask]:
    """The organ of each point as a mask (i,j,k)."""
    cleared = trunk_cleared(volume)
    markers = marks_of(cleared, [core_of(cleared, point) for point in points])
    tissue = np.isfinite(cleared.array)
    edges = np.where(tissue, np.clip(volume.array, *EDGE_HU), np.nan).astype(np.float32)
    found = segment(volume.with_array(edges), "watershed", markers=markers, sigma_mm=EDGE_SIGMA_MM)
    masks = []
    for number in range(1, len(points) + 1):
        masks.append(_opened(postprocess(_mask_map(found.array == number, volume), "fill-holes")).array > 0)
    return masks


def _mask_map(mask: Mask, volume: Volume) -> LabelMap:
    return LabelMap(mask.astype(np.uint8), volume.geometry, (Segment(1, "organ"),))


def _opened(label_map: LabelMap) -> LabelMap:
    return postprocess(postprocess(label_map, "opening", radius_mm=OPENING_MM), "keep-largest")
