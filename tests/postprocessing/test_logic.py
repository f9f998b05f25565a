"""Logical operations against plain set operations of the masks."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import GeometryMismatchError, ParameterError, UnknownSegmentError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.postprocessing.postprocess import postprocess

SHAPE = (9, 8, 7)
SETS = {
    "union": np.logical_or,
    "intersection": np.logical_and,
    "subtract": lambda a, b: a & ~b,
    "xor": np.logical_xor,
}


def scattered(seed: int, affine: np.ndarray, segments: dict[str, int]) -> LabelMap:
    rng = np.random.default_rng(seed)
    array = rng.choice([0, *segments.values()], SHAPE).astype(np.uint16)
    return LabelMap(array, Geometry(SHAPE, affine), tuple(Segment(number, label) for label, number in segments.items()))


@pytest.mark.parametrize("operation", SETS)
def test_segments_meet_those_of_their_name(affine: np.ndarray, operation: str) -> None:
    """Where nothing else holds a voxel, the result is the set operation; what others hold they keep."""
    one, two = scattered(1, affine, {"liver": 1, "spleen": 2}), scattered(2, affine, {"liver": 7, "spleen": 300})
    found = postprocess(one, "combine", operation=operation, other=two)
    for label, rival in (("liver", "spleen"), ("spleen", "liver")):
        wanted = SETS[operation](one.mask(label), two.mask(label))
        free = one.mask(label) | ~one.mask(rival)
        assert np.array_equal(found.mask(label), wanted & free)
    held = [f for f in found.findings if f.code == "HELD_BY_OTHERS"]
    assert len(held) == (2 if operation in ("union", "xor") else 0)
    assert found.segments == one.segments


@pytest.mark.parametrize("operation", SETS)
def test_over_others_the_operation_is_complete(operation: str) -> None:
    one, two = scattered(3, np.eye(4), {"liver": 1, "spleen": 2}), scattered(4, np.eye(4), {"liver": 1})
    found = postprocess(one, "combine", operation=operation, other=two, segments=["liver"], over_others=True)
    wanted = SETS[operation](one.mask("liver"), two.mask("liver"))
    assert np.array_equal(found.mask("liver"), wanted)
    assert np.array_equal(found.mask("spleen"), one.mask("spleen") & ~wanted)


def test_several_others_count_as_one_mask() -> None:
    one, two = scattered(5, np.eye(4), {"tumour": 1}), scattered(6, np.eye(4), {"liver": 1, "spleen": 2, "lung": 3})
    found = postprocess(one, "combine", operation="intersection", other=two, other_segments=["liver", "lung"])
    assert np.array_equal(found.mask("tumour"), one.mask("tumour") & (two.mask("liver") | two.mask("lung")))


def test_segments_of_one_map_are_merged() -> None:
    one = scattered(7, np.eye(4), {"liver": 1, "tumour": 2, "spleen": 3})
    found = postprocess(one, "combine", operation="union", segments=["liver"], other_segments=["tumour"])
    assert np.array_equal(found.mask("liver"), one.mask("liver") | one.mask("tumour"))
    assert not found.mask("tumour").any()
    assert np.array_equal(found.mask("spleen"), one.mask("spleen"))
    assert found.findings == ()


def test_a_union_takes_over_what_only_the_other_has() -> None:
    one, two = scattered(8, np.eye(4), {"liver": 1, "spleen": 200}), scattered(9, np.eye(4), {"liver": 1, "aorta": 200, "lung": 60_000})
    found = postprocess(one, "combine", operation="union", other=two)
    assert [(s.number, s.label) for s in found.segments] == [(1, "liver"), (200, "spleen"), (201, "aorta"), (60_000, "lung")]
    assert np.array_equal(found.mask("aorta"), two.mask("aorta") & (one.array == 0))
    small = LabelMap(one.array.astype(np.uint8), one.geometry, one.segments)
    assert np.array_equal(postprocess(small, "combine", operation="union", other=two).array, found.array)


def test_a_segment_that_loses_everything_is_told() -> None:
    one = scattered(10, np.eye(4), {"liver": 1})
    found = postprocess(one, "combine", operation="subtract", other=one)
    assert [finding.code for finding in found.findings] == ["SEGMENT_EMPTY"]
    absent = postprocess(one, "combine", operation="intersection", other=scattered(1, np.eye(4), {"spleen": 1}))
    assert not absent.array.any()


def test_what_cannot_be_meant_is_refused() -> None:
    one = scattered(11, np.eye(4), {"liver": 1, "spleen": 2})
    with pytest.raises(ParameterError, match="another label map, or the segments of this one"):
        postprocess(one, "combine", operation="union")
    with pytest.raises(ParameterError, match="name it in segments"):
        postprocess(one, "combine", operation="union", other_segments=["spleen"])
    with pytest.raises(UnknownSegmentError, match="kidney"):
        postprocess(one, "combine", operation="subtract", other=one, other_segments=["kidney"])
    moved = scattered(11, np.diag([1, 1, 1.1, 1]), {"liver": 1})
    with pytest.raises(GeometryMismatchError, match="another grid"):
        postprocess(one, "combine", operation="subtract", other=moved)
