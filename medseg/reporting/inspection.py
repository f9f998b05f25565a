"""What `medseg inspect` found, for people: verdict first, then each finding with its cost and what to do, then the figures.

Takes the JSON form of a report (schema medseg.inspect/1), so that whatever is said here can be read by programs too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medseg.reporting.wording import format_volume

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

_ORDER = ("error", "warning", "info")
_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}
_INDENT = 4
_CHOICES = frozenset({"SEVERAL_VOLUMES", "MIXED_SERIES", "MIXED_ORIENTATION"})  # nothing is wrong but that one must be chosen
_NOTHING = "Nothing to do."  # as the advice says it; not worth a line
_LEAST_DEGREES = 0.05
_ANGLES = (("tilt", "tilt_degrees"), ("oblique", "obliqueness_degrees"))
_MOST_ROWS = 20  # of a table on the screen; the JSON document has them all
_ROUNDING_MM = 0.01

Entry = Mapping[str, Any]


def inspection(entry: Entry, number: int) -> RenderableType:
    """Return everything about one volume as it is shown on a terminal of 80 columns or more."""
    from rich.console import Group
    from rich.padding import Padding

    sections = (
        _findings(entry["findings"]),
        _slices(entry),
        _gaps(entry),
        _stacks(entry),
        _tags(entry),
        _structures(entry),
        _prices(entry),
    )
    parts: list[RenderableType] = [*_head(entry, number)]
    for section in sections:
        shown = list(section)
        if shown:
            parts += ["", *(Padding(part, (0, 0, 0, _INDENT)) for part in shown)]
    return Group(*parts, "")


def verdict(entry: Entry) -> tuple[str, str]:
    """Return whether volumes measured on this may be reported, in words and as a style.

    >>> verdict({"reportable": False, "findings": [{"severity": "error"}], "shape": None, "structures": None})
    ('must not be reported', 'bold red')
    """
    severities = {finding["severity"] for finding in entry["findings"]}
    errors = {finding.get("code") for finding in entry["findings"] if finding["severity"] == "error"}
    if errors and errors <= _CHOICES:
        return "several volumes: choose one", "bold yellow"
    if not entry["reportable"]:
        return "must not be reported", "bold red"
    if entry["shape"] is None and entry["structures"] is None:
        return "no image volume", "dim"
    if "warning" in severities:
        return "can be reported, with the warnings below", "yellow"
    return "can be reported", "green"


def _head(entry: Entry, number: int) -> Iterator[RenderableType]:
    from rich.padding import Padding
    from rich.text import Text

    kind = " ".join(part for part in (entry["format"], "" if entry["modality"] in entry["format"] else entry["modality"]) if part)
    words, style = verdict(entry)
    mark = {"bold red": "✗", "bold yellow": "?", "dim": "·"}.get(style, "✓")
    yield Text.assemble((f"{number:>2}  ", "bold"), (kind or "unknown", "bold"), "  ", (f"{mark} {words}", style))
    for text, its in ((_grid(entry), ""), (entry["path"], "dim"), (entry["series_uid"], "dim")):
        if text:
            yield Padding(Text(text, its, overflow="fold"), (0, 0, 0, _INDENT))


def _grid(entry: Entry) -> str:
    """Return one line: shape, spacing, orientation, obliqueness, volume of a voxel."""
    if entry["shape"] is None:
        return ""
    several = entry["stacks"] and any(finding["code"] in _CHOICES for finding in entry["findings"])
    parts = [
        ("the first: " if several else "") + " × ".join(map(str, entry["shape"])),
        " × ".join(f"{step:.4g}" for step in entry["spacing_mm"]) + " mm",
        entry["orientation"],
    ]
    if entry["is_oblique"]:
        angle = entry.get("obliqueness_degrees")
        parts.append("oblique" if angle is None else f"oblique {angle:.1f}°")
    if entry["is_sheared"]:
        parts.append("sheared")
    parts.append(f"voxel {entry['voxel_volume_mm3']:.5g} mm³")
    labels = entry["label_numbers"]
    if labels is not None:
        layers = f" in {entry['layers']} layers" if (entry["layers"] or 1) > 1 else ""
        parts.append(f"{len(labels)} segment{'s' if len(labels) != 1 else ''}{layers}")
    return "   ".join(parts)


def _findings(findings: Sequence[Entry]) -> Iterator[RenderableType]:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    for n, finding in enumerate(sorted(findings, key=lambda one: _ORDER.index(one["severity"]))):
        if n:
            yield ""
        yield Text.assemble((f"{finding['severity']}  ", _STYLES[finding["severity"]]), (finding["code"], "bold"))
        said = Table.grid(padding=(0, 2))
        said.add_column(style="dim", no_wrap=True)
        said.add_column(overflow="fold")
        advice = finding.get("advice") or {}
        for name, text in (("found", finding["message"]), ("costs", advice.get("effect")), ("do", advice.get("action"))):
            if text and text != _NOTHING:
                _add(said, name, text)
        yield Padding(said, (0, 0, 0, 2))


def _slices(entry: Entry) -> Iterator[RenderableType]:
    found = entry["slices_found"]
    if found is None or found < 2:
        return
    rows = [("slices", _counted(entry))]
    if entry["first_mm"] is not None:
        reach = f"from {entry['first_mm']:.2f} to {entry['last_mm']:.2f} mm along the normal"
        rows.append(("reach", reach + (f", usually {entry['usual_gap_mm']:.4g} mm apart" if entry["usual_gap_mm"] else "")))
    angles = [f"{name} {entry[key]:.2f}°" for name, key in _ANGLES if (entry[key] or 0) >= _LEAST_DEGREES]
    if angles:
        rows.append(("angles", ", ".join(angles)))
    if entry["options_used"]:
        rows.append(("taken", ", ".join(entry["options_used"])))
    yield _pairs(rows)


def _gaps(entry: Entry) -> Iterator[RenderableType]:
    runs = gap_runs(entry["gaps"] or ())
    if runs:
        shown = _table("after (mm)", "to the next (mm)", "in a row", "slices missing", right=4)
        for first, last in runs[:_MOST_ROWS]:
            times = last + 1 - first
            gap = entry["gaps"][first]
            _add(shown, f"{gap['after_mm']:.2f}", f"{gap['gap_mm']:.3f}", f"{times} ×" if times > 1 else "", str(gap["missing"] or "–"))
        yield from _with_rest(shown, len(runs))


def gap_runs(gaps: Sequence[Entry]) -> list[tuple[int, int]]:
    """Return first and last of gaps that follow one another and are alike, so that a part of another spacing is one line.

    >>> gaps = [{"after_mm": a, "gap_mm": g, "missing": 0} for a, g in ((0.0, 7.0), (7.0, 7.0), (14.0, 5.0))]
    >>> gap_runs(gaps)
    [(0, 1), (2, 2)]
    """
    runs: list[tuple[int, int]] = []
    for n, gap in enumerate(gaps):
        before = gaps[n - 1] if runs else None
        if before is not None and gap["missing"] == before["missing"] and _follows(before, gap):
            runs[-1] = (runs[-1][0], n)
        else:
            runs.append((n, n))
    return runs


def _follows(one: Entry, other: Entry) -> bool:
    is_alike = abs(one["gap_mm"] - other["gap_mm"]) <= _ROUNDING_MM
    return is_alike and abs(one["after_mm"] + one["gap_mm"] - other["after_mm"]) <= _ROUNDING_MM


def _counted(entry: Entry) -> str:
    """Return how many slices there are and should be."""
    found, expected = entry["slices_found"], entry["slices_expected"]
    text = f"{found} found"
    if expected is not None:
        text += f", {expected} expected" + (f", {expected - found} missing" if expected > found else "")
    return text + (f", {entry['duplicates']} copies left out" if entry["duplicates"] else "")


def _stacks(entry: Entry) -> Iterator[RenderableType]:
    if not entry["stacks"] or len(entry["stacks"]) < 2:
        return
    shown = _table("--select", "slices", "told apart by", right=2)
    for stack in entry["stacks"][:_MOST_ROWS]:
        _add(shown, stack["select"], str(stack["slices"]), stack["differs"] or "–")
    yield from _with_rest(shown, len(entry["stacks"]))


def _tags(entry: Entry) -> Iterator[RenderableType]:
    if not entry["disagreeing_tags"]:
        return
    shown = _table("tag", "field that disagrees", "values", right=0)
    for row in entry["disagreeing_tags"][:_MOST_ROWS]:
        _add(shown, row["tag"], row["keyword"], ", ".join(row["values"][:4]) + (" …" if len(row["values"]) > 4 else ""))
    yield from _with_rest(shown, len(entry["disagreeing_tags"]))


def _structures(entry: Entry) -> Iterator[RenderableType]:
    if not entry["structures"]:
        return
    shown = _table("no.", "structure", "type", "contours", "volume (ml)", "", right=0)
    for column in (0, 3, 4):
        shown.columns[column].justify = "right"
    for row in entry["structures"]:
        volume = "–" if row["volume_ml"] is None else format_volume(row["volume_ml"])
        _add(shown, str(row["number"]), row["label"], row["type"], str(row["contours"] or "–"), volume, row["reason"])
    yield shown


def _prices(entry: Entry) -> Iterator[RenderableType]:
    if entry["prices"] is None:
        return
    from rich.text import Text

    yield Text("price of the geometry, in ml", "bold")
    shown = _table("segment", "as stacked", "true positions", "error", "interpolated", "remark", right=0)
    for column in (1, 2, 3, 4):
        shown.columns[column].justify = "right"
    for price in entry["prices"]:
        error = price["error_percent"]
        style = "" if error is None or abs(error) < 0.5 else "yellow" if abs(error) < 5 else "bold red"
        _add(
            shown,
            Text(price["label"], "bold"),
            format_volume(price["stacked_ml"]),
            format_volume(price["true_ml"]),
            Text("–" if error is None else f"{error:+.1f} %", style),
            format_volume(price["interpolated_ml"]) if price["interpolated_ml"] else "–",
            price_remark(price),
        )
    yield shown


def price_remark(price: Entry) -> str:
    """Return what else is to be said of a segment: gaps it touches, ends it reaches, what other readers give."""
    parts = []
    if price["gaps"]:
        parts.append("touches the gap" + ("s" if len(price["gaps"]) > 1 else "") + " of " + _listed(price["gaps"], "gap_mm") + " mm")
    if price["touches"]:
        parts.append(f"reaches the {' and '.join(price['touches'])} slice: a lower bound")
    parts += [f"by {name}: {format_volume(ml)}" for name, ml in price["readers_ml"].items() if not _is_alike(ml, price["stacked_ml"])]
    return "; ".join(parts)


def _listed(rows: Sequence[Entry], key: str) -> str:
    return ", ".join(f"{row[key]:.4g}" for row in rows[:4]) + (" …" if len(rows) > 4 else "")


def _is_alike(one: float, other: float) -> bool:
    return abs(one - other) <= 0.005 * abs(other)


def _pairs(rows: Sequence[tuple[str, str]]) -> Table:
    from rich.table import Table

    shown = Table.grid(padding=(0, 2))
    shown.add_column(style="dim", no_wrap=True)
    shown.add_column(overflow="fold")
    for name, text in rows:
        _add(shown, name, text)
    return shown


def _table(*heads: str, right: int = 3) -> Table:
    """Return an empty table whose first `right` columns are numbers."""
    from rich import box
    from rich.table import Table

    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, header_style="dim", pad_edge=False)
    for n, head in enumerate(heads):
        shown.add_column(head, justify="right" if n < right else "left", overflow="fold")
    return shown


def _add(shown: Table, *cells: str | Text) -> None:
    """Add a row; what stands in brackets in a name is no markup."""
    from rich.text import Text

    shown.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))


def _with_rest(shown: Table, count: int) -> Iterator[RenderableType]:
    from rich.text import Text

    yield shown
    if count > _MOST_ROWS:
        yield Text(f"and {count - _MOST_ROWS} more (medseg inspect --json lists all)", "dim")
