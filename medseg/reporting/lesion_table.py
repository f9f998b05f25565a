"""The lesions of a scan as CSV (RFC 4180) and as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medseg.core.measurement import Status
from medseg.measurement.lesions import Lesion, LesionTable
from medseg.reporting.tabular import csv_of, new_table
from medseg.reporting.wording import format_volume, interval_of, value_of

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_ENDS = ("longest_diameter", "perpendicular_diameter", "diameter_3d")
_FIXED = (
    "id",
    "number",
    "segment",
    "segment_number",
    "status",
    "volume_ml",
    "volume_low_ml",
    "volume_high_ml",
    "longest_diameter_mm",
    "longest_diameter_least_mm",
    "longest_diameter_mesh_mm",
    "perpendicular_diameter_mm",
    "perpendicular_diameter_mesh_mm",
    "who_product_mm2",
    "diameter_3d_mm",
    "diameter_3d_least_mm",
    "diameter_3d_mesh_mm",
    "measurable",
    "measurable_reason",
    "is_lymph_node",
    "organ",
    "organ_relation",
    "organ_share",
    "organ_contact_share",
    "organ_distance_mm",
    "organ_reason",
    "slice_index",
    "slice_axis",
    "slice_plane",
    "sop_instance_uid",
    "sop_instance_uid_reason",
)
_LAST = ("voxel_count", "centroid_r_mm", "centroid_a_mm", "centroid_s_mm", "touches_border", "reason")
_NOT_SCALAR = ("volume_interval_ml", "volume_sd_ml", "visible_ml", "centroid_ras_mm", "bounding_box_ijk")
_RELATIONS = {"inside": "in", "partly_inside": "partly in", "surrounded": "within", "touching": "at", "near": "near"}


def lesions_csv(table: LesionTable) -> str:
    """Return one row a lesion as CSV with CRLF line ends; numbers are written so that they read back equal.

    Columns: those of the JSON rows, with the volume's 95 % interval as volume_low_ml and volume_high_ml, the ends of each
    diameter as `<diameter>_end1_r_mm` ... `_end2_s_mm` (RAS+), sides of the border joined by ";". Undefined is an empty cell.

    >>> from medseg.measurement.diameters import Slices
    >>> lesions_csv(LesionTable((), (), Slices(2, "axial", 1.0))).split(",")[:5]
    ['id', 'number', 'segment', 'segment_number', 'status']
    """
    rows = [_flat(lesion) for lesion in table]
    further = dict.fromkeys(key for row in rows for key in row)
    columns = [*_FIXED, *_end_columns(), *_LAST]
    columns += [key for key in further if key not in columns]
    return csv_of([columns, *([_cell(row.get(column)) for column in columns] for row in rows)])


def _end_columns() -> list[str]:
    return [f"{name}_end{end}_{axis}_mm" for name in _ENDS for end in (1, 2) for axis in "ras"]


def _flat(lesion: Lesion) -> dict[str, Any]:
    entry = lesion.to_dict()
    low, high = entry["volume_interval_ml"] or (None, None)
    row: dict[str, Any] = {"volume_low_ml": low, "volume_high_ml": high}
    for name in _ENDS:
        ends = entry.pop(f"{name}_ends_ras_mm")
        row |= {f"{name}_end{n}_{axis}_mm": value for n, end in enumerate(ends, start=1) for axis, value in zip("ras", end, strict=True)}
    centroid = entry["centroid_ras_mm"] or (None, None, None)
    row |= {f"centroid_{axis}_mm": value for axis, value in zip("ras", centroid, strict=True)}
    row["touches_border"] = ";".join(entry.pop("touches_border"))
    return row | {key: value for key, value in entry.items() if key not in _NOT_SCALAR}


def _cell(value: Any) -> Any:
    return ("yes" if value else "no") if isinstance(value, bool) else value


def rich_lesions(table: LesionTable, limit: int = 100) -> Table:
    """Return the lesions for the terminal: volume with interval, both diameters, organ, measurable or why not."""
    count = len(table)
    title = f"{count} lesions" if count != 1 else "1 lesion"
    measurable = sum(lesion.measurable for lesion in table)
    title += (
        f", {measurable} measurable by RECIST 1.1 ({table.slices.plane} slices {table.slices.distance_mm:.2f} mm apart)" if count else ""
    )
    shown = new_table(title)
    shown.add_column("lesion", overflow="fold")
    for name in ("volume (ml)", "95 % interval", "longest × perpendicular (mm)", "3D (mm)", f"slice ({'ijk'[table.slices.axis]})"):
        shown.add_column(name, justify="right", no_wrap=True)
    has_organ = any(lesion.place is not None for lesion in table)
    if has_organ:
        shown.add_column("organ", overflow="fold")
    shown.add_column("measurable", overflow="fold")
    for lesion in table.lesions[:limit]:
        organ = [organ_words(lesion)] if has_organ else []
        shown.add_row(*_cells(lesion), *organ, _answer(lesion))
    if count > limit:
        shown.caption = f"and {count - limit} more, in the table that -o writes"
    return shown


def _answer(lesion: Lesion) -> Text:
    from rich.text import Text

    if lesion.measurable:
        return Text("yes", "green")
    return Text.assemble(("no", "yellow"), (f": {lesion.measurable_reason}", "dim"))


def _cells(lesion: Lesion) -> Sequence[Text]:
    from rich.text import Text

    volume, interval = value_of(lesion.row, "volume"), interval_of(lesion.row)
    is_cut = lesion.row.status is Status.CUT_BY_FIELD_OF_VIEW
    size = f"{lesion.longest.length_mm:.1f} × {lesion.perpendicular.length_mm:.1f}"
    return (
        Text(lesion.id, "bold"),
        Text("–" if volume is None else format_volume(volume)),
        Text("–".join(format_volume(value) for value in interval) if interval else "", "dim"),
        Text.assemble(("visible ", "yellow"), size) if is_cut else Text(size),
        Text(f"{lesion.diameter_3d.length_mm:.1f}"),
        Text(str(lesion.longest.slice_index)),
    )


def organ_words(lesion: Lesion) -> str:
    """Return the organ in words, such as "in liver" or "near spleen (12.0 mm)"; "" where none is known."""
    place = lesion.place
    if place is None:
        return ""
    words = f"{_RELATIONS[place.relation]} {place.label}"
    if place.relation == "partly_inside":
        return f"{words} ({100 * place.share:.0f} %)"
    return f"{words} ({place.distance_mm:.1f} mm)" if place.relation == "near" and place.distance_mm is not None else words
