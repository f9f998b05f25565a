"""`medseg batch`: a pipeline on all studies below a folder, and one table of what came out."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg.cli.batch_cluster import BatchCommand, Execute, cluster_options
from medseg.cli.reading import reading as reading_options
from medseg.cli.terminal import DeviceName, Terminal, speaking
from medseg.core.errors import OutputError

if TYPE_CHECKING:
    from medseg.batch.batch import BatchDone, Request
    from medseg.batch.run.run_options import RunOptions
    from medseg.io.options import ReadOptions


_SAID_ALWAYS = (4, 5)  # a run that could not go on says why, however quiet it is


class _Shard(click.ParamType):
    """Which part of the cases, as i/n: 1/4 is the first of four."""

    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return number and count, or fail with what was given."""
        if isinstance(value, tuple):
            return value
        number, _, count = str(value).partition("/")
        if number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
            return int(number), int(count)
        self.fail(f"{value!r} is no part such as 1/4: the first of four", param, ctx)


def _which_options() -> list[Any]:
    rule = "Which series of a study: best (the default), all, first, last, thinnest, largest, or Field=value; repeatable."
    return [
        click.option(
            "--pipeline", required=True, metavar="NAME|YAML", help="What is done with every scan: a built-in name or a YAML file."
        ),
        click.option("-o", "--output", type=click.Path(), help="Folder for the results; the same again goes on where it stopped."),
        click.option("--select", "select", multiple=True, metavar="RULE", help=rule),
        click.option("--cases", "listed", type=click.Path(), help="Take these cases: a CSV as --cases-out writes it."),
        click.option("--dry-run", is_flag=True, help="Say what would run, and why each other series is left out; write nothing."),
        click.option("--cases-out", type=click.Path(), help="With --dry-run: write the cases with their paths as CSV."),
        click.option("--rescan", is_flag=True, help="With --shard or --join: search the folder again although a list of cases is there."),
    ]


def _how_options() -> list[Any]:
    formats = "Format of the segmentations; repeatable."
    return [
        click.option("--format", "formats", multiple=True, metavar="nii.gz|seg.nrrd|dcm|nrrd|nii", help=formats),
        click.option("--reports", is_flag=True, help="Also write the report and pictures of every case."),
        click.option("--workers", type=click.IntRange(min=1), help="Worker processes; default: as many as cores and memory allow."),
        click.option(
            "--device",
            "devices",
            multiple=True,
            type=DeviceName(),
            metavar="cpu|cuda[:n]",
            help="Where networks run; repeatable, a worker each.",
        ),
        click.option("--threads", type=click.IntRange(min=1), help="Threads of a worker; default: cores divided by workers."),
        click.option(
            "--timeout",
            "timeout_s",
            type=click.FloatRange(min=1),
            default=3600,
            show_default=True,
            help="Seconds that reading, computing or writing a case may take.",
        ),
        click.option(
            "--memory-gb", type=click.FloatRange(min=0.5), help="Memory a worker may take.  [default on a CPU: 90 % of what is free]"
        ),
        click.option("--retry-failed", is_flag=True, help="Also try again what has failed before."),
        click.option("--quick", is_flag=True, help="Take outputs for unchanged where their sizes are; hashes are compared otherwise."),
        click.option("--join", is_flag=True, help="Help a run on the same folder: cases are claimed one by one."),
        click.option("--shard", type=_Shard(), help="Run only this part of the cases (1/4 is the first of four)."),
        click.option("--identify", is_flag=True, help="Put paths and patient IDs into the cohort table and the dry run."),
        click.option("--json-events", is_flag=True, help="Print every event as a JSON line, for other programs."),
    ]


def _all(options: list[Any]) -> Any:
    def decorate(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


@click.command(cls=BatchCommand)
@click.argument("folder", type=click.Path())
@_all(_which_options())
@_all(_how_options())
@cluster_options
@reading_options(many=True)
@speaking
def batch(
    folder: str, reading: ReadOptions, json_events: bool, dry_run: bool, execute: Execute | None, terminal: Terminal, **given: Any
) -> int:
    """Run a pipeline on every study below FOLDER, and end with a cohort table whose every number can be traced.

    The scans are found by their headers, whatever the folders are called. One that fails is a row with its reason; the others go
    on. Interrupt it, or let it be killed: the same command goes on where it stopped. OUT/private names folders and files of the
    input; everything else in OUT can be shared, but for what --format dcm and --identify write.

    \b
    medseg batch studies/ -o out/ --pipeline ct-body-composition --dry-run
    medseg batch studies/ -o out/ --pipeline ct-body-composition
    """
    if json_events and terminal.as_json:
        raise click.UsageError("--json prints one document, --json-events a line an event: give one of the two")
    request = _request(folder, reading, given)
    if dry_run:
        from medseg.cli.batch_dry_run import dry_run as show

        return show(request, _run_options(given), given["cases_out"], terminal)
    if given["cases_out"]:
        raise click.UsageError("--cases-out belongs to --dry-run; a run writes the same table to OUT/private/cases.csv")
    return _run(request, given, execute, json_events, terminal)


def _request(folder: str, reading: ReadOptions, given: dict[str, Any]) -> Request:
    from medseg.batch.batch import Request
    from medseg.core.errors import UnreadableFileError
    from medseg.pipeline import load_pipeline

    if given["output"] is None:
        raise click.UsageError("medseg batch needs -o OUT, the folder for the results (a dry run compares with what is there)")
    source, output = (Path(os.path.abspath(path)) for path in (folder, given["output"]))
    if not source.is_dir():
        raise UnreadableFileError(f"{folder} is not a folder that can be searched: give the folder that holds the studies")
    if output.resolve() in (source.resolve(), *source.resolve().parents):
        raise click.UsageError("the results would lie around the scans: give -o a folder that is not FOLDER and does not hold it")
    return Request(
        folder=source,
        output=output,
        pipeline=load_pipeline(given["pipeline"]),
        formats=given["formats"],
        reading=reading,
        pictures="report" if given["reports"] else "thumbnail",
        select=given["select"],
        listed=Path(given["listed"]) if given["listed"] else None,
        rescan=given["rescan"],
        identify=given["identify"],
    )


def _run_options(given: dict[str, Any]) -> RunOptions:
    from medseg.batch.run.run_options import RunOptions

    for name, option in (("timeout_s", "--timeout"), ("memory_gb", "--memory-gb")):
        if given[name] is not None and not math.isfinite(given[name]):
            raise click.UsageError(f"{option} takes a number, not {given[name]}")
    return RunOptions(
        devices=given["devices"] or ("cpu",),
        workers=given["workers"],
        threads=given["threads"],
        timeout_s=given["timeout_s"],
        memory_gb=given["memory_gb"],
        retry_failed=given["retry_failed"],
        quick=given["quick"],
        shard=given["shard"],
        join=given["join"],
    )


def _run(request: Request, given: dict[str, Any], execute: Execute | None, json_events: bool, terminal: Terminal) -> int:
    from medseg.batch.batch import run_batch
    from medseg.cli.batch_display import batch_display
    from medseg.io.atomic import check_writable

    check_writable(request.output)
    silent = terminal.quiet or terminal.as_json
    steady = _Steady()
    options = _run_options(given)
    title = f"medseg batch · {request.pipeline.title or request.pipeline.name}"
    notes: list[str] = []

    def say(text: str) -> None:
        notes.append(text)
        if not silent:
            steady(lambda: click.echo(text, err=True))

    done: BatchDone | None = None
    try:
        with batch_display(title, as_events=json_events, silent=silent) as show:

            def observe(event: dict[str, Any]) -> None:
                steady(lambda: show(event))

            def searching(what: str, files: int, whole: int) -> None:
                observe({"event": "searching", "files": files})

            done = run_batch(request, options, execute=execute, observe=observe, say=say, progress=searching)
    except OSError as err:  # a terminal that is gone when the view takes leave of it
        if done is None:
            raise
        steady.note(err)
    summary, whole = done.summary, done
    if not json_events:
        from medseg.cli.batch_summary import show_summary, summary_document

        steady(lambda: show_summary(request, whole, terminal, options=options))
        steady(lambda: terminal.document(summary_document(request, whole, notes)))
    if silent and summary.exit_code in _SAID_ALWAYS:
        steady(lambda: click.echo(f"medseg: {summary.message}", err=True))
    steady.complain()
    return summary.exit_code


class _Steady:
    """Prints as long as what is printed is taken: a run of hours does not end because its log is full or its reader has gone."""

    def __init__(self) -> None:
        self._error: OSError | None = None

    def __call__(self, print_it: Callable[[], None]) -> None:
        if self._error is None:
            try:
                print_it()
            except OSError as err:
                self.note(err)

    def note(self, error: OSError) -> None:
        """Print nothing more: standard output or error takes it no longer."""
        self._error = self._error or error

    def complain(self) -> None:
        """Raise OutputError where something could not be printed, but for a reader that did not want more."""
        if self._error is not None and not isinstance(self._error, BrokenPipeError):
            said = self._error.strerror or type(self._error).__name__
            raise OutputError(f"the run went on and its results are whole, but what it had to say could not be printed ({said})")
