"""Names, colours and codes of labels beside an image that cannot hold them: 3D Slicer's colour table as CSV.

3D Slicer writes `x.labels.csv` when it exports a segmentation to NIfTI, and loads such a file as a colour table.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medseg.core.codes import Code
from medseg.core.errors import OutputError, OutputVerificationError, SegmentError, UnreadableFileError
from medseg.core.segment import Colour, Segment
from medseg.io.atomic import write_verified
from medseg.io.stream import open_file

_CODES = {
    "category": "Category",
    "type": "Type",
    "modifier": "TypeModifier",
    "region": "Region",
    "region_modifier": "RegionModifier",
}
_PARTS = ("CodingScheme", "CodeValue", "CodeMeaning")
COLUMNS = (
    "LabelValue",
    "Name",
    "Color_R",
    "Color_G",
    "Color_B",
    "Color_A",
    *(f"{prefix}_{part}" for prefix in _CODES.values() for part in _PARTS),
)
_MOST_BYTES = 1 << 24
_ENDINGS = (".seg.nrrd", ".nii.gz", ".hdr.gz", ".img.gz", ".nii", ".nrrd", ".nhdr", ".hdr", ".img", ".mha", ".mhd")


def label_table_path(path: str | Path) -> Path:
    """Return where the label table of an image lies.

    >>> label_table_path("out/organs.nii.gz").name
    'organs.labels.csv'
    """
    path = Path(path)
    ending = next((ending for ending in _ENDINGS if path.name.lower().endswith(ending)), "")
    return path.with_name(path.name[: len(path.name) - len(ending)] + ".labels.csv")


def label_table(segments: Iterable[Segment]) -> str:
    """Return segments as CSV text, one row a segment, colours from 0 to 255."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for segment in segments:
        codes = [getattr(segment, name) for name in _CODES]
        parts = [part for code in codes for part in ((code.scheme, code.value, code.meaning) if code else ("", "", ""))]
        writer.writerow((segment.number, segment.label, *segment.rgb, 255, *parts))
    return text.getvalue()


def segments_from_table(text: str, name: str = "label table") -> tuple[Segment, ...]:
    """Return the segments of a label table; rows of background or without a name are passed over.

    Raises SegmentError where the table has no LabelValue and Name, or a row makes no sense.

    >>> segments_from_table("LabelValue,Name\\n0,background\\n5,liver\\n")[0].label
    'liver'
    """
    try:
        rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
    except csv.Error as err:
        raise SegmentError(f"{name} is not a CSV table ({err}); correct or remove it") from err
    if rows and not {"LabelValue", "Name"} <= set(rows[0]):
        raise SegmentError(f"{name} has no columns LabelValue and Name; correct or remove it")
    return tuple(segment for number, row in enumerate(rows, start=2) if (segment := _segment(row, f"{name}, line {number}")))


def _segment(row: Mapping[str, str | None], where: str) -> Segment | None:
    label = (row["Name"] or "").strip()
    try:
        number = int(float(row["LabelValue"] or ""))
        if number == 0 or not label or label == "(none)":
            return None
        colour = _colour([row.get(f"Color_{channel}") or "" for channel in "RGB"])
    except (ValueError, OverflowError) as err:
        raise SegmentError(f"{where}: LabelValue and colours must be whole numbers; correct the table") from err
    codes: dict[str, Any] = {name: _code([row.get(f"{prefix}_{part}") or "" for part in _PARTS]) for name, prefix in _CODES.items()}
    return Segment(number, label, colour=colour, **codes)


def _colour(parts: list[str]) -> Colour | None:
    if not all(parts):
        return None
    red, green, blue = (round(float(part)) for part in parts)
    return red, green, blue


def _code(parts: list[str]) -> Code | None:
    scheme, value, meaning = (part.strip() for part in parts)
    return Code(scheme, value, meaning) if scheme and value else None


def read_label_table(path: str | Path) -> tuple[Segment, ...]:
    """Read a label table; nothing where there is none."""
    path = Path(path)
    if not path.is_file():
        return ()
    with open_file(path) as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise UnreadableFileError(f"{path} is too large for a label table; correct or remove it")
    try:
        return segments_from_table(data.decode("utf-8"), path.name)
    except UnicodeDecodeError as err:
        raise UnreadableFileError(f"{path} is not UTF-8 text; correct or remove it") from err


def holds_label_table(segments: Iterable[Segment], path: str | Path) -> bool:
    """Whether the file is exactly the label table of these segments."""
    try:
        return Path(path).read_bytes() == label_table(segments).encode("utf-8", "replace")
    except OSError:
        return False


def check_label_table(segments: Iterable[Segment], path: str | Path) -> bytes:
    """Return the label table as it is written; raises OutputError where it would be too large to be read again."""
    segments = tuple(segments)
    data = label_table(segments).encode("utf-8", "replace")
    if len(data) > _MOST_BYTES:
        raise OutputError(
            f"{path}: the names of {len(segments):,} segments take {len(data) / 1e6:.3g} MB, more than the {_MOST_BYTES / 1e6:.3g} MB "
            "of a label table that is read again, so nothing was written; make fewer and larger segments"
        )
    return data


def write_label_table(segments: Iterable[Segment], path: str | Path, overwrite: bool = False) -> Path:
    """Write a label table, read it back and compare the segments; raises OutputError where it would be too large."""
    path = Path(path)
    segments = tuple(segments)
    data = check_label_table(segments, path)

    def write(temporary: Path) -> None:
        temporary.write_bytes(data)

    def verify(temporary: Path) -> None:
        got = [(segment.number, segment.label.strip(), segment.rgb, segment.type) for segment in read_label_table(temporary)]
        if got != [(segment.number, segment.label.strip(), segment.rgb, segment.type) for segment in segments]:
            raise OutputVerificationError(f"{path}: the names read back are not those written; check the disk and try again")

    return write_verified(path, write, verify, overwrite)
