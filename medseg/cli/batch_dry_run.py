"""`medseg batch --dry-run`: which scans would run, and why each other series is left out; nothing is written but --cases-out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.cli.terminal import Terminal
from medseg.core.errors import OutputExistsError

if TYPE_CHECKING:
    from medseg.batch.batch import Request
    from medseg.batch.cases.find_cases import FoundCases
    from medseg.batch.records.case import Case, LeftOut
    from medseg.batch.run.run_options import RunOptions

SCHEMA = "medseg.batch_dry_run/1"
_SUMMED = {"stale": "run again, as something changed", "retried": "run again, as they failed before"}
_ROWS = 40  # of each table; --json and --cases-out have all
_WOULD = {"missing": "runs", "stale": "runs again", "retried": "runs again", "failed": "failed before", "done": "done already"}


def dry_run(request: Request, options: RunOptions, cases_out: str | None, terminal: Terminal) -> int:
    """Search, compare with what the output folder holds, and show it; exit code 3 where nothing can be run.

    With a shard, the cases are those of the shard; what was found and left out is said of the whole folder. Outputs are compared by
    their sizes: hashing those of a whole archive would take hours, and a dry run is to take a moment.
    """
    from medseg.batch.batch import nothing_found, plan_of, search
    from medseg.batch.cases.case_files import write_linkage
    from medseg.batch.records.results import is_done
    from medseg.batch.run.runner import of_shard

    identify = request.identify
    if cases_out and Path(cases_out).exists():
        raise OutputExistsError(f"{cases_out} is there already, perhaps with choices of yours in it: give another name")
    plan = plan_of(request)
    standings: Counter[str] = Counter()
    unnamed = 0
    shown: list[dict[str, Any]] = []
    with terminal.progress() as progress, search(request, progress=progress) as found:
        for case in of_shard(found.cases(), options.shard):
            standing = is_done(request.layout, case, plan, request.folder, quick=True)
            status = "retried" if options.retry_failed and standing.status == "failed" else standing.status
            standings[status] += 1
            unnamed += _is_unnamed(_row(case, False))
            if terminal.as_json or len(shown) < _ROWS:
                reason = {"stale": standing.reason, "retried": "it failed before"}.get(status, "")
                shown.append({**_row(case, identify), "would": _WOULD[status], "reason": reason})
        left_out = [{**_row(one, identify), "reason": one.reason} for one in _first(found, None if terminal.as_json else _ROWS)]
        counts = dict(found.counts)
        if cases_out:
            write_linkage(Path(cases_out), found)
    if not terminal.as_json and not terminal.quiet:
        _show(shown, left_out, counts, standings, identify, options.shard, terminal, _remark(request, unnamed))
    if not counts.get("cases"):
        raise nothing_found(counts)
    shard = None if options.shard is None else "{}/{}".format(*options.shard)
    document = {"schema": SCHEMA, "counts": counts, "shard": shard, "would": dict(standings), "cases": shown, "left_out": left_out}
    terminal.document(document)
    return 0


def _first(found: FoundCases, count: int | None) -> Iterator[LeftOut]:
    for number, one in enumerate(found.left_out()):
        if count is not None and number >= count:
            return
        yield one


def _row(one: Case | LeftOut, identify: bool) -> dict[str, Any]:
    """What may be said of a series; its folder only to who asked for it."""
    row: dict[str, Any] = {"case_id": getattr(one, "case_id", ""), "kind": one.kind, "modality": one.modality, "study": one.study}
    row |= {"slices": one.slices, "files": len(one.files)}
    return row | ({"first_file": one.files[0] if one.files else ""} if identify else {})


def _is_unnamed(row: Mapping[str, Any]) -> bool:
    """Whether a case can be read and does not say its modality; broken DICOM files alone (no slice) say nothing, and fail."""
    return not row["modality"] and (row["kind"] != "DICOM" or bool(row["slices"]))


def _remark(request: Request, unnamed: int) -> str:
    """What to know of cases that do not name their modality, "" where there are none or the pipeline takes any scan."""
    modality = request.pipeline.modality
    if not unnamed or not modality:
        return ""
    one = unnamed == 1
    out = f"--select Modality={modality}" if request.listed is None else "a no in the table of --cases"  # which runs what it names
    said = "1 case does not name its modality and is" if one else f"{unnamed:,} cases do not name their modality and are"
    return f"{said} taken for {modality}: check {'it, or leave it' if one else 'them, or leave them'} out with {out}"


def _show(
    cases: list[dict[str, Any]],
    left_out: list[dict[str, Any]],
    counts: dict[str, Any],
    standings: Counter[str],
    identify: bool,
    shard: tuple[int, int] | None,
    terminal: Terminal,
    remark: str,
) -> None:
    place = ["first file"] if identify else []
    _table(terminal, ["case", "kind", "modality", "study", "slices", "files", "would", *place], cases, sum(standings.values()))
    if remark:
        terminal.show(f"[yellow]{remark}[/]")
    if left_out:
        rows = [{name: value for name, value in row.items() if name != "case_id"} for row in left_out]
        _table(
            terminal,
            ["kind", "modality", "study", "slices", "files", *place, "left out because"],
            rows,
            sum(counts.get("left_out", {}).values()),
        )
    terminal.show(f"[bold]{counts.get('files', 0)}[/] files looked at; [bold]{counts.get('cases', 0)}[/] cases")
    if shard is not None:
        terminal.show(f"part {shard[0]} of {shard[1]}: [bold]{sum(standings.values())}[/] of them")
    for status, count in sorted(standings.items()):
        terminal.show(f"  {_SUMMED.get(status, _WOULD[status])}: {count}")
    for reason, count in (counts.get("left_out") or {}).items():
        terminal.show(f"  left out, {reason}: {count}")
    for reason, count in (counts.get("passed_over") or {}).items():
        terminal.show(f"  [dim]passed over, {reason}: {count}[/]")
    if standings["done"]:
        terminal.show("[dim]what is done was compared by size; the run itself compares hashes, unless it is told --quick[/]")
    if not identify:
        terminal.show("[dim]--identify shows where the files lie; --cases-out cases.csv writes every case with its files[/]")


def _printable(name: str) -> str:
    """Return a name without what would steer a terminal or is no text.

    >>> _printable("\\x1b[31mred\\n.nii"), _printable("M\\udcfcller.nii")
    ('?[31mred?.nii', 'M?ller.nii')
    """
    return "".join(sign if sign.isprintable() else "?" for sign in name)


def _table(terminal: Terminal, columns: list[str], rows: list[dict[str, Any]], whole: int) -> None:
    from rich.markup import escape
    from rich.table import Table

    if not rows:
        return
    table = Table(*columns, header_style="bold")
    for row in rows:
        would = [f"{row['would']}{': ' + row['reason'] if row['reason'] else ''}"] if "would" in row else []
        reason = [row["reason"]] if "would" not in row else []
        place = [_printable(row["first_file"])] if "first_file" in row else []
        case_id = [row["case_id"]] if "case_id" in row else []
        modality = "not named" if "would" in row and _is_unnamed(row) else row["modality"]
        known = [row["kind"] or "", modality, *(row[name] or "" for name in ("study", "slices", "files"))]
        table.add_row(*(escape(str(value)) for value in (*case_id, *known, *would, *place, *reason)))
    terminal.show(table)
    if whole > len(rows):
        terminal.show(f"and {whole - len(rows)} more (--json shows all)")
