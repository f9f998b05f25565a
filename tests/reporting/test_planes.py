from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from medseg.core.geometry import Geometry
from medseg.reporting.overlay import Cut, Style, draw_slice
from medseg.reporting.planes import PLANES, plane_of, sample_labels

CENTRES = (("liver", (30, 0, 0)), ("spleen", (-32, 0, 0)), ("sternum", (0, 27, 0)), ("head", (0, 0, 30)))
WORLD = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def _middle(geometry: Geometry) -> tuple[int, int, int]:
    i, j, k = (n // 2 for n in geometry.shape)
    return i, j, k


def test_letters_are_radiological(grid):
    """Right on the left, anterior on the left of the sagittal picture, head up: whatever way the grid is stored."""
    assert plane_of(grid, "axial").letters == ("R", "L", "A", "P")
    assert plane_of(grid, "coronal").letters == ("R", "L", "S", "I")
    assert plane_of(grid, "sagittal").letters == ("A", "P", "S", "I")


@pytest.mark.parametrize("name", sorted(PLANES))
def test_letters_agree_with_where_points_go(grid, name):
    """A step in the patient direction of a letter moves a point towards the edge that bears it."""
    plane = plane_of(grid, name)
    start = np.array(_middle(grid), dtype=float)
    x, y = plane.to_page_mm(start)
    steps = ((-1, 0), (1, 0), (0, -1), (0, 1))
    for letter, (right, down) in zip(plane.letters, steps, strict=True):
        axis, sign = WORLD[letter]
        target = grid.index_to_world(start)
        target[axis] += 10.0 * sign
        to_x, to_y = plane.to_page_mm(grid.world_to_index(target))
        moved = (to_x - x) * right + (to_y - y) * down
        assert moved > 7.0, letter


@pytest.mark.parametrize("name", sorted(PLANES))
def test_page_distances_are_millimetres(grid, name):
    """Within a slice, distances on the page are distances in the patient: also where the grid is sheared."""
    plane = plane_of(grid, name)
    columns, rows, _ = plane.grid_axes
    rng = np.random.default_rng(1)
    for _ in range(20):
        one = np.array(_middle(grid), dtype=float)
        two = one.copy()
        two[[columns, rows]] += rng.uniform(-9, 9, 2)
        page = np.subtract(plane.to_page_mm(two), plane.to_page_mm(one))
        patient = grid.index_to_world(two) - grid.index_to_world(one)
        assert np.hypot(*page) == pytest.approx(np.linalg.norm(patient), rel=1e-9)


@pytest.mark.parametrize("name", sorted(PLANES))
def test_pixels_and_points_agree(grid, name):
    """The voxel below the pixel at a point's place on the page is that point."""
    plane = plane_of(grid, name)
    index = (7, 11, 13)
    x, y = plane.to_page_mm(index)
    voxels = plane.voxels_of_pixels((x - 0.5, y - 0.5, x + 0.5, y + 0.5), 1.0)
    row, column = (round(float(v)) for v in voxels[:, 0, 0])
    marked = np.zeros(grid.shape, np.uint8)
    marked[index] = 1
    assert plane.cut(marked, index)[row, column] == 1


@pytest.mark.parametrize(
    ("name", "cut"),
    [
        ("axial", lambda a, p: a[:, :, p[2]][::-1, ::-1].T),
        ("coronal", lambda a, p: a[:, p[1], :][::-1, ::-1].T),
        ("sagittal", lambda a, p: a[p[0], :, :][::-1, ::-1].T),
    ],
)
def test_slices_are_those_of_nibabel(grid, name, cut):
    """The cut is the slice of nibabel's closest canonical (RAS) array, read from R, A and S."""
    array = np.random.default_rng(0).integers(0, 1000, grid.shape).astype(np.int16)
    index = (17, 21, 9)
    canonical = nib.as_closest_canonical(nib.Nifti1Image(array, grid.affine))
    there = np.rint(np.linalg.inv(canonical.affine) @ np.append(grid.index_to_world(index), 1))[:3].astype(int)
    expected = cut(np.asarray(canonical.dataobj), there)
    assert np.array_equal(plane_of(grid, name).cut(array, index), expected)


def test_every_ball_lies_on_its_side(grid, make_scene, pixels_of):
    """Each ball, cut through its centre, is drawn on its side of the picture's middle: right and anterior left, superior up."""
    volume, label_map = make_scene(grid)
    sides = (  # plane, ball, image axis, side
        ("axial", "liver", 1, -1),
        ("axial", "spleen", 1, 1),
        ("axial", "sternum", 0, -1),
        ("coronal", "liver", 1, -1),
        ("coronal", "spleen", 1, 1),
        ("coronal", "head", 0, -1),
        ("sagittal", "sternum", 1, -1),
        ("sagittal", "head", 0, -1),
    )
    centres = dict(CENTRES)
    for name, label, axis, side in sides:
        i, j, k = (round(n) for n in grid.world_to_index(centres[label]))
        picture = draw_slice(volume, label_map, Cut(name, (i, j, k)), 2.0, Style((0.0, 400.0)))
        found = pixels_of(picture, label_map[label].rgb)[:, axis].mean()
        assert (found - picture.shape[axis] / 2) * side > 15, (name, label)


@pytest.mark.parametrize("name", sorted(PLANES))
def test_a_ball_is_round(grids, make_scene, pixels_of, name):
    """A sphere in 1 × 1 × 5 mm voxels is as high as wide in every plane, at the given scale."""
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    affine[:3, 3] = (-39.5, -39.5, -37.5)
    volume, label_map = make_scene(Geometry((80, 80, 16), affine), (("ball", (0.0, 0.0, 0.0), 25.0, (255, 0, 0)),))
    picture = draw_slice(volume, label_map, Cut(name, (40, 40, 8)), 3.0, Style((0.0, 400.0)))
    found = pixels_of(picture, (255, 0, 0))
    height, width = np.ptp(found, axis=0) + 1
    assert height / width == pytest.approx(1.0, abs=0.05)
    assert width == pytest.approx(150, rel=0.05)


@pytest.mark.parametrize("name", sorted(PLANES))
def test_a_ball_is_round_on_a_sheared_grid(grids, make_scene, pixels_of, name):
    """Gantry tilt is drawn with its angle: the disc of a sphere has equal second moments in all directions."""
    volume, label_map = make_scene(grids["sheared"], (("ball", (0.0, 0.0, 0.0), 30.0, (255, 0, 0)),))
    at = tuple(n // 2 for n in grids["sheared"].shape)
    picture = draw_slice(volume, label_map, Cut(name, at), 3.0, Style((0.0, 400.0)))
    small, large = np.linalg.eigvalsh(np.cov(pixels_of(picture, (255, 0, 0)).T))
    assert np.sqrt(large / small) == pytest.approx(1.0, abs=0.05)


def test_interpolated_labels_match_the_largest_share():
    """The winner of a pixel is the label with the largest linear share, as scipy interpolates each mask on its own."""
    rng = np.random.default_rng(3)
    flat = ndimage.zoom(rng.integers(0, 4, (6, 7)), 4, order=0).astype(np.uint8) * 60
    voxels = np.stack(np.meshgrid(np.linspace(0, 22.9, 80), np.linspace(0, 26.9, 90), indexing="ij")).astype(np.float32)
    shares = np.stack([ndimage.map_coordinates((flat == n).astype(float), voxels, order=1) for n in (0, 60, 120, 180)])
    places, numbers = sample_labels(flat, voxels)
    assert numbers == [0, 60, 120, 180]
    clear = np.sort(shares, axis=0)[-1] - np.sort(shares, axis=0)[-2] > 1e-4
    assert clear.mean() > 0.9
    assert np.array_equal(places[clear], shares.argmax(axis=0)[clear])
