"""De-identified copies of DICOM files: the basic profile of PS3.15, Annex E, with options, UIDs that stay consistent.

Best effort: what is drawn into the pixels and faces that a head scan shows are not touched.
"""

from __future__ import annotations

import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.core.errors import InputError, MedsegError, OutputExistsError, OutputVerificationError, UnreadableFileError
from medseg.io.atomic import check_folder, write_verified
from medseg.io.dicom.deidentification.dataset import TEXT_VRS, Pseudonyms, Treatment, holds_any, identifying_words, walk
from medseg.io.dicom.deidentification.profile import DeidOptions
from medseg.io.dicom.elements import HeaderError, NotDicomError, read_elements
from medseg.io.dicom.foreign import FOREIGN_ERRORS
from medseg.io.dicom.kinds import other_object
from medseg.io.dicom.quiet import quiet

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

LIMITS = (
    "Best effort, not a guarantee: text drawn into the pixels is not looked for, and faces can be recognised from head scans."
    " Check the result before you pass it on."
)
_SOP_CLASS = 0x00080016
# objects whose meaning is free text or drawings: they cannot be cleaned by rules
_TREATED_OBJECTS = ("segmentation (SEG)", "radiotherapy structure set (RTSTRUCT)", "radiotherapy dose")
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_KEY_BYTES = 16

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class DeidReport:
    """What was written and what was left out, and why; holds no path or value of the originals."""

    files: tuple[Path, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)
    actions: Mapping[str, int] = field(default_factory=dict)
    patients: int = 0
    studies: int = 0
    series: int = 0


def deidentify(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: DeidOptions | None = None,
    *,
    key: bytes | None = None,
    include_burned_in: bool = False,
    progress: Progress | None = None,
) -> DeidReport:
    """Write a de-identified copy of every DICOM image, SEG and RTSTRUCT below `path` into the new folder `output`.

    Files are named study_0001/series_0001/00001.dcm. UIDs, patients and shifts of dates follow from `key`: the same key gives
    the same pseudonyms in another run; without one a new secret is used and forgotten. Files that say that text is burned
    into their pixels, and secondary captures, are left out unless `include_burned_in`. A Siemens mosaic, whose geometry
    stands in private attributes, is written as the slices it holds. Each file is read back and searched for the patient's
    identifiers before it gets its name. Raises InputError where there is nothing to do, OutputExistsError, OutputError.
    """
    source, target = Path(path), Path(output)
    if key is not None:
        _check_key(key)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputExistsError(f"{target} is not an empty folder: give a new one")
    check_folder(target)
    files = list(_files(source))
    run = _Run(target, options or DeidOptions(), Pseudonyms(key or secrets.token_bytes(_KEY_BYTES)), include_burned_in)
    for number, file in enumerate(files, start=1):
        run.treat(file)
        if progress is not None:
            progress("de-identifying", number, len(files))
    if not run.written and not run.failed:
        raise InputError(f"{source}: no DICOM image, SEG or RTSTRUCT to de-identify" + _listed(run.left_out))
    return run.report()


def read_key(path: str | os.PathLike[str]) -> bytes:
    """Read the secret of `deidentify` from a file; raises InputError where it is not there or too short to be one."""
    try:
        key = Path(path).read_bytes().strip()
    except OSError as err:
        raise InputError(f"{path}: the key cannot be read ({err.strerror or err})") from err
    _check_key(key)
    return key


def _check_key(key: bytes) -> None:
    if len(key) < _KEY_BYTES:
        raise InputError(f"the key has {len(key)} bytes; {_KEY_BYTES} or more are needed, or the pseudonyms could be guessed")


class _Run:
    """Numbers studies and series as they come and counts what happens to files."""

    def __init__(self, target: Path, options: DeidOptions, pseudonyms: Pseudonyms, include_burned_in: bool) -> None:
        self.target, self.options, self.pseudonyms, self.include_burned_in = target, options, pseudonyms, include_burned_in
        self.written: list[Path] = []
        self.left_out: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.actions: Counter[str] = Counter()
        self.patients: set[str] = set()
        self.studies: dict[str, int] = {}
        self.series: dict[tuple[str, str], int] = {}
        self.instances: Counter[tuple[str, str]] = Counter()

    def treat(self, file: Path) -> None:
        """Write the copy, or copies, of one file, or count why there is none."""
        reason = _why_left_out(file)
        if reason:
            self.left_out[reason] += 1
            return
        try:
            with quiet():
                for dataset in self._objects(file):
                    self._write(dataset)
        except UnreadableFileError:
            self.failed["cannot be read"] += 1
        except OutputVerificationError as err:
            self.failed[str(err)] += 1

    def _objects(self, file: Path) -> Iterator[Dataset]:
        dataset = _read(file)
        if not self.include_burned_in and _may_show_text(dataset):
            self.left_out["text may be burned into the pixels"] += 1
            return
        from medseg.io.dicom.deidentification.mosaic import slices_of_mosaic

        yield from slices_of_mosaic(dataset, file) or (dataset,)

    def _write(self, dataset: Dataset) -> None:
        identifiers = tuple(identifying_words(dataset))
        patient = str(dataset.get("PatientID") or dataset.get("PatientName") or "")
        treatment = Treatment(self.options, self.pseudonyms, patient)
        place = self._place(str(dataset.get("StudyInstanceUID") or ""), str(dataset.get("SeriesInstanceUID") or ""))
        treatment.apply(dataset)
        _renew_meta(dataset)
        self.written.append(write_verified(place, lambda temporary: _save(dataset, temporary), lambda made: _check(made, identifiers)))
        self.actions.update(treatment.counts)
        self.patients.add(patient)

    def _place(self, study: str, series: str) -> Path:
        study_number = self.studies.setdefault(study, len(self.studies) + 1)
        number = self.series.setdefault((study, series), 1 + sum(known == study for known, _ in self.series))
        self.instances[study, series] += 1
        return self.target / f"study_{study_number:04d}" / f"series_{number:04d}" / f"{self.instances[study, series]:05d}.dcm"

    def report(self) -> DeidReport:
        """Return the counts of the run."""
        counts = (len(self.patients), len(self.studies), len(self.series))
        return DeidReport(tuple(self.written), dict(self.left_out), dict(self.failed), dict(self.actions), *counts)


def _files(source: Path) -> Iterator[Path]:
    if not source.exists():
        raise UnreadableFileError(f"{source}: no such file or folder")
    if source.is_file():
        yield source
        return
    for root, folders, names in os.walk(source, followlinks=False):
        folders.sort()
        yield from (Path(root) / name for name in sorted(names) if not (Path(root) / name).is_symlink())


def _why_left_out(file: Path) -> str:
    """Return why a file is not copied, "" where it is; nothing of the file's name or content is in the text."""
    try:
        elements = read_elements(os.fspath(file), frozenset({_SOP_CLASS}))
    except NotDicomError:
        return "not DICOM"
    except (HeaderError, OSError):
        return "cannot be read"
    sop_class = elements.values.get(_SOP_CLASS, b"").decode("ascii", "replace").strip("\0 ") or elements.media_sop_class_uid
    kind = other_object(sop_class)
    return "" if not kind or kind in _TREATED_OBJECTS else f"{kind}: free text or drawings cannot be cleaned by rules"


def _read(file: Path) -> Dataset:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        dataset = dcmread(file, force=True)
        for _ in walk(dataset):  # decode every attribute now: a bad one must not surface half-way
            pass
        _name(dataset)
        return dataset
    except (InvalidDicomError, *FOREIGN_ERRORS):
        raise UnreadableFileError("a file cannot be read") from None  # names and texts may be the patient's


def _name(dataset: Dataset) -> None:
    """Give an object that lost its class or instance UID those of its file, or new ones: no file can be written without."""
    from pydicom.uid import generate_uid

    meta = getattr(dataset, "file_meta", None) or {}
    if not dataset.get("SOPClassUID"):
        dataset.SOPClassUID = meta.get("MediaStorageSOPClassUID") or ""
    if not dataset.get("SOPInstanceUID"):
        dataset.SOPInstanceUID = meta.get("MediaStorageSOPInstanceUID") or generate_uid()


def _may_show_text(dataset: Dataset) -> bool:
    is_captured = str(dataset.get("SOPClassUID") or "").startswith(_SECONDARY_CAPTURE)
    return is_captured or str(dataset.get("BurnedInAnnotation") or "").upper() == "YES"


def _renew_meta(dataset: Dataset) -> None:
    """Give the file a preamble and a group 2 of its own: the old ones may hold anything."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    syntax = dataset.file_meta.get("TransferSyntaxUID") if hasattr(dataset, "file_meta") else None
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", "")
    meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "")
    meta.TransferSyntaxUID = syntax or (dataset.original_encoding and _syntax_of(dataset)) or ExplicitVRLittleEndian
    dataset.file_meta, dataset.preamble = meta, b"\0" * 128


def _syntax_of(dataset: Dataset) -> str | None:
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    is_implicit, is_little = dataset.original_encoding
    if is_implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian


def _save(dataset: Dataset, path: Path) -> None:
    from pydicom import dcmwrite

    try:
        dcmwrite(path, dataset, enforce_file_format=True)
    except (AttributeError, LookupError, TypeError, ValueError, NotImplementedError):
        raise OutputVerificationError("cannot be written again by the rules of DICOM") from None


def _check(path: Path, identifiers: tuple[str, ...]) -> None:
    """Read a copy back and search all its text for the patient's identifiers."""
    try:
        dataset = _read(path)
    except MedsegError:
        raise OutputVerificationError("the copy could not be read back") from None
    for keyword in ("DeidentificationMethod", "DeidentificationMethodCodeSequence"):  # our own words
        del dataset[keyword]
    if any(element.VR in TEXT_VRS and holds_any(element, identifiers) for element in walk(dataset)):
        raise OutputVerificationError("an identifier of the patient was still there: not written")


def _listed(left_out: Mapping[str, int]) -> str:
    return " (" + ", ".join(f"{count} × {reason}" for reason, count in sorted(left_out.items())) + ")" if left_out else ""
