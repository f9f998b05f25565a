"""65,536 segments: more than 16 bits hold. Every method gives a defined answer or a named error, never a wrapped number."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from test_methods import ALL, arguments

from medseg.core.errors import InputError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.method import Stage
from medseg.method.schema import parameters_of
from medseg.segmentation.segment import segment

COUNT = 65_536
CHOSEN = ["s1", "s40000", f"s{COUNT}"]
TOO_MANY = {"snap-to-edges", "refine-boundary"}  # every pair of neighbours is judged: they say how many they take
NEW_NUMBERS = {"instances", "panoptic"}
POSTPROCESS = sorted(name for name, method in ALL.items() if method.stage is Stage.POSTPROCESS)


@functools.cache
def crowd() -> tuple[LabelMap, Volume]:
    """Pairs of voxels, a segment each; the number of a segment is no multiple of its place."""
    shape = (64, 64, 34)
    grid = Geometry(shape, np.diag([1.0, 0.8, 2.0, 1.0]))
    numbers = np.zeros(shape, np.uint32)
    flat = numbers.reshape(-1, order="F")
    flat[: 2 * COUNT] = np.repeat(np.random.default_rng(0).permutation(COUNT) + 1, 2)
    array = flat.reshape(shape, order="F")
    segments = tuple(Segment(number, f"s{number}") for number in range(1, COUNT + 1))
    scan = np.random.default_rng(1).normal(40, 20, shape).astype(np.int16)
    return LabelMap(array, grid, segments), Volume(np.asfortranarray(scan), grid, "CT", "HU")


@pytest.mark.parametrize("name", POSTPROCESS)
def test_65536_segments_come_out_or_are_refused_by_name(name: str) -> None:
    label_map, volume = crowd()
    method = ALL[name]
    given: dict[str, Any] = {key: CHOSEN if key == "segments" else value for key, value in arguments(name, label_map.geometry).items()}
    if "segments" in {info.name for info in parameters_of(method.params)}:
        given["segments"] = CHOSEN
    given |= {"constrain": {"inside": ["s7"], "organs": None}, "panoptic": {"things": ["s7"], "things_map": None}}.get(name, {})
    call = functools.partial(method, label_map, method.build(given), volume=volume)
    if name in TOO_MANY:
        with pytest.raises(InputError, match=r"\d+ segments cannot be moved at once"):
            call()
        return
    found = call()
    assert found.geometry == label_map.geometry
    assert int(found.array.max()) <= max(segment.number for segment in found.segments)
    if name not in NEW_NUMBERS:
        assert [segment.number for segment in found.segments] == [segment.number for segment in label_map.segments]
        others = ~np.isin(label_map.array, [1, 40_000, COUNT, 7])
        kept = found.array[others] == label_map.array[others]
        assert kept.mean() > 0.99  # only what was chosen, and what it grew into, changes


def test_65536_markers_flood_as_themselves() -> None:
    label_map, volume = crowd()
    seeds = np.where(np.arange(label_map.array.size).reshape(label_map.array.shape, order="F") % 2 == 0, label_map.array, 0)
    markers = LabelMap(np.asfortranarray(seeds), label_map.geometry, label_map.segments)
    found = segment(volume, "watershed", markers=markers)
    kept = seeds > 0
    np.testing.assert_array_equal(found.array[kept], seeds[kept])
    assert len(np.unique(found.array[found.array > 0])) == COUNT
