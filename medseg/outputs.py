"""One scan the whole way, and the folder it ends in: segmentation, tables, pictures, report and provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.core.errors import MissingDependencyError, OutputExistsError, UnsupportedFormatError
from medseg.core.provenance import InputRecord
from medseg.core.volume import Volume
from medseg.io.atomic import check_folder, check_writable, write_bytes, write_text
from medseg.io.file_report import contrast_findings
from medseg.io.hashing import sha256_of
from medseg.io.options import ReadOptions
from medseg.io.read import read_with
from medseg.io.report import choices_of
from medseg.io.write import write
from medseg.method.settings import RunSettings
from medseg.pipeline import Pipeline, Result, apply, load_pipeline, prepare
from medseg.reporting.html import Picture, ReportContent, report_html
from medseg.reporting.table import measurements_csv

if TYPE_CHECKING:
    from medseg.phantom import Phantom

FORMATS = {"nii.gz": ".nii.gz", "nii": ".nii", "nrrd": ".nrrd", "seg.nrrd": ".seg.nrrd", "dcm": ".dcm"}


@dataclass(frozen=True)
class RunOutput:
    """A finished run: its result and the files it wrote, by what they are."""

    result: Result
    files: Mapping[str, Path]


def run(
    pipeline: str | Path | Pipeline,
    input: str | Path,
    output: str | Path,
    *,
    formats: Sequence[str] = (),
    overwrite: bool = False,
    settings: RunSettings | None = None,
    truth: Mapping[str, Any] | None = None,
    reading: ReadOptions | None = None,
    **choice: Any,
) -> RunOutput:
    """Run a pipeline on one scan and write its folder: segmentation, measurements, report, pictures, provenance.

    Without `formats` the segmentation is written as .nii.gz for a NIfTI scan and as .seg.nrrd for any other; "dcm" asks
    for DICOM SEG. `reading`, or what `medseg.read` takes as keywords, says how the scan is read. `truth` (a document of
    medseg.phantom) adds a comparison to the report. Nothing is written before everything was computed. Raises
    PipelineError, InputError and what its methods raise; OutputError where the folder cannot be written,
    OutputExistsError where it holds a run already.
    """
    chosen = pipeline if isinstance(pipeline, Pipeline) else load_pipeline(pipeline)
    prepare(chosen)
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise UnsupportedFormatError(f"a segmentation is not written as {unknown[0]}; known: {', '.join(FORMATS)}")
    folder = Path(output)
    if not overwrite and (folder / "provenance.json").exists():
        raise OutputExistsError(f"{folder.name} holds a run already: choose another folder or ask to overwrite")
    check_writable(folder)
    how = reading or ReadOptions(**choice)
    volume = read_with(input, how)
    volume = replace(volume, findings=(*volume.findings, *contrast_findings(volume)))
    result = apply(chosen, volume, settings=settings, inputs=[input_record(volume)])
    wanted = formats or default_formats(volume)
    return RunOutput(result, write_result(result, folder, formats=wanted, overwrite=overwrite, truth=truth, reading=how))


def input_record(volume: Volume, role: str = "scan") -> InputRecord:
    """Return what a scan was read from, by content: never by path."""
    source = volume.source
    if source is None:
        return InputRecord(role, "memory", sha256="", file_count=0)
    files = [Path(name) for name in source.files or (source.path,)]
    return InputRecord(role, source.format, sha256_of(files), len(files), source.series_uid)


def default_formats(volume: Volume) -> tuple[str, ...]:
    """Return the format a segmentation of this scan is written in where none was asked for."""
    return ("nii.gz",) if volume.source is not None and volume.source.format.startswith("NIfTI") else ("seg.nrrd",)


def write_result(
    result: Result,
    folder: Path,
    *,
    formats: Sequence[str],
    overwrite: bool,
    truth: Mapping[str, Any] | None = None,
    reading: ReadOptions | None = None,
) -> dict[str, Path]:
    """Write everything a run leaves behind; each file gets its name only when it was read back and found right."""
    check_folder(folder)
    files: dict[str, Path] = {}
    for name in formats:
        path = folder / f"segmentation{FORMATS[name]}"
        files[f"segmentation.{name}"] = write(result.label_map, path, source=result.volume, overwrite=overwrite)
    record = {"reading": choices_of(reading or ReadOptions()), "findings": [finding.to_dict() for finding in result.findings]}
    document = result.table.to_dict() | record
    files["measurements.csv"] = write_text(folder / "measurements.csv", measurements_csv(result.table), overwrite=overwrite)
    files["measurements.json"] = write_text(folder / "measurements.json", _json(document), overwrite=overwrite)
    files |= _write_report(result, folder, overwrite=overwrite, truth=truth)
    # Written last: its presence says that the folder is complete
    files["provenance.json"] = write_text(folder / "provenance.json", _json(result.provenance.to_dict() | record), overwrite=overwrite)
    return files


def _write_report(result: Result, folder: Path, *, overwrite: bool, truth: Mapping[str, Any] | None) -> dict[str, Path]:
    """Write pictures and report; without the extra that draws them the run still counts."""
    files: dict[str, Path] = {}
    try:
        pictures = draw(result)
        content = ReportContent(
            title=result.pipeline.title or result.pipeline.name,
            volume=result.volume,
            label_map=result.label_map,
            table=result.table,
            findings=result.findings,
            provenance=result.provenance,
            pictures=pictures,
            truth=truth,
        )
        report = report_html(content)
    except MissingDependencyError:
        return files  # the command line says which extra draws the report
    for picture in pictures:
        name = f"pictures/{picture.name}.png"
        files[name] = write_bytes(check_folder(folder / "pictures") / f"{picture.name}.png", picture.png, overwrite=overwrite)
    files["report.html"] = write_text(folder / "report.html", report, overwrite=overwrite)
    return files


def draw(result: Result) -> tuple[Picture, ...]:
    """Return the pictures of a report; raises MissingDependencyError without the extra `report`."""
    from medseg.reporting.figures import axial_montage_png, segment_gallery_png, three_planes_png
    from medseg.reporting.rendering import render_3d_png

    volume, label_map, table = result.volume, result.label_map, result.table
    return (
        Picture(
            "three_planes",
            "Axial, coronal and sagittal plane with the outlines of the segments",
            three_planes_png(volume, label_map, table=table),
        ),
        Picture("rendering_3d", "Surfaces of the segments, seen from the front", render_3d_png(label_map, table=table)),
        Picture("axial_slices", "Axial slices from superior to inferior", axial_montage_png(volume, label_map)),
        Picture("segments", "Each segment where it is largest", segment_gallery_png(volume, label_map, table=table)),
    )


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def write_phantom(made: Phantom, folder: Path, *, form: str = "both", compressed: bool = False, overwrite: bool = False) -> dict[str, Path]:
    """Write a phantom: `dicom/` and `image.nii.gz` (as `form` says), `labels.nii.gz` with its names, and `truth.json`."""
    check_folder(folder)
    files: dict[str, Path] = {}
    if form in ("both", "dicom"):
        from medseg.io.dicom.series import write_series

        seed = f"medseg.phantom {made.truth['name']} {made.truth['seed']} {made.volume.geometry.spacing_mm}"
        write_series(made.volume, folder / "dicom", seed=seed, compressed=compressed, overwrite=overwrite)
        files["dicom"] = folder / "dicom"
    if form in ("both", "nifti"):
        files["image"] = write(made.volume, folder / "image.nii.gz", overwrite=overwrite)
    files["labels"] = write(made.label_map, folder / "labels.nii.gz", overwrite=overwrite)
    files["truth"] = write_text(folder / "truth.json", _json(made.truth), overwrite=overwrite)
    return files
