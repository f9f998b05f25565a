"""What every command shares: how it speaks to people and to programs, and the options with one meaning everywhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from medseg.core.errors import OutputError
from medseg.method.settings import Progress, RunSettings, no_progress

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from medseg.core.finding import Finding

_COMPILING = "compiling kernels, once on this machine (medseg warm does it beforehand)"
_PIPE_WIDTH = 160

F = TypeVar("F", bound=Callable[..., Any])


class DeviceName(click.ParamType):
    """cpu, cuda or cuda:N, checked by its form: a pipeline without a network never looks whether it is there."""

    name = "cpu|cuda[:n]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name, or fail with what was given."""
        kind, colon, number = str(value).partition(":")
        if (kind in ("cpu", "cuda") and not colon) or (kind == "cuda" and number.isascii() and number.isdigit()):
            return str(value)
        self.fail(f"{value!r} is no device: cpu, cuda or cuda:0", param, ctx)


@dataclass(frozen=True)
class Terminal:
    """Tables on standard output, progress on standard error; with `as_json` one document and nothing else; quiet says nothing."""

    as_json: bool = False
    quiet: bool = False

    @property
    def console(self) -> Console:
        """Standard output."""
        from rich.console import Console

        class Output(Console):
            def on_broken_pipe(self) -> None:
                raise BrokenPipeError  # not its own exit with 1, which means that something failed

        # a file or pipe has no width of its own: wide enough that no sentence is broken
        return Output(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)

    def show(self, *renderables: RenderableType) -> None:
        """Print tables or lines for people."""
        if not self.as_json and not self.quiet:
            console = self.console
            with printing():
                for renderable in renderables:
                    console.print(renderable)

    def document(self, content: dict[str, Any]) -> None:
        """Print the one JSON document, where asked for."""
        if self.as_json:
            with printing():
                click.echo(json.dumps(content, indent=2, allow_nan=False))

    def findings(self, findings: Iterable[Finding]) -> None:
        """Print what the checks found, the gravest first."""
        marks = {"error": "[bold red]error[/]", "warning": "[yellow]warning[/]", "info": "[dim]info[/]"}
        order = list(marks)
        from rich.markup import escape

        for finding in sorted(findings, key=lambda f: order.index(f.severity.value)):
            self.show(f"{marks[finding.severity.value]} [bold]{escape(finding.code)}[/]: {escape(finding.message)}")

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Yield a progress callback that draws a bar on a terminal and nothing elsewhere."""
        if self.as_json or self.quiet or not sys.stderr.isatty():
            yield no_progress
            return
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("[progress.description]{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
        with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
            tasks: dict[str, Any] = {}

            def update(description: str, done: int, total: int) -> None:
                if description not in tasks:
                    tasks[description] = bar.add_task(description, total=max(total, 1))
                bar.update(tasks[description], completed=done, total=max(total, 1))

            yield update

    @contextmanager
    def settings(self, device: str = "auto") -> Iterator[RunSettings]:
        """Yield run settings with a progress bar; a kernel that is compiled on its first use says so."""
        with self.progress() as progress, compiling_said(progress):
            yield RunSettings(device=device, progress=progress)


@contextmanager
def printing() -> Iterator[None]:
    """Say what a standard output that takes no more means; one whose reader has gone ends the program quietly, as anywhere."""
    try:
        yield
    except BrokenPipeError as err:
        raise BrokenPipeError from err  # without its number, by which click would take it for an exit with 1
    except OSError as err:
        raise OutputError(
            f"what is to be said cannot be printed ({err.strerror or err}): results that were written are whole; print to another place"
        ) from err


@contextmanager
def compiling_said(progress: Progress) -> Iterator[list[str]]:
    """Say in the progress line that numba compiles; yield the names of what was compiled, which grows meanwhile."""
    from numba.core import event

    compiled: list[str] = []

    class Listener(event.Listener):
        def on_start(self, event: Any) -> None:
            compiled.append(str(event.data["dispatcher"]))
            progress(_COMPILING, 0, 1)

        def on_end(self, event: Any) -> None:
            progress(_COMPILING, 1, 1)

    with event.install_listener("numba:compile", Listener()):
        yield compiled


def speaking(function: F) -> F:
    """Add --json and --quiet; the command gets a `terminal`."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")
    @click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
    def wrapped(*args: Any, as_json: bool, quiet: bool, **kwargs: Any) -> Any:
        return function(*args, terminal=Terminal(as_json, quiet), **kwargs)

    wrapped.__name__ = function.__name__
    wrapped.__doc__ = function.__doc__
    wrapped.__click_params__ = getattr(function, "__click_params__", []) + wrapped.__click_params__  # type: ignore[attr-defined]
    return wrapped  # type: ignore[return-value]


overwrite_option = click.option("--overwrite", is_flag=True, help="Replace outputs that are there already.")
device_option = click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:n]", help="Where networks run.")
