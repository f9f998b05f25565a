from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import SimpleITK as sitk

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.postprocessing.postprocess import postprocess
from medseg.preprocessing.orientation import reoriented

STRUCTURE = {6: 1, 18: 2, 26: 3}


def holed(affine: np.ndarray, seed: int = 12) -> LabelMap:
    """One dense segment with holes, some open at the border."""
    rng = np.random.default_rng(seed)
    array = (rng.random((15, 14, 13)) < 0.88).astype(np.uint8)
    array[:2] = 0
    return LabelMap(array, Geometry(array.shape, affine), (Segment(1, "lung"),))


@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_it_is_scipy_in_3d(affine: np.ndarray, connectivity: int) -> None:
    lungs = holed(affine)
    expected = scipy.ndimage.binary_fill_holes(lungs.array, scipy.ndimage.generate_binary_structure(3, STRUCTURE[connectivity]))
    found = postprocess(lungs, "fill-holes", connectivity=connectivity)
    assert expected.sum() > lungs.array.sum()
    assert np.array_equal(found.array, expected)


def test_it_is_itk_on_every_organ_of_a_real_scan(organs: LabelMap) -> None:
    filled = 0
    for item in organs.segments:
        mask = (organs.array == item.number).astype(np.uint8)
        alone = LabelMap(mask, organs.geometry, (Segment(1, "organ"),))
        expected = sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.GetImageFromArray(mask.T), False, 1)).T
        assert np.array_equal(postprocess(alone, "fill-holes").array, expected)
        filled += int(expected.sum() > mask.sum())
    assert filled > 0


@pytest.mark.parametrize(("plane", "letters"), [("sagittal", "RL"), ("coronal", "AP"), ("axial", "SI")])
def test_slices_are_those_of_the_patient_on_every_grid(affine: np.ndarray, plane: str, letters: str) -> None:
    lungs = holed(affine)
    axis = [letter in letters for letter in lungs.geometry.orientation].index(True)
    expected = np.stack([scipy.ndimage.binary_fill_holes(one) for one in np.moveaxis(lungs.array, axis, 0)])
    found = postprocess(lungs, "fill-holes", within=plane)
    assert expected.sum() > lungs.array.sum()
    assert np.array_equal(np.moveaxis(found.array, axis, 0), expected)


def test_another_segment_inside_stays() -> None:
    array = np.zeros((7, 7, 7), np.uint8)
    array[1:6, 1:6, 1:6] = 1
    array[2:5, 2:5, 2:5] = 0
    array[3, 3, 3] = 2
    organs = LabelMap(array, Geometry(array.shape, np.eye(4)), (Segment(1, "liver"), Segment(2, "tumour")))
    found = postprocess(organs, "fill-holes")
    assert found.array[3, 3, 3] == 2
    assert int(found.mask("liver").sum()) == 124
    assert int(postprocess(organs, "fill-holes", segments=["tumour"]).mask("liver").sum()) == 98


def test_a_hole_that_reaches_the_border_of_the_scan_is_open() -> None:
    array = np.ones((5, 5, 5), np.uint8)
    array[2, 2, 2:] = 0
    organs = LabelMap(array, Geometry(array.shape, np.eye(4)), (Segment(1, "bone"),))
    assert np.array_equal(postprocess(organs, "fill-holes").array, array)
    assert postprocess(organs, "fill-holes", within="axial").array.all()


@pytest.mark.parametrize("within", ["volume", "axial"])
def test_the_volume_does_not_depend_on_the_order_of_the_axes(affine: np.ndarray, within: str) -> None:
    lungs = holed(affine)
    one = reoriented(postprocess(lungs, "fill-holes", within=within), "SRP")
    other = postprocess(reoriented(lungs, "SRP"), "fill-holes", within=within)
    assert np.array_equal(one.array, other.array)
    assert one.array.sum() > lungs.array.sum()
