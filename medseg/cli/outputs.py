"""Tables of commands as files: CSV, JSON or Parquet by suffix, written atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medseg.core.errors import UnsupportedFormatError
from medseg.core.measurement import MeasurementTable


def write_table(document: dict[str, Any], table: MeasurementTable, path: str, *, overwrite: bool) -> None:
    """Write measurements as .csv, .json or .parquet."""
    from medseg.reporting.table import measurements_csv

    if Path(path).suffix.lower() == ".parquet":
        from medseg.io.atomic import write_bytes
        from medseg.reporting.columns import MEASURE
        from medseg.reporting.parquet import parquet_of

        write_bytes(Path(path), parquet_of(measurements_csv(table), MEASURE), overwrite=overwrite)
        return
    _write(path, measurements_csv(table), document, overwrite)


def _write(path: str, csv: str, document: dict[str, Any], overwrite: bool) -> None:
    from medseg.io.atomic import write_text

    suffix = Path(path).suffix.lower()
    if suffix not in (".csv", ".json"):
        raise UnsupportedFormatError(
            f"a table is written as .csv or .json (measurements also as .parquet), not {suffix or 'without suffix'}: {Path(path).name}"
        )
    text = csv if suffix == ".csv" else json.dumps(document, indent=2, allow_nan=False) + "\n"
    write_text(Path(path), text, overwrite=overwrite)
