"""What lies at a path: every volume, whether it can be read to its end, what is wrong with it and what that costs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.core.errors import (
    InputError,
    MedsegError,
    SegmentError,
    SeveralVolumesError,
    UnreadableFileError,
    UnsupportedFormatError,
)
from medseg.core.finding import Finding, Severity
from medseg.io.archive import is_archive, unpacked
from medseg.io.file_report import code_of, layers_report, unreadable, value_report
from medseg.io.labels import label_table_path
from medseg.io.options import ReadOptions
from medseg.io.read import READERS, Reader, first_bytes, read_label_map, read_layers
from medseg.io.report import VolumeReport

if TYPE_CHECKING:
    from medseg.io.dicom.find import Series

_IMAGE_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".hdr.gz", ".nrrd", ".nhdr", ".mha", ".mhd")


def inspect(path: str | Path, options: ReadOptions | None = None, *, segmentation: str | Path | None = None) -> tuple[VolumeReport, ...]:
    """Report every volume in a file or below a folder, the unreadable ones too; files are read to their end.

    `options` are the explicit ways on that reading would take. With a `segmentation` each scan it was drawn on gets the price
    of its faults in ml a segment. Files that are no images are passed over, links are not followed. Raises
    UnreadableFileError where there is nothing at all to report, and what reading the segmentation raises.
    """
    path = Path(path)
    options = options or ReadOptions()
    if path.is_file() and is_archive(path):
        with unpacked(path) as folder:
            return tuple(_as_member(report, folder, path) for report in inspect(folder, options, segmentation=segmentation))
    if segmentation is not None:
        read_layers_or_slices(Path(segmentation))  # a segmentation that cannot be read is no finding about the scan
    reports = _in_folder(path, options, segmentation) if path.is_dir() else _file_reports(path, options, segmentation)
    if not reports:
        if options.series is not None:
            raise InputError(f"{path}: no DICOM series {options.series!r} below this folder; medseg inspect without --series lists them")
        known = ", ".join(reader.name for reader in READERS)
        raise UnreadableFileError(f"{path}: no image found below this folder; medseg reads {known} and DICOM")
    return _said_once(reports)


def _as_member(report: VolumeReport, folder: Path, archive: Path) -> VolumeReport:
    """Name the archive where a report names the folder it was unpacked into for a moment."""

    def renamed(text: str) -> str:
        return text.replace(str(folder), str(archive))

    findings = tuple(replace(finding, message=renamed(finding.message)) for finding in report.findings)
    error = None if report.error is None else renamed(report.error)
    return replace(report, path=renamed(report.path), findings=findings, error=error)


def read_layers_or_slices(path: Path) -> None:
    """Raise what stands against reading a segmentation; one whose slices lie unevenly is fine."""
    try:
        read_layers(path)
    except MedsegError:
        from medseg.io.dicom.rtstruct_read import is_rtstruct
        from medseg.io.dicom.seg_read import is_seg, read_native_slices

        if is_seg(path):
            read_native_slices(path)
        elif not is_rtstruct(path):
            raise


def _in_folder(folder: Path, options: ReadOptions, segmentation: str | Path | None) -> list[VolumeReport]:
    series = _series_below(folder)
    if isinstance(series, VolumeReport):
        reports, read = [series], set()
    else:
        chosen = [(one, its) for one in series if (its := _options_for(one, options)) is not None]
        reports = [_series_report(one, its, segmentation) for one, its in chosen]
        read = {os.path.abspath(file) for one in series for file in one.files}
    if options.series is not None:
        return reports
    files = (file for file in _files_below(folder) if os.path.abspath(file) not in read)
    return [*reports, *(report for file in files for report in _file_reports(file, options, segmentation, is_asked_for=False))]


def _series_below(path: Path) -> list[Series] | VolumeReport:
    """Return the DICOM series at a path, none where there is none; a report where they cannot be read at all."""
    from medseg.io.dicom.find import find_series, is_dicom

    try:
        return find_series(path)
    except UnsupportedFormatError:
        return []  # only objects that are no images; they are reported file by file
    except UnreadableFileError as err:
        holds_dicom = any(is_dicom(file) for file in (_files_below(path) if path.is_dir() else [path]))
        return unreadable(path, "DICOM", err) if holds_dicom else []


def _options_for(series: Series, options: ReadOptions) -> ReadOptions | None:
    """Return the options that hold for one series of a folder; None where another one was asked for."""
    if options.series is None:
        return options
    uid, _, number = options.series.strip().partition("#")
    if not series.series_uid.startswith(uid):
        return None
    return replace(options, series=None, select=number or options.select)


def _series_report(series: Series, options: ReadOptions, segmentation: str | Path | None) -> VolumeReport:
    from medseg.io.dicom.volume import inspect_series

    try:
        report = inspect_series(series, options)
    except MedsegError as err:
        return unreadable(Path(series.folder), "DICOM", err, series.series_uid or None)
    if segmentation is None:
        return report
    from medseg.io.dicom.volume import native_stack
    from medseg.io.native import price_segmentation

    try:
        return replace(report, prices=price_segmentation(Path(segmentation), native_stack(series, options)))
    except MedsegError as err:
        return _not_priced(report, err)


def _not_priced(report: VolumeReport, err: MedsegError) -> VolumeReport:
    finding = Finding("NOT_PRICED", Severity.WARNING, f"the segmentation cannot be priced on this scan: {err}")
    return replace(report, findings=(*report.findings, finding))


def _said_once(reports: list[VolumeReport]) -> tuple[VolumeReport, ...]:
    """Leave out that other scans have no price where the segmentation found the scan it belongs to."""
    if not any(report.prices for report in reports):
        return tuple(reports)
    return tuple(replace(report, findings=tuple(one for one in report.findings if one.code != "NOT_PRICED")) for report in reports)


def _file_reports(
    path: Path, options: ReadOptions, segmentation: str | Path | None = None, is_asked_for: bool = True
) -> list[VolumeReport]:
    """The report of one file; nothing for a file that was only met on the way and is no image."""
    is_promised = is_asked_for or path.name.lower().endswith(_IMAGE_SUFFIXES)
    try:
        start = first_bytes(path)
    except MedsegError as err:
        return [unreadable(path, "", err)] if is_promised else []
    reader = next((reader for reader in READERS if reader.recognises(start)), None)
    if reader is not None:
        try:
            return [_priced_file(_image_report(path, reader, options), segmentation)]
        except MedsegError as err:
            return [unreadable(path, reader.name, err)]
    from medseg.io.dicom_objects import object_report

    other = object_report(path)
    if other is not None:
        return [other]
    found = _series_below(path) if is_asked_for else []
    reports = [found] if isinstance(found, VolumeReport) else [_series_report(one, options, segmentation) for one in found]
    if not reports and is_promised:
        return [unreadable(path, "", UnsupportedFormatError(f"{path} is no image medseg can read; copy it again or convert it"))]
    return reports


def _priced_file(report: VolumeReport, segmentation: str | Path | None) -> VolumeReport:
    """Return the report of an image file with what its lean costs a segmentation on the same grid."""
    if segmentation is None or report.geometry is None or report.label_numbers is not None:
        return report
    from medseg.measurement.measure import mismatch
    from medseg.measurement.pricing import price_grid

    try:
        layers = read_layers(Path(segmentation), geometry=report.geometry)
        if not layers[0].geometry.matches(report.geometry):
            raise mismatch(layers[0].geometry, report.geometry)
        return replace(report, prices=tuple(price for layer in layers for price in price_grid(layer)))
    except MedsegError as err:
        return _not_priced(report, err)


def _image_report(path: Path, reader: Reader, options: ReadOptions) -> VolumeReport:
    if reader.name == "NRRD":
        from medseg.io.seg_nrrd import is_segmentation

        if is_segmentation(path):
            return layers_report(path, "seg.nrrd", read_layers(path))
    try:
        stored = reader.read_stored(path, options)
        volume = stored.to_volume()
    except SeveralVolumesError as err:
        return _several_volumes(path, reader, options, err)
    if stored.segments or label_table_path(path).is_file():
        try:
            return value_report(path, stored.format, read_label_map(path))
        except SegmentError as err:
            finding = Finding(code_of(err), Severity.ERROR, str(err))
            return value_report(path, stored.format, volume.with_array(volume.array, findings=(*volume.findings, finding)))
    return value_report(path, stored.format, volume)


def _several_volumes(path: Path, reader: Reader, options: ReadOptions, err: SeveralVolumesError) -> VolumeReport:
    """Report the grid that the volumes of a 4D file share; the error says that one must be chosen."""
    first = reader.read_stored(path, replace(options, volume_index=0)).to_volume()
    finding = Finding("SEVERAL_VOLUMES", Severity.ERROR, str(err), {"count": err.count})
    name = first.source.format if first.source else ""
    return value_report(path, name, first.with_array(first.array, findings=(*first.findings, finding)))


def _files_below(folder: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder, followlinks=False):
        folders.sort()
        for name in sorted(files):
            file = Path(root) / name
            if not file.is_symlink() and not name.startswith("._"):
                yield file
