"""What the clustering methods share: voxels as points of channels and position, and classes as a label map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.param import Field, LabelMapInput, MethodParams, Number
from medseg.segmentation.classical.intensities import Bins, count, looked_at, seen
from medseg.segmentation.classical.result import label_map_on

Floats = npt.NDArray[np.float64]
Channels = Volume | tuple[Volume, ...]
_BINS = 65536


class ClusterParams(MethodParams):
    """Parameters of every clustering method."""

    lower: Number | None = Field(
        None, description="Look only at voxels of at least this intensity in the (first) scan; empty: all", unit="image"
    )
    mask: LabelMapInput | None = Field(None, description="Look only inside the segments of this label map; empty: everywhere")
    keep_darkest: bool = Field(False, description="Make the darkest class a segment too; otherwise it is background")
    sample_voxels: int = Field(
        100_000,
        description="Voxels that the classes are learned from where the histogram is not enough",
        unit="voxels",
        ge=100,
        le=2_000_000,
    )
    seed: int = Field(0, description="Number that fixes which voxels are drawn for learning", ge=0)
    label: str = Field("class", description="Segments are called by this, _1 for the darkest kept, _2 for the next", min_length=1)


@dataclass(frozen=True)
class Features:
    """Voxels as points: channels (C,k,j,i) in standard deviations, where to look, and the position (P,4) as further features.

    `centres` and `scales` lead back to intensities; `drawn` are the flat places (k,j,i) of the voxels to learn from.
    """

    channels: npt.NDArray[np.float32]
    inside: npt.NDArray[np.uint8]
    position: Floats
    centres: Floats
    scales: Floats
    drawn: npt.NDArray[np.int64]

    def points(self, channels: npt.NDArray[np.float32] | None = None) -> Floats:
        """Return the voxels to learn from as points (M, C + P); other channels of the same shape may stand in."""
        columns = [channel.reshape(-1)[self.drawn] for channel in (self.channels if channels is None else channels)]
        index = np.stack([*np.unravel_index(self.drawn, self.inside.shape), np.ones(len(self.drawn))], axis=1)
        return np.column_stack([*columns, index @ self.position.T]).astype(np.float64)

    def intensities(self, means: Floats) -> Floats:
        """Return class means (K, C + P) as intensities (K, C)."""
        return np.asarray(means[:, : len(self.scales)] * self.scales + self.centres)


@dataclass(frozen=True)
class Found:
    """Classes in their order: means (K, C) in the units of the scans, and what else is told."""

    means: Floats
    details: dict[str, Any]
    has_settled: bool = True


def channels_of(volume: Channels) -> tuple[Volume, ...]:
    """Return one scan or several as a tuple."""
    return (volume,) if isinstance(volume, Volume) else volume


def histogram_of(volume: Volume, params: ClusterParams, name: str) -> tuple[Bins, npt.NDArray[np.uint8] | None]:
    """Count the intensities of one scan finely (65,536 bins for fractions), and tell where a method looks."""
    inside = looked_at(volume, params.lower, None, params.mask, name)
    return count(seen(volume.array.T, inside), _BINS), inside


def paint_bins(
    volume: Volume, bins: Bins, classes: npt.NDArray[np.integer[Any]], inside: npt.NDArray[np.uint8] | None
) -> npt.NDArray[np.uint8]:
    """Give each voxel the class (from 1) of its bin; 0 where a method does not look and where a voxel is not finite."""
    from medseg.kernels import clusters

    low = bins.values[0] if bins.is_exact else bins.values[0] - bins.width / 2
    labels = clusters.paint(volume.array.T, float(low), 1 / bins.width, classes.astype(np.uint8))
    return labels if inside is None else labels * inside


def features_of(volumes: Sequence[Volume], params: ClusterParams, position_scale_mm: float | None, name: str) -> Features:
    """Turn scans on one grid into features; raises InputError where no voxel can be looked at or float32 cannot hold one."""
    inside = looked_at(volumes[0], params.lower, None, params.mask, name)
    inside = np.ones(volumes[0].array.T.shape, np.uint8) if inside is None else inside.copy()
    for volume in volumes:
        if volume.array.dtype.kind == "f":
            inside &= np.isfinite(volume.array.T).view(np.uint8)
    drawn = _draw(inside, params.sample_voxels, params.seed)
    if not len(drawn):
        raise InputError(f"{name}: no finite voxel to look at; check the scan, the lower limit and the mask")
    channels = np.empty((len(volumes), *inside.shape), np.float32)
    centres, scales = np.zeros(len(volumes)), np.ones(len(volumes))
    for n, volume in enumerate(volumes):
        image = volume.array.T
        learned = image.reshape(-1)[drawn].astype(np.float64)
        if np.abs(learned).max() > float(np.finfo(np.float32).max):
            raise InputError(f"{name}: intensities go beyond the range of float32 (3.4e38); clip the scan first")
        centres[n], scales[n] = learned.mean(), learned.std() or 1.0
        for plane, look, out in zip(image, inside, channels[n], strict=True):
            with np.errstate(over="ignore"):  # what was not drawn may go beyond float32: it becomes infinite
                out[:] = (plane - centres[n]) / scales[n]
            out[look == 0] = np.nan
    return Features(channels, inside, _position(volumes[0].geometry, position_scale_mm), centres, scales, drawn)


def _draw(inside: npt.NDArray[np.uint8], most: int, seed: int) -> npt.NDArray[np.int64]:
    """Flat places of the voxels to learn from: all, or `most` of them drawn evenly, in rising order."""
    flat, number = inside.reshape(-1), int(np.count_nonzero(inside))
    if number <= most:
        return np.flatnonzero(flat)
    rng = np.random.default_rng(seed)
    draws = int(2 * most * (flat.size / number)) + 100
    if number <= draws:  # few voxels of many are looked at: to draw blindly would take more memory than to list them
        return np.sort(rng.choice(np.flatnonzero(flat), most, replace=False))
    places = np.unique(rng.integers(0, flat.size, draws))
    places = places[flat[places] != 0]
    return np.sort(rng.choice(places, most, replace=False)) if len(places) > most else places


def _position(geometry: Geometry, scale_mm: float | None) -> Floats:
    """Position in the patient, from the centre of the grid, in units of scale_mm, as a matrix on (k, j, i, 1)."""
    if scale_mm is None:
        return np.zeros((0, 4))
    matrix = np.zeros((3, 4))
    matrix[:, :3] = geometry.affine[:3, 2::-1]
    centre = (np.asarray(geometry.shape[::-1]) - 1) / 2
    matrix[:, 3] = -matrix[:, :3] @ centre
    return matrix / scale_mm


def in_order(means: Floats, channels: int = 1) -> npt.NDArray[np.int64]:
    """Return the order of classes by their mean over the channels; of equal ones by their first mean, then by the next."""
    return np.lexsort([*means.T[::-1], means[:, :channels].mean(axis=1)])


def class_map(volumes: Sequence[Volume], labels: npt.NDArray[np.uint8], params: ClusterParams, found: Found, name: str) -> LabelMap:
    """Return labels (k,j,i; 0 outside, classes from 1 in the order of their means) as a label map, with the findings."""
    from medseg.kernels import clusters

    number = len(found.means)
    first = 1 if params.keep_darkest else 2
    table = np.zeros(number + 1, np.uint8)
    table[first:] = np.arange(1, number + 2 - first)
    kept = labels if params.keep_darkest else clusters.paint(labels, 0, 1, table)
    segments = [Segment(n, f"{params.label}_{n}", algorithm=name) for n in range(1, number + 2 - first)]
    centres = " and ".join(" / ".join(f"{value:.4g}" for value in row) for row in found.means)
    message = f"{number} classes of mean intensity {centres} {volumes[0].unit}".rstrip()
    findings = [Finding("CLASS_MEANS", Severity.INFO, message, {"means": found.means.tolist(), **found.details})]
    if not found.has_settled:
        message = f"{name} had not settled when its rounds were used up"
        findings.append(Finding("CLASSES_NOT_SETTLED", Severity.WARNING, message, {}))
    findings = [*(finding for other in volumes[1:] for finding in other.findings), *findings]
    return label_map_on(volumes[0], kept, segments, findings)


def nearest(features: Features, centres: Floats) -> npt.NDArray[np.uint8]:
    """Give each voxel looked at the number (from 1) of the centre (K, C + P) that is nearest to it, others 0."""
    from medseg.kernels import clusters

    number, size = centres.shape
    factors = np.repeat(np.eye(size)[None], number, axis=0)
    return clusters.assign(
        features.channels, features.inside, clusters.Classes(np.ascontiguousarray(centres), factors, np.zeros(number), features.position)
    )


def smoothed(features: Features, window_mm: float, weight: float, geometry: Geometry) -> tuple[Features, npt.NDArray[np.float32]]:
    """Mix each voxel with the mean of its window, (x + weight m) / (1 + weight); also return the means m themselves."""
    from medseg.kernels.running import window_mean

    half = [max(window_mm / spacing - 1, 0) / 2 for spacing in geometry.spacing_mm[::-1]]
    means = np.stack([window_mean(channel, half) for channel in features.channels])
    mixed = ((features.channels + np.float32(weight) * means) / np.float32(1 + weight)).astype(np.float32, copy=False)
    return replace(features, channels=mixed), means
