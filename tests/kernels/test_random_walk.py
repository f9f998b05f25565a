from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve
from skimage.segmentation import random_walker

from medseg.kernels.random_walk import lattice, probabilities

AXES_MM = {
    "cubes": np.eye(3),
    "anisotropic": np.diag([2.5, 1.1, 0.8]),
    "left-handed and oblique": np.array([[0.0, 0.0, -3.0], [0.6, 0.8, 0.0], [-0.8, 0.6, 0.0]]),
    "sheared": np.array([[0.0, 0.9, 2.8], [0.0, 1.0, 0.0], [0.7, 0.0, 0.0]]),
}


def by_direct_solution(
    image: NDArray[Any], markers: NDArray[Any], axes_mm: NDArray[Any], beta: float, mask: NDArray[Any]
) -> dict[int, NDArray[Any]]:
    """The same equations, put together voxel by voxel and solved by factorisation."""
    number = np.arange(image.size).reshape(image.shape)
    rows, columns, weights = [], [], []
    steps, base = lattice(axes_mm)
    for step, weight in zip(steps, base / base.max(), strict=True):
        one = tuple(slice(max(0, -n), length - max(0, n)) for n, length in zip(step, image.shape, strict=True))
        other = tuple(slice(max(0, n), length - max(0, -n)) for n, length in zip(step, image.shape, strict=True))
        open_ = mask[one] & mask[other]
        difference = (image[one].astype(float) - image[other].astype(float))[open_]
        rows.append(number[one][open_])
        columns.append(number[other][open_])
        weights.append(weight * (np.exp(-beta * difference**2) + 1e-6))
    ends = (np.concatenate(rows + columns), np.concatenate(columns + rows))
    adjacency = coo_matrix((np.concatenate(weights + weights), ends), (image.size, image.size)).tocsr()
    flat = markers.ravel()
    unknown = np.flatnonzero((flat == 0) & mask.ravel() & (np.asarray(adjacency.sum(axis=1)).ravel() > 0))
    known = np.flatnonzero((flat > 0) & mask.ravel())
    laplacian = coo_matrix((np.asarray(adjacency.sum(axis=1)).ravel(), (number.ravel(), number.ravel()))).tocsr() - adjacency
    found = {}
    for label in np.unique(flat[known]):
        solved = np.zeros(image.size)
        solved[known] = flat[known] == label
        solved[unknown] = spsolve(laplacian[unknown][:, unknown].tocsc(), adjacency[unknown][:, known] @ solved[known])
        found[int(label)] = solved.reshape(image.shape)
    return found


def random_case(shape: tuple[int, int, int] = (9, 12, 11)) -> tuple[NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(2)
    image = rng.normal(0, 1, shape).astype(np.float32)
    markers = np.zeros(shape, np.uint8)
    markers.flat[rng.choice(markers.size, 9, replace=False)] = np.repeat([1, 2, 5], 3)
    return image, markers


@pytest.mark.parametrize("kind", AXES_MM)
@pytest.mark.parametrize("beta", [0.0, 0.6, 3.0])
def test_probabilities_are_those_of_a_direct_solution(kind: str, beta: float) -> None:
    image, markers = random_case()
    expected = by_direct_solution(image, markers, AXES_MM[kind], beta, np.ones(image.shape, bool))
    found = dict(probabilities(image, markers, AXES_MM[kind], beta))
    assert list(found) == [1, 2, 5]
    for label, likely in found.items():
        assert np.abs(likely - expected[label]).max() < 1e-3
    assert np.abs(sum(found.values()) - 1).max() < 2e-3


def test_probabilities_are_those_of_scikit_image() -> None:
    image, markers = random_case((10, 9, 8))
    image = image.astype(np.float64)
    theirs = random_walker(image, np.where(markers == 5, 3, markers).astype(int), beta=3, mode="bf", return_full_prob=True)
    found = dict(probabilities(image, markers, np.eye(3), 3 / (10 * image.std())))
    for number, label in enumerate((1, 2, 5)):
        assert np.abs(found[label] - theirs[number]).max() < 1e-3


def test_a_mask_closes_voxels_and_what_lies_behind_them_belongs_to_nobody() -> None:
    image, markers = random_case()
    mask = np.random.default_rng(4).random(image.shape) > 0.2
    mask[:4, :4, :4] = False
    mask[1:3, 1:3, 1:3], markers[:4, :4, :4] = True, 0
    expected = by_direct_solution(image, np.where(mask, markers, 0), AXES_MM["anisotropic"], 0.5, _reachable(mask, markers))
    for label, likely in probabilities(image, markers, AXES_MM["anisotropic"], 0.5, mask):
        assert np.abs(likely - expected[label]).max() < 1e-3
        assert not likely[~mask].any()
        assert not likely[1:3, 1:3, 1:3].any()


def _reachable(mask: NDArray[Any], markers: NDArray[Any]) -> NDArray[Any]:
    from scipy.ndimage import label

    pieces, _ = label(mask)
    held = np.unique(pieces[(markers > 0) & mask])
    return np.isin(pieces, held[held > 0])


def test_a_large_even_volume_is_solved_as_exactly_as_a_small_one() -> None:
    """Between two marked planes the probability falls in a straight line, however many voxels lie between."""
    markers = np.zeros((4, 6, 300), np.uint8)
    markers[..., 0], markers[..., -1] = 1, 2
    likely = dict(probabilities(np.zeros(markers.shape), markers, np.diag([3.0, 1.0, 1.0]), 1.0))[1]
    assert np.abs(likely - np.linspace(1, 0, 300)).max() < 1e-3


def test_walls_of_high_contrast_do_not_stop_the_solver() -> None:
    """A weight of a millionth around a closed shell: the equations are as uneven as they get."""
    place = np.indices((24, 24, 24)) - 11.5
    radius = np.linalg.norm(place, axis=0)
    image = ((radius > 6) & (radius < 8)) * 100.0
    markers = np.zeros(image.shape, np.uint8)
    markers[12, 12, 12], markers[0, 0, 0] = 1, 2
    likely = dict(probabilities(image, markers, np.eye(3), 1.0))[1]
    assert likely[radius < 5].min() > 0.9
    assert likely[radius > 9].max() < 0.1


@pytest.mark.parametrize("seed", range(8))
def test_the_lattice_adds_up_to_the_unit_matrix_with_weights_above_zero(seed: int) -> None:
    axes = np.random.default_rng(seed).normal(0, 1, (3, 3)) + 2 * np.eye(3)
    steps, weights = lattice(axes)
    in_mm = steps @ axes
    assert np.allclose((weights[:, None, None] * in_mm[:, :, None] * in_mm[:, None, :]).sum(axis=0), np.eye(3), atol=1e-6)
    assert (weights > 0).all()
    assert len(steps) <= 6


def test_at_right_angles_the_lattice_is_the_six_faces() -> None:
    steps, weights = lattice(AXES_MM["left-handed and oblique"])
    assert steps.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert np.allclose(weights, [1 / 9, 1, 1])


def test_the_label_left_out_has_what_is_left_to_one() -> None:
    image, markers = random_case()
    every = dict(probabilities(image, markers, AXES_MM["cubes"], 0.5))
    some = dict(probabilities(image, markers, AXES_MM["cubes"], 0.5, leave_out=2))
    assert list(some) == [1, 5]
    assert np.abs(1 - some[1] - some[5] - every[2]).max() < 1e-3


def test_flips_flip_the_probabilities() -> None:
    image, markers = random_case()
    found = dict(probabilities(image, markers, AXES_MM["sheared"], 0.5))
    for axis in range(3):
        axes = AXES_MM["sheared"].copy()
        axes[axis] *= -1
        again = dict(probabilities(np.flip(image, axis), np.flip(markers, axis), axes, 0.5))
        assert all(np.abs(np.flip(again[label], axis) - found[label]).max() < 1e-3 for label in found)
