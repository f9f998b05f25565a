"""How well readers agree on a measurement: limits of agreement, intraclass correlation, repeatability, each with its 95 % interval."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError, ParameterError
from medseg.core.finding import Finding, Severity
from medseg.evaluation.bland_altman import LEAST_PAIRS, BlandAltman, Scale, compare
from medseg.evaluation.estimate import Estimate, undefined

FloatArray = npt.NDArray[np.float64]

CITATIONS = {
    "limits of agreement": "Bland & Altman 1986, doi:10.1016/S0140-6736(86)90837-8; 1999, doi:10.1177/096228029900800204",
    "intervals of the limits": "exact, from the noncentral t distribution: Carkeet 2015, doi:10.1097/OPX.0000000000000513",
    "ICC(2,1)": "two-way random effects, absolute agreement, one reading: Shrout & Fleiss 1979, doi:10.1037/0033-2909.86.2.420; "
    "interval: McGraw & Wong 1996, doi:10.1037/1082-989X.1.1.30",
    "repeatability coefficient": "1.96 √2 within-subject SD: Bland & Altman 1999; Raunig et al. 2015, doi:10.1177/0962280214537344",
    "proportional bias": "difference against mean: Pitman 1939, doi:10.1093/biomet/31.1-2.9; Bland & Altman 1999",
}
_SIGNIFICANT = 0.05
_FEW = 10
_CONSTANT = "all readings are the same number: there is no spread to compare the readers by"


@dataclass(frozen=True)
class Agreement:
    """The agreement of two or more readers who each measured the same `count` subjects; `comparisons` holds every pair of readers.

    `icc` is ICC(2,1). `within_subject_sd` and `repeatability` (1.96 √2 of it) are in `unit` and hold everything in which the
    readings of a subject differ, a constant difference between readers too: of one reader who read twice this is the
    repeatability, between readers the reproducibility coefficient. `within_subject_cv_percent` is the root mean square of SD /
    mean over the subjects. `scale` says how differences are expressed; the other figures do not depend on it.
    """

    quantity: str
    unit: str
    readers: tuple[str, ...]
    count: int
    scale: Scale
    means: tuple[float, ...]
    comparisons: tuple[BlandAltman, ...]
    icc: Estimate
    within_subject_sd: Estimate
    repeatability: Estimate
    within_subject_cv_percent: Estimate
    findings: tuple[Finding, ...] = ()
    group: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; an undefined value is null with a reason."""
        return {
            "group": self.group,
            "quantity": self.quantity,
            "unit": self.unit,
            "readers": list(self.readers),
            "count": self.count,
            "scale": self.scale,
            "means": list(self.means),
            "comparisons": [comparison.to_dict() for comparison in self.comparisons],
            "icc_2_1": self.icc.to_dict(),
            "within_subject_sd": self.within_subject_sd.to_dict(),
            "repeatability_coefficient": self.repeatability.to_dict(),
            "within_subject_cv_percent": self.within_subject_cv_percent.to_dict(),
            "findings": [finding.to_dict() for finding in self.findings],
        }


def agreement(
    readings: npt.ArrayLike,
    *,
    readers: Sequence[str] = (),
    quantity: str = "volume",
    unit: str = "ml",
    scale: Literal["absolute", "percent", "log"] = "absolute",
    group: str = "",
) -> Agreement:
    """Compare readers who measured the same subjects: `readings` (subjects, readers), complete, at least three subjects.

    `scale` is that of the differences: in the unit, in percent of the mean of the two, or (log) as a ratio. Raises InputError
    for too few subjects or readers, for values that are no finite numbers, and for values of 0 or less where the scale needs
    positive ones; ParameterError for an unknown scale. Sources: `CITATIONS`.

    >>> twice = agreement([[10.1, 10.3], [20.4, 20.1], [15.2, 15.1], [30.6, 31.0]], readers=("first", "second"))
    >>> f"{twice.repeatability.value:.2f} ml, ICC(2,1) {twice.icc.value:.3f}"
    '0.54 ml, ICC(2,1) 1.000'
    """
    if scale not in ("absolute", "percent", "log"):
        raise ParameterError(f"there is no scale {scale!r}; known: absolute, percent, log")
    values = _checked(readings)
    names = tuple(readers) or tuple(chr(ord("A") + n) for n in range(values.shape[1]))
    if len(names) != values.shape[1] or len(set(names)) != len(names):
        raise ParameterError(f"{values.shape[1]} readers need as many different names, got {', '.join(names)}")
    pairs = itertools.combinations(range(len(names)), 2)
    comparisons = tuple(compare(values[:, a], values[:, b], (names[a], names[b]), scale=scale, unit=unit) for a, b in pairs)
    within = within_subject_sd(values)
    return Agreement(
        quantity=quantity,
        unit=unit,
        readers=names,
        count=len(values),
        scale=scale,
        means=tuple(float(mean) for mean in values.mean(axis=0)),
        comparisons=comparisons,
        icc=icc_2_1(values),
        within_subject_sd=within,
        repeatability=within.scaled(_z() * math.sqrt(2)),
        within_subject_cv_percent=within_subject_cv(values).scaled(100),
        findings=_findings(values, comparisons, scale, group),
        group=group,
    )


def _checked(readings: npt.ArrayLike) -> FloatArray:
    values = np.asarray(readings, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 2:
        raise InputError(f"agreement needs one row a subject and at least two readers, got an array of shape {values.shape}")
    if len(values) < LEAST_PAIRS:
        found = "1 subject has" if len(values) == 1 else f"{len(values)} subjects have"
        raise InputError(f"only {found} a value from every reader; agreement needs at least {LEAST_PAIRS}, and 30 or more to be narrow")
    if not np.isfinite(values).all():
        raise InputError("readings hold NaN or infinity: leave out the subjects that were not measured")
    return values


def _z() -> float:
    from scipy import stats

    return float(stats.norm.ppf(0.975))


def icc_2_1(values: FloatArray) -> Estimate:
    """Return ICC(2,1), called ICC(A,1) by McGraw & Wong, with its F-based 95 % interval: `values` (subjects, readers).

    Undefined where all readings are equal; its interval where the readers never differ. A negative value is reported as it is.

    >>> judges = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]  # Shrout & Fleiss 1979
    >>> f"{icc_2_1(np.array(judges, float)).value:.2f}"
    '0.29'
    """
    from scipy import stats

    n, k = values.shape
    subjects, readers, residual = _mean_squares(values)
    spread = subjects + (k - 1) * residual + k / n * (readers - residual)
    if not spread > 0:
        return undefined(_CONSTANT)
    icc = float((subjects - residual) / spread)
    if residual == 0 and readers == 0:
        return Estimate(icc, reason="the readers never differ: the interval is not defined")
    if icc >= 1 or residual == 0:
        return Estimate(icc, reason="the readers differ by a constant only: the interval is not defined")
    a = k * icc / (n * (1 - icc))
    b = 1 + k * icc * (n - 1) / (n * (1 - icc))
    freedom = (a * readers + b * residual) ** 2 / ((a * readers) ** 2 / (k - 1) + (b * residual) ** 2 / ((n - 1) * (k - 1)))
    low_f, high_f = stats.f.ppf(0.975, n - 1, freedom), stats.f.ppf(0.975, freedom, n - 1)
    rest = k * readers + (k * n - k - n) * residual
    low = n * (subjects - low_f * residual) / (low_f * rest + n * subjects)
    high = n * (high_f * subjects - residual) / (rest + n * high_f * subjects)
    return Estimate(icc, float(low), float(high))


def _mean_squares(values: FloatArray) -> tuple[float, float, float]:
    """Mean squares of subjects, readers and residual of a two-way table; rounding noise of the residual counts as none."""
    n, k = values.shape
    mean = values.mean()
    of_subjects, of_readers = values.mean(axis=1), values.mean(axis=0)
    residuals = values - of_subjects[:, None] - of_readers[None] + mean
    noise = (8 * np.finfo(float).eps * np.abs(values).max()) ** 2
    squares = [
        k * ((of_subjects - mean) ** 2).sum() / (n - 1),
        n * ((of_readers - mean) ** 2).sum() / (k - 1),
        (residuals**2).sum() / ((n - 1) * (k - 1)),
    ]
    subjects, readers, residual = (0.0 if square <= noise * n * k else float(square) for square in squares)
    return subjects, readers, residual


def within_subject_sd(values: FloatArray) -> Estimate:
    """Return the root mean square of the subjects' SDs with a chi-squared interval on subjects × (readers - 1) degrees of freedom."""
    variance = values.var(axis=1, ddof=1).mean()
    return _root(float(variance), values.shape)


def within_subject_cv(values: FloatArray) -> Estimate:
    """Return the root mean square of SD / mean of the subjects, as a fraction; undefined where a mean is not above 0.

    The chi-squared interval treats SD / mean as the SD of a relative value (Raunig et al. 2015), fair up to about 0.2.
    """
    means = values.mean(axis=1)
    if (means <= 0).any():
        return undefined("a subject has a mean of 0 or less: a share of it says nothing")
    return _root(float((values.var(axis=1, ddof=1) / means**2).mean()), values.shape)


def _root(variance: float, shape: tuple[int, ...]) -> Estimate:
    from scipy import stats

    freedom = shape[0] * (shape[1] - 1)
    high_chi, low_chi = stats.chi2.ppf((0.975, 0.025), freedom)
    return Estimate(math.sqrt(variance), math.sqrt(variance * freedom / high_chi), math.sqrt(variance * freedom / low_chi))


def _findings(values: FloatArray, comparisons: Sequence[BlandAltman], scale: Scale, group: str) -> tuple[Finding, ...]:
    found = []
    about = f"{group}: " if group else ""
    if len(values) < _FEW:
        message = f"{about}{len(values)} subjects: the intervals are wide; read them, not the figures alone"
        found.append(Finding("AGREEMENT_FEW_SUBJECTS", Severity.WARNING, message, {"count": len(values)}))
    for one in comparisons:
        who = f"{about}{one.first} and {one.second}"
        if one.spread_p is not None and one.spread_p < _SIGNIFICANT and one.spread_grows:
            advice = "limits in percent or as a ratio describe them better (--scale log)" if scale == "absolute" else "give limits by size"
            message = f"{who}: the spread of the differences grows with the mean; {advice}"
            found.append(Finding("AGREEMENT_SPREAD_GROWS", Severity.WARNING, message, {"p": one.spread_p}))
        if one.slope_p is not None and one.slope_p < _SIGNIFICANT:
            message = f"{who}: the difference depends on the size; one bias for all sizes does not describe it"
            found.append(Finding("AGREEMENT_PROPORTIONAL_BIAS", Severity.WARNING, message, {"p": one.slope_p}))
        if one.normality_p is not None and one.normality_p < _SIGNIFICANT:
            message = f"{who}: the differences are not normally distributed; the limits may not hold 95 % of them: look at the figure"
            found.append(Finding("AGREEMENT_NOT_NORMAL", Severity.WARNING, message, {"p": one.normality_p}))
    ratio = _ratio_of_scales(values)
    if ratio is not None:
        message = f"{about}one reader's values are about {ratio:,.0f} times another's: are they in the same unit (1 ml is 1000 mm³)?"
        found.append(Finding("AGREEMENT_UNITS_DIFFER", Severity.WARNING, message, {"ratio": ratio}))
    return tuple(found)


def dependence(keys: Sequence[tuple[str, ...]], columns: Sequence[str]) -> tuple[Finding, ...]:
    """Return a warning where rows of one result are not independent: several rows of a case, or several structures of one scan.

    >>> dependence([("a", "liver"), ("a", "spleen")], ("case", "label"))[0].code
    'AGREEMENT_ROWS_NOT_INDEPENDENT'
    """
    if "case" in columns:
        cases = {key[columns.index("case")] for key in keys}
        if len(cases) == len(keys):
            return ()
        message = f"{len(keys)} rows come from {len(cases)} cases: rows of one case are alike, so the intervals are too narrow"
        return (Finding("AGREEMENT_ROWS_NOT_INDEPENDENT", Severity.WARNING, message, {"rows": len(keys), "cases": len(cases)}),)
    if tuple(columns) == ("label",):
        message = (
            "the rows are named by label alone: if they are different structures, their sizes make ICC(2,1) high whatever the readers do"
        )
        return (Finding("AGREEMENT_STRUCTURES_POOLED", Severity.WARNING, message, {"rows": len(keys)}),)
    return ()


def _ratio_of_scales(values: FloatArray) -> float | None:
    """The power of ten (10 or more) by which the readers' medians differ, None where they do not."""
    medians = np.abs(np.median(values, axis=0))
    if medians.min() <= 0:
        return None
    ratio = medians.max() / medians.min()
    power = 10.0 ** round(math.log10(ratio))
    return power if power >= 10 and 0.8 < ratio / power < 1.25 else None
