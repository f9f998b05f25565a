"""Classes with normal distributions of their own, and neighbours that prefer to agree."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, Number
from medseg.segmentation.classical import cluster_features as clusters
from medseg.segmentation.classical.centres import k_means
from medseg.segmentation.classical.intensities import refuse_too_few
from medseg.segmentation.classical.mixture import Mixture, fit_mixture, mixture_of_histogram


class GaussianMixtureParams(clusters.ClusterParams):
    """Parameters of `gaussian-mixture`."""

    classes: int = Field(3, description="Classes to find; the darkest becomes background unless it is kept", ge=2, le=32)
    smoothness_mm: Number = Field(
        0.0,
        description="Markov random field: a border costs as much as the evidence of a layer of this thickness; 0: none",
        unit="mm",
        ge=0,
        le=100,
    )
    position_scale_mm: Number | None = Field(
        None,
        description="Distance that counts as much as one standard deviation of the intensities; empty: position does not count",
        unit="mm",
        gt=0,
    )
    iterations: int = Field(500, description="Rounds at most, of the mixture and of the random field", ge=1, le=10_000)


@method(
    "gaussian-mixture",
    stage=Stage.SEGMENT,
    several=True,
    reference="doi:10.1111/j.2517-6161.1977.tb01600.x (EM); doi:10.1111/j.2517-6161.1986.tb01412.x (Markov random field)",
)
def gaussian_mixture(volume: Volume | tuple[Volume, ...], params: GaussianMixtureParams) -> LabelMap:
    """Part one scan, or several on one grid, into classes with normal distributions, each voxel to its likeliest.

    Each class has a mean, a full covariance and a share, found by expectation maximisation from the classes of k-means: on
    the whole histogram for one scan without position, else from `sample_voxels` voxels. With `smoothness_mm` neighbours
    prefer to agree (Potts model, iterated conditional modes): each mm² of border costs the evidence of so many mm³, on
    every grid alike, sheared ones included. Classes are ordered by their mean over the scans; the darkest is background. The
    finding CLASS_MEANS tells means, standard deviations and shares. A voxel that is NaN or infinite in one scan is in no
    class. Raises InputError where there are fewer intensities than classes, GeometryMismatchError where grids differ.

    >>> import numpy as np
    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[0, 1, 50, 51, 98, 99]]], np.int16), Geometry((1, 1, 6), np.eye(4)))
    >>> gaussian_mixture(scan, GaussianMixtureParams()).array.ravel().tolist()
    [0, 0, 1, 1, 2, 2]
    """
    volumes = clusters.channels_of(volume)
    is_plain = len(volumes) == 1 and params.position_scale_mm is None
    if is_plain and params.smoothness_mm == 0:
        return _on_histogram(volumes[0], params)
    features = clusters.features_of(volumes, params, params.position_scale_mm, "gaussian-mixture")
    mixture, learned = _learned(volumes, features, params)
    labels, has_settled = _label(features, mixture, volumes[0].geometry, params)
    deviations = np.sqrt(np.diagonal(mixture.covariances, axis1=1, axis2=2))[:, : len(volumes)] * features.scales
    found = _found(features.intensities(mixture.means), deviations, mixture, learned, has_settled)
    return clusters.class_map(volumes, labels, params, found, "gaussian-mixture")


def _learned(volumes: tuple[Volume, ...], features: clusters.Features, params: GaussianMixtureParams) -> tuple[Mixture, int]:
    """The mixture in the units of the features, and how many voxels it was learned from."""
    if len(volumes) == 1 and params.position_scale_mm is None:
        bins, _ = clusters.histogram_of(volumes[0], params, "gaussian-mixture")
        refuse_too_few(bins.different, params.classes, "gaussian-mixture")
        mixture, middle, scale = mixture_of_histogram(bins, params.classes, params.iterations)
        mixture = mixture.rescaled((middle - features.centres[0]) / features.scales[0], scale / features.scales[0])
        return mixture.ordered(clusters.in_order(mixture.means)), int(bins.counts.sum())
    points = features.points()
    refuse_too_few(len(np.unique(points, axis=0)), params.classes, "gaussian-mixture")
    start, _ = k_means(points, params.classes, 20)
    mixture = fit_mixture(points, np.ones(len(points)), start, params.iterations)
    return mixture.ordered(clusters.in_order(mixture.means, len(volumes))), len(points)


def _label(
    features: clusters.Features, mixture: Mixture, geometry: Geometry, params: GaussianMixtureParams
) -> tuple[npt.NDArray[np.uint8], bool]:
    from medseg.kernels import clusters as kernels

    classes = kernels.Classes(mixture.means, mixture.factors(), mixture.offsets(), features.position)
    labels = kernels.assign(features.channels, features.inside, classes)
    if params.smoothness_mm == 0:
        return labels, True
    # distance between the planes of faces: the area of a face is the volume of a voxel over it
    distances = 1 / np.linalg.norm(np.linalg.inv(geometry.affine[:3, :3]), axis=1)
    weights = np.ascontiguousarray((params.smoothness_mm / distances)[::-1])
    return labels, kernels.relax(features.channels, labels, classes, weights, params.iterations)


def _on_histogram(volume: Volume, params: GaussianMixtureParams) -> LabelMap:
    bins, inside = clusters.histogram_of(volume, params, "gaussian-mixture")
    refuse_too_few(bins.different, params.classes, "gaussian-mixture")
    mixture, middle, scale = mixture_of_histogram(bins, params.classes, params.iterations)
    mixture = mixture.ordered(clusters.in_order(mixture.means))
    likelihood = mixture.log_densities(((bins.values - middle) / scale)[:, None])
    labels = clusters.paint_bins(volume, bins, likelihood.argmax(axis=1) + 1, inside)
    deviations = np.sqrt(mixture.covariances[:, 0]) * scale
    found = _found(mixture.means * scale + middle, deviations, mixture, int(bins.counts.sum()), True)
    return clusters.class_map((volume,), labels, params, found, "gaussian-mixture")


def _found(
    means: npt.NDArray[np.float64], deviations: npt.NDArray[np.float64], mixture: Mixture, learned: int, has_settled: bool
) -> clusters.Found:
    details = {
        "standard_deviations": deviations.tolist(),
        "shares": mixture.shares.tolist(),
        "mean_log_likelihood": mixture.mean_log_likelihood,
        "learned_from_voxels": learned,
    }
    return clusters.Found(means, details, has_settled and mixture.has_settled)
