"""The quick surfaces of a thumbnail against those of the report, which are cast by another implementation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.reporting.places import Place, find_places, outer_numbers
from medseg.reporting.rendering import scene_pixels
from medseg.reporting.thumbnail_surfaces import surfaces

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 90, 255)


def _both(labels: LabelMap) -> tuple[np.ndarray, np.ndarray]:
    """The picture, and that of the report with as many rays and the same border."""
    places = find_places(labels)
    quick = surfaces(labels, places, outer_numbers(places), 160)
    size = len(quick)
    return quick, scene_pixels(labels, places, (size, size), border=round(size * 0.07))


def _labels(affine: np.ndarray, names: tuple[str, ...] = ("one", "two", "three")) -> LabelMap:
    """A ball, an ellipsoid before it and a rod beside it, in millimetres, whatever the grid."""
    shape = (70, 60, 40)
    grid = Geometry(shape, affine)
    points = grid.index_to_world(np.moveaxis(np.indices(shape), 0, -1)) - grid.index_to_world(np.array(shape) / 2)
    array = (np.linalg.norm(points, axis=-1) < 14).astype(np.uint8)
    array[np.linalg.norm((points - (6, 18, 4)) / (1, 0.5, 1.4), axis=-1) < 7] = 2
    array[(np.linalg.norm(points[..., :2] - (-22, 0), axis=-1) < 2.5) & (np.abs(points[..., 2]) < 16)] = 3
    segments = tuple(Segment(n, name, colour=colour) for n, (name, colour) in enumerate(zip(names, (RED, GREEN, BLUE), strict=True), 1))
    return LabelMap(array, grid, segments)


def test_the_picture_is_that_of_the_report_on_every_grid(affine: np.ndarray) -> None:
    quick, slow = _both(_labels(affine))
    difference = np.abs(quick - slow).max(axis=2)
    shown = np.where(np.ptp(slow, axis=2) > 30, slow.argmax(axis=2) + 1, 0)
    outline = ndimage.minimum_filter(shown, 7) != ndimage.maximum_filter(shown, 7)
    assert difference[~outline].max() < 25, "there is other light than in the report"
    # By the outlines, the surfaces may lie a part of a voxel, of up to six pixels, elsewhere
    assert np.mean(np.where(np.ptp(quick, axis=2) > 30, quick.argmax(axis=2) + 1, 0) != shown) < 0.015
    assert np.median(difference[shown > 0]) < 4


def test_a_segment_around_a_lesion_is_glass_as_in_the_report(affine: np.ndarray) -> None:
    labels = _labels(affine)
    array = labels.array.copy()
    middle = tuple(int(n) for n in np.argwhere(array == 1).mean(axis=0))
    array[middle[0] - 2 : middle[0] + 3, middle[1] - 2 : middle[1] + 3, middle[2] - 1 : middle[2] + 2] = 3
    named = (Segment(1, "liver", colour=RED), Segment(2, "spleen", colour=GREEN), Segment(3, "tumour", colour=BLUE))
    array[labels.array == 3] = 0
    quick, slow = _both(LabelMap(array, labels.geometry, named))
    blue = slow[..., 2] - slow[..., :2].max(axis=2) > 20
    assert blue.any(), "the lesion shines through the liver of the report"
    assert np.mean((quick[..., 2] - quick[..., :2].max(axis=2) > 20) == blue) > 0.99
    assert np.mean(np.abs(quick - slow).max(axis=2) > 40) < 0.015


def test_real_organs_look_as_in_the_report(organs: LabelMap) -> None:
    """The ten largest, which are few enough that all their voxels are used; the report takes all of any number."""
    largest = sorted(find_places(organs), key=lambda place: -place.voxels)[:10]
    array = organs.array * np.isin(organs.array, [place.segment.number for place in largest])
    quick, slow = _both(organs.with_array(array))
    drawn = np.ptp(slow, axis=2) > 30
    different = np.abs(quick - slow).max(axis=2) > 60
    assert different.sum() < 0.03 * drawn.sum()


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.uint16, np.uint32])
def test_every_kind_of_labels_gives_the_same_picture(dtype: type) -> None:
    """What is not drawn, and how numbers are stored, makes no difference."""
    grid = Geometry((20, 24, 16), np.diag([1.0, 1.0, 2.0, 1.0]))
    array = np.zeros(grid.shape, dtype)
    array[4:15, 6:18, 3:12] = 1
    labels = LabelMap(array, grid, (Segment(1, "one", colour=RED),))
    alone = surfaces(LabelMap(array.astype(np.uint8), grid, labels.segments), find_places(labels), (), 160)
    assert (alone[..., 0] > 100).any()
    np.testing.assert_array_equal(surfaces(labels, find_places(labels), (), 160), alone)


def test_only_the_places_asked_for_are_drawn() -> None:
    labels = _labels(np.diag([1.0, 1.0, 1.5, 1.0]))
    large = LabelMap(labels.array.astype(np.uint32) * 70_001, labels.geometry, tuple(Segment(n * 70_001, f"s{n}") for n in (1, 2, 3)))
    for shown in (labels, large):
        (first, _, third) = find_places(shown)
        mask = np.isin(shown.array, (first.segment.number, third.segment.number))
        without = LabelMap(shown.array * mask, shown.geometry, shown.segments)
        np.testing.assert_array_equal(surfaces(shown, (third, first), (), 100), surfaces(without, (third, first), (), 100))


def test_one_voxel_and_a_plate_of_one_voxel_are_seen() -> None:
    grid = Geometry((50, 50, 50), np.eye(4))
    for box in ((slice(25, 26),) * 3, (slice(5, 45), slice(25, 26), slice(5, 45)), (slice(25, 26), slice(5, 45), slice(5, 45))):
        array = np.zeros(grid.shape, np.uint8)
        array[box] = 1
        labels = LabelMap(array, grid, (Segment(1, "one", colour=RED),))
        picture = surfaces(labels, find_places(labels), (), 160)
        red = picture[..., 0] - picture[..., 1] > 60
        assert red.sum() > 60, str(box)
        middle = len(picture) // 2
        assert red[middle - 1 : middle + 1, middle - 1 : middle + 1].any(), str(box)


@pytest.mark.parametrize("with_others", [False, True])
def test_a_thin_structure_that_runs_between_the_voxels_that_are_picked_is_seen(with_others: bool) -> None:
    """From corner to corner, so that its box is not thin; a small one that lies on it is not lost for it."""
    grid = Geometry((220, 220, 220), np.eye(4))
    array = np.zeros(grid.shape, np.uint8)
    line = np.arange(10, 209)
    array[line, line, line + 1] = 1
    array[10, 10, 10] = 1
    segments = (Segment(1, "vessel", colour=RED), Segment(2, "clip", colour=GREEN))
    if with_others:
        array[100:102, 100:102, 101:103] = 2
    labels = LabelMap(array, grid, segments)
    picture = surfaces(labels, find_places(labels), (), 160)
    assert picture is not None
    red, green = picture[..., 0] - picture[..., 1] > 60, picture[..., 1] - picture[..., 0] > 60
    columns = red.any(axis=0).nonzero()[0]
    assert len(columns) > 0.7 * len(picture), "from one side of the picture to the other"
    assert green.any() == with_others


def test_indices_of_32_bits_are_taken() -> None:
    """Whole numbers of numpy 1 on Windows."""
    grid = Geometry((200, 40, 40), np.eye(4))
    array = np.zeros(grid.shape, np.uint8)
    array[5:195, 20, 20] = 1
    labels = LabelMap(array, grid, (Segment(1, "vessel", colour=RED),))
    (place,) = find_places(labels)
    first, last = (tuple(np.array(index, dtype=np.int32)) for index in (place.first, place.last))
    short = Place(place.segment, place.voxels, place.centroid, first, last)
    np.testing.assert_array_equal(surfaces(labels, (short,), (), 100), surfaces(labels, (place,), (), 100))


def test_without_voxels_there_is_no_picture() -> None:
    labels = _labels(np.diag([1.0, 1.0, 1.5, 1.0]))
    assert surfaces(labels.with_array(labels.array * 0), find_places(labels), (), 100) is None
