"""The segmentation method `prompt`: a network that is told what to segment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic

from medseg.core.errors import GeometryMismatchError, ParameterError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap, present_numbers, smallest_unsigned
from medseg.core.provenance import Provenance, StepRecord
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, LabelMapInput, MethodParams, PointRAS
from medseg.method.settings import RunSettings
from medseg.segmentation.learned.dependencies import versions
from medseg.segmentation.learned.device import resolve_device
from medseg.segmentation.learned.kept_models import opened
from medseg.segmentation.learned.prompt.description import ClickDescription
from medseg.segmentation.learned.prompt.loading import PromptModel, find_prompt_model
from medseg.segmentation.learned.prompt.prompts import Prompts, check_prompts
from medseg.segmentation.prompt_points import points_from

DEFAULT_MODEL = "click-3d"
_REFERENCE = "doi:10.1109/TPAMI.2018.2840695 (DeepIGeoS); VISTA3D, doi:10.48550/arXiv.2406.05285"


class PromptParams(MethodParams):
    """Parameters of `prompt`."""

    model: str = Field(DEFAULT_MODEL, description="Name of a promptable model, or the folder of one")
    points: list[PointRAS] = Field([], description="Points inside the structure", unit="mm RAS")
    background_points: list[PointRAS] = Field([], description="Points outside the structure, where a mask went too far", unit="mm RAS")
    box_corners: list[PointRAS] = Field([], description="Two opposite corners of a box around the structure, box after box", unit="mm RAS")
    previous: LabelMapInput | None = Field(None, description="A mask of the structure to refine, on the grid of the scan")
    structures: list[str] = Field([], description="Structures by name or number, for models that know some (VISTA3D)")
    label: str = Field("structure", description="Name of the segment that the points or boxes mark", min_length=1)
    seed_map: LabelMapInput | None = Field(
        None, description="Label map of a classical method, on the grid of the scan: points are made from its segments, one answer each"
    )
    from_segments: list[str] = Field([], description="Segments of the seed map that points are made from; empty: all that have voxels")
    seed_points: int = Field(1, description="Points made inside each of these segments, the deepest voxel first", ge=1, le=50)
    seed_background_points: int = Field(0, description="Points made around each of these segments, 4 to 8 mm outside", ge=0, le=50)

    @pydantic.model_validator(mode="after")
    def _enough(self) -> PromptParams:
        asked = bool(self.points or self.box_corners or self.previous is not None or self.structures)
        if self.seed_map is None and self.from_segments:
            raise ValueError("from_segments names segments of a seed_map: give that label map too")
        if self.seed_map is not None and (asked or self.background_points):
            raise ValueError("a seed_map makes the points itself: leave out points, boxes, previous and structures, or the seed_map")
        if self.seed_map is None and not asked:
            raise ValueError(
                "say what to segment: a point inside it, two corners of a box around it, a previous mask, or a structure by name"
            )
        return self


@method("prompt", stage=Stage.SEGMENT, reference=_REFERENCE)
def prompt(volume: Volume, params: PromptParams, settings: RunSettings) -> LabelMap:
    """Segment what points, boxes, a rough mask or names of structures ask for, with a promptable network.

    The built-in `click-3d` marks one structure in a CT or MR scan: one click inside it gives a mask, further clicks
    inside and outside correct it. Components without a click are left out. A click that the mask does not follow gives
    the finding PROMPT_NOT_FOLLOWED, an empty mask NOTHING_FOUND. With a `seed_map` (what region growing or a threshold found)
    the clicks are made from its segments, and each gives a segment of its name and number; a voxel that two answers claim
    goes to the lower number. Raises ParameterError for prompts outside the scan,
    GeometryMismatchError for a previous mask on another grid, ModelError and its children, MissingDependencyError
    without the extra `learned`.

    >>> from medseg.core.geometry import Geometry
    >>> ball = ((np.indices((40, 40, 40)) - 20) ** 2).sum(axis=0) < 100
    >>> scan = Volume(np.where(ball, 80, 0).astype(np.int16), Geometry((40, 40, 40), np.eye(4)))
    >>> found = prompt(scan, PromptParams(points=[(20, 20, 20)]), settings=RunSettings("cpu"))
    >>> int(found.array[20, 20, 20]), int(found.array[0, 0, 0])
    (1, 0)
    """
    if params.seed_map is not None:
        return _seeded(volume, params, params.seed_map, settings)
    name = ("prompt", params.model, settings.model_folders)
    model = opened(settings, name, lambda: find_prompt_model(params.model, settings.model_folders))
    prompts = check_prompts(volume.geometry, params.points, params.background_points, params.box_corners, params.previous)
    if isinstance(model.description, ClickDescription):
        return _clicked(volume, params, prompts, model, settings)
    from medseg.segmentation.learned.prompt.vista3d import segment_with_vista

    outcome = segment_with_vista(volume, prompts, tuple(params.structures), params.label, model, settings)
    findings = (*volume.findings, *outcome.findings)
    if len(outcome.segments) == 1:
        findings = (*findings, *_unfollowed(outcome.labels != 0, volume, params))
    provenance = _provenance(model, params, outcome.device, outcome.notes)
    return LabelMap(outcome.labels.T, volume.geometry, outcome.segments, volume.source, findings, provenance)


def _seeded(volume: Volume, params: PromptParams, seed_map: LabelMap, settings: RunSettings) -> LabelMap:
    """One answer for each segment of the seed map, from points made of it."""
    if not seed_map.geometry.matches(volume.geometry):
        raise GeometryMismatchError(
            "prompt: the seed map lies on another grid than the scan; restore it onto the scan's grid first",
            volume.geometry,
            seed_map.geometry,
        )
    held = set(present_numbers(seed_map.array))
    chosen = [seed_map[label] for label in dict.fromkeys(params.from_segments)] if params.from_segments else list(seed_map.segments)
    seeds = [segment for segment in chosen if segment.number in held]
    if not seeds:
        raise ParameterError("prompt: the chosen segments of the seed map have no voxel: there is no place to click on")
    array = np.zeros(volume.geometry.shape, smallest_unsigned(max(segment.number for segment in seeds)), order="F")
    findings, segments, last = list(volume.findings), [], None
    settings = replace(settings, kept={}) if settings.kept is None else settings  # one network for all segments
    for segment in sorted(seeds, key=lambda one: one.number):
        made = points_from(seed_map, segment.number, inside=params.seed_points, outside=params.seed_background_points)
        update = {
            "seed_map": None,
            "from_segments": [],
            "points": list(made.inside_mm),
            "background_points": list(made.outside_mm),
            "label": segment.label,
        }
        last = prompt.function(volume, params.model_copy(update=update), settings)
        array[(last.array != 0) & (array == 0)] = segment.number
        segments.append(replace(segment, algorithm=last.segments[0].algorithm))
        findings += [finding for finding in last.findings if finding not in findings]
    provenance = None if last is None or last.provenance is None else replace(last.provenance, steps=(_record(params, last.provenance),))
    return LabelMap(array, volume.geometry, tuple(segments), volume.source, tuple(findings), provenance)


def _record(params: PromptParams, provenance: Provenance) -> StepRecord:
    """The step as it was asked for: with the seed map, not with the points made from it."""
    given = {**params.model_dump(exclude={"previous", "seed_map"}), "previous": False, "seed_map": True}
    name = (provenance.model or {}).get("name", params.model)
    return StepRecord("prompt", Stage.SEGMENT.value, {**given, "model": name}, _REFERENCE)


def _clicked(volume: Volume, params: PromptParams, prompts: Prompts, model: PromptModel, settings: RunSettings) -> LabelMap:
    if params.structures:
        raise ParameterError(
            f"prompt: the model {model.description.name!r} knows no structures by name: give points or boxes, or use VISTA3D"
        )
    if prompts.is_empty:
        raise ParameterError("prompt: points outside the structure alone do not say where it is: add a point inside it")
    from medseg.segmentation.learned.prompt.click import ClickSegmenter  # not above: it brings numba

    with model.lent() as network:
        found = ClickSegmenter(model, resolve_device(settings.device), network).segment(volume, prompts, settings.progress)
    segment = Segment(1, params.label, algorithm=f"{model.description.name} {model.description.version}")
    notes = tuple(f"looked at {size}³ voxels of {spacing_mm:.2f} mm" for size, spacing_mm in found.looks)
    findings = (*volume.findings, *_unfollowed(found.mask != 0, volume, params))
    return LabelMap(found.mask.T, volume.geometry, (segment,), volume.source, findings, _provenance(model, params, found.device, notes))


def _unfollowed(mask: npt.NDArray[np.bool_], volume: Volume, params: PromptParams) -> list[Finding]:
    """What a mask (k,j,i) does not do although a prompt asks for it."""
    if not mask.any():
        message = "the network found nothing at the prompts: click nearer to the middle of the structure, or give a box around it"
        return [Finding("NOTHING_FOUND", Severity.WARNING, message)]
    findings = []
    for points, inside in ((params.points, True), (params.background_points, False)):
        for point in points:
            i, j, k = np.rint(volume.geometry.world_to_index(point)).astype(int)
            if bool(mask[k, j, i]) != inside:
                place = ", ".join(f"{value:.1f}" for value in point)
                where = "inside the structure, but the mask does not hold it" if inside else "outside the structure, but the mask holds it"
                message = f"the point ({place}) mm RAS was marked {where}: add clicks near it, or give this mask as `previous`"
                findings.append(Finding("PROMPT_NOT_FOLLOWED", Severity.WARNING, message, {"point_mm": list(point), "inside": inside}))
    return findings


def _provenance(model: PromptModel, params: PromptParams, device: str, notes: tuple[str, ...]) -> Provenance:
    description = model.description
    given: dict[str, Any] = {**params.model_dump(exclude={"previous", "seed_map"}), "previous": params.previous is not None}
    given |= {"model": description.name}
    return Provenance(
        versions=versions(),
        steps=(StepRecord("prompt", Stage.SEGMENT.value, given, _REFERENCE),),
        model={
            "name": description.name,
            "version": description.version,
            "title": description.title,
            "sha256": description.weights.sha256,
            "licence": description.licence.model_dump(),
            "intended_use": description.intended_use,
        },
        device=device,
        notes=notes,
    )
