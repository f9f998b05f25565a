"""Surface elements: their places and their areas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medseg.kernels.surfels import SurfaceScan, surfel_areas_mm2


def scanned(labels: NDArray[Any], number: int, voxels: bool = False) -> tuple[NDArray[Any], NDArray[Any]]:
    found = SurfaceScan(labels, [number], voxels).points([0])
    return found.points, found.codes


def by_windows(mask: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The same by shifting a padded array: places of partly filled cells and their configurations."""
    padded = np.pad(mask, 1).astype(np.int64)
    cells = sum(
        padded[dk : dk + mask.shape[0] + 1, dj : dj + mask.shape[1] + 1, di : di + mask.shape[2] + 1] << (4 * dk + 2 * dj + di)
        for dk in (0, 1)
        for dj in (0, 1)
        for di in (0, 1)
    )
    surface = (cells != 0) & (cells != 255)
    return np.argwhere(surface) - 1, cells[surface]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "bool"])
def test_every_cell_that_is_partly_inside_is_found_in_order(dtype: str, shape: tuple[int, int, int], rng: np.random.Generator) -> None:
    labels = np.repeat(rng.integers(0, 2 if dtype == "bool" else 4, shape), 2, axis=2).astype(dtype)
    for number in np.unique(labels)[1:].tolist() or [1]:
        points, codes = scanned(labels, number)
        expected_points, expected_codes = by_windows(labels == number)
        assert points.tolist() == expected_points.tolist()
        assert codes.tolist() == expected_codes.tolist()


def test_border_voxels_have_a_face_neighbour_outside(shape: tuple[int, int, int], rng: np.random.Generator) -> None:
    from scipy.ndimage import binary_erosion

    labels = np.repeat(rng.integers(0, 3, shape), 3, axis=2).astype(np.uint8)
    for number in np.unique(labels)[1:].tolist():
        mask = labels == number
        points, _ = scanned(labels, number, voxels=True)
        assert points.tolist() == np.argwhere(mask & ~binary_erosion(mask)).tolist()


def test_many_labels_are_taken_apart(organs: NDArray[Any]) -> None:
    numbers = np.unique(organs)[1:]
    scan = SurfaceScan(organs, numbers)
    rows = list(range(len(numbers)))[::-3]
    found = scan.points(rows)
    assert np.diff(found.begins).tolist() == scan.counts[rows].tolist()
    for place, row in enumerate(rows):
        expected, codes = by_windows(organs == numbers[row])
        part = slice(found.begins[place], found.begins[place + 1])
        assert found.points[part].tolist() == expected.tolist()
        assert found.codes[part].tolist() == codes.tolist()


def test_sixty_thousand_labels_and_labels_not_asked_for() -> None:
    labels = np.arange(1, 65_001, dtype=np.uint16).reshape(50, 50, 26)
    scan = SurfaceScan(labels, np.arange(1, 65_001))
    assert (scan.counts == 8).all()
    assert SurfaceScan(labels, [65_500, 3]).counts.tolist() == [0, 8]


def test_a_triangle_across_one_corner_has_its_area_on_every_grid(affine: NDArray[Any]) -> None:
    """One inside corner: the triangle between the middles of its three edges."""
    i, j, k = affine[:3, :3].T / 2
    areas = surfel_areas_mm2(affine)
    assert areas[1] == pytest.approx(np.linalg.norm(np.cross(j - i, k - i)) / 2, rel=1e-12)
    assert areas[2] == pytest.approx(np.linalg.norm(np.cross(j + i, k + i)) / 2, rel=1e-12)


def test_flat_cells_have_the_area_of_the_voxel_face(affine: NDArray[Any]) -> None:
    i, j, k = affine[:3, :3].T
    areas = surfel_areas_mm2(affine)
    for code, (u, v) in {0b00001111: (i, j), 0b00110011: (i, k), 0b01010101: (j, k)}.items():
        assert areas[code] == areas[255 - code] == pytest.approx(np.linalg.norm(np.cross(u, v)), rel=1e-12)


def test_the_area_does_not_depend_on_the_order_or_direction_of_the_axes(affine: NDArray[Any]) -> None:
    """Mirrored along i, then the first two axes swapped: the same surface in the patient."""
    areas = surfel_areas_mm2(affine)
    mirrored = np.array([sum((code >> n & 1) << (n ^ 1) for n in range(8)) for code in range(256)])
    assert surfel_areas_mm2(affine * [-1, 1, 1, 1])[mirrored] == pytest.approx(areas, rel=1e-12)
    swap = [n & 4 | (n & 1) << 1 | (n >> 1 & 1) for n in range(8)]
    swapped = np.array([sum((code >> n & 1) << swap[n] for n in range(8)) for code in range(256)])
    assert surfel_areas_mm2(affine[:, [1, 0, 2, 3]])[swapped] == pytest.approx(areas, rel=1e-12)


def test_inside_and_outside_have_one_surface(affine: NDArray[Any]) -> None:
    areas = surfel_areas_mm2(affine)
    assert areas == pytest.approx(areas[::-1], rel=1e-12)
