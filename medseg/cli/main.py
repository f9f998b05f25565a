"""The `medseg` program: finds the command, and turns every error into one clear line and an exit code."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

import click

from medseg import __version__
from medseg.core.errors import MedsegError, OutputError

NOTICE = "Research software, not a medical device; not for clinical use."

# name → (module:attribute, one line); pure data, so that `medseg --help` imports no command
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("medseg.cli.demo:demo", "Run the main job on the sample study and check it against the truth."),
    "inspect": ("medseg.cli.inspect:inspect", "Say what a file or folder holds, and what is wrong with its geometry."),
    "convert": ("medseg.cli.convert:convert", "Write a scan or segmentation in another format."),
    "preprocess": ("medseg.cli.methods:preprocess", "Apply one preprocessing method to a scan."),
    "segment": ("medseg.cli.methods:segment", "Segment a scan with one method."),
    "postprocess": ("medseg.cli.methods:postprocess", "Apply one postprocessing method to a segmentation."),
    "run": ("medseg.cli.run:run", "Run a pipeline on one scan: segmentation, measurements, report."),
    "batch": ("medseg.cli.batch:batch", "Run a pipeline on all studies below a folder, and count them into one table."),
    "verify": ("medseg.cli.verify:verify", "Run random cases of a batch again and compare them voxel by voxel."),
    "measure": ("medseg.cli.measure:measure", "Measure every segment of a segmentation."),
    "lesions": ("medseg.cli.lesions:lesions", "Measure every lesion: volume, diameters, RECIST measurability, a picture each."),
    "change": ("medseg.cli.change:change", "Follow lesions over time: growth or noise, doubling time, RECIST category."),
    "evaluate": ("medseg.cli.evaluate:evaluate", "Compare segmentations with their references: two files or two folders."),
    "agreement": ("medseg.cli.agreement:agreement", "Compare readers: Bland-Altman, ICC(2,1), repeatability."),
    "review": ("medseg.cli.review:review", "Look at every case of a batch in the browser: accept, reject, fix."),
    "report": ("medseg.cli.report:report", "Write the report of a run, or of a segmentation with its scan."),
    "deid": ("medseg.cli.deid:deid", "Copy DICOM files without what names the patient."),
    "models": ("medseg.cli.models:models", "List, add, convert and remove trained networks, and show their cards."),
    "train": ("medseg.cli.train:train", "Train a 3D network on a dataset: fingerprint, plan, folds, model card."),
    "finetune": ("medseg.cli.finetune:finetune", "Train a model further on a dataset of your own."),
    "methods": ("medseg.cli.catalog:methods", "List the methods, or describe one."),
    "phantom": ("medseg.cli.phantom:phantom", "Make a scan whose volumes are known from formulas."),
    "bundle": ("medseg.cli.bundle:bundle", "Make a folder of wheels for a machine without a network."),
    "warm": ("medseg.cli.warm:warm", "Compile every kernel once, so that no first call waits."),
}


class LazyGroup(click.Group):
    """A group that imports a command only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the one-line summaries from the table."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, epilog=NOTICE)
@click.version_option(__version__, message=f"medseg %(version)s\n{NOTICE}")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Turn CT and MR scans into volumes that a researcher can defend."""
    ctx.obj = {"debug": debug}


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the program and exit: 0 done, 1 some failed, 2 usage, 3 input, 4 model or configuration, 5 output, 130/143 signals."""
    _open_streams()
    signal.signal(signal.SIGTERM, _terminate)
    given = sys.argv[1:] if arguments is None else arguments
    code = run(given)
    is_lost = _close_streams()
    sys.exit(OutputError.exit_code if is_lost and code == 0 else code)


def run(arguments: list[str]) -> int:  # noqa: PLR0911 - one border, one line an error family
    """Run the program on these arguments and return its exit code."""
    try:
        value = cli.main(args=arguments or ["--help"], prog_name="medseg", standalone_mode=False)
        return value if isinstance(value, int) else 0
    except (click.exceptions.Abort, KeyboardInterrupt):
        return _fail(arguments, "interrupted; nothing half-written was left", 130)
    except BrokenPipeError:  # as `terminal.printing` raises it
        return 0
    except click.ClickException as err:
        return _fail(arguments, err.format_message(), 2)
    except MedsegError as err:
        return _fail(arguments, str(err), err.exit_code, err)
    except MemoryError as err:
        return _fail(arguments, "too little free memory for this scan: resample it first, or use a larger machine", 1, err)
    except Exception as err:  # noqa: BLE001 - the last border: no traceback reaches a user
        message = f"unexpected {type(err).__name__}: a fault of medseg, please report it (medseg --debug shows more)"
        return _fail(arguments, message, 1, err)


def _fail(arguments: list[str], message: str, code: int, err: BaseException | None = None) -> int:
    if err is not None and "--debug" in arguments:
        import traceback

        traceback.print_exception(err)
    if "--json" in arguments:
        import json

        kind = type(err).__name__ if err is not None else "UsageError"
        document: dict[str, Any] = {"schema": "medseg.error/1", "error": {"type": kind, "message": message, "exit_code": code}}
        document["error"]["findings"] = [finding.to_dict() for finding in getattr(err, "findings", ())]
        with contextlib.suppress(OSError):
            click.echo(json.dumps(document, indent=2))
    with contextlib.suppress(OSError):  # a full disk behind standard error: the exit code says it
        click.echo(f"medseg: {message}", err=True)
    return code


def _open_streams() -> None:
    """Give a program that was started without standard streams empty ones, so that no file takes their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115 - open to the end
        stream = getattr(sys, name)
        if number and isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")  # a name that a console cannot show is no reason to end


def _close_streams() -> bool:
    """Write out what waits to be printed, and say whether some of it was lost; a reader that wanted no more loses nothing."""
    is_lost = False
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError) as err:
            is_lost |= isinstance(err, OSError) and err.errno != errno.EPIPE
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return is_lost


def _terminate(number: int, frame: FrameType | None) -> None:
    """End on SIGTERM through the normal clean-up, with the exit code 143."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
