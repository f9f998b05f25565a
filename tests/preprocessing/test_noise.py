from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.preprocessing.noise import neighbours_within, noise_deviation
from medseg.preprocessing.preprocess import preprocess

FILTERS = ["anisotropic-diffusion", "bilateral", "non-local-means"]


def head(affine: np.ndarray, noise: float, shape: tuple[int, int, int] = (20, 22, 24)) -> tuple[Volume, np.ndarray]:
    """Two tissues with a flat edge between them; the scan and the truth."""
    clean = np.where(np.arange(shape[2]) < 12, 100.0, 200.0) * np.ones(shape)
    noisy = clean + np.random.default_rng(3).normal(0, noise, shape)
    return Volume(noisy.astype(np.float32), Geometry(shape, affine), "MR"), clean


@pytest.mark.parametrize("deviation", [0.5, 8.0])
@pytest.mark.parametrize("shape", [(24, 25, 26), (1, 90, 100), (2, 80, 90)])
def test_the_deviation_of_white_noise_is_found_on_a_ramp(shape: tuple[int, int, int], deviation: float) -> None:
    ramp = 3.0 * np.indices(shape).sum(axis=0)
    assert noise_deviation(ramp + np.random.default_rng(0).normal(0, deviation, shape)) == pytest.approx(deviation, rel=0.06)


def test_edges_and_a_background_of_zeros_do_not_disturb_it(affine: np.ndarray) -> None:
    volume, _ = head(affine, 5.0, (70, 40, 60))
    array = volume.array.copy()
    array[:15] = 0
    assert noise_deviation(array.T) == pytest.approx(5.0, rel=0.15)


def test_many_voxels_are_looked_at_in_part() -> None:
    noise = np.random.default_rng(0).normal(0, 3, (40, 400, 400)).astype(np.float32)
    assert noise_deviation(noise) == pytest.approx(3, rel=0.01)


def test_nothing_that_varies_is_no_noise() -> None:
    for image in (np.full((5, 5, 5), 7), np.zeros((1, 1, 1)), np.arange(27.0).reshape(3, 3, 3)):
        assert noise_deviation(image) == pytest.approx(0, abs=1e-12)


def test_neighbours_are_those_within_the_distance_on_every_grid(affine: np.ndarray) -> None:
    geometry = Geometry((31, 31, 31), affine)
    steps, distance_mm = neighbours_within(geometry, 4.0, "bilateral")
    all_steps = np.stack(np.meshgrid(*[np.arange(-15, 16)] * 3, indexing="ij"), -1).reshape(-1, 3)
    lengths = np.linalg.norm(geometry.index_to_world(all_steps) - geometry.index_to_world((0, 0, 0)), axis=1)
    assert {tuple(step) for step in steps[:, ::-1].tolist()} == {tuple(step) for step in all_steps[lengths <= 4.0].tolist()}
    assert np.allclose(np.sort(distance_mm), np.sort(lengths[lengths <= 4.0]))


@pytest.mark.parametrize("name", FILTERS)
def test_noise_goes_and_the_edge_stays(name: str, right_angled: np.ndarray) -> None:
    volume, clean = head(right_angled, 6.0)
    found = preprocess(volume, name)
    assert found.array.dtype == np.float32
    error = found.array - clean
    assert error.std() < 3.0
    step = found.array[:, :, 12] - found.array[:, :, 11]
    assert step.mean() > 92
    assert preprocess(volume, "gaussian", sigma_mm=1.5).array[:, :, 11].mean() > 101  # a plain Gaussian does not keep it


@pytest.mark.parametrize("name", FILTERS)
def test_filters_commute_with_a_change_of_axes(name: str, affine: np.ndarray) -> None:
    volume, _ = head(affine, 6.0, (9, 10, 14))
    if volume.geometry.is_sheared and name == "anisotropic-diffusion":
        pytest.skip("refused on sheared grids, see test_diffusion")
    one = preprocess(preprocess(volume, "reorient", orientation="SPL"), name)
    other = preprocess(preprocess(volume, name), "reorient", orientation="SPL")
    assert np.allclose(one.array, other.array, atol=2e-3)
    assert np.allclose(one.geometry.affine, other.geometry.affine)


@pytest.mark.parametrize("name", FILTERS)
def test_where_there_is_no_noise_the_scan_stays_and_says_so(name: str) -> None:
    flat = Volume(np.full((4, 5, 6), 9, np.int16), Geometry((4, 5, 6), np.eye(4)))
    found = preprocess(flat, name)
    assert (found.array == 9).all()
    assert [finding.code for finding in found.findings] == ["NO_NOISE_FOUND"]


@pytest.mark.parametrize("name", FILTERS)
def test_nan_and_intensities_too_far_apart_are_refused(name: str) -> None:
    array = np.zeros((3, 3, 3), np.float32)
    array[1, 1, 1] = np.nan
    with pytest.raises(InputError, match=f"{name}: 1 of 27 voxels are NaN"):
        preprocess(Volume(array, Geometry((3, 3, 3), np.eye(4))), name)
    array[1, 1, 1] = 1e30
    with pytest.raises(InputError, match=f"{name}: intensities lie more than 1e\\+18 apart"):
        preprocess(Volume(array, Geometry((3, 3, 3), np.eye(4))), name)


@pytest.mark.parametrize("name", ["bilateral", "non-local-means"])
def test_a_reach_of_too_many_voxels_is_refused(name: str) -> None:
    fine = Volume(
        np.random.default_rng(0).normal(0, 1, (200, 200, 60)).astype(np.float32), Geometry((200, 200, 60), np.diag([0.1, 0.1, 0.1, 1]))
    )
    with pytest.raises(ParameterError, match=f"{name}: .* too many: choose a smaller reach"):
        preprocess(fine, name, **({"sigma_mm": 5} if name == "bilateral" else {"search_mm": 10}))
