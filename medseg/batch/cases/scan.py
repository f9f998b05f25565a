"""Going through a folder file by file: headers only, nothing is followed, nothing is opened that is not an ordinary file."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from medseg.batch.cases.scan_store import ScanStore, Unit, decoded
from medseg.batch.cases.series_rules import Selection
from medseg.batch.records.case import case_id_of
from medseg.core.errors import UnreadableFileError
from medseg.io.atomic import TEMPORARY_PREFIX
from medseg.io.dicom.glance import BrokenDicomError, glance
from medseg.io.glance import ImageGlance, glance_at_image, promised_kind

NOT_SELECTED = "a rule of --select does not hold"
NOT_LISTED = "not in the table of cases"
REFUSED = "the table of cases says no"
LABELS = "a label map or mask, no scan"
TOO_THIN = "fewer than {} slices"
CLOSED_FOLDER = "a folder that cannot be opened"
CLOSED_FILE = "a file that cannot be opened"

_NEVER_IMAGES = frozenset({"thumbs.db", "desktop.ini", "dicomdir", ".ds_store"})
_NOT_SEARCHED = frozenset({"lost+found"})
_MARKS = {"batch.json": b"medseg.batch/", "provenance.json": b"medseg"}
_MOST_MARK_BYTES = 1 << 20
_REPORT_EVERY = 200
_DETACHED_ENDINGS = (".raw", ".img", ".img.gz", ".zraw", ".raw.gz")


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a search: `paths` and what lies below them (b"" is everything), and `series` by their UIDs.

    Series, and image files that are among the paths themselves, were asked for by name: no rule leaves them out. What was refused by
    name (`refused` paths and what lies below them, `refused_series`) is not run, though it lies in a folder that is wanted.
    """

    paths: frozenset[bytes] = frozenset({b""})
    series: frozenset[str] = frozenset()
    refused: frozenset[bytes] = frozenset()
    refused_series: frozenset[str] = frozenset()

    def holds(self, name: bytes) -> bool:
        """Whether a file or folder is, or lies below, one of the paths."""
        while name and name not in self.paths:
            name = os.path.dirname(name)
        return name in self.paths

    def names(self, name: bytes) -> bool:
        """Whether a file is wanted or refused, by itself or with a folder around it."""
        return self.holds(name) or self.refuses(name)

    def refuses(self, name: bytes) -> bool:
        """Whether a file was refused: of all rows that name it or a folder around it, the nearest decides."""
        while name and name not in self.paths and name not in self.refused:
            name = os.path.dirname(name)
        return name in self.refused and name not in self.paths


@dataclass
class Scan:
    """One walk below `top`; `output` is left out, `report` is told the number of files now and then."""

    top: Path
    store: ScanStore
    output: Path | None = None
    modality: str = ""
    selection: Selection = field(default_factory=Selection)
    least_slices: int = 4
    report: Callable[[int], None] = lambda count: None
    wanted: Wanted = Wanted()
    files: int = 0
    passed: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.base = os.fsencode(os.path.abspath(self.top))

    def name_of(self, path: bytes) -> bytes:
        """Return a path below the folder that is searched; b"" for that folder."""
        return path[len(self.base.rstrip(b"/")) + 1 :]

    def search(self, folder: bytes) -> None:
        """Look at every file below the folder that is searched, or below one inside it."""
        for path in self._walk(folder):
            self.look_at(path, self.name_of(path))

    def finish(self) -> None:
        """Write what waits; call once, after the last file."""
        for reason, count in sorted(self.passed.items()):
            self.store.add_passed(reason, count)
        self.store.finish()
        self.report(self.files)

    def look_at(self, path: bytes, name: bytes) -> None:
        """Look at one ordinary file, which `name` names below the folder."""
        self.files += 1
        if self.files % _REPORT_EVERY == 0:
            self.report(self.files)
        try:
            found = glance(os.fsdecode(path))
            if found is not None:
                self.store.add_dicom(name, found)
                return
            file = Path(os.fsdecode(path))
            image = glance_at_image(file)
            if image is None:
                self._pass_over(file, name)
            elif image.kind == "DICOM":
                self.store.add_broken(name, "broken")
            elif self.wanted.names(name):
                self._add_image(image, file, name)
            else:
                self.passed[NOT_LISTED] += 1
        except BrokenDicomError:
            self.store.add_broken(name, "broken")
        except OSError:  # one file that the disk or the rights do not give is no reason to stop
            self._closed(name)

    def _closed(self, name: bytes) -> None:
        kind = promised_kind(os.fsdecode(name))
        if kind in ("", "DICOM"):
            self.store.add_broken(name, "broken" if kind else "closed")
        elif self.wanted.names(name):
            self._add_unit(ImageGlance(kind, problem="it cannot be opened"), [name])
        else:
            self.passed[NOT_LISTED] += 1

    def _pass_over(self, file: Path, name: bytes) -> None:
        """Count what is no image, once it is known that it is not part of one."""
        if os.path.getsize(file) == 0:
            self.store.add_broken(name, "empty")
        elif file.name.lower().endswith(_DETACHED_ENDINGS):
            self.store.add_broken(name, "data")
        else:
            self.passed["no image"] += 1

    def _add_image(self, image: ImageGlance, file: Path, name: bytes) -> None:
        folder, place = os.path.dirname(name), os.fsencode(file.parent)
        data = [os.path.join(folder, os.path.relpath(os.fsencode(one), place)) for one in image.data_files]
        self._add_unit(image, [name, *data])

    def _add_unit(self, image: ImageGlance, names: list[bytes]) -> None:
        path = decoded(names[0])
        slices = image.sizes[2] if len(image.sizes) > 2 else 0
        texts = {"Kind": image.kind, "Path": path, "Slices": str(slices or "")}
        reason = ""
        if names[0] not in self.wanted.paths:
            reason = self._reason_against(image) or ("" if self.selection.passes(texts) else NOT_SELECTED)
            reason = reason or (REFUSED if self.wanted.refuses(names[0]) else "")
        self.store.add_unit(Unit(image.kind, "" if reason else case_id_of([path]), reason, slices=slices), names)

    def _reason_against(self, image: ImageGlance) -> str:
        if image.problem:
            return ""
        if image.holds_labels or (image.has_one_byte and self.modality.upper() == "CT"):
            return LABELS
        least = 1 if self.selection.names("Slices") else self.least_slices
        if image.sizes and min((*image.sizes, *(1,) * (3 - len(image.sizes)))) < least:
            return TOO_THIN.format(least)
        return ""

    def _walk(self, start: bytes) -> Iterator[bytes]:
        """Yield ordinary files in a stable order."""
        output = _identity(self.output)
        pending = [start]
        while pending:
            folder = pending.pop()
            try:
                with os.scandir(folder) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
            except OSError as err:
                if folder == start and not self.wanted.refuses(self.name_of(folder)):
                    where = os.fsdecode(folder)
                    raise UnreadableFileError(f"{where} cannot be searched ({err.strerror}); check the disk and your rights") from err
                self.store.add_broken(self.name_of(folder), "folder")
                continue
            if any(entry.name in _MARK_NAMES and _is_mark(entry) for entry in entries):
                self.passed["folder that medseg wrote"] += 1
                continue
            folders = []
            for entry in entries:
                kind = self._kind_of(entry)
                if kind == "file":
                    yield entry.path
                elif kind == "folder" and (output is None or _identity(entry.path) != output):
                    folders.append(entry.path)
            pending.extend(reversed(folders))

    def _kind_of(self, entry: os.DirEntry[bytes]) -> str:
        """Whether an entry is a file to look at or a folder to search; "" where it is passed over, counted."""
        name = os.fsdecode(entry.name)
        if entry.is_symlink():
            reason = "symbolic link"
        elif entry.is_dir(follow_symlinks=False):
            if name not in _NOT_SEARCHED:
                return "folder"
            reason = "folder of the file system"
        elif not entry.is_file(follow_symlinks=False):
            reason = "no ordinary file"
        elif name.startswith(("._", TEMPORARY_PREFIX)) or name.lower() in _NEVER_IMAGES:
            self.files += 1
            reason = "DICOMDIR" if name.lower() == "dicomdir" else "no image"
        else:
            return "file"
        self.passed[reason] += 1
        return ""


_MARK_NAMES = frozenset(map(os.fsencode, _MARKS))


def _is_mark(entry: os.DirEntry[bytes]) -> bool:
    """Whether a file says that medseg wrote its folder; other programs write files of these names too."""
    try:
        if not entry.is_file(follow_symlinks=False):
            return False
        with open(entry.path, "rb") as stream:
            return _MARKS[os.fsdecode(entry.name)] in stream.read(_MOST_MARK_BYTES)
    except OSError:
        return False


def _identity(path: bytes | Path | None) -> tuple[int, int] | None:
    try:
        status = os.stat(path) if path is not None else None
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status is not None and stat.S_ISDIR(status.st_mode) else None
