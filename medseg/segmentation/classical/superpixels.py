"""Superpixels in 3D: small connected pieces of even intensity, the same size in mm everywhere."""

from __future__ import annotations

import numpy as np

from medseg.core.errors import GeometryMismatchError, InputError, ParameterError
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, LabelMapInput, MethodParams, Number
from medseg.segmentation.classical.felzenszwalb import smooth_channel
from medseg.segmentation.classical.regions import MOST_REGIONS, by_size
from medseg.segmentation.classical.result import label_map_on


class SuperpixelsParams(MethodParams):
    """Parameters of `superpixels`."""

    size_mm: Number = Field(10.0, description="Distance between the centres at the start: about the width of a superpixel", unit="mm", gt=0)
    compactness: Number = Field(
        50.0,
        description="Difference of intensity that counts as much as the distance size_mm; the larger, the rounder",
        unit="image",
        gt=0,
    )
    rounds: int = Field(10, description="How often voxels choose a centre and centres move", ge=1, le=100)
    sigma_mm: Number = Field(
        0.0, description="Standard deviation of the Gaussian that smooths the scan first; 0: none", unit="mm", ge=0, le=100
    )
    mask: LabelMapInput | None = Field(None, description="Look only inside the segments of this label map; empty: everywhere")
    label: str = Field("superpixel", description="Superpixels are called by this, _1 for the largest, _2 for the next", min_length=1)


@method("superpixels", stage=Stage.SEGMENT, reference="doi:10.1109/TPAMI.2012.120", several=True)
def superpixels(volume: Volume | tuple[Volume, ...], params: SuperpixelsParams) -> LabelMap:
    """Part a scan into connected superpixels of about one size in mm that follow its edges (SLIC).

    Centres start on a grid `size_mm` apart and move to the mean of the voxels nearest to them in intensity and place;
    distances are true ones, on unequal spacing and sheared grids too. Where a slice is thicker than `size_mm` superpixels
    are one slice thick. Every superpixel is one piece (joined by faces); pieces below a quarter of the usual volume join
    their largest neighbour. Several scans on one grid are channels of one: differences count together (Euclidean), so
    bring channels to a common scale first. Voxels without a value in every channel, or outside the mask, are background.
    Superpixels are numbered by volume, the largest first. Raises ParameterError where size_mm lies below every spacing, so that each
    voxel would be one, InputError where no voxel has a value or size_mm asks for more than a million, GeometryMismatchError
    where the mask lies on another grid.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[0, 0, 99, 99, 99, 99]]], np.int16), Geometry((1, 1, 6), np.eye(4)))
    >>> superpixels(scan, SuperpixelsParams(size_mm=3)).array.ravel().tolist()
    [2, 2, 1, 1, 1, 1]
    """
    from medseg.kernels import superpixels as kernel

    volumes = volume if isinstance(volume, tuple) else (volume,)
    geometry = volumes[0].geometry
    if params.mask is not None and not params.mask.geometry.matches(geometry):
        raise GeometryMismatchError(
            "superpixels: mask lies on another grid than the scan; restore it onto the scan's grid first", geometry, params.mask.geometry
        )
    spacing_mm = [step for step, length in zip(geometry.spacing_mm, geometry.shape, strict=True) if length > 1]
    if spacing_mm and params.size_mm < min(spacing_mm):
        raise ParameterError(
            f"superpixels: with a size_mm of {params.size_mm:g} every voxel would be a superpixel, for the finest spacing is "
            f"{min(spacing_mm):g} mm; give at least twice that"
        )
    expected = np.prod([min(n, max(1, n * s / params.size_mm)) for n, s in zip(geometry.shape, geometry.spacing_mm, strict=True)])
    if expected > MOST_REGIONS:
        raise InputError(f"superpixels: {params.size_mm:g} mm asks for about {expected:.0f} superpixels; raise size_mm or crop the scan")
    channels = np.stack([smooth_channel(item, params.sigma_mm) for item in volumes])
    mask = None if params.mask is None else params.mask.array.T
    world = geometry.affine[:3, 2::-1]  # mm for steps along k, j, i
    labels = kernel.superpixels(channels, world, params.size_mm, params.compactness, params.rounds, mask)
    if not labels.any():
        raise InputError("superpixels: no voxel has a value there in every channel; check the scan and the mask")
    return label_map_on(volumes[0], *by_size(labels, params.label, "superpixels", "raise size_mm or sigma_mm"))
