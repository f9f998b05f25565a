"""One way in: whatever lies at a path becomes a Volume or a LabelMap.

Files are recognised by their first bytes, in the order of `READERS`; the suffix of a name decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from medseg.core.errors import InputError, SeveralVolumesError, UnreadableFileError, UnsupportedFormatError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.io.archive import is_archive, unpacked
from medseg.io.labels import label_table_path, read_label_table
from medseg.io.options import ReadOptions
from medseg.io.stored import StoredImage
from medseg.io.stream import GZIP_MAGIC, open_file, open_stream

_START_BYTES = 1024


@dataclass(frozen=True)
class Reader:
    """A format: how its files begin, and the module of `medseg.io` whose `read_stored` reads them (imported when needed)."""

    name: str
    recognises: Callable[[bytes], bool]
    module: str

    def read_stored(self, path: Path, options: ReadOptions | None = None) -> StoredImage:
        """Read voxels and grid; of a file with several volumes, the chosen one."""
        options = options or ReadOptions()
        chosen: dict[str, Any] = {
            "volume_index": options.volume_index,
            "xform": options.nifti_xform,
            "spacing_mm": options.spacing_mm,
        }
        given = {name: value for name, value in chosen.items() if value is not None}
        stored: StoredImage = import_module(self.module).read_stored(path, **given)
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


def read(  # noqa: PLR0913 - one keyword for each explicit way on; ReadOptions says what each means
    path: str | Path,
    *,
    series: str | None = None,
    select: str | None = None,
    volume_index: int | None = None,
    allow_gaps: bool = False,
    spacing_mm: tuple[float, float, float] | None = None,
    nifti_xform: Literal["sform", "qform"] | None = None,
    assume_hu: bool = False,
    resample_mixed: bool = False,
) -> Volume:
    """Read a scan: a NIfTI, NRRD, MetaImage or DICOM file, a folder of DICOM files, or a .zip or .tar of these.

    `series` chooses a DICOM series (its SeriesInstanceUID, the beginning of it, or UID#n for its n-th stack), `select` one
    stack of a series ("2", "largest", "EchoTime=4.92"), `volume_index` one volume of 4D data (from 0). The other keywords are
    the explicit ways past a refusal (`ReadOptions`); each one that is used stands among the findings.

    Its `findings` say what the checks noticed. Raises UnreadableFileError (missing, cut short, corrupted),
    UnsupportedFormatError (colours, not an image), SeveralVolumesError (4D), InconsistentSeriesError or GeometryError.
    """
    options = ReadOptions(series, select, volume_index, allow_gaps, spacing_mm, nifti_xform, assume_hu, resample_mixed)
    return read_with(path, options)


def read_with(path: str | Path, options: ReadOptions) -> Volume:
    """Read a scan as `read` does, with the choices in one value."""
    path = Path(path)
    if path.is_file() and is_archive(path):
        return _read_archive(path, options)
    reader = find_reader(path)
    if reader is None:
        from medseg.io.dicom.volume import read_series

        return read_series(path, options)
    return reader.read_stored(path, options).to_volume()


def read_files(files: Sequence[str | Path], options: ReadOptions) -> Volume:
    """Read the scan that is exactly these files: those of a DICOM series, or an image file with the data files it names.

    What lies beside them is not looked at, and none of them is passed over: a file that is broken, or no image of the
    series, refuses the whole. Raises what `read` raises.
    """
    first = Path(files[0])
    try:
        if is_archive(first) or find_reader(first) is not None:
            return read_with(first, options)
    except InputError:
        if len(files) == 1:
            raise  # beside others, a broken file is one of a DICOM series
    from medseg.io.dicom.volume import read_series_files

    return read_series_files(files, options)


def _read_archive(path: Path, options: ReadOptions) -> Volume:
    """Read the one file, or the DICOM series, of a .zip or .tar; what was unpacked is gone afterwards, so no file is named."""
    with unpacked(path) as folder:
        files = [file for file in folder.rglob("*") if file.is_file()]
        volume = read_with(files[0] if len(files) == 1 else folder, options)
    source = replace(volume.source, path=str(path), files=()) if volume.source else None
    return replace(volume, source=source)


def read_volumes(path: str | Path, options: ReadOptions | None = None) -> list[Volume]:
    """Read every volume of a 4D file or DICOM series, in order; one of a 3D scan. Raises what `read` raises."""
    path = Path(path)
    options = options or ReadOptions()
    reader = find_reader(path)
    if reader is None:
        from medseg.io.dicom.volume import read_series_volumes

        return read_series_volumes(path, options)
    try:
        return [read_with(path, options)]
    except SeveralVolumesError as err:
        return [read_with(path, replace(options, volume_index=index)) for index in range(err.count)]


def read_label_map(path: str | Path, *, geometry: Geometry | None = None) -> LabelMap:
    """Read segments: a NIfTI, NRRD or MetaImage file of whole numbers, a .seg.nrrd of 3D Slicer, a DICOM SEG or RTSTRUCT.

    Names come from the file, or from the label table `x.labels.csv` beside it; a number without a name becomes
    "segment_<n>". `geometry` is the scan's grid: frames of a SEG are placed on it, contours of an RTSTRUCT filled on it.
    Raises what `read` raises, SegmentError for intensities, OverlappingSegmentsError (`read_layers` reads those).
    """
    path = Path(path)
    reader = find_reader(path)
    if reader is None:
        return _dicom_label_map(path, geometry)
    if reader.name == "NRRD":
        from medseg.io.seg_nrrd import is_segmentation, read_segmentation

        if is_segmentation(path):
            return read_segmentation(path)
    stored = reader.read_stored(path)
    named = read_label_table(label_table_path(path))
    return (replace(stored, segments=named) if named else stored).to_label_map()


def read_layers(path: str | Path, *, geometry: Geometry | None = None) -> tuple[LabelMap, ...]:
    """Read segments that may share voxels, as layers on one grid; within a layer none overlap.

    Numbers and labels are unique over all layers. One layer for every file without overlaps. Raises what
    `read_label_map` raises, except OverlappingSegmentsError.
    """
    path = Path(path)
    reader = find_reader(path)
    if reader is None:
        from medseg.io.dicom.rtstruct_read import is_rtstruct

        if path.is_file() and is_rtstruct(path):
            return _structures(path, geometry)
        from medseg.io.dicom.seg_read import read_seg_layers

        return read_seg_layers(path, geometry)
    if reader.name == "NRRD":
        from medseg.io.seg_nrrd import is_segmentation, read_segmentation_layers

        if is_segmentation(path):
            return read_segmentation_layers(path)
    return (read_label_map(path),)


def _dicom_label_map(path: Path, geometry: Geometry | None) -> LabelMap:
    from medseg.io.dicom.rtstruct_read import is_rtstruct

    if not (path.is_file() and is_rtstruct(path)):
        from medseg.io.dicom.seg_read import read_seg

        return read_seg(path, geometry)
    layers = _structures(path, geometry)
    if len(layers) > 1:
        from medseg.core.errors import OverlappingSegmentsError

        raise OverlappingSegmentsError(
            f"{path}: structures of this RTSTRUCT share voxels, which a label map cannot hold: read it in layers, or measure and convert"
            " it with medseg, which do so"
        )
    return layers[0]


def _structures(path: Path, geometry: Geometry | None) -> tuple[LabelMap, ...]:
    from medseg.io.dicom.rtstruct_read import default_geometry, rasterise, read_structures

    structures = read_structures(path)
    return rasterise(structures, geometry or default_geometry(structures))


def holds_label_map(path: str | Path) -> bool:
    """Whether a file says of itself that it holds segments: .seg.nrrd, DICOM SEG or RTSTRUCT, or an image with names of labels.

    An image of whole numbers without names may be either; False then, and for what cannot be read.
    """
    path = Path(path)
    try:
        reader = find_reader(path)
        if reader is None:
            from medseg.io.dicom.rtstruct_read import is_rtstruct
            from medseg.io.dicom.seg_read import is_seg

            return is_seg(path) or is_rtstruct(path)
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
