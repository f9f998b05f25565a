"""What a running batch shows to people: a live view on a terminal, one line a minute elsewhere; events as JSON lines to programs."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from medseg.cli.batch_state import BatchState, WorkerState, counted_line

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

    from medseg.batch.records.events import Observe

EVERY_S = 60.0  # between two lines where there is no terminal
_FAILURES_A_LINE = 3
_GIB = 1 << 30
_DOING = {"read": "reading", "compute": "segmenting", "write": "writing"}


def view(state: BatchState, title: str) -> Group:
    """Return the live view: counts with a bar, a line a worker, the last failures."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    lines: list[RenderableType] = [Text(title, style="bold")]
    if not state.array:  # what became of its cases is known when it has ended
        bar = Table.grid(padding=(0, 1))
        share = f"{100 * state.looked_at / state.total:.0f} %" if state.total else ""
        bar.add_row(ProgressBar(total=max(state.total, 1), completed=state.looked_at, width=60), share)
        lines.append(bar)
    lines.append(Text(counted_line(state)))
    if state.waiting:
        lines.append(Text(state.waiting, style="yellow"))
    if any(not worker.is_gone for worker in state.workers.values()):
        lines.append(_worker_table(state))
    lines += [Text(note, style="yellow", overflow="ellipsis", no_wrap=True) for note in state.notes[-3:]]
    if state.failures:
        lines.append(Text("last failures (whole sentences at the end)", style="bold"))
        for case_id, code, message in state.failures:
            lines.append(Text(f"  {case_id}  {code}  {_one_line(message)}", overflow="ellipsis", no_wrap=True))
    if state.is_over and not state.stopping:
        lines.append(Text("counting: tables, flow diagram, contact sheet", style="dim"))
    elif state.stopping:
        lines.append(Text(f"{_one_line(state.stopping)} (Ctrl-C again stops at once)", style="bold yellow"))
    return Group(*lines)


def _worker_table(state: BatchState) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    for name in ("worker", "device", "does", "memory", "processor", "device use"):
        table.add_column(name, no_wrap=True)
    for name, worker in sorted(state.workers.items(), key=lambda item: (len(item[0]), item[0])):
        if not worker.is_gone:
            percent = "" if worker.cpu_percent is None else f"{worker.cpu_percent:.0f} %"
            memory = f"{worker.rss_bytes / _GIB:.2f} GiB" if worker.rss_bytes else ""
            table.add_row(name, worker.device, _does(worker, state.clock()), memory, percent, _device_use(worker.accelerator))
    return table


def _does(worker: WorkerState, now: float) -> str:
    if not worker.cases:
        return "waits"
    order = list(_DOING)
    running = sorted(worker.cases.items(), key=lambda item: order.index(item[1][0]) if item[1][0] in order else -1, reverse=True)
    said = [f"{case_id} {_DOING.get(stage, 'waits')} {now - since:.0f} s" for case_id, (stage, since) in running]
    return ", ".join(said[:2])


def _device_use(given: Mapping[str, Any]) -> str:
    """What a heartbeat says of its accelerator: use in percent, and memory where it is known."""
    said = []
    if isinstance(given.get("percent"), (int, float)):
        said.append(f"{given['percent']:.0f} %")
    used, whole = (given.get(name) for name in ("used_bytes", "total_bytes"))
    if isinstance(used, (int, float)):
        said.append(f"{used / _GIB:.1f}" + (f" of {whole / _GIB:.0f} GiB" if isinstance(whole, (int, float)) else " GiB"))
    return ", ".join(said)


def _one_line(text: str) -> str:
    return " ".join(text.split())


@contextmanager
def batch_display(title: str, *, as_events: bool = False, silent: bool = False) -> Iterator[Observe]:
    """Yield what takes the events of a run: JSON lines on standard output, nothing, a live view, or a line a minute (standard error)."""
    if as_events:
        yield _print_event
    elif silent:
        yield lambda event: None
    elif sys.stderr.isatty():
        with _live(title) as observe:
            yield observe
    else:
        yield line_printer(BatchState(), lambda text: click.echo(text, err=True))


def _print_event(event: Mapping[str, Any]) -> None:
    if event.get("event") == "searching":  # says that the program lives; of no use to another one
        return
    click.echo(json.dumps(dict(event), allow_nan=False))


@contextmanager
def _live(title: str) -> Iterator[Observe]:
    from rich.console import Console
    from rich.live import Live

    state, guard = BatchState(), threading.Lock()

    def drawn() -> Group:
        with guard:
            return view(state, title)

    def observe(event: Mapping[str, Any]) -> None:
        with guard:
            state.take(event)

    # drawn by its own thread: the clock goes on while no event comes
    with Live(get_renderable=drawn, console=Console(stderr=True), refresh_per_second=2, transient=True, redirect_stdout=False):
        yield observe


def line_printer(state: BatchState, say: Callable[[str], None], every_s: float = EVERY_S) -> Observe:
    """Return what says the counts once in `every_s` seconds, and the failures since, with every note and the end at once."""
    last_said: list[float] = []
    failed_since: list[tuple[str, str, str]] = []
    notes_said = 0
    kind_before = ""

    def observe(event: Mapping[str, Any]) -> None:
        nonlocal notes_said, kind_before
        failed, waiting = state.failed, state.waiting
        state.take(event)
        if state.failed > failed:
            failed_since.append(state.failures[-1])
        notes = [*state.notes[notes_said:], *([state.waiting] if state.waiting not in ("", waiting) else [])]
        for note in notes:
            say(note)
        notes_said = len(state.notes)
        kind, before = str(event.get("event")), kind_before
        kind_before = kind
        if kind == "stopping":
            say(_one_line(state.stopping))
        now = state.clock()
        if not last_said:
            last_said.append(now)
        is_first_of_array = (before, kind) == ("submitted", "waiting")  # an array may wait for days: say at once that it is there
        if now - last_said[0] < every_s and kind != "run_finished" and not is_first_of_array:
            return
        last_said[0] = now
        _say_failures(failed_since, say)
        say(counted_line(state))

    return observe


def _say_failures(failed_since: list[tuple[str, str, str]], say: Callable[[str], None]) -> None:
    """Say the first failures in full and how many more there are, and forget them."""
    for case_id, code, message in failed_since[:_FAILURES_A_LINE]:
        say(f"failed: {case_id} {code} {_one_line(message)}".rstrip())
    if len(failed_since) > _FAILURES_A_LINE:
        say(f"failed: {len(failed_since) - _FAILURES_A_LINE} more since the last line")
    failed_since.clear()
