"""Two folders of segmentations matched by the names of their files; what has no partner is named, never passed over."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from medseg.core.errors import InputError, MedsegError, UnreadableFileError
from medseg.io.dicom_objects import kind_of_object
from medseg.io.read import find_reader

ENDINGS = (".seg.nrrd", ".nii.gz", ".hdr.gz", ".nii", ".nrrd", ".nhdr", ".hdr", ".mha", ".mhd", ".mgz", ".mgh", ".dcm")

_SEGMENTATIONS = ("segmentation (SEG)", "radiotherapy structure set (RTSTRUCT)")  # as io.dicom.kinds names them
_NAMES_OF_LABELS = ".labels.csv"  # part of the image beside it
_MOST_NAMED = 5


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case; `problem` says why they cannot be a pair, "" where they can."""

    case: str
    reference: Path | None
    prediction: Path | None
    problem: str = ""


@dataclass(frozen=True)
class FolderPairs:
    """Every case of a folder of references, the predictions that no reference has, and the files that hold no segmentation."""

    cases: tuple[CaseFiles, ...]
    surplus: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


def pair_folders(reference: str | Path, prediction: str | Path) -> FolderPairs:
    """Match the segmentations below two folders by their path below it without the ending of the format.

    "a/liver.nii.gz" and "a/liver.seg.nrrd" are a pair. Hidden files, tables and DICOM images hold no segmentation; a file
    that looks like one and cannot be read stays in the list. Raises UnreadableFileError where a folder is not there,
    InputError where the reference holds no segmentation or no name has a partner.
    """
    ours, skipped = _by_name(Path(reference))
    theirs, also_skipped = _by_name(Path(prediction))
    if not ours:
        raise InputError(f"{reference}: no segmentation lies below this folder; give the folder of the reference's label maps")
    if not any(name in theirs for name in ours):
        raise InputError(
            f"no file of {reference} has a partner in {prediction}: names are compared without ending, such as {_some(ours)} and"
            f" {_some(theirs)}; name the files alike, or give two files"
        )
    cases = [_case(name, files, theirs.get(name, [])) for name, files in ours.items()]
    surplus = tuple(path.relative_to(prediction).as_posix() for name, files in theirs.items() if name not in ours for path in files)
    return FolderPairs(tuple(cases), surplus, (*skipped, *also_skipped))


def _case(name: str, ours: list[Path], theirs: list[Path]) -> CaseFiles:
    reference, prediction = ours[0], theirs[0] if theirs else None
    for files, side in ((ours, "reference"), (theirs, "prediction")):
        if len(files) > 1:
            names = ", ".join(file.name for file in files[:_MOST_NAMED])
            problem = f"the folder of the {side} has {len(files)} files of this name ({names}): leave one"
            # with two references nobody knows which one is right; with two predictions the reference still counts
            return CaseFiles(name, None if side == "reference" else reference, prediction, problem)
    return CaseFiles(name, reference, prediction)


def case_name(path: Path, folder: Path) -> str:
    """Return the name of a file below a folder without the ending of its format.

    >>> case_name(Path("pred/a/liver.seg.nrrd"), Path("pred"))
    'a/liver'
    """
    name = path.relative_to(folder).as_posix()
    ending = next((ending for ending in ENDINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]


def _by_name(folder: Path) -> tuple[dict[str, list[Path]], list[str]]:
    if not folder.is_dir():
        raise UnreadableFileError(f"{folder}: no such folder")
    found: dict[str, list[Path]] = {}
    ignored = []
    for path in _files(folder):
        if _may_be_segmentation(path):
            found.setdefault(case_name(path, folder), []).append(path)
        else:
            ignored.append(path.relative_to(folder).as_posix())
    return found, ignored


def _files(folder: Path) -> Iterator[Path]:
    """Every file below a folder in the order of names; hidden ones, label tables, and folders behind links are left out."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and not name.lower().endswith(_NAMES_OF_LABELS):
                yield Path(parent, name)


def _may_be_segmentation(path: Path) -> bool:
    """Whether a file is a label map by its content, or looks like one by its name although it cannot be read."""
    looks = path.name.lower().endswith(ENDINGS)
    try:
        if find_reader(path) is not None:
            return True
    except (MedsegError, OSError):
        return looks
    kind = kind_of_object(path)
    return kind in _SEGMENTATIONS or (not kind and looks and not _is_dicom_header(path))


def _is_dicom_header(path: Path) -> bool:
    """Whether the header of a DICOM file can be read: an image then, where it is no other object."""
    from medseg.io.dicom.elements import HeaderError, NotDicomError, read_elements

    try:
        read_elements(os.fspath(path), frozenset())
    except (NotDicomError, HeaderError, OSError, ValueError):
        return False
    return True


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return (", ".join(listed[:3]) + (" …" if len(listed) > 3 else "")) if listed else "none"
