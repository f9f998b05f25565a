"""Which DICOM image series lie in a file or below a folder; headers only."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from medseg.core.errors import InconsistentSeriesError, UnreadableFileError, UnsupportedFormatError
from medseg.io.dicom.elements import HeaderError, NotDicomError, looks_like_dicom
from medseg.io.dicom.header import NotAnImageError, SliceHeader, read_headers

_NEVER_IMAGES = frozenset({"thumbs.db", "desktop.ini", "dicomdir"})


@dataclass(frozen=True)
class UnreadableFile:
    """A file that claims to be, or by its neighbours should be, an image, but cannot be read; or a closed folder."""

    path: str
    reason: str


@dataclass(frozen=True)
class Series:
    """The image files that share a SeriesInstanceUID; `path` is what was searched.

    `slices` are in no order yet; a multi-frame file or a mosaic gives several. `unreadable` are broken files and closed
    folders in the same folders: a slice of this series may be among them, so it is not read without them. `skipped` counts
    what else lay below `path`, by reason.
    """

    series_uid: str
    modality: str
    slices: tuple[SliceHeader, ...]
    path: str = ""
    unreadable: tuple[UnreadableFile, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of the image files."""
        return tuple(dict.fromkeys(header.path for header in self.slices))

    @property
    def sop_class_uids(self) -> tuple[str, ...]:
        """The SOP classes of the files."""
        return tuple(sorted({header.sop_class_uid for header in self.slices}))

    @property
    def folder(self) -> str:
        """The folder that holds the files, or their nearest common one."""
        folders = {os.path.dirname(path) for path in self.files}
        return folders.pop() if len(folders) == 1 else os.path.commonpath(folders)


def is_dicom(path: str | os.PathLike[str]) -> bool:
    """Tell by its first bytes whether a file is DICOM; False for what cannot be opened."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as stream:
            return looks_like_dicom(stream.read(256))
    except OSError:
        return False


def find_series(path: str | os.PathLike[str]) -> list[Series]:
    """Find the image series in a file or below a folder, whatever the files are called, in order of path.

    Of a DICOMDIR its folder is searched; where it says that files lie is not looked at. Symbolic links below the folder are
    not followed. Raises UnreadableFileError where there is no DICOM image and no other DICOM object, UnsupportedFormatError
    where there are only objects that hold no volume (reports, structure sets).
    """
    top = Path(path)
    found = _Found()
    if not top.exists():
        raise UnreadableFileError(f"{top}: no such file or folder")
    for entry in _files_below(top, found):
        found.look_at(entry)
    if found.objects["DICOMDIR"] and not top.is_dir():
        return find_series(top.absolute().parent)
    series = found.series(os.fspath(path))
    if not series:
        _refuse_nothing(top, found)
    return series


def series_of(files: Iterable[str | os.PathLike[str]]) -> Series:
    """Return the one series that these files are, whatever else lies beside them.

    None is passed over: a file that is no image or cannot be read is `unreadable`, so that nothing is read without it. Raises
    UnreadableFileError where none of them is an image, InconsistentSeriesError where they are of several series.
    """
    found = _Found()
    given = [os.fspath(file) for file in files]
    for path in given:
        found.look_at(path)
        for kind in (*found.objects, *found.skipped):  # what a search passes over was asked for here
            found.unreadable.append(UnreadableFile(path, f"it is no image of the series ({kind})"))
        found.objects.clear()
        found.skipped.clear()
        found.empty.clear()
    series = found.series(os.path.commonpath(given) if len(given) > 1 else "".join(given))
    if not series:
        first = found.unreadable[0] if found.unreadable else UnreadableFile("", "no file was given")
        raise UnreadableFileError(f"{first.path}: {first.reason}; copy the file again from its source")
    if len(series) > 1:
        raise InconsistentSeriesError(f"{series[0].path}: the files are of {len(series)} series, not of one; give those of one")
    return replace(series[0], unreadable=tuple(found.unreadable))


class _Found:
    """What a search has met so far."""

    def __init__(self) -> None:
        self.groups: dict[tuple[str, str], list[SliceHeader]] = {}
        self.unreadable: list[UnreadableFile] = []
        self.empty: list[str] = []
        self.skipped: Counter[str] = Counter()
        self.objects: Counter[str] = Counter()

    def look_at(self, path: str) -> None:
        """Read one file's header and file it under its series, or count why not."""
        try:
            headers = read_headers(path)
        except NotDicomError as reason:
            self.skipped[str(reason)] += 1
            if str(reason) == "empty file":
                self.empty.append(path)
        except NotAnImageError as kind:
            self.objects[str(kind)] += 1
        except HeaderError as reason:
            self.unreadable.append(UnreadableFile(path, str(reason)))
        except OSError as err:
            self.unreadable.append(UnreadableFile(path, err.strerror or "cannot be read"))
        else:
            # without a series UID only files of one folder and study can belong together
            first = headers[0]
            key = (first.series_uid, "" if first.series_uid else f"{os.path.dirname(path)}|{first.study_uid}")
            self.groups.setdefault(key, []).extend(headers)

    def series(self, top: str) -> list[Series]:
        counts = dict(self.skipped + self.objects + Counter({"unreadable DICOM file": len(self.unreadable)}))
        result = []
        for (uid, _), headers in self.groups.items():
            modality = Counter(header.modality for header in headers).most_common(1)[0][0]
            result.append(Series(uid, modality, tuple(headers), top, self._broken_beside(headers), counts))
        return sorted(result, key=lambda one: min(one.files))

    def _broken_beside(self, headers: list[SliceHeader]) -> tuple[UnreadableFile, ...]:
        """Broken files in the folders of a series, and empty ones that are named as its files are."""
        folders = {os.path.dirname(header.path) for header in headers}
        names = {(os.path.dirname(header.path), _suffix(header.path)) for header in headers}
        broken = [one for one in self.unreadable if os.path.dirname(one.path) in folders]
        broken += [
            UnreadableFile(path, "the file is empty (0 bytes)")
            for path in self.empty
            if (os.path.dirname(path), _suffix(path)) in names and not os.path.basename(path).startswith(".")
        ]
        return tuple(broken)


def _files_below(top: Path, found: _Found) -> Iterator[str]:
    """Yield regular files in a stable order; links, devices and closed folders are counted, never opened."""
    if not top.is_dir():
        yield os.fspath(top)
        return
    skipped = found.skipped
    pending = [os.fspath(top)]
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            skipped["folder that cannot be opened"] += 1
            found.unreadable.append(UnreadableFile(folder, "the folder cannot be opened: ask for the right to read it"))
            continue
        folders = []
        for entry in entries:
            if entry.is_symlink():
                skipped["symbolic link"] += 1
            elif entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif not entry.is_file(follow_symlinks=False):
                skipped["not a regular file"] += 1
            elif entry.name.lower() in _NEVER_IMAGES or entry.name.startswith("._"):
                skipped["DICOMDIR" if entry.name.lower() == "dicomdir" else "not DICOM"] += 1
            else:
                yield entry.path
        pending.extend(reversed(folders))


def _suffix(path: str) -> str:
    """The file name's suffix; a DICOM file named by its UID has none, though it is full of dots."""
    suffix = os.path.splitext(path)[1].lower()
    return "" if suffix[1:].isdigit() else suffix


def _refuse_nothing(top: Path, found: _Found) -> None:
    if found.unreadable:
        first = found.unreadable[0]
        raise UnreadableFileError(f"{first.path}: {first.reason}; copy the file again from its source")
    if found.objects:
        kinds = ", ".join(f"{count} × {kind}" for kind, count in sorted(found.objects.items()))
        raise UnsupportedFormatError(f"{top}: no image series, only {kinds}: give the folder of the images")
    where = "file below this folder" if top.is_dir() else "file"
    raise UnreadableFileError(f"{top}: no DICOM, NIfTI or NRRD {where}" + _counted(found.skipped))


def _counted(skipped: Counter[str]) -> str:
    if not skipped:
        return ""
    return " (" + ", ".join(f"{count} × {reason}" for reason, count in sorted(skipped.items())) + ")"
