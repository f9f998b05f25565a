"""The Bland-Altman figure of a paper: differences against means, bias and limits with their 95 % intervals."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.reporting.agreement_text import MINUS, decimals, number_text
from medseg.reporting.dependencies import load

if TYPE_CHECKING:
    from medseg.evaluation.bland_altman import BlandAltman
    from medseg.evaluation.estimate import Estimate

_SIZE_INCHES = (6.3, 4.2)  # the width of a column and a half
_POINTS, _BIAS, _LIMIT, _ZERO = "#1b1f27", "#0b62a4", "#b5460f", "#8b93a1"
_SETTINGS = {
    "svg.hashsalt": "medseg",  # the same figure gives the same file
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.unicode_minus": True,
}


def agreement_svg(comparison: BlandAltman, quantity: str, title: str = "") -> str:
    """Return the figure as SVG; needs the extra `report` (MissingDependencyError)."""
    return _drawn(comparison, quantity, title, "svg", {"Date": None, "Creator": None}).decode("utf-8")


def agreement_png(comparison: BlandAltman, quantity: str, title: str = "", dpi: int = 300) -> bytes:
    """Return the figure as PNG of 6.3 × 4.2 inches; needs the extra `report` (MissingDependencyError)."""
    return _drawn(comparison, quantity, title, "png", {"Software": None}, dpi)


def _drawn(one: BlandAltman, quantity: str, title: str, form: str, metadata: dict[str, Any], dpi: int = 300) -> bytes:
    with load("matplotlib").rc_context(_SETTINGS):
        figure = load("matplotlib.figure").Figure(figsize=_SIZE_INCHES, layout="constrained")
        load(f"matplotlib.backends.backend_{'svg' if form == 'svg' else 'agg'}")
        axes = figure.subplots()
        _draw(axes, one, quantity, title)
        out = io.BytesIO()
        figure.savefig(out, format=form, dpi=dpi, metadata=metadata)
    return out.getvalue()


def _draw(axes: Any, one: BlandAltman, quantity: str, title: str) -> None:
    if one.scale == "log":
        _ratio_axes(axes, one)
    lines = ((one.upper, _LIMIT, "--", "upper limit"), (one.bias, _BIAS, "-", "bias"), (one.lower, _LIMIT, "--", "lower limit"))
    for estimate, colour, style, _ in lines:
        if estimate.interval is not None and estimate.interval[1] > estimate.interval[0]:
            axes.axhspan(*estimate.interval, color=colour, alpha=0.13, linewidth=0)
        axes.axhline(estimate.value, color=colour, linestyle=style, linewidth=1.4)
    axes.axhline(1 if one.scale == "log" else 0, color=_ZERO, linewidth=0.7, zorder=0.5)
    axes.plot(one.means, one.differences, "o", color=_POINTS, markersize=_marker(one.count), markeredgewidth=0, alpha=0.75)
    if one.slope_p is not None and one.slope_p < 0.05:
        _draw_slope(axes, one)
    axes.set_ylim(*_limits(one))
    for estimate, colour, _, name in _spread_labels(axes, lines):
        _label(axes, estimate, colour, name, one)
    unit = f" ({one.unit})" if one.unit else ""
    axes.set_xlabel(f"{'geometric mean' if one.scale == 'log' else 'mean'} of {one.first} and {one.second}: {quantity}")
    axes.set_ylabel(f"{one.first} / {one.second}" if one.scale == "log" else f"{one.first} {MINUS} {one.second}{unit}")
    axes.set_title(f"{title}  (n = {one.count})" if title else f"n = {one.count}", loc="left", fontsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _marker(count: int) -> float:
    return 5.0 if count <= 60 else 3.5 if count <= 300 else 2.0


def _limits(one: BlandAltman) -> tuple[float, float]:
    """The range of the ordinate: points, limits and intervals; wide intervals of few subjects are cut rather than the points squeezed."""
    to, back = (np.log, np.exp) if one.scale == "log" else (np.asarray, np.asarray)
    middle = [float(to(value)) for value in (*one.differences, one.lower.value, one.upper.value, one.bias.value) if value is not None]
    ends = [float(to(end)) for estimate in (one.lower, one.upper) for end in (estimate.interval or ())]
    low, high = min(middle), max(middle)
    room = (high - low) or max(abs(high) * 0.1, 1e-3)
    low, high = max(min([low, *ends]), low - room), min(max([high, *ends]), high + room)
    margin = 0.06 * (high - low or room)
    return float(back(low - margin)), float(back(high + margin))


def _draw_slope(axes: Any, one: BlandAltman) -> None:
    """The line of a difference that depends on the size."""
    if one.slope.value is None or one.bias.value is None:
        return
    means = np.array(one.means)
    ends = np.array([means.min(), means.max()])
    if one.scale == "log":
        line = np.exp(math.log(one.bias.value) + one.slope.value * (np.log(ends) - np.log(means).mean()))
    else:
        line = one.bias.value + one.slope.value * (ends - means.mean())
    axes.plot(ends, line, ":", color=_POINTS, linewidth=1.3)


def _spread_labels(axes: Any, lines: Any) -> Any:
    """The lines that have room for a label: limits always, the bias where it is not too near to them."""
    low, high = axes.get_ylim()
    upper, bias, lower = (line[0].value for line in lines)
    near = min(abs(upper - bias), abs(bias - lower)) < 0.09 * abs(high - low)
    return lines[::2] if near else lines


def _label(axes: Any, estimate: Estimate, colour: str, name: str, one: BlandAltman) -> None:
    """Value and interval at the right end of a line, outside the axes."""
    digits = decimals(one.sd or abs(one.bias.value or 0) or 1)
    digits = max(2, digits) if one.scale == "log" else digits
    text = f"{name}\n{number_text(estimate.value, digits)}"
    if estimate.interval is not None:
        text += f"\n[{number_text(estimate.interval[0], digits)}, {number_text(estimate.interval[1], digits)}]"
    place = axes.get_yaxis_transform()
    axes.text(1.015, estimate.value, text, transform=place, ha="left", va="center", color=colour, fontsize=8, linespacing=1.25)


def _ratio_axes(axes: Any, one: BlandAltman) -> None:
    """Logarithmic axes with plain numbers."""
    ticker = load("matplotlib.ticker")
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis, values in ((axes.xaxis, one.means), (axes.yaxis, one.differences)):
        wide = max(values) > 5 * min(values)
        plain = ticker.LogLocator(subs=(1, 2, 5)) if wide else ticker.MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10])
        axis.set_major_locator(plain)
        axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(ticker.NullLocator())
