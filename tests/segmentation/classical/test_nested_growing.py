from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medseg.core.errors import InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.segmentation.classical.nested_growing import nested_regions
from medseg.segmentation.segment import segment

NAME = "nested-growing"
INDEX = (10, 9, 8)


def blob(affine: np.ndarray, dtype: Any = np.int16) -> Volume:
    rng = np.random.default_rng(11)
    i, j, k = np.indices((22, 20, 18))
    array = 100.0 * ((i - 10) ** 2 + (j - 9) ** 2 + (k - 8) ** 2 < 36) + rng.normal(0, 12, i.shape)
    return Volume(array.astype(dtype), Geometry(array.shape, affine))


def point(volume: Volume, index: tuple[int, int, int] = INDEX) -> tuple[float, ...]:
    return tuple(volume.geometry.index_to_world(index).tolist())


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("vary", ["tolerance", "lower", "upper"])
def test_every_region_is_what_region_growing_finds(affine: np.ndarray, dtype: Any, vary: Any) -> None:
    volume = blob(affine, np.float64)
    volume = volume.with_array((volume.array + 60).clip(0, 255).astype(dtype))
    centre = float(volume.array[INDEX]) if dtype != np.float32 else 160.0
    nested = nested_regions(volume, np.array([INDEX]), vary=vary, centre=centre)
    volume_ml = volume.geometry.voxel_volume_mm3 / 1000
    sizes = []
    for step in (0, 3, 17, 45, 80, 130):
        limits = {"tolerance": (centre - step, centre + step), "lower": (centre - step, None), "upper": (None, centre + step)}[vary]
        limit = {"tolerance": step, "lower": limits[0], "upper": limits[1]}[vary]
        found = nested.region(limit)
        if found.any():
            expected = segment(volume, "region-growing", seeds=[point(volume)], lower=limits[0], upper=limits[1])
            assert np.array_equal(found, expected.array == 1)
        assert nested.volume_ml(limit) == pytest.approx(found.sum() * volume_ml)
        sizes.append(int(found.sum()))
    assert sizes == sorted(sizes)
    assert sizes[-1] > 400


def test_limits_that_hold_always() -> None:
    volume = blob(np.eye(4))
    nested = nested_regions(volume, np.array([INDEX]), vary="lower", within=(-np.inf, 120))
    expected = segment(volume, "region-growing", seeds=[point(volume)], lower=70, upper=120)
    assert np.array_equal(nested.region(70), expected.array == 1)


def test_the_curve_is_the_volume_at_every_limit() -> None:
    volume = blob(np.diag([0.8, 1.1, 2.5, 1]))
    for vary in ("upper", "lower"):
        nested = nested_regions(volume, np.array([INDEX]), vary=vary)  # type: ignore[arg-type]
        limits, volumes = nested.curve
        assert (np.diff(volumes) > 0).all()
        assert ((np.diff(limits) < 0) if vary == "lower" else (np.diff(limits) > 0)).all()
        assert volumes[-1] == pytest.approx(volume.array.size * 2.2e-3)
        for at in (0, len(limits) // 2, -1):
            assert nested.region(limits[at]).sum() * 2.2e-3 == pytest.approx(volumes[at])
            assert nested.volume_ml(limits[at]) == pytest.approx(volumes[at])
        assert nested.volume_ml(1e6 if vary == "lower" else -1e6) == 0


def test_the_limit_before_the_leak_is_chosen() -> None:
    i, j, k = np.indices((40, 40, 40))
    array = np.where((i - 20) ** 2 + (j - 20) ** 2 + (k - 20) ** 2 < 100, 100 + (i + j + k) % 7, 0)
    volume = Volume(array.astype(np.int16), Geometry(array.shape, np.eye(4)))
    found = segment(volume, NAME, seeds=[(20, 20, 20)], label="ball")
    assert np.array_equal(found.mask("ball"), array >= 100)
    (finding,) = found.findings
    assert finding.code == "NESTED_REGIONS"
    assert finding.details["volumes_ml"] == [pytest.approx((array >= 100).sum() / 1000)]
    assert finding.details["curve_volumes_ml"][-1] == pytest.approx(64.0)


def test_several_limits_are_shells_from_the_inside() -> None:
    volume = blob(np.eye(4))
    found = segment(volume, NAME, seeds=[point(volume)], limits=[60, 20, 20], label="ball", seed_radius_mm=0)
    assert [s.label for s in found.segments] == ["ball_1", "ball_2"]
    centre = int(volume.array[INDEX])
    inner = segment(volume, "region-growing", seeds=[point(volume)], lower=centre - 20, upper=centre + 20).array == 1
    outer = segment(volume, "region-growing", seeds=[point(volume)], lower=centre - 60, upper=centre + 60).array == 1
    assert np.array_equal(found.mask("ball_1"), inner)
    assert np.array_equal(found.mask("ball_2"), outer & ~inner)
    falling = segment(volume, NAME, seeds=[point(volume)], vary="lower", limits=[40, 80])
    assert falling.mask("region_1").sum() < falling.mask("region_1").sum() + falling.mask("region_2").sum()
    assert volume.array[falling.mask("region_1")].min() >= 80


def test_a_mask_as_seeds_and_voxels_that_are_not_finite() -> None:
    volume = blob(np.eye(4), np.float32)
    array = volume.array.copy()
    array[15, :, :] = np.nan
    volume = volume.with_array(array)
    marked = np.zeros(array.shape, np.uint8)
    marked[9:12, 8:11, 7:10] = 1
    found = segment(volume, NAME, seed_mask=LabelMap(marked, volume.geometry, (Segment(1, "s"),)), limits=[1e4])
    assert not found.array[15:].any()
    assert found.array[:15].all()


def test_seeds_that_cannot_grow_and_impossible_parameters() -> None:
    volume = blob(np.eye(4))
    with pytest.raises(InputError, match="no seed lies on a voxel"):
        segment(volume, NAME, seeds=[point(volume)], lower=900)
    for chosen in ({}, {"seeds": [(0, 0, 0)], "lower": 3, "upper": 2}, {"seeds": [(0, 0, 0)], "vary": "both"}):
        with pytest.raises(ParameterError, match=f"{NAME}: "):
            segment(volume, NAME, **chosen)
