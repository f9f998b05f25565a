"""Waterfall and spider plot of lesions over time, as SVG text: no package needed, the same bytes for the same data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medseg.measurement.change import ChangeTable

_WIDTH, _HEIGHT = 880, 500
_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 64, 62, 92
_CUT_PERCENT = 400.0  # beyond, a bar or line is cut and its number stands beside it
_INK, _FAINT, _GRID = "#1b222c", "#5d6875", "#dde2e8"
_GROWN, _SHRUNK, _STABLE = "#c2410c", "#1d6fa5", "#8a94a0"  # told apart by the colour-blind too
_LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7a5c00", "#56b4e9", "#e69f00", "#4d4d4d")  # Okabe and Ito
_DASHES = ("", "7 4", "2 3", "9 3 2 3")
_FONT = "font-family='DejaVu Sans, Helvetica, Arial, sans-serif'"
_MOST_BARS = 60
_NAMES = 190  # pixels to the right of a spider plot


@dataclass(frozen=True)
class Bar:
    """One lesion of a waterfall: its change in per cent, the 95 % limits where known, and whether the change is beyond error."""

    label: str
    percent: float
    low: float | None = None
    high: float | None = None
    is_beyond_error: bool | None = None


@dataclass(frozen=True)
class Line:
    """One lesion of a spider plot: (time, per cent, low, high) from its first scan on; `is_new` where base does not have it."""

    label: str
    points: tuple[tuple[float, float, float | None, float | None], ...]
    is_new: bool = False


def waterfall_of(table: ChangeTable, time_point: int | None = None) -> str:
    """Draw the waterfall of one follow-up (the last one by default): lesions by their change in volume."""
    n = len(table.time_points) - 1 if time_point is None else time_point
    rows = table.at(n)
    bars = [Bar(r.track, r.change.value, r.change.low, r.change.high, r.is_beyond_error) for r in rows if r.change.value is not None]
    without = [f"{r.track} ({r.status.replace('_', ' ')})" for r in rows if r.change.value is None]
    days = table.time_points[n].days
    when = f"follow-up {n}" + ("" if days is None else f", {days:g} days after base")
    return waterfall_svg(bars, title=f"Change in volume at {when}", note=_no_bar(without), limits=_limits(table))


def spider_of(table: ChangeTable) -> str:
    """Draw the spider plot of all follow-ups: the change in volume of every lesion since it was first seen."""
    times = [point.days for point in table.time_points[1:]]
    known = all(day is not None for day in times)
    clock = [0.0, *(float(day or 0.0) if known else float(n) for n, day in enumerate(times, start=1))]
    lines: dict[str, list[tuple[float, float, float | None, float | None]]] = {}
    new: set[str] = set()
    for row in table.rows:
        if row.since > 0:
            new.add(row.track)
        if row.change.value is not None:
            lines.setdefault(row.track, [(clock[row.since], 0.0, None, None)])
            lines[row.track].append((clock[row.time_point], row.change.value, row.change.low, row.change.high))
    made = [Line(track, tuple(points), track in new) for track, points in lines.items()]
    marks = [(clock[n], response.overall) for n, response in enumerate(table.recist.responses, start=1)]
    return spider_svg(made, marks=marks, unit="days since base" if known else "scan", limits=_limits(table))


def waterfall_svg(bars: Sequence[Bar], *, title: str, note: str = "", limits: Sequence[tuple[float, str]] = ()) -> str:
    """Return a waterfall: one bar a lesion, the greatest growth first, with 95 % intervals; grey bars are within error.

    >>> waterfall_svg([Bar("L1", 40.0, 20.0, 63.0, True)], title="t").count("<rect")
    4
    """
    shown = sorted(bars, key=lambda bar: -bar.percent)[:_MOST_BARS]
    axis = _Axis.over([*(v for bar in shown for v in (bar.percent, bar.low, bar.high) if v is not None), *(v for v, _ in limits)])
    parts = [*_frame(title, axis, _WIDTH - _RIGHT), *_limit_lines(axis, limits, _WIDTH - _RIGHT, _WIDTH - _RIGHT + 6)]
    width = (_WIDTH - _LEFT - _RIGHT) / max(len(shown), 4)
    for n, bar in enumerate(shown):
        middle = _LEFT + (n + 0.5) * width
        colour = _STABLE if not bar.is_beyond_error and bar.percent > -100 else _GROWN if bar.percent > 0 else _SHRUNK
        zero, end = axis.y(0.0), axis.y(bar.percent)
        parts.append(_rect(middle - 0.35 * width, min(zero, end), 0.7 * width, abs(end - zero), colour))
        if bar.percent > axis.most:  # a cut through a bar that is taller than the scale
            parts.append(_line(middle - 0.45 * width, end + 20, middle + 0.45 * width, end + 10, "#ffffff", 5))
        else:
            parts += _whisker(axis, middle, bar.low, bar.high)
        above = bar.percent >= 0
        ends = [end, *(axis.y(v) for v in (bar.low, bar.high) if v is not None)]
        tip, low = min(ends), max(ends)
        parts.append(_text(_signed(bar.percent), middle, tip - 7 if above else low + 16, 12, "middle", _INK, max_width=width * 1.3))
        parts.append(_text(_tail(bar.label, width), middle, zero + 16 if above else zero - 7, 12, "middle", _FAINT, max_width=width))
    if not shown:
        parts.append(_text("no lesion can be compared", _WIDTH / 2, _HEIGHT / 2, 15, "middle", _FAINT))
    more = f"{len(bars) - len(shown)} more lesions are in the table. " if len(bars) > len(shown) else ""
    legend = [(_GROWN, "grown"), (_SHRUNK, "shrunk"), (_STABLE, "not beyond measurement error")]
    return _page(parts, title, legend, more + note)


def spider_svg(
    lines: Sequence[Line],
    *,
    title: str = "Change in volume since first seen",
    marks: Sequence[tuple[float, str]] = (),
    unit: str = "days since base",
    limits: Sequence[tuple[float, str]] = (),
) -> str:
    """Return a spider plot: one line a lesion with 95 % intervals, the response of each scan above it."""
    axis = _Axis.over([*(v for line in lines for p in line.points for v in p[1:] if v is not None), *(v for v, _ in limits)])
    last = max([*(p[0] for line in lines for p in line.points), *(time for time, _ in marks)], default=1.0) or 1.0
    place = lambda time: _LEFT + 14 + time / last * (_WIDTH - _LEFT - 14 - _NAMES)  # noqa: E731
    parts = [*_frame(title, axis, place(last)), *_limit_lines(axis, limits, place(last), _LEFT + 20)]
    for time in sorted({0.0, *(time for time, _ in marks), *(p[0] for line in lines for p in line.points)}):
        parts.append(_line(place(time), axis.bottom, place(time), axis.bottom + 5, _FAINT))
        parts.append(_text(f"{time:g}", place(time), axis.bottom + 20, 12, "middle", _FAINT))
    parts.append(_text(unit, place(last / 2), axis.bottom + 38, 12, "middle", _FAINT))
    parts += [_text(f"RECIST 1.1: {mark}", place(time), _TOP - 8, 12, "middle", _INK) for time, mark in marks]
    for n, line in enumerate(lines):
        colour, dash = _LINES[n % len(_LINES)], _DASHES[n // len(_LINES) % len(_DASHES)]
        path = " ".join(f"{place(time):.1f},{axis.y(percent):.1f}" for time, percent, _, _ in line.points)
        parts.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2' stroke-dasharray='{dash}'/>")
        for m, (time, percent, low, high) in enumerate(line.points):
            parts += _whisker(axis, place(time), low, high, colour)
            fill = "#ffffff" if line.is_new and m == 0 else colour
            parts.append(f"<circle cx='{place(time):.1f}' cy='{axis.y(percent):.1f}' r='3.6' fill='{fill}' stroke='{colour}'/>")
    parts += _names(lines, axis, place(last))
    if not lines:
        parts.append(_text("no lesion can be compared", _WIDTH / 2, _HEIGHT / 2, 15, "middle", _FAINT))
    return _page(parts, title, [], "hollow: first seen after base" if any(line.is_new for line in lines) else "")


def _names(lines: Sequence[Line], axis: _Axis, right: float) -> Iterator[str]:
    """The names beside the ends of the lines, moved apart where they would lie on each other."""
    ends = sorted(((axis.y(line.points[-1][1]), n) for n, line in enumerate(lines)), key=lambda one: one[0])
    step, used = 15.0, -math.inf
    room = axis.bottom - axis.top
    if len(ends) * step > room:
        step = room / max(1, len(ends))
    for order, (wanted, n) in enumerate(ends):
        latest = axis.bottom - (len(ends) - 1 - order) * step  # leaves room for those below
        used = min(max(wanted, used + step), max(latest, used + step))
        line = lines[n]
        percent = line.points[-1][1]
        yield _line(right + 5, axis.y(percent), right + 16, used, _GRID)
        text = f"{_signed(percent)}  {line.label}"
        yield _text(text, right + 19, used + 4, min(12, step), "start", _LINES[n % len(_LINES)], max_width=_NAMES - 22)


@dataclass(frozen=True)
class _Axis:
    """The scale of per cent: from `least` to `most`, pixels from `bottom` to `top`."""

    least: float
    most: float
    step: float
    top: float = _TOP + 8
    bottom: float = _HEIGHT - _BOTTOM

    @classmethod
    def over(cls, values: Sequence[float]) -> _Axis:
        low = max(-100.0, min([-20.0, *values]))
        high = min(_CUT_PERCENT, max([20.0, *values]))
        step = next(s for s in (10, 20, 25, 50, 100) if (high - low) / s <= 9 or s == 100)
        return cls(math.floor(low * 1.04 / step) * step if low > -100 else -100 - 0.4 * step, math.ceil(high * 1.04 / step) * step, step)

    def y(self, percent: float) -> float:
        share = (min(max(percent, self.least), self.most) - self.least) / (self.most - self.least)
        return self.bottom - share * (self.bottom - self.top)

    @property
    def ticks(self) -> list[float]:
        first = math.ceil(self.least / self.step)
        return [n * self.step for n in range(first, int(self.most / self.step) + 1)]


def _limits(table: ChangeTable) -> tuple[tuple[float, str], ...]:
    """The limits that hold for volumes, where the volumetric rule was asked for."""
    if table.volumetric is None:
        return ()
    rule = table.volumetric.rule
    return (rule.response_percent, f"{rule.response_percent:+.0f} %"), (rule.progression_percent, f"{rule.progression_percent:+.0f} %")


def _no_bar(without: Sequence[str]) -> str:
    if not without:
        return ""
    listed = ", ".join(without[:5]) + (f" and {len(without) - 5} more" if len(without) > 5 else "")
    return f"without a bar: {listed}"


def _frame(title: str, axis: _Axis, right: float) -> Iterator[str]:
    for tick in axis.ticks:
        zero = tick == 0
        yield _line(_LEFT, axis.y(tick), right, axis.y(tick), _INK if zero else _GRID, 1.2 if zero else 1)
        yield _text(_signed(tick), _LEFT - 8, axis.y(tick) + 4, 12, "end", _FAINT)
    yield _text(title, _LEFT, 26, 17, "start", _INK, bold=True)


def _limit_lines(axis: _Axis, limits: Sequence[tuple[float, str]], right: float, at: float) -> Iterator[str]:
    """The limits of a rule, with their numbers from pixel `at` on."""
    for value, text in limits:
        yield _line(_LEFT, axis.y(value), right, axis.y(value), _FAINT, 1, "5 4")
        yield _text(text, at, axis.y(value) + (4 if at > right else -5), 11, "start", _FAINT)


def _tail(label: str, room: float) -> str:
    """The end of a name, which tells lesions apart, where the whole does not fit."""
    most = max(3, int(room / 7))
    return label if len(label) <= most else "…" + label[len(label) - most + 1 :]


def _signed(percent: float) -> str:
    """Per cent without decimals and without a minus before zero."""
    whole = round(percent)
    return f"{whole:+d} %" if whole else "0 %"


def _whisker(axis: _Axis, x: float, low: float | None, high: float | None, colour: str = _INK) -> Iterator[str]:
    if low is None:
        return
    top = axis.y(axis.most if high is None else high)
    yield _line(x, axis.y(low), x, top, colour, 1.3)
    yield _line(x - 4, axis.y(low), x + 4, axis.y(low), colour, 1.3)
    if high is not None:  # an open end has no bar across
        yield _line(x - 4, top, x + 4, top, colour, 1.3)


def _page(parts: Sequence[str], title: str, legend: Sequence[tuple[str, str]], note: str) -> str:
    below, x = [], float(_LEFT)
    for colour, text in legend:
        below.append(_rect(x, _HEIGHT - 46, 12, 12, colour))
        below.append(_text(text, x + 18, _HEIGHT - 36, 12, "start", _INK))
        x += 40 + 7.2 * len(text)
    below.append(
        _text("whiskers: 95 % intervals" + (f"   ·   {note}" if note else ""), _LEFT, _HEIGHT - 12, 12, "start", _FAINT, max_width=780)
    )
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {_HEIGHT}' width='{_WIDTH}' height='{_HEIGHT}' role='img'>"
    paper = f"<path d='M0 0H{_WIDTH}V{_HEIGHT}H0Z' fill='#ffffff'/>"
    legend_marks = "\n".join(below)
    return f"{head}\n<title>{escape(title)}</title>\n{paper}\n" + "\n".join(parts) + f"\n{legend_marks}\n</svg>\n"


def _text(
    content: str, x: float, y: float, size: float, anchor: str, colour: str, *, bold: bool = False, max_width: float | None = None
) -> str:
    if max_width is not None:
        most = max(3, int(max_width / (0.58 * size)))
        content = content if len(content) <= most else content[: most - 1] + "…"
    weight = " font-weight='bold'" if bold else ""
    place = f"x='{x:.1f}' y='{y:.1f}' font-size='{size:g}' text-anchor='{anchor}'"
    return f"<text {place} {_FONT} fill='{colour}'{weight}>{escape(content)}</text>"


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1, dash: str = "") -> str:
    dashes = f" stroke-dasharray='{dash}'" if dash else ""
    return f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{colour}' stroke-width='{width}'{dashes}/>"


def _rect(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f"<rect x='{x:.1f}' y='{y:.1f}' width='{width:.1f}' height='{height:.1f}' fill='{colour}'/>"
