"""Reports: of the folder of a run, of several beside each other, and of segmentations that were drawn elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from medseg.core.errors import OutputError, UnreadableFileError
from medseg.core.provenance import InputRecord, Provenance
from medseg.io.atomic import check_folder, check_writable, write_bytes, write_text
from medseg.io.dicom_objects import kind_of_object
from medseg.io.hashing import sha256_of
from medseg.io.measured import Measured, measure_file
from medseg.io.options import ReadOptions
from medseg.io.read import find_reader
from medseg.io.report import choices_of
from medseg.io.write import write
from medseg.outputs.case_folder import read_case
from medseg.outputs.lesion_section import lesion_sections, write_lesions
from medseg.outputs.pictures import draw_pictures
from medseg.outputs.run_folder import as_json, input_record, refuse_finished, write_pictures
from medseg.pipeline import package_versions
from medseg.reporting.comparison import Case, compare_cases
from medseg.reporting.html import ReportContent, methods_of_contents, report_html
from medseg.reporting.methods_text import MethodsText
from medseg.reporting.table import measurements_csv

_MARK = b'<meta name="generator" content="medseg">'


@dataclass(frozen=True)
class Given:
    """A segmentation that was drawn elsewhere, its scan, and what to call the case ("" : by its modality)."""

    segmentation: Path
    image: Path | None = None
    name: str = ""


@dataclass(frozen=True)
class ReportOptions:
    """What a report is made with: its title, whom the scans are owed to, what is written beside the HTML.

    `lesions` measures the diameters of each lesion too, where segmentations are given.
    """

    title: str = ""
    attribution: str = ""
    pdf: bool = False
    methods_text: bool = False
    parquet: bool = False
    lesions: bool = False
    overwrite: bool = False


@dataclass(frozen=True)
class ReportOutput:
    """A finished report: what it shows, and its files by what they are."""

    contents: tuple[ReportContent, ...]
    files: Mapping[str, Path]

    @property
    def text(self) -> MethodsText | None:
        """The methods, results, citations and licences of all cases that have a record of their run."""
        return methods_of_contents(self.contents)


def report_of_folders(
    folders: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    image: str | Path | None = None,
    reading: ReadOptions | None = None,
    options: ReportOptions | None = None,
) -> ReportOutput:
    """Make the report of one run folder anew, or one report of several with a comparison; into the folder itself, or `output`.

    A report that medseg made is replaced in its own folder; anything else only with `options.overwrite`. A folder of cases
    (made by `report_of_segmentations`) stands for all of them. Raises what reading a folder raises, OutputError for several
    folders without `output`.
    """
    options = options or ReportOptions()
    cases = [case for folder in folders for case in _cases(Path(folder))]
    if output is None and len(folders) > 1:
        raise OutputError("a report of several folders needs a folder of its own: give -o FOLDER")
    target = Path(folders[0] if output is None else output)
    contents = tuple(read_case(folder, image=image, reading=reading) for folder in cases)
    if len(contents) == 1 and options.title:
        contents = (replace(contents[0], title=options.title),)
    return ReportOutput(contents, _write(contents, target, options, in_place=output is None))


def report_of_segmentations(
    given: Sequence[Given], output: str | Path, *, reading: ReadOptions | None = None, options: ReportOptions | None = None
) -> ReportOutput:
    """Measure segmentations that were drawn elsewhere on their scans, and write for each what a run would leave behind.

    One goes into `output` itself; several into a folder each below it, with one report of all and comparison.json at the top.
    Raises what reading and measuring raise, OutputExistsError where the folder holds a run already.
    """
    options = options or ReportOptions()
    reading = reading or ReadOptions()
    folder = Path(output)
    refuse_finished(folder, options.overwrite)
    check_writable(folder)
    done = [_measured(one, reading, options.lesions) for one in given]
    names = _unique_names([content.title for content, _ in done])
    single = len(done) == 1
    contents = []
    files: dict[str, Path] = {}
    for (content, measured), name in zip(done, names, strict=True):
        title = (options.title or f"{name} volumes") if single else name
        titled = replace(content, title=title, document={**(content.document or {}), "title": title})
        place = folder if single else folder / _file_name(name)
        written = _write_case(titled, measured, place, options)
        if not single:
            alone = replace(options, pdf=False, methods_text=False, parquet=False, title="")
            written["report.html"] = _write((titled,), place, alone)["report.html"]
        files |= {key if single else f"{place.name}/{key}": path for key, path in written.items()}
        contents.append(titled)
    return ReportOutput(tuple(contents), files | _write(tuple(contents), folder, options))


def _cases(folder: Path) -> list[Path]:
    """The folder itself, or the folders of cases below it where it holds a comparison of them."""
    listed = folder / "cases.json"
    if not listed.is_file():
        return [folder]
    from medseg.outputs.case_folder import read_document

    names = [str(name) for name in read_document(listed).get("cases", ())]
    return [folder / name for name in names if Path(name).name == name]


def _measured(one: Given, reading: ReadOptions, with_lesions: bool) -> tuple[ReportContent, Measured]:
    started = _now()
    measured = measure_file(one.segmentation, one.image, reading)
    volume, layers = measured.volume, measured.layers or ()
    inputs = [] if volume is None else [input_record(volume)]
    files = _files(one.segmentation)
    inputs.append(InputRecord("segmentation", _format_of(one.segmentation), sha256_of(files), len(files)))
    notes = ("The segmentation was given; medseg measured it.",)
    provenance = Provenance(package_versions(), tuple(inputs), started=started, finished=_now(), notes=notes)
    record = {"findings": [finding.to_dict() for finding in measured.findings], "reading": choices_of(reading)}
    content = ReportContent(
        title=one.name or measured.table.modality or "Segmentation",
        volume=volume,
        label_map=max(layers, key=lambda layer: len(layer.segments)) if layers else None,
        table=measured.table,
        findings=measured.findings,
        provenance=provenance,
        pictures=draw_pictures(volume, layers, measured.table) if layers else (),
        document=measured.table.to_dict() | record,
        sections=tuple(lesion_sections(layers, volume)) if with_lesions and layers else (),
    )
    return content, measured


def _write_case(content: ReportContent, measured: Measured, folder: Path, options: ReportOptions) -> dict[str, Path]:
    check_folder(folder)
    overwrite = options.overwrite
    files: dict[str, Path] = {}
    if measured.layers:
        files["segmentation.seg.nrrd"] = write(measured.layers, folder / "segmentation.seg.nrrd", overwrite=overwrite)
    files["measurements.csv"] = write_text(folder / "measurements.csv", measurements_csv(content.table), overwrite=overwrite)
    files["measurements.json"] = write_text(folder / "measurements.json", as_json(content.document or {}), overwrite=overwrite)
    files |= write_pictures(content, folder, overwrite=overwrite)
    for section in content.sections:
        files |= write_lesions(section, folder, overwrite=overwrite)
    if content.provenance is not None:
        files["provenance.json"] = write_text(folder / "provenance.json", as_json(content.provenance.to_dict()), overwrite=overwrite)
    return files


def _write(contents: tuple[ReportContent, ...], folder: Path, options: ReportOptions, in_place: bool = False) -> dict[str, Path]:
    """Write the report and what was asked for beside it; everything is made before anything is written."""
    html = report_html(contents, title=options.title, attribution=options.attribution)
    pdf = None
    if options.pdf:
        from medseg.reporting.pdf import report_pdf

        pdf = report_pdf(html)
    text = methods_of_contents(contents) if options.methods_text else None
    if options.methods_text and text is None:
        raise UnreadableFileError("the folder has no provenance.json: nothing recorded what ran, so there is no methods text")
    markdown = "" if text is None else text.markdown()
    check_folder(folder)
    over = options.overwrite
    files = {"report.html": write_text(folder / "report.html", html, overwrite=over or (in_place and _is_ours(folder / "report.html")))}
    if pdf is not None:
        files["report.pdf"] = write_bytes(folder / "report.pdf", pdf, overwrite=over or in_place)
    if text is not None:
        files["methods.md"] = write_text(folder / "methods.md", markdown, overwrite=over)
        files["references.bib"] = write_text(folder / "references.bib", text.bibtex, overwrite=over)
    if options.parquet:
        files |= _write_parquet(folder, over or in_place)
    if len(contents) > 1:
        files |= _write_comparison(contents, folder, over or in_place)
    return files


def _write_parquet(folder: Path, overwrite: bool) -> dict[str, Path]:
    """Write each CSV table of the folder, and of the cases below it, as Parquet beside it."""
    from medseg.reporting.columns import TABLES
    from medseg.reporting.parquet import parquet_of

    files = {}
    for name, schema in TABLES.items():
        for path in (folder / name, *sorted(folder.glob(f"*/{name}"))):
            if path.is_file():
                target = path.with_suffix(".parquet")
                data = parquet_of(path.read_text(encoding="utf-8"), schema)
                files[str(target.relative_to(folder))] = write_bytes(target, data, overwrite=overwrite)
    return files


def _write_comparison(contents: Sequence[ReportContent], folder: Path, overwrite: bool) -> dict[str, Path]:
    rows = [row.to_dict() for row in compare_cases([Case(content.title, content.table) for content in contents])]
    document: dict[str, Any] = {"schema": "medseg.comparison/1", "cases": [content.title for content in contents], "structures": rows}
    files = {"comparison.json": write_text(folder / "comparison.json", as_json(document), overwrite=overwrite)}
    names = [_file_name(content.title) for content in contents]
    if all((folder / name / "measurements.json").is_file() for name in names):
        text = json.dumps({"schema": "medseg.cases/1", "cases": names}, indent=2, ensure_ascii=False) + "\n"
        files["cases.json"] = write_text(folder / "cases.json", text, overwrite=overwrite)
    return files


def _is_ours(path: Path) -> bool:
    """Whether a file is a report that medseg made; its head says so."""
    try:
        with path.open("rb") as file:
            return _MARK in file.read(4096)
    except OSError:
        return False


def _format_of(path: Path) -> str:
    reader = find_reader(path)
    return reader.name if reader is not None else kind_of_object(path) or "dicom"


def _files(path: Path) -> list[Path]:
    return sorted(entry for entry in path.rglob("*") if entry.is_file()) if path.is_dir() else [path]


def _unique_names(names: Sequence[str]) -> list[str]:
    """Names with a number behind those that occur more than once."""
    counted: dict[str, int] = {}
    found = []
    for name in names:
        counted[name] = counted.get(name, 0) + 1
        found.append(f"{name} {counted[name]}" if names.count(name) > 1 else name)
    return found


def _file_name(name: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "-_" else "_" for sign in name).strip("_") or "case"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
