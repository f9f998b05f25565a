"""SEGs as other programs write them: by highdicom, and edited with pydicom."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

ALGORITHM = ("other", codes.cid7162.ArtificialIntelligence, "1")


def descriptions(numbers: list[int]) -> list[Any]:
    return [
        highdicom.seg.SegmentDescription(
            number,
            f"part {number}",
            codes.SCT.Organ,
            codes.SCT.Liver,
            "AUTOMATIC",
            highdicom.AlgorithmIdentificationSequence(*ALGORITHM),
            tracking_id=f"track {number}",
            tracking_uid=f"1.2.3.{number}",
        )
        for number in numbers
    ]


def by_highdicom(folder: Path, pixels: np.ndarray, path: Path, kind: str = "BINARY", **options: Any) -> Path:
    """Write `pixels` (k,j,i) or (k,j,i,segments) for the files of a series, sorted by their position along k."""
    files = [pydicom.dcmread(file) for file in folder.glob("*")]
    normal = np.cross(files[0].ImageOrientationPatient[:3], files[0].ImageOrientationPatient[3:])
    files.sort(key=lambda dataset: float(np.dot(normal, dataset.ImagePositionPatient)))
    count = pixels.shape[3] if pixels.ndim == 4 else int(pixels.max())
    numbers = list(range(1, count + 1)) if kind != "LABELMAP" else [int(n) for n in np.unique(pixels) if n]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = highdicom.seg.Segmentation(
            files,
            pixels,
            kind,
            descriptions(numbers),
            highdicom.UID(),
            1,
            highdicom.UID(),
            1,
            "other",
            "other",
            "1",
            "0",
            **options,
        )
        made.save_as(path)
    return path


def edited(path: Path, change: Callable[[Dataset], None]) -> Path:
    """Change a SEG in place."""
    dataset = pydicom.dcmread(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        change(dataset)
        dataset.save_as(path)
    return path


def in_order(path: Path, order: list[int]) -> Path:
    """Store the frames in another order, or only some of them."""

    def change(dataset: Dataset) -> None:
        frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)[order]
        groups = list(dataset.PerFrameFunctionalGroupsSequence)
        dataset.PerFrameFunctionalGroupsSequence = [groups[frame] for frame in order]
        dataset.NumberOfFrames = len(order)
        packed = np.packbits(frames.reshape(-1), bitorder="little").tobytes() if dataset.BitsAllocated == 1 else frames.tobytes()
        dataset.PixelData = packed + b"\0" * (len(packed) % 2)

    return edited(path, change)


def asymmetric() -> np.ndarray:
    """One part (k,j,i) that no flip leaves as it is, in all slices."""
    made = np.zeros((8, 7, 9), np.uint8)
    made[:, 1:4, 2:8] = 1
    made[2:, 5, 3] = 1
    made[5, 0, 0] = 1
    return made


def axial_seg(folder: Path, target: Path) -> Path:
    """A SEG of that part with frames from the lowest to the highest slice."""
    path = by_highdicom(folder, asymmetric(), target / "x.dcm", omit_empty_frames=False)
    return edited(in_order(path, heights(path).argsort().tolist()), name_segments)


def name_segments(dataset: Dataset) -> None:
    """Put the segment's number into every frame; of one segment alone highdicom writes it once for all."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for group in dataset.PerFrameFunctionalGroupsSequence:
        group.SegmentIdentificationSequence = deepcopy(shared.SegmentIdentificationSequence)
    del shared.SegmentIdentificationSequence


def heights(path: Path) -> np.ndarray:
    groups = pydicom.dcmread(path).PerFrameFunctionalGroupsSequence
    return np.array([float(group.PlanePositionSequence[0].ImagePositionPatient[2]) for group in groups])


def groups_of(dataset: Dataset, frame: int) -> Dataset:
    return dataset.PerFrameFunctionalGroupsSequence[frame]


def uneven(dataset: Dataset) -> None:
    for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        x, y, z = group.PlanePositionSequence[0].ImagePositionPatient
        group.PlanePositionSequence[0].ImagePositionPatient = [x, y, float(z) + (1.1 if number > 4 else 0)]
