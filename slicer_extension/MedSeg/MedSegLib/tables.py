"""Rows of a measurement: into a table node of the scene, and into the table of the panel."""

from __future__ import annotations

import slicer
import vtk
from slicer.i18n import tr as _

INTERVAL = "interval"  # both ends in one column

# What the panel shows of each kind of row; the table node has all columns
SHOWN = {
    "medseg.measure": ("label", "volume_ml", INTERVAL, "status", "mean"),
    "medseg.lesions": ("id", "volume_ml", INTERVAL, "longest_diameter_mm", "perpendicular_diameter_mm", "measurable", "status"),
    "medseg.change": ("lesion", "time_point", "base_volume_ml", "volume_ml", "percent_change", "beyond_measurement_error", "status"),
}
_MEASURED, _DOUBTFUL = "measured", "#b26a00"  # every other status stands out: that number is not the whole structure
_WIDEST, _HIGHEST = 105, 340  # pixels
_VTK_COLUMNS = {"number": vtk.vtkDoubleArray, "integer": vtk.vtkStringArray, "text": vtk.vtkStringArray, "yes/no": vtk.vtkStringArray}


def tableOf(document):
    """Return the rows of a measurement document; raises MedsegError where it is none."""
    from medseg.slicer_bridge.rows import table_of

    return table_of({**document, "schema": "medseg.measure/1"} if _kind(document) == "medseg.run" else document)


def shownColumns(document):
    """Return the names of the columns for the panel."""
    kind = _kind(document)
    return SHOWN.get("medseg.measure" if kind == "medseg.run" else kind, ())  # a pipeline's rows are those of measure


def _kind(document):
    return str(document.get("schema", "")).partition("/")[0]


def toNode(table, name, node=None, frame=None):
    """Write rows into a table node, a new one where none is given; a number that was not measured is NaN, its reason beside it.

    Column names are those of the CSV file, titles and units are the columns' properties.
    """
    if node is None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", slicer.mrmlScene.GenerateUniqueName(name))
    modified = node.StartModify()
    try:
        if frame in (None, 0):
            node.RemoveAllColumns()
        _write(table, node, frame)
        node.SetUseColumnTitleAsColumnHeader(True)
    finally:
        node.EndModify(modified)
    return node


def _write(table, node, frame):
    from medseg.slicer_bridge.rows import cell_text

    if frame not in (None, 0):
        _appended(table, node, frame)
        return
    if frame is not None:
        _addColumn(node, "frame", [str(frame)] * len(table), "text", _("Frame"), "")
    for place, column in enumerate(table.columns):
        cells = [row[place] for row in table.rows]
        if column.kind == "number":
            cells = [float("nan") if cell is None else float(cell) for cell in cells]
        else:
            cells = [cell_text(cell) for cell in cells]
        _addColumn(node, column.name, cells, column.kind, column.title, column.unit)


def _addColumn(node, name, cells, kind, title, unit):
    array = _VTK_COLUMNS[kind]()
    array.SetName(name)
    for cell in cells:
        array.InsertNextValue(cell)
    node.AddColumn(array)
    node.SetColumnTitle(name, title)
    if unit:
        node.SetColumnUnitLabel(name, unit)


def _appended(table, node, frame):
    """Add the rows of another frame below: a column it lacks stays empty."""
    from medseg.slicer_bridge.rows import cell_text

    places = {column.name: place for place, column in enumerate(table.columns)}
    inside = node.GetTable()
    for row in table.rows:
        index = node.AddEmptyRow()
        for n in range(inside.GetNumberOfColumns()):
            column = inside.GetColumn(n)
            name = column.GetName()
            cell = frame if name == "frame" else row[places[name]] if name in places else None
            if isinstance(column, vtk.vtkStringArray):
                column.SetValue(index, cell_text(cell))
            else:
                column.SetValue(index, float("nan") if cell is None else float(cell))
    inside.Modified()


def fill(widget, table, names):
    """Show some columns of rows in a QTableWidget; numbers stand right, a value that was not measured says why when pointed at."""
    import qt

    columns = {column.name: column for column in table.columns}
    cells = {name: table.values(name) for name in columns}
    shown = [
        name for n, name in enumerate(names) if n < 2 or name == INTERVAL or any(cell not in (None, "") for cell in cells.get(name, ()))
    ]
    widget.setRowCount(0)
    widget.setColumnCount(len(shown))
    widget.setHorizontalHeaderLabels([_heading(name, columns) for name in shown])
    widget.setRowCount(len(table))
    for r in range(len(table)):
        reason = cells["reason"][r] if "reason" in cells else None
        status = str(cells["status"][r] or "") if "status" in cells else ""
        for c, name in enumerate(shown):
            text, isNumber = _shown(name, r, columns, cells)
            item = qt.QTableWidgetItem(text)
            if isNumber:
                item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
            if name == "status" and status != _MEASURED:
                item.setForeground(qt.QBrush(qt.QColor(_DOUBTFUL)))
            item.setToolTip(str(reason or status))
            widget.setItem(r, c, item)
    widget.resizeColumnsToContents()
    for c in range(len(shown)):
        if shown[c] == "status":
            widget.setColumnWidth(c, min(widget.columnWidth(c), _WIDEST))  # its words wrap
    widget.resizeRowsToContents()
    widget.horizontalHeader().setStretchLastSection(True)
    rows = sum(widget.rowHeight(r) for r in range(len(table)))
    widget.setMinimumHeight(min(rows + 2 * widget.horizontalHeader().height + 4, _HIGHEST))  # a few rows need no scrolling


def _shown(name, row, columns, cells):
    """Return the text of a cell and whether it stands right."""
    from medseg.slicer_bridge.rows import shown_text

    if name == INTERVAL:
        low, high = cells["volume_low_ml"][row], cells["volume_high_ml"][row]
        return (f"{shown_text(low)} – {shown_text(high)}" if low is not None and high is not None else "–"), True
    cell, isNumber = cells[name][row], columns[name].kind in ("number", "integer")
    return (shown_text(cell) if cell is not None else "–" if isNumber else ""), isNumber


def _heading(name, columns):
    short = {INTERVAL: _("95 % interval"), "label": _("Segment"), "id": _("Lesion")}
    heading = short.get(name) or columns[name].heading
    return heading[:1].upper() + heading[1:]
