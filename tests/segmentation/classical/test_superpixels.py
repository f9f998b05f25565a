from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medseg.core.errors import GeometryMismatchError, InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.catalog import find
from medseg.segmentation.segment import segment


def smooth_noise(affine: np.ndarray, shape: tuple[int, int, int] = (30, 24, 14)) -> Volume:
    array = ndimage.gaussian_filter(np.random.default_rng(5).normal(0, 1, shape), 1.5) * 400
    return Volume(array.astype(np.float32), Geometry(shape, affine), "MR")


def test_superpixels_are_one_piece_and_of_one_size_in_mm_on_every_grid(affine: np.ndarray) -> None:
    scan = smooth_noise(affine)
    found = segment(scan, "superpixels", size_mm=6, compactness=100)
    assert (found.array > 0).all()
    assert all(ndimage.label(found.array == item.number)[1] == 1 for item in found.segments)
    voxels = np.bincount(found.array.ravel())[1:]
    volume_mm3 = voxels * scan.geometry.voxel_volume_mm3
    assert 0.5 < np.median(volume_mm3) / 6**3 < 1.5
    assert (np.diff(voxels) <= 0).all()


def test_they_keep_to_the_organs_of_a_real_scan(ct: Volume, organs: LabelMap) -> None:
    """Under-segmentation: a superpixel given to the organ that most of it lies in hardly loses a voxel."""
    found = segment(ct, "superpixels", size_mm=9, compactness=60, rounds=5)
    size = int(found.array.max()) + 1
    table = np.bincount(found.array.ravel().astype(np.int64) * 256 + organs.array.ravel(), minlength=size * 256).reshape(size, 256)
    blocks = segment(ct, "superpixels", size_mm=9, compactness=1e7, rounds=1)
    size = int(blocks.array.max()) + 1
    plain = np.bincount(blocks.array.ravel().astype(np.int64) * 256 + organs.array.ravel(), minlength=size * 256).reshape(size, 256)
    lost, lost_by_blocks = (1 - counts.max(axis=1).sum() / ct.array.size for counts in (table, plain))
    assert lost < 0.7 * lost_by_blocks


def test_channels_on_one_grid_count_together() -> None:
    scan = smooth_noise(np.eye(4))
    edge = scan.with_array(100.0 * (np.indices(scan.array.shape)[0] >= 13))
    flat = scan.with_array(np.zeros(scan.array.shape))
    method = find("superpixels")
    found = method((flat, edge), method.build({"size_mm": 6, "compactness": 5}))
    assert not set(np.unique(found.array[:13])) & set(np.unique(found.array[13:]))


def test_a_mask_and_nan_are_background() -> None:
    scan = smooth_noise(np.diag([1, 1, 3.0, 1]))
    array = scan.array.copy()
    array[2, 3, 4] = np.nan
    mask = LabelMap((np.indices(array.shape)[1] > 4).astype(np.uint8), scan.geometry, (Segment(1, "a"),))
    found = segment(scan.with_array(array), "superpixels", size_mm=6, mask=mask)
    assert np.array_equal(found.array > 0, (mask.array > 0) & np.isfinite(array))


def test_impossible_wishes_are_refused() -> None:
    scan = smooth_noise(np.eye(4))
    with pytest.raises(InputError, match="no voxel has a value"):
        segment(scan.with_array(np.full(scan.array.shape, np.nan, np.float32)), "superpixels")
    wide = Volume(np.zeros((120, 110, 100), np.uint8), Geometry((120, 110, 100), np.eye(4)))
    with pytest.raises(InputError, match="raise size_mm"):
        segment(wide, "superpixels", size_mm=1)
    elsewhere = LabelMap(np.ones((2, 2, 2), np.uint8), Geometry((2, 2, 2), np.eye(4)), (Segment(1, "a"),))
    with pytest.raises(GeometryMismatchError, match="mask lies on another grid"):
        segment(scan, "superpixels", mask=elsewhere)


def test_a_size_below_every_spacing_is_refused_with_the_spacing(affine: np.ndarray) -> None:
    with pytest.raises(ParameterError, match=r"size_mm of 0.01 every voxel .* finest spacing is 0.8 mm"):
        segment(smooth_noise(affine), "superpixels", size_mm=0.01)
