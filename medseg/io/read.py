"""One way in: whatever lies at a path becomes a Volume or a LabelMap.

Files are recognised by their first bytes, in the order of `READERS`; the suffix of a name decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from medseg.core.errors import UnreadableFileError, UnsupportedFormatError
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.io.labels import label_table_path, read_label_table
from medseg.io.stored import StoredImage
from medseg.io.stream import GZIP_MAGIC, open_file, open_stream

_START_BYTES = 1024


@dataclass(frozen=True)
class Reader:
    """A format: how its files begin, and the module of `medseg.io` whose `read_stored` reads them (imported when needed)."""

    name: str
    recognises: Callable[[bytes], bool]
    module: str

    def read_stored(self, path: Path, volume_index: int | None = None) -> StoredImage:
        """Read voxels and grid; of a file with several volumes, the chosen one."""
        chosen = {} if volume_index is None else {"volume_index": volume_index}
        if chosen and self.name != "NIfTI":
            raise UnsupportedFormatError(f"{path.name}: one of several volumes can be chosen from NIfTI files only, this is {self.name}")
        stored: StoredImage = import_module(self.module).read_stored(path, **chosen)
        return stored


def _is_nrrd(start: bytes) -> bool:
    return start.startswith(b"NRRD000")


def _is_dicom(start: bytes) -> bool:
    return start[128:132] == b"DICM"


def _is_metaimage(start: bytes) -> bool:
    return start.lstrip().startswith((b"ObjectType", b"NDims")) and b"=" in start


def _is_nifti(start: bytes) -> bool:
    from medseg.io.nifti_header import looks_like_nifti

    return looks_like_nifti(start)


READERS = (
    Reader("NRRD", _is_nrrd, "medseg.io.nrrd"),
    Reader("MetaImage", _is_metaimage, "medseg.io.metaimage"),
    Reader("NIfTI", _is_nifti, "medseg.io.nifti"),
)


def read(path: str | Path, *, series: str | None = None, volume_index: int | None = None) -> Volume:
    """Read a scan: a NIfTI, NRRD, MetaImage or DICOM file, or a folder of DICOM files.

    `series` chooses a DICOM series (its SeriesInstanceUID, the beginning of it, or UID#n for its n-th stack),
    `volume_index` one volume of a 4D NIfTI file (from 0).

    Its `findings` say what the checks noticed. Raises UnreadableFileError (missing, cut short, corrupted),
    UnsupportedFormatError (4D, colours, not an image), InconsistentSeriesError or GeometryError.
    """
    path = Path(path)
    reader = find_reader(path)
    if reader is None:
        from medseg.io.dicom.volume import read_series

        return read_series(path, series)
    return reader.read_stored(path, volume_index).to_volume()


def read_label_map(path: str | Path, *, series: str | None = None) -> LabelMap:
    """Read segments: a NIfTI, NRRD or MetaImage file of whole numbers, a .seg.nrrd of 3D Slicer, or a DICOM SEG.

    Names come from the file, or from the label table `x.labels.csv` beside it; a number without a name becomes
    "segment_<n>". Raises what `read` raises, SegmentError for intensities, OverlappingSegmentsError.
    """
    path = Path(path)
    reader = find_reader(path)
    if reader is None:
        from medseg.io.dicom.seg_read import read_seg

        return read_seg(path)
    if reader.name == "NRRD":
        from medseg.io.seg_nrrd import is_segmentation, read_segmentation

        if is_segmentation(path):
            return read_segmentation(path)
    stored = reader.read_stored(path)
    named = read_label_table(label_table_path(path))
    return (replace(stored, segments=named) if named else stored).to_label_map()


def holds_label_map(path: str | Path) -> bool:
    """Whether a file says of itself that it holds segments: .seg.nrrd, DICOM SEG, or an image with names of labels.

    An image of whole numbers without names may be either; False then, and for what cannot be read.
    """
    path = Path(path)
    try:
        reader = find_reader(path)
        if reader is None:
            from medseg.io.dicom.seg_read import is_seg

            return is_seg(path)
        if label_table_path(path).is_file():
            return True
        if reader.name == "NRRD":
            from medseg.io.seg_nrrd import is_segmentation

            return is_segmentation(path)
        return reader.name == "NIfTI" and bool(reader.read_stored(path).segments)
    except (UnreadableFileError, UnsupportedFormatError, ValueError):
        return False


def find_reader(path: Path) -> Reader | None:
    """Return the reader of a file, or None for DICOM (a file or a folder).

    Raises UnreadableFileError where nothing is there or the file is empty, UnsupportedFormatError where it is unknown.
    """
    if path.is_dir():
        return None
    start = first_bytes(path)
    if _is_dicom(start):
        return None
    for reader in READERS:
        if reader.recognises(start):
            return reader
    from medseg.io.dicom.find import is_dicom

    if is_dicom(path):  # files without preamble
        return None
    known = ", ".join(reader.name for reader in READERS)
    raise UnsupportedFormatError(f"{path} is no image medseg can read; it reads {known} and DICOM (a file or the folder of a series)")


def first_bytes(path: Path) -> bytes:
    """Return how a file begins, decompressed where it is gzip."""
    with open_file(path) as file:
        start = file.read(_START_BYTES)
    if not start:
        raise UnreadableFileError(f"{path} is empty; copy or download the file again")
    if start.startswith(GZIP_MAGIC):
        with open_stream(path, "gzip") as stream:
            return stream.read_up_to(_START_BYTES)
    return start
