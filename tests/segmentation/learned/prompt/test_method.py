"""The method `prompt` as every interface sees it."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import ParameterError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.method.schema import parameters_of
from medseg.method.settings import RunSettings
from medseg.segmentation.learned.prompt.method import prompt

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
