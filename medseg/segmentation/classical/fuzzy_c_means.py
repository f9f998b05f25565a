"""Classes to which every voxel belongs by degrees, with a say for its neighbours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, Number
from medseg.segmentation.classical import cluster_features as clusters
from medseg.segmentation.classical.centres import best_bins, k_means
from medseg.segmentation.classical.intensities import Bins, middle_and_scale, refuse_too_few

Floats = npt.NDArray[np.float64]

_FEW_POINTS = 20_000
_SETTLED = 1e-5  # standard deviations that no centre moves by any more


class FuzzyCMeansParams(clusters.ClusterParams):
    """Parameters of `fuzzy-c-means`."""

    classes: int = Field(3, description="Classes to find; the darkest becomes background unless it is kept", ge=2, le=32)
    fuzziness: Number = Field(2.0, description="How far classes overlap: near 1 hardly (k-means), larger more", gt=1, le=10)
    neighbour_weight: Number = Field(
        1.0, description="How much the mean of the neighbourhood counts beside the voxel itself; 0: not at all", ge=0, le=100
    )
    window_mm: Number = Field(5.0, description="Edge of the neighbourhood, centred on the voxel", unit="mm", gt=0, le=500)
    position_scale_mm: Number | None = Field(
        None,
        description="Distance that counts as much as one standard deviation of the intensities; empty: position does not count",
        unit="mm",
        gt=0,
    )
    iterations: int = Field(300, description="Rounds at most", ge=1, le=5000)


@method(
    "fuzzy-c-means",
    stage=Stage.SEGMENT,
    several=True,
    reference="doi:10.1007/978-1-4757-0450-1 (Bezdek); doi:10.1109/TSMCB.2004.831165 (spatial term)",
)
def fuzzy_c_means(volume: Volume | tuple[Volume, ...], params: FuzzyCMeansParams) -> LabelMap:
    """Part one scan, or several on one grid, into classes to which voxels belong by degrees; each voxel gets its likeliest.

    The spatial term is Chen and Zhang's (FCM_S1): a class also costs its distance to the mean of the voxel's neighbourhood, a
    box in mm (on a sheared grid it leans with the grid), which makes classes of noisy scans whole. Without it, one scan is
    parted on its whole histogram; otherwise classes are learned from `sample_voxels` voxels. Several scans count in their
    standard deviations. Classes are ordered by their mean over the scans; the darkest is background. The finding CLASS_MEANS
    tells the means. A voxel that is NaN or infinite in one scan is in no class and in no neighbourhood. Raises InputError
    where there are fewer intensities than classes, GeometryMismatchError where grids differ.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[0, 1, 50, 51, 99]]], np.int16), Geometry((1, 1, 5), np.eye(4)))
    >>> fuzzy_c_means(scan, FuzzyCMeansParams(neighbour_weight=0)).array.ravel().tolist()
    [0, 0, 1, 1, 2]
    """
    volumes = clusters.channels_of(volume)
    if len(volumes) == 1 and params.position_scale_mm is None and params.neighbour_weight == 0:
        return _on_histogram(volumes[0], params)
    features = clusters.features_of(volumes, params, params.position_scale_mm, "fuzzy-c-means")
    points = means = features.points()
    refuse_too_few(len(np.unique(points, axis=0)), params.classes, "fuzzy-c-means")
    if params.neighbour_weight > 0:
        features, windows = clusters.smoothed(features, params.window_mm, params.neighbour_weight, volumes[0].geometry)
        means = features.points(windows)
    start, _ = k_means(points, params.classes, 20)
    step = -(-len(points) // _FEW_POINTS)
    if step > 1:  # most rounds on fewer points, the last on all
        few = points[::step]
        start, _ = _rounds((few, few if means is points else means[::step]), np.ones(len(few)), start, params)
    centres, has_settled = _rounds((points, means), np.ones(len(points)), start, params)
    centres = centres[clusters.in_order(centres, len(volumes))]
    # |x - v|² + w |m - v|² is least where (x + w m) / (1 + w) is nearest to v
    labels = clusters.nearest(features, centres)
    found = clusters.Found(features.intensities(centres), {"learned_from_voxels": len(points)}, has_settled)
    return clusters.class_map(volumes, labels, params, found, "fuzzy-c-means")


def _on_histogram(volume: Volume, params: FuzzyCMeansParams) -> LabelMap:
    bins, inside = clusters.histogram_of(volume, params, "fuzzy-c-means")
    refuse_too_few(bins.different, params.classes, "fuzzy-c-means")
    centres, has_settled = _centres(bins, params)
    middles = (centres[1:] + centres[:-1]) / 2
    labels = clusters.paint_bins(volume, bins, np.searchsorted(middles, bins.values, side="left") + 1, inside)
    found = clusters.Found(centres[:, None], {"learned_from_voxels": int(bins.counts.sum())}, has_settled)
    return clusters.class_map((volume,), labels, params, found, "fuzzy-c-means")


def _centres(bins: Bins, params: FuzzyCMeansParams) -> tuple[Floats, bool]:
    held = bins.counts > 0
    values, counts = bins.values[held], bins.counts[held].astype(np.float64)
    middle, scale = middle_and_scale(values, counts)
    points = ((values - middle) / scale)[:, None]
    first = best_bins(points[:, 0], counts, params.classes)
    start = np.bincount(first, weights=counts * points[:, 0]) / np.bincount(first, weights=counts)
    centres, has_settled = _rounds((points, points), counts, start[:, None], params)
    return np.sort(centres[:, 0]) * scale + middle, has_settled


def _rounds(points: tuple[Floats, Floats], weights: Floats, centres: Floats, params: FuzzyCMeansParams) -> tuple[Floats, bool]:
    """Degrees of membership and centres in turn, from the points and the means of their neighbourhoods."""
    from medseg.kernels.points import fuzzy_round

    own, around = points
    share = float(params.neighbour_weight) if around is not own else 0.0
    for _ in range(params.iterations):
        moved = fuzzy_round(own, around, share, weights, np.ascontiguousarray(centres), float(params.fuzziness))
        step = float(np.abs(moved - centres).max())
        centres = moved
        if step < _SETTLED:
            return centres, True
    return centres, False
