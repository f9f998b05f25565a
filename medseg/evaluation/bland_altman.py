"""Two readers on the same subjects: bias and limits of agreement, proportional bias, and whether the assumptions hold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError
from medseg.evaluation.estimate import Estimate, undefined

FloatArray = npt.NDArray[np.float64]
Scale = Literal["absolute", "percent", "log"]

LEAST_PAIRS = 3  # a slope and its interval need three
_MOST_FOR_NORMALITY = 5000  # the p of Shapiro and Wilk's test is not known beyond


@dataclass(frozen=True)
class BlandAltman:
    """The differences `first` - `second` of two readers: their bias and 95 % limits of agreement, each with a 95 % interval.

    On the scale "absolute" figures are in `unit`, on "percent" in % of the mean of the two, on "log" ratios first / second
    (`sd` then is that of the natural logarithms). `differences` and `means` (geometric on "log") are the points of the figure.
    `slope` is that of the differences against the means, with `slope_p` and `pitman_r`; `spread_p` tests whether the distance
    of the differences from that line depends on the mean, `normality_p` is Shapiro and Wilk's. None where not defined.
    """

    first: str
    second: str
    scale: Scale
    unit: str
    count: int
    bias: Estimate
    lower: Estimate
    upper: Estimate
    sd: float
    slope: Estimate
    slope_p: float | None
    pitman_r: float | None
    spread_p: float | None
    spread_grows: bool
    normality_p: float | None
    means: tuple[float, ...]
    differences: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form without the points."""
        return {
            "first": self.first,
            "second": self.second,
            "count": self.count,
            "scale": self.scale,
            "unit": self.unit,
            "bias": self.bias.to_dict(),
            "lower_limit": self.lower.to_dict(),
            "upper_limit": self.upper.to_dict(),
            "sd": self.sd,
            "proportional_bias": {
                "slope": self.slope.to_dict(),
                "p": self.slope_p,
                "pitman_r": self.pitman_r,
                "reason": self.slope.reason,
            },
            "spread_p": self.spread_p,
            "normality_p": self.normality_p,
        }


def compare(first: FloatArray, second: FloatArray, names: tuple[str, str], *, scale: Scale = "absolute", unit: str = "") -> BlandAltman:
    """Compare two readers: bias with Student's t interval, limits with exact intervals, slope of the difference against the mean.

    The limits are bias ± 1.96 SD; the interval of each is exact for normally distributed differences (noncentral t; Carkeet
    2015, doi:10.1097/OPX.0000000000000513, limits taken one by one). Needs at least three pairs of finite numbers. Raises
    InputError for values of 0 or less where a share or a ratio is asked for.

    >>> result = compare(np.array([10.0, 12, 15, 20]), np.array([9.0, 12, 14, 18]), ("A", "B"))
    >>> f"{result.bias.value:.1f} [{result.bias.low:.1f}, {result.bias.high:.1f}]"
    '1.0 [-0.3, 2.3]'
    """
    means, differences = _points(first, second, names, scale)
    slope, slope_p, correlation, residuals = _line(means, differences)
    spread, spread_p, _, _ = _line(means, np.abs(residuals))
    bias, lower, upper = limits(differences)
    shown = (means, differences)
    if scale == "log":
        bias, lower, upper = (estimate.mapped(math.exp) for estimate in (bias, lower, upper))
        shown = (np.exp(means), np.exp(differences))
    return BlandAltman(
        first=names[0],
        second=names[1],
        scale=scale,
        unit={"absolute": unit, "percent": "%", "log": ""}[scale],
        count=len(differences),
        bias=bias,
        lower=lower,
        upper=upper,
        sd=float(differences.std(ddof=1)),
        slope=slope,
        slope_p=slope_p,
        pitman_r=correlation,
        spread_p=spread_p,
        spread_grows=(spread.value or 0.0) > 0,
        normality_p=_normality(differences),
        means=tuple(shown[0].tolist()),
        differences=tuple(shown[1].tolist()),
    )


def _points(first: FloatArray, second: FloatArray, names: tuple[str, str], scale: Scale) -> tuple[FloatArray, FloatArray]:
    """Means and differences on the scale asked for; "log" gives both as natural logarithms."""
    means, differences = (first + second) / 2, first - second
    if scale == "absolute":
        return means, differences
    usable = means > 0 if scale == "percent" else (first > 0) & (second > 0)
    if not usable.all():
        what = "a mean" if scale == "percent" else "a value"
        raise InputError(
            f"{int((~usable).sum())} of {usable.size} pairs of {names[0]} and {names[1]} have {what} of 0 or less: "
            "a share or ratio of it says nothing; use the absolute scale or leave these out"
        )
    if scale == "percent":
        return means, 100 * differences / means
    return (np.log(first) + np.log(second)) / 2, np.log(first) - np.log(second)


def limits(differences: FloatArray) -> tuple[Estimate, Estimate, Estimate]:
    """Return bias, lower and upper 95 % limit of agreement of some differences, each with its exact 95 % interval.

    The distance of a true limit from the observed bias, times √n / SD, follows a noncentral t distribution with n - 1 degrees
    of freedom and noncentrality 1.96 √n.
    """
    from scipy import stats

    n = len(differences)
    bias, sd = float(differences.mean()), float(differences.std(ddof=1))
    z = float(stats.norm.ppf(0.975))
    half = float(stats.t.ppf(0.975, n - 1)) * sd / math.sqrt(n)
    near, far = (float(k) * sd / math.sqrt(n) for k in stats.nct.ppf((0.025, 0.975), n - 1, z * math.sqrt(n)))
    lower = Estimate(bias - z * sd, bias - far, bias - near)
    upper = Estimate(bias + z * sd, bias + near, bias + far)
    return Estimate(bias, bias - half, bias + half), lower, upper


def _line(x: FloatArray, y: FloatArray) -> tuple[Estimate, float | None, float | None, FloatArray]:
    """Least squares of y on x: slope with interval, its p (that of the correlation, too), the correlation, and the residuals."""
    from scipy import stats

    n = len(x)
    centred_x, centred_y = x - x.mean(), y - y.mean()
    noise = 1e-12 * (np.abs(x).max() + np.abs(y).max() + np.finfo(float).tiny)
    if np.abs(centred_x).max() <= noise:
        return undefined("all means are the same: a dependence on size cannot be seen"), None, None, centred_y
    if np.abs(centred_y).max() <= noise:
        return Estimate(0.0, reason="all differences are the same: the slope is 0 and has no interval"), None, None, centred_y
    sxx = float(centred_x @ centred_x)
    slope = float(centred_x @ centred_y) / sxx
    residuals = centred_y - slope * centred_x
    correlation = float(centred_x @ centred_y / math.sqrt(sxx * float(centred_y @ centred_y)))
    error = math.sqrt(float(residuals @ residuals) / (n - 2) / sxx)
    half = float(stats.t.ppf(0.975, n - 2)) * error
    p = float(2 * stats.t.sf(abs(slope) / error, n - 2)) if error > 0 else 0.0
    return Estimate(slope, slope - half, slope + half), p, max(-1.0, min(1.0, correlation)), residuals


def _normality(differences: FloatArray) -> float | None:
    from scipy import stats

    spread = float(np.ptp(differences))
    if not LEAST_PAIRS <= len(differences) <= _MOST_FOR_NORMALITY or spread <= 1e-12 * float(np.abs(differences).max()):
        return None
    return float(stats.shapiro((differences - differences.mean()) / spread).pvalue)
