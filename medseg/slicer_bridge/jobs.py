"""The protocol between a host such as 3D Slicer and the process that works for it: one JSON object a line, "medseg.job/1".

The host writes jobs and cancellations to the worker's standard input, the worker writes events to its standard output; arrays
pass through `.npy` files. Each job ends with exactly one `result` or `error`. Standard library only, so that every host can
speak it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medseg.slicer_bridge.job_fields import (
    Extent,
    FieldRule,
    JobFormatError,
    Matrix,
    checked_boolean,
    checked_extent,
    checked_matrix,
    checked_number,
    checked_object,
    checked_optional_number,
    checked_table,
    checked_text,
    is_empty,
    is_list_of,
    list_of,
    quoted,
)

PROTOCOL = "medseg.job/1"
FORMATS = ("seg.nrrd", "nii.gz", "dicom-seg", "sr", "csv", "report")

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")  # it begins the names of the files that a job makes


@dataclass(frozen=True)
class ScanRef:
    """A scan by reference: a memory-mapped array with its grid, or a path that `medseg.read` reads.

    `array` is a `.npy` file with axes (k,j,i); `ijk_to_ras` maps its index (i,j,k) to mm, and `parent_to_world`, a linear
    transform above it, maps these on to RAS. `key` names the scan with its state: a changed scan has another key.

    >>> ScanRef.from_json({"path": "study/CT", "series": None}).key
    'study/CT'
    """

    key: str
    array: str = ""
    ijk_to_ras: Matrix | None = None
    parent_to_world: Matrix | None = None
    modality: str = ""
    unit: str = ""
    name: str = ""
    path: str = ""
    series: str | None = None

    @staticmethod
    def from_json(entry: Any, where: str = "scan") -> ScanRef:
        """Return the checked reference of a JSON form; raises JobFormatError."""
        values = checked_object(
            entry, where, {"key", "array", "ijk_to_ras", "parent_to_world", "modality", "unit", "name", "path", "series"}
        )
        texts = {
            name: checked_text(values.get(name) or "", f"{where}.{name}") for name in ("key", "array", "modality", "unit", "name", "path")
        }
        if bool(texts["array"]) == bool(texts["path"]):
            raise JobFormatError(f"{where} needs either `array` (a .npy file) or `path` (a file or folder to read)")
        grid = checked_matrix(values.get("ijk_to_ras"), f"{where}.ijk_to_ras")
        if texts["array"] and grid is None:
            raise JobFormatError(f"{where}.ijk_to_ras is missing: without it the voxels have no place in the patient")
        series = values.get("series")
        return ScanRef(
            **{**texts, "key": texts["key"] or texts["array"] or texts["path"]},
            ijk_to_ras=grid,
            parent_to_world=checked_matrix(values.get("parent_to_world"), f"{where}.parent_to_world"),
            series=None if series is None else checked_text(series, f"{where}.series"),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, without what is empty."""
        return {name: value for name, value in vars(self).items() if value not in (None, "")}


@dataclass(frozen=True)
class LayerRef:
    """One array of labels: a `.npy` file (k,j,i) of whole numbers and the box of the scan's voxels that it covers."""

    array: str
    extent: Extent


@dataclass(frozen=True)
class LabelsRef:
    """Segments by reference: arrays cropped to the box they fill, on a grid of `shape` (K,J,I).

    `extent` (i0,i1,j0,j1,k0,k1) counts voxels of that grid, ends included; (0,-1,0,-1,0,-1) is empty. `segments` are the JSON
    forms of `Segment`; each value of an array is a segment's number. Segments that share voxels lie in further `layers`.
    """

    layers: tuple[LayerRef, ...]
    shape: tuple[int, int, int]
    ijk_to_ras: Matrix
    segments: tuple[dict[str, Any], ...]
    parent_to_world: Matrix | None = None

    @staticmethod
    def from_json(entry: Any, where: str = "labels") -> LabelsRef:
        """Return the checked reference of a JSON form; raises JobFormatError."""
        known = {"array", "extent", "shape", "ijk_to_ras", "parent_to_world", "segments", "layers"}
        values = checked_object(entry, where, known)
        shape: Any = values.get("shape")
        if not is_list_of(shape, int, 3) or min(shape) < 1:
            raise JobFormatError(f"{where}.shape must be three whole numbers above 0, the (K,J,I) of the grid")
        grid = checked_matrix(values.get("ijk_to_ras"), f"{where}.ijk_to_ras")
        if grid is None:
            raise JobFormatError(f"{where}.ijk_to_ras is missing: without it the labels have no place in the patient")
        segments = values.get("segments")
        if not isinstance(segments, list) or not all(isinstance(one, dict) for one in segments):
            raise JobFormatError(f"{where}.segments must be a list of segments, each with number and label")
        given = values.get("layers") or [{"array": values.get("array"), "extent": values.get("extent")}]
        if not isinstance(given, list):
            raise JobFormatError(f"{where}.layers must be a list of objects with array and extent")
        layers = tuple(_layer(one, shape, f"{where}.layers {n}" if len(given) > 1 else where) for n, one in enumerate(given, 1))
        parent = checked_matrix(values.get("parent_to_world"), f"{where}.parent_to_world")
        return LabelsRef(layers, (shape[0], shape[1], shape[2]), grid, tuple(segments), parent)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form: `array` and `extent` are those of the first layer, `layers` lists all where there are several."""
        entry: dict[str, Any] = {
            "array": self.layers[0].array,
            "extent": list(self.layers[0].extent),
            "shape": list(self.shape),
            "ijk_to_ras": [list(row) for row in self.ijk_to_ras],
            "parent_to_world": None if self.parent_to_world is None else [list(row) for row in self.parent_to_world],
            "segments": list(self.segments),
        }
        if len(self.layers) > 1:
            entry["layers"] = [{"array": layer.array, "extent": list(layer.extent)} for layer in self.layers]
        return entry


@dataclass(frozen=True)
class Job:
    """One piece of work: its id (letters, digits, - and _), what to do, and its checked fields."""

    id: str
    do: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    def scan(self, name: str = "scan") -> ScanRef | None:
        """Return a field that is a scan, None where it was not given."""
        value: ScanRef | None = self.fields.get(name)
        return value

    def labels(self, name: str = "labels") -> LabelsRef | None:
        """Return a field that holds labels, None where it was not given."""
        value: LabelsRef | None = self.fields.get(name)
        return value

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return a field, or the default where it was not given."""
        value = self.fields.get(name)
        return default if value is None else value


@dataclass(frozen=True)
class Cancel:
    """The wish to end the job of this id."""

    id: str


def parse_request(line: str) -> Job | Cancel:
    """Return what a line asks for; raises JobFormatError with one sentence.

    >>> parse_request('{"id": "a1", "do": "doctor"}')
    Job(id='a1', do='doctor', fields={})
    >>> parse_request('{"cancel": "a1"}')
    Cancel(id='a1')
    """
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as err:
        raise JobFormatError("a line is not JSON: each line must hold one whole JSON object") from err
    if not isinstance(entry, dict):
        raise JobFormatError('a line is JSON, but not an object: a job looks like {"id": ..., "do": ...}')
    return check_request(entry)


def check_request(entry: Mapping[str, Any]) -> Job | Cancel:
    """Return the checked form of a job or cancellation given as a JSON object; raises JobFormatError."""
    if "cancel" in entry:
        return Cancel(_check_id(entry["cancel"]))
    id = _check_id(entry.get("id"))
    do = entry.get("do")
    if not isinstance(do, str) or do not in KINDS:
        raise JobFormatError(f"there is no job {quoted(do)}: known are {', '.join(KINDS)}", id)
    known = KINDS[do]
    unknown = sorted(str(name) for name in entry if name not in known and name not in ("id", "do"))
    if unknown:
        raise JobFormatError(f"{do} has no field {unknown[0]!r}: known are {', '.join(known) or 'none'}", id)
    fields = {}
    try:
        for name, rule in known.items():
            if entry.get(name) is not None:
                fields[name] = rule.check(entry[name], name)
            elif rule.required:
                raise JobFormatError(f"{do} needs {name}: {rule.meaning}")
    except JobFormatError as err:
        raise JobFormatError(str(err), id) from err
    return Job(id, do, fields)


def to_line(entry: Mapping[str, Any]) -> bytes:
    """Return an object as one line; NaN and infinity become null, which JSON has no other word for."""
    try:
        text = json.dumps(entry, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(entry), allow_nan=False)
    return text.encode("ascii") + b"\n"


def parse_event(line: bytes) -> dict[str, Any] | None:
    """Return the event of a line; None for what is no event of this protocol."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("event"), str) else None


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _check_id(value: Any) -> str:
    if not isinstance(value, str) or _ID.fullmatch(value) is None:
        raise JobFormatError(f"a job needs an id of letters, digits, - and _ (64 at most), not {quoted(value)}")
    return value


def _layer(entry: Any, shape: Sequence[int], where: str) -> LayerRef:
    values = checked_object(entry, where, {"array", "extent"})
    extent = checked_extent(values.get("extent"), f"{where}.extent")
    inside = all(extent[2 * axis] >= 0 and extent[2 * axis + 1] < shape[2 - axis] for axis in range(3))
    if not is_empty(extent) and not inside:
        raise JobFormatError(f"{where}.extent {list(extent)} leaves the grid of {shape[2]}×{shape[1]}×{shape[0]} voxels (i,j,k)")
    array = values.get("array")
    return LayerRef(checked_text(array if array is not None or not is_empty(extent) else "", f"{where}.array"), extent)


def _format(value: Any, where: str) -> str:
    if value not in FORMATS:
        raise JobFormatError(f"{where} must be one of {', '.join(FORMATS)}, not {quoted(value)}")
    return str(value)


_SCAN = FieldRule(ScanRef.from_json, "the scan", required=True)
_LABELS = FieldRule(LabelsRef.from_json, "the segments", required=True)
_MAY_SCAN = FieldRule(ScanRef.from_json, "the scan")
_OUT = FieldRule(checked_text, "the folder for the arrays that the job makes", required=True)
_TEXTS = list_of(checked_text)
_DEVICE = FieldRule(checked_text, "auto, cpu or cuda:N")
_LESIONS: dict[str, FieldRule] = {
    "chosen": FieldRule(_TEXTS, "names of the segments that hold lesions"),
    "nodes": FieldRule(_TEXTS, "names of the segments that hold lymph nodes"),
    "plane": FieldRule(checked_text, "the slices in which diameters are taken: acquired, axial, coronal or sagittal"),
    "whole": FieldRule(checked_boolean, "whether each segment is one lesion, in however many parts"),
    "keep_at_least_mm3": FieldRule(checked_number, "parts below this volume are left out"),
}

KINDS: dict[str, dict[str, FieldRule]] = {
    "describe": {"names": FieldRule(_TEXTS, "only these methods")},
    "segment": {
        "method": FieldRule(checked_text, "the name of the method", required=True),
        "parameters": FieldRule(checked_table, "its parameters; a label map is given as labels"),
        "scan": _MAY_SCAN,
        "channels": FieldRule(list_of(ScanRef.from_json), "further scans on the same grid"),
        "region": FieldRule(checked_extent, "the box of the scan to work in"),
        "labels": FieldRule(LabelsRef.from_json, "the segments that a postprocess method changes"),
        "nested": FieldRule(checked_table, "for nested-growing: ask for the map of all limits"),
        "device": _DEVICE,
        "out": _OUT,
    },
    "run": {
        "pipeline": FieldRule(checked_text, "a built-in pipeline or a YAML file", required=True),
        "scan": _SCAN,
        "device": _DEVICE,
        "out": _OUT,
    },
    "measure": {
        "scan": _MAY_SCAN,
        "labels": _LABELS,
        "features": FieldRule(_TEXTS, "shape, intensity"),
        "percentiles": FieldRule(list_of(checked_number), "percentiles of the intensities"),
        "segments": FieldRule(_TEXTS, "only these segments"),
        "out": FieldRule(checked_text, "a folder for passing files"),
    },
    "lesions": {"scan": _MAY_SCAN, "labels": _LABELS, **_LESIONS, "out": _OUT},
    "change": {
        "scans": FieldRule(list_of(ScanRef.from_json), "the scan of each time point, the oldest first"),
        "labels": FieldRule(list_of(LabelsRef.from_json), "the lesions of each time point, the oldest first", required=True),
        "days": FieldRule(list_of(checked_optional_number), "days since the first, one for each time point (0 first)"),
        "registration": FieldRule(checked_text, "auto, none, rigid or deformable"),
        "repeatability_percent": FieldRule(checked_number, "within-subject CV of the reader"),
        "volumetric": FieldRule(checked_boolean, "also the response by volume"),
        **_LESIONS,
        "out": FieldRule(checked_text, "a folder for passing files"),
    },
    "audit": {"scan": _SCAN},
    "export": {
        "format": FieldRule(_format, f"one of {', '.join(FORMATS)}", required=True),
        "scan": _MAY_SCAN,
        "labels": _LABELS,
        "path": FieldRule(checked_text, "where the file (a report: the folder) goes", required=True),
        "overwrite": FieldRule(checked_boolean, "whether files that are there may be replaced"),
        "out": FieldRule(checked_text, "a folder for passing files"),
    },
    "doctor": {
        "folder": FieldRule(checked_text, "the folder for jobs, whose disk is looked at"),
        "store": FieldRule(checked_text, "the folder of models"),
    },
    "forget": {"key": FieldRule(checked_text, "the scan to let go of; without it all of them")},
}
