"""The cohort: tables, counts that add up, the flow diagram, the contact sheet and the lock, made from the results alone."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.batch.cohort.cohort_rows import CaseView, Sources, identities, read_found
from medseg.batch.cohort.cohort_tables import Columns, LongTable, WideTable, case_cells, segments_of
from medseg.batch.cohort.counts import Counts
from medseg.batch.cohort.suspicion import MOST_LABELS, CohortStatistics, Suspicion
from medseg.batch.cohort.table_files import Stage
from medseg.batch.records.layout import RESULT, Layout
from medseg.io.atomic import check_folder, write_text
from medseg.reporting.cohort_columns import COHORT, wide_schema
from medseg.reporting.flow import CountsError, flow_svg

if TYPE_CHECKING:
    from medseg.batch.cohort.qc import QcCase, QcVolume

SCHEMA = "medseg.summary/1"
_ATTEMPTS = 3  # while a run goes on, a case may end between the two times that the results are read


@dataclass(frozen=True)
class CohortSummary:
    """What became of a cohort: its counts, its segments, what a person should know, and the files by name."""

    counts: Mapping[str, Any]
    segments: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: summary.json, but for the places of files."""
        return {"schema": SCHEMA, "counts": dict(self.counts), "segments": list(self.segments), "notes": list(self.notes)}


def write_cohort(layout: Layout, *, identify: bool = False, title: str = "", plan_key: str = "") -> CohortSummary:
    """Write everything that is made from the results of a batch, and return what it says.

    cohort.csv (a row a case and segment), cohort_wide.csv (a row a case), both as .parquet where pyarrow is installed;
    summary.json, flow.svg, qc.html, medseg.lock. Decisions of review.json and corrections are applied. The same results give the
    same bytes, whatever the order or number of attempts. Results are read twice, one case at a time: memory grows by some 100 bytes
    a case and segment. `identify` adds patient IDs and paths; `plan_key` is that of the run whose cohort it is to be, if any. Raises
    UnreadableFileError where the folder is not that of a batch, CountsError where the counts do not add up or another run has given
    the folder another plan, OutputError.
    """
    check_folder(layout.folder)
    for attempt in range(_ATTEMPTS):
        sources = Sources.of(layout)
        if plan_key not in ("", sources.plan_key):
            raise CountsError("another run has given this folder another plan meanwhile: run `medseg batch` again, by one plan")
        survey = Survey.of(sources)
        with Stage(layout.folder, is_private=identify) as stage:
            if _write_tables(layout, survey, stage, identify):
                tables = stage.publish()
                break
        if attempt == _ATTEMPTS - 1:
            raise CountsError("cases are being finished while they are counted: run `medseg report` when the run has ended")
    summary = CohortSummary(survey.counts.to_dict(), survey.segments(), tuple(survey.notes()))
    flow = flow_svg(survey.counts.steps(summary.segments), title)
    document = json.dumps(summary.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    files = {path.name: path for path in tables}
    files[layout.summary.name] = write_text(layout.summary, document, overwrite=True)
    files[layout.flow.name] = write_text(layout.flow, flow, overwrite=True)
    files |= _write_others(layout, survey, title)
    return CohortSummary(summary.counts, summary.segments, summary.notes, files)


class Survey:
    """What must be known of the whole cohort before the first row can be written."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self.counts = Counts()
        self.columns = Columns()
        self.statistics = CohortStatistics()
        self.is_sorted = read_found(sources.layout, self.counts)
        self.seen = hashlib.sha256()
        self._of_segment: dict[str, Counter[str]] = defaultdict(Counter)
        self._volumes: dict[str, array[float]] = {}
        self._said: Counter[str] = Counter()

    @classmethod
    def of(cls, sources: Sources) -> Survey:
        """Read every case once; raises CountsError where the counts do not add up."""
        survey = cls(sources)
        for view in sources.views(survey.is_sorted):
            survey.add(view)
        survey.counts.check()
        return survey

    def add(self, view: CaseView) -> None:
        """Count one case."""
        self.seen.update(view.seen)
        counts, listed = self.counts, view.listed
        if view.status == "failed":
            counts.failed[view.code] += 1
        elif view.status == "not_run":
            counts.not_run += 1
            self._said["stale"] += view.is_stale
        else:
            counts.done += 1
            counts.standing[view.standing] += 1
            counts.people.add("done", listed.patient, listed.study)
            self.columns.add(view)
            self.statistics.add(view.segments, view.checks, view.findings)
        self._said["void"] += view.standing == "void"
        self._said["unusable"] += view.is_unusable
        self._said["unasked"] += view.standing in ("accepted", "unreviewed") and view.case_id in self.sources.corrections
        if view.is_analysed:
            counts.analysed += 1
            counts.people.add("analysed", listed.patient, listed.study)
            self._count_segments(view)

    def _count_segments(self, view: CaseView) -> None:
        for row in view.segments:
            label, status = str(row["label"]), str(row["status"])
            if label not in self._of_segment and len(self._of_segment) >= MOST_LABELS:
                continue
            self._of_segment[label][status] += 1
            if status == "measured" and row["volume_ml"] is not None:
                self._volumes.setdefault(label, array("d")).append(row["volume_ml"])

    def segments(self) -> tuple[dict[str, Any], ...]:
        """Return what the analysed cases have of each segment, in the order of the wide table."""
        labels = [label for label in self.columns.labels if label in self._of_segment]
        return tuple(segments_of(self._of_segment, self._volumes, labels))

    def suspicion(self, view: CaseView) -> Suspicion | None:
        """Return how suspicious a finished case is, None for another."""
        return self.statistics.suspicion(view.segments, view.checks, view.findings) if view.status == "done" else None

    def notes(self) -> Iterator[str]:
        """Yield what a person should know before using the tables."""
        said = self._said
        strange = sum(1 for case_id in self.sources.decisions if not (self.sources.layout.case(case_id) / RESULT).is_file())
        for count, text in (
            (said["stale"], "cases with a result of an earlier plan, run `medseg batch` again"),
            (self.counts.not_run - said["stale"], "cases that were not run yet"),
            (said["void"], "decisions made on a result that has changed since: they are void, look at these cases again"),
            (said["unusable"], "corrections that cannot be used, case_message in the table says why"),
            (said["unasked"], "corrections of cases that have no decision “fix”: they are not applied"),
            (strange, "decisions on cases that are not in this folder"),
            (self.columns.labels_left_out, "segments for which the wide table has no room, cohort.csv has them all"),
        ):
            if count > 0:
                yield f"{text}: {count:,}"


def _write_tables(layout: Layout, survey: Survey, stage: Stage, identify: bool) -> bool:
    """Read every case again and write its rows; False where a case has changed meanwhile."""
    known = identities(layout) if identify else {}
    long, wide = LongTable(survey.columns, identify), WideTable(survey.columns, identify)
    long_file = stage.table(layout.cohort, long.head, COHORT)
    wide_file = stage.table(layout.cohort_wide, wide.head, wide_schema(wide.columns))
    seen, analysed = hashlib.sha256(), 0
    for view in survey.sources.views(survey.is_sorted):
        seen.update(view.seen)
        case = case_cells(view, survey.suspicion(view), known.get(view.case_id, ("", "")) if identify else None)
        for row in long.rows(view, case, survey.statistics):
            long_file.add(row)
        wide_file.add(wide.row(view, case))
        analysed += view.is_analysed
    if seen.digest() != survey.seen.digest():
        return False
    if wide_file.row_count != survey.counts.cases or analysed != survey.counts.analysed:
        raise CountsError(
            f"the wide table would have {wide_file.row_count:,} cases, {analysed:,} of them analysed; counted were "
            f"{survey.counts.cases:,} and {survey.counts.analysed:,}: run `medseg report` again"
        )
    return True


def _write_others(layout: Layout, survey: Survey, title: str) -> dict[str, Path]:
    """Write the contact sheet and the lock."""
    from medseg.batch.cohort.lock_file import write_lock
    from medseg.batch.cohort.qc import write_qc

    sheet = write_qc(layout, _qc_cases(survey), title=title)
    return {layout.qc.name: sheet, layout.lock.name: write_lock(layout, is_sorted=survey.is_sorted)}


def _qc_cases(survey: Survey) -> Iterator[QcCase]:
    """Yield what the contact sheet shows of each case, in the order of the ids."""
    from medseg.batch.cohort.qc import QcCase

    for view in survey.sources.views(survey.is_sorted):
        suspicion = survey.suspicion(view)
        decision = view.decision
        yield QcCase(
            case_id=view.case_id,
            status=view.status,
            code=view.code,
            message=view.message,
            suspicion=suspicion.score if suspicion is not None else 0.0,
            reasons=suspicion.texts if suspicion is not None else (),
            thumbnail=_beside(survey.sources.layout, view, "thumbnail.png"),
            report=_beside(survey.sources.layout, view, "report.html"),
            volumes=tuple(_volume(row) for row in view.segments),
            modality=view.modality,
            standing=view.standing,
            decision=None if decision is None else decision.to_dict(),
            mark=view.mark,
        )


def _volume(row: Mapping[str, Any]) -> QcVolume:
    from medseg.batch.cohort.qc import QcVolume

    low, high = row.get("volume_interval_ml") or (None, None)
    return QcVolume(str(row["label"]), row["volume_ml"], low, high, str(row["status"]))


def _beside(layout: Layout, view: CaseView, name: str) -> str:
    """A file of a case as a path below the folder, "" where it has none."""
    if view.result is None or name not in view.result.outputs:
        return ""
    return (layout.case(view.case_id) / name).relative_to(layout.folder).as_posix()
