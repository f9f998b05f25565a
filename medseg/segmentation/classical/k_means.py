"""Classes whose voxels lie nearest to their mean."""

from __future__ import annotations

import numpy as np

from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, Number
from medseg.segmentation.classical import cluster_features as clusters
from medseg.segmentation.classical.centres import best_bins, k_means
from medseg.segmentation.classical.intensities import refuse_too_few


class KMeansParams(clusters.ClusterParams):
    """Parameters of `k-means`."""

    classes: int = Field(3, description="Classes to find; the darkest becomes background unless it is kept", ge=2, le=32)
    position_scale_mm: Number | None = Field(
        None,
        description="Distance that counts as much as one standard deviation of the intensities; empty: position does not count",
        unit="mm",
        gt=0,
    )
    iterations: int = Field(100, description="Rounds at most (one scan without position needs none)", ge=1, le=1000)


@method("k-means", stage=Stage.SEGMENT, several=True, reference="doi:10.1109/TIT.1982.1056489")
def k_means_clusters(volume: Volume | tuple[Volume, ...], params: KMeansParams) -> LabelMap:
    """Part one scan, or several on one grid, into classes with the least sum of squares around their means.

    One scan without position is parted on its whole histogram, and exactly: no better partition exists (with two classes it is
    Otsu's). Several scans count in their standard deviations; with `position_scale_mm` the place in the patient counts too,
    in mm on every grid, sheared ones included. These classes are learned from `sample_voxels` voxels by Lloyd's rounds from
    fixed starts. Classes are ordered by their mean over the scans; the darkest is background. The finding CLASS_MEANS tells
    the means. A voxel that is NaN or infinite in one scan is in no class. Raises InputError where there are fewer
    intensities than classes, GeometryMismatchError where grids differ.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[0, 1, 50, 51, 99]]], np.int16), Geometry((1, 1, 5), np.eye(4)))
    >>> k_means_clusters(scan, KMeansParams()).array.ravel().tolist()
    [0, 0, 1, 1, 2]
    """
    volumes = clusters.channels_of(volume)
    if len(volumes) == 1 and params.position_scale_mm is None:
        return _on_histogram(volumes[0], params)
    features = clusters.features_of(volumes, params, params.position_scale_mm, "k-means")
    points = features.points()
    refuse_too_few(len(np.unique(points, axis=0)), params.classes, "k-means")
    centres, has_settled = k_means(points, params.classes, params.iterations)
    centres = centres[clusters.in_order(centres, len(volumes))]
    labels = clusters.nearest(features, centres)
    found = clusters.Found(features.intensities(centres), {"learned_from_voxels": len(points)}, has_settled)
    return clusters.class_map(volumes, labels, params, found, "k-means")


def _on_histogram(volume: Volume, params: KMeansParams) -> LabelMap:
    bins, inside = clusters.histogram_of(volume, params, "k-means")
    refuse_too_few(bins.different, params.classes, "k-means")
    classes = best_bins(bins.values, bins.counts, params.classes)
    counts = np.bincount(classes, weights=bins.counts)
    means = np.bincount(classes, weights=bins.counts * bins.values) / counts
    labels = clusters.paint_bins(volume, bins, classes + 1, inside)
    found = clusters.Found(means[:, None], {"learned_from_voxels": int(counts.sum())})
    return clusters.class_map((volume,), labels, params, found, "k-means")
