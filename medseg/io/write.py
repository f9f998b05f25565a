"""One way out: the suffix of the path decides the format; every file is read back before it takes its name."""

from __future__ import annotations

from pathlib import Path

from medseg.core.errors import OutputExistsError, UnsupportedFormatError
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.io.atomic import check_writable
from medseg.io.labels import holds_label_table, label_table_path, write_label_table

SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha", ".dcm")
_ONLY_LABEL_MAPS = (".seg.nrrd", ".dcm")
_WITH_LABEL_TABLE = (".nii.gz", ".nii", ".nrrd", ".mha")


def write(value: Volume | LabelMap, path: str | Path, *, source: Volume | None = None, overwrite: bool = False) -> Path:
    """Write a scan or segments as .nii.gz, .nii, .nrrd, .mha; segments also as .seg.nrrd and .dcm (DICOM SEG).

    Segments in a format that has no place for names get them in `x.labels.csv` beside the file. DICOM SEG needs the
    DICOM scan as `source`. Raises UnsupportedFormatError for another suffix, OutputExistsError, OutputError (folder,
    full disk), OutputVerificationError; nothing half-written is left behind.
    """
    path = Path(path)
    suffix = _check_suffix(path, isinstance(value, LabelMap))
    table = label_table_path(path) if isinstance(value, LabelMap) and suffix in _WITH_LABEL_TABLE else None
    if table is not None and isinstance(value, LabelMap) and not overwrite and table.exists():
        if not holds_label_table(value.segments, table):
            raise OutputExistsError(f"{table} is there already with other names; choose another name or allow overwriting")
        table = None  # the same segments in another format: one table serves both
    _write_image(value, path, suffix, source, overwrite)
    if table is not None and isinstance(value, LabelMap):
        try:
            write_label_table(value.segments, table, overwrite)
        except BaseException:  # an older table would name the new segments wrongly
            table.unlink(missing_ok=True)
            raise
    return path


def check_output(path: str | Path, label_map: bool, overwrite: bool = False) -> None:
    """Raise now what `write` would raise about this path after the work is done: suffix, existing file, folder."""
    path = Path(path)
    _check_suffix(path, label_map)
    if not overwrite and path.exists():
        raise OutputExistsError(f"{path} is there already; choose another name or allow overwriting")
    check_writable(path.parent)


def _check_suffix(path: Path, label_map: bool) -> str:
    name = path.name.lower()
    suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)
    if suffix is None:
        raise UnsupportedFormatError(f"{path}: medseg does not write this kind of file; end its name in one of {', '.join(SUFFIXES)}")
    if suffix in _ONLY_LABEL_MAPS and not label_map:
        raise UnsupportedFormatError(f"{path}: {suffix} holds segments, not a scan; write a scan as .nii.gz, .nrrd or .mha")
    return suffix


def _write_image(value: Volume | LabelMap, path: Path, suffix: str, source: Volume | None, overwrite: bool) -> None:
    if suffix in (".nii", ".nii.gz"):
        from medseg.io.nifti import write_nifti

        write_nifti(value, path, overwrite)
    elif suffix == ".nrrd":
        from medseg.io.nrrd import write_nrrd

        write_nrrd(value, path, overwrite)
    elif suffix == ".mha":
        from medseg.io.metaimage import write_metaimage

        write_metaimage(value, path, overwrite)
    elif isinstance(value, LabelMap):
        _write_segments(value, path, suffix, source, overwrite)


def _write_segments(value: LabelMap, path: Path, suffix: str, source: Volume | None, overwrite: bool) -> None:
    if suffix == ".seg.nrrd":
        from medseg.io.seg_nrrd import write_segmentation

        write_segmentation(value, path, overwrite)
        return
    if source is None or source.source is None or not source.source.sop_instance_uids:
        raise UnsupportedFormatError(
            f"{path}: a DICOM SEG belongs to a DICOM scan; pass the scan it was made on, read from DICOM, as source, "
            "or write .nii.gz or .seg.nrrd"
        )
    from medseg.io.dicom.seg import write_seg

    write_seg(value, path, source, overwrite=overwrite)
