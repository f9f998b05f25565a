"""Where everything of a batch lies: what may be shared, what names folders and is private, and what only the runs use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medseg.io.atomic import TEMPORARY_PREFIX

RESULT = "result.json"


@dataclass(frozen=True)
class Layout:
    """The paths below the output folder of a batch.

    `private/` alone names folders and files of the input (its list of cases is the linkage table); everything else can be
    shared. A case lies in `cases/<first two digits>/<case id>/`: at most 256 folders, whatever the size of the cohort.
    """

    folder: Path

    @property
    def batch(self) -> Path:
        """What runs: pipeline, formats, ways of reading; its presence says that the folder is that of a batch."""
        return self.folder / "batch.json"

    @property
    def lock(self) -> Path:
        """Hashes of every input, model, parameter and library."""
        return self.folder / "medseg.lock"

    @property
    def cohort(self) -> Path:
        """The table: one row a case and segment."""
        return self.folder / "cohort.csv"

    @property
    def cohort_wide(self) -> Path:
        """The table with one row a case."""
        return self.folder / "cohort_wide.csv"

    @property
    def found(self) -> Path:
        """One row a series that was found, run or left out, without paths."""
        return self.folder / "found.csv"

    @property
    def summary(self) -> Path:
        """The counts of the last run."""
        return self.folder / "summary.json"

    @property
    def flow(self) -> Path:
        """The flow diagram."""
        return self.folder / "flow.svg"

    @property
    def qc(self) -> Path:
        """The contact sheet."""
        return self.folder / "qc.html"

    @property
    def review(self) -> Path:
        """The decisions of the reviewers."""
        return self.folder / "review.json"

    @property
    def corrections(self) -> Path:
        """The segmentations that reviewers corrected by hand, `<case id>.seg.nrrd` or `.nii.gz`."""
        return self.folder / "corrections"

    @property
    def events(self) -> Path:
        """The log of a run that has the folder for itself; one that shares it writes `events-<name>.jsonl`."""
        return self.folder / "events.jsonl"

    @property
    def cases(self) -> Path:
        """The folder of all case folders."""
        return self.folder / "cases"

    @property
    def private(self) -> Path:
        """What names folders and files of the input."""
        return self.folder / "private"

    @property
    def case_list(self) -> Path:
        """The cases with their files, a JSON line each."""
        return self.private / "cases.jsonl"

    @property
    def case_table(self) -> Path:
        """The linkage table: one row a series that was found, with its path."""
        return self.private / "cases.csv"

    @property
    def source(self) -> Path:
        """Where the scans lie: the folder that was searched."""
        return self.private / "folder.json"

    @property
    def salt(self) -> Path:
        """What makes the pseudonyms of this folder its own."""
        return self.private / "salt"

    @property
    def state(self) -> Path:
        """What only running processes use: index, lock, claims. Safe to delete while nothing runs."""
        return self.folder / "state"

    @property
    def claims(self) -> Path:
        """Claims of processes that share the folder."""
        return self.state / "claims"

    def case(self, case_id: str) -> Path:
        """The folder of a case."""
        return self.cases / case_id[:2] / case_id

    def result(self, case_id: str) -> Path:
        """The truth about a case."""
        return self.case(case_id) / RESULT

    def temporary(self, case_id: str, token: str) -> Path:
        """The folder in which a case is written before it gets its name; `token` is the writer's own."""
        return self.cases / case_id[:2] / f"{TEMPORARY_PREFIX}{case_id}-{token}"

    def results(self) -> Iterator[Path]:
        """Yield every result, in the order of the case ids."""
        for group in sorted(self.cases.glob("[0-9a-f][0-9a-f]")):
            for folder in sorted(group.iterdir()) if group.is_dir() else ():
                if not folder.name.startswith(TEMPORARY_PREFIX) and (folder / RESULT).is_file():
                    yield folder / RESULT
