"""The flow diagram of a cohort, in the manner of STARD and CONSORT: what was found, what was left out and why, what was analysed.

STARD 2015 (Bossuyt et al., doi:10.1136/bmj.h5527) and CONSORT ask for it in every paper. It is drawn as text and lines in black on
white, so that a journal, Inkscape or PowerPoint can open and change it; nothing is loaded from anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

from medseg.core.errors import OutputError

_WIDTH = 760
_MARGIN = 14
_PHASE = 26  # the bar at the left with the name of the phase
_MAIN = (58, 300)  # left and width of the boxes of the main line
_SIDE = (420, 326)
_PAD = 11
_LINE = 17
_SIZE = 13
_SMALL = 12
_GAP = 30
_MOST_REASONS = 14
_FONT = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
_INK, _RULE, _SHADE, _MUTED = "#111827", "#374151", "#eef2f7", "#4b5563"
# Widths of Helvetica in thousandths of its size (Adobe font metrics), for what differs much from a small letter
_WIDTHS = {" ": 278, "i": 222, "j": 222, "l": 222, "f": 278, "t": 278, "r": 333, "m": 833, "w": 722, "s": 500, "c": 500, "k": 500, "v": 500}
_WIDTHS |= {"x": 500, "y": 500, "z": 500, "I": 278, "J": 500, "M": 833, "W": 944, "%": 889, "@": 1015, "=": 584, "+": 584, "<": 584}
_WIDTHS |= dict.fromkeys(".,:;!'/|", 278) | dict.fromkeys("()-", 333) | dict.fromkeys("ABEKPSVXY", 667) | dict.fromkeys("CDHNRU", 722)
_WIDTHS |= dict.fromkeys("GOQ", 778) | dict.fromkeys("FTZ", 611)
_BOLD = 1.08  # bold letters are wider
_SLACK = 1.2  # DejaVu Sans, where there is neither Helvetica nor Arial, is that much wider


class CountsError(OutputError):
    """Counts do not add up: something was lost or counted twice, and nothing that rests on them is written."""


@dataclass(frozen=True)
class Step:
    """A box of the main line: its phase, title, count and further lines; then what leaves before the next one, by reason.

    `leaving` is the title of the box at the side; reasons are counted in the same unit as `count`.
    """

    phase: str
    title: str
    count: int
    lines: tuple[str, ...] = ()
    leaving: str = ""
    reasons: Mapping[str, int] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """How many leave."""
        return sum(self.reasons.values())


def check_steps(steps: Sequence[Step]) -> None:
    """Raise CountsError where a step has another count than what the one before it passes on, or a count is negative.

    >>> check_steps([Step("Found", "Scans", 3, reasons={"scout": 1}), Step("Run", "Cases", 2)])
    """
    for step in steps:
        if step.count < 0 or any(count < 0 for count in step.reasons.values()):
            raise CountsError(f"“{step.title}” has a negative count")
    for before, after in pairwise(steps):
        if before.count - before.left != after.count:
            raise CountsError(
                f"the counts do not add up: {before.title} {before.count:,}, of these {before.left:,} left out, and yet "
                f"{after.title} {after.count:,}; run `medseg batch` again, which finds what is missing"
            )


def flow_svg(steps: Sequence[Step], title: str = "", description: str = "") -> str:
    """Return the diagram as SVG, 760 units wide; raises CountsError where the steps do not add up.

    The reasons of a step are listed with the most frequent first; beyond 14 the rest is one line with its sum. The same steps give
    the same text.

    >>> flow_svg([Step("Found", "Scans", 3, reasons={"scout": 1}), Step("Run", "Cases", 2)]).count("n = ")
    3
    """
    check_steps(steps)
    parts: list[str] = []
    top = float(_MARGIN + (30 if title else 0))
    phases: list[tuple[str, float, float]] = []
    for n, step in enumerate(steps):
        lines = _main_lines(step)
        height = _height(lines)
        side = _side_lines(step)
        parts.append(_box(_MAIN, top, lines, shade=n == len(steps) - 1))
        bottom = top + height
        middle = _MAIN[0] + _MAIN[1] / 2
        end = bottom
        if n < len(steps) - 1:
            side_height = _height(side) if side else 0
            gap = max(_GAP, side_height + 2 * 10)
            if side:
                at = bottom + gap / 2
                parts.append(_arrow(middle, at, _SIDE[0] - 1, at))
                parts.append(_box(_SIDE, at - side_height / 2, side))
            parts.append(_arrow(middle, bottom, middle, bottom + gap - 1))
            end = bottom + gap
        if phases and phases[-1][0] == step.phase:
            phases[-1] = (step.phase, phases[-1][1], bottom)
        else:
            phases.append((step.phase, top, bottom))
        top = end
    parts = [_bar(*phase) for phase in _joined(phases, steps)] + parts
    return _page(parts, top + _MARGIN, title, description or _described(steps))


def _joined(phases: Sequence[tuple[str, float, float]], steps: Sequence[Step]) -> list[tuple[str, float, float]]:
    """The bars of the phases, each down to a little above the next."""
    starts = [first for _, first, _ in phases]
    ends = [*(start - 6 for start in starts[1:]), phases[-1][2] if phases else 0.0]
    return [(name, first, end) for (name, first, _), end in zip(phases, ends, strict=True)]


def _described(steps: Sequence[Step]) -> str:
    """The same in sentences, for those who do not see it."""
    said = []
    for step in steps:
        said.append(f"{step.title}: {step.count:,}.")
        if step.left:
            reasons = "; ".join(f"{reason} {count:,}" for reason, count in _ranked(step.reasons))
            said.append(f"{step.leaving or 'Left out'}: {step.left:,} ({reasons}).")
    return " ".join(said)


def _ranked(reasons: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(((reason, count) for reason, count in reasons.items() if count), key=lambda one: (-one[1], one[0]))


_Line = tuple[str, str, str]  # count, text, style


def _main_lines(step: Step) -> list[_Line]:
    lines: list[_Line] = [("", line, "bold") for line in wrap(f"{step.title} (n = {step.count:,})", _MAIN[1] - 2 * _PAD, _SIZE * _BOLD)]
    for text in step.lines:
        lines += [("", line, "") for line in wrap(text, _MAIN[1] - 2 * _PAD, _SMALL)]
    return lines


def _side_lines(step: Step) -> list[_Line]:
    ranked = _ranked(step.reasons)
    if not ranked:
        return []
    if len(ranked) > _MOST_REASONS:
        rest = ranked[_MOST_REASONS - 1 :]
        ranked = [*ranked[: _MOST_REASONS - 1], (f"for {len(rest)} further reasons", sum(count for _, count in rest))]
    room = _SIDE[1] - 2 * _PAD
    lines: list[_Line] = [("", line, "bold") for line in wrap(f"{step.leaving or 'Left out'} (n = {step.left:,})", room, _SIZE * _BOLD)]
    for reason, count in ranked:
        first, *more = wrap(reason, room - _count_room(step.reasons), _SMALL)
        lines.append((f"{count:,}", first, f"{_count_room(step.reasons):.0f}"))
        lines += [(" ", line, f"{_count_room(step.reasons):.0f}") for line in more]
    return lines


def _count_room(reasons: Mapping[str, int]) -> float:
    return 12 + text_width(f"{max([*reasons.values(), sum(reasons.values())]):,}", _SMALL)


def text_width(text: str, size: float) -> float:
    """Return about how wide a text is in Helvetica, in the unit of `size`.

    >>> text_width("iiii", 10) < text_width("mmmm", 10)
    True
    """
    return sum(_WIDTHS.get(sign, 1000 if ord(sign) > 0x2E7F else 556) for sign in text) * size / 1000


def wrap(text: str, width: float, size: float) -> list[str]:
    """Return a text in lines that fit a width; a word that is longer than a line is broken.

    >>> wrap("series with too few slices", 80, 12)
    ['series with', 'too few', 'slices']
    """
    lines = [""]
    for word in text.split() or [""]:
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if text_width(longer, size) * _SLACK <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for sign in word:
            if lines[-1] and text_width(lines[-1] + sign, size) * _SLACK > width:
                lines.append("")
            lines[-1] += sign
    return lines


def _height(lines: Sequence[_Line]) -> float:
    return len(lines) * _LINE + 2 * _PAD - 4


def _box(place: tuple[int, int], top: float, lines: Sequence[_Line], shade: bool = False) -> str:
    left, width = place
    fill = _SHADE if shade else "#ffffff"
    out = [f'<rect x="{left}" y="{top:.1f}" width="{width}" height="{_height(lines):.1f}" fill="{fill}" stroke="{_RULE}"/>']
    for n, (count, text, style) in enumerate(lines):
        y = top + _PAD + n * _LINE + 11
        if count:
            if count.strip():
                at = left + _PAD + float(style) - 8
                out.append(f'<text x="{at:.1f}" y="{y:.1f}" text-anchor="end" class="small">{escape(count)}</text>')
            out.append(f'<text x="{left + _PAD + float(style):.1f}" y="{y:.1f}" class="small">{escape(text)}</text>')
        else:
            kind = "title" if style == "bold" else "small"
            out.append(f'<text x="{left + _PAD}" y="{y:.1f}" class="{kind}">{escape(text)}</text>')
    return "\n".join(out)


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """A line with a head; drawn as a path of its own, because many programs lose SVG markers."""
    down = x1 == x2
    head = f"{x2 - 4:.1f},{y2 - 7:.1f} {x2 + 4:.1f},{y2 - 7:.1f}" if down else f"{x2 - 7:.1f},{y2 - 4:.1f} {x2 - 7:.1f},{y2 + 4:.1f}"
    end = (x2, y2 - 6) if down else (x2 - 6, y2)
    line = f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" stroke="{_RULE}"/>'
    return f'{line}<polygon points="{x2:.1f},{y2:.1f} {head}" fill="{_RULE}"/>'


def _bar(name: str, top: float, bottom: float) -> str:
    middle = (top + bottom) / 2
    x = _MARGIN + _PHASE / 2
    size = min(12.0, 0.92 * (bottom - top) * 12 / max(1.0, text_width(name, 12) * 1.12))
    return (
        f'<rect x="{_MARGIN}" y="{top:.1f}" width="{_PHASE}" height="{bottom - top:.1f}" rx="3" fill="{_SHADE}"/>'
        f'<text x="{x + 4:.1f}" y="{middle:.1f}" class="phase" style="font-size:{size:.1f}px" '
        f'transform="rotate(-90 {x + 4:.1f} {middle:.1f})">{escape(name)}</text>'
    )


def _page(parts: Sequence[str], height: float, title: str, description: str) -> str:
    heading = f'<text x="{_MARGIN}" y="{_MARGIN + 12}" class="heading">{escape(title)}</text>\n' if title else ""
    style = (
        f"text{{font-family:{_FONT};fill:{_INK}}}.title{{font-size:{_SIZE}px;font-weight:bold}}.small{{font-size:{_SMALL}px}}"
        f".phase{{font-size:12px;text-anchor:middle;fill:{_MUTED};font-weight:bold}}.heading{{font-size:16px;font-weight:bold}}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height:.0f}" viewBox="0 0 {_WIDTH} {height:.0f}" '
        f'role="img" aria-labelledby="flow-title flow-text">\n<title id="flow-title">{escape(title or "Flow of the cohort")}</title>\n'
        f'<desc id="flow-text">{escape(description)}</desc>\n<style>{style}</style>\n'
        f'<rect width="{_WIDTH}" height="{height:.0f}" fill="#ffffff"/>\n{heading}' + "\n".join(parts) + "\n</svg>\n"
    )
