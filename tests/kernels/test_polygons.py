"""Even-odd filling and measuring against scikit-image, shapely-free formulas and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.draw import polygon2mask

from medseg.kernels.decimals import parse_decimals
from medseg.kernels.outlines import mask_outlines, trace_field
from medseg.kernels.polygons import count_in_runs, fill_polygons, fill_prisms, paint_if_free, polygon_distances, polygon_moments


def _rings(*rings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate(rings), np.concatenate([[0], np.cumsum([len(ring) for ring in rings])])


def _filled(shape: tuple[int, int], *rings: np.ndarray) -> np.ndarray:
    points, starts = _rings(*rings)
    labels = np.zeros((1, *shape), np.uint8)
    assert paint_if_free(labels, fill_polygons(points, starts, np.array([0, len(rings)]), np.array([0]), labels.shape), 1)
    return labels[0] > 0


def _star(points: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, points))
    radius = rng.uniform(6, 24, points)
    return np.column_stack([30.2 + radius * np.cos(angle), 27.7 + radius * np.sin(angle)])


def _shoelace(ring: np.ndarray) -> float:
    x, y = ring.T
    return 0.5 * float(x @ np.roll(y, -1) - y @ np.roll(x, -1))


SQUARE = np.array([[2.0, 3.0], [8.0, 3.0], [8.0, 9.0], [2.0, 9.0]])


@pytest.mark.parametrize("seed", range(8))
def test_filling_agrees_with_scikit_image(seed: int) -> None:
    ring = _star(40, seed)
    assert np.array_equal(_filled((56, 61), ring), polygon2mask((56, 61), ring[:, ::-1]))


def test_a_border_through_centres_keeps_the_left_and_top_ones_so_that_the_area_is_right() -> None:
    mask = _filled((12, 12), SQUARE)
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 8, 2, 7)
    assert mask.sum() == 36


def test_polygons_that_share_an_edge_share_no_pixel_and_lose_none() -> None:
    cut = np.array([[30.0, 27.0], [30.0, 60.0], [-5.0, 60.0], [-5.0, 27.0]])
    other = np.array([[30.0, 27.0], [30.0, 60.0], [70.0, 60.0], [70.0, 27.0]])
    a, b = _filled((56, 61), cut), _filled((56, 61), other)
    assert not (a & b).any()
    assert np.array_equal(a | b, np.repeat(np.arange(56)[:, None] >= 27, 61, axis=1))


def test_rings_inside_rings_are_holes_and_keyholes_give_the_same() -> None:
    hole = np.array([[4.0, 5.0], [6.0, 5.0], [6.0, 7.0], [4.0, 7.0]])
    keyhole = np.vstack([SQUARE[:1], hole, hole[:1], SQUARE[:1], SQUARE[1:], SQUARE[:1]])
    nested = _filled((12, 12), SQUARE, hole)
    assert np.array_equal(nested, _filled((12, 12), keyhole))
    assert nested.sum() == 32
    for rings in ((SQUARE, hole), (keyhole,)):
        points, starts = _rings(*rings)
        area, mx, my = polygon_moments(points, starts, np.array([0, len(rings)]))[0]
        assert area == pytest.approx(32, abs=1e-9)
        assert (mx / area, my / area) == pytest.approx((5, 6.0))


@pytest.mark.parametrize("seed", range(5))
def test_area_and_centre_agree_with_the_shoelace_formula(seed: int) -> None:
    ring = _star(25, seed)
    area, mx, my = polygon_moments(*_rings(ring), np.array([0, 1]))[0]
    x, y = ring.T
    cross = x * np.roll(y, -1) - y * np.roll(x, -1)
    assert area == pytest.approx(abs(_shoelace(ring)), rel=1e-12)
    assert mx / area == pytest.approx(float((x + np.roll(x, -1)) @ cross) / (6 * _shoelace(ring)), rel=1e-12)
    assert my / area == pytest.approx(float((y + np.roll(y, -1)) @ cross) / (6 * _shoelace(ring)), rel=1e-12)


def test_what_two_rings_share_is_outside() -> None:
    moved = SQUARE + np.array([3.0, 0.0])
    area = polygon_moments(*_rings(SQUARE, moved), np.array([0, 2]))[0, 0]
    assert area == pytest.approx(36 + 36 - 2 * 18)


def test_parts_outside_the_grid_are_left_out() -> None:
    ring = SQUARE * 1e7 - 3e7
    assert _filled((12, 12), ring).all()
    assert fill_polygons(SQUARE, np.array([0, 4]), np.array([0, 1]), np.array([5]), (3, 12, 12)).shape == (0, 4)


def test_distances_are_signed_and_exact() -> None:
    distances = polygon_distances(SQUARE, np.array([0, 4]), np.arange(12.0), np.arange(12.0))
    assert distances[6, 5] == 3
    assert distances[0, 0] == -np.hypot(2, 3)
    assert np.array_equal(distances > 0, np.pad(np.ones((5, 5), bool), ((4, 3), (3, 4))))


def test_prisms_in_a_turned_frame_agree_with_brute_force() -> None:
    rng = np.random.default_rng(11)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    matrix = np.column_stack([turn * (0.9, 1.2, 2.1), turn @ (-13.0, -12, -14)])
    rings = [_star(30, seed) * 0.5 - (15, 14) for seed in range(6)]
    points, starts = _rings(*rings)
    slabs = np.column_stack([np.arange(6) * 3.0 - 9, np.arange(6) * 3.0 - 6])
    runs = fill_prisms(points, starts, np.arange(7), slabs, matrix, ((0, 0, 0), (14, 20, 30)))
    found = np.zeros((14, 20, 30), np.uint8)
    paint_if_free(found, runs, 1)
    k, j, i = np.indices(found.shape)
    x, y, t = np.einsum("ab,bkji->akji", matrix[:, :3], np.array([i, j, k])) + matrix[:, 3, None, None, None]
    expected = np.zeros(found.shape, bool)
    for ring, (low, high) in zip(rings, slabs, strict=True):
        odd = np.zeros(found.shape, bool)
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            odd ^= ((y0 > y) != (y1 > y)) & (x > x0 + (y - y0) * (x1 - x0) / (y1 - y0))
        expected |= odd & (t >= low) & (t < high)
    assert expected.sum() > 300
    assert np.array_equal(found > 0, expected)
    assert count_in_runs(found, runs, 1) == expected.sum()


def _masks() -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    y, x = np.indices((40, 44))
    ring = (np.hypot((y - 19) / 17, (x - 21) / 19) < 1) & (np.hypot(y - 15, x - 17) > 4) & (np.hypot(y - 25, x - 27) > 3)
    lone = np.zeros((9, 9), bool)
    lone[4, 4] = lone[0, 0] = lone[8, 7] = True
    noise = [rng.random((25, 31)) < share for share in (0.2, 0.5, 0.8)]
    smooth = [ndimage.gaussian_filter(rng.standard_normal((50, 40)), sigma) > 0 for sigma in (1.0, 3.0)]
    return [ring, lone, np.ones((3, 5), bool), np.eye(7, dtype=bool), *noise, *smooth]


@pytest.mark.parametrize("mask", _masks())
def test_outlines_give_the_mask_back_and_enclose_as_much(mask: np.ndarray) -> None:
    points, starts = mask_outlines(mask)
    rounded = np.round(points, 3)
    back = np.zeros((1, *mask.shape), np.uint8)
    paint_if_free(back, fill_polygons(rounded, starts, np.array([0, len(starts) - 1]), np.array([0]), back.shape), 1)
    assert np.array_equal(back[0] > 0, mask)
    area = polygon_moments(points, starts, np.array([0, len(starts) - 1]))[0, 0]
    assert area == pytest.approx(mask.sum(), rel=1e-6)
    for ring in np.split(points, starts[1:-1]):
        assert len(ring) >= 4
        assert _shoelace(ring) > 0  # holes are part of the ring around them


def test_outlines_of_a_disc_are_rounder_than_its_pixels() -> None:
    y, x = np.indices((61, 61))
    points, starts = mask_outlines(np.hypot(y - 30, x - 30) < 20)
    assert len(starts) == 2
    assert np.abs(np.hypot(*(points - 30).T) - 20).max() < 0.45  # corners of pixels lie up to 0.7 off


def test_a_traced_field_lies_where_it_is_zero() -> None:
    y, x = np.indices((50, 50))
    points, starts = trace_field(15.3 - np.hypot(y - 24.4, x - 25.1))
    assert len(starts) == 2
    assert np.abs(np.hypot(points[:, 0] - 25.1, points[:, 1] - 24.4) - 15.3).max() < 0.02


def test_paint_if_free_leaves_taken_voxels_alone() -> None:
    labels = np.zeros((1, 3, 3), np.uint8)
    labels[0, 1, 1] = 9
    assert not paint_if_free(labels, np.array([[0, 1, 0, 3]], np.int32), 4)
    assert paint_if_free(labels, np.array([[0, 2, 0, 3]], np.int32), 4)
    assert labels[0].tolist() == [[0, 0, 0], [0, 9, 0], [4, 4, 4]]


def test_decimals_are_parsed_as_python_parses_them() -> None:
    rng = np.random.default_rng(4)
    texts = [f"{value:.{digits}f}" for value in rng.uniform(-2000, 2000, 300) for digits in (0, 2, 7, 12)]
    texts += ["1e-3", "-1.5E+2", "+.5", "5.", " 7 ", "-0", "0.1234567890123456789", "123456789012345678"]
    assert parse_decimals("\\".join(texts).encode() + b" ").tolist() == [float(text) for text in texts]
    assert parse_decimals(b" \0").size == 0
    for bad in (b"1\\two", b"1\\\\2", b"1 2", b"--1"):
        with pytest.raises(ValueError, match="could not convert"):
            parse_decimals(bad)
