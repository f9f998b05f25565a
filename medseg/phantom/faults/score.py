"""What a reader made of a faulty scan: the organ measured on its output, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.phantom.faults.fault import PLACE_TOLERANCE_MM, TOLERANCE_PERCENT, Action, Fault, FaultyScan
from medseg.phantom.faults.scene import MARKER_BELOW


class Outcome(str, Enum):
    """How a reader ended."""

    LOADED = "loaded"
    REFUSED = "refused"
    CRASHED = "crashed"
    TIMEOUT = "timeout"


class Verdict(str, Enum):
    """What that is worth."""

    RIGHT = "right"
    WRONG = "silently wrong"
    REFUSED = "refused"


@dataclass(frozen=True)
class Answer:
    """The organ as a reader's output has it: its volume, and the way to the marker in RAS+ mm (None where there is none)."""

    volume_ml: float
    marker_mm: tuple[float, float, float] | None


@dataclass(frozen=True)
class Judgement:
    """One line of the table; `error_percent` against the nearest of the true volumes, None where nothing was loaded."""

    fault: Fault
    outcome: Outcome
    verdict: Verdict
    error_percent: float | None = None
    marker_off_mm: float | None = None
    remark: str = ""
    exit_code: int | None = None
    seconds: float = 0.0

    @property
    def result(self) -> str:
        """The error in %, or how the reader ended."""
        return self.outcome.value if self.error_percent is None else in_percent(self.error_percent)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "fault": self.fault.name,
            "row": self.fault.row,
            "action": self.fault.action.value,
            "outcome": self.outcome.value,
            "error_percent": self.error_percent,
            "marker_off_mm": self.marker_off_mm,
            "verdict": self.verdict.value,
            "remark": self.remark,
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 3),
        }


def measure_organ(array: npt.NDArray[Any], affine: npt.NDArray[np.float64], above: float) -> Answer:
    """Measure what lies above a value: voxels times |det| of the affine, and where the marker lies from there.

    `array` has axes (i,j,k), `affine` maps them to RAS+ mm. The middle of the marker is a median, so that stray voxels of its
    value do not move it.
    """
    organ = np.argwhere(array > above)
    volume = len(organ) * abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    marker = np.argwhere((array > above - MARKER_BELOW[0]) & (array < above - MARKER_BELOW[1]))
    if not len(organ) or not len(marker):
        return Answer(volume, None)
    middle = np.median(marker @ affine[:3, :3].T, axis=0) - organ.mean(axis=0) @ affine[:3, :3].T
    return Answer(volume, (float(middle[0]), float(middle[1]), float(middle[2])))


def error_percent(volume_ml: float, truths_ml: Sequence[float]) -> float:
    """Return how far a volume is from the nearest of the true ones, in % of it.

    >>> error_percent(99.0, [100.0, 50.0])
    -1.0
    """
    return min((100 * (volume_ml - truth) / truth for truth in truths_ml), key=abs)


def in_percent(error: float) -> str:
    """Return an error for people: one digit, two where it is below 1 %.

    >>> in_percent(6.418), in_percent(-0.5448)
    ('+6.4 %', '-0.54 %')
    """
    if abs(error) >= 1e5:
        return f"{error:+.0e} %"
    return f"{error:+.1f} %" if abs(error) >= 1 else f"{error:+.2f} %"


def marker_off_mm(answer: Answer, scan: FaultyScan) -> float | None:
    """Return how far the marker is from its place beside the organ; infinite where it is lost, None where it is not judged."""
    if scan.marker_mm is None:
        return None
    if answer.marker_mm is None:
        return float("inf")
    return float(np.linalg.norm(np.subtract(answer.marker_mm, scan.marker_mm)))


def judge(
    fault: Fault, scan: FaultyScan, outcome: Outcome, answer: Answer | None, said: str = ""
) -> tuple[Verdict, float | None, float | None, str]:
    """Return verdict, error in %, marker's distance from its place, and a remark.

    Right is what the catalogue asks for: the true volume with left on the left; and a refusal where one is asked for. Who
    loads what the catalogue refuses and gets the true volume is right too, with the remark that the file does not say so.
    `said` is what the reader printed: where no reader can be right, a warning is all that is asked for.
    """
    if outcome is not Outcome.LOADED or answer is None:
        asked_for = fault.action is Action.REFUSE or fault.may_ask
        is_right = outcome is Outcome.REFUSED and asked_for
        return (Verdict.RIGHT if is_right else Verdict.REFUSED), None, None, ""
    error, off = error_percent(answer.volume_ml, scan.volumes_ml), marker_off_mm(answer, scan)
    if abs(error) > TOLERANCE_PERCENT and fault.warning and fault.warning in said.lower():
        return Verdict.RIGHT, error, _finite(off), "wrong, with the warning that is asked for"
    if abs(error) > TOLERANCE_PERCENT:
        return Verdict.WRONG, error, _finite(off), ""
    if off is not None and off > PLACE_TOLERANCE_MM:
        return Verdict.WRONG, error, _finite(off), "marker lost" if off == float("inf") else f"marker {off:.0f} mm off its place"
    return Verdict.RIGHT, error, off, "guessed" if fault.action is Action.REFUSE else ""


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else value


def totals(judgements: Sequence[Judgement]) -> dict[str, int]:
    """Count the verdicts, and how many of the right ones were guesses."""
    counts = {verdict.value: sum(one.verdict is verdict for one in judgements) for verdict in Verdict}
    counts["guessed"] = sum(one.remark.startswith("guessed") for one in judgements)
    return counts
