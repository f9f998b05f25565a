"""Tables of commands as files: CSV or JSON by suffix, written atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.core.errors import UnsupportedFormatError
from medseg.core.measurement import MeasurementTable

if TYPE_CHECKING:
    from medseg.evaluation.overlap import Evaluation


def write_table(document: dict[str, Any], table: MeasurementTable, path: str, *, overwrite: bool) -> None:
    """Write measurements as .csv or .json."""
    from medseg.reporting.table import measurements_csv

    _write(path, measurements_csv(table), document, overwrite)


def write_scores(evaluation: Evaluation, path: str, *, overwrite: bool) -> None:
    """Write scores as .csv or .json."""
    from medseg.reporting.table import scores_csv

    _write(path, scores_csv(evaluation), evaluation.to_dict(), overwrite)


def _write(path: str, csv: str, document: dict[str, Any], overwrite: bool) -> None:
    from medseg.io.atomic import write_text

    suffix = Path(path).suffix.lower()
    if suffix not in (".csv", ".json"):
        raise UnsupportedFormatError(f"a table is written as .csv or .json, not {suffix or 'without suffix'}: {Path(path).name}")
    text = csv if suffix == ".csv" else json.dumps(document, indent=2, allow_nan=False) + "\n"
    write_text(Path(path), text, overwrite=overwrite)
