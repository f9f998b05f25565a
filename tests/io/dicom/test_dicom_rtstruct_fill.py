"""Contours brought onto grids: masks of other tools, formulas, and grids of every kind."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from made_structures import CLOSED, Contours, circle, rectangle, write_structures
from matplotlib.path import Path as Polygon

from medseg.core.errors import GeometryMismatchError, InputError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.io.dicom.contours import StructureSet
from medseg.io.dicom.rtstruct_read import default_geometry, rasterise, read_structures

LPS = np.array([-1.0, -1.0, 1.0])
LEVELS = np.arange(10) * 2.0
SQUARE = rectangle((-20, -15), (20, 15), 0)


def _stack(ring: np.ndarray, levels: np.ndarray = LEVELS) -> Contours:
    return [(CLOSED, np.column_stack([ring[:, :2], np.full(len(ring), z)])) for z in levels]


def _structures(tmp_path: Path, **rois: Contours) -> StructureSet:
    return read_structures(write_structures(tmp_path / "rs.dcm", dict(enumerate(rois.values(), start=1)), dict(enumerate(rois, start=1))))


def _grid(step: float = 2.0, first: float = -10.0) -> Geometry:
    affine = np.diag([-1.0, -1.0, step, 1.0])
    affine[:3, 3] = (39.75, 39.75, first)
    return Geometry((80, 80, 20), affine)


def _volume_ml(layers: tuple[LabelMap, ...], label: str) -> float:
    (layer,) = (layer for layer in layers if label in [segment.label for segment in layer.segments])
    return float(layer.mask(label).sum()) * layer.geometry.voxel_volume_mm3 / 1000


def _codes(layers: tuple[LabelMap, ...]) -> set[str]:
    return {finding.code for finding in layers[0].findings}


@pytest.mark.parametrize("case", ["tumour_sts_002", "tumour_sts_019", "tumour_sts_025"])
@pytest.mark.parametrize("image", ["CT", "MR_T1", "PET"])
def test_tumours_give_the_reference_mask_voxel_by_voxel(shared_data: Path, case: str, image: str) -> None:
    mask = nibabel.load(shared_data / case / "reference" / f"{image}_mask.nii.gz")
    reference = np.asarray(mask.dataobj) > 0
    structures = read_structures(shared_data / case / "rtstruct" / f"{image}_RS.dcm")
    (layer,) = rasterise(structures, Geometry(reference.shape, mask.affine))
    assert np.array_equal(layer.array > 0, reference)
    assert not layer.findings


def test_the_planning_system_s_structures_without_their_scan(shared_data: Path) -> None:
    structures = read_structures(shared_data / "rtstruct_breast_tps" / "rtss.dcm")
    layers = rasterise(structures)
    assert sum(len(layer.segments) for layer in layers) == 10
    assert _volume_ml(layers, "Areola") == 0
    for roi in structures.rois:
        if roi.volume_ml is not None:
            assert _volume_ml(layers, roi.name) == pytest.approx(roi.volume_ml, rel=0.005)
    assert "GRID_FROM_CONTOURS" in _codes(layers)


def _contours_on(geometry: Geometry, rings: list[np.ndarray], planes: range) -> Contours:
    """Rings given in voxels (i, j), drawn on planes of a grid, in LPS mm."""
    return [
        (CLOSED, geometry.index_to_world(np.column_stack([ring, np.full(len(ring), float(k))])) * LPS) for k in planes for ring in rings
    ]


def test_every_grid_is_filled_as_matplotlib_fills_it(tmp_path: Path, affine: np.ndarray) -> None:
    geometry = Geometry((31, 27, 8), affine)
    outer, hole = circle(10.3, 0, (14.2, 12.9))[:, :2], circle(4.1, 0, (12.7, 13.8))[:, :2]
    (layer,) = rasterise(_structures(tmp_path, organ=_contours_on(geometry, [outer, hole], range(2, 6))), geometry)
    centres = np.stack(np.meshgrid(np.arange(31), np.arange(27), indexing="ij"), axis=-1).reshape(-1, 2)
    plane = (Polygon(outer).contains_points(centres) ^ Polygon(hole).contains_points(centres)).reshape(31, 27)
    expected = np.zeros(geometry.shape, bool)
    expected[:, :, 2:6] = plane[:, :, None]
    assert np.array_equal(layer.array > 0, expected)
    assert not layer.findings


def test_structures_that_overlap_lie_in_layers(tmp_path: Path) -> None:
    layers = rasterise(
        _structures(tmp_path, body=_stack(circle(30, 0)), organ=_stack(circle(10, 0)), other=_stack(circle(5, 0, (18, 0)))), _grid()
    )
    assert [[segment.label for segment in layer.segments] for layer in layers] == [["body"], ["organ", "other"]]
    assert [segment.number for layer in layers for segment in layer.segments] == [1, 2, 3]
    assert layers[0].source is not None
    assert layers[0].source.format == "dicom-rtstruct"


def test_an_slice_without_a_contour_stays_empty_and_is_named(tmp_path: Path) -> None:
    structures = _structures(tmp_path, organ=_stack(SQUARE, LEVELS[::2]))
    layers = rasterise(structures, _grid())
    assert _volume_ml(layers, "organ") == pytest.approx(1200 * 10 / 1000)
    (finding,) = layers[0].findings
    assert finding.code == "CONTOUR_GAPS"
    assert finding.details["missing_planes"] == 4
    assert (finding.details["drawn_ml"], finding.details["filled_ml"]) == (pytest.approx(12), pytest.approx(24))


def test_gaps_are_filled_by_shapes_that_change_evenly_when_asked(tmp_path: Path) -> None:
    cone = [(CLOSED, circle(8 + z, z)) for z in LEVELS[::3]]
    layers = rasterise(_structures(tmp_path, organ=cone), _grid(), interpolate=True)
    areas = (layers[0].array > 0).sum(axis=(0, 1))[5:15]
    assert areas == pytest.approx(np.pi * (8 + LEVELS) ** 2, rel=0.02)
    assert "CONTOUR_GAPS_FILLED" in _codes(layers)
    assert "CONTOUR_GAPS" not in _codes(layers)


def test_two_parts_are_not_joined_by_interpolation(tmp_path: Path) -> None:
    levels = np.array([0.0, 2, 4, 60, 62, 64])
    grid = _grid(first=0)
    layers = rasterise(_structures(tmp_path, organ=_stack(SQUARE, levels)), Geometry((80, 80, 40), grid.affine), interpolate=True)
    assert np.flatnonzero(layers[0].array.any(axis=(0, 1))).tolist() == [0, 1, 2, 30, 31, 32]


@pytest.mark.parametrize("shift", [0.7, 1.0, -0.5])
def test_contours_between_slices_go_to_the_nearest_one(tmp_path: Path, shift: float) -> None:
    layers = rasterise(_structures(tmp_path, organ=_stack(SQUARE, LEVELS + shift)), _grid())
    assert _volume_ml(layers, "organ") == pytest.approx(24)
    (finding,) = layers[0].findings
    assert finding.code == "CONTOURS_OFF_PLANES"
    assert finding.details["off_mm"] == pytest.approx(abs(shift), abs=0.01)


@pytest.mark.parametrize("step", [0.7, 1.3, 3.1])
def test_contours_of_another_series_keep_their_volume_on_a_finer_or_coarser_grid(tmp_path: Path, step: float) -> None:
    contours = [(CLOSED, circle(np.sqrt(18**2 - z**2), z)) for z in np.arange(-17.3, 18, 2.0)]
    structures = _structures(tmp_path, ball=contours)
    grid = Geometry((80, 80, 80), _grid(step, -25.05).affine)
    for interpolate in (False, True):
        layers = rasterise(structures, grid, interpolate=interpolate)
        assert _volume_ml(layers, "ball") == pytest.approx(4 / 3 * np.pi * 18**3 / 1000, rel=0.03)


@pytest.mark.parametrize("interpolate", [False, True])
def test_contours_across_the_grid_fill_it_as_prisms(tmp_path: Path, interpolate: bool) -> None:
    x = np.arange(-14.0, 15, 2)
    sagittal = [(CLOSED, circle(np.sqrt(15**2 - z**2), z)[:, [2, 0, 1]]) for z in x]
    grid = _grid(1.5, -14.0)
    layers = rasterise(_structures(tmp_path, ball=sagittal), grid, interpolate=interpolate)
    assert _volume_ml(layers, "ball") == pytest.approx(4 / 3 * np.pi * 15**3 / 1000, rel=0.02)
    centre = layers[0].geometry.index_to_world(np.argwhere(layers[0].array > 0)).mean(axis=0)
    assert np.abs(centre).max() < 0.6
    assert _codes(layers) >= {"CONTOURS_ACROSS_GRID"}


def test_an_oblique_box_fills_an_axial_grid(tmp_path: Path) -> None:
    a, b = np.radians((25, 40))
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    )
    contours = [(CLOSED, rectangle((-12, -7), (12, 7), z) @ turn.T) for z in np.arange(-8.0, 9, 2)]
    grid = Geometry((50, 50, 50), np.array([[-0.9, 0, 0, 22], [0, -0.9, 0, 22], [0, 0, 0.9, -22], [0, 0, 0, 1.0]]))
    layers = rasterise(_structures(tmp_path, box=contours), grid)
    points = (grid.index_to_world(np.stack(np.indices(grid.shape), axis=-1)) * LPS) @ turn
    expected = (np.abs(points) < (12, 7, 9)).all(axis=-1)
    assert ((layers[0].array > 0) != expected).sum() <= 0.001 * expected.sum()
    assert structures_volume(tmp_path) == pytest.approx(24 * 14 * 18 / 1000, rel=1e-3)


def structures_volume(tmp_path: Path) -> float | None:
    return read_structures(tmp_path / "rs.dcm").rois[0].volume_ml


def test_what_lies_beyond_the_scan_is_named(tmp_path: Path) -> None:
    layers = rasterise(_structures(tmp_path, organ=_stack(SQUARE + np.array([35, 0, 0]))), _grid())
    (finding,) = layers[0].findings
    assert finding.code == "CONTOURS_OUTSIDE_GRID"
    assert finding.details["contour_volume_ml"] == pytest.approx(24)
    assert finding.details["volume_ml"] == pytest.approx(_volume_ml(layers, "organ"))
    assert 10 < finding.details["volume_ml"] < 17


def test_regions_without_volume_are_segments_without_voxels_and_doubtful_ones_are_left_out(tmp_path: Path) -> None:
    across = [(CLOSED, ring[:, [2, 0, 1]]) for _, ring in _stack(circle(9, 0))]
    structures = _structures(tmp_path, empty=[], mixed=[*_stack(SQUARE), *across], organ=_stack(SQUARE))
    (layer,) = rasterise(structures, _grid())
    assert [segment.label for segment in layer.segments] == ["empty", "organ"]
    assert "CONTOURS_NOT_PARALLEL" in _codes((layer,))


def test_an_roi_number_of_zero_renumbers_all(tmp_path: Path) -> None:
    structures = read_structures(write_structures(tmp_path / "rs.dcm", {0: _stack(SQUARE), 5: []}))
    (layer,) = rasterise(structures, _grid())
    assert [(segment.number, segment.label) for segment in layer.segments] == [(1, "roi 0"), (2, "roi 5")]
    assert "ROIS_RENUMBERED" in _codes((layer,))


def test_another_frame_of_reference_is_refused_unless_allowed(tmp_path: Path) -> None:
    structures = _structures(tmp_path, organ=_stack(SQUARE))
    other = Geometry(_grid().shape, _grid().affine, "1.2.3")
    with pytest.raises(GeometryMismatchError, match="another frame of reference"):
        rasterise(structures, other)
    assert _volume_ml(rasterise(structures, other, any_frame=True), "organ") == pytest.approx(24)


def test_the_grid_made_for_contours(tmp_path: Path) -> None:
    structures = _structures(tmp_path, organ=_stack(SQUARE), small=_stack(circle(4, 0, (50, 3))))
    grid = default_geometry(structures)
    assert grid.orientation == "LPS"
    assert grid.spacing_mm[2] == pytest.approx(2)
    assert grid.spacing_mm[0] == pytest.approx(np.sqrt(np.pi * 16) / 40, rel=1e-3)
    layers = rasterise(structures, grid)
    assert "GRID_FROM_CONTOURS" in _codes(layers)
    assert _volume_ml(layers, "organ") == pytest.approx(24, rel=0.005)
    assert _volume_ml(layers, "small") == pytest.approx(np.pi * 16 * 20 / 1000, rel=0.005)
    assert default_geometry(structures, pixel_mm=2.0).spacing_mm[0] == 2


def test_slices_at_uneven_distances_keep_their_volume_without_the_scan(tmp_path: Path) -> None:
    levels = np.array([0, 2, 4, 6, 10, 14, 18.0])
    structures = _structures(tmp_path, organ=_stack(SQUARE, levels))
    assert _volume_ml(rasterise(structures), "organ") == pytest.approx(1200 * 21 / 1000, rel=0.06)


def test_no_grid_without_closed_contours(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give the scan"):
        rasterise(_structures(tmp_path, marker=[("POINT", np.array([[1.0, 2, 3]]))]))
    far = [*_stack(SQUARE), (CLOSED, rectangle((0, 0), (1, 1), 9e5))]
    with pytest.raises(InputError, match="planes"):
        default_geometry(_structures(tmp_path, organ=far))
