"""What a click network sees: the region of a scan and the prompts in it, as channels of equal shape.

Training and inference take the same road. All arrays have axes (k,j,i); points are indices (k,j,i), fractions allowed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from medseg.kernels.geodesic import geodesic

FloatArray = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]

CHANNELS = (
    "intensity",
    "contrast to the inside clicks",
    "inside clicks",
    "outside clicks",
    "way from the inside clicks",
    "way from the outside clicks",
    "box",
    "previous mask",
)
CLICK_SIGMA_VOXELS = 2.0  # width of the spot that marks a click
_LOW_SHARE, _HIGH_SHARE = 0.5, 99.5  # percentiles of the region that become -1 and 1
_LEAST_SCALE, _MOST_SCALE = 0.06, 0.6  # how far intensities may lie from a click's and still look alike, in that range of 2
_SCALE_PER_SPREAD = 4.5  # that distance in median absolute deviations around the click: three standard deviations
_SAMPLE_RADIUS = 2  # voxels around a click that its intensity and spread are taken from
_STEP_COST = 0.02  # what a step through tissue just like the click costs
_OUTSIDE_STEP_COST = 0.35  # the same for clicks outside: they correct what is near, not all that looks like them
_COST_LIMIT = 4.0  # what a step through quite different tissue costs
_COST_UNIT = 3.0  # a way of this cost counts 1/e
_ROUNDS = 6  # of the sweeps for the cheapest ways: more no longer changes a picture


@dataclass(frozen=True, eq=False)
class RegionPrompts:
    """Prompts in the voxels of a region: points inside and outside (n, 3), boxes (n, 2, 3), the previous mask from 0 to 1."""

    inside: Points = field(default_factory=lambda: np.empty((0, 3)))
    outside: Points = field(default_factory=lambda: np.empty((0, 3)))
    boxes: Points = field(default_factory=lambda: np.empty((0, 2, 3)))
    previous: FloatArray | None = None


def make_channels(image: FloatArray, prompts: RegionPrompts) -> FloatArray:
    """Return the input (8, K, J, I) of the network for a region; see `CHANNELS`.

    Intensities are scaled by percentiles of the region, so CT and MR look alike. Without points inside, the middle of
    each box or of the previous mask takes their place for the contrast and the ways, but not as a click.
    """
    shape = image.shape
    scaled = scale_intensities(image)
    half = _halved(scaled)
    inside, outside = _within(prompts.inside, shape), _within(prompts.outside, shape)
    origins = inside if len(inside) else _stand_in(prompts, shape)
    contrast, way_in = _contrast_and_way(scaled, half, origins, _STEP_COST)
    _, way_out = _contrast_and_way(scaled, half, outside, _OUTSIDE_STEP_COST)
    channels = np.zeros((len(CHANNELS), *shape), np.float32)
    channels[0] = scaled
    channels[1] = contrast
    channels[2] = _spots(inside, shape)
    channels[3] = _spots(outside, shape)
    channels[4] = _doubled(way_in, shape)
    channels[5] = _doubled(way_out, shape)
    for box in prompts.boxes:
        low = np.clip(np.rint(box.min(axis=0)), 0, np.asarray(shape) - 1).astype(int)
        high = np.clip(np.rint(box.max(axis=0)) + 1, low + 1, shape).astype(int)
        channels[6][tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = 1
    if prompts.previous is not None:
        channels[7] = 2 * prompts.previous - 1
    return channels


def scale_intensities(image: FloatArray) -> FloatArray:
    """Return intensities with the low and high percentiles of the region at -1 and 1, cut at -2 and 2."""
    low, high = np.percentile(image[::2, ::2, ::2], (_LOW_SHARE, _HIGH_SHARE))
    if not high > low:
        return np.zeros_like(image)
    return np.clip((image - np.float32((low + high) / 2)) * np.float32(2 / (high - low)), -2, 2)


def _contrast_and_way(scaled: FloatArray, half: FloatArray, points: Points, step_cost: float) -> tuple[FloatArray, FloatArray]:
    """The signed distance in intensity from the most alike click (-1 to 1), and how easily each half-size voxel is reached."""
    nearest = np.full(scaled.shape, np.inf, np.float32)
    way = np.full(half.shape, np.inf, np.float32)
    for point in points:
        level, scale = _level_and_scale(scaled, point)
        difference = (scaled - level) / scale
        nearest = np.where(np.abs(difference) < np.abs(nearest), difference, nearest)
        cost = np.minimum(step_cost + ((half - level) / scale) ** 2, np.float32(_COST_LIMIT)).astype(np.float32)
        seed = np.minimum(np.rint(point).astype(int) // 2, np.asarray(half.shape) - 1)
        way = np.minimum(way, geodesic(cost, seed[None], rounds=_ROUNDS))
    if not len(points):
        return np.zeros_like(scaled), np.zeros_like(half)
    return np.tanh(nearest), np.exp(-way / np.float32(_COST_UNIT))


def _level_and_scale(scaled: FloatArray, point: Points) -> tuple[np.float32, np.float32]:
    """Median intensity about a click, and how far from it intensities still look alike."""
    middle = np.rint(point).astype(int)
    around = scaled[tuple(slice(max(0, m - _SAMPLE_RADIUS), m + _SAMPLE_RADIUS + 1) for m in middle)]
    close = scaled[tuple(slice(max(0, m - 1), m + 2) for m in middle)]
    level = np.median(close)
    spread = np.median(np.abs(around - level))
    return np.float32(level), np.float32(np.clip(_SCALE_PER_SPREAD * spread, _LEAST_SCALE, _MOST_SCALE))


def _stand_in(prompts: RegionPrompts, shape: tuple[int, ...]) -> Points:
    """The middles of the boxes, or the voxel of the previous mask that is nearest to its centroid."""
    if len(prompts.boxes):
        return _within(prompts.boxes.mean(axis=1), shape)
    held = np.argwhere(prompts.previous > 0.5) if prompts.previous is not None else np.empty((0, 3))
    if not len(held):
        return np.empty((0, 3))
    return np.asarray(held[((held - held.mean(axis=0)) ** 2).sum(axis=1).argmin()][None], np.float64)


def _within(points: Points, shape: tuple[int, ...]) -> Points:
    rounded = np.rint(points)
    return points[((rounded >= 0) & (rounded < np.asarray(shape))).all(axis=1)]


def _spots(points: Points, shape: tuple[int, ...]) -> FloatArray:
    """A Gaussian spot of height 1 about each point."""
    spots = np.zeros(shape, np.float32)
    for point in points:
        lines = [np.exp(-((np.arange(n) - p) ** 2) / (2 * CLICK_SIGMA_VOXELS**2)) for n, p in zip(shape, point, strict=True)]
        spots = np.maximum(spots, np.einsum("k,j,i->kji", *lines).astype(np.float32))
    return spots


def _halved(image: FloatArray) -> FloatArray:
    """Means of 2×2×2 voxels; the extents of a region are even."""
    k, j, i = (n // 2 for n in image.shape)
    return np.asarray(image.reshape(k, 2, j, 2, i, 2).mean(axis=(1, 3, 5)), np.float32)


def _doubled(image: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    return np.broadcast_to(image[:, None, :, None, :, None], [m for n in image.shape for m in (n, 2)]).reshape(shape)
