"""Corrected segmentations of cases that a reviewer sent back: `corrections/<case id>.seg.nrrd` or `.nii.gz`, measured once each.

A correction is measured on the grid of the segmentation it corrects: volumes and places as for any other case. The scan is not
needed, and so intensities are not measured again. What was measured is kept beside the correction, with its SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.batch.records.layout import Layout
from medseg.core.errors import MedsegError, UnreadableFileError
from medseg.io.atomic import write_text

if TYPE_CHECKING:
    from medseg.core.geometry import Geometry
    from medseg.core.label_map import LabelMap

_SEGMENTATIONS = ("seg.nrrd", "nii.gz", "nii", "nrrd", "dcm")
_MEASURED = ".measurements.json"
_NAME = re.compile(r"([0-9a-f]{16})(\.seg\.nrrd|\.nii\.gz)")
_SCHEMA = "medseg.correction/1"
_NO_INTENSITY = "corrected by hand: intensities are not measured again, for the scan is not read"


@dataclass(frozen=True)
class Correction:
    """A corrected segmentation: its file and SHA-256; `problem` says why it cannot be used."""

    path: Path
    sha256: str
    problem: str = ""


def find_corrections(layout: Layout) -> dict[str, Correction]:
    """Return the corrections that lie in the folder, by case id."""
    found: dict[str, Correction] = {}
    try:
        paths = sorted(layout.corrections.iterdir())
    except OSError:
        return {}
    for path in paths:
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        case_id = match[1]
        if case_id in found:
            found[case_id] = replace(found[case_id], problem="two corrections lie in corrections/: keep one")
            continue
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[case_id] = Correction(path, digest)
        except OSError as err:
            found[case_id] = Correction(path, "", f"corrections/{path.name} cannot be read ({err.strerror})")
    return found


def measured_correction(layout: Layout, case_id: str, correction: Correction, original: Mapping[str, Any]) -> dict[str, Any]:
    """Return the measurements of a correction in place of `original`, those of the case as it was segmented.

    Segments are found by their names, in a NIfTI by the numbers of the original. One that the correction does not hold is
    `not_attempted`. Raises MedsegError where the correction cannot be used: another grid, an unknown number, an unreadable file.
    """
    if correction.problem:
        raise UnreadableFileError(correction.problem)
    segments = [(int(row["number"]), str(row["label"])) for row in original["segments"]]
    names = hashlib.sha256(json.dumps(segments).encode()).hexdigest()
    made_from = {"schema": _SCHEMA, "correction_sha256": correction.sha256, "segments_sha256": names}
    kept = layout.corrections / f"{case_id}{_MEASURED}"
    known = _kept(kept)
    if known is not None and known.get("made_from") == made_from:
        return known
    document = _measured(layout.case(case_id), correction, segments, original) | {"made_from": made_from}
    write_text(kept, json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n", overwrite=True)
    return document


def _kept(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) and isinstance(document.get("segments"), list) else None


def _measured(folder: Path, correction: Correction, segments: Sequence[tuple[int, str]], original: Mapping[str, Any]) -> dict[str, Any]:
    from medseg.io.read import read_layers
    from medseg.measurement.measure import measure
    from medseg.preprocessing.resample import fit_to

    name = f"corrections/{correction.path.name}"
    geometry = _grid(folder, name)
    try:
        layers = tuple(fit_to(layer, geometry) for layer in read_layers(correction.path))
    except MedsegError as err:
        raise UnreadableFileError(f"{name} cannot be used: {_said(err, correction.path)}") from err
    named = [_named(layer, segments, name, correction.path.name.endswith(".nii.gz")) for layer in layers]
    rows = [row.to_dict() for layer in named for row in measure(layer)]
    held = {row["label"] for row in rows}
    absent = [(number, label) for number, label in segments if label not in held]
    rows += [_not_attempted(number, label) for number, label in absent]
    had = {str(row["label"]) for row in original["segments"] if row.get("mean") is not None}
    numbers = {label: number for number, label in segments}
    for row in rows:
        row["number"] = numbers.get(row["label"], row["number"])
        if row["label"] in had:
            row |= {"mean": None, "mean_reason": _NO_INTENSITY}
    order = {label: n for n, (_, label) in enumerate(segments)}
    rows.sort(key=lambda row: (order.get(row["label"], len(order)), row["number"]))
    findings = [finding.to_dict() for layer in named for finding in layer.findings]
    kept = {key: original[key] for key in ("schema", "modality", "intensity_unit") if key in original}
    return kept | {"segments": rows, "findings": findings}


def _grid(folder: Path, name: str) -> Geometry:
    """The grid of the segmentation that is corrected."""
    from medseg.io.read import read_layers

    for ending in _SEGMENTATIONS:
        path = folder / f"segmentation.{ending}"
        if path.is_file():
            try:
                return read_layers(path)[0].geometry
            except MedsegError as err:
                raise UnreadableFileError(f"{name} cannot be used: the segmentation of the case cannot be read, run it again") from err
    raise UnreadableFileError(f"{name} cannot be used: the case has no segmentation whose grid it could be measured on")


def _named(layer: LabelMap, segments: Sequence[tuple[int, str]], name: str, by_number: bool) -> LabelMap:
    """Give a label map the names and numbers of the original: those of a NIfTI by number, any other by name."""
    labels, numbers = dict(segments), {label: number for number, label in segments}
    if by_number:
        unknown = [segment.number for segment in layer.segments if segment.number not in labels]
        if unknown:
            raise UnreadableFileError(
                f"{name} holds the number {unknown[0]}, which the segmentation does not have: save it with the numbers of the original, or "
                "as .seg.nrrd, which names its segments"
            )
        from medseg.core.segment import Segment

        drawn = {segment.number: segment for segment in layer.segments}
        whole = tuple(
            replace(drawn[number], label=label) if number in drawn else Segment(number, label) for number, label in labels.items()
        )
        return replace(layer, segments=whole)
    strange = [segment.label for segment in layer.segments if segment.label not in numbers]
    if strange and len(strange) == len(layer.segments):
        raise UnreadableFileError(
            f"{name}: none of its segments has the name of a segment of the case ({', '.join(sorted(numbers)[:5])}); rename them in it"
        )
    return layer


def _not_attempted(number: int, label: str) -> dict[str, Any]:
    reason = "the correction holds no such segment"
    empty = ("volume_ml", "volume_interval_ml", "volume_sd_ml", "visible_ml", "centroid_ras_mm", "bounding_box_ijk")
    row = {"number": number, "label": label, "status": "not_attempted", "reason": reason, "voxel_count": None, "touches_border": []}
    return row | dict.fromkeys(empty)


def _said(err: MedsegError, path: Path) -> str:
    """The message of an error without the folder that it names."""
    return str(err).replace(str(path), path.name).replace(str(path.parent), "corrections")
