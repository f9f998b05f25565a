"""Gabor waves, local binary patterns and structure tensors against formulas, slow loops and numpy's eigenvalues."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medseg.core.errors import InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.kernels import texture as kernel
from medseg.preprocessing.preprocess import preprocess
from medseg.preprocessing.texture import (
    WIDTH_IN_WAVELENGTHS,
    GaborParams,
    LocalBinaryPatternParams,
    StructureTensorParams,
    directions_of,
    gabor,
    local_binary_pattern,
    structure_tensor,
)


def places_mm(geometry: Geometry) -> np.ndarray:
    return geometry.index_to_world(np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij"), axis=-1))


def test_a_wave_along_a_direction_of_the_bank_gives_its_amplitude_on_every_grid(affine: np.ndarray) -> None:
    geometry = Geometry((48, 36, 16), affine)
    direction = directions_of(5)[3]
    wave = 40 * np.cos(2 * np.pi * places_mm(geometry) @ direction / 12 + 0.7)
    answer = gabor(Volume(wave, geometry), GaborParams(wavelength_mm=12, directions=5)).array
    assert answer[24, 18, 8] == pytest.approx(40, rel=0.02)


def test_waves_of_another_length_or_direction_answer_less() -> None:
    geometry = Geometry((60, 60, 60), np.eye(4))
    direction = directions_of(1)[0]
    across = np.cross(direction, [1.0, 0, 0]) / np.linalg.norm(np.cross(direction, [1.0, 0, 0]))

    def middle(along: np.ndarray, wavelength_mm: float) -> float:
        wave = np.cos(2 * np.pi * places_mm(geometry) @ along / wavelength_mm)
        return float(gabor(Volume(wave, geometry), GaborParams(wavelength_mm=10, directions=1)).array[30, 30, 30])

    # one octave between the halves: 2/3 and 4/3 of the frequency
    assert middle(direction, 10) == pytest.approx(1, abs=0.02)
    assert middle(direction, 15) == pytest.approx(0.5, abs=0.06)
    assert middle(direction, 7.5) == pytest.approx(0.5, abs=0.06)
    assert middle(across, 10) < 0.02


def test_gabor_is_the_convolution_with_a_wave_under_a_gaussian() -> None:
    image = np.random.default_rng(0).normal(size=(25, 25, 25))
    geometry = Geometry(image.shape, np.diag([1.0, 1.5, 2.0, 1.0]))
    found = gabor(Volume(image, geometry), GaborParams(wavelength_mm=6, directions=1)).array[12, 12, 12]
    sigma_mm = WIDTH_IN_WAVELENGTHS * 6
    away = places_mm(geometry) - geometry.index_to_world((12, 12, 12))
    envelope = np.exp(-0.5 * (away**2).sum(axis=-1) / sigma_mm**2) * 3.0 / (2 * np.pi * sigma_mm**2) ** 1.5
    constant = np.exp(-2 * (np.pi * sigma_mm / 6) ** 2)
    wave = np.exp(2j * np.pi * away @ directions_of(1)[0] / 6) - constant
    # the sampled envelope is cut off by the scan 12 mm along i, where it still weighs 2e-3
    assert found == pytest.approx(abs(2 * (image * envelope * wave).sum()), rel=0.02)


def test_a_constant_scan_has_no_waves() -> None:
    answer = gabor(Volume(np.full((9, 8, 7), 1e4), Geometry((9, 8, 7), np.eye(4))), GaborParams(wavelength_mm=4)).array
    assert np.abs(answer).max() < 1e-6


def test_a_wave_shorter_than_two_voxels_is_refused() -> None:
    with pytest.raises(ParameterError, match="4 mm or more"):
        gabor(Volume(np.zeros((4, 4, 4)), Geometry((4, 4, 4), np.diag([2, 3, 4, 1]))), GaborParams(wavelength_mm=3))


def test_directions_cover_the_half_sphere() -> None:
    found = directions_of(40)
    assert (found[:, 2] > 0).all()
    random = np.random.default_rng(0).normal(size=(500, 3))
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    assert np.degrees(np.arccos(np.abs(random @ found.T).max(axis=1))).max() < 25


def test_binary_patterns_are_those_of_a_slow_loop() -> None:
    image = np.random.default_rng(1).integers(0, 6, (5, 6, 7)).astype(np.int16)
    grid = Geometry(image.shape, np.eye(4))
    counts = local_binary_pattern(Volume(image, grid), LocalBinaryPatternParams(least_difference=1)).array
    uniform = local_binary_pattern(Volume(image, grid), LocalBinaryPatternParams(least_difference=1, kind="uniform")).array
    wide = np.pad(image, 1, mode="edge")
    middle = np.zeros((3, 3, 3), bool)
    middle[1, 1, 1] = True
    for i, j, k in np.ndindex(image.shape):
        brighter = (wide[i : i + 3, j : j + 3, k : k + 3] - image[i, j, k] >= 1) & ~middle
        assert counts[i, j, k] == brighter.sum()
        pieces = max(ndimage.label(brighter)[1], ndimage.label(~brighter & ~middle)[1])
        assert uniform[i, j, k] == (brighter.sum() if pieces < 2 else 27)


def test_points_at_a_radius_lie_that_far_away_in_the_patient(affine: np.ndarray) -> None:
    geometry = Geometry((30, 24, 12), affine)
    # a bright ball of 4 mm about one voxel: seen from its centre no point at 3 mm is darker, every one at 6 mm is
    away = np.linalg.norm(places_mm(geometry) - geometry.index_to_world((15, 12, 6)), axis=-1)
    ball = Volume(np.clip(4.0 - away, -1, 0), geometry)
    for radius_mm, expected in ((3.0, 26), (6.0, 0)):
        found = local_binary_pattern(ball, LocalBinaryPatternParams(radius_mm=radius_mm, least_difference=-0.5)).array
        assert found[15, 12, 6] == expected


def test_the_shapes_of_tensors_follow_numpy_eigenvalues() -> None:
    random = np.random.default_rng(2).normal(size=(200, 3, 3))
    tensors = random @ np.transpose(random, (0, 2, 1))
    packed = np.stack([tensors[:, a, b] for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))])
    found = kernel.tensor_shapes(packed.astype(np.float32)[:, None, None, :])[:, 0, 0]
    third, second, first = np.linalg.eigvalsh(tensors).T
    expected = np.stack([((first - third) / (first + third)) ** 2, (second - third) / first, (first - second) / first])
    assert np.allclose(found, expected, atol=2e-5)


def test_a_wall_is_planar_and_a_rod_linear_on_every_grid(affine: np.ndarray) -> None:
    geometry = Geometry((40, 30, 16), affine)
    place = places_mm(geometry) - geometry.index_to_world((20, 15, 8))
    tilted = np.array([0.6, 0.0, 0.8])
    wall = Volume(100 / (1 + np.exp(place @ tilted)), geometry)
    rod = Volume(100 * np.exp(-((place**2).sum(axis=-1) - (place @ tilted) ** 2) / 50), geometry)  # 5 mm: two voxels of the coarsest axis
    # across the rod, slopes along the coarse axis of 2.5 mm are underrated by a tenth
    for scan, measure, least in ((wall, "planarity", 0.95), (rod, "linearity", 0.85)):
        found = structure_tensor(scan, StructureTensorParams(measure=measure, neighbourhood_mm=3)).array[20, 15, 8]
        assert found > least
    assert structure_tensor(wall, StructureTensorParams(measure="coherence", neighbourhood_mm=3)).array[20, 15, 8] > 0.9


def test_a_flat_scan_has_no_structure() -> None:
    flat = Volume(np.full((6, 6, 6), 1234.5, np.float32), Geometry((6, 6, 6), np.eye(4)))
    assert not structure_tensor(flat, StructureTensorParams()).array.any()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flipped_scan_gives_the_flipped_texture(axis: int) -> None:
    shape = (14, 12, 10)
    image = np.random.default_rng(3).normal(100, 30, shape).astype(np.float32)
    affine = np.diag([0.8, 1.1, 2.5, 1.0])
    turned = affine.copy()
    turned[:3, 3] += affine[:3, axis] * (shape[axis] - 1)
    turned[:3, axis] *= -1
    one, other = Volume(image, Geometry(shape, affine)), Volume(np.flip(image, axis), Geometry(shape, turned))
    for answer in (
        lambda scan: gabor(scan, GaborParams(wavelength_mm=6, directions=4)).array,
        lambda scan: local_binary_pattern(scan, LocalBinaryPatternParams(kind="uniform")).array,
        lambda scan: structure_tensor(scan, StructureTensorParams()).array,
    ):
        assert np.allclose(np.flip(answer(one), axis), answer(other), atol=2e-3)


@pytest.mark.parametrize(("name", "chosen"), [("gabor", {"wavelength_mm": 4}), ("normalise", {"kind": "minmax"})])
def test_intensities_near_the_end_of_float32_are_refused_and_smaller_ones_do_not_overflow(name: str, chosen: dict[str, object]) -> None:
    stripes = np.where(np.arange(6)[:, None, None] % 4 < 2, 1.0, -1.0) * np.ones((6, 6, 6))
    grid = Geometry((6, 6, 6), np.eye(4))
    with pytest.raises(InputError, match=r"intensities go beyond 1e.38"):
        preprocess(Volume((3e38 * stripes).astype(np.float32), grid), name, **chosen)
    large = preprocess(Volume((9e37 * stripes).astype(np.float32), grid), name, **chosen).array
    small = preprocess(Volume(stripes.astype(np.float32), grid), name, **chosen).array
    assert np.allclose(large / (9e37 if name == "gabor" else 1), small, rtol=1e-4)
