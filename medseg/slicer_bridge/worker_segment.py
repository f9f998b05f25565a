"""Jobs that make segments: one method on a scan or on a box of it, a pipeline, all nested regions of a seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from medseg.core.errors import GeometryMismatchError, InputError, OverlappingSegmentsError, ParameterError
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.method import catalog
from medseg.method.method import Method, Stage
from medseg.method.schema import ParameterInfo, parameters_of
from medseg.method.settings import RunSettings
from medseg.slicer_bridge.job_fields import Extent, JobFormatError
from medseg.slicer_bridge.jobs import LabelsRef, ScanRef
from medseg.slicer_bridge.worker_context import Context
from medseg.slicer_bridge.worker_data import cut, on_grid_of, read_labels, write_labels
from medseg.slicer_bridge.worker_jobs import as_json

_COMPILING = "compiling kernels, once on this machine"


def segment(context: Context) -> dict[str, Any]:
    """Run one method; the labels are those of `medseg.segment` (or `medseg.postprocess`), voxel for voxel."""
    job = context.job
    method = catalog.find(job["method"])
    if method.stage is Stage.PREPROCESS:
        raise ParameterError(f"{method.name} changes a scan and makes no segments: choose a segment or postprocess method")
    region: Extent | None = job.get("region")
    base = context.base
    volume = _scan(context, job.scan(), region)
    if volume is not None:
        context.findings(volume.findings)
    subject = _subject(context, method, volume, region)
    params = method.build(_parameters(context, method, region))
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    ref: ScanRef | LabelsRef | None = job.scan() or job.labels()
    with _settings(context) as settings:
        label_map, values = _worked(context, method, subject, params, settings)
    context.findings(label_map.findings)
    labels = write_labels(label_map, base, ref, _whole(context, region))
    found = (*(volume.findings if volume is not None else ()), *label_map.findings)
    return {
        "labels": labels.to_json(),
        "findings": as_json(found),
        "provenance": _provenance(method, params, label_map, started),
        "values": values,
    }


def _worked(context: Context, method: Method, subject: Any, params: Any, settings: RunSettings) -> tuple[LabelMap, dict[str, Any]]:
    """Return the label map of a method on the grid of its subject, and what it says beyond."""
    wanted = context.job.get("nested")
    if wanted is not None:
        from medseg.slicer_bridge.worker_nested import nested_map

        if method.name != "nested-growing" or not isinstance(subject, Volume):
            raise ParameterError(f"`nested` asks for all limits of nested-growing on one scan; {method.name} has none")
        region: Extent | None = context.job.get("region")
        return nested_map(subject, params, wanted, context.base, (0, 0, 0) if region is None else region[::2])
    volume = _scan(context, context.job.scan(), context.job.get("region"))
    result: LabelMap = method(subject, params, settings=settings, volume=volume)
    grid = (subject[0] if isinstance(subject, tuple) else subject).geometry
    if not result.geometry.matches(grid):
        raise GeometryMismatchError(f"{method.name} gave a label map on another grid than the scan", grid, result.geometry)
    return result, {}


def run(context: Context) -> dict[str, Any]:
    """Run a pipeline; the labels lie on the grid of the scan, the document is that of `medseg run --json` without files."""
    from medseg.pipeline import apply, load_pipeline

    job, base = context.job, context.base
    ref = job.scan()
    pipeline = load_pipeline(job["pipeline"])
    if ref is None:  # pragma: no cover - required
        raise InputError("a pipeline needs a scan")
    volume = context.scans.get(ref)
    context.findings(volume.findings)
    with _settings(context) as settings:
        done = apply(pipeline, volume, settings=settings)
    context.findings(done.findings)
    labels = write_labels(done.label_map, base, ref)
    findings = as_json(done.findings)
    document = done.table.to_dict() | {"schema": "medseg.run/1", "pipeline": pipeline.name, "findings": findings, "reading": {}}
    provenance = done.provenance.to_dict()
    return {"labels": labels.to_json(), "document": document, "findings": findings, "provenance": provenance, "values": {}}


def _scan(context: Context, ref: ScanRef | None, region: Extent | None) -> Volume | None:
    if ref is None:
        return None
    volume = context.scans.get(ref)
    return volume if region is None else cut(volume, region)


def _whole(context: Context, region: Extent | None) -> tuple[Extent, tuple[int, int, int]] | None:
    """Return the box with the shape (I,J,K) of the grid around it, None where the whole grid was worked on."""
    if region is None:
        return None
    ref, labels = context.job.scan(), context.job.labels()
    if ref is not None:
        return region, context.scans.get(ref).geometry.shape
    assert labels is not None  # there is a subject
    k, j, i = labels.shape
    return region, (i, j, k)


def _subject(context: Context, method: Method, volume: Volume | None, region: Extent | None) -> Any:
    """Return what the method works on: scans, or the one label map that a postprocess method changes."""
    job = context.job
    if method.stage is Stage.SEGMENT:
        if volume is None:
            raise JobFormatError(f"{method.name} needs a scan: choose the volume it works on", job.id)
        channels = [_scan(context, ref, region) for ref in job.get("channels", ())]
        return (volume, *channels) if channels else volume
    labels = job.labels()
    if labels is None:
        raise JobFormatError(f"{method.name} changes segments: choose the segmentation it works on", job.id)
    layers = read_labels(labels, region)
    if len(layers) > 1:
        raise OverlappingSegmentsError(
            f"{method.name} works on segments that do not overlap: choose one segment, or remove the overlap first"
        )
    return layers[0] if volume is None else on_grid_of(layers, volume.geometry)[0]


def _parameters(context: Context, method: Method, region: Extent | None) -> dict[str, Any]:
    """Return the parameters with every label map read."""
    infos = {info.name: info for info in parameters_of(method.params)}
    given = context.job.get("parameters", {})
    return {name: _value(infos.get(name), value, name, region) for name, value in given.items()}


def _value(info: ParameterInfo | None, value: Any, name: str, region: Extent | None) -> Any:
    if info is None or info.kind != "label-map" or value is None:
        return value
    if info.is_list and isinstance(value, list):
        return [_label_map(one, name, region) for one in value]
    return _label_map(value, name, region)


def _label_map(value: Any, name: str, region: Extent | None) -> LabelMap:
    layers = read_labels(LabelsRef.from_json(value, f"parameters.{name}"), region)
    if len(layers) > 1:
        raise OverlappingSegmentsError(f"{name} takes segments that do not overlap: remove the overlap first")
    return layers[0]


@contextmanager
def _settings(context: Context) -> Iterator[RunSettings]:
    """Yield the settings of a run, whose progress the host sees; a kernel compiled on its first use says so."""
    from numba.core import event

    class Listener(event.Listener):  # type: ignore[misc]
        def on_start(self, event: Any) -> None:
            context.progress(_COMPILING, 0, 1)

        def on_end(self, event: Any) -> None:
            """Say nothing: the next kernel follows, or the work itself."""

    with event.install_listener("numba:compile", Listener()):
        yield RunSettings(device=context.job.get("device", "auto"), progress=context.progress)


def _provenance(method: Method, params: Any, label_map: LabelMap, started: str) -> dict[str, Any]:
    from medseg.pipeline import provenance_of, record_of

    return provenance_of(label_map, [record_of(method, params)], (), started).to_dict()
