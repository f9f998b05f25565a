"""Scores of segmentations as CSV (RFC 4180), one row a case and segment, and as tables for the terminal.

Everything is made from the JSON document of `medseg evaluate`, so that no number can differ from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from medseg.reporting.tabular import csv_of, new_table, text
from medseg.reporting.wording import format_number

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

MOST_ROWS = 200  # of a table on the terminal; files hold all
MOST_LABELS = 40

_TEXT_KEYS = ("outcome", "matched_by", "reason", "note")
_LESION_KEYS = (
    "rule",
    "reference_count",
    "prediction_count",
    "true_positives",
    "false_negatives",
    "false_positives",
    "sensitivity",
    "precision",
    "f1",
    "lesion_dice",
    "matched_dice",
    "merged_count",
    "split_count",
)
_SHOWN = ("dice", "volume_difference_percent")  # IoU says what Dice says; files have it
_LINES = (("without_misses", "without misses"), ("misses_as_worst_case", "worst case"))
_OUTCOME_STYLES = {"compared": "green", "missed": "bold red", "false": "bold red", "absent": "dim", "failed": "bold red"}
_NAMES = {"dice": "Dice", "iou": "IoU", "assd": "ASSD", "masd": "MASD", "nsd": "NSD", "f1": "F1", "boundary f1": "boundary F1"}


class HasDocument(Protocol):
    """Anything that gives the JSON document of `medseg evaluate`."""

    def to_dict(self) -> dict[str, Any]:
        """Return {"segments": [...], "summary": {...}}."""


Scores = HasDocument | Mapping[str, Any]


def scores_csv(evaluation: Scores) -> str:
    """Return the scores as CSV, one row a case and segment, CRLF line ends; what is undefined is an empty cell with its reason.

    Columns: case (folders only), number, label, outcome, every score, volumes and voxel counts, figures of lesions where
    they were matched, definition and percentile of the distances, matched_by, reason, note. A case that could not be read at
    all is a row without segment.
    """
    document = _document(evaluation)
    # of a table, the one column `reason` says why any cell of the row is empty
    segments = [row | {"reason": row.get("reason") or row.get("hd95_mm_reason", "")} for row in document["segments"]]
    cases = document.get("cases")
    numbers = score_columns(segments)
    texts = [key for key in _TEXT_KEYS if key != "outcome" and any(row.get(key) for row in [*segments, *(cases or ())])]
    lesions = [key for key in _LESION_KEYS if any(key in (row.get("lesions") or {}) for row in segments)]
    has_lesions = ["lesion_missed_volumes_ml"] if lesions else []
    first = ["case"] if cases is not None else []
    rule = ["definition", "percentile"]
    head = [*first, "number", "label", "outcome", *numbers, *(f"lesion_{key.removeprefix('lesion_')}" for key in lesions)]
    rows: list[list[Any]] = [[*head, *has_lesions, *rule, *texts]]
    settings = [document.get("summary", {}).get(key) for key in rule]
    for row in segments:
        found = row.get("lesions") or {}
        missed = [";".join(repr(float(ml)) for ml in found.get("missed_volumes_ml", ()))] if lesions else []
        cells = [row.get(key) for key in (*first, "number", "label", "outcome", *numbers)]
        rows.append([*cells, *(found.get(key) for key in lesions), *missed, *settings, *(row.get(key) for key in texts)])
    known = {row.get("case") for row in segments}
    for case in cases or ():
        if case["case"] not in known and case["status"] != "compared":
            blank = [None] * (len(head) + len(has_lesions) - 4)
            rows.append([case["case"], None, None, "failed", *blank, *settings, *(case.get(key) for key in texts)])
    return csv_of(rows)


def score_columns(segments: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys of numeric scores in the order in which they first occur."""
    found: dict[str, None] = {}
    for row in segments:
        for key, value in row.items():
            if key not in ("number", "label", "case", "lesions", "hd95_mm_reason", *_TEXT_KEYS) and (
                value is None or isinstance(value, (int, float))
            ):
                found[key] = None
    return list(found)


def score_tables(evaluation: Scores) -> Iterator[RenderableType]:
    """Yield what a person reads: the scores, the summary with its three lines, lesions, and what is missing or failed."""
    document = _document(evaluation)
    summary = document["summary"]
    yield _row_table(document)
    yield _summary_table(document)
    if summary.get("lesions"):
        yield _lesion_table(summary["lesions"])
    yield from _case_lines(summary, document.get("cases"))


def crosscheck_lines(checks: Sequence[Mapping[str, Any]]) -> Iterator[Text]:
    """Yield a line a package: the largest difference of every score, and why it is not 0 where definitions differ."""
    for check in checks:
        name = f"{check['package']} {check['version']}" if check["version"] else check["package"]
        if not check["differences"]:
            yield text(f"crosscheck with {name}: {check['note'] or 'no segment that both sides have'}", "dim")
            continue
        yield text(f"crosscheck with {name} over {check['segment_count']:,} segments, largest differences:", "bold")
        for one in check["differences"]:
            size = "no number" if one["largest_difference"] is None else f"{one['largest_difference']:.3g}"
            note = f" ({one['note']})" if one["note"] else ""
            yield text(f"  {one['score']}: {size}, in {one['segment']}{note}")
        if check["note"]:
            yield text(f"  {check['note']}", "dim")


def definition_line(summary: Mapping[str, Any]) -> str:
    """Say what the distances are: "HD95: the larger of the two directed 95th percentiles; NSD at 1 mm; ...".

    >>> definition_line({"definition": "pooled", "percentile": 95, "tolerances_mm": [1.0]}).split(";")[0]
    'HD95 pooled: 95th percentile of the distances of both directions together'
    """
    if not summary.get("definition"):
        return "surfaces were not compared"
    share = f"{summary['percentile']:g}"
    pooled = summary["definition"] == "pooled"
    what = (
        f"HD{share} pooled: {share}th percentile of the distances of both directions together"
        if pooled
        else f"HD{share}: the larger of the two directed {share}th percentiles"
    )
    tolerances = " and ".join(f"{tolerance:g} mm" for tolerance in summary["tolerances_mm"])
    parts = [what, *([f"NSD and boundary F1 at {tolerances}"] if tolerances else []), "surfaces weighted by area; distances in mm"]
    return "; ".join(parts)


def _row_table(document: Mapping[str, Any]) -> Table:
    """One row a segment (and case): the scores that fit, and what became of it."""
    segments, summary = document["segments"], document["summary"]
    keys = _shown_keys(summary)
    is_folder = "cases" in document
    shown = _new_table(_counted(summary), definition_line(summary))
    for name in (["case"] if is_folder else []) + ["segment"]:
        shown.add_column(name, overflow="fold")
    for key in keys:
        shown.add_column(_short_title(key), justify="right", overflow="fold")
    shown.add_column("outcome", no_wrap=True)
    for row in segments[:MOST_ROWS]:
        cells = [text(format_score(key, row.get(key)), _dice_style(row.get(key)) if key == "dice" else "") for key in keys]
        # one word is enough here: what is missing or failed is named once, with its reason, below the tables
        outcome = text(row["outcome"], _OUTCOME_STYLES.get(row["outcome"], ""))
        shown.add_row(*([text(row["case"])] if is_folder else []), text(str(row["label"]), "bold"), *cells, outcome)
    if len(segments) > MOST_ROWS:
        shown.caption = f"the first {MOST_ROWS} of {len(segments):,} rows; -o scores.csv writes all of them"
    return shown


def _summary_table(document: Mapping[str, Any]) -> Table:
    """Three lines a label and overall: without misses, misses as the worst case, the interval of the latter."""
    summary = document["summary"]
    keys = _shown_keys(summary)
    bootstrap = summary["bootstrap"]
    below = "misses as worst case: 0 for shares, the diagonal of the image for distances"
    below += f"; 95 % interval of the worst case: {bootstrap['resamples']:,} resamples of the cases, seed {bootstrap['seed']}"
    if bootstrap["reason"]:
        below = f"{below.partition(';')[0]}; no interval: {bootstrap['reason']}"
    shown = _new_table("summary", below)
    shown.add_column("segment", overflow="fold")
    shown.add_column("line", no_wrap=True)
    shown.add_column("n", justify="right")
    for key in keys:
        shown.add_column(_short_title(key), justify="right", overflow="fold")
    labels = summary["labels"]
    entries = [*(labels if len(labels) <= MOST_LABELS else []), {"label": "all"} | summary["overall"]]
    for entry in entries:
        for cells in _three_lines(entry, keys):
            shown.add_row(*cells)
    if len(labels) > MOST_LABELS or summary.get("labels_reason"):
        shown.caption = summary.get("labels_reason") or f"{len(labels)} labels: their lines are in the JSON document (-o scores.json)"
    return shown


def _three_lines(entry: Mapping[str, Any], keys: Sequence[str]) -> Iterator[list[str | Text]]:
    """The rows of one label; where nothing was lost the first two lines are one and the same."""
    counts = {"without_misses": entry["compared_count"]}
    counts["misses_as_worst_case"] = sum(entry[f"{kind}_count"] for kind in ("compared", "missed", "false", "failed"))
    lost = _losses(entry)
    lines = _LINES if lost else (("misses_as_worst_case", "no misses"),)
    for position, (line, words) in enumerate(lines):
        name = text(str(entry["label"]), "bold") if position == 0 else text(lost, "red")
        yield [name, words, str(counts[line]), *(format_score(key, entry[line][key]) or "–" for key in keys)]
    intervals = [entry["interval"][key] for key in keys]
    if any(intervals):
        pairs = zip(keys, intervals, strict=True)
        cells = [f"{_rounded(key, pair[0])} to {_rounded(key, pair[1])}" if pair else "–" for key, pair in pairs]
        yield ["", "95 % interval", "", *(text(cell, "dim") for cell in cells)]


def _lesion_table(lesions: Mapping[str, Any]) -> Table:
    """Lesions found, missed and false, label by label."""
    shown = _new_table("lesions", f"matched one to one by the rule {lesions['rule']}; components touch by face, edge or corner")
    shown.add_column("segment", overflow="fold")
    names = ("found", "missed", "false", "merged", "split", "sensitivity", "precision", "F1", "false per case", "lesion Dice")
    for name in names:
        shown.add_column(name, justify="right", overflow="fold")
    keys = ("true_positives", "false_negatives", "false_positives", "merged_count", "split_count")
    ratios = ("sensitivity", "precision", "f1", "false_positives_per_case", "lesion_dice")
    labels = lesions["labels"]
    for entry in [*(labels if len(labels) <= MOST_LABELS else []), {"label": "all"} | lesions["overall"]]:
        cells = [f"{entry[key]:,}" for key in keys]
        for key in ratios:
            pair = entry["interval"][key]
            limits = f" [{pair[0]:.2f}, {pair[1]:.2f}]" if pair else ""
            cells.append("–" if entry[key] is None else f"{entry[key]:.3f}{limits}")
        shown.add_row(text(str(entry["label"]), "bold"), *cells)
    return shown


def _case_lines(summary: Mapping[str, Any], cases: Sequence[Mapping[str, Any]] | None) -> Iterator[Text]:
    """Name what is missing, failed or without reference, each with what it does to the summary."""
    if cases is None:
        return
    for case in cases:
        if case["status"] == "failed":
            yield text(f"failed {case['case']}: {case['reason']}", "bold red")
    missing, surplus = summary["missing_predictions"], summary["surplus_predictions"]
    if missing:
        yield text(f"{len(missing)} reference(s) without prediction, every segment counted as missed: {_listed(missing)}", "yellow")
    if surplus:
        yield text(f"{len(surplus)} prediction(s) without reference, not scored: {_listed(surplus)}", "yellow")
    if summary["ignored_files"]:
        yield text(f"{len(summary['ignored_files'])} other file(s) hold no segmentation: {_listed(summary['ignored_files'])}", "dim")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10:,} more" if len(names) > 10 else "")


def _losses(entry: Mapping[str, Any]) -> str:
    """How many were missed, false or failed: "1 missed, 2 false"."""
    return ", ".join(f"{entry[f'{kind}_count']} {kind}" for kind in ("missed", "false", "failed") if entry[f"{kind}_count"])


def _counted(summary: Mapping[str, Any]) -> str:
    parts = [f"{summary['segment_count']:,} segment{'s' if summary['segment_count'] != 1 else ''}"]
    if "case_count" in summary:
        parts = [f"{summary['case_count']:,} cases", *parts]
    kinds = (("missed_count", "missed"), ("false_count", "false"), ("failed_count", "failed"), ("undefined_count", "on neither side"))
    return ", ".join([*parts, *(f"{summary[key]:,} {word}" for key, word in kinds if summary[key])])


def _shown_keys(summary: Mapping[str, Any]) -> list[str]:
    """The scores that fit a terminal, of those that the summary averages."""
    metrics = summary["metrics"]
    surfaces = [key for key in metrics if (key.startswith("hd") and key != "hd_mm") or key == "assd_mm" or key.startswith("nsd")]
    return [*_SHOWN, *surfaces]


def score_title(key: str) -> str:
    """Return the heading of a score.

    >>> score_title("hd95_pooled_mm"), score_title("nsd_1mm"), score_title("volume_difference_percent"), score_title("dice")
    ('HD95 pooled (mm)', 'NSD at 1 mm', 'volume difference (%)', 'Dice')
    """
    name, unit = key, ""
    for ending, sign in (("_percent", "%"), ("_mm2", "mm²"), ("_mm", "mm"), ("_ml", "ml")):
        if key.endswith(ending):
            name, unit = key.removesuffix(ending), f" ({sign})"
            break
    if name.startswith("mean_"):
        return "mean " + score_title(key.removeprefix("mean_"))
    first, _, tolerance = name.rpartition("_")
    if tolerance.endswith("mm") and tolerance[0].isdigit():
        return f"{score_title(first)} at {tolerance.removesuffix('mm')} mm"
    if name.startswith("hd"):
        return name.replace("hd", "HD", 1).replace("_", " ") + unit
    words = name.replace("_", " ")
    return _NAMES.get(words, words) + unit


def format_score(key: str, value: Any) -> str:
    """Return a score with the digits of its kind: four for shares, the rest as figures."""
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    if key.endswith("_percent"):
        return f"{value:+.2f}"
    if key.endswith(("_mm", "_ml")):
        return format_number(float(value)) or str(value)
    return f"{value:.4f}"


def _short_title(key: str) -> str:
    return score_title(key).replace("volume difference", "Δ volume")


def _rounded(key: str, value: float) -> str:
    """A limit of an interval: its last digits mean nothing."""
    if key.endswith("_percent"):
        return f"{value:+.1f}"
    return format_number(value) if key.endswith("_mm") else f"{value:.3f}"


def _document(evaluation: Scores) -> Mapping[str, Any]:
    return evaluation if isinstance(evaluation, Mapping) else evaluation.to_dict()


def _new_table(title: str, below: str) -> Table:
    heading = text(title, "bold")
    heading.append(f"\n{below}", style="dim not bold")
    return new_table(heading)


def _dice_style(value: Any) -> str:
    if value is None:
        return "dim"
    return "green" if value >= 0.9 else "yellow" if value >= 0.7 else "bold red"
