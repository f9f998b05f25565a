"""`medseg phantom score`: run any reader on every fault and print what it made of them."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from medseg.cli.phantom_faults import write_fault
from medseg.cli.terminal import Terminal
from medseg.core.child_process import kill_group, own_group

if TYPE_CHECKING:
    from medseg.phantom.faults import Fault, FaultyScan
    from medseg.phantom.faults.score import Answer, Judgement, Outcome

HELP = (
    "give --tool 'CMD {in} {out}': {in} becomes the folder of DICOM files or the NIfTI or NRRD file, {out} the NIfTI file to write, "
    "{folder} the empty folder it lies in (any .nii or .nii.gz there counts)"
)
TIMEOUT_S = 120.0
_MOST_SAID = 1 << 16
_CRASH_CODES = (134, 136, 139)  # what a shell makes of abort, a fault of arithmetic and of memory


@dataclass(frozen=True)
class _Ended:
    """How a command ended."""

    exit_code: int | None
    seconds: float
    said: str


def score_command(tool: str | None, wanted: str, timeout_s: float, terminal: Terminal, output: str | None, overwrite: bool) -> None:
    """Score a reader and print the table; write it to `output` (.csv, .md or .json) too."""
    from medseg.cli.phantom_score_table import render, rich_score_table, score_document
    from medseg.phantom.faults import find_faults
    from medseg.phantom.faults.score import totals

    if tool is None:
        raise click.UsageError(f"medseg phantom score: {HELP}")
    faults = find_faults(wanted)
    with terminal.progress() as progress:
        judgements = score(tool, faults, timeout_s=timeout_s, progress=lambda n, name: progress("faults", n, len(faults)))
    counts = totals(judgements)
    if output is not None:
        from medseg.io.atomic import write_text

        write_text(Path(output), render(Path(output), tool, judgements), overwrite=overwrite)
    terminal.show(rich_score_table(judgements))
    terminal.show(
        f"{counts['right']} right ({counts['guessed']} of them by a guess), {counts['silently wrong']} silently wrong, "
        f"{counts['refused']} refused that could be read"
    )
    terminal.document(score_document(tool, judgements))


def score(
    tool: str, faults: Sequence[Fault], *, timeout_s: float = TIMEOUT_S, progress: Callable[[int, str], Any] = lambda n, name: None
) -> list[Judgement]:
    """Run a command on faults, one after the other, and judge its outputs; faults of labels are left out.

    Raises click.UsageError where the command names no input or output, or is not there.
    """
    from medseg.phantom.faults import Kind

    parts = shlex.split(tool)
    if not any("{in}" in part for part in parts) or not any("{out}" in part or "{folder}" in part for part in parts):
        raise click.UsageError(f"medseg phantom score: {HELP}")
    scans = [fault for fault in faults if fault.kind is Kind.SCAN]
    judgements = []
    for n, fault in enumerate(scans):
        progress(n, fault.name)
        with tempfile.TemporaryDirectory(prefix="medseg_fault_") as name:
            judgements.append(_score_one(parts, fault, Path(name), timeout_s))
    return judgements


def _score_one(parts: Sequence[str], fault: Fault, folder: Path, timeout_s: float) -> Judgement:
    from medseg.phantom.faults.score import Judgement, Outcome, judge

    scan, path = write_fault(fault, folder / "fault")
    target = folder / "output"
    target.mkdir()
    places = {"{in}": str(path), "{out}": str(target / "scan.nii.gz"), "{folder}": str(target)}
    ended = _run([_filled(part, places) for part in parts], folder, timeout_s)
    outcome = _outcome(ended)
    answers = _measure_all(target, scan.above) if outcome in (Outcome.LOADED, Outcome.REFUSED) else []
    note = _others(answers, scan)
    answer = answers[0] if answers and outcome is Outcome.LOADED else None
    if outcome is Outcome.LOADED and answer is None:
        outcome, note = Outcome.REFUSED, "no output, yet exit code 0"
    elif answers and answer is None:
        note = f"exit code {ended.exit_code}, but left a file with {_percent(answers[0], scan)}"
    verdict, error, off, remark = judge(fault, scan, outcome, answer, ended.said)
    remark = "; ".join(part for part in (remark, note) if part)
    return Judgement(fault, outcome, verdict, error, off, remark, ended.exit_code, ended.seconds)


def _others(answers: Sequence[Answer], scan: FaultyScan) -> str:
    """Say where a reader wrote more files, and another of them is wrong."""
    from medseg.phantom.faults.fault import TOLERANCE_PERCENT
    from medseg.phantom.faults.score import error_percent

    wrong = [answer for answer in answers[1:] if abs(error_percent(answer.volume_ml, scan.volumes_ml)) > TOLERANCE_PERCENT]
    return f"another file beside it has {_percent(wrong[0], scan)}" if wrong else ""


def _percent(answer: Answer, scan: FaultyScan) -> str:
    from medseg.phantom.faults.score import error_percent, in_percent

    return in_percent(error_percent(answer.volume_ml, scan.volumes_ml))


def _filled(part: str, places: dict[str, str]) -> str:
    for name, value in places.items():
        part = part.replace(name, value)
    return part


def _run(command: Sequence[str], folder: Path, timeout_s: float) -> _Ended:
    """Run a command in a process group of its own, so that nothing of it outlives its time."""
    started = time.monotonic()
    with open(folder / "log.txt", "wb") as log:
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=folder, **own_group())
        except OSError as err:
            raise click.UsageError(f"{command[0]} cannot be run ({err.strerror or err}): check the command after --tool") from err
        try:
            code: int | None = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            kill_group(process)
            process.wait()
    said = (folder / "log.txt").read_bytes()[-_MOST_SAID:].decode("utf-8", "replace")
    return _Ended(code, time.monotonic() - started, said)


def _outcome(ended: _Ended) -> Outcome:
    from medseg.phantom.faults.score import Outcome

    if ended.exit_code is None:
        return Outcome.TIMEOUT
    if ended.exit_code < 0 or ended.exit_code in _CRASH_CODES:
        return Outcome.CRASHED
    return Outcome.LOADED if ended.exit_code == 0 else Outcome.REFUSED


def _measure_all(folder: Path, above: float) -> list[Answer]:
    """Measure the NIfTI files of a folder, the largest first and none below half its size; the first volume of several."""
    measured = [_measure(path, above) for path in sorted(folder.rglob("*.nii*")) if path.is_file()]
    known = sorted((pair for pair in measured if pair is not None), key=lambda pair: -pair[0])
    return [answer for size, answer in known if size * 2 >= known[0][0]]


def _measure(path: Path, above: float) -> tuple[int, Answer] | None:
    from medseg.core.errors import MedsegError, SeveralVolumesError
    from medseg.io.read import read
    from medseg.phantom.faults.score import measure_organ

    # as most programs of the field do: the sform where there is one, else the qform; the first volume of several
    for xform in ("sform", "qform", None):
        for index in (None, 0):
            try:
                volume = read(path, nifti_xform=xform, volume_index=index)  # type: ignore[arg-type]
            except SeveralVolumesError:
                continue
            except MedsegError:
                break
            return volume.array.size, measure_organ(volume.array, volume.geometry.affine, above)
    return _measure_impossible(path, above)


def _measure_impossible(path: Path, above: float) -> tuple[int, Answer] | None:
    """Measure a file whose grid medseg refuses, such as voxels of a metre: the reader said it is in order, so it counts."""
    from medseg.core.errors import MedsegError
    from medseg.io.nifti_header import read_header
    from medseg.io.stream import open_stream
    from medseg.io.voxels import read_array
    from medseg.phantom.faults.score import measure_organ

    try:
        with open_stream(path) as stream:
            header = read_header(stream)
            stream.skip(header.data_offset - (348 if header.version == 1 else 540))
            i, j, k = header.dim[:3]
            array = read_array(stream, (i, j, k), header.dtype)
    except (MedsegError, ValueError):
        return None
    affine = np.diag([*header.pixdim[1:4], 1.0]) if header.sform_code == 0 else np.vstack([header.srow, (0, 0, 0, 1)])
    return array.size, measure_organ(array, affine, above)
