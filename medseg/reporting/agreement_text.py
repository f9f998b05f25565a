"""Agreement in words and tables: the sentences for a paper, CSV, and the table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medseg.reporting.tabular import csv_of

if TYPE_CHECKING:
    from rich.table import Table

    from medseg.evaluation.agreement import Agreement
    from medseg.evaluation.bland_altman import BlandAltman
    from medseg.evaluation.estimate import Estimate

MINUS = "−"


def agreement_sentences(result: Agreement, left_out: int = 0) -> str:
    """Return the sentences for the results section of a paper; every number in them is one of `result` (or `left_out`), rounded.

    What is not defined is left out, with its reason in the result.
    """
    unit = f" {result.unit}" if result.unit else ""
    where = f" of {result.group}" if result.group else ""
    opening = f"{_listed(result.readers)} measured the {result.quantity}{where} in {result.count} subjects."
    texts = [opening, *(_compared(one, result.quantity) for one in result.comparisons)]
    figures = []
    if result.icc.value is not None:
        figures.append(f"ICC(2,1) was {correlation_text(result.icc.value)}{_interval(result.icc, correlation_text)}")
    digits = decimals(result.within_subject_sd.value or max(map(abs, result.means)))
    coefficient = result.repeatability
    verb = "" if figures else " was"
    figures.append(
        f"the repeatability coefficient (1.96 √2 within-subject SD){verb} {number_text(coefficient.value, digits)}{unit}"
        f"{_interval(coefficient, lambda v: number_text(v, digits))}"
    )
    cv = result.within_subject_cv_percent
    if cv.value is not None:
        figures.append(f"the within-subject CV {number_text(cv.value, 1)} %{_interval(cv, lambda v: number_text(v, 1))}")
    texts.append(f"{_capital(_joined(figures))}.")
    if left_out:
        rows = "1 row was" if left_out == 1 else f"{left_out} rows were"
        texts.append(f"{rows} left out for want of a value from every reader.")
    return " ".join(texts)


def _compared(one: BlandAltman, quantity: str) -> str:
    unit = f" {one.unit}" if one.unit else ""
    digits = decimals(one.sd or abs(one.bias.value or 0) or 1) if one.scale != "log" else max(2, decimals(one.sd or 1))

    def text(value: float | None) -> str:
        return number_text(value, digits)

    names = f"{one.first} / {one.second}" if one.scale == "log" else f"{one.first} {MINUS} {one.second}"
    what = "ratio" if one.scale == "log" else "difference"
    average = (
        f"The {'geometric ' if one.scale == 'log' else ''}mean {what} ({names}) was {text(one.bias.value)}{unit}{_interval(one.bias, text)}"
    )
    between = (
        f"the 95 % limits of agreement were {text(one.lower.value)}{unit}{_interval(one.lower, text)} "
        f"and {text(one.upper.value)}{unit}{_interval(one.upper, text)}"
    )
    return f"{average}; {between}.{_dependence(one, what)}"


def _dependence(one: BlandAltman, what: str) -> str:
    """Whether the difference depends on the size: said with slope, interval and p, and not at all where they are not defined."""
    if one.slope.value is None or one.slope.interval is None or one.slope_p is None:
        return ""
    digits = max(3, decimals(max(map(abs, one.slope.interval))))
    low, high = (number_text(end, digits) for end in one.slope.interval)
    found = "depended" if one.slope_p < 0.05 else "showed no dependence"
    slope = f"slope {number_text(one.slope.value, digits)}, 95 % CI {low} to {high}, {p_text(one.slope_p)}"
    return f" The {what} {found} on the size of the measurement ({slope})."


def number_text(value: float | None, digits: int) -> str:
    """Return a number with so many decimals and a true minus sign, "" for None; what rounds to zero has no sign.

    >>> number_text(-2.117, 1), number_text(-0.01, 1), number_text(1234.5, 0)
    ('−2.1', '0.0', '1,234')
    """
    if value is None:
        return ""
    text = f"{value:,.{digits}f}"
    return text.lstrip("-") if not any(sign in text for sign in "123456789") else text.replace("-", MINUS)


def decimals(spread: float) -> int:
    """Return how many decimals show three significant digits of a spread, 0 to 6.

    >>> decimals(38.8), decimals(0.04), decimals(512.0)
    (1, 4, 0)
    """
    return min(6, max(0, 2 - math.floor(math.log10(spread)))) if spread > 0 else 2


def p_text(p: float) -> str:
    """Return a p value as papers print it.

    >>> p_text(0.74949), p_text(0.0312), p_text(1e-9)
    ('p = 0.75', 'p = 0.031', 'p < 0.001')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.{3 if p < 0.1 else 2}f}"


def correlation_text(value: float) -> str:
    """Return a correlation with three decimals; one that is not quite 1 is not called 1.

    >>> correlation_text(0.94593), correlation_text(0.99998), correlation_text(1.0)
    ('0.946', '> 0.999', '1.000')
    """
    text = number_text(value, 3)
    return "> 0.999" if text == "1.000" and value < 1 else text


def _interval(estimate: Estimate, text: Any) -> str:
    return "" if estimate.interval is None else f" (95 % CI {text(estimate.interval[0])} to {text(estimate.interval[1])})"


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


_ESTIMATES = ("icc_2_1", "within_subject_sd", "repeatability_coefficient", "within_subject_cv_percent")
_PAIR_ESTIMATES = ("bias", "lower_limit", "upper_limit")


def agreement_csv(results: Sequence[Agreement]) -> str:
    """Return one row a group and pair of readers as CSV with CRLF line ends; numbers read back equal, undefined ones are empty.

    `icc_2_1`, `within_subject_sd`, `repeatability_coefficient` and `within_subject_cv_percent` are those of all readers of
    the group; each estimate is followed by the ends of its 95 % interval.
    """
    head = ["group", "quantity", "unit", "first", "second", "count", "scale", "difference_unit"]
    for name in (*_PAIR_ESTIMATES, "slope", *_ESTIMATES):
        head += [name, f"{name}_low", f"{name}_high"]
    rows: list[list[Any]] = [[*head, "sd_of_differences", "slope_p", "pitman_r", "spread_p", "normality_p"]]
    for result in results:
        document = result.to_dict()
        for one in document["comparisons"]:
            row = [result.group, result.quantity, result.unit, one["first"], one["second"], one["count"], one["scale"], one["unit"]]
            found = [*(one[name] for name in _PAIR_ESTIMATES), one["proportional_bias"]["slope"], *(document[name] for name in _ESTIMATES)]
            for estimate in found:
                row += [estimate["value"], *(estimate["interval"] or (None, None))]
            bias = one["proportional_bias"]
            rows.append([*row, one["sd"], bias["p"], bias["pitman_r"], one["spread_p"], one["normality_p"]])
    return csv_of(rows)


def agreement_table(results: Sequence[Agreement]) -> Table:
    """Return the table for the terminal: one row a group and pair of readers, limits with intervals below them."""
    from rich import box
    from rich.table import Table

    first = results[0]
    shown = Table(
        box=box.SIMPLE_HEAD, title=f"agreement in {first.quantity}" + (f" ({first.unit})" if first.unit else ""), title_justify="left"
    )
    columns = ("readers", "n", "bias", "lower limit", "upper limit", "ICC(2,1)", "repeatability", "CV %", "slope")
    for column in ("group", *columns) if any(result.group for result in results) else columns:
        shown.add_column(column, justify="left" if column in ("group", "readers") else "right", overflow="fold")
    for result in results:
        digits = decimals(result.within_subject_sd.value or 1)
        shared = [
            _cell(result.icc, correlation_text),
            _cell(result.repeatability, lambda v, d=digits: number_text(v, d)),
            _cell(result.within_subject_cv_percent, lambda v: number_text(v, 1)),
        ]
        for one in result.comparisons:
            spread = max(2, decimals(one.sd or 1)) if one.scale == "log" else decimals(one.sd or 1)
            cells = [_cell(estimate, lambda v, d=spread: number_text(v, d)) for estimate in (one.bias, one.lower, one.upper)]
            slope = "–" if one.slope_p is None else f"{number_text(one.slope.value, 3)}\n{p_text(one.slope_p)}"
            names = [f"{one.first} {'/' if one.scale == 'log' else MINUS} {one.second}", str(one.count)]
            shown.add_row(*([result.group] if any(r.group for r in results) else []), *names, *cells, *shared, slope)
    return shown


def _cell(estimate: Estimate, text: Any) -> str:
    if estimate.value is None:
        return "–"
    return text(estimate.value) + ("" if estimate.interval is None else f"\n[{text(estimate.interval[0])}, {text(estimate.interval[1])}]")
