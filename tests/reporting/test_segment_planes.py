from __future__ import annotations

import numpy as np
import pytest

from medseg.reporting.places import find_places
from medseg.reporting.segment_planes import segment_planes_png

GREEN = (0, 255, 0)


def _tiles(picture, count):
    cell = (picture.shape[1] - 10 * (count - 1)) // count
    return [picture[26:, n * (cell + 10) : n * (cell + 10) + cell] for n in range(count)], cell


def test_a_ball_is_a_disc_of_its_true_size_in_every_plane(grid, make_scene, decode, pixels_of):
    """The spleen of the scene has 18 mm across and lies off the middle: its width in each tile, in mm, on every grid."""
    volume, label_map = make_scene(grid)
    place = next(place for place in find_places(label_map) if place.segment.label == "spleen")
    picture = decode(segment_planes_png(volume, label_map, place))
    tiles, cell = _tiles(picture, 4)
    step = max(grid.spacing_mm)
    side = max(30.0, 18 + 2 * step + 28)  # the margin of 14 mm on both sides
    for tile in tiles[:3]:
        found = pixels_of(tile, GREEN)
        assert found.size, "the ball is not in the tile"
        height, width = np.ptp(found, axis=0) * side / cell
        assert height == pytest.approx(18, abs=2.2 * step)
        assert width == pytest.approx(18, abs=2.2 * step)


def test_the_surface_can_be_left_out_and_the_scan_too(grids, make_scene, decode, pixels_of):
    volume, label_map = make_scene(grids["LPS"])
    place = find_places(label_map)[1]
    assert decode(segment_planes_png(volume, label_map, place, surface=False, width=640)).shape[1] == 640
    picture = decode(segment_planes_png(None, label_map, place, surface=False))
    tiles, _ = _tiles(picture, 3)
    assert all(pixels_of(tile, GREEN).size for tile in tiles)
    grey = picture[26:][(np.ptp(picture[26:], axis=-1) < 12) & (picture[26:].max(axis=-1) > 60)]
    assert len(grey) < 0.05 * picture[26:].shape[0] * picture.shape[1]  # only letters and bars are grey without a scan
