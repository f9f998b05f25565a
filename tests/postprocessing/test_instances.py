"""Instances and panoptic maps: pieces against SimpleITK, splits of balls, order and names on every grid."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.core.errors import GeometryMismatchError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.postprocessing.postprocess import postprocess
from medseg.preprocessing.orientation import reoriented

SHAPE = (56, 36, 20)
BALLS = ((-6.0, 7.0), (6.0, 6.0), (18.0, 4.0))  # place along i and radius, mm: the first two overlap, the third touches nothing


def balls(affine: np.ndarray) -> tuple[LabelMap, np.ndarray]:
    """Balls in a row as one segment beside an organ, and the number of the ball that each voxel is nearest to."""
    grid = Geometry(SHAPE, affine)
    points = grid.index_to_world(np.stack(np.indices(SHAPE), axis=-1)) - grid.index_to_world((27, 18, 10))
    depth = np.stack([radius - np.linalg.norm(points - place * grid.direction[:, 0], axis=-1) for place, radius in BALLS])
    array = np.where(depth.max(axis=0) > 0, 4, 0).astype(np.uint8)
    array[:, :3] = 1
    return LabelMap(array, grid, (Segment(1, "liver"), Segment(4, "tumour", tracking_uid="1.2.3"))), depth.argmax(axis=0)


def test_touching_balls_are_split_where_they_meet(affine: np.ndarray) -> None:
    lesions, nearest = balls(affine)
    found = postprocess(lesions, "instances", segments=["tumour"])
    assert [s.label for s in found.segments] == ["liver", "tumour-1", "tumour-2", "tumour-3"]
    assert [s.number for s in found.segments] == [1, 2, 3, 4]
    assert np.array_equal(found.mask("liver"), lesions.mask("liver"))
    assert np.array_equal(found.array > 1, lesions.mask("tumour"))
    for n in range(3):
        mine = found.mask(f"tumour-{n + 1}")
        wanted = lesions.mask("tumour") & (nearest == n)
        assert 2 * (mine & wanted).sum() / (mine.sum() + wanted.sum()) > 0.94
    assert [finding.code for finding in found.findings] == ["INSTANCES_SPLIT"]
    assert {s.tracking_uid for s in found.segments} == {""}


def test_without_a_waist_pieces_are_those_of_itk_by_size(affine: np.ndarray) -> None:
    rng = np.random.default_rng(8)
    array = (rng.random((20, 18, 16)) < 0.12).astype(np.uint16)
    specks = LabelMap(array, Geometry(array.shape, affine), (Segment(1, "speck"),))
    found = postprocess(specks, "instances", least_waist_mm=None, connectivity=6)
    pieces = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(array.astype(np.uint8).T), False)).T
    sizes = np.bincount(found.array.ravel())[1:]
    assert (np.diff(sizes) <= 0).all()
    assert len(sizes) == pieces.max() == len(found.segments) > 20
    pairs = np.unique(np.stack([found.array.ravel(), pieces.ravel()]), axis=1)
    assert pairs.shape[1] == pieces.max() + 1


def test_the_order_of_the_voxels_does_not_matter(affine: np.ndarray) -> None:
    """Stored along other axes in other directions, every instance is the same, tie or not."""
    rng = np.random.default_rng(2)
    array = (rng.random((18, 17, 16)) < 0.55).astype(np.uint8)
    ragged = LabelMap(array, Geometry(array.shape, affine), (Segment(1, "lesion"),))
    one = reoriented(postprocess(ragged, "instances", least_waist_mm=0.5), "SRP")
    other = postprocess(reoriented(ragged, "SRP"), "instances", least_waist_mm=0.5)
    assert np.array_equal(one.array, other.array)
    assert one.array.max() > 3
    assert [s.label for s in one.segments] == [s.label for s in other.segments]


def test_small_ones_are_left_out_and_counted() -> None:
    row = np.array([[[1, 0, 1, 1, 0, 1, 1, 1, 0, 1]]], np.uint8)
    lesions = LabelMap(row, Geometry(row.shape, np.diag([1, 1, 5, 1])), (Segment(1, "lesion", tracking_uid="1.2.3"),))
    found = postprocess(lesions, "instances", keep_at_least_mm3=10)
    assert found.array.ravel().tolist() == [0, 0, 2, 2, 0, 1, 1, 1, 0, 0]
    (finding,) = found.findings
    assert (finding.code, finding.details["count"]) == ("SMALL_PARTS_LEFT_OUT", 2)
    only = postprocess(lesions, "instances", keep_at_least_mm3=15)
    assert [(s.label, s.tracking_uid) for s in only.segments] == [("lesion-1", "1.2.3")]
    nothing = postprocess(lesions, "instances", keep_at_least_mm3=100)
    assert not nothing.array.any()
    assert nothing.segments == ()


def test_names_that_are_taken_get_a_dash() -> None:
    row = np.array([[[1, 0, 1, 2]]], np.uint8)
    lesions = LabelMap(row, Geometry(row.shape, np.eye(4)), (Segment(1, "lesion"), Segment(2, "lesion-1")))
    found = postprocess(lesions, "instances", segments=["lesion"])
    assert [(s.number, s.label) for s in found.segments] == [(2, "lesion-1"), (3, "lesion-1-"), (4, "lesion-2")]
    assert found.array.ravel().tolist() == [4, 0, 3, 2]  # of equal ones that nearer to the head is the first


def test_more_than_255_instances_get_wider_numbers() -> None:
    array = np.zeros((20, 20, 20), np.uint8)
    array[::2, ::2, ::2] = 1
    found = postprocess(LabelMap(array, Geometry(array.shape, np.eye(4)), (Segment(1, "speck"),)), "instances")
    assert found.array.dtype == np.uint16
    assert len(found.segments) == found.array.max() == 1000


def test_a_panoptic_number_holds_class_and_instance(affine: np.ndarray) -> None:
    lesions, _ = balls(affine)
    found = postprocess(lesions, "panoptic", things=["tumour"])
    whole = postprocess(lesions, "instances", segments=["tumour"])
    assert np.array_equal(found.array // 1000, lesions.array)
    assert sorted(np.unique(found.array % 1000)) == [0, 1, 2, 3]
    assert np.array_equal(found.array % 1000 * (lesions.array == 4), np.where(lesions.array == 4, whole.array - 1, 0))
    assert [(s.number, s.label) for s in found.segments] == [(1000, "liver"), (4001, "tumour-1"), (4002, "tumour-2"), (4003, "tumour-3")]


def test_things_of_another_map_lie_over_stuff() -> None:
    grid = Geometry((1, 1, 6), np.eye(4))
    organs = LabelMap(np.array([[[1, 1, 1, 2, 2, 0]]], np.uint8), grid, (Segment(1, "liver"), Segment(2, "spleen")))
    lesions = LabelMap(np.array([[[0, 1, 0, 0, 1, 1]]], np.uint8), grid, (Segment(1, "lesion"),))
    found = postprocess(organs, "panoptic", things=["lesion"], things_map=lesions, divisor=10)
    assert found.array.ravel().tolist() == [10, 32, 10, 20, 31, 31]
    with pytest.raises(GeometryMismatchError, match="another grid"):
        postprocess(
            organs,
            "panoptic",
            things=["lesion"],
            things_map=lesions.with_array(lesions.array, Geometry((1, 1, 6), np.diag([2.0, 2.0, 2.0, 1.0]))),
        )


def test_more_instances_than_the_divisor_can_number_are_refused() -> None:
    row = np.array([[[1, 0, 1, 0, 1]]], np.uint8)
    specks = LabelMap(row, Geometry(row.shape, np.eye(4)), (Segment(1, "speck"),))
    with pytest.raises(ParameterError, match="larger divisor"):
        postprocess(specks, "panoptic", things=["speck"], divisor=3)
    assert postprocess(specks, "panoptic", things=["speck"], divisor=4).array.max() == 7
    huge = LabelMap(row.astype(np.uint32) * 4_000_000_000, specks.geometry, (Segment(4_000_000_000, "speck"),))
    with pytest.raises(ParameterError, match="does not fit 32 bits"):
        postprocess(huge, "panoptic", things=["speck"])
