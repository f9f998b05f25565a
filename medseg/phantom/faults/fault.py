"""What a fault is: scan files with one thing wrong, the truth about the organ in them, and what a reader has to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy.typing as npt

SCHEMA = "medseg.fault/1"
TOLERANCE_PERCENT = 0.5  # a volume further than this from the truth is wrong
PLACE_TOLERANCE_MM = 5.0  # a marker further than this from its place beside the organ is on the wrong side, or elsewhere


class Action(str, Enum):
    """What a careful reader does with a faulty scan."""

    CORRECT = "C"  # load it, and be right
    WARN = "W"  # load it, be right, and say what is odd
    REFUSE = "R"  # refuse it with an error that names the fault


class Kind(str, Enum):
    """How the files are to be read."""

    SCAN = "scan"
    LABELS = "labels"
    PAIR = "scan and labels"


@dataclass(frozen=True, eq=False)
class DicomFile:
    """One DICOM file before it is written: header fields by keyword, and the stored pixels.

    A sequence is a list of such mappings. A private or badly typed element has a key such as "0029,1010 OB". `pixels` is
    (rows, columns) or (frames, rows, columns) of the stored type, None for an object without. `syntax` names a transfer
    syntax of `medseg.io.dicom.records`; a file with `has_preamble` False begins with its first element, without the 128
    bytes, "DICM" and the file meta group.
    """

    name: str
    header: Mapping[str, Any]
    pixels: npt.NDArray[Any] | None
    syntax: str = "explicit-little"
    has_preamble: bool = True


@dataclass(frozen=True, eq=False)
class RawFile:
    """A file as bytes: NIfTI and NRRD are written without any library, so that no library can put the fault right."""

    name: str
    content: bytes


ScanFile = DicomFile | RawFile


@dataclass(frozen=True)
class Option:
    """An explicit way on: what the user says, how many ml the organ then has, and what must be recorded.

    `choice` holds fields of `medseg.io.options.ReadOptions`; `codes`, any one of which must be among the findings.
    """

    choice: Mapping[str, Any]
    volume_ml: float
    codes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class FaultyScan:
    """Files, the one to open ("" for their folder) and the truth.

    `volumes_ml` holds the volume of the organ by formula, or several where the files hold several scans: a reader must
    give one of them, not a mixture. `voxel_volumes_ml` are the same counted on the grid that was sliced. `marker_mm` is the
    way from the organ's centroid to the marker's in RAS+ mm, None where the files cannot say where left is.
    """

    files: tuple[ScanFile, ...]
    volumes_ml: tuple[float, ...]
    voxel_volumes_ml: tuple[float, ...] = ()
    marker_mm: tuple[float, float, float] | None = None
    entry: str = ""
    above: float = 50.0  # the organ is what lies above this value
    is_cut: bool = False  # the organ runs out of the scan: its volume is a lower bound
    scan_entry: str = ""  # the scan that labels belong to


@dataclass(frozen=True)
class Fault:
    """A row of the catalogue, or one of its variants.

    `codes`: any one of them must be among the findings (or behind the error). `error` names the error class of a refusal.
    `may_ask`: the files hold several scans, and a reader may refuse until one is chosen; `error` and `codes` then describe
    that question. `sentence` says what the fault is and what it does to careless readers.
    """

    name: str
    row: str
    action: Action
    sentence: str
    build: Callable[[], FaultyScan]
    codes: tuple[str, ...] = ()
    error: str = ""
    may_ask: bool = False
    kind: Kind = Kind.SCAN
    options: tuple[Option, ...] = ()
    warning: str = ""  # where no reader can get the volume right, a warning with this word is all that is asked for
    needs: str = ""  # the extra that encodes the files, where one is needed

    def __post_init__(self) -> None:
        object.__setattr__(self, "action", Action(self.action))
        if (self.action is Action.REFUSE or self.may_ask) != bool(self.error):
            raise ValueError(f"fault {self.name}: an error is named where, and only where, a reader refuses or asks")

    def expectation(self) -> dict[str, Any]:
        """Return what a reader has to do, as JSON."""
        return {
            "action": self.action.value,
            "codes": list(self.codes),
            "error": self.error,
            "may_ask": self.may_ask,
            "kind": self.kind.value,
            "warning_suffices": bool(self.warning),
            "options": [
                {"choice": dict(option.choice), "volume_ml": option.volume_ml, "codes": list(option.codes)} for option in self.options
            ],
        }

    def truth(self, scan: FaultyScan) -> dict[str, Any]:
        """Return the document that lies beside the files: what is wrong, what is true, and what a reader has to do."""
        return {
            "schema": SCHEMA,
            "fault": self.name,
            "row": self.row,
            "sentence": self.sentence,
            "open": scan.entry or ".",
            "organ": {
                "above": scan.above,
                "volumes_ml": list(scan.volumes_ml),
                "voxel_volumes_ml": list(scan.voxel_volumes_ml),
                "marker_from_organ_ras_mm": list(scan.marker_mm) if scan.marker_mm else None,
                "is_cut": scan.is_cut,
            },
            "tolerance_percent": TOLERANCE_PERCENT,
            "expected": self.expectation(),
        }


@dataclass
class Register:
    """Collects the faults of one module; a name is taken once."""

    faults: dict[str, Fault] = field(default_factory=dict)

    def add(self, name: str, row: str, action: str, sentence: str, **more: Any) -> Callable[[Callable[[], FaultyScan]], Any]:
        """Return a decorator that registers the function which builds the files."""

        def register(build: Callable[[], FaultyScan]) -> Callable[[], FaultyScan]:
            self.put(Fault(name, row, Action(action), sentence, build, **more))
            return build

        return register

    def put(self, fault: Fault) -> None:
        """Register one fault."""
        if fault.name in self.faults:
            raise ValueError(f"two faults are called {fault.name}")
        self.faults[fault.name] = fault


def merged(registers: Sequence[Register]) -> dict[str, Fault]:
    """Return all faults by name, in the order of the registers."""
    together = Register()
    for register in registers:
        for fault in register.faults.values():
            together.put(fault)
    return together.faults
