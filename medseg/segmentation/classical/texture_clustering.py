"""Parting a scan by its texture, without examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pydantic

from medseg.core.errors import InputError
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, LabelMapInput, MethodParams, Number
from medseg.preprocessing.intensity import check_limits
from medseg.segmentation.classical.centres import k_means
from medseg.segmentation.classical.intensities import looked_at
from medseg.segmentation.classical.pixel_features import Texture, channels_of, texture_features
from medseg.segmentation.classical.result import label_map_on

MOST_SAMPLES = 200_000  # voxels from which the centres are learned
MOST_ROUNDS = 100


class TextureClusteringParams(MethodParams):
    """Parameters of `texture-clustering`."""

    classes: int = Field(3, description="Classes that the textures are parted into", ge=2, le=20)
    features: list[Texture] = Field(
        ["intensity", "deviation", "gabor", "pattern", "tensor"],
        description="What is compared: mean, deviation, waves, local binary patterns, structure tensor",
        min_length=1,
    )
    scale_mm: Number = Field(
        4.0, description="Standard deviation of the Gaussian over which a texture is gathered", unit="mm", gt=0, le=100
    )
    wavelength_mm: Number = Field(10.0, description="Waves that `gabor` looks for, and twice as long ones", unit="mm", gt=0, le=250)
    lower: Number | None = Field(None, description="Look only at voxels of at least this intensity; empty: all", unit="image")
    upper: Number | None = Field(None, description="Look only at voxels of at most this intensity; empty: all", unit="image")
    mask: LabelMapInput | None = Field(None, description="Look only inside the segments of this label map; empty: everywhere")
    label: str = Field("texture", description="Segments are called by this, _1 for the darkest, _2 for the next", min_length=1)

    @pydantic.model_validator(mode="after")
    def _limits(self) -> TextureClusteringParams:
        if self.lower is not None or self.upper is not None:
            check_limits(self.lower, self.upper)
        return self


@method("texture-clustering", stage=Stage.SEGMENT, reference="doi:10.1016/0031-3203(91)90143-S", several=True)
def texture_clustering(volume: Volume | tuple[Volume, ...], params: TextureClusteringParams) -> LabelMap:
    """Part a scan into classes of like texture with k-means: texture_1 is the darkest, texture_2 the next, and so on.

    Each voxel is told by features of its surroundings (see the parameter `features`), each brought to mean 0 and standard
    deviation 1 over the voxels looked at; nothing is drawn at random (the best of several starts along the axes of the
    features and their main directions is taken), so the same scan gives the same answer. Sizes are in mm; unequal
    spacing, oblique, left-handed and sheared grids are honoured (local binary patterns follow the axes). Several channels
    give the features of each; `lower` and `upper` look at the first. Voxels outside `lower`, `upper` and `mask`, and
    those without a finite value, belong to no class. Centres are learned from at most 200,000 voxels spread evenly. Takes
    about 60 bytes a voxel and channel. Raises InputError where there are fewer different textures than classes.

    >>> from medseg.core.geometry import Geometry
    >>> halves = np.zeros((12, 8, 8), np.int16)
    >>> halves[6:] = 90
    >>> scan = Volume(halves, Geometry((12, 8, 8), np.eye(4)))
    >>> found = texture_clustering(scan, TextureClusteringParams(classes=2, features=["intensity"], scale_mm=1))
    >>> found.array[:, 4, 4].tolist()
    [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]
    """
    from medseg.kernels import clusters

    volumes, arrays, inside = channels_of(volume, "texture-clustering")
    first = volumes[0]
    looked = looked_at(first, params.lower, params.upper, params.mask, "texture-clustering")
    if looked is not None:
        inside &= looked.view(np.bool_)
    if not inside.any():
        raise InputError("texture-clustering: no voxel lies inside the mask and between the limits; widen them")
    sizes = (params.scale_mm, params.wavelength_mm)
    fields = [field for array in arrays for field in texture_features(array, first.geometry, params.features, *sizes)]
    channels = np.stack([standardised(field, inside) for field in fields])
    del fields
    samples = channels[:, inside][:, :: -(-int(inside.sum()) // MOST_SAMPLES)].T.astype(np.float64)
    means = centres(samples, params.classes)
    brightness = _mean_intensity(arrays[0], inside, samples, means)
    means = means[np.argsort(brightness, kind="stable")]
    same = np.broadcast_to(np.eye(means.shape[1]), (len(means), means.shape[1], means.shape[1])).copy()
    found = clusters.assign(
        channels, np.ascontiguousarray(inside).view(np.uint8), clusters.Classes(means, same, np.zeros(len(means)), np.zeros((0, 4)))
    )
    segments = [Segment(n, f"{params.label}_{n}", algorithm="texture-clustering") for n in range(1, params.classes + 1)]
    return label_map_on(first, found, segments)


def standardised(field: npt.NDArray[np.float32], inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Return a field with mean 0 and standard deviation 1 over the voxels inside; 0 where it is constant there."""
    values = field[inside]
    mean, std = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    greatest = max(abs(float(values.min())), abs(float(values.max())))
    if not std > 1e-6 * greatest:
        return np.zeros(field.shape, np.float32)
    return np.asarray((field - np.float32(mean)) / np.float32(std), np.float32)


def centres(samples: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """Return the centres that k-means finds in samples (N, F), count x F, from the best of several starts (see `centres.k_means`).

    Raises InputError where fewer samples differ than there shall be centres.

    >>> centres(np.array([[0.0], [1.0], [10.0], [11.0]]), 2).tolist()
    [[0.5], [10.5]]
    """
    found = samples
    if len(samples) >= count:
        found, _ = k_means(np.ascontiguousarray(samples), count, MOST_ROUNDS)
    different = len(np.unique(found, axis=0))
    if len(samples) < count or different < count:
        raise InputError(f"texture-clustering: {different} different textures cannot be parted into {count} classes; choose fewer")
    return found


def _nearest(samples: npt.NDArray[np.float64], means: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    return np.asarray(((means**2).sum(axis=1) - 2 * samples @ means.T).argmin(axis=1))


def _mean_intensity(
    image: npt.NDArray[np.generic], inside: npt.NDArray[np.bool_], samples: npt.NDArray[np.float64], means: npt.NDArray[np.float64]
) -> Sequence[float]:
    """Mean intensity of the samples nearest to each centre."""
    values = np.asarray(image[inside], np.float64)[:: -(-int(inside.sum()) // MOST_SAMPLES)]
    nearest = _nearest(samples, means)
    return [float(values[nearest == n].mean()) if (nearest == n).any() else np.inf for n in range(len(means))]
