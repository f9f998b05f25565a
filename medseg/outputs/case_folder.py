"""The folder of a run read back as what its report shows: tables, record, segmentation, pictures, and the scan where it is given."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medseg.core.errors import UnreadableFileError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.measurement import MeasurementTable
from medseg.core.provenance import Provenance
from medseg.core.volume import Volume
from medseg.io.options import ReadOptions
from medseg.io.read import read_layers, read_with
from medseg.outputs.pictures import draw_pictures
from medseg.preprocessing.resample import fit_to
from medseg.reporting.documents import findings_from_document, provenance_from_document, table_from_document
from medseg.reporting.html import Picture, ReportContent
from medseg.reporting.number_check import ReportNumberError
from medseg.reporting.sections import NamedPicture, Section, section_of

_SEGMENTATIONS = ("seg.nrrd", "nii.gz", "nii", "nrrd", "mha", "dcm")
_MOST_BYTES = 1 << 28
_CAPTIONS = {
    "three_planes": "Axial, coronal and sagittal plane with the outlines of the segments",
    "rendering_3d": "Surfaces of the segments, seen from the front",
    "axial_slices": "Axial slices from superior to inferior",
    "segments": "Each segment where it is largest",
}
_FURTHER = ("lesions.json", "change.json")
_PLOTS = ("waterfall", "spider")


def is_case(folder: Path) -> bool:
    """Whether a folder holds measurements, lesions or changes of medseg."""
    return any((folder / name).is_file() for name in ("measurements.json", *_FURTHER))


def read_case(folder: Path, *, image: str | Path | None = None, reading: ReadOptions | None = None, title: str = "") -> ReportContent:
    """Return what a report of this folder shows.

    Pictures are drawn anew where the scan is given with `image`, else those of the folder are shown; where it has none, the
    surfaces are drawn from the segmentation. A segmentation whose voxels are no longer those that were measured is a finding of
    severity error. Raises UnreadableFileError where the folder holds no result of medseg, ReportNumberError where its CSV and
    JSON tables disagree, GeometryMismatchError where the scan lies on another grid.
    """
    if not is_case(folder):
        raise UnreadableFileError(
            f"{folder.name or folder} holds no measurements.json (nor lesions.json, change.json): give the folder of a medseg run, or "
            "--segmentation SEG --image SCAN -o FOLDER to make one"
        )
    document = read_document(folder / "measurements.json") if (folder / "measurements.json").is_file() else None
    table = MeasurementTable(()) if document is None else table_from_document(document)
    if document is not None:
        check_csv(folder / "measurements.csv", document)
    layers = _segmentation(folder)
    volume = None
    if image is not None:
        volume = _as_measured(read_with(image, reading or ReadOptions()), table)
        layers = tuple(fit_to(layer, volume.geometry) for layer in layers)
    provenance = _provenance(folder)
    findings = findings_from_document(document or {})
    findings += tuple(_changed(layers, table))
    pictures = draw_pictures(volume, layers, table) if layers and volume is not None else _kept(folder, layers, table)
    return ReportContent(
        title=title or str((document or {}).get("title") or f"{table.modality} volumes".strip()),
        volume=volume,
        label_map=_joined(layers),
        table=table,
        findings=findings,
        provenance=provenance,
        pictures=pictures,
        truth=(document or {}).get("truth"),
        document=document,
        sections=tuple(_sections(folder)),
    )


def read_document(path: Path) -> dict[str, Any]:
    """Return a JSON document of medseg; raises UnreadableFileError where it is none."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UnreadableFileError(f"{path.name} is too large for a document of medseg; make it anew")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise UnreadableFileError(f"{path.name} cannot be read as JSON ({type(err).__name__}): make it anew with medseg") from err
    if not isinstance(content, dict):
        raise UnreadableFileError(f"{path.name} is no document of medseg: it should hold one JSON object")
    return content


def check_csv(path: Path, document: Mapping[str, Any]) -> None:
    """Compare the volumes of a CSV table with the document beside it; raises ReportNumberError that names the first difference.

    Nothing is compared where there is no CSV.
    """
    if not path.is_file():
        return
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
        found = {int(row["number"]): row["volume_ml"] for row in rows}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as err:
        raise UnreadableFileError(f"{path.name} is no table of medseg measure ({type(err).__name__}): measure again") from err
    for row in document["segments"]:
        text, value = found.get(int(row["number"]), "no row"), row["volume_ml"]
        if text != ("" if value is None else str(value)) and (value is None or not _equal(text, value)):
            raise ReportNumberError(
                f"{path.name} gives {text or 'nothing'} as volume_ml of {row['label']}, measurements.json gives {value}: one of them was "
                "changed after the run. Measure again (medseg measure), then make the report anew",
                text,
            )


def _equal(text: str, value: float) -> bool:
    try:
        return abs(float(text) - value) <= 1e-9 * max(1.0, abs(value))
    except ValueError:
        return False


def _segmentation(folder: Path) -> tuple[LabelMap, ...]:
    for ending in _SEGMENTATIONS:
        path = folder / f"segmentation.{ending}"
        if path.is_file():
            return read_layers(path)
    return ()


def _provenance(folder: Path) -> Provenance | None:
    path = folder / "provenance.json"
    return provenance_from_document(read_document(path)) if path.is_file() else None


def _as_measured(volume: Volume, table: MeasurementTable) -> Volume:
    """A scan that does not say its modality is shown as the run took it."""
    return replace(volume, modality=volume.modality or table.modality, unit=volume.unit or table.unit)


def _changed(layers: Sequence[LabelMap], table: MeasurementTable) -> Iterator[Finding]:
    """Voxels are counted again: a segmentation that was edited after it was measured must not stand beside the old volumes."""
    from medseg.kernels.statistics import label_statistics

    counted: dict[str, int] = {}
    for layer in layers:
        found = label_statistics(layer.array.T)
        voxels = {int(number): int(count) for number, count in zip(found.numbers, found.voxels, strict=True)}
        counted |= {segment.label: voxels.get(segment.number, 0) for segment in layer.segments}
    if not counted:
        return
    differing = [row for row in table if counted.get(row.label) != row.voxel_count]
    if differing:
        first = differing[0]
        text = (
            f"the segmentation is not the one that was measured: {first.label} has {counted.get(first.label, 0)} voxels, the table says "
            f"{first.voxel_count} ({len(differing)} segments differ). Measure it again before you use a volume of this report"
        )
        yield Finding("SEGMENTATION_CHANGED", Severity.ERROR, text, {"segments": [row.label for row in differing]})


def _kept(folder: Path, layers: Sequence[LabelMap], table: MeasurementTable) -> tuple[Picture, ...]:
    """The pictures that lie in the folder, those of known names; drawn from the segmentation where there are none."""
    labels = {f"segment_{row.number}": row.label for row in table}
    captions = _CAPTIONS | {name: f"{label} where it is largest in each plane" for name, label in labels.items()}
    found = []
    for name, caption in captions.items():
        path = folder / "pictures" / f"{name}.png"
        if path.is_file():
            found.append(Picture(name, caption, _png(path), labels.get(name, "")))
    return tuple(found) if found or not layers else draw_pictures(None, layers, table)


def _png(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as err:
        raise UnreadableFileError(f"pictures/{path.name} cannot be read ({err.strerror}): make the report anew with --image SCAN") from err
    if not data.startswith(b"\x89PNG"):
        raise UnreadableFileError(f"pictures/{path.name} is no PNG: make the report anew with --image SCAN")
    return data


def _sections(folder: Path) -> Iterator[Section]:
    for name in _FURTHER:
        path = folder / name
        if path.is_file():
            document = read_document(path)
            section = section_of(document, tuple(_section_pictures(folder, document)))
            if section is not None:
                yield section


def _section_pictures(folder: Path, document: Mapping[str, Any]) -> Iterator[NamedPicture]:
    """The caliper picture of each lesion and the plots of a change, where they lie in the folder."""
    for plot in _PLOTS:
        path = folder / f"{plot}.svg"
        if path.is_file():
            yield plot, f"{plot.capitalize()} plot", path.read_bytes()
    for entry in document.get("lesions") or ():
        name = str(entry.get("id", ""))
        path = folder / "pictures" / f"{name}.png"
        if name and Path(name).name == name and path.is_file():
            yield name, f"{name}: longest diameter in the plane and the longest across it", _png(path)


def _joined(layers: Sequence[LabelMap]) -> LabelMap | None:
    """The layer with most segments, under the names and colours of all: for swatches; pictures are drawn by layer."""
    return max(layers, key=lambda layer: len(layer.segments)) if layers else None
