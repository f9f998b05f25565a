"""The job that writes files for others: segmentations, DICOM objects, tables, reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medseg.core.errors import InputError, OutputError, OutputExistsError
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.slicer_bridge.jobs import LabelsRef, ScanRef
from medseg.slicer_bridge.worker_context import Context
from medseg.slicer_bridge.worker_data import on_grid_of, read_labels
from medseg.slicer_bridge.worker_measure import measured

SUFFIXES = {"seg.nrrd": ".seg.nrrd", "nii.gz": ".nii.gz", "dicom-seg": ".dcm", "sr": ".sr.dcm", "csv": ".csv", "report": ""}


def export(context: Context) -> dict[str, Any]:
    """Write the segments in one format; every file is read back and compared before it takes its name."""
    job = context.job
    labels, ref = job.labels(), job.scan()
    assert labels is not None  # a required field
    path, wanted = Path(job["path"]), job["format"]
    _check(path, wanted, ref)
    overwrite = job.get("overwrite", False)
    if wanted in ("seg.nrrd", "nii.gz"):
        files = [_written(read_labels(labels), path, None, overwrite)]
    elif wanted == "dicom-seg":
        volume, layers = _on_dicom(context, labels, ref)
        files = [_written(layers, path, volume, overwrite)]
    elif wanted == "sr":
        files = _structured_report(context, labels, ref, path, overwrite)
    elif wanted == "csv":
        files = [_table(context, path, overwrite)]
    else:
        files = _report(context, labels, ref, path, overwrite)
    return {"files": [str(file) for file in files]}


def _check(path: Path, wanted: str, ref: ScanRef | None) -> None:
    suffix = SUFFIXES[wanted]
    if suffix and not path.name.lower().endswith(suffix):
        raise OutputError(f"{path.name}: end the name in {suffix}, the suffix of this format")
    if wanted in ("dicom-seg", "sr") and (ref is None or not ref.path):
        raise InputError("a DICOM object belongs to the DICOM scan it was made on: load the scan from DICOM, or write .seg.nrrd")
    if ref is not None and ref.path and suffix == ".dcm" and _is_inside(path, Path(ref.path)):
        raise OutputError(f"{path.name} would lie in the folder of the scan, whose files are read together: choose another folder")


def _is_inside(path: Path, folder: Path) -> bool:
    try:
        return folder.is_dir() and folder.resolve() in path.resolve().parents
    except OSError:
        return False


def _written(layers: tuple[LabelMap, ...], path: Path, source: Volume | None, overwrite: bool) -> Path:
    from medseg.io.write import write

    return write(layers if len(layers) > 1 else layers[0], path, source=source, overwrite=overwrite)


def _on_dicom(context: Context, labels: LabelsRef, ref: ScanRef | None) -> tuple[Volume, tuple[LabelMap, ...]]:
    """Return the scan as it was read from its DICOM files, and the segments on its grid, whose slices may run the other way."""
    from medseg.preprocessing.resample import fit_to

    assert ref is not None  # checked before
    volume = context.scans.get(ref)
    context.findings(volume.findings)
    return volume, tuple(fit_to(layer, volume.geometry) for layer in read_labels(labels))


def _structured_report(context: Context, labels: LabelsRef, ref: ScanRef | None, path: Path, overwrite: bool) -> list[Path]:
    """Write the report and, beside it, the segmentation it points to."""
    from medseg.io.dicom.sr import write_sr

    segmentation = path.with_name(path.name[: -len(SUFFIXES["sr"])] + ".seg.dcm")
    for file in (segmentation, path):
        if file.exists() and not overwrite:
            raise OutputExistsError(f"{file.name} is there already; choose another name or allow overwriting")
    volume, layers = _on_dicom(context, labels, ref)
    table, findings = measured(context)
    context.findings(findings)
    _written(layers, segmentation, volume, overwrite)
    try:
        write_sr(table, path, source=volume, segmentation=segmentation, overwrite=overwrite)
    except BaseException:  # a segmentation alone was not asked for
        segmentation.unlink(missing_ok=True)
        raise
    return [segmentation, path]


def _table(context: Context, path: Path, overwrite: bool) -> Path:
    from medseg.io.atomic import write_text
    from medseg.reporting.table import measurements_csv

    table, findings = measured(context)
    context.findings(findings)
    return write_text(path, measurements_csv(table), overwrite=overwrite)


def _report(context: Context, labels: LabelsRef, ref: ScanRef | None, folder: Path, overwrite: bool) -> list[Path]:
    """Write the folder of a report: HTML with pictures, tables, segmentation."""
    from medseg.io.options import ReadOptions
    from medseg.io.write import write
    from medseg.outputs.report_folder import Given, ReportOptions, report_of_segmentations

    if ref is None:
        raise InputError("a report shows the segments on their scan: choose the scan")
    passing = context.base.with_name(f"{context.job.id}-report")
    passing.mkdir()
    segmentation, image = passing / "segmentation.seg.nrrd", Path(ref.path)
    layers = read_labels(labels)
    if not ref.path:
        volume = context.scans.get(ref)
        image = write(volume, passing / "scan.nrrd")
        layers = on_grid_of(layers, volume.geometry)
    _written(layers, segmentation, None, False)
    try:
        done = report_of_segmentations(
            [Given(segmentation, image)], folder, reading=ReadOptions(series=ref.series), options=ReportOptions(overwrite=overwrite)
        )
    finally:
        context.clear()
    return list(done.files.values())
