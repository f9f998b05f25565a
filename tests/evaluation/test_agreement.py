"""Agreement against published worked examples, against formulas written another way, and where it is not defined."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from medseg.core.errors import InputError, ParameterError
from medseg.evaluation.agreement import agreement, dependence, icc_2_1, within_subject_sd
from medseg.evaluation.bland_altman import compare, limits
from medseg.evaluation.estimate import Estimate

# Peak expiratory flow (l/min), two readings with each of two meters: Bland & Altman 1986, doi:10.1016/S0140-6736(86)90837-8, table 1
WRIGHT = np.array(
    [
        (494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427),
        (490, 397, 512, 401, 470, 611, 415, 431, 638, 429, 420, 633, 275, 492, 165, 372, 421),
    ],
    float,
).T
MINI = np.array(
    [
        (512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451),
        (525, 415, 508, 444, 500, 625, 460, 390, 642, 432, 420, 605, 227, 467, 268, 370, 443),
    ],
    float,
).T
# Six targets, four judges: Shrout & Fleiss 1979, doi:10.1037/0033-2909.86.2.420, table 2
JUDGES = np.array([(9, 2, 5, 8), (6, 1, 3, 2), (8, 4, 6, 8), (7, 1, 2, 6), (10, 5, 6, 9), (6, 2, 4, 7)], float)


def spread(seed: int = 0, subjects: int = 40, readers: int = 2, noise: float = 4.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(120, 30, (subjects, 1)) + rng.normal(0, noise, (subjects, readers)) + rng.normal(0, noise / 2, (1, readers))


def test_the_peak_flow_meters_of_bland_and_altman():
    result = agreement(np.c_[WRIGHT[:, 0], MINI[:, 0]], readers=("Wright", "mini"), quantity="PEFR", unit="l/min")
    (one,) = result.comparisons
    assert one.bias.value == pytest.approx(-2.1, abs=0.05)
    assert one.sd == pytest.approx(38.8, abs=0.05)
    assert one.bias.interval == pytest.approx((-22.0, 17.8), abs=0.1)  # mean ± 2.12 × 9.4 in the paper
    assert one.bias.value - 2 * one.sd == pytest.approx(-79.7, abs=0.1)  # the paper takes 2, not 1.96
    assert (one.upper.value - one.lower.value) / one.sd == pytest.approx(2 * 1.959964)
    assert not result.findings


def test_the_repeatability_of_the_meters():
    """Within-subject SD 15.3 and 19.9 l/min (Bland & Altman 1999); the paper of 1986 gives 43.2 for twice the SD of differences."""
    wright, mini = agreement(WRIGHT), agreement(MINI)
    assert wright.within_subject_sd.value == pytest.approx(15.3, abs=0.05)
    assert mini.within_subject_sd.value == pytest.approx(19.9, abs=0.05)
    assert wright.repeatability.value == pytest.approx(2.77 * 15.3, abs=0.1)
    assert 2 * math.sqrt(2) * wright.within_subject_sd.value == pytest.approx(43.2, abs=0.15)


def test_the_judges_of_shrout_and_fleiss():
    found = icc_2_1(JUDGES)
    assert found.value == pytest.approx(0.29, abs=0.005)
    assert found.interval == pytest.approx((0.019, 0.761), abs=5e-4)  # as R's psych and irr give it


def test_icc_is_the_ratio_of_variance_components():
    values = spread(3, 25, 5)
    n, k = values.shape
    subjects = np.repeat(np.arange(n), k)
    readers = np.tile(np.arange(k), n)
    design = np.zeros((n * k, n + k))
    design[np.arange(n * k), subjects] = design[np.arange(n * k), n + readers] = 1
    rest = values.ravel() - design @ np.linalg.lstsq(design, values.ravel(), rcond=None)[0]
    error = rest @ rest / ((n - 1) * (k - 1))
    of_subjects = values.mean(axis=1).var(ddof=1) - error / k
    of_readers = values.mean(axis=0).var(ddof=1) - error / n
    assert icc_2_1(values).value == pytest.approx(of_subjects / (of_subjects + of_readers + error))


def test_the_interval_of_the_icc_inverts_its_f_test():
    """At its lower end the hypothesis is just rejected at 2.5 %: McGraw & Wong 1996, table 8, case 2A."""
    values = spread(5, 20, 3, 12.0)
    n, k = values.shape
    found = icc_2_1(values)
    mean = values.mean()
    msr = k * values.mean(axis=1).var(ddof=1)
    msc = n * values.mean(axis=0).var(ddof=1)
    mse = ((values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + mean) ** 2).sum() / ((n - 1) * (k - 1))
    r = found.value
    a, b = k * r / (n * (1 - r)), 1 + k * r * (n - 1) / (n * (1 - r))
    v = (a * msc + b * mse) ** 2 / ((a * msc) ** 2 / (k - 1) + (b * mse) ** 2 / ((n - 1) * (k - 1)))

    def ratio(rho: float) -> float:
        return msr / (k * rho / (n * (1 - rho)) * msc + (1 + k * rho * (n - 1) / (n * (1 - rho))) * mse)

    assert stats.f.sf(ratio(found.low), n - 1, v) == pytest.approx(0.025)
    assert stats.f.sf(1 / ratio(found.high), v, n - 1) == pytest.approx(0.025)


def test_the_limits_have_published_tolerance_factors():
    """A one-sided 95 % bound of a 95 % quantile lies 2.911 SD from the mean of 10 values (Odeh & Owen 1980); ours is 97.5 % of 97.5 %."""
    values = np.linspace(-1, 1, 10)
    values = (values - values.mean()) / values.std(ddof=1)
    bias, lower, upper = limits(values)

    def content(factor: float, n: int = 10, z: float = stats.norm.ppf(0.975)) -> float:
        """P(mean + factor SD covers the quantile), integrated over the distribution of the SD."""

        def at(s: float) -> float:
            return stats.norm.cdf((factor * s - z) * math.sqrt(n)) * stats.chi2.pdf((n - 1) * s * s, n - 1) * 2 * (n - 1) * s

        return integrate.quad(at, 0, 6, epsabs=1e-10)[0]

    assert upper.high == pytest.approx(optimize.brentq(lambda f: content(f) - 0.975, 2, 8), rel=1e-5)
    assert upper.low == pytest.approx(optimize.brentq(lambda f: content(f) - 0.025, 0.2, 3), rel=1e-5)
    assert (lower.low, lower.high) == pytest.approx((-upper.high, -upper.low))
    assert optimize.brentq(lambda f: content(f, z=stats.norm.ppf(0.95)) - 0.95, 2, 8) == pytest.approx(2.911, abs=5e-4)
    assert bias.interval == pytest.approx((-stats.t.ppf(0.975, 9) / math.sqrt(10), stats.t.ppf(0.975, 9) / math.sqrt(10)))


@pytest.mark.parametrize("count", [5, 12, 60])
def test_the_intervals_cover_the_truth_in_95_percent(count):
    rng = np.random.default_rng(count)
    trials = 2000
    limit = 2 + 3 * stats.norm.ppf(0.975)
    found = [limits(rng.normal(2, 3, count)) for _ in range(trials)]
    assert sum(bias.low <= 2 <= bias.high for bias, _, _ in found) / trials == pytest.approx(0.95, abs=0.015)
    assert sum(upper.low <= limit <= upper.high for _, _, upper in found) / trials == pytest.approx(0.95, abs=0.015)
    within = [within_subject_sd(rng.normal(50, 20, (count, 1)) + rng.normal(0, 3, (count, 3))) for _ in range(trials)]
    assert sum(sd.low <= 3 <= sd.high for sd in within) / trials == pytest.approx(0.95, abs=0.015)


def test_proportional_bias_is_a_regression_and_pitmans_test():
    values = spread(7)
    values[:, 0] *= 1.1
    one = compare(values[:, 0], values[:, 1], ("A", "B"))
    line = stats.linregress(values.mean(axis=1), values[:, 0] - values[:, 1])
    assert one.slope.value == pytest.approx(line.slope)
    half = stats.t.ppf(0.975, len(values) - 2) * line.stderr
    assert one.slope.interval == pytest.approx((line.slope - half, line.slope + half))
    r, p = stats.pearsonr(values.sum(axis=1), values[:, 0] - values[:, 1])
    assert (one.pitman_r, one.slope_p) == pytest.approx((r, p))
    assert "AGREEMENT_PROPORTIONAL_BIAS" in codes(agreement(values))


def codes(result) -> set[str]:
    return {finding.code for finding in result.findings}


def test_spread_that_grows_is_said_and_ratios_cure_it():
    rng = np.random.default_rng(11)
    true = np.exp(rng.normal(3, 1, 200))
    values = np.c_[true * np.exp(rng.normal(0.05, 0.1, 200)), true * np.exp(rng.normal(0, 0.1, 200))]
    assert "AGREEMENT_SPREAD_GROWS" in codes(agreement(values))
    result = agreement(values, scale="log")
    assert not codes(result)
    (one,) = result.comparisons
    logs = np.log(values[:, 0] / values[:, 1])
    assert one.bias.value == pytest.approx(stats.gmean(values[:, 0] / values[:, 1]))
    assert one.upper.value == pytest.approx(math.exp(logs.mean() + 1.959964 * logs.std(ddof=1)))
    assert one.differences[3] == pytest.approx(values[3, 0] / values[3, 1])
    (percent,) = agreement(values, scale="percent").comparisons
    assert percent.differences[5] == pytest.approx(200 * (values[5, 0] - values[5, 1]) / values[5].sum())
    assert result.icc == agreement(values).icc


def test_within_subject_cv_of_relative_noise():
    rng = np.random.default_rng(2)
    values = rng.uniform(5, 500, (4000, 1)) * (1 + rng.normal(0, 0.06, (4000, 3)))
    found = agreement(values).within_subject_cv_percent
    assert found.value == pytest.approx(6, rel=0.02)
    assert found.low < 6.0 < found.high


def test_more_than_two_readers_are_compared_in_pairs():
    result = agreement(spread(1, readers=3), readers=("Ann", "Ben", "Cy"))
    assert [(one.first, one.second) for one in result.comparisons] == [("Ann", "Ben"), ("Ann", "Cy"), ("Ben", "Cy")]
    biases = [one.bias.value for one in result.comparisons]
    assert biases[1] == pytest.approx(biases[0] + biases[2])


def test_exchanging_readers_changes_the_sign_only():
    values = spread(9)
    forth, back = agreement(values), agreement(values[:, ::-1])
    assert back.comparisons[0].bias.value == pytest.approx(-forth.comparisons[0].bias.value)
    assert back.comparisons[0].lower.low == pytest.approx(-forth.comparisons[0].upper.high)
    assert (back.icc.value, back.icc.low, back.icc.high) == pytest.approx((forth.icc.value, forth.icc.low, forth.icc.high))


def test_perfect_agreement_has_no_interval_but_a_reason():
    result = agreement(np.repeat([[3.1], [4.7], [9.3], [11.9]], 2, axis=1))
    assert result.icc.value == 1.0
    assert result.icc.interval is None
    assert "never differ" in result.icc.reason
    assert (result.repeatability.value, result.comparisons[0].bias.value) == (0.0, 0.0)
    assert result.comparisons[0].slope_p is None


def test_a_constant_difference_is_no_agreement():
    values = np.array([3.1, 4.7, 9.3, 11.9])
    result = agreement(np.c_[values, values + 5])
    assert 0 < result.icc.value < 0.7
    assert "constant" in result.icc.reason
    assert result.comparisons[0].bias.value == pytest.approx(-5)
    assert result.comparisons[0].slope.reason


def test_equal_values_are_undefined_not_one():
    result = agreement(np.full((5, 2), 7.7))
    assert result.icc.value is None
    assert "no spread" in result.icc.reason
    assert result.comparisons[0].slope.value is None


def test_zero_mean_has_no_share():
    values = spread(4)
    values[0] = 0.0
    assert agreement(values).within_subject_cv_percent.value is None
    for scale in ("percent", "log"):
        with pytest.raises(InputError, match="0 or less"):
            agreement(values, scale=scale)


@pytest.mark.parametrize(
    "readings", [[[1.0, 2.0]], [[1.0, 2.0], [2.0, 3.0]], [[1.0], [2.0], [3.0]], [1.0, 2.0, 3.0], [[1, 2], [2, np.nan], [3, 4]]]
)
def test_too_little_or_no_numbers_are_refused(readings):
    with pytest.raises(InputError):
        agreement(readings)


def test_names_and_scale_are_checked():
    with pytest.raises(ParameterError, match="different names"):
        agreement(spread(), readers=("A", "A"))
    with pytest.raises(ParameterError, match="no scale"):
        agreement(spread(), scale="cubic")


def test_units_that_differ_are_noticed():
    values = spread()
    values[:, 1] *= 1000
    (found,) = [finding for finding in agreement(values).findings if finding.code == "AGREEMENT_UNITS_DIFFER"]
    assert "1,000 times" in found.message
    assert "AGREEMENT_UNITS_DIFFER" not in codes(agreement(spread()))


def test_rows_that_are_not_independent_are_said():
    assert dependence([("a",), ("b",)], ("case",)) == ()
    assert dependence([("a", "1"), ("a", "2"), ("b", "1")], ("case", "id"))[0].details == {"rows": 3, "cases": 2}
    assert dependence([("liver",)], ("label",))[0].code == "AGREEMENT_STRUCTURES_POOLED"


def test_the_document_is_json_of_finite_numbers():
    import json

    for values in (spread(), np.full((5, 2), 7.7)):
        document = agreement(values).to_dict()
        assert json.loads(json.dumps(document, allow_nan=False)).keys() == document.keys()


def test_an_estimate_is_finite_or_has_a_reason():
    with pytest.raises(ParameterError):
        Estimate(math.nan, reason="?")
    with pytest.raises(ParameterError):
        Estimate(None)
