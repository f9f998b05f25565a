"""What is said of a case outside of private/: its files by their number, no folder, no path, no UID."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from medseg.batch.records.case import Case
from medseg.core.finding import Finding

# six numbers or more; or three with a long one, as in 2.25.<UUID> (PS3.5, B.2), which no version has
_UID = re.compile(r"(?<![\w.])(?:\d+(?:\.\d+){5,}|[0-2]\.\d+(?:\.\d+)*\.\d{9,}(?:\.\d+)*)(?:…|\.\.\.)?(?![\w])")
_PATH = re.compile(r"(?<![\w/:.])(?:[A-Za-z]:)?[\\/](?:[^\s\\/:;,'\"()]+[\\/])+[^\s\\/:;,'\"()]*")
_FOLDER_FIRST = re.compile(r"^\((?:a folder|the folder|a path)\): ")
_FOLDER_OF_STACKS = re.compile(r"^\((?:a folder|the folder|a path)\)(?= holds \d+ stack)")
_EDGE, _END = r"(?<![\w^-])", r"(?![\w^-])"
# Names of folders and files that stand in our sentences as ordinary words, and identify nobody
_WORDS = (
    " a all axial body case cases coronal ct data dicom file files folder folders head image images label labels map maps mask masks"
    " mr nifti nrrd of out patient patients prediction reference sagittal scan scans segment segmentation segmentations segments"
    " series slice slices stack stacks study studies t1 t2 the volume volumes "
)
_FEW_DIGITS = 4  # a name such as 1 or 0012 is a number of an image, and may be any other number of a sentence


def said_without_paths(text: str, case: Case, root: Path) -> str:
    """Return a sentence about a case without what names its files: "file 12 of 80" instead, its number in `Case.files`.

    Paths are replaced whole, then names of files, then names of folders, then UIDs. What an archive holds has names that
    nobody here knows: `without_names` leaves such sentences out altogether.

    >>> case = Case("0" * 16, "DICOM", ("DOE^JOHN/CT/IM1.dcm", "DOE^JOHN/CT/IM2.dcm"))
    >>> said_without_paths("/data/DOE^JOHN/CT/IM2.dcm is cut short; see DOE^JOHN and IM1.dcm", case, Path("/data"))
    'file 2 of 2 is cut short; see (a folder) and file 1 of 2'
    """
    return _cleaner(case, root)(text)


def failure_sentence(code: str, text: str, case: Case, root: Path) -> str:
    """Return what may be said of a failure; of an archive only its code, for its members may bear names of patients."""
    if case.kind != "archive":
        return said_without_paths(text, case, root)
    return f"what the archive holds cannot be used ({code}): unpack it and look at it with medseg inspect"


def findings_without_paths(findings: tuple[Finding, ...], case: Case, root: Path) -> tuple[Finding, ...]:
    """Return findings whose messages and details name no file; of an archive, without their details."""
    if not findings:
        return ()
    clean = _cleaner(case, root)
    if case.kind == "archive":
        return tuple(replace(finding, message=_generic(clean(finding.message)), details={}) for finding in findings)
    return tuple(replace(finding, message=clean(finding.message), details=_cleaned(finding.details, clean)) for finding in findings)


def _generic(message: str) -> str:
    """Leave out the words of a sentence that look like the name of a file."""
    return re.sub(r"\S+\.(?:dcm|ima|nii|gz|nrrd|mha|mhd|img|hdr)\b", "(a file)", message, flags=re.IGNORECASE)


def _cleaned(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {str(name): _cleaned(entry, clean) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleaned(entry, clean) for entry in value]
    return value


def _cleaner(case: Case, root: Path) -> Callable[[str], str]:
    """Return what cleans sentences about one case; names that are not in a sentence cost it nothing."""
    count = len(case.files)
    named = [(PurePosixPath(name), f"file {number} of {count}") for number, name in enumerate(case.files, 1)]
    longest_first = sorted(((path.name, words) for path, words in named), key=lambda pair: len(pair[0]), reverse=True)
    stems = [(stem, words) for name, words in longest_first for stem in _stems(name)]
    holding = {path.parent for path, _ in named}
    folders = {parent for folder in holding for parent in (folder, *folder.parents) if parent.name}
    deepest_first = sorted(folders, key=lambda one: len(str(one)), reverse=True)
    roots = sorted({str(root), str(root.absolute()), str(root.resolve())}, key=len, reverse=True)

    def clean(text: str) -> str:
        for path, words in named:
            if path.name in text:
                for prefix in roots:
                    text = text.replace(f"{prefix}/{path}", words)
                text = _without(text, str(path), words) if len(path.parts) > 1 else text
        text = _without_folder_paths(text, deepest_first, roots)  # before names: a file may be called as its folder
        for stem, words in stems:
            text = _without(text, stem, words) if stem in text else text
        text = _without(text, case.series_uid, "(a UID)") if case.series_uid else text
        text = _UID.sub("(a UID)", _PATH.sub("(a path)", _without_folders(text, deepest_first, roots)))
        text = _FOLDER_FIRST.sub("", text).replace("DICOM series (a UID)", "the DICOM series")
        text = _FOLDER_OF_STACKS.sub("the DICOM series", text)
        return text.replace("--select", "--stack")  # in a batch --select chooses series, and --stack one stack of a series

    return clean


def _stems(name: str) -> list[str]:
    """Return a file's name with and without its extension, but for those that may be any word or number of a sentence."""
    stems = [name, *(name[: -len(end)] for end in (".nii.gz", ".gz", ".dcm", ".nii", ".nrrd") if name.lower().endswith(end))]
    return [stem for stem in stems if stem and not _is_ordinary(stem)]


def _is_ordinary(name: str) -> bool:
    """Whether a name may stand in our sentences for something else."""
    return f" {name.lower()} " in _WORDS or (name.isdigit() and len(name) <= _FEW_DIGITS)


def _without_folder_paths(text: str, folders: list[PurePosixPath], roots: list[str]) -> str:
    for folder in folders:
        if folder.name in text:
            for prefix in roots:
                text = text.replace(f"{prefix}/{folder}", "(a folder)")
    return text


def _without_folders(text: str, folders: list[PurePosixPath], roots: list[str]) -> str:
    for prefix in roots:
        text = text.replace(prefix, "(the folder)") if len(prefix) > 1 else text
    # the folder of a whole collection identifies nobody by an ordinary word such as lungs
    names = {folder.name for folder in folders} | {part for prefix in roots for part in Path(prefix).parts[1:] if not part.islower()}
    for name in sorted(names, key=len, reverse=True):
        if name in text and not _is_ordinary(name):
            text = _without(text, name, "(a folder)")
    return text


def _without(text: str, name: str, words: str) -> str:
    return re.sub(f"{_EDGE}{re.escape(name)}{_END}", words.replace("\\", r"\\"), text)
