"""The numbers behind the live slider give, for every limit, the region that a flood with that limit would fill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from effect_scene import BALL_INDEX, ball_scan, load_effects
from scipy import ndimage

from medseg.method.catalog import find
from medseg.slicer_bridge.arrays import volume_of
from medseg.slicer_bridge.worker_nested import nested_map

pytestmark = pytest.mark.usefixtures("effects")


@pytest.fixture
def effects(load_module: Any) -> Any:
    return load_effects(load_module)


def nested(vary: str, folder: Path, dtype: Any = np.int16, noise: float = 4.0) -> tuple[Any, np.ndarray]:
    from SegmentEditorMedSegLib.nested import nestedRegion

    image, _, matrix = ball_scan("lps", noise)
    image = (image + (0.25 if dtype == np.float32 else 0)).astype(dtype)
    seed = (matrix @ np.append(BALL_INDEX, 1))[:3]
    params = find("nested-growing").build({"seeds": [tuple(seed)], "vary": vary, "seed_radius_mm": 2.0})
    _, values = nested_map(volume_of(image, matrix), params, {}, folder / "map", (0, 0, 0))
    return nestedRegion(values["nested"]), image


def flooded(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """The component of the seed between two limits, by scipy."""
    labels, _ = ndimage.label((image >= low) & (image <= high))
    i, j, k = BALL_INDEX.astype(int)
    return np.asarray((labels == labels[k, j, i]) & (labels > 0))


@pytest.mark.parametrize("vary", ["tolerance", "lower", "upper"])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_each_limit_gives_the_region_of_a_flood(vary: str, dtype: Any, tmp_path: Path) -> None:
    region, image = nested(vary, tmp_path, dtype)
    i0, i1, j0, j1, k0, k1 = region.extent
    for number in np.linspace(0, len(region.limits) - 1, 9).astype(int):
        limit = region.limits[number]
        low, high = {
            "tolerance": (region.centre - limit, region.centre + limit),
            "lower": (limit, np.inf),
            "upper": (-np.inf, limit),
        }[vary]
        expected = flooded(image, low, high)
        whole = np.zeros(image.shape, bool)
        whole[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1] = region.mask(number)
        assert np.array_equal(whole, expected)
        assert region.volumeMl(number) == pytest.approx(expected.sum() * 0.8 * 1.1 * 2.5 / 1000)
        assert region.number(limit) == number
        between = region.between(number)
        assert np.array_equal(flooded(image, *between), expected)


@pytest.mark.parametrize("vary", ["tolerance", "lower", "upper"])
def test_a_limit_between_two_counts_as_the_one_reached_before(vary: str, tmp_path: Path) -> None:
    region, _ = nested(vary, tmp_path)
    step = -0.4 if vary == "lower" else 0.4
    assert region.number(region.limits[3] + step) == 3
    assert region.number(region.limits[0] - step) == -1
    assert not region.mask(-1).any()
    assert region.volumeMl(-1) == 0
    assert region.number(region.limits[-1] + 1000 * step) == len(region.limits) - 1
    assert region.isWhole
    assert (region.smallest, region.largest) == (min(region.limits), max(region.limits))


def test_the_suggested_limit_is_the_one_before_the_ball_breaks_out(tmp_path: Path) -> None:
    region, image = nested("tolerance", tmp_path, noise=0.0)
    _, ball, _ = ball_scan("lps")
    i0, i1, j0, j1, k0, k1 = region.extent
    found = region.mask(region.suggested)
    assert np.array_equal(found.astype(bool), ball[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1])
    assert region.mask(len(region.limits) - 1).sum() > 5 * found.sum()
    assert image.size >= region.joins.size
