"""Classes around the intensities that are most frequent; their number is found, not given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, Number
from medseg.segmentation.classical import cluster_features as clusters
from medseg.segmentation.classical.centres import squared_distances
from medseg.segmentation.classical.intensities import middle_and_scale, refuse_too_few
from medseg.segmentation.classical.modes import climb_histogram, climb_points, distinct

Floats = npt.NDArray[np.float64]


class MeanShiftParams(clusters.ClusterParams):
    """Parameters of `mean-shift`."""

    bandwidth: Number | None = Field(
        None, description="Half the width of the window of intensities; empty: half a standard deviation of each scan", unit="image", gt=0
    )
    radius_mm: Number | None = Field(None, description="Radius of the window in space; empty: position does not count", unit="mm", gt=0)
    least_share: Number = Field(
        0.02, description="Share of the voxels that a class must hold; smaller ones join their neighbours", ge=0.004, lt=1
    )
    sample_voxels: int = Field(
        5000, description="Voxels that the classes are learned from where the histogram is not enough", unit="voxels", ge=100, le=100_000
    )
    iterations: int = Field(2000, description="Rounds at most", ge=1, le=20_000)


@method("mean-shift", stage=Stage.SEGMENT, several=True, reference="doi:10.1109/34.1000236")
def mean_shift(volume: Volume | tuple[Volume, ...], params: MeanShiftParams) -> LabelMap:
    """Part one scan, or several on one grid, into classes around the intensities where voxels are densest (flat window).

    One scan without position climbs on its whole histogram; else each voxel joins the nearest of the modes that
    `sample_voxels` voxels lead to. With `radius_mm` the window is an ellipsoid of intensity and position, in mm on every
    grid, sheared ones included. Modes closer than a window are one. Classes are ordered by their mean over the scans; the
    darkest is background. The finding CLASS_MEANS tells the modes. A voxel that is NaN or infinite in one scan is in no
    class. Raises InputError where fewer than two classes are found, GeometryMismatchError where grids differ.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[0, 1, 50, 51, 98, 99]]], np.int16), Geometry((1, 1, 6), np.eye(4)))
    >>> mean_shift(scan, MeanShiftParams(bandwidth=10)).array.ravel().tolist()
    [0, 0, 1, 1, 2, 2]
    """
    volumes = clusters.channels_of(volume)
    if len(volumes) == 1 and params.radius_mm is None:
        return _on_histogram(volumes[0], params)
    features, scales = _in_windows(clusters.features_of(volumes, params, params.radius_mm, "mean-shift"), params)
    points = features.points()
    places, numbers, has_settled = climb_points(points, params.iterations)
    chosen = places[distinct(places, numbers, 1.0)]
    shares = np.bincount(squared_distances(points, chosen).argmin(axis=1), minlength=len(chosen)) / len(points)
    chosen = chosen[_large(shares, params.least_share)]
    _refuse_one(len(chosen))
    chosen = chosen[clusters.in_order(chosen, len(volumes))]
    labels = clusters.nearest(features, chosen)
    found = clusters.Found(features.intensities(chosen), {"bandwidths": scales, "learned_from_voxels": len(points)}, has_settled)
    return clusters.class_map(volumes, labels, params, found, "mean-shift")


def _on_histogram(volume: Volume, params: MeanShiftParams) -> LabelMap:
    bins, inside = clusters.histogram_of(volume, params, "mean-shift")
    refuse_too_few(bins.different, 2, "mean-shift")
    held = np.flatnonzero(bins.counts)
    values, counts = bins.values[held], bins.counts[held].astype(np.float64)
    bandwidth = params.bandwidth or middle_and_scale(values, counts)[1] / 2
    places, has_settled = climb_histogram(values, counts, bandwidth, params.iterations)
    modes = _modes(values, counts, places, bandwidth)
    joins = _nearest(modes, places)
    modes = modes[_large(np.bincount(joins, weights=counts, minlength=len(modes)) / counts.sum(), params.least_share)]
    _refuse_one(len(modes))
    classes = np.zeros(len(bins.values), np.int64)
    classes[held] = _nearest(modes, places) + 1
    labels = clusters.paint_bins(volume, bins, classes, inside)
    found = clusters.Found(modes[:, None], {"bandwidths": [bandwidth], "learned_from_voxels": int(counts.sum())}, has_settled)
    return clusters.class_map((volume,), labels, params, found, "mean-shift")


def _modes(values: Floats, counts: Floats, places: Floats, bandwidth: float) -> Floats:
    """The ends of the climbs, without those that lie within a window of one that more voxels surround."""
    totals = np.append(0, np.cumsum(counts))
    around = totals[np.searchsorted(values, places + bandwidth, "right")] - totals[np.searchsorted(values, places - bandwidth, "left")]
    return np.sort(places[distinct(places[:, None], around, bandwidth)])


def _nearest(modes: Floats, places: Floats) -> npt.NDArray[np.int64]:
    """The nearest of rising modes to each place."""
    return np.searchsorted((modes[1:] + modes[:-1]) / 2, places)


def _in_windows(features: clusters.Features, params: MeanShiftParams) -> tuple[clusters.Features, list[float]]:
    """Features in units of the window instead of standard deviations; also return the window of each scan."""
    windows = features.scales / 2 if params.bandwidth is None else np.full(len(features.scales), params.bandwidth)
    channels = features.channels * (features.scales / windows).astype(np.float32)[:, None, None, None]
    return replace(features, channels=channels, scales=windows), windows.tolist()


def _large(shares: Floats, least: float) -> npt.NDArray[np.bool_]:
    """Which classes are large enough; the largest one where none is."""
    large = shares >= least
    return large if large.any() else np.arange(len(shares)) == shares.argmax()


def _refuse_one(number: int) -> None:
    if number < 2:
        raise InputError("mean-shift: all voxels belong to one class; choose a smaller bandwidth or radius, or a smaller least share")
