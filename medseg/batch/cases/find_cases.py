"""The cases of a folder as it comes from an archive, found by what the files say and never by how they are called."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from medseg.batch.cases.case_files import save_cases
from medseg.batch.cases.case_list import scan_listed
from medseg.batch.cases.scan import Scan
from medseg.batch.cases.scan_store import ScanStore, Unit, full_disk_told
from medseg.batch.cases.series_choice import decide
from medseg.batch.cases.series_rules import parse_selection
from medseg.batch.records.case import Case, LeftOut, pseudonym
from medseg.batch.records.layout import Layout
from medseg.core.errors import UnreadableFileError

LEAST_SLICES = 4


def find_cases(
    folder: str | Path,
    *,
    output: Path | None = None,
    modality: str = "",
    select: Sequence[str] = (),
    listed: Path | None = None,
    salt: bytes | None = None,
    progress: Callable[[int], None] | None = None,
) -> FoundCases:
    """Find the scans below a folder by reading headers; use the result in `with`, it holds a temporary database.

    DICOM images belong together by their SeriesInstanceUID, wherever they lie; of each study one series is a case (`select`:
    all, best, first, last, thinnest, largest, and rules such as "SliceThickness<=3"). A NIfTI, NRRD or MetaImage file and an
    archive are a case each, also where they are broken: such a case fails with its reason. Not searched: `output`, folders that
    medseg wrote, links. `modality` is that of the pipeline ("": any). `listed` is a table of cases (`medseg.batch.cases.case_list`)
    that says which files are looked at. `salt` makes the pseudonyms; without
    one it is made of what was found. `progress` is told the number of files now and then.

    A case id is made of the SOP instance UIDs, which stay when a study is moved or renamed; other formats have none, and their
    content is not read here, so that theirs is made of the path below `folder`.

    Raises UnreadableFileError where the folder cannot be read, ParameterError for a rule that cannot be meant, InputError for a
    table that cannot be, OutputError where the disk for temporary files is full.
    """
    folder = Path(folder)
    selection = parse_selection(select)
    if not folder.is_dir():
        raise UnreadableFileError(f"{folder} is no folder that can be opened; give the folder of the studies")
    store = ScanStore()
    try:
        scan = Scan(folder, store, output, modality, selection, LEAST_SLICES, progress or (lambda count: None))
        with full_disk_told():
            check = None
            if listed is None:
                scan.search(scan.base)
            else:
                check = scan_listed(scan, listed)
            scan.finish()
            met = decide(store, selection, modality, LEAST_SLICES, scan.wanted)
            if check is not None:
                check(met)
    except BaseException:
        store.close()
        raise
    return FoundCases(store, scan.files, _salt_of(store) if salt is None else salt)


class FoundCases:
    """The cases that a scan found and what it left out; lies on disk, so that a million files take no more memory than one."""

    def __init__(self, store: ScanStore, files: int, salt: bytes) -> None:
        self._store = store
        self._files = files
        self.salt = salt

    def __enter__(self) -> FoundCases:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary database."""
        self._store.close()

    def cases(self) -> Iterator[Case]:
        """Yield the cases in the order of their ids."""
        for unit, files in self._store.units(are_cases=True):
            yield self._case(unit, files)

    def left_out(self) -> Iterator[LeftOut]:
        """Yield what is not run, in the order of reason and path."""
        for unit, files in self._store.units(are_cases=False):
            study, patient = self._pseudonyms(unit)
            yield LeftOut(unit.reason, unit.kind, files, unit.modality, unit.series_uid, study, patient, unit.slices)

    @property
    def counts(self) -> dict[str, Any]:
        """How much was found: `files`, `passed_over` by reason, `found` (cases and what was left out), `cases`, `left_out` by reason."""
        database = self._store.database
        (cases,) = database.execute("SELECT COUNT(*) FROM units WHERE case_id <> ''").fetchone()
        left_out = dict(database.execute("SELECT reason, COUNT(*) FROM units WHERE case_id = '' GROUP BY reason ORDER BY reason"))
        passed = dict(database.execute("SELECT reason, count FROM passed ORDER BY reason"))
        found = cases + sum(left_out.values())
        return {"files": self._files, "passed_over": passed, "found": found, "cases": cases, "left_out": left_out}

    def save(self, layout: Layout) -> None:
        """Write private/cases.jsonl, private/cases.csv (the linkage table) and found.csv; raises OutputError."""
        save_cases(layout, self)

    def linked(self) -> Iterator[tuple[Unit, Case | LeftOut]]:
        """Yield cases, then what was left out, each beside the identifiers that only the linkage table may hold."""
        for are_cases in (True, False):
            for unit, files in self._store.units(are_cases):
                study, patient = self._pseudonyms(unit)
                if are_cases:
                    yield unit, self._case(unit, files)
                else:
                    yield unit, LeftOut(unit.reason, unit.kind, files, unit.modality, unit.series_uid, study, patient, unit.slices)

    def _case(self, unit: Unit, files: tuple[str, ...]) -> Case:
        study, patient = self._pseudonyms(unit)
        return Case(unit.case_id, unit.kind, files, unit.modality, unit.series_uid, study, patient, unit.slices)  # type: ignore[arg-type]

    def _pseudonyms(self, unit: Unit) -> tuple[str, str]:
        return pseudonym(self.salt, unit.study_uid), pseudonym(self.salt, unit.patient_id)


def _salt_of(store: ScanStore) -> bytes:
    """Return a salt made of the identifiers of everything that was found.

    Two runs over the same scans give the same pseudonyms, so that their tables can be compared, and who does not have the scans
    cannot try identifiers out.
    """
    digest = hashlib.sha256()
    query = "SELECT DISTINCT study_uid, patient_id, series_uid FROM units ORDER BY study_uid, patient_id, series_uid"
    for row in store.database.execute(query):
        digest.update(repr(row).encode("utf-8", "surrogateescape"))
    return digest.digest()
