"""One scan the whole way, and the folder it ends in: segmentation, tables, pictures, report and provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
from medseg.outputs.pictures import draw_pictures
from medseg.pipeline import Pipeline, Result, apply, load_pipeline, prepare
from medseg.reporting.html import Picture, ReportContent, report_html
from medseg.reporting.table import measurements_csv

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
    refuse_finished(folder, overwrite)
    check_writable(folder)
    how = reading or ReadOptions(**choice)
    volume = read_with(input, how)
    volume = replace(volume, findings=(*volume.findings, *contrast_findings(volume)))
    result = apply(chosen, volume, settings=settings, inputs=[input_record(volume)])
    wanted = formats or default_formats(volume)
    return RunOutput(result, write_result(result, folder, formats=wanted, overwrite=overwrite, truth=truth, reading=how))


def refuse_finished(folder: Path, overwrite: bool) -> None:
    """Raise OutputExistsError where a folder holds a run already and may not be overwritten."""
    if not overwrite and (folder / "provenance.json").exists():
        raise OutputExistsError(f"{folder.name} holds a run already: choose another folder or ask to overwrite")


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
    files, document = _write_numbers(result, folder, formats, overwrite, truth, reading)
    try:
        pictures = draw(result)
    except MissingDependencyError:
        pictures = ()  # the command line says which extra draws the report
    else:
        content = ReportContent(
            document["title"],
            result.volume,
            result.label_map,
            result.table,
            result.findings,
            result.provenance,
            pictures,
            truth=truth,
            document=document,
        )
        files |= write_report(content, folder, overwrite=overwrite)
    # Written last: its presence says that the folder is complete
    files["provenance.json"] = _write_provenance(result, folder, document, overwrite)
    return files


def write_numbers(result: Result, folder: Path, *, formats: Sequence[str], reading: ReadOptions | None = None) -> dict[str, Path]:
    """Write a run without pictures and report into an empty folder that is there."""
    files, document = _write_numbers(result, folder, formats, False, None, reading)
    return files | {"provenance.json": _write_provenance(result, folder, document, False)}


def _write_numbers(
    result: Result,
    folder: Path,
    formats: Sequence[str],
    overwrite: bool,
    truth: Mapping[str, Any] | None,
    reading: ReadOptions | None,
) -> tuple[dict[str, Path], dict[str, Any]]:
    """Write segmentation and tables; return the files and what measurements.json holds."""
    files: dict[str, Path] = {}
    for name in formats:
        path = folder / f"segmentation{FORMATS[name]}"
        files[f"segmentation.{name}"] = write(result.label_map, path, source=result.volume, overwrite=overwrite)
    record = {"reading": choices_of(reading or ReadOptions()), "findings": [finding.to_dict() for finding in result.findings]}
    title = result.pipeline.title or result.pipeline.name
    document = result.table.to_dict() | record | {"title": title} | ({"truth": dict(truth)} if truth is not None else {})
    files["measurements.csv"] = write_text(folder / "measurements.csv", measurements_csv(result.table), overwrite=overwrite)
    files["measurements.json"] = write_text(folder / "measurements.json", as_json(document), overwrite=overwrite)
    return files, document


def _write_provenance(result: Result, folder: Path, document: Mapping[str, Any], overwrite: bool) -> Path:
    record = {name: document[name] for name in ("reading", "findings")}
    return write_text(folder / "provenance.json", as_json(result.provenance.to_dict() | record), overwrite=overwrite)


def write_report(content: ReportContent, folder: Path, *, overwrite: bool, attribution: str = "") -> dict[str, Path]:
    """Write the pictures of a content and its report.html, which is put together before anything is written."""
    report = report_html(content, attribution=attribution)
    files = write_pictures(content, folder, overwrite=overwrite)
    return files | {"report.html": write_text(folder / "report.html", report, overwrite=overwrite)}


def write_pictures(content: ReportContent, folder: Path, *, overwrite: bool) -> dict[str, Path]:
    """Write the pictures of a content into pictures/."""
    files = {}
    for picture in content.pictures:
        name = f"pictures/{picture.name}.png"
        files[name] = write_bytes(check_folder(folder / "pictures") / f"{picture.name}.png", picture.png, overwrite=overwrite)
    return files


def draw(result: Result) -> tuple[Picture, ...]:
    """Return the pictures of a run; raises MissingDependencyError without the extra `report`."""
    return draw_pictures(result.volume, (result.label_map,), result.table)


def as_json(document: Mapping[str, Any]) -> str:
    """Return a document as the text of a file; NaN and infinity raise."""
    return json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
