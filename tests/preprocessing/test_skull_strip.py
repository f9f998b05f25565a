from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medseg.core.errors import InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.preprocessing.preprocess import preprocess
from medseg.preprocessing.skull_strip import brain_mask
from medseg.segmentation.segment import segment


def head(affine: np.ndarray, bias: float = 0.0) -> tuple[Volume, np.ndarray]:
    """A head in mm: brain of grey and white matter with a ventricle, fluid, skull, bright scalp, eyes, and two bridges to the scalp."""
    extent_mm = np.array([190.0, 210.0, 190.0])
    direction = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    spacing = np.array([2.0, 2.5, 3.0])
    shape = tuple(int(n) for n in np.ceil(extent_mm / spacing))
    matrix = np.eye(4)
    matrix[:3, :3] = direction * spacing
    geometry = Geometry(shape, matrix)
    points = geometry.index_to_world(np.stack(np.indices(shape), -1)) - geometry.index_to_world((np.array(shape) - 1) / 2)
    x, y, z = (
        (points @ np.linalg.inv(direction).T)[..., 0],
        (points @ np.linalg.inv(direction).T)[..., 1],
        (points @ np.linalg.inv(direction).T)[..., 2],
    )

    def ball(a: float, b: float, c: float, at: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
        return ((x - at[0]) / a) ** 2 + ((y - at[1]) / b) ** 2 + ((z - at[2]) / c) ** 2 < 1

    brain = ball(62, 76, 60)
    array = np.zeros(shape)
    for where, value in (
        (ball(82, 96, 82), 170),  # scalp, bright fat
        (ball(76, 90, 75), 15),  # skull
        (ball(68, 82, 66), 35),  # fluid
        (brain, 90),  # grey matter
        (ball(54, 68, 52), 130),  # white matter
        (ball(8, 20, 10), 35),  # ventricle
        (ball(13, 13, 13, (30, 84, -20)) | ball(13, 13, 13, (-30, 84, -20)), 60),  # eyes
        ((x**2 + (y - 80) ** 2 < 9) & (np.abs(y - 80) < 20) & (np.abs(z) < 3), 95),  # bridges
        ((np.abs(x - 66) < 12) & (y**2 + z**2 < 9), 95),
    ):
        array = np.where(where, value, array)
    array = array * np.exp(bias * z / 95) + np.random.default_rng(0).normal(0, 4, shape)
    return Volume(np.abs(array).astype(np.float32), geometry, "MR"), brain


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.mark.parametrize("bias", [0.0, 0.2])
def test_the_brain_is_found_in_a_head_with_known_answer(right_angled: np.ndarray, bias: float) -> None:
    scan, brain = head(right_angled, bias)
    found = brain_mask(scan, 4.0, 8.0, "brain").T.astype(bool)
    assert dice(found, brain) > 0.96


def test_outside_becomes_one_intensity(right_angled: np.ndarray) -> None:
    scan, brain = head(right_angled)
    kept = preprocess(scan, "skull-strip", outside=-7)
    found = kept.array != -7
    assert np.array_equal(kept.array[found], scan.array[found])
    assert dice(found, brain) > 0.96
    assert kept.geometry == scan.geometry


def test_what_is_no_head_is_refused() -> None:
    grid = Geometry((20, 20, 20), np.eye(4))
    scan = Volume(np.random.default_rng(0).normal(50, 5, grid.shape), grid, "MR")
    with pytest.raises(InputError, match="skull-strip: "):
        preprocess(scan.with_array(np.full(grid.shape, 5)), "skull-strip")
    with pytest.raises(InputError, match="outside -1 cannot be held by uint8"):
        preprocess(scan.with_array(np.zeros(grid.shape, np.uint8)), "skull-strip", outside=-1)
    array = scan.array.copy()
    array[3, 3, 3] = np.nan
    with pytest.raises(InputError, match="1 of 8000 voxels are NaN"):
        preprocess(scan.with_array(array), "skull-strip")
    with pytest.raises(InputError, match=r"no brain was found.*smaller bridge_mm"):
        preprocess(scan, "skull-strip", bridge_mm=14)
    tiny = Geometry(grid.shape, np.diag([0.01, 0.01, 0.01, 1.0]))
    with pytest.raises(InputError, match=r"no brain was found: the scan is 0\.329 mm across.*check the spacing"):
        preprocess(scan.with_array(scan.array, tiny), "skull-strip")
    with pytest.raises(ParameterError, match="bridge_mm"):
        preprocess(scan, "skull-strip", bridge_mm=0)


@pytest.mark.parametrize("name", ["brain", "skull-strip", "bias-field"])
def test_a_ct_is_refused_also_where_its_file_does_not_say_so(name: str) -> None:
    array = np.full((20, 20, 20), 40, np.int16)
    array[:4] = -1000
    scan = Volume(array, Geometry(array.shape, np.diag([3.0, 3.0, 3.0, 1.0])))
    run = segment if name == "brain" else preprocess
    with pytest.raises(InputError, match=f"{name} is for MR: this scan lies below -500 in many places"):
        run(scan, name)
    for said in (replace(scan, modality="CT"), replace(scan, unit="HU")):
        with pytest.raises(InputError, match=f"{name} is for MR: this scan is a CT"):
            run(said.with_array(np.abs(array)), name)
