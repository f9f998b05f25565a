"""The strip of a contact sheet: right way up in true millimetres on every grid, small, and the same bytes each time."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.measurement import MeasurementTable
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.measurement.measure import measure
from medseg.reporting.overlay import automatic_window
from medseg.reporting.png_text import COLOURS, text_of_png
from medseg.reporting.thumbnail import CELL, GAP, _window, thumbnail_png

RED, GREEN = (255, 0, 0), (0, 255, 0)


def _pixels(png: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(png))
    assert image.mode == "P", "a palette keeps a sheet of hundreds small"
    assert image.size == (4 * CELL + 3 * GAP, CELL)
    return np.asarray(image.convert("RGB")).astype(int)


def _cell(pixels: np.ndarray, n: int) -> np.ndarray:
    return pixels[:, n * (CELL + GAP) : n * (CELL + GAP) + CELL]


def _where(cell: np.ndarray, channel: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of pixels in which one channel is far above the others."""
    others = np.delete(cell, channel, axis=2).max(axis=2)
    return np.nonzero(cell[..., channel] - others > 90)


def _marked(affine: np.ndarray) -> tuple[Volume, LabelMap]:
    """A red ball of 12 mm in the middle, and a small green one 22 mm to the left, 18 mm forward and 15 mm up of it."""
    shape = (96, 80, 44)
    grid = Geometry(shape, affine)
    points = grid.index_to_world(np.moveaxis(np.indices(shape), 0, -1))
    middle = grid.index_to_world(np.array(shape) / 2)
    array = np.zeros(shape, np.uint8)
    array[np.linalg.norm(points - middle, axis=-1) < 12] = 1
    array[np.linalg.norm(points - (middle + np.array((-22, 18, 15))), axis=-1) < 6] = 2
    labels = LabelMap(array, grid, (Segment(1, "middle_tumour", colour=RED), Segment(2, "mark", colour=GREEN)))
    return Volume(np.zeros(shape, np.int16), grid, "CT", "HU"), labels


def test_surfaces_show_patient_left_on_the_right_and_the_head_up(affine: np.ndarray) -> None:
    volume, labels = _marked(affine)
    cell = _cell(_pixels(thumbnail_png(volume, labels, measure(labels))), 3)
    red_rows, red_columns = _where(cell, 0)
    green_rows, green_columns = _where(cell, 1)
    assert green_columns.mean() > red_columns.mean() + 20
    assert green_rows.mean() < red_rows.mean() - 10


def test_planes_show_the_lesion_round_on_every_grid(affine: np.ndarray) -> None:
    """A ball is as wide as it is high in millimetres, whatever the spacing, the order of the axes or the tilt."""
    volume, labels = _marked(affine)
    pixels = _pixels(thumbnail_png(volume, labels, measure(labels)))
    for n in range(3):
        rows, columns = _where(_cell(pixels, n), 0)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert width == pytest.approx(height, abs=0.17 * height), f"plane {n}"  # a voxel of 2.5 mm is a tenth of the ball


def test_planes_lie_as_a_radiologist_expects(affine: np.ndarray) -> None:
    """Of two balls in one plane one lies where its direction is: left is right, anterior is up or left, the head is up."""
    volume, labels = _marked(affine)
    grid = labels.geometry
    points = grid.index_to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    middle = grid.index_to_world(np.array(grid.shape) / 2)
    # world axis, sign, and where that is on the page (down, right)
    for n, axis, sign, towards in ((0, 0, -1, (0, 1)), (0, 1, 1, (-1, 0)), (1, 2, 1, (-1, 0)), (2, 1, 1, (0, -1)), (2, 2, 1, (-1, 0))):
        along = grid.direction[:, np.abs(grid.direction[axis]).argmax()]  # the axis of the grid: the balls stay in one plane
        offset = 23 * sign * along * np.sign(along[axis])
        array = (np.linalg.norm(points - middle, axis=-1) < 12).astype(np.uint8)
        array[np.linalg.norm(points - (middle + offset), axis=-1) < 6] = 2
        shown = LabelMap(array, grid, labels.segments)
        cell = _cell(_pixels(thumbnail_png(volume, shown, measure(shown))), n)
        red, green = (np.array(_where(cell, channel)).mean(axis=1) for channel in (0, 1))
        moved = green - red
        assert moved @ towards > 15, f"plane {n}, axis {axis}"
        assert abs(moved @ towards[::-1]) < 0.5 * (moved @ towards), f"plane {n}, axis {axis}"


def test_grey_values_are_those_of_the_scan_in_its_window() -> None:
    grid = Geometry((60, 60, 60), np.eye(4))
    array = np.full(grid.shape, -160, np.int16)  # the lower end of the soft tissue window
    array[:30] = 240  # its upper end, patient left for this affine
    labels = LabelMap(np.zeros(grid.shape, np.uint8), grid, (Segment(1, "liver"),))
    axial = _cell(_pixels(thumbnail_png(Volume(array, grid, "CT", "HU"), labels, measure(labels))), 0)
    middle = CELL // 2 + 20  # below the letters
    assert axial[middle, CELL // 4].tolist() == [0, 0, 0]
    assert axial[middle, 3 * CELL // 4].tolist() == [255, 255, 255]


def test_an_edge_at_which_a_segment_is_cut_is_red() -> None:
    grid = Geometry((50, 50, 50), np.eye(4))
    array = np.zeros(grid.shape, np.uint8)
    array[15:35, 15:35, 25:] = 1  # reaches the uppermost slice
    labels = LabelMap(array, grid, (Segment(1, "liver", colour=(0, 90, 255)),))
    volume = Volume(np.zeros(grid.shape, np.int16), grid, "CT", "HU")
    pixels = _pixels(thumbnail_png(volume, labels, measure(labels)))
    assert not _where(_cell(pixels, 0), 0)[0].size, "no edge of the axial plane is cut"
    for n in (1, 2):
        rows, columns = _where(_cell(pixels, n), 0)
        assert np.ptp(rows) <= 2
        assert np.ptp(columns) > 60
        blue_rows, _ = _where(_cell(pixels, n), 2)
        assert rows.max() <= blue_rows.min(), "the line lies above the segment that is cut there"


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 40, 40), (40, 1, 3), (3, 4, 2)])
@pytest.mark.parametrize("filled", [True, False])
def test_grids_of_few_voxels_and_empty_maps_have_a_strip(shape: tuple[int, int, int], filled: bool) -> None:
    grid = Geometry(shape, np.diag([0.5, 0.5, 8.0, 1.0]))
    array = np.zeros(shape, np.uint8)
    if filled:
        array[tuple(n // 2 for n in shape)] = 7
    labels = LabelMap(array, grid, (Segment(7, "nodule"),))
    volume = Volume(np.zeros(shape, np.float32), grid, "MR", "")
    assert _pixels(thumbnail_png(volume, labels, measure(labels))).any()


def test_values_that_are_no_numbers_are_drawn_without_a_warning() -> None:
    grid = Geometry((12, 12, 12), np.eye(4))
    array = np.full(grid.shape, np.nan)
    array[2:6], array[7] = np.inf, -1e300
    array[8:] = np.arange(4 * 144).reshape(4, 12, 12)
    labels = LabelMap((array > 0).astype(np.uint8), grid, (Segment(1, "liver"),))
    assert _pixels(thumbnail_png(Volume(array, grid, "MR", ""), labels, measure(labels))).any()


def test_noise_stays_small_and_the_bytes_are_the_same_each_time() -> None:
    random = np.random.default_rng(3)
    grid = Geometry((200, 200, 200), np.eye(4))
    labels = LabelMap(random.integers(0, 40, grid.shape).astype(np.uint8), grid, tuple(Segment(n, f"s{n}") for n in range(1, 40)))
    volume = Volume(random.normal(40, 300, grid.shape).astype(np.int16), grid, "CT", "HU")
    quiet = LabelMap((labels.array == 1).astype(np.uint8) * (np.indices(grid.shape)[0] == 100), grid, (Segment(1, "s1"),))
    table = MeasurementTable(())
    png = thumbnail_png(volume, quiet, table)
    assert len(png) <= 40_000
    assert png == thumbnail_png(volume, quiet, table)
    assert len(thumbnail_png(volume, labels, table)) <= 120_000, "forty labels as noise: no case, but no fault either"


def test_thin_segments_of_a_large_scan_are_not_lost_between_the_cells_of_the_surfaces() -> None:
    grid = Geometry((400, 400, 60), np.diag([0.7, 0.7, 3.0, 1.0]))
    array = np.zeros(grid.shape, np.uint8)
    array[50:350, 50:350, 5:55] = 1
    array[150:300, 385, 31] = 2  # one voxel thick, in front of the block, between the voxels that are picked
    labels = LabelMap(array, grid, (Segment(1, "body", colour=(60, 60, 70)), Segment(2, "vessel", colour=GREEN)))
    volume = Volume(np.zeros(grid.shape, np.int16), grid, "CT", "HU")
    assert _where(_cell(_pixels(thumbnail_png(volume, labels, measure(labels))), 3), 1)[0].size > 30


def test_a_place_of_the_table_without_voxels_costs_only_the_surfaces() -> None:
    grid = Geometry((40, 40, 40), np.eye(4))
    array = np.zeros(grid.shape, np.uint8)
    array[10:30, 10:30, 10:30] = 1
    labels = LabelMap(array, grid, (Segment(1, "liver", colour=RED),))
    pixels = _pixels(thumbnail_png(Volume(array * 200.0, grid, "MR", ""), labels.with_array(array * 0), measure(labels)))
    assert (_cell(pixels, 0) > 200).any(), "the planes show the scan"
    assert not _where(_cell(pixels, 3), 0)[0].size


def test_real_scan_shows_its_organs(ct: Volume, organs: LabelMap) -> None:
    png = thumbnail_png(ct, organs, measure(organs))
    pixels = _pixels(png)
    colours = {tuple(colour) for colour in _cell(pixels, 0).reshape(-1, 3).tolist()}
    shown = {segment.label for segment in organs.segments if segment.rgb in colours}
    # the slice is that of the centre of mass: an organ there has a pixel in its pure colour
    assert len(shown) >= 8
    assert len(png) <= 40_000


def test_thousands_of_instances_with_large_numbers_are_drawn_in_a_moment() -> None:
    grid = Geometry((60, 60, 60), np.eye(4))
    blocks = np.indices(grid.shape) // 4
    array = (blocks[0] + 15 * blocks[1] + 225 * blocks[2]).astype(np.uint32) * 1_000_003 + 1
    labels = LabelMap(array, grid, tuple(Segment(int(n), f"cell {n}") for n in np.unique(array)))
    volume = Volume(np.zeros(grid.shape, np.int16), grid, "CT", "HU")
    png = thumbnail_png(volume, labels, MeasurementTable(()))
    assert len(json.loads(text_of_png(png)[COLOURS])) == 100


def test_colours_of_the_segments_stand_in_the_file() -> None:
    grid = Geometry((20, 20, 20), np.eye(4))
    array = np.zeros(grid.shape, np.uint8)
    array[5:9], array[12:15] = 1, 2
    labels = LabelMap(array, grid, (Segment(1, "foie gauche é", colour=RED), Segment(2, "<b>", colour=GREEN), Segment(3, "absent")))
    png = thumbnail_png(Volume(np.zeros(grid.shape, np.int16), grid, "CT", "HU"), labels, measure(labels))
    assert json.loads(text_of_png(png)[COLOURS]) == {"foie gauche é": "#ff0000", "<b>": "#00ff00"}
    assert Image.open(io.BytesIO(png)).text == text_of_png(png), "Pillow reads the same"
    assert text_of_png(png[:60]) == text_of_png(b"no picture") == {}


def test_a_table_without_the_places_costs_time_but_changes_nothing(affine: np.ndarray) -> None:
    """Where the segments are is taken from the table where it says so, and is looked for elsewhere."""
    volume, labels = _marked(affine)
    table = measure(labels)
    assert not any(row.touches for row in table.rows), "an edge that is drawn red would be another picture"
    png = thumbnail_png(volume, labels, table)
    assert png == thumbnail_png(volume, labels, MeasurementTable(()))
    assert png == thumbnail_png(volume, labels, MeasurementTable(table.rows[:1])), "a table of some of the segments"


def test_a_scan_of_many_values_is_shown_in_the_window_of_a_part_of_them() -> None:
    grid = Geometry((90, 90, 60), np.eye(4))
    array = np.random.default_rng(6).gamma(2.0, 300.0, grid.shape).astype(np.float32)
    volume = Volume(array, grid, "MR", "")
    all_values, some = automatic_window(volume), _window(volume, ())
    assert some != all_values
    np.testing.assert_allclose(some, all_values, rtol=0.05)
