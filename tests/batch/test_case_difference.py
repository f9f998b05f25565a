"""How two results of one case differ: in every format of the segmentation, and in what the table names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from medseg.batch.case_difference import difference_between
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.io.write import write

GRID = Geometry((9, 8, 7), np.array([[-1.0, 0, 0, 30], [0, 1.5, 0, -20], [0, 0, 2.5, 5], [0, 0, 0, 1]]))
ROW = {"label": "bright", "number": 1, "volume_ml": 0.225, "mean": 60.0}
FORMATS = ("nii.gz", "seg.nrrd", "nrrd")
NAMES = [f"segmentation.{name}" for name in FORMATS]


def case(folder: Path, rows: list[dict] | None = None, *, cut: tuple[str, ...] = (), grid: Geometry = GRID) -> Path:
    """The folder of a case; two voxels are missing in the formats of `cut`."""
    folder.mkdir()
    for name in FORMATS:
        array = np.zeros(grid.shape, np.uint8, order="F")
        array[2:5, 2:6, 1:6] = 1
        if name in cut:
            array[4, 5, 4:6] = 0
        write(LabelMap(array, grid, (Segment(1, "bright"),)), folder / f"segmentation.{name}")
    (folder / "measurements.json").write_text(json.dumps({"segments": [ROW] if rows is None else rows}))
    return folder


@pytest.mark.parametrize("cut", [("nii.gz",), ("seg.nrrd",), ("nrrd",), ("seg.nrrd", "nrrd")])
def test_a_difference_in_any_format_is_found_and_its_file_named(tmp_path, cut):
    found = difference_between(case(tmp_path / "a"), case(tmp_path / "b", cut=cut), NAMES)
    assert found is not None
    assert found.voxels == 2
    assert found.file.removeprefix("segmentation.") in cut
    assert f"2 voxels differ in {found.file} around R " in str(found)
    assert found.where_ras_mm is not None
    np.testing.assert_allclose(found.where_ras_mm, (GRID.affine @ [4, 5, 4.5, 1])[:3], atol=1.3)
    assert json.loads(json.dumps(found.to_dict()))["file"] == found.file


def test_what_is_the_same_in_every_format_is_no_difference(tmp_path):
    assert difference_between(case(tmp_path / "a"), case(tmp_path / "b"), NAMES) is None


@pytest.mark.parametrize("quantity", ["mean", "volume_ml"])
@pytest.mark.parametrize("is_before", [True, False])
def test_a_quantity_that_one_table_does_not_name_differs_from_one_without_a_value(tmp_path, quantity, is_before):
    without = {name: value for name, value in ROW.items() if name != quantity}
    rows = [without], [{**ROW, quantity: None}]
    first, second = rows if is_before else rows[::-1]
    found = difference_between(case(tmp_path / "a", first), case(tmp_path / "b", second), NAMES)
    assert found is not None
    values = ("not named", None) if is_before else (None, "not named")
    assert (found.label, found.quantity, found.before, found.now, found.voxels) == ("bright", quantity, *values, 0)
    said = "not named, now none" if is_before else "none, now not named"
    assert str(found) == f"bright: {quantity} {said}; all voxels are the same"


def test_a_segment_without_any_quantity_that_went_is_a_difference(tmp_path):
    found = difference_between(case(tmp_path / "a", [ROW, {"label": "empty"}]), case(tmp_path / "b"), NAMES)
    assert found is not None
    assert (found.label, found.before, found.now) == ("empty", "empty", "not named")


def test_another_grid_without_a_segment_in_the_tables_is_a_difference(tmp_path):
    other = Geometry((9, 8, 6), GRID.affine)
    found = difference_between(case(tmp_path / "a", []), case(tmp_path / "b", [], grid=other), NAMES)
    assert found is not None
    assert found.voxels == 9 * 8 * 6
    assert str(found).startswith("background: none ml, now none ml")
