"""Names, colours and codes of labels beside an image that cannot hold them: 3D Slicer's colour table as CSV.

3D Slicer writes `x.labels.csv` when it exports a segmentation to NIfTI, and loads such a file as a colour table.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from medseg.core.errors import OutputError, OutputVerificationError, UnreadableFileError
from medseg.core.label_table import label_table, segments_from_table
from medseg.core.segment import Segment
from medseg.io.atomic import write_verified
from medseg.io.stream import open_file

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
