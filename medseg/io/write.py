"""One way out: the suffix of the path decides the format; every file is read back before it takes its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medseg.core.errors import OutputError, OutputExistsError, OverlappingSegmentsError, UnsupportedFormatError
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.io.atomic import check_writable
from medseg.io.labels import check_label_table, holds_label_table, label_table_path, write_label_table

SURFACE_SUFFIXES = (".stl", ".obj", ".ply", ".vtp", ".glb")  # those of io.surface, which is heavy to import
SUFFIXES = (".nii.gz", ".nii", ".seg.nrrd", ".nrrd", ".mha", ".rtstruct.dcm", ".dcm", *SURFACE_SUFFIXES)
_ONLY_LABEL_MAPS = (".seg.nrrd", ".rtstruct.dcm", ".dcm", *SURFACE_SUFFIXES)  # these hold overlapping segments too
_WITH_LABEL_TABLE = (".nii.gz", ".nii", ".nrrd", ".mha")


class OutputFormatError(OutputError, UnsupportedFormatError):
    """A result cannot be written in the format that the name of the output asks for."""


def write(
    value: Volume | LabelMap | Sequence[LabelMap], path: str | Path, *, source: Volume | None = None, overwrite: bool = False
) -> Path:
    """Write a scan or segments as .nii.gz, .nii, .nrrd, .mha; segments also as .seg.nrrd, .dcm (SEG), .rtstruct.dcm and surfaces.

    Surfaces are .stl, .obj, .ply, .vtp and .glb (`io.surface.write_surfaces`, which has their options).

    Segments in a format that has no place for names get them in `x.labels.csv` beside the file. DICOM SEG and RTSTRUCT need
    the DICOM scan as `source`. Several layers (segments that share voxels) go into .seg.nrrd, SEG and RTSTRUCT. Raises
    OutputFormatError (an UnsupportedFormatError) for another suffix, OverlappingSegmentsError where the format holds no layers,
    OutputExistsError, OutputError (folder, full disk, too many names), OutputVerificationError; nothing half-written is left behind.
    """
    path = Path(path)
    layers = _layers_of(value)
    suffix = _check_suffix(path, layers is not None)
    if layers is not None and suffix in _ONLY_LABEL_MAPS:
        _write_segments(layers, path, suffix, source, overwrite)
        return path
    single = _single(value, path)
    table = label_table_path(path) if isinstance(single, LabelMap) and suffix in _WITH_LABEL_TABLE else None
    if table is not None and isinstance(single, LabelMap) and not overwrite and table.exists():
        if not holds_label_table(single.segments, table):
            raise OutputExistsError(f"{table} is there already with other names; choose another name or allow overwriting (--overwrite)")
        table = None  # the same segments in another format: one table serves both
    if table is not None and isinstance(single, LabelMap):
        check_label_table(single.segments, table)
    _write_image(single, path, suffix, overwrite)
    if table is not None and isinstance(single, LabelMap):
        try:
            write_label_table(single.segments, table, overwrite)
        except BaseException:  # an older table would name the new segments wrongly, and without one they have no names
            table.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise
    return path


def _layers_of(value: Volume | LabelMap | Sequence[LabelMap]) -> tuple[LabelMap, ...] | None:
    if isinstance(value, Volume):
        return None
    return (value,) if isinstance(value, LabelMap) else tuple(value)


def _single(value: Volume | LabelMap | Sequence[LabelMap], path: Path) -> Volume | LabelMap:
    if isinstance(value, Volume | LabelMap):
        return value
    if len(value) != 1:
        raise OverlappingSegmentsError(
            f"{path}: the segments share voxels ({len(value)} layers), which this format cannot hold: write .seg.nrrd or DICOM SEG"
        )
    return value[0]


def check_output(path: str | Path, label_map: bool, overwrite: bool = False) -> None:
    """Raise now what `write` would raise about this path after the work is done: suffix, existing file, folder."""
    path = Path(path)
    suffix = _check_suffix(path, label_map)
    if suffix in SURFACE_SUFFIXES and any(place in part for place in ("{label}", "{number}") for part in path.parts[:-1]):
        raise OutputFormatError(f"{path}: {{label}} and {{number}} stand for a segment in the name of the file, not of a folder")
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give the name of a file")
    if not overwrite and path.exists():
        raise OutputExistsError(f"{path} is there already; choose another name or allow overwriting (--overwrite)")
    check_writable(path.parent)


def check_source(path: str | Path, source: Volume | None) -> None:
    """Raise OutputFormatError where the suffix asks for a DICOM object and `source` was not read from DICOM."""
    suffix = next((suffix for suffix in SUFFIXES if Path(path).name.lower().endswith(suffix)), "")
    if not suffix.endswith(".dcm") or (source is not None and source.source is not None and source.source.sop_instance_uids):
        return
    kind = "RTSTRUCT" if suffix == ".rtstruct.dcm" else "SEG"
    raise OutputFormatError(
        f"{path}: a DICOM {kind} belongs to a DICOM scan; pass the scan it was made on, read from DICOM, as source, "
        "or write .nii.gz or .seg.nrrd"
    )


def _check_suffix(path: Path, label_map: bool) -> str:
    name = path.name.lower()
    suffix = next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)
    if suffix is None:
        raise OutputFormatError(f"{path}: medseg does not write this kind of file; end its name in one of {', '.join(SUFFIXES)}")
    if suffix in _ONLY_LABEL_MAPS and not label_map:
        raise OutputFormatError(f"{path}: {suffix} holds segments, not a scan; write a scan as .nii.gz, .nrrd or .mha")
    return suffix


def _write_image(value: Volume | LabelMap, path: Path, suffix: str, overwrite: bool) -> None:
    if suffix in (".nii", ".nii.gz"):
        from medseg.io.nifti import write_nifti

        write_nifti(value, path, overwrite)
    elif suffix == ".nrrd":
        from medseg.io.nrrd import write_nrrd

        write_nrrd(value, path, overwrite)
    else:
        from medseg.io.metaimage import write_metaimage

        write_metaimage(value, path, overwrite)


def _write_segments(layers: Sequence[LabelMap], path: Path, suffix: str, source: Volume | None, overwrite: bool) -> None:
    if suffix in SURFACE_SUFFIXES:
        from medseg.io.surface import write_surfaces

        write_surfaces(layers, path, overwrite=overwrite)
        return
    if suffix == ".seg.nrrd":
        from medseg.io.seg_nrrd import write_segmentation

        write_segmentation(layers if len(layers) > 1 else layers[0], path, overwrite)
        return
    check_source(path, source)
    assert source is not None  # check_source has refused it
    if suffix == ".rtstruct.dcm":
        from medseg.io.dicom.rtstruct import write_rtstruct

        write_rtstruct(layers, path, source, overwrite=overwrite)
        return
    from medseg.io.dicom.seg import write_seg

    write_seg(layers if len(layers) > 1 else layers[0], path, source, overwrite=overwrite)
