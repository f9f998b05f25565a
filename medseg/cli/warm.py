"""`medseg warm`: compile every kernel once, so that no first call of a person waits."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from medseg.cli.terminal import Terminal, compiling_said, speaking
from medseg.method.settings import no_progress

if TYPE_CHECKING:
    from medseg.core.label_map import LabelMap
    from medseg.core.volume import Volume

_DTYPES = ("int16", "uint16", "float32")  # what scans are stored in, and what filters give
_COARSER = 2.0  # the example scans at half their size: compiling takes all the time
_COMMANDS = ("write", "inspect", "measure", "lesions", "evaluate", "surface", "thumbnail")


@click.command()
@click.option("--jobs", type=click.IntRange(1, 64), default=None, help="Processes at once.  [default: one a core]")
@speaking
def warm(jobs: int | None, terminal: Terminal) -> None:
    """Compile every kernel for the usual kinds of scans, once on this machine.

    The kernels are compiled for this processor when they are first used and then kept on disk. This uses all of them on a
    small scan, so that no later command waits; `make install` runs it.
    """
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    from medseg.phantom.examples import example_names

    begun = time.monotonic()
    tasks = [*example_names(), *_COMMANDS]
    compiled = 0
    with terminal.progress() as progress, ProcessPoolExecutor(jobs or os.cpu_count() or 1, mp_context=get_context("spawn")) as pool:
        running = [pool.submit(warm_up, task) for task in tasks]
        for done, future in enumerate(as_completed(running), 1):
            compiled += future.result()
            progress("compiling kernels", done, len(tasks))
    seconds = time.monotonic() - begun
    terminal.show(f"{compiled} kernels compiled in {seconds:.0f} s" if compiled else "All kernels were compiled before.")
    terminal.document({"schema": "medseg.warm/1", "compiled": compiled, "seconds": round(seconds, 1)})


def warm_up(task: str) -> int:
    """Use the kernels of a method or a command on a small scan; return how many were compiled."""
    with _counted() as compiled:
        if task in _COMMANDS:
            _use_command(task)
        else:
            _use_method(task)
    return len(compiled)


@contextmanager
def _counted() -> Iterator[list[str]]:
    with compiling_said(no_progress) as compiled:
        yield compiled


def _use_method(name: str) -> None:
    from medseg.core.errors import MedsegError
    from medseg.phantom.example_scans import example_scan
    from medseg.phantom.examples import example

    shown = example(name)
    scan = example_scan(shown.scan, _COARSER)
    for dtype in _DTYPES:
        try:
            shown.run(replace(scan, channels=tuple(_cast(volume, dtype) for volume in scan.channels)))
        except MedsegError:  # a method of an extra that is not installed, or one that this kind of scan is nothing for
            continue


def _cast(volume: Volume, dtype: str) -> Volume:
    return volume.with_array((volume.array - min(0, int(volume.array.min())) if dtype == "uint16" else volume.array).astype(dtype))


def _draw(volume: Volume, label_map: LabelMap) -> None:
    """Draw the thumbnail that a batch makes of every case."""
    from medseg.measurement.measure import measure
    from medseg.reporting.thumbnail import thumbnail_png

    for dtype in _DTYPES:
        cast = _cast(volume, dtype)
        thumbnail_png(cast, label_map, measure(label_map, cast))


def _use_command(name: str) -> None:
    """Run a command on the files of an example, without a word."""
    from medseg.cli.main import run
    from medseg.io.write import write
    from medseg.phantom.example_scans import example_scan

    scan = example_scan("ct", _COARSER)
    with tempfile.TemporaryDirectory() as folder:
        image, labels, others = (str(Path(folder) / f"{part}.nii.gz") for part in ("image", "labels", "others"))
        write(scan.volume, image)
        write(scan.label_maps["truth"], labels)
        write(scan.label_maps["rough"], others)
        if name == "thumbnail":
            _draw(scan.volume, scan.label_maps["truth"])
        commands: dict[str, list[str]] = {
            "inspect": ["inspect", image],
            "measure": ["measure", labels, "--image", image, "-o", f"{folder}/t.csv"],
            "lesions": ["lesions", labels, "--image", image, "-o", f"{folder}/lesions"],
            "evaluate": ["evaluate", labels, others, "-o", f"{folder}/e.csv"],
            "surface": ["convert", labels, f"{folder}/s.stl"],
        }
        if name in commands:
            run([*commands[name], "--quiet"])
