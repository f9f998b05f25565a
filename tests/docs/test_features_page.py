"""docs/features.md lists every feature there is, with its unit."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.measurement.intensity import INTENSITY_FEATURES, intensity_features
from medseg.measurement.shape import SHAPE_FEATURES, shape_features
from medseg.measurement.spatial import SPATIAL_FEATURES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "features.md"
UNITS = {"ml": "ml", "mm": "mm", "mm²": "mm2", "1/mm": "/mm", "": "", "u": "HU", "u²": "HU2", "bit": "bit"}
UNITS |= {"unit × mm³": "HU.mm3", "u² × mm³": "HU2.mm3"}


def rows(heading: str) -> dict[str, list[str]]:
    section = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row for row in cells}


def test_every_feature_has_a_row_with_its_unit() -> None:
    grid = Geometry((3, 3, 3), np.eye(4))
    array = np.zeros((3, 3, 3), np.uint8)
    array[1, 1, 1:] = 1
    label_map = LabelMap(array, grid, (Segment(1, "tumour"),))
    volume = Volume(np.arange(27.0).reshape(3, 3, 3), grid, "CT", "HU")
    shape, intensity = shape_features(label_map, volume, autocorrelation=True)[1], intensity_features(label_map, volume)[1]
    assert tuple(rows("Shape")) == SHAPE_FEATURES + SPATIAL_FEATURES == tuple(shape)
    assert tuple(rows("Intensity")) == INTENSITY_FEATURES == tuple(intensity)
    for name, row in (rows("Shape") | rows("Intensity")).items():
        assert UNITS[row[1]] == (shape | intensity)[name].unit, name
