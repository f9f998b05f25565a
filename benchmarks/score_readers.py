"""Run medseg and other readers on every fault of the catalogue: `python benchmarks/score_readers.py`.

Rewrites the marked block of docs/reliability.md and docs/pictures/reliability.png. SimpleITK, dcm2niix and dicom2nifti are looked
for beside the interpreter given as --peers (default: this one); one that is not there is left out. Takes some minutes.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medseg import __version__
from medseg.cli.phantom_score import score
from medseg.cli.phantom_score_table import score_document
from medseg.phantom.faults import FAULTS, ROWS, Fault, Kind
from medseg.phantom.faults.score import Judgement, Verdict, totals

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reliability.md"
PICTURE = ROOT / "docs" / "pictures" / "reliability.png"
BEGIN, END = "<!-- scores: written by benchmarks/score_readers.py -->", "<!-- end of scores -->"
MARKS = {Verdict.RIGHT: "✓", Verdict.WRONG: "✗", Verdict.REFUSED: "–"}
COLOURS = {"right": "#3b7ea1", "refused": "#c9cdd2", "silently wrong": "#d1495b"}

SIMPLEITK = """
import os, sys
import SimpleITK as sitk
path, out = sys.argv[1:]
if os.path.isdir(path):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(path))
    image = reader.Execute()
else:
    image = sitk.ReadImage(path)
sitk.WriteImage(image, out)
"""
DICOM2NIFTI = """
import os, sys
import dicom2nifti
dicom2nifti.convert_directory(sys.argv[1], sys.argv[2], compression=False, reorient=False)
sys.exit(not os.listdir(sys.argv[2]))  # it logs what it cannot convert and ends as if all were well
"""


@dataclass(frozen=True)
class Tool:
    """A reader as a command; `reads_nifti` says whether NIfTI and NRRD faults are for it."""

    name: str
    version: str
    command: str
    reads_nifti: bool


def tools(peers: str) -> list[Tool]:
    """Return the readers that are there."""
    found = [Tool("medseg", __version__, f"{shlex.quote(sys.executable)} -m medseg convert {{in}} {{out}}", True)]
    version = _version(peers, "SimpleITK")
    if version:
        found.append(Tool("SimpleITK", version, f"{shlex.quote(peers)} -c {shlex.quote(SIMPLEITK)} {{in}} {{out}}", True))
    program = shutil.which("dcm2niix", path=str(Path(peers).parent)) or shutil.which("dcm2niix")
    if program:
        found.append(Tool("dcm2niix", _dcm2niix_version(program), f"{shlex.quote(program)} -z n -f scan -o {{folder}} {{in}}", False))
    version = _version(peers, "dicom2nifti")
    if version:
        found.append(Tool("dicom2nifti", version, f"{shlex.quote(peers)} -c {shlex.quote(DICOM2NIFTI)} {{in}} {{folder}}", False))
    return found


def _version(python: str, package: str) -> str:
    ask = f"import importlib.metadata as m; print(m.version({package!r}))"
    done = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _dcm2niix_version(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    words = [word for word in done.stdout.split() if word.startswith("v1.")]
    return words[0] if words else ""


def is_dicom(fault: Fault) -> bool:
    """Whether a fault is one of DICOM files."""
    return fault.row[0] not in "NL"


def run(tool: Tool, faults: Sequence[Fault]) -> dict[str, Judgement]:
    """Score a reader on the faults that are for it."""
    own = [fault for fault in faults if tool.reads_nifti or is_dicom(fault)]

    def say(n: int, name: str) -> None:
        if sys.stderr.isatty():
            print(f"\r{tool.name}: {n + 1}/{len(own)} {name:40}", end="", file=sys.stderr, flush=True)

    found = {one.fault.name: one for one in score(tool.command, own, progress=say)}
    print(f"\r{tool.name}: {len(own)} faults{'':50}", file=sys.stderr)
    return found


def cell(one: Judgement | None) -> str:
    """Return one cell: a mark, the error or how it ended, and what has to be known beside it."""
    if one is None:
        return ""
    text = f"{MARKS[one.verdict]} {one.result}"
    return f"{text}, {one.remark}" if one.remark else text


def markdown(found: Sequence[tuple[Tool, dict[str, Judgement]]], faults: Sequence[Fault]) -> str:
    """Return totals and the table."""
    lines = ["| reader | version | right | of them guessed | silently wrong | refused what could be read |", "|---|---|---|---|---|---|"]
    for tool, judged in found:
        for what, part in (("DICOM", True), ("NIfTI, NRRD", False)):
            own = [one for one in judged.values() if is_dicom(one.fault) is part]
            if own:
                count = totals(own)
                name = f"{tool.name}, {len(own)} {what} faults"
                counts = (count["right"], count["guessed"], count["silently wrong"], count["refused"])
                lines.append(f"| {name} | {tool.version} | {' | '.join(map(str, counts))} |")
    lines += ["", f"Measured on {platform.system()} {platform.machine()}, Python {platform.python_version()}.", ""]
    lines += ["| row | fault | do | " + " | ".join(tool.name for tool, _ in found) + " |", "|---|---|---|" + "---|" * len(found)]
    for fault in faults:
        cells = [cell(judged.get(fault.name)) for _, judged in found]
        lines.append(f"| {fault.row} | {fault.name} | {fault.action.value} | {' | '.join(cells)} |")
    return "\n".join(lines)


def rewrite(block: str) -> None:
    """Put the tables between the marks of the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{block}\n\n{END}{after}", encoding="utf-8")


def draw(found: Sequence[tuple[Tool, dict[str, Judgement]]]) -> None:
    """Draw the verdicts on DICOM faults, one bar a reader."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 0.7 + 0.55 * len(found)), dpi=130, layout="constrained")
    axes = figure.subplots()
    names = [tool.name for tool, _ in found][::-1]
    counts = [totals([one for one in judged.values() if is_dicom(one.fault)]) for _, judged in found][::-1]
    start = [0] * len(names)
    for what, colour in COLOURS.items():
        widths = [count[what] for count in counts]
        bars = axes.barh(names, widths, left=start, color=colour, label=what, height=0.62)
        labels = [str(width) if width > 1 else "" for width in widths]  # a bar of one has no room for its number
        axes.bar_label(bars, labels, label_type="center", color="black" if what == "refused" else "white", fontsize=9)
        start = [one + width for one, width in zip(start, widths, strict=True)]
    axes.set_xlabel("faulty DICOM scans")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(ncols=3, frameon=False, loc="lower center", bbox_to_anchor=(0.45, 1.0), fontsize=9)
    figure.savefig(PICTURE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default=sys.executable, help="the Python that has SimpleITK, dicom2nifti and dcm2niix")
    parser.add_argument("--only", help="readers whose name holds this text; the page is then left alone")
    parser.add_argument("--rows", help="rows of the catalogue, such as 1,2,N5; the page is then left alone")
    parser.add_argument("--out", type=Path, help="write everything as JSON")
    options = parser.parse_args()
    wanted = None if options.rows is None else options.rows.upper().split(",")
    faults = [fault for fault in FAULTS.values() if fault.kind is Kind.SCAN and (wanted is None or fault.row in wanted)]
    chosen = [tool for tool in tools(options.peers) if options.only is None or options.only in tool.name]
    found = [(tool, run(tool, faults)) for tool in chosen]
    block = markdown(found, faults)
    print(block)
    if options.out:
        documents = [{"version": tool.version, **score_document(tool.name, list(judged.values()))} for tool, judged in found]
        options.out.write_text(json.dumps(documents, indent=1))
    if wanted is None and options.only is None:
        rewrite(block)
        draw(found)
    assert set(ROWS) >= {fault.row for fault in faults}


if __name__ == "__main__":
    main()
