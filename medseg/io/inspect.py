"""What lies at a path: every volume, whether it can be read to its end, and what is wrong with it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from medseg.core.errors import MedsegError, SegmentError, SeveralVolumesError, UnreadableFileError, UnsupportedFormatError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.io.labels import label_table_path
from medseg.io.read import READERS, Reader, first_bytes, read_label_map
from medseg.io.report import VolumeReport

_IMAGE_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".hdr.gz", ".nrrd", ".nhdr", ".mha", ".mhd")


def inspect(path: str | Path) -> tuple[VolumeReport, ...]:
    """Report every volume in a file or below a folder, the unreadable ones too; files are read to their end.

    Files that are no images are passed over, links are not followed. Raises UnreadableFileError where there is nothing
    at all to report.
    """
    path = Path(path)
    if path.is_dir():
        reports = [*_series_reports(path), *(report for file in _files_below(path) for report in _file_reports(file, is_asked_for=False))]
    else:
        reports = _file_reports(path, is_asked_for=True)
    if not reports:
        known = ", ".join(reader.name for reader in READERS)
        raise UnreadableFileError(f"{path}: no image found below this folder; medseg reads {known} and DICOM")
    return tuple(reports)


def _series_reports(folder: Path) -> list[VolumeReport]:
    from medseg.io.dicom.find import find_series
    from medseg.io.dicom.volume import inspect_series

    try:
        series = find_series(folder)
    except UnsupportedFormatError:
        return []  # only objects that are no images; segmentations among them are reported file by file
    except UnreadableFileError as err:
        return [_unreadable(folder, "DICOM", err)] if _holds_dicom(folder) else []
    reports = []
    for one in series:
        try:
            reports.append(inspect_series(one))
        except MedsegError as err:
            reports.append(_unreadable(Path(one.folder), "DICOM", err, one.series_uid or None))
    return reports


def _holds_dicom(folder: Path) -> bool:
    from medseg.io.dicom.find import is_dicom

    return any(is_dicom(file) for file in _files_below(folder))


def _file_reports(path: Path, is_asked_for: bool) -> list[VolumeReport]:
    """The report of one file; nothing for a file that was only met on the way and is no image."""
    is_promised = is_asked_for or path.name.lower().endswith(_IMAGE_SUFFIXES)
    try:
        start = first_bytes(path)
    except MedsegError as err:
        return [_unreadable(path, "", err)] if is_promised else []
    reader = next((reader for reader in READERS if reader.recognises(start)), None)
    if reader is not None:
        try:
            return [_image_report(path, reader)]
        except MedsegError as err:
            return [_unreadable(path, reader.name, err)]
    from medseg.io.dicom.seg_read import is_seg

    if is_seg(path):
        return [_segmentation_report(path, "DICOM SEG")]
    reports = _series_reports(path) if is_asked_for else []
    if not reports and is_promised:
        return [_unreadable(path, "", UnsupportedFormatError(f"{path} is no image medseg can read; copy it again or convert it"))]
    return reports


def _image_report(path: Path, reader: Reader) -> VolumeReport:
    if reader.name == "NRRD":
        from medseg.io.seg_nrrd import is_segmentation

        if is_segmentation(path):
            return _segmentation_report(path, "seg.nrrd")
    try:
        stored = reader.read_stored(path)
        volume = stored.to_volume()
    except SeveralVolumesError as err:
        return _several_volumes(path, err)
    if stored.segments or label_table_path(path).is_file():
        try:
            return _report(path, stored.format, read_label_map(path))
        except SegmentError as err:
            finding = Finding(_code_of(err), Severity.ERROR, str(err))
            return _report(path, stored.format, volume.with_array(volume.array, findings=(*volume.findings, finding)))
    return _report(path, stored.format, volume)


def _several_volumes(path: Path, err: SeveralVolumesError) -> VolumeReport:
    """Report the grid that the volumes of a 4D file share; the error says that one must be chosen."""
    from medseg.io.nifti import read_nifti

    first = read_nifti(path, volume_index=0)
    finding = Finding("SEVERAL_VOLUMES", Severity.ERROR, str(err), {"count": err.count})
    name = first.source.format if first.source else ""
    return _report(path, name, first.with_array(first.array, findings=(*first.findings, finding)))


def _segmentation_report(path: Path, name: str) -> VolumeReport:
    try:
        return _report(path, name, read_label_map(path))
    except MedsegError as err:
        return _unreadable(path, name, err)


def _report(path: Path, name: str, value: Volume | LabelMap) -> VolumeReport:
    numbers = tuple(segment.number for segment in value.segments) if isinstance(value, LabelMap) else None
    return VolumeReport(
        path=str(path),
        format=name,
        modality="SEG" if name == "DICOM SEG" else "",
        series_uid=value.source.series_uid if value.source else None,
        geometry=value.geometry,
        findings=value.findings,
        dtype=value.array.dtype.name,
        slice_count=value.geometry.shape[2],
        label_numbers=numbers,
    )


def _unreadable(path: Path, name: str, err: MedsegError, series_uid: str | None = None) -> VolumeReport:
    finding = Finding(_code_of(err), Severity.ERROR, str(err))
    return VolumeReport(str(path), name, series_uid=series_uid, findings=(finding,), error=str(err))


def _code_of(err: MedsegError) -> str:
    """A finding's code from the class of an error, such as UNREADABLE_FILE of UnreadableFileError."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(err).__name__.removesuffix("Error")).upper()


def _files_below(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder, followlinks=False):
        folders.sort()
        for name in sorted(files):
            file = Path(root) / name
            if not file.is_symlink() and not name.startswith("._"):
                yield file
