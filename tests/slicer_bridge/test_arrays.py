"""Nodes of Slicer as volumes and label maps: every grid, every crop, checked by where each voxel lies in the patient."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from grid_strategies import affines
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medseg.core.errors import GeometryError, GeometryMismatchError, InputError, SegmentError, SingularAffineError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.layers import segments_of
from medseg.core.segment import Segment
from medseg.slicer_bridge.arrays import (
    EMPTY_EXTENT,
    BridgeSegment,
    cropped,
    geometry_of,
    label_map_of,
    padded,
    volume_of,
)

REFERENCE = Geometry((7, 6, 5), np.diag([0.8, 1.1, 2.5, 1.0]))
PARENT = np.array([[0.8, -0.6, 0.0, 12.0], [0.6, 0.8, 0.0, -7.5], [0.0, 0.0, 1.0, 30.0], [0, 0, 0, 1.0]])


def segment(array: np.ndarray, start: tuple[int, int, int] = (0, 0, 0), affine: Any = REFERENCE.affine, **more: Any) -> BridgeSegment:
    extent = tuple(bound for first, n in zip(start, array.shape[::-1], strict=True) for bound in (first, first + n - 1))
    return BridgeSegment(id="s", name=more.pop("name", "s"), array_kji=array, extent=extent, ijk_to_ras=affine, **more)


def places(layers: tuple[LabelMap, ...], number: int) -> set[tuple[int, int, int]]:
    return {tuple(int(n) for n in index) for layer in layers for index in np.argwhere(layer.array == number)}


# ---- grids and volumes -------------------------------------------------------------------------------------------------------


@given(affine=affines(), parent=affines(), index=st.tuples(*[st.integers(0, 3)] * 3))
@settings(max_examples=60, deadline=None)
def test_a_voxel_lies_where_slicer_puts_it(affine: np.ndarray, parent: np.ndarray, index: tuple[int, int, int]) -> None:
    grid = geometry_of((4, 5, 6), affine, parent)
    assert grid.shape == (6, 5, 4)
    local = affine @ (*index, 1.0)
    np.testing.assert_allclose(grid.index_to_world(index), (parent @ local)[:3], rtol=1e-9, atol=1e-7)
    assert geometry_of((4, 5, 6), affine).matches(Geometry((6, 5, 4), affine), tolerance_mm=0)


def test_equals_simpleitk_on_an_oblique_left_handed_grid(right_angled: np.ndarray) -> None:
    array = np.random.default_rng(1).integers(-1000, 1000, (5, 6, 7)).astype(np.int16)
    volume = volume_of(array, right_angled)
    image = sitk.GetImageFromArray(array)
    lps = np.diag([-1.0, -1.0, 1.0]) @ right_angled[:3, :3]
    spacing = np.linalg.norm(lps, axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps / spacing).ravel().tolist())
    image.SetOrigin((np.array([-1.0, -1.0, 1.0]) * right_angled[:3, 3]).tolist())
    for index in ((0, 0, 0), (6, 5, 4), (3, 1, 2)):
        r, a, s = volume.geometry.index_to_world(index)
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(index), (-r, -a, s), atol=1e-9)
        assert image[index] == volume.array[index]


def test_a_scaling_transform_changes_the_volume_of_a_voxel() -> None:
    grid = geometry_of((2, 2, 2), np.diag([1, 1, 2, 1]), np.diag([1.5, 1.0, 1.0, 1.0]))
    assert grid.voxel_volume_mm3 == pytest.approx(3.0)


def test_a_volume_shares_memory_and_keeps_what_slicer_knows() -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    volume = volume_of(array, np.eye(4), parent_to_world=PARENT, modality="CT", unit="HU")
    assert np.shares_memory(volume.array, array)
    assert volume.array.T.flags.c_contiguous
    assert not volume.array.flags.writeable
    assert array.flags.writeable  # Slicer goes on using it
    assert (volume.modality, volume.unit) == ("CT", "HU")
    assert volume.array[3, 2, 1] == array[1, 2, 3]


@pytest.mark.parametrize("dtype", ["bool", ">i2", "u1", "i4", "f8"])
def test_every_scalar_type_of_slicer(dtype: str) -> None:
    array = (np.arange(24) % 2).reshape(2, 3, 4).astype(dtype)
    volume = volume_of(array, np.eye(4))
    assert volume.array.dtype.isnative
    np.testing.assert_array_equal(volume.array.T, array)


@pytest.mark.parametrize(
    ("shape", "error", "words"),
    [
        ((3, 4), GeometryError, "2 dimensions"),
        ((0, 3, 4), GeometryError, "4 × 3 × 0 voxels"),
        ((2, 3, 4, 3), InputError, "3 numbers a voxel"),
        ((5, 2, 3, 4, 1), GeometryError, "5 dimensions"),
    ],
)
def test_what_is_no_scan_is_refused_with_advice(shape: tuple[int, ...], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        volume_of(np.zeros(shape, np.int16), np.eye(4))
    assert "choose" in str(caught.value) or "load" in str(caught.value)


@pytest.mark.parametrize("matrix", [np.eye(3), np.full((4, 4), np.nan), np.vstack([np.eye(4)[:3], [0.1, 0, 0, 1]])])
def test_a_transform_that_is_not_linear_is_refused(matrix: np.ndarray) -> None:
    with pytest.raises(GeometryError, match="harden the transform"):
        geometry_of((2, 2, 2), np.eye(4), matrix)


def test_a_transform_that_flattens_is_refused() -> None:
    with pytest.raises(SingularAffineError):
        geometry_of((2, 2, 2), np.eye(4), np.diag([1.0, 1.0, 0.0, 1.0]))


# ---- segments ----------------------------------------------------------------------------------------------------------------


ORDERS = [(order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((-1, 1), repeat=3)]


def same_places(reference: Geometry, own: np.ndarray, mask: np.ndarray, start: tuple[int, int, int]) -> tuple[int, int]:
    """Check a segment voxel by voxel through the patient; how many lie inside the scan and outside."""
    layers = label_map_of([segment(mask, start, own)], reference)
    indices = np.argwhere(mask)[:, ::-1] + start
    world = indices @ own[:3, :3].T + own[:3, 3]
    expected = {tuple(round(float(n)) for n in index) for index in reference.world_to_index(world).reshape(-1, 3)}
    inside = {index for index in expected if all(0 <= n < size for n, size in zip(index, reference.shape, strict=True))}
    assert len(layers) == 1
    assert places(layers, 1) == inside
    assert sum(finding.details["voxels"] for finding in layers[0].findings) == len(expected) - len(inside)
    assert {finding.code for finding in layers[0].findings} <= {"LABELS_OUTSIDE_GRID"}
    return len(inside), len(expected) - len(inside)


@pytest.mark.parametrize(("order", "signs"), ORDERS, ids=str)
def test_every_order_of_the_axes_is_sorted_into_the_scan(order: tuple[int, ...], signs: tuple[int, ...], affine: np.ndarray) -> None:
    step = np.eye(4)
    step[:3, :3] = np.eye(3)[:, list(order)] * signs
    step[:3, 3] = 4 - step[:3, :3] @ (4, 4, 4)  # its voxel (4, 4, 4) is that of the scan
    mask = np.random.default_rng(2).random((2, 3, 4)) < 0.4
    inside, _ = same_places(Geometry((9, 9, 9), affine), affine @ step, mask, (3, 3, 4))
    assert inside == int(mask.sum()) > 4


@given(
    affine=affines(),
    place=st.sampled_from(ORDERS),
    shift=st.tuples(*[st.integers(-3, 8)] * 3),
    start=st.tuples(*[st.integers(-3, 4)] * 3),
    shape=st.tuples(*[st.integers(1, 4)] * 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=150, deadline=None)
def test_each_voxel_of_a_segment_keeps_its_place(
    affine: np.ndarray,
    place: tuple[tuple[int, ...], tuple[int, ...]],
    shift: tuple[int, ...],
    start: tuple[int, int, int],
    shape: tuple[int, int, int],
    seed: int,
) -> None:
    """The grid of the segment has the scan's voxels in any order of axes; what is in the scan is kept, the rest is said."""
    step = np.eye(4)
    step[:3, :3] = np.eye(3)[:, list(place[0])] * place[1]
    step[:3, 3] = shift
    same_places(Geometry((7, 6, 5), affine), affine @ step, np.random.default_rng(seed).random(shape) < 0.5, start)


@pytest.mark.parametrize(
    "change",
    [
        np.array([[1, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
        np.diag([2.0, 1.0, 1.0, 1.0]),
        np.array([[0.999, -0.04, 0, 0], [0.04, 0.999, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
        np.array([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
        np.diag([1.01, 1.0, 1.0, 1.0]),
    ],
    ids=["half a voxel", "double spacing", "turned", "sheared by a voxel", "a per cent"],
)
def test_another_grid_is_refused_with_what_to_do(change: np.ndarray) -> None:
    given = segment(np.ones((3, 3, 3), bool), affine=REFERENCE.affine @ change, name="tumour")
    with pytest.raises(GeometryMismatchError, match=r"'tumour' lies on another grid.*Specify geometry") as caught:
        label_map_of([given], REFERENCE)
    assert caught.value.expected == REFERENCE


def test_digits_of_a_file_do_not_make_another_grid() -> None:
    affine = np.array(REFERENCE.affine)
    affine[:3, 3] += 0.005
    (layer,) = label_map_of([segment(np.ones((2, 2, 2), bool), (1, 2, 3), affine)], REFERENCE)
    assert places((layer,), 1) == set(itertools.product((1, 2), (2, 3), (3, 4)))


def test_overlaps_give_layers_and_no_voxel_is_lost() -> None:
    big, small, apart = np.ones((3, 3, 3), bool), np.ones((1, 1, 2), np.uint8), np.ones((1, 1, 1), np.int16)
    layers = label_map_of(
        [segment(big, (1, 1, 1), name="liver"), segment(small, (3, 2, 2), name="lesion"), segment(apart, (6, 5, 4), name="cyst")], REFERENCE
    )
    assert [[one.label for one in layer.segments] for layer in layers] == [["liver", "cyst"], ["lesion"]]
    assert len(places(layers, 1)) == 27
    assert places(layers, 2) == {(3, 2, 2), (4, 2, 2)}
    assert places(layers, 3) == {(6, 5, 4)}
    assert [one.number for one in segments_of(layers)] == [1, 2, 3]


def test_segments_that_share_an_array_are_told_apart_by_their_values() -> None:
    shared = np.zeros((5, 6, 7), np.int16)
    shared[0, 0] = (5, -3, 300, 9, 307, -297, 302)
    given = [segment(shared, name=name, value=value) for name, value in (("a", 300), ("b", 5), ("c", 77))]
    (layer,) = label_map_of(given, REFERENCE)
    assert (places((layer,), 1), places((layer,), 2), places((layer,), 3)) == ({(2, 0, 0)}, {(0, 0, 0)}, set())
    assert int((layer.array != 0).sum()) == 2  # the others are nobody's


def test_a_shared_array_over_another_layer_is_taken_apart() -> None:
    shared = np.zeros((5, 6, 7), np.uint8)
    shared[0, 0, 0], shared[4, 5, 6] = 1, 2
    over = np.ones((1, 1, 1), bool)
    layers = label_map_of(
        [segment(over, (0, 0, 0), name="x"), *(segment(shared, name=n, value=v) for n, v in (("a", 1), ("b", 2)))], REFERENCE
    )
    assert [[one.label for one in layer.segments] for layer in layers] == [["x", "b"], ["a"]]
    assert places(layers, 3) == {(6, 5, 4)}


def test_a_mask_may_hold_any_number() -> None:
    (layer,) = label_map_of([segment(np.array([[[-1, 0, 255, 1]]], np.int16))], REFERENCE)
    assert places((layer,), 1) == {(0, 0, 0), (2, 0, 0), (3, 0, 0)}


def test_two_segments_with_the_same_voxels_are_both_kept() -> None:
    shared = np.ones((5, 6, 7), np.uint8)
    layers = label_map_of([segment(shared, name="a", value=1), segment(shared, name="b", value=1)], REFERENCE)
    assert [len(places(layers, n)) for n in (1, 2)] == [210, 210]


def test_names_colours_and_numbers() -> None:
    cube = np.ones((1, 1, 1), bool)
    names = ["cyst", "cyst", " ", "liver"]
    given = [segment(cube, (n, 0, 0), name=name, colour=(n / 10, 0.5, 1.0)) for n, name in enumerate(names)]
    (layer,) = label_map_of(given, REFERENCE)
    assert [(one.number, one.label) for one in layer.segments] == [(1, "cyst"), (2, "cyst (2)"), (3, "s"), (4, "liver")]
    assert [one.colour for one in layer.segments] == [(0, 128, 255), (26, 128, 255), (51, 128, 255), (77, 128, 255)]


def test_a_tag_of_an_old_segment_gives_the_codes() -> None:
    line = "c~SCT^123037004^Anatomical Structure~SCT^64033007^Kidney~SCT^7771000^Left~r~^^~^^"
    (layer,) = label_map_of([segment(np.ones((1, 1, 1), bool), tags={"TerminologyEntry": line})], REFERENCE)
    (kidney,) = layer.segments
    assert (kidney.type.value, kidney.modifier.meaning) == ("64033007", "Left")


def test_empty_segments_and_none_at_all() -> None:
    empty = BridgeSegment(id="e", name="e", array_kji=np.zeros((0, 0, 0), np.uint8), extent=EMPTY_EXTENT, ijk_to_ras=np.eye(4))
    (layer,) = label_map_of([empty, segment(np.ones((1, 1, 1), bool), name="full")], REFERENCE)
    assert [one.label for one in layer.segments] == ["e", "full"]
    assert int(layer.array.sum()) == 2
    (nothing,) = label_map_of([], REFERENCE)
    assert (nothing.segments, int(nothing.array.sum())) == ((), 0)


def test_more_segments_than_a_byte_counts() -> None:
    cube = np.ones((1, 1, 1), bool)
    given = [segment(cube, (n % 7, n // 7 % 6, n // 42), name=f"s{n}") for n in range(0, 210)] + [
        segment(cube, (n % 7, n // 7 % 6, n // 42), name=f"t{n}") for n in range(0, 60)
    ]
    layers = label_map_of(given, REFERENCE)
    assert [layer.array.dtype for layer in layers] == [np.uint16, np.uint16]
    assert all(places(layers, n + 211) == {(n % 7, n // 7 % 6, n // 42)} for n in range(60))


@pytest.mark.parametrize(
    ("array", "extent", "error"),
    [
        (np.ones((2, 2, 2), bool), (0, 1, 0, 1, 0, 2), GeometryError),
        (np.ones((2, 2, 2), np.float32), (0, 1, 0, 1, 0, 1), SegmentError),
        (np.ones((2, 2, 2), bool), EMPTY_EXTENT, GeometryError),
    ],
)
def test_arrays_that_do_not_fit_are_refused(array: np.ndarray, extent: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="segment 's'"):
        label_map_of([BridgeSegment(id="s", name="s", array_kji=array, extent=extent, ijk_to_ras=np.eye(4))], REFERENCE)


def test_segments_of_a_real_scan_that_slicer_crops(organs: LabelMap) -> None:
    """Each organ cropped to its own box, as Slicer keeps it, on the real grid."""
    given = []
    for one in organs.segments:
        where = np.argwhere(organs.array == one.number)
        low, high = where.min(axis=0), where.max(axis=0)
        box = organs.array[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))] == one.number
        given.append(segment(np.ascontiguousarray(box.T), tuple(int(n) for n in low), organs.geometry.affine, name=one.label))
    (layer,) = label_map_of(given, organs.geometry)
    for number, one in enumerate(organs.segments, start=1):
        np.testing.assert_array_equal(layer.array == number, organs.array == one.number)


# ---- small boxes to hand over ------------------------------------------------------------------------------------------------


@given(labels=hnp.arrays(np.uint16, st.tuples(*[st.integers(1, 6)] * 3), elements=st.sampled_from((0, 0, 0, 0, 1, 300))))
@settings(max_examples=80, deadline=None)
def test_the_box_is_the_smallest_and_goes_back(labels: np.ndarray) -> None:
    made = LabelMap(labels, Geometry(labels.shape, np.eye(4)), (Segment(1, "a"), Segment(300, "b")))
    box, extent = cropped(made)
    where = np.argwhere(labels)
    if not len(where):
        assert extent == EMPTY_EXTENT
        assert box.size == 0
    else:
        expected = [bound for axis in range(3) for bound in (where[:, axis].min(), where[:, axis].max())]
        assert list(extent) == expected
        assert np.shares_memory(box, made.array)
    np.testing.assert_array_equal(padded(box, extent, labels.shape[::-1]), labels.T)


@pytest.mark.parametrize("extent", [(0, 1, 0, 1, 0, 2), (-1, 0, 0, 1, 0, 1), (2, 3, 0, 1, 0, 1)])
def test_a_box_that_does_not_fit_is_refused(extent: Any) -> None:
    with pytest.raises(GeometryError, match="does not fill the extent"):
        padded(np.ones((2, 2, 2), np.uint8), extent, (3, 3, 3))
