"""A small case on disk: a scan and a segmentation of two balls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.io.write import write


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """segmentation, image: a liver with a tumour beside it, as files."""
    tmp_path = tmp_path_factory.mktemp("case")
    grid = Geometry((48, 40, 24), np.diag([-1.5, -1.5, 3.0, 1.0]))
    points = grid.index_to_world(np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1))
    labels = np.zeros(grid.shape, np.uint8)
    labels[np.linalg.norm(points - (-24, -30, 36), axis=-1) <= 18] = 1
    labels[np.linalg.norm(points - (-54, -30, 36), axis=-1) <= 8] = 2
    array = np.where(labels == 1, 60, np.where(labels == 2, 90, -100)).astype(np.int16)
    label_map = LabelMap(labels, grid, (Segment(1, "liver"), Segment(2, "tumour")))
    image = write(Volume(array, grid, "CT", "HU"), tmp_path / "scan" / "image.nii.gz")
    return write(label_map, tmp_path / "scan" / "labels.seg.nrrd"), image
