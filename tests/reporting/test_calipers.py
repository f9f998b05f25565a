"""Pictures of lesions: the calipers lie where the numbers say, on every kind of grid."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.measurement.lesions import LesionTable, lesions
from medseg.reporting.calipers import calipers_png, lesion_window
from medseg.reporting.overlay import CT_LUNG, CT_SOFT_TISSUE

YELLOW, BLUE = (255, 210, 63), (92, 214, 255)
BAND = (82, 82 + 840)  # rows of the slice on the page


def bar(affine: np.ndarray, modality: str = "CT", inside: float = 60.0, around: float = 0.0) -> tuple[LesionTable, Volume]:
    """A bar of 24 × 6 voxels in i and j, three slices high, in the middle of a scan."""
    geometry = Geometry((64, 64, 9), affine)
    array = np.zeros(geometry.shape, np.uint8)
    array[20:44, 29:35, 3:6] = 1
    image = np.where(array > 0, inside, around).astype(np.float32)
    volume = Volume(image, geometry, modality, "HU" if modality == "CT" else "")
    return lesions(LabelMap(array, geometry, (Segment(1, "tumour"),)), volume), volume


@pytest.mark.parametrize("tilt", [0.0, 0.6])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (-1, 1, -1)])
def test_calipers_have_their_lengths_on_the_page(decode, signs, tilt) -> None:
    affine = np.diag([1.5 * signs[0], 1.5 * signs[1], 4.0 * signs[2], 1.0])
    affine[1, 2] = tilt
    table, volume = bar(affine)
    page = decode(calipers_png(table, table.lesions[0], volume))
    lesion = table.lesions[0]
    scale = 840 / (1.9 * float(np.ptp([end[0] for end in lesion.longest.ends_mm])))  # pixels a mm: the bar lies along R
    for colour, diameter in ((YELLOW, lesion.longest), (BLUE, lesion.perpendicular)):
        drawn = np.argwhere(np.abs(page[BAND[0] : BAND[1]] - colour).max(axis=-1) < 50)
        way = np.subtract(diameter.ends_mm[1], diameter.ends_mm[0])
        along = np.array([-way[1], -way[0]]) / np.linalg.norm(way[:2])  # rows go to the back, columns to the left
        reach = _unbroken(drawn[_on_line(drawn, along)] @ along)
        assert reach == pytest.approx(diameter.length_mm * scale, abs=6)


def _unbroken(places: np.ndarray) -> float:
    """The longest stretch without a gap wider than the other caliper: the length in letters stands beyond an end of the line."""
    pieces = np.split(np.sort(places), np.flatnonzero(np.diff(np.sort(places)) > 10) + 1)
    return max(float(np.ptp(piece)) for piece in pieces)


def _on_line(points: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Points within a few pixels of the line through most of them: the letters of the length lie beside it."""
    across = points @ np.array([-along[1], along[0]])
    counts, edges = np.histogram(across, bins=np.arange(across.min(), across.max() + 3, 2))
    middle = edges[counts.argmax()] + 1
    return np.abs(across - middle) < 3


def test_the_window_suits_the_tissue_and_the_modality() -> None:
    def window(*scan: object) -> tuple[float, float]:
        table, volume = bar(np.diag([1.0, 1.0, 3.0, 1.0]), *scan)  # type: ignore[arg-type]
        return lesion_window(volume, table.layers[0], table.lesions[0], (0.0, 0.0, 64.0, 64.0))

    assert window("CT", 60.0, 0.0) == CT_SOFT_TISSUE
    assert window("CT", 30.0, -850.0) == CT_LUNG
    assert window("PT", 8.0, 1.0) == (4.0, 8.0)
    assert window("PT", 0.0, 0.0) == (0.5, 1.0)
    assert window("MR", 900.0, 100.0) == (500.0, 800.0)
    assert window("", 50.0, -1000.0) == CT_LUNG
    centre, width = window("MR", float("nan"), float("nan"))
    assert (centre, width) == (0.0, 1.0)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_picture_of_every_plane_and_without_a_scan(decode, plane) -> None:
    array = np.zeros((30, 30, 30), np.uint8)
    array[10:20, 12:17, 8:22] = 1
    array[2, 2, 2] = 1
    label_map = LabelMap(array, Geometry(array.shape, np.diag([-1.0, 1.0, 1.2, 1.0])), (Segment(1, "tumour"),))
    for lesion in (table := lesions(label_map, plane=plane)):
        page = decode(calipers_png(table, lesion))
        assert page.shape[1] == 872
        assert page.shape[0] <= 840 + 82 + 62
