from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import GeometryError, InputError, ParameterError
from medseg.core.finding import Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.segmentation.segment import segment

NAME = "leak-guarded-growing"
SPACING = np.array([1.0, 1.5, 2.0])


def dumbbell(radius_mm: float, flip: bool = False) -> tuple[Volume, np.ndarray]:
    """Two balls of 16 mm radius joined by a rod along the first axis, and where the second ball begins (index)."""
    shape = (96, 28, 22)
    mm = np.stack(np.indices(shape), axis=-1) * SPACING - np.array([0, 20.0, 20.0])
    first, second = np.linalg.norm(mm - [24, 0, 0], axis=-1) <= 16, np.linalg.norm(mm - [70, 0, 0], axis=-1) <= 16
    rod = (np.hypot(mm[..., 1], mm[..., 2]) <= radius_mm) & (mm[..., 0] > 24) & (mm[..., 0] < 70)
    array = np.where(first | second | rod, 100, 0).astype(np.int16)
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = (0, -20, -20)
    if flip:
        mirror = np.eye(4)
        mirror[0] = (-1, 0, 0, shape[0] - 1)
        return Volume(np.asfortranarray(array[::-1]), Geometry(shape, affine @ mirror)), second
    return Volume(array, Geometry(shape, affine)), second


CHOSEN = {"seeds": [(24, 0, 0)], "sigma_mm": 0.0}


@pytest.mark.parametrize("flip", [False, True])
def test_a_narrow_passage_to_a_second_body_is_a_leak(flip: bool) -> None:
    volume, second = dumbbell(3.0, flip)
    second = second[::-1] if flip else second
    open_ = segment(volume, NAME, **CHOSEN, neck_mm=0)
    assert (open_.array[second] == 1).all()
    found = segment(volume, NAME, **CHOSEN, neck_mm=8)
    assert not found.array[second].any()
    (leak,) = [finding for finding in found.findings if finding.code == "LEAK_STOPPED"]
    assert leak.severity is Severity.WARNING
    (told,) = leak.details["leaks"]
    assert 40 - 1 <= told["point_mm"][0] <= 54 + 1
    assert np.hypot(*told["point_mm"][1:]) < 3
    assert told["width_mm"] == pytest.approx(6, abs=2)
    assert told["volume_ml"] * 1000 / 3 + found.array.sum() == pytest.approx(open_.array.sum())


def test_a_passage_wider_than_the_neck_is_no_leak() -> None:
    volume, second = dumbbell(6.0)
    found = segment(volume, NAME, **CHOSEN, neck_mm=8)
    assert (found.array[second] == 1).all()
    assert "LEAK_STOPPED" not in [finding.code for finding in found.findings]
    assert not segment(volume, NAME, **CHOSEN, neck_mm=16).array[second].any()


def test_a_thin_part_that_does_not_widen_is_kept() -> None:
    volume, _ = dumbbell(3.0)
    array = volume.array.copy()
    array[60:] = 0
    found = segment(volume.with_array(array), NAME, **CHOSEN, neck_mm=8)
    assert np.array_equal(found.array == 1, array == 100)


def test_a_seed_near_the_border_starts_from_well_inside() -> None:
    volume, _ = dumbbell(3.0)
    found = segment(volume, NAME, seeds=[(24, 0, 13.9)], sigma_mm=0, neck_mm=8, seed_radius_mm=1)
    assert np.array_equal(found.array, segment(volume, NAME, **CHOSEN, neck_mm=8).array)


def test_two_leaks_are_told_the_largest_first_and_seeds_on_both_sides_keep_both() -> None:
    shape = (60, 28, 28)
    array = np.zeros(shape, np.int16)
    array[22:38, 6:22, 6:22] = array[38:46, 13:15, 13:15] = array[46:58, 8:20, 8:20] = 100
    array[16:22, 13:15, 13:15] = array[6:16, 9:19, 9:19] = 100
    volume = Volume(array, Geometry(shape, np.eye(4)))
    found = segment(volume, NAME, seeds=[(30, 14, 14)], sigma_mm=0, neck_mm=4)
    (leak,) = [finding for finding in found.findings if finding.code == "LEAK_STOPPED"]
    volumes = [told["volume_ml"] for told in leak.details["leaks"]]
    assert len(volumes) == 2
    assert volumes == sorted(volumes, reverse=True)
    assert "and at 1 more" in leak.message
    both = segment(volume, NAME, seeds=[(30, 14, 14), (52, 14, 14)], sigma_mm=0, neck_mm=4)
    assert both.array[52, 14, 14] == 1
    assert not both.array[10, 14, 14]


def test_limits_follow_the_region_and_noise_does_not_stop_it() -> None:
    volume, _ = dumbbell(3.0)
    truth = volume.array == 100
    noisy = volume.with_array((volume.array + np.random.default_rng(2).normal(0, 15, volume.array.shape)).astype(np.int16))
    found = segment(noisy, NAME, seeds=[(24, 0, 0)], neck_mm=8, sigma_mm=2, multiplier=3)
    first = truth.copy()
    first[48:] = False
    mask = found.array == 1
    assert 2 * (mask & first).sum() / (mask.sum() + first.sum()) > 0.93
    (limits,) = [finding.details for finding in found.findings if finding.code == "GROWN_LIMITS"]
    assert limits["lower"] == pytest.approx(100 - 3 * 15, abs=8)  # deviations of the noise, before smoothing
    assert limits["upper"] == pytest.approx(100 + 3 * 15, abs=8)


def test_a_scan_that_is_all_one_region_has_no_passage() -> None:
    volume = Volume(np.full((6, 7, 8), 40, np.int16), Geometry((6, 7, 8), np.eye(4)))
    assert segment(volume, NAME, seeds=[(2, 2, 2)]).array.all()


def test_nan_is_outside_and_a_mask_of_seeds_works() -> None:
    volume, _ = dumbbell(6.0)
    array = volume.array.astype(np.float32)
    array[47] = np.nan
    marked = np.zeros(array.shape, np.uint8)
    marked[22:26, 12:15, 9:12] = 1
    seeds = LabelMap(marked, volume.geometry, (Segment(1, "s"),))
    found = segment(volume.with_array(array), NAME, seed_mask=seeds, sigma_mm=0)
    assert not found.array[47:].any()
    assert found.array[24, 13, 10] == 1


def test_a_sheared_grid_is_refused_unless_the_guard_is_off() -> None:
    affine = np.eye(4)
    affine[1, 2] = 0.3
    volume = Volume(np.full((6, 7, 8), 40, np.int16), Geometry((6, 7, 8), affine))
    with pytest.raises(GeometryError, match=r"sheared.*neck_mm 0"):
        segment(volume, NAME, seeds=[(2, 2, 2)])
    assert segment(volume, NAME, seeds=[(2, 2, 2)], neck_mm=0).array.all()


def test_impossible_parameters_and_seeds_are_refused() -> None:
    volume, _ = dumbbell(3.0)
    with pytest.raises(InputError, match="no seed has an intensity between the limits"):
        segment(volume, NAME, **CHOSEN, lower=300)
    for chosen in ({}, {"seeds": [(0, 0, 0)], "lower": 3, "upper": 2}, {"seeds": [(0, 0, 0)], "widening": 1}):
        with pytest.raises(ParameterError, match=f"{NAME}: "):
            segment(volume, NAME, **chosen)


def test_the_guard_keeps_a_liver_from_its_surroundings(ct: Volume, organs: LabelMap) -> None:
    liver = organs.array == 5
    point = tuple(ct.geometry.index_to_world((90, 51, 18)).tolist())
    scores = []
    for neck_mm in (0, 14):
        mask = segment(ct, NAME, seeds=[point], sigma_mm=3, neck_mm=neck_mm, multiplier=3).array == 1
        scores.append(2 * (mask & liver).sum() / (mask.sum() + liver.sum()))
    assert scores[1] > scores[0]
