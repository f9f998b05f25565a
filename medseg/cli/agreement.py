"""`medseg agreement`: how well readers agree on a measurement."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg.cli.terminal import Terminal, overwrite_option, speaking

if TYPE_CHECKING:
    from medseg.evaluation.agreement import Agreement
    from medseg.evaluation.pairing import Paired
    from medseg.io.value_table import ValueTable

_FIGURE_LIMIT = 50  # pairs of readers and groups that get a figure; beyond, choose with --key and --by
_SHOWN_LEFT_OUT = 5


@click.command()
@click.argument("tables", nargs=-1, required=True, type=click.Path())
@click.option("--key", multiple=True, help="Column that names a row; repeatable. Default: case and label, else label, id, number or case.")
@click.option("--value", default="volume_ml", show_default=True, help="Column to compare.")
@click.option("--by", multiple=True, help="One result for each value of this key column; default: label, where there are cases and labels.")
@click.option("--pooled", is_flag=True, help="One result over all rows, although rows of one case are not independent.")
@click.option(
    "--scale",
    type=click.Choice(["absolute", "percent", "log"]),
    default="absolute",
    show_default=True,
    help="Differences in the unit, in % of the mean, or as a ratio.",
)
@click.option(
    "--status", "statuses", multiple=True, default=("measured",), show_default=True, help="Rows with this status count; repeatable."
)
@click.option("--name", "names", multiple=True, help="Name of a reader, in the order of the tables; default: the names of the files.")
@click.option("-o", "--output", type=click.Path(), help="Folder for agreement.json, .csv, .txt and the figures (SVG and PNG).")
@overwrite_option
@speaking
def agreement(
    tables: tuple[str, ...],
    key: tuple[str, ...],
    value: str,
    by: tuple[str, ...],
    pooled: bool,
    scale: str,
    statuses: tuple[str, ...],
    names: tuple[str, ...],
    output: str | None,
    overwrite: bool,
    terminal: Terminal,
) -> None:
    """Compare two or more TABLES of the same subjects: Bland-Altman, ICC(2,1), repeatability, within-subject CV.

    A table is the CSV of `medseg measure` or any other with a key and a value. Rows are paired by their key; rows that one
    table lacks, that have no value, or whose status is not `measured` are left out, counted and named.
    """
    from medseg.evaluation.pairing import pair
    from medseg.io.value_table import read_values
    from medseg.reporting.agreement_text import agreement_table

    if len(tables) < 2:
        raise click.UsageError("agreement needs two or more tables, one a reader")
    _check_different(tables)
    found = [read_values(table, key=key, value=value, statuses=statuses) for table in tables]
    _check_keys(found)
    readers = _names(tables, names)
    paired = pair([table.values for table in found], [table.left_out for table in found], readers, need=1)
    positions = _grouping(found[0].key, by, pooled)
    results, refused = _compared(paired, positions, found[0], readers, scale)
    document = _document(results, refused, paired, found, positions)
    sentences = _sentences(results, paired, positions)
    if output:
        _write(Path(output), results, document, sentences, overwrite)
    _show(terminal, results, refused, paired, sentences)
    if results:
        terminal.show(agreement_table(results))
    terminal.document(document)


def _check_different(tables: Sequence[str]) -> None:
    real = [Path(table).resolve() for table in tables]
    if len(set(real)) < len(real):
        raise click.UsageError("the same table was given twice: a reader agrees with himself perfectly")


def _check_keys(found: Sequence[ValueTable]) -> None:
    from medseg.core.errors import InputError

    for table in found[1:]:
        if table.key != found[0].key:
            first, other = (f"{one.name} by {' and '.join(one.key)}" for one in (found[0], table))
            raise InputError(f"the tables name their rows in different ways ({first}, {other}); choose with --key")


def _names(tables: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Names of the readers: as given, else of the files, else of their folders, else letters."""
    if names:
        if len(names) != len(tables) or len(set(names)) != len(names):
            raise click.UsageError(f"{len(tables)} tables need as many different --name options, got {len(names)}")
        return tuple(names)
    paths = [Path(table).absolute() for table in tables]
    for candidates in ([path.stem for path in paths], [path.parent.name for path in paths]):
        if all(candidates) and len(set(candidates)) == len(candidates):
            return tuple(candidates)
    return tuple(chr(ord("A") + n) if n < 26 else f"reader {n + 1}" for n in range(len(tables)))


def _grouping(key: tuple[str, ...], by: Sequence[str], pooled: bool) -> tuple[int, ...]:
    """The positions of the key that part the rows into groups."""
    if pooled and by:
        raise click.UsageError("--pooled takes all rows together and --by parts them: choose one")
    for column in by:
        if column not in key:
            raise click.UsageError(f"--by {column}: not a column of the key ({', '.join(key)}); name it with --key too")
    if by:
        return tuple(key.index(column) for column in by)
    return (key.index("label"),) if "case" in key and "label" in key and not pooled else ()


def _compared(
    paired: Paired, positions: tuple[int, ...], table: ValueTable, readers: tuple[str, ...], scale: str
) -> tuple[list[Agreement], dict[str, str]]:
    """The results of the groups, and why the others have none; without groups a refusal is an error."""
    from medseg.core.errors import InputError
    from medseg.evaluation import agreement as statistics
    from medseg.evaluation.pairing import grouped
    from medseg.io.value_table import unit_of

    quantity, unit = unit_of(table.column)
    results: list[Agreement] = []
    refused: dict[str, str] = {}
    for group, part in grouped(paired, positions).items():
        name = " / ".join(group)
        try:
            result = statistics.agreement(part.readings, readers=readers, quantity=quantity, unit=unit, scale=scale, group=name)  # type: ignore[arg-type]
        except InputError as err:
            if not positions:
                raise
            refused[name] = str(err)
        else:
            results.append(replace(result, findings=(*result.findings, *statistics.dependence(part.keys, table.key))))
    if not results:
        raise InputError(f"no group has enough rows: {next(iter(refused.values()))}; --pooled takes all rows together")
    return results, refused


def _document(
    results: Sequence[Agreement], refused: dict[str, str], paired: Paired, found: Sequence[ValueTable], positions: tuple[int, ...]
) -> dict[str, Any]:
    from medseg.evaluation.agreement import CITATIONS

    return {
        "schema": "medseg.agreement/1",
        "tables": [table.name for table in found],
        "key": list(found[0].key),
        "value": found[0].column,
        "by": [found[0].key[n] for n in positions],
        "paired_count": len(paired.keys),
        "left_out": [one.to_dict() for one in paired.unpaired],
        "results": [result.to_dict() for result in results],
        "groups_without_result": [{"group": group, "reason": reason} for group, reason in refused.items()],
        "citations": dict(CITATIONS),
    }


def _sentences(results: Sequence[Agreement], paired: Paired, positions: tuple[int, ...]) -> str:
    from medseg.evaluation.pairing import grouped
    from medseg.reporting.agreement_text import agreement_sentences

    groups = {" / ".join(group): len(part.unpaired) for group, part in grouped(paired, positions).items()}
    return "\n\n".join(agreement_sentences(result, groups[result.group]) for result in results) + "\n"


def _show(terminal: Terminal, results: Sequence[Agreement], refused: dict[str, str], paired: Paired, sentences: str) -> None:
    from rich.markup import escape

    if paired.unpaired:
        named = [f"{' / '.join(one.key)} ({one.reason})" for one in paired.unpaired[:_SHOWN_LEFT_OUT]]
        more = f" and {len(paired.unpaired) - len(named)} more" if len(paired.unpaired) > len(named) else ""
        terminal.show(f"[yellow]left out[/]: {len(paired.unpaired)} rows: {escape('; '.join(named))}{more}")
    for group, reason in refused.items():
        terminal.show(f"[yellow]no result[/] for {escape(group)}: {escape(reason)}")
    for result in results:
        terminal.findings(result.findings)
    terminal.show(escape(sentences.strip()))


def _write(folder: Path, results: Sequence[Agreement], document: dict[str, Any], sentences: str, overwrite: bool) -> None:
    """Write all outputs, or none where one is there already."""
    from medseg.core.errors import OutputExistsError
    from medseg.io.atomic import write_bytes
    from medseg.reporting.agreement_figure import agreement_png, agreement_svg
    from medseg.reporting.agreement_text import agreement_csv

    files: dict[str, bytes] = {
        "agreement.json": (json.dumps(document, indent=2, allow_nan=False) + "\n").encode(),
        "agreement.csv": agreement_csv(results).encode(),
        "agreement.txt": sentences.encode(),
    }
    for name, result, one in _figures(results):
        unit = f"{result.quantity} ({result.unit})" if result.unit else result.quantity
        files[f"{name}.svg"] = agreement_svg(one, unit, result.group).encode()
        files[f"{name}.png"] = agreement_png(one, unit, result.group)
    there = [name for name in files if (folder / name).exists()]
    if there and not overwrite:
        raise OutputExistsError(f"{folder / there[0]} is there already; choose another folder or allow overwriting (--overwrite)")
    for name, data in files.items():
        write_bytes(folder / name, data, overwrite)


def _figures(results: Sequence[Agreement]) -> list[tuple[str, Agreement, Any]]:
    """The names of the figures: numbered where there are several, for names of groups may not be names of files."""
    every = [(result, one) for result in results for one in result.comparisons][:_FIGURE_LIMIT]
    if len(every) == 1:
        return [("bland_altman", *every[0])]
    return [(f"bland_altman_{n:02d}{_slug(result.group)}", result, one) for n, (result, one) in enumerate(every, 1)]


def _slug(text: str) -> str:
    """Letters, digits and underscores of a name, after an underscore.

    >>> _slug("left lung / upper"), _slug("")
    ('_left_lung_upper', '')
    """
    kept = "".join(c if c.isascii() and c.isalnum() else " " for c in text).split()
    return "".join(f"_{word}" for word in kept)[:60]
