"""Every column of the tables of a cohort: the long one, a row a case and segment, and the wide one, a row a case."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from medseg.reporting.columns import MEASURE, Column, TableSchema

LONG_SCHEMA = "medseg.cohort/1"
WIDE_SCHEMA = "medseg.cohort_wide/1"


def _columns(text: str) -> tuple[Column, ...]:
    rows = [[part.strip() for part in line.split("|")] for line in text.strip().splitlines()]
    return tuple(Column(name, kind, unit, meaning) for name, kind, unit, meaning in rows)  # type: ignore[arg-type]


CASE_COLUMNS = _columns(
    """
case_id | text |  | names the case everywhere; private/cases.csv says which files it is
case_status | text |  | done, failed or not_run
case_code | text |  | why it failed, as a stable word such as TIMEOUT
case_message | text |  | the same in a sentence; for a finished case, what became of its correction
review | text |  | unreviewed, accepted, rejected, to_fix, corrected, or void (the decision was made on another result)
analysed | yes/no |  | whether the case counts: done, not rejected, and not waiting for a correction
suspicion | integer |  | 0 to 100: how much speaks for looking at it; empty where there is no result
suspicion_reasons | text |  | the same in sentences, joined by "; "
modality | text |  | modality of the scan, empty where the file does not say
kind | text |  | kind of file
slices | integer |  | number of slices or files of the scan as it was found
study | text |  | pseudonym of the study, made for this folder; empty where the files name none
patient | text |  | pseudonym of the patient, made for this folder; empty where the files name none
findings | text |  | codes of the warnings and errors of the run, joined by ";"
"""
)
IDENTIFYING_COLUMNS = _columns(
    """
patient_id | text |  | PatientID of the scan; only with --identify
path | text |  | folder or file of the scan below the folder that was searched; only with --identify
"""
)
SEGMENT_COLUMNS = _columns(
    """
volume_z | number |  | modified z-score of ln(volume) in this cohort; empty for fewer than 8 cases or where the segment is not whole
components | integer |  | connected pieces of the segment
"""
)
WIDE_CASE_COLUMNS = _columns(
    """
inputs_sha256 | text |  | SHA-256 of the scan, as medseg.lock names it
result_key | text |  | hash of plan and scan: the same key, the same result
"""
)
# What the wide table holds of a segment; the long one has everything
WIDE_SEGMENT_COLUMNS = ("volume_ml", "volume_low_ml", "volume_high_ml", "status", "reason", "mean{unit}")

COHORT = TableSchema(
    LONG_SCHEMA,
    "Cohort",
    "cohort.csv and cohort.parquet of `medseg batch` and `medseg report`",
    "a case and segment; a case without a result has one row",
    (*CASE_COLUMNS, *IDENTIFYING_COLUMNS, *MEASURE.columns[:6], SEGMENT_COLUMNS[0], *MEASURE.columns[6:], SEGMENT_COLUMNS[1]),
)


@dataclass(frozen=True)
class WideColumn:
    """A column of the wide table that belongs to a segment: its name, the segment, and the column of the long table it holds."""

    name: str
    label: str
    source: str


def wide_columns(labels: Iterable[str], sources: Iterable[str]) -> tuple[WideColumn, ...]:
    """Return the columns of the wide table for these segments; names are made of letters, digits and "_", and are unique.

    >>> [column.name for column in wide_columns(["liver", "left lung", "left-lung"], ["volume_ml"])]
    ['liver_volume_ml', 'left_lung_volume_ml', 'left_lung_2_volume_ml']
    """
    taken = {"case"}  # case_status is that of the case
    found = []
    sources = tuple(sources)
    for label in labels:
        stem = name = re.sub(r"\W+", "_", label).strip("_") or "segment"
        number = 1
        while name.lower() in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name.lower())
        found += [WideColumn(f"{name}_{source}", label, source) for source in sources]
    return tuple(found)


def wide_schema(columns: Iterable[WideColumn]) -> TableSchema:
    """Return the description of a wide table: that of each case, and of each segment in terms of the long table."""
    described = []
    for column in columns:
        of_long = COHORT.column(column.source)
        if of_long is not None:
            described.append(replace(of_long, name=column.name, meaning=f"{column.label}: {of_long.meaning}"))
    head = (*CASE_COLUMNS, *WIDE_CASE_COLUMNS, *IDENTIFYING_COLUMNS)
    source = "cohort_wide.csv and cohort_wide.parquet of `medseg batch` and `medseg report`"
    return TableSchema(WIDE_SCHEMA, "Cohort, wide", source, "a case", (*head, *described))


def cohort_page() -> str:
    """Return the tables of columns as docs/cohort.md shows them."""
    lines = [f"`cohort.csv` (`{LONG_SCHEMA}`). One row is {COHORT.row}.", "", "| column | type | unit | meaning |", "|---|---|---|---|"]
    lines += [_line(column) for column in COHORT.columns]
    lines += ["", f"`cohort_wide.csv` (`{WIDE_SCHEMA}`). One row is a case. The columns of the case are the same, then", ""]
    lines += ["| column | type | unit | meaning |", "|---|---|---|---|", *(_line(column) for column in WIDE_CASE_COLUMNS)]
    for source in WIDE_SEGMENT_COLUMNS:
        column = next(column for column in COHORT.columns if column.name == source)
        lines.append(_line(replace(column, name=f"{{label}}_{source}")))
    return "\n".join(lines) + "\n"


def _line(column: Column) -> str:
    return f"| `{column.name}` | {column.kind} | {column.unit} | {column.meaning} |"


def kinds_of(schema: TableSchema, names: Iterable[str]) -> Mapping[str, Column | None]:
    """Return the description of every column by name; None for one that is not listed."""
    exact = {column.name: column for column in schema.columns}
    return {name: exact.get(name) or schema.column(name) for name in names}
