"""`medseg phantom --fault`: write scans with one thing wrong, or list them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.cli.terminal import Terminal

if TYPE_CHECKING:
    from medseg.phantom.faults import Fault, FaultyScan

SCAN_FOLDER = "scan"


def write_fault(fault: Fault, folder: Path, overwrite: bool = False) -> tuple[FaultyScan, Path]:
    """Write a fault's files into `folder`/scan and truth.json beside it; return the truth and the path a reader opens."""
    from medseg.io.atomic import check_folder, write_text
    from medseg.io.dicom.records import write_records

    scan = fault.build()
    check_folder(folder)
    write_records(scan.files, folder / SCAN_FOLDER, overwrite=overwrite)
    document = json.dumps(fault.truth(scan), indent=2, allow_nan=False) + "\n"
    write_text(folder / "truth.json", document, overwrite=overwrite)
    return scan, folder / SCAN_FOLDER / scan.entry


def write_faults(wanted: str, output: Path, terminal: Terminal, overwrite: bool) -> None:
    """Write the faults that `wanted` names: one into `output`, several into a folder each."""
    from medseg.phantom.faults import find_faults

    faults = find_faults(wanted)
    written = []
    with terminal.progress() as progress:
        for n, fault in enumerate(faults):
            progress("faults", n, len(faults))
            folder = output if len(faults) == 1 else output / fault.name
            scan, path = write_fault(fault, folder, overwrite)
            written.append({"folder": str(folder), "open": str(path), "truth": fault.truth(scan)})
    for fault, entry in zip(faults, written, strict=True):
        terminal.show(f"wrote {entry['open']}: {fault.sentence}")
    terminal.document({"schema": "medseg.faults/1", "faults": written})


def list_faults(terminal: Terminal) -> None:
    """Print every fault with its row, what a reader has to do, and what it does to careless ones."""
    from rich.table import Table

    from medseg.phantom.faults import FAULTS, ROWS

    table = Table("row", "fault", "do", "codes or error", "what happens", header_style="bold")
    for fault in FAULTS.values():
        table.add_row(fault.row, fault.name, fault.action.value, named(fault), fault.sentence)
    terminal.show(table, "C load and be right, W load, be right and warn, R refuse")
    entries: list[dict[str, Any]] = [
        {"name": fault.name, "row": fault.row, "situation": ROWS[fault.row], "sentence": fault.sentence, "expected": fault.expectation()}
        for fault in FAULTS.values()
    ]
    terminal.document({"schema": "medseg.faults/1", "faults": entries})


def named(fault: Fault) -> str:
    """Return the codes and the error a reader names, in a few words."""
    codes = " or ".join(fault.codes)
    if not fault.error:
        return codes
    return f"{fault.error}: {codes}" if codes else fault.error
