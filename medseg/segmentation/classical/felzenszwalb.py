"""Graph-based regions: the change across a border against the change inside."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number
from medseg.preprocessing.denoise import gaussian_mm
from medseg.segmentation.classical.regions import by_size
from medseg.segmentation.classical.result import label_map_on


class FelzenszwalbParams(MethodParams):
    """Parameters of `felzenszwalb`."""

    scale: Number = Field(description="How much change a region of 1 mm3 bears; the larger, the larger the regions", unit="image mm2", ge=0)
    sigma_mm: Number = Field(
        1.0, description="Standard deviation of the Gaussian that smooths the scan first; 0: none", unit="mm", ge=0, le=100
    )
    keep_at_least_mm3: Number = Field(
        100.0, description="Regions smaller than this join the neighbour with the smallest change between them; 0: none", unit="mm3", ge=0
    )
    connectivity: Literal[6, 18, 26] = Field(6, description="Neighbours that count as touching: faces, also edges, also corners")
    label: str = Field("region", description="Regions are called by this, _1 for the largest, _2 for the next", min_length=1)


@method("felzenszwalb", stage=Stage.SEGMENT, reference="doi:10.1023/B:VISI.0000022288.19776.77", several=True)
def felzenszwalb(volume: Volume | tuple[Volume, ...], params: FelzenszwalbParams) -> LabelMap:
    """Part a scan into regions whose inner change of intensity is small against the change across their border.

    Neighbouring voxels are joined in rising order of the change of intensity per mm between them, while it is at most the
    largest change inside either region plus `scale` over the volume of that region in mm3: small regions join easily,
    large ones only along weak edges. Distances between neighbours are true ones, on sheared grids too. Several scans on
    one grid are channels of one: changes count together (Euclidean), so bring channels to a common scale first. Voxels
    without a value in every channel are background. Regions are numbered by volume, the largest first. Raises InputError
    where no voxel has a value or more than a million regions are left.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[0, 1, 50, 51, 50]]], np.int16), Geometry((1, 1, 5), np.eye(4)))
    >>> felzenszwalb(scan, FelzenszwalbParams(scale=2, sigma_mm=0, keep_at_least_mm3=0)).array.ravel().tolist()
    [2, 2, 1, 1, 1]
    """
    from medseg.kernels.graph_regions import graph_regions

    volumes = volume if isinstance(volume, tuple) else (volume,)
    first = volumes[0]
    channels = np.stack([smooth_channel(item, params.sigma_mm) for item in volumes])
    voxels = math.ceil(min(params.keep_at_least_mm3 / first.geometry.voxel_volume_mm3, channels[0].size) - 1e-6)
    world = first.geometry.affine[:3, 2::-1]  # mm for steps along k, j, i
    labels, count = graph_regions(channels, world, params.scale, voxels, params.connectivity)
    if count == 0:
        raise InputError("felzenszwalb: no voxel has a value in every channel; check the scan")
    advice = "raise scale, sigma_mm or keep_at_least_mm3"
    return label_map_on(first, *by_size(labels, params.label, "felzenszwalb", advice))


def smooth_channel(volume: Volume, sigma_mm: float) -> npt.NDArray[np.float32]:
    """A scan as float32 (k,j,i), smoothed; voxels without a finite value do not spread and come out as NaN."""
    image: npt.NDArray[Any] = volume.array.T
    with np.errstate(over="ignore"):
        single = image.astype(np.float32)
    finite = np.isfinite(single)
    if finite.all():
        return gaussian_mm(single, volume.geometry, sigma_mm) if sigma_mm > 0 else single
    filled = np.where(finite, single, single[finite].mean(dtype=np.float64) if finite.any() else 0).astype(np.float32)
    smooth = gaussian_mm(filled, volume.geometry, sigma_mm) if sigma_mm > 0 else filled
    smooth[~finite] = np.nan
    return smooth
