"""Volume and area of masks against meshes that were built, by ours and by scikit-image's marching cubes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import marching_cubes, mesh_surface_area

from medseg.kernels import marching_cubes as ours
from medseg.kernels.configurations import label_configurations

UNEVEN = np.diag([0.8, 1.3, 4.0])
SHEARED = np.array([[0.7, 0.1, -0.4], [0.0, -1.3, 0.3], [0.2, 0.0, 5.0]])


def tables(mask: NDArray[Any], affine: NDArray[np.float64]) -> tuple[float, float]:
    counts = label_configurations(mask.astype(np.uint8), np.array([1]))
    volume = ours.mesh_volumes_voxels(counts)[0] * abs(np.linalg.det(affine))
    return float(volume), float(ours.mesh_areas_mm2(counts, affine)[0])


def built(mask: NDArray[Any]) -> NDArray[np.float64]:
    """The triangles of our mesh, [n, 3, 3] as (k, j, i), cell by cell."""
    padded = np.pad(mask.astype(bool), 1)
    triangles = []
    for k, j, i in np.ndindex(*(length - 1 for length in padded.shape)):
        cell = padded[k : k + 2, j : j + 2, i : i + 2].ravel()
        for triangle in ours.cell_triangles()[int((cell << np.arange(8)).sum())]:
            triangles.append([np.array(ours._MIDDLES[edge]) / 2 + (k, j, i) for edge in triangle])
    return np.array(triangles)


def signed_volume(triangles: NDArray[np.float64]) -> float:
    return float(np.einsum("nd,nd->n", triangles[:, 0], np.cross(triangles[:, 1], triangles[:, 2])).sum() / 6)


def area(triangles: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1).sum() / 2)


def random_mask(rng: np.random.Generator, smoothness: float = 0.7) -> NDArray[np.bool_]:
    return np.asarray(ndimage.gaussian_filter(rng.normal(size=(7, 8, 9)), smoothness) > 0.1)


@pytest.mark.parametrize("affine", [np.eye(3), UNEVEN, SHEARED], ids=["cubes", "uneven", "sheared"])
def test_the_tables_give_what_the_built_mesh_has(affine: NDArray[np.float64], rng: np.random.Generator) -> None:
    mask = random_mask(rng)
    triangles = built(mask) @ affine.T[::-1]
    volume, surface = tables(mask, affine)
    assert volume == pytest.approx(abs(signed_volume(triangles)), rel=1e-12)
    assert surface == pytest.approx(area(triangles), rel=1e-12)


@pytest.mark.parametrize("smoothness", [0.2, 0.7])
def test_the_mesh_is_closed_and_turned_outwards(smoothness: float, rng: np.random.Generator) -> None:
    """Every edge is walked once in each direction, also where faces of cells are ambiguous."""
    triangles = np.rint(built(random_mask(rng, smoothness)) * 2).astype(int)
    edges: dict[tuple[tuple[int, ...], ...], int] = {}
    for triangle in triangles:
        corners = [tuple(point) for point in triangle]
        for one, other in zip(corners, corners[1:] + corners[:1], strict=True):
            edges[one, other] = edges.get((one, other), 0) + 1
    assert all(edges.get(edge[::-1]) == count for edge, count in edges.items())
    assert signed_volume(triangles.astype(float)[:, :, ::-1]) > 0  # (i, j, k) is right-handed


@pytest.mark.parametrize("method", ["lorensen", "lewiner"])
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (4.0, 1.3, 0.8)])
def test_every_unambiguous_cell_is_that_of_scikit_image(method: str, spacing_mm: tuple[float, float, float]) -> None:
    areas = ours.cell_areas_mm2(np.diag(spacing_mm[::-1]))
    compared = 0
    for n in range(1, 255):
        cell = np.array([n >> corner & 1 for corner in range(8)]).reshape(2, 2, 2)
        faces = [cell.take(side, axis).ravel().tolist() for axis in range(3) for side in (0, 1)]
        if [1, 0, 0, 1] in faces or [0, 1, 1, 0] in faces:
            continue
        vertices, triangles, _, _ = marching_cubes(cell.astype(float), 0.5, spacing=spacing_mm, method=method)
        assert areas[n] == pytest.approx(mesh_surface_area(vertices.astype(float), triangles), rel=1e-5)
        compared += 1
    assert compared == 254 - 120  # 120 configurations have an ambiguous face


def test_a_ball_as_scikit_image_meshes_it() -> None:
    index = np.indices((30, 40, 50)).T.T - np.array([14.3, 20.1, 25.2])[:, None, None, None]
    ball = (index**2).sum(axis=0) < 12.4**2
    vertices, triangles, _, _ = marching_cubes(np.pad(ball, 1).astype(float), 0.5, spacing=(4.0, 1.3, 0.8))
    volume, surface = tables(ball, UNEVEN)
    mesh = vertices.astype(float)[triangles]
    assert surface == pytest.approx(area(mesh), rel=1e-6)
    assert volume == pytest.approx(abs(signed_volume(mesh)), rel=1e-6)


def test_a_box_is_a_box_without_its_edges() -> None:
    """The mesh cuts half a voxel off the edges: 1/8 of a voxel for each on an edge, 5/48 and 1/8 at the corners."""
    volume, surface = tables(np.ones((4, 5, 6)), np.eye(3))
    edges = 4 * (3 + 4 + 5)
    assert volume == pytest.approx(4 * 5 * 6 - edges / 8 - 8 * 5 / 48)
    flat = 2 * (3 * 4 + 3 * 5 + 4 * 5)
    assert surface == pytest.approx(flat + edges * np.sqrt(0.5) + 8 * np.sqrt(3) / 8)


def test_voxels_that_touch_by_an_edge_are_joined() -> None:
    apart, joined = np.zeros((1, 2, 4)), np.zeros((1, 2, 4))
    apart[0, 0, 0] = apart[0, 1, 2] = joined[0, 0, 0] = joined[0, 1, 1] = 1
    assert tables(apart, np.eye(3))[0] == pytest.approx(2 / 6)
    assert tables(joined, np.eye(3))[0] > 2 / 6 + 0.1


def test_mask_and_complement_share_the_surface_where_no_face_is_ambiguous() -> None:
    volumes, areas = ours.cell_volumes(), ours.cell_areas_mm2(np.eye(3))
    same = [n for n in range(256) if volumes[n] + volumes[255 - n] == pytest.approx(1)]
    assert len(same) == 256 - 120
    for n in range(256):
        mirrored = sum((n >> corner & 1) << (corner ^ 1) for corner in range(8))
        assert volumes[n] == pytest.approx(volumes[mirrored], abs=1e-12)
    assert areas[same] == pytest.approx(areas[[255 - n for n in same]])


def test_exposed_faces_are_counted(rng: np.random.Generator) -> None:
    mask = random_mask(rng)
    padded = np.pad(mask.astype(int), 1)
    counts = label_configurations(mask.astype(np.uint8), np.array([1]))
    assert ours.face_counts(counts).tolist() == [[int(np.abs(np.diff(padded, axis=axis)).sum()) for axis in range(3)]]
