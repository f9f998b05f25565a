from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import SimpleITK as sitk

from medseg.core.errors import GeometryMismatchError, ParameterError, UnknownSegmentError
from medseg.core.finding import Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.postprocessing.postprocess import postprocess
from medseg.preprocessing.orientation import reoriented

STRUCTURE = {6: 1, 18: 2, 26: 3}


def speckled(affine: np.ndarray) -> LabelMap:
    """Two segments of many pieces."""
    rng = np.random.default_rng(9)
    array = np.zeros((18, 17, 16), np.uint16)
    array[rng.random(array.shape) < 0.2] = 1
    array[rng.random(array.shape) < 0.15] = 300
    array[3:8, 3:8, 3:8] = 1
    array[10:16, 9:13, 4:9] = 300
    return LabelMap(array, Geometry(array.shape, affine), (Segment(1, "liver"), Segment(300, "spleen"), Segment(7, "absent")))


def pieces(mask: np.ndarray, connectivity: int) -> tuple[np.ndarray, np.ndarray]:
    labels, count = scipy.ndimage.label(mask, scipy.ndimage.generate_binary_structure(3, STRUCTURE[connectivity]))
    return labels, np.bincount(labels.ravel(), minlength=count + 1)[1:]


@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_the_largest_component_is_that_of_scipy(affine: np.ndarray, connectivity: int) -> None:
    organs = speckled(affine)
    found = postprocess(organs, "keep-largest", connectivity=connectivity)
    for label in ("liver", "spleen"):
        labels, sizes = pieces(organs.mask(label), connectivity)
        assert len(sizes) > 1
        assert np.array_equal(found.mask(label), labels == sizes.argmax() + 1)
    assert found.segments == organs.segments
    assert found.array.dtype == np.uint16


def test_the_largest_components_of_a_real_scan_are_those_of_itk(organs: LabelMap) -> None:
    found = postprocess(organs, "keep-largest")
    split = 0
    for item in organs.segments:
        image = sitk.GetImageFromArray(organs.mask(item.label).T.astype(np.uint8))
        ordered = sitk.RelabelComponent(sitk.ConnectedComponent(image, True), sortByObjectSize=True)
        expected = sitk.GetArrayFromImage(ordered).T == 1
        sizes = np.bincount(sitk.GetArrayFromImage(ordered).ravel())[1:]
        split += len(sizes) > 1
        if len(sizes) > 1 and sizes[0] == sizes[1]:
            assert int(found.mask(item.label).sum()) == sizes[0]
        else:
            assert np.array_equal(found.mask(item.label), expected)
    assert split > 3


def test_several_components_are_kept() -> None:
    array = np.array([[[1, 1, 1, 0, 1, 1, 0, 1, 0, 1, 1, 1, 1, 2, 0, 2, 2]]], np.uint8)
    organs = LabelMap(array, Geometry(array.shape, np.eye(4)), (Segment(1, "liver"), Segment(2, "spleen")))
    found = postprocess(organs, "keep-largest", segments=["liver"], count=2)
    assert found.array.ravel().tolist() == [1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 0, 2, 2]
    assert np.array_equal(postprocess(organs, "keep-largest", count=4).array, array)


def test_of_equal_components_the_first_is_kept() -> None:
    array = np.array([[[0, 1, 1, 0, 1, 1, 0, 1]]], np.uint8)
    organs = LabelMap(array, Geometry(array.shape, np.eye(4)), (Segment(1, "liver"),))
    assert postprocess(organs, "keep-largest").array.ravel().tolist() == [0, 1, 1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("connectivity", [6, 26])
def test_small_components_go_by_their_volume_in_mm3(affine: np.ndarray, connectivity: int) -> None:
    """The limit stands exactly at three voxels: three stay, two go, whatever the spacing, tilt or shear."""
    organs = speckled(affine)
    limit = 3 * organs.geometry.voxel_volume_mm3
    found = postprocess(organs, "remove-small", keep_at_least_mm3=limit, connectivity=connectivity)
    for label in ("liver", "spleen"):
        labels, sizes = pieces(organs.mask(label), connectivity)
        assert {2, 3} <= set(sizes)
        assert np.array_equal(found.mask(label), np.isin(labels, np.flatnonzero(sizes >= 3) + 1))
    more = postprocess(organs, "remove-small", keep_at_least_mm3=limit * 1.0001, connectivity=connectivity)
    assert 3 not in set(pieces(more.mask("liver"), connectivity)[1])


def test_nothing_goes_at_a_limit_of_0() -> None:
    organs = speckled(np.eye(4))
    assert np.array_equal(postprocess(organs, "remove-small", keep_at_least_mm3=0).array, organs.array)


def test_a_segment_that_loses_everything_is_told() -> None:
    organs = speckled(np.eye(4))
    found = postprocess(organs, "remove-small", segments=["spleen"], keep_at_least_mm3=1e6)
    assert not found.mask("spleen").any()
    assert np.array_equal(found.mask("liver"), organs.mask("liver"))
    (finding,) = found.findings
    assert (finding.code, finding.severity, finding.details["segment"]) == ("SEGMENT_EMPTY", Severity.WARNING, "spleen")


def test_the_input_is_left_as_it_was() -> None:
    organs = speckled(np.eye(4))
    before = organs.array.copy()
    for name in ("keep-largest", "remove-small", "fill-holes", "smooth"):
        postprocess(organs, name)
        assert np.array_equal(organs.array, before)


def test_unknown_segments_and_impossible_parameters_are_refused() -> None:
    organs = speckled(np.eye(4))
    with pytest.raises(UnknownSegmentError, match="no segment 'kidney'"):
        postprocess(organs, "keep-largest", segments=["kidney"])
    for name, chosen in (
        ("keep-largest", {"count": 0}),
        ("keep-largest", {"connectivity": 4}),
        ("remove-small", {"keep_at_least_mm3": -1}),
        ("remove-small", {"min_size": 3}),
    ):
        with pytest.raises(ParameterError, match=f"{name}: "):
            postprocess(organs, name, **chosen)


def test_a_scan_on_another_grid_is_refused() -> None:
    organs = speckled(np.eye(4))
    with pytest.raises(GeometryMismatchError, match="another grid"):
        postprocess(organs, "keep-largest", volume=Volume(np.zeros((2, 2, 2)), Geometry((2, 2, 2), np.eye(4))))


def test_the_volume_does_not_depend_on_the_order_of_the_axes(affine: np.ndarray) -> None:
    organs = speckled(affine)
    limit = 5 * organs.geometry.voxel_volume_mm3
    one = reoriented(postprocess(organs, "remove-small", keep_at_least_mm3=limit), "SRP")
    other = postprocess(reoriented(organs, "SRP"), "remove-small", keep_at_least_mm3=limit)
    assert np.array_equal(one.array, other.array)
    assert 0 < one.array.astype(bool).sum() < organs.array.astype(bool).sum()
