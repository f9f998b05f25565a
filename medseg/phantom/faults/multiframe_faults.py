"""Enhanced multi-frame CT, MR and PET (row 25)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from medseg.phantom.faults.fault import DicomFile, FaultyScan, Option, Register
from medseg.phantom.faults.multiframe import ENHANCED_MR, ENHANCED_PET, LEGACY_CT, Frame, enhanced, frames_of
from medseg.phantom.faults.scene import LAB, even_offsets, rotated, stack
from medseg.phantom.faults.series import MR, Storage, as_scan, mr_above, uid

REGISTER = Register()
INCONSISTENT = "InconsistentSeriesError"
SMALL = LAB.scaled(0.9)


def _one(file: DicomFile, **more: Any) -> FaultyScan:
    return as_scan([file], **more)


def _add(name: str, action: str, sentence: str, file: Callable[[str], DicomFile], truth: dict[str, Any] | None = None, **more: Any) -> None:
    REGISTER.add(name, "25", action, sentence, **more)(lambda: _one(file(name), **(truth or {})))


_add(
    "enhanced-ct",
    "C",
    "80 frames in one file: a reader that knows no functional groups finds no spacing, no rescale and no place.",
    lambda name: enhanced(name, frames_of(stack())),
)
_add(
    "enhanced-groups-per-frame",
    "C",
    "Orientation, spacing and rescale stand in every frame and nothing is shared: readers that look only at the shared part find nothing.",
    lambda name: enhanced(name, frames_of(stack()), is_shared=False),
)


def _shuffled(name: str) -> DicomFile:
    frames = frames_of(stack())
    return enhanced(name, [frames[i] for i in np.random.default_rng(8).permutation(80)])


_add("enhanced-shuffled", "C", "Frames stand in any order in the file: stacked as they come, the organ is minced.", _shuffled)


def _sparse() -> list[float]:
    return [*np.arange(-95, -60, 1.25), *np.arange(-60, 100, 4.0)]


_add(
    "enhanced-uneven",
    "W",
    "Frames lie 1.25 mm apart below the organ and 4 mm in it: one distance for all loses a third of it or more.",
    lambda name: enhanced(name, frames_of(stack(_sparse()))),
    codes=("UNEVEN_SPACING",),
)
_add(
    "enhanced-spacing-tag-wrong",
    "W",
    "SpacingBetweenSlices says 5 mm, the positions 2.5 mm: trusting the tag doubles every volume.",
    lambda name: enhanced(name, frames_of(stack()), between_mm=5.0),
    codes=("SPACING_BETWEEN_SLICES_WRONG",),
)
_add(
    "enhanced-frame-missing",
    "R",
    "One frame is missing inside the organ: the file is whole, the volume is not.",
    lambda name: enhanced(name, [frame for k, frame in enumerate(frames_of(stack())) if k != 44]),
    codes=("MISSING_SLICES",),
    error=INCONSISTENT,
    options=(Option({"allow_gaps": True}, LAB.volume_ml, ("GAPS_INTERPOLATED",)),),
)
_add(
    "enhanced-without-places",
    "R",
    "Frames without position and orientation: any distance between them is made up.",
    lambda name: enhanced(name, frames_of(stack()), has_places=False),
    truth={"has_place": False},
    codes=("MISSING_GEOMETRY", "NO_GEOMETRY", "ENHANCED_MULTIFRAME"),
    error=INCONSISTENT,
)


def _tilted(name: str) -> DicomFile:
    turn = rotated("x", 20)
    return enhanced(name, frames_of(stack(row=turn[:, 0], column=turn[:, 1], along=(0, 0, 1))))


_add(
    "enhanced-gantry-tilt",
    "C",
    "A tilt of 20 degrees in one multi-frame file: volumes 6.4 % too large where the table step is taken for the distance.",
    _tilted,
    codes=("GANTRY_TILT",),
)


def _per_frame_rescale(name: str) -> DicomFile:
    frames = [
        replace(frame, storage=Storage(slope=round(0.5 + 0.01 * k, 2), intercept=-600.0 - 3 * k))
        for k, frame in enumerate(frames_of(stack()))
    ]
    return enhanced(name, frames)


_add(
    "enhanced-rescale-per-frame",
    "C",
    "Every frame has its own slope and intercept: one pair for all shifts the threshold from frame to frame.",
    _per_frame_rescale,
)
_add(
    "enhanced-mr",
    "C",
    "An enhanced MR file: signals stay as stored, places come from its frames.",
    lambda name: enhanced(name, frames_of(stack(), storage=MR), sop_class=ENHANCED_MR),
    truth={"above": mr_above()},
)
_add(
    "enhanced-pet",
    "C",
    "An enhanced PET file: like CT, under another class that readers may not know.",
    lambda name: enhanced(name, frames_of(stack()), sop_class=ENHANCED_PET),
)
_add(
    "legacy-converted-ct",
    "C",
    "A series that an archive converted into one legacy enhanced file.",
    lambda name: enhanced(name, frames_of(stack()), sop_class=LEGACY_CT),
)


def _two_stacks(name: str) -> DicomFile:
    return enhanced(name, [*frames_of(stack()), *frames_of(stack(), scene=SMALL, stack="2")])


def _two_times(name: str) -> DicomFile:
    pairs = zip(frames_of(stack()), frames_of(stack(), scene=SMALL, time=2), strict=True)
    return enhanced(name, [frame for pair in pairs for frame in pair])


def _echoes(name: str) -> DicomFile:
    def echo(frames: Sequence[Frame], time_ms: float) -> list[Frame]:
        return [replace(frame, echo_ms=time_ms) for frame in frames]

    first, second = echo(frames_of(stack(), storage=MR), 2.46), echo(frames_of(stack(), scene=SMALL, storage=MR), 4.92)
    return enhanced(name, [frame for pair in zip(first, second, strict=True) for frame in pair], sop_class=ENHANCED_MR)


_CHOICES = (
    Option({"select": "1"}, LAB.volume_ml, ("STACK_SELECTED",)),
    Option({"select": "2"}, SMALL.volume_ml, ("STACK_SELECTED",)),
)
for _name, _make, _sentence, _truth in (
    ("enhanced-two-stacks", _two_stacks, "Two stacks in one file, told apart by StackID: mixed, slices of two scans take turns.", {}),
    ("enhanced-two-times", _two_times, "Two time points in one file: mixed, the volume is that of no moment.", {}),
    (
        "enhanced-two-echoes",
        _echoes,
        "Two echoes in one MR file, told apart by a functional group: mixed, fat and water take turns from frame to frame.",
        {"above": mr_above()},
    ),
):
    _add(
        _name,
        "C",
        _sentence,
        _make,
        truth={"scenes": (LAB, SMALL), **_truth},
        codes=("MIXED_SERIES",),
        error=INCONSISTENT,
        may_ask=True,
        options=_CHOICES,
    )


@REGISTER.add("enhanced-in-two-files", "25", "C", "One scan in two multi-frame files (a concatenation): each alone is half the organ.")
def _concatenation() -> FaultyScan:
    name = "enhanced-in-two-files"
    frames = frames_of(stack(even_offsets()))
    parts = []
    for n, part in enumerate((frames[:40], frames[40:]), start=1):
        extra: dict[str, Any] = {"ConcatenationUID": uid(name, "whole"), "InConcatenationNumber": n, "InConcatenationTotalNumber": 2}
        file = enhanced(name, part, SOPInstanceUID=uid(name, "part", n), ConcatenationFrameOffsetNumber=40 * (n - 1), **extra)
        parts.append(replace(file, name=f"part{n}.dcm"))
    return as_scan(parts)
