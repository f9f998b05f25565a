"""The method `prompt` as every interface sees it."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import GeometryMismatchError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.schema import parameters_of
from medseg.method.settings import RunSettings
from medseg.segmentation.learned.prompt.method import prompt
from medseg.segmentation.prompt_points import points_from

pytest.importorskip("torch")

SCAN = Volume(np.zeros((20, 20, 20), np.int16), Geometry((20, 20, 20), np.eye(4)), "CT", "HU")


def test_parameters_are_described_once_for_all_interfaces() -> None:
    """Points are repeatable points in mm, the previous mask is a label map, texts are texts."""
    kinds = {info.name: (info.kind, info.is_list, info.unit) for info in parameters_of(prompt.params)}
    assert kinds == {
        "model": ("text", False, ""),
        "points": ("point", True, "mm RAS"),
        "background_points": ("point", True, "mm RAS"),
        "box_corners": ("point", True, "mm RAS"),
        "previous": ("label-map", False, ""),
        "structures": ("text", True, ""),
        "label": ("text", False, ""),
        "seed_map": ("label-map", False, ""),
        "from_segments": ("text", True, ""),
        "seed_points": ("integer", False, ""),
        "seed_background_points": ("integer", False, ""),
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "say what to segment"),
        ({"background_points": [(1, 1, 1)]}, "say what to segment"),
        ({"points": [(1, 1)]}, "points"),
        ({"points": [(1, 1, float("nan"))]}, "finite"),
    ],
)
def test_prompts_that_say_nothing_are_refused_before_anything_runs(given: dict[str, object], words: str) -> None:
    """The message names the parameter or what to give."""
    with pytest.raises(ParameterError, match=words):
        prompt.build(given)


def test_points_outside_the_scan_and_names_are_refused() -> None:
    """click-3d knows no structures; a point outside is named with its place."""
    settings = RunSettings("cpu")
    with pytest.raises(ParameterError, match=r"\(50\.0, 1\.0, 1\.0\) mm RAS lies outside the scan"):
        prompt(SCAN, prompt.build({"points": ["50,1,1"]}), settings=settings)
    with pytest.raises(ParameterError, match="knows no structures by name"):
        prompt(SCAN, prompt.build({"structures": ["liver"]}), settings=settings)


def seeds_and_scan() -> tuple[LabelMap, Volume]:
    """Two balls that stand out of a scan, and a smaller mask inside each, as a threshold might find it."""
    grid = Geometry((60, 40, 40), np.eye(4))
    places = np.indices(grid.shape)
    one, two = (np.sqrt(((places - np.array(c)[:, None, None, None]) ** 2).sum(axis=0)) for c in ((16, 20, 20), (44, 20, 20)))
    scan = np.where((one < 9) | (two < 8), 120, 0) + np.random.default_rng(0).normal(0, 5, grid.shape)
    array = np.where(one < 5, 7, np.where(two < 4, 300, 0)).astype(np.uint16)
    segments = (Segment(7, "right"), Segment(300, "left"), Segment(301, "absent"))
    return LabelMap(array, grid, segments), Volume(scan.astype(np.int16), grid, "CT", "HU")


def test_a_mask_of_a_classical_method_becomes_clicks() -> None:
    """Each segment of the seed map gives one of its name and number, the same as by the click written out."""
    seeds, scan = seeds_and_scan()
    settings = RunSettings("cpu")
    found = prompt(scan, prompt.build({"seed_map": seeds}), settings=settings)
    assert [(s.number, s.label) for s in found.segments] == [(7, "right"), (300, "left")]
    for label in ("right", "left"):
        points = list(points_from(seeds, label).inside_mm)
        clicked = prompt(scan, prompt.build({"points": points}), settings=settings)
        assert np.array_equal(found.mask(label), (clicked.array != 0) & ((found.array == 0) | found.mask(label)))
        assert found.mask(label).sum() > seeds.mask(label).sum()
    assert found.provenance is not None
    assert found.provenance.steps[0].parameters["seed_map"] is True
    one = prompt(scan, prompt.build({"seed_map": seeds, "from_segments": ["left"], "seed_background_points": 2}), settings=settings)
    assert [s.label for s in one.segments] == ["left"]


def test_seed_maps_that_do_not_fit_are_refused() -> None:
    seeds, scan = seeds_and_scan()
    settings = RunSettings("cpu")
    with pytest.raises(ParameterError, match="give that label map too"):
        prompt.build({"points": [(1, 1, 1)], "from_segments": ["left"]})
    with pytest.raises(ParameterError, match="makes the points itself"):
        prompt.build({"points": [(1, 1, 1)], "seed_map": seeds})
    with pytest.raises(ParameterError, match="no voxel"):
        prompt(scan, prompt.build({"seed_map": seeds, "from_segments": ["absent"]}), settings=settings)
    with pytest.raises(GeometryMismatchError, match="another grid"):
        prompt(SCAN, prompt.build({"seed_map": seeds}), settings=settings)
