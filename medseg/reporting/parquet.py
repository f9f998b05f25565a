"""Tables as Parquet: typed columns with unit and meaning, and the schema's version in the file."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from medseg.core.errors import ParameterError
from medseg.reporting.columns import Kind, TableSchema
from medseg.reporting.dependencies import load

_YES_NO = {"yes": True, "no": False, "true": True, "false": False}


def parquet_of(text: str, schema: TableSchema) -> bytes:
    """Return a CSV table of medseg as Parquet (zstd): integers, doubles, texts and booleans, null for an empty cell.

    Columns that the schema lists get its type, unit and meaning; others are doubles where every cell is a number, else texts.
    Raises ParameterError where a cell does not fit its column, MissingDependencyError without pyarrow (extra `report`).
    """
    pyarrow = load("pyarrow")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    if not rows:
        raise ParameterError("an empty file is no table: a table has a header line")
    head, body = rows[0], rows[1:]
    fields, arrays = [], []
    for n, name in enumerate(head):
        cells = [row[n] if n < len(row) else "" for row in body]
        column = schema.column(name)
        kind: Kind = column.kind if column is not None else _kind_of(cells)
        types = {"integer": pyarrow.int64(), "number": pyarrow.float64(), "text": pyarrow.string(), "yes/no": pyarrow.bool_()}
        meta = {} if column is None else {"unit": column.unit, "meaning": column.meaning}
        fields.append(pyarrow.field(name, types[kind], metadata=meta))
        arrays.append(pyarrow.array([_value(cell, kind, name) for cell in cells], types[kind]))
    table = pyarrow.Table.from_arrays(arrays, schema=pyarrow.schema(fields, metadata={"medseg.schema": schema.schema}))
    out = io.BytesIO()
    load("pyarrow.parquet").write_table(table, out, compression="zstd")
    return out.getvalue()


def _kind_of(cells: Sequence[str]) -> Kind:
    try:
        for cell in cells:
            if cell:
                float(cell)
    except ValueError:
        return "text"
    return "number"


def _value(cell: str, kind: Kind, name: str) -> Any:
    if cell == "":
        return None
    try:
        if kind == "integer":
            return int(cell)
        if kind == "number":
            return float(cell)
        return _YES_NO[cell.lower()] if kind == "yes/no" else cell
    except (ValueError, KeyError) as err:
        raise ParameterError(f"column {name} holds {cell!r}, which is no {kind}: the table was changed; write it again") from err
