from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medseg.core.errors import GeometryMismatchError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.measurement import Status
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.measurement.intensity import INTENSITY_FEATURES, intensity_features
from medseg.measurement.measure import measure


def scan(labels: NDArray[Any], image: NDArray[Any], affine: NDArray[Any] | None = None) -> tuple[LabelMap, Volume]:
    grid = Geometry(labels.shape, np.eye(4) if affine is None else affine)
    segments = tuple(Segment(n, f"segment {n}") for n in range(1, int(labels.max()) + 1))
    return LabelMap(labels.astype(np.uint8), grid, segments), Volume(image, grid, "CT", "HU")


def test_every_feature_of_random_segments(affine: NDArray[Any]) -> None:
    rng = np.random.default_rng(7)
    labels, image = rng.integers(0, 3, (8, 9, 10)), rng.normal(40, 30, (8, 9, 10)).astype(np.float32)
    found = intensity_features(*scan(labels, image, affine), bin_width=10)
    voxel_mm3 = abs(np.linalg.det(affine[:3, :3]))
    for number in (1, 2):
        values = image[labels == number].astype(float)
        p10, p25, p75, p90 = np.percentile(values, [10, 25, 75, 90])
        ours = {name: measurement.value for name, measurement in found[number].items()}
        assert tuple(ours) == INTENSITY_FEATURES
        assert ours["std"] == pytest.approx(values.std())
        assert ours["coefficient_of_variation"] == pytest.approx(values.std() / values.mean())
        assert ours["quartile_coefficient_of_dispersion"] == pytest.approx((p75 - p25) / (p75 + p25))
        assert ours["interquartile_range"] == pytest.approx(p75 - p25)
        assert (ours["percentile_10"], ours["percentile_90"]) == pytest.approx((p10, p90))
        assert ours["range"] == pytest.approx(np.ptp(values))
        assert ours["root_mean_square"] == pytest.approx(math.sqrt((values**2).mean()))
        assert ours["total_energy"] == pytest.approx((values**2).sum() * voxel_mm3)


def test_the_same_values_as_measure() -> None:
    rng = np.random.default_rng(2)
    label_map, volume = scan(rng.integers(0, 3, (6, 7, 8)), rng.integers(-900, 900, (6, 7, 8)).astype(np.int16))
    table = measure(label_map, volume, percentiles=[10, 50, 90])
    for number, features in intensity_features(label_map, volume).items():
        for name in ("mean", "std", "min", "max", "median", "percentile_10", "percentile_90"):
            expected = table[f"segment {number}", name]
            assert features[name].value == pytest.approx(expected.value, rel=1e-12)
            assert features[name].unit == expected.unit


def test_units() -> None:
    found = intensity_features(*scan(np.ones((2, 2, 2)), np.arange(8.0).reshape(2, 2, 2)))[1]
    assert {name: found[name].unit for name in ("mean", "variance", "total_energy", "entropy", "skewness")} == {
        "mean": "HU",
        "variance": "HU2",
        "total_energy": "HU2.mm3",
        "entropy": "bit",
        "skewness": "",
    }


def test_constant_intensity_has_no_shape() -> None:
    found = intensity_features(*scan(np.ones((2, 2, 2)), np.full((2, 2, 2), 7, np.int16)))[1]
    undefined = {name for name, measurement in found.items() if measurement.value is None}
    assert undefined == {"skewness", "excess_kurtosis"}
    assert found["skewness"].reason == "all voxels have one intensity"
    assert (found["variance"].value, found["entropy"].value, found["uniformity"].value) == (0, 0, 1)


def test_ratios_over_nothing() -> None:
    found = intensity_features(*scan(np.ones((4, 1, 1)), np.array([-1.0, 1, -1, 1]).reshape(4, 1, 1)))[1]
    assert found["coefficient_of_variation"].reason == "the mean is 0"
    assert found["quartile_coefficient_of_dispersion"].reason == "the quartiles add up to 0"
    assert found["excess_kurtosis"].value == pytest.approx(-2)


def test_what_is_not_finite_is_left_out_and_counted() -> None:
    image = np.array([1.0, 3, np.nan, np.inf, np.nan, np.nan]).reshape(6, 1, 1)
    found = intensity_features(*scan(np.array([1, 1, 1, 1, 2, 2]).reshape(6, 1, 1), image))
    assert found[1]["mean"].value == 2
    assert found[1]["mean"].reason == "2 voxels without a finite intensity are left out"
    assert {measurement.value for measurement in found[2].values()} == {None}
    assert found[2]["mean"].status is Status.FAILED
    assert "finite" in found[2]["mean"].reason


def test_a_segment_without_voxels() -> None:
    label_map, volume = scan(np.array([2, 0]).reshape(2, 1, 1), np.array([5.0, 6]).reshape(2, 1, 1))
    found = intensity_features(label_map, volume)
    assert {measurement.status for measurement in found[1].values()} == {Status.ABSENT}
    assert found[2]["median"].value == 5


def test_values_too_large_for_a_double() -> None:
    found = intensity_features(*scan(np.ones((2, 1, 1)), np.array([1e200, 2e200]).reshape(2, 1, 1)))[1]
    assert found["mean"].value == pytest.approx(1.5e200)
    assert found["energy"].value is None
    assert "too large" in found["energy"].reason


def test_thousands_of_single_voxels() -> None:
    labels = np.arange(1, 5001, dtype=np.uint16).reshape(20, 50, 5)
    grid = Geometry(labels.shape, np.eye(4))
    label_map = LabelMap(labels, grid, tuple(Segment(n, str(n)) for n in range(1, 5001)))
    found = intensity_features(label_map, Volume(labels.astype(np.int16), grid))
    assert all(features["median"].value == number for number, features in found.items())


def test_wrong_input_is_refused() -> None:
    label_map, volume = scan(np.ones((2, 2, 2)), np.ones((2, 2, 2)))
    with pytest.raises(ParameterError, match="bin_width"):
        intensity_features(label_map, volume, bin_width=0)
    with pytest.raises(GeometryMismatchError, match="not on one grid"):
        intensity_features(label_map, Volume(np.ones((3, 2, 2)), Geometry((3, 2, 2), np.eye(4))))
