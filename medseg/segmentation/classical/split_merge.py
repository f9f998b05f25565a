"""Split and merge: blocks are halved until each is homogeneous, then neighbours are merged while they stay so."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from medseg.core.errors import GeometryMismatchError, InputError
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, LabelMapInput, MethodParams, Number
from medseg.preprocessing.denoise import gaussian_mm, refuse_non_finite
from medseg.segmentation.classical.regions import by_size
from medseg.segmentation.classical.result import label_map_on


class SplitMergeParams(MethodParams):
    """Parameters of `split-merge`."""

    tolerance: Number = Field(description="Largest spread of intensities that counts as homogeneous", unit="image", ge=0)
    criterion: Literal["deviation", "range"] = Field(
        "deviation", description="What the spread is: the standard deviation, or the greatest less the least intensity"
    )
    sigma_mm: Number = Field(
        0.0, description="Standard deviation of the Gaussian that smooths the scan first; 0: none", unit="mm", ge=0, le=100
    )
    smallest_mm: Number = Field(0.0, description="Blocks not longer than this are not split; 0: down to single voxels", unit="mm", ge=0)
    keep_at_least_mm3: Number = Field(
        0.0, description="Regions smaller than this join the neighbour with the closest mean; 0: none", unit="mm3", ge=0
    )
    mask: LabelMapInput | None = Field(None, description="Look only inside the segments of this label map; empty: everywhere")
    label: str = Field("region", description="Regions are called by this, _1 for the largest, _2 for the next", min_length=1)


@method("split-merge", stage=Stage.SEGMENT, reference="doi:10.1145/321941.321956")
def split_merge(volume: Volume, params: SplitMergeParams) -> LabelMap:
    """Part a scan into connected regions of even intensity by splitting blocks (octree) and merging neighbours.

    A block is split while the spread of its intensities is above `tolerance`: along its longest axis in mm and every other
    at least half as long, so blocks stay near to cubes on any spacing; shear changes the shape of blocks, not the rule.
    Then neighbours (faces) are merged, those with the closest means first, while the union is homogeneous, until none can
    be. Voxels that are not finite, or outside the mask, are background. Regions are numbered by volume, the largest first.
    Raises InputError where no voxel has a value or more than a million regions are left, TooLargeError for more than five
    million blocks (noise and a small tolerance), GeometryMismatchError where the mask lies on another grid.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[0, 1, 50, 51, 50]]], np.int16), Geometry((1, 1, 5), np.eye(4)))
    >>> split_merge(scan, SplitMergeParams(tolerance=2)).array.ravel().tolist()
    [2, 2, 1, 1, 1]
    """
    from medseg.kernels import octree

    image = volume.array.T
    inside = None
    if params.mask is not None:
        if not params.mask.geometry.matches(volume.geometry):
            raise GeometryMismatchError(
                "split-merge: mask lies on another grid than the scan; "
                "bring it onto it with medseg convert LABELS OUT --label-map --like SCAN",
                volume.geometry,
                params.mask.geometry,
            )
        inside = np.asarray(params.mask.array.T != 0)
    if params.sigma_mm > 0:
        refuse_non_finite(image, "split-merge with sigma_mm")
        image = gaussian_mm(image, volume.geometry, params.sigma_mm)
    by_range = params.criterion == "range"
    spacing_mm = volume.geometry.spacing_mm[::-1]
    labels, table = octree.split(image, spacing_mm, params.tolerance, by_range, params.smallest_mm, inside)
    if len(table) == 0:
        raise InputError("split-merge: no voxel has a value there; check the scan and the mask")
    at_least = math.ceil(min(params.keep_at_least_mm3 / volume.geometry.voxel_volume_mm3, image.size) - 1e-6)
    regions = octree.merge(octree.neighbour_pairs(labels), table, params.tolerance, by_range, at_least)
    merged = np.take(np.concatenate([[0], regions]).astype(np.uint32), labels)
    advice = "raise tolerance, sigma_mm or keep_at_least_mm3"
    return label_map_on(volume, *by_size(merged, params.label, "split-merge", advice))
