"""The flow as one readable function: read → preprocess → segment → postprocess → measure → report → write."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydantic
from pydantic import BaseModel, ConfigDict

from medseg.core.errors import InputError, MethodError, PipelineError, WrongModalityError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.measurement import MeasurementTable
from medseg.core.provenance import InputRecord, Provenance, StepRecord
from medseg.core.volume import Volume
from medseg.method import catalog
from medseg.method.method import Method, Stage
from medseg.method.param import MethodParams
from medseg.method.schema import parameters_of
from medseg.method.settings import RunSettings

_AIR_BELOW_HU = -200.0  # every CT with air around the patient has voxels below this
_RECORDED_PACKAGES = ("medseg", "numpy", "scipy", "SimpleITK", "pydicom", "highdicom", "nibabel", "numba", "torch", "monai")


class Step(BaseModel):
    """One method with its parameters, as a pipeline file names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    parameters: dict[str, Any] = {}


class Pipeline(BaseModel):
    """A pipeline: what to do with one scan, from preparing it to cleaning up what was found."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_version: Literal["medseg.pipeline/1"] = pydantic.Field(alias="schema")
    name: str
    title: str = ""
    description: str = ""
    modality: str = ""
    preprocess: tuple[Step, ...] = ()
    segment: Step
    postprocess: tuple[Step, ...] = ()

    def steps(self) -> list[tuple[Stage, Step]]:
        """Return every step with its stage, in order."""
        pre = [(Stage.PREPROCESS, step) for step in self.preprocess]
        return [*pre, (Stage.SEGMENT, self.segment), *((Stage.POSTPROCESS, step) for step in self.postprocess)]


@dataclass(frozen=True)
class Result:
    """What a pipeline made of one scan: the scan, the label map on its grid, the measurements and the record of the run."""

    pipeline: Pipeline
    volume: Volume
    label_map: LabelMap
    table: MeasurementTable
    provenance: Provenance
    findings: tuple[Finding, ...] = field(default=())


def builtin_pipelines() -> dict[str, Pipeline]:
    """Return the built-in pipelines by name.

    >>> sorted(builtin_pipelines())
    ['ct-body-composition', 'ct-phantom']
    """
    folder = importlib.resources.files("medseg") / "pipelines"
    texts = [(entry.name, entry.read_text(encoding="utf-8")) for entry in folder.iterdir() if entry.name.endswith(".yaml")]
    found = [parse_pipeline(text, name) for name, text in sorted(texts)]
    return {pipeline.name: pipeline for pipeline in found}


def load_pipeline(name_or_path: str | Path) -> Pipeline:
    """Return a built-in pipeline by name, or the one in a YAML file; raises PipelineError that says what is wrong."""
    path = Path(name_or_path)
    known = builtin_pipelines()
    if str(name_or_path) in known:
        return known[str(name_or_path)]
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise PipelineError(f"no pipeline is called {str(name_or_path)!r}; built in: {', '.join(known)}; or give a .yaml file")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise PipelineError(f"the pipeline file {path.name} cannot be read: {err}") from err
    return _beside(parse_pipeline(text, path.name), path.parent)


def _beside(pipeline: Pipeline, folder: Path) -> Pipeline:
    """Return a pipeline whose label maps, named relative to its file, are found from anywhere."""

    def found(step: Step) -> Step:
        names = _label_map_parameters(step.method)
        given = step.parameters.items()
        moved = {name: str(folder / value) if name in names and isinstance(value, str) else value for name, value in given}
        return step.model_copy(update={"parameters": moved})

    pre, post = tuple(map(found, pipeline.preprocess)), tuple(map(found, pipeline.postprocess))
    return pipeline.model_copy(update={"preprocess": pre, "segment": found(pipeline.segment), "postprocess": post})


def _label_map_parameters(method_name: str) -> set[str]:
    """The parameters of a method that take a label map; none where there is no such method (`prepare` says so)."""
    try:
        return {info.name for info in parameters_of(catalog.find(method_name).params) if info.kind == "label-map"}
    except MethodError:
        return set()


def parse_pipeline(text: str, where: str) -> Pipeline:
    """Check the YAML text of a pipeline: its fields, and every method with its parameters; raises PipelineError."""
    import yaml

    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise PipelineError(f"{where} is not YAML: {str(err).splitlines()[0]}") from err
    if not isinstance(content, dict):
        raise PipelineError(f"{where} is not a pipeline: it needs at least schema, name and segment")
    try:
        return Pipeline(**content)
    except (pydantic.ValidationError, TypeError) as err:
        faults = err.errors() if isinstance(err, pydantic.ValidationError) else [{"loc": (), "msg": str(err)}]
        text = "; ".join(f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in faults)
        raise PipelineError(f"{where} is not a valid pipeline: {text}") from err


def prepare(pipeline: Pipeline) -> list[tuple[Method, MethodParams]]:
    """Return every step as a method with checked parameters, before the scan is read; raises PipelineError.

    A parameter that takes a label map is the path of its file there, and is read here.
    """
    prepared = []
    for stage, step in pipeline.steps():
        try:
            method = catalog.find(step.method, stage)
            prepared.append((method, method.build(_with_label_maps(step))))
        except (MethodError, InputError) as err:
            raise PipelineError(f"pipeline {pipeline.name}, step {step.method}: {err}") from err
    return prepared


def _with_label_maps(step: Step) -> dict[str, Any]:
    """Return the parameters of a step with every label map read that is given as a file."""
    from medseg.io.read import read_label_map

    names = _label_map_parameters(step.method)
    return {name: read_label_map(value) if name in names and isinstance(value, str) else value for name, value in step.parameters.items()}


def apply(
    pipeline: Pipeline,
    volume: Volume,
    *,
    settings: RunSettings | None = None,
    inputs: Sequence[InputRecord] = (),
    steps: Sequence[tuple[Method, MethodParams]] | None = None,
    versions: Mapping[str, str] | None = None,
) -> Result:
    """Run a pipeline on a scan in memory.

    The label map leaves on the grid of the scan, whatever the preprocessing did. `steps` are what `prepare` made of this
    pipeline and `versions` those of `package_versions`; both are found here where they are not given. Raises PipelineError
    for a faulty pipeline, WrongModalityError where the scan is of another modality, and what its methods raise.
    """
    from medseg.measurement.measure import measure
    from medseg.preprocessing.resample import restore

    settings = settings or RunSettings()
    steps = prepare(pipeline) if steps is None else steps
    findings = [*volume.findings, *_check_modality(pipeline, volume)]
    started = _now()
    prepared, label_map = volume, None
    records: list[StepRecord] = []
    for method, params in steps:
        settings.progress(method.name, len(records), len(steps))
        begin = time.perf_counter()
        if method.stage is Stage.PREPROCESS:
            prepared = method(prepared, params, settings=settings)
        elif method.stage is Stage.SEGMENT:
            segmented = method(prepared, params, settings=settings)
            del prepared
            label_map = restore(segmented, volume.geometry)
        else:
            label_map = method(label_map, params, settings=settings, volume=volume)
        records.append(record_of(method, params, time.perf_counter() - begin))
    settings.progress("measure", len(steps), len(steps))
    if label_map is None:  # pragma: no cover - a pipeline has a segment step
        raise PipelineError(f"pipeline {pipeline.name} segments nothing")
    volume = _taken_for(pipeline, volume)
    table = measure(label_map, volume)
    provenance = provenance_of(label_map, records, inputs, started, versions)
    # a learned method checks the modality by itself: said once is enough
    said = {finding.code for finding in findings if finding.code == "MODALITY_UNKNOWN"}
    findings += [finding for finding in label_map.findings if finding not in findings and finding.code not in said]
    label_map = replace(label_map, provenance=provenance, source=volume.source)
    return Result(pipeline, volume, label_map, table, provenance, tuple(findings))


def record_of(method: Method, params: MethodParams, seconds: float | None = None) -> StepRecord:
    """Return the record of one step with every parameter, given and default."""
    values: Mapping[str, Any] = {name: _plain(getattr(params, name)) for name in type(params).model_fields}
    return StepRecord(method.name, method.stage.value, values, method.reference, None if seconds is None else round(seconds, 3))


def provenance_of(
    label_map: LabelMap,
    steps: Sequence[StepRecord],
    inputs: Sequence[InputRecord],
    started: str,
    versions: Mapping[str, str] | None = None,
) -> Provenance:
    """Return the record of a run, with what a learned method noted of its model and device."""
    learned = label_map.provenance
    return Provenance(
        versions=package_versions() if versions is None else versions,
        inputs=tuple(inputs),
        steps=tuple(steps),
        model=learned.model if learned else None,
        device=learned.device if learned else "cpu",
        seed=learned.seed if learned else None,
        started=started,
        finished=_now(),
        notes=learned.notes if learned else (),
    )


def package_versions() -> dict[str, str]:
    """Return the versions of medseg and of the packages that shape its numbers, where installed."""
    import platform

    versions = {"python": platform.python_version()}
    for name in _RECORDED_PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _check_modality(pipeline: Pipeline, volume: Volume) -> list[Finding]:
    if not pipeline.modality or volume.modality == pipeline.modality:
        return []
    if volume.modality:
        raise WrongModalityError(
            f"pipeline {pipeline.name} is for {pipeline.modality}, this scan is {volume.modality}: choose another pipeline"
        )
    message = f"the file does not say its modality; it is taken for {pipeline.modality}, as the pipeline expects"
    return [Finding("MODALITY_UNKNOWN", Severity.WARNING, message)]


def _taken_for(pipeline: Pipeline, volume: Volume) -> Volume:
    """Return the scan as measured and drawn: one that does not say its modality is shown as what it was taken for."""
    if volume.modality or not pipeline.modality:
        return volume
    # a CT without air is no CT in HU; its numbers then stay without a unit
    has_air = bool(np.fmin.reduce(volume.array, axis=None) < _AIR_BELOW_HU)
    unit = "HU" if pipeline.modality == "CT" and has_air else ""
    return replace(volume, modality=pipeline.modality, unit=volume.unit or unit)


def _plain(value: Any) -> Any:
    """Return a parameter as JSON can hold it; a label map is named by its segments."""
    if isinstance(value, LabelMap):
        return {"segments": [segment.label for segment in value.segments]}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
