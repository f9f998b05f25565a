"""The segmentation method `prompt`: a network that is told what to segment."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic

from medseg.core.errors import ParameterError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.provenance import Provenance, StepRecord
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, LabelMapInput, MethodParams, PointRAS
from medseg.method.settings import RunSettings
from medseg.segmentation.learned.dependencies import versions
from medseg.segmentation.learned.device import resolve_device
from medseg.segmentation.learned.prompt.description import ClickDescription
from medseg.segmentation.learned.prompt.loading import PromptModel, find_prompt_model
from medseg.segmentation.learned.prompt.prompts import Prompts, check_prompts

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

    @pydantic.model_validator(mode="after")
    def _enough(self) -> PromptParams:
        if not (self.points or self.box_corners or self.previous is not None or self.structures):
            raise ValueError(
                "say what to segment: a point inside it, two corners of a box around it, a previous mask, or a structure by name"
            )
        return self


@method("prompt", stage=Stage.SEGMENT, reference=_REFERENCE)
def prompt(volume: Volume, params: PromptParams, settings: RunSettings) -> LabelMap:
    """Segment what points, boxes, a rough mask or names of structures ask for, with a promptable network.

    The built-in `click-3d` marks one structure in a CT or MR scan: one click inside it gives a mask, further clicks
    inside and outside correct it. Components without a click are left out. A click that the mask does not follow gives
    the finding PROMPT_NOT_FOLLOWED, an empty mask NOTHING_FOUND. Raises ParameterError for prompts outside the scan,
    GeometryMismatchError for a previous mask on another grid, ModelError and its children, MissingDependencyError
    without the extra `learned`.

    >>> from medseg.core.geometry import Geometry
    >>> ball = ((np.indices((40, 40, 40)) - 20) ** 2).sum(axis=0) < 100
    >>> scan = Volume(np.where(ball, 80, 0).astype(np.int16), Geometry((40, 40, 40), np.eye(4)))
    >>> found = prompt(scan, PromptParams(points=[(20, 20, 20)]), settings=RunSettings("cpu"))
    >>> int(found.array[20, 20, 20]), int(found.array[0, 0, 0])
    (1, 0)
    """
    model = find_prompt_model(params.model, settings.model_folders)
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


def _clicked(volume: Volume, params: PromptParams, prompts: Prompts, model: PromptModel, settings: RunSettings) -> LabelMap:
    if params.structures:
        raise ParameterError(
            f"prompt: the model {model.description.name!r} knows no structures by name: give points or boxes, or use VISTA3D"
        )
    if prompts.is_empty:
        raise ParameterError("prompt: points outside the structure alone do not say where it is: add a point inside it")
    from medseg.segmentation.learned.prompt.click import ClickSegmenter  # not above: it brings numba

    found = ClickSegmenter(model, resolve_device(settings.device)).segment(volume, prompts, settings.progress)
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
    given: dict[str, Any] = {**params.model_dump(exclude={"previous"}), "previous": params.previous is not None, "model": description.name}
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
