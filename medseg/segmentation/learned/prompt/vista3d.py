"""Class and point prompts with VISTA3D: https://doi.org/10.48550/arXiv.2406.05285."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import IncompatibleModelError, ParameterError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import smallest_unsigned
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.kernels.resample import resample_labels
from medseg.method.settings import RunSettings
from medseg.preprocessing.plan import PreparationPlan, plan_preparation, reversed_axes
from medseg.segmentation.learned.dependencies import import_networks, import_torch
from medseg.segmentation.learned.device import resolve_device
from medseg.segmentation.learned.engine.stream import run
from medseg.segmentation.learned.engine.windows import Windows
from medseg.segmentation.learned.prompt.description import VistaDescription
from medseg.segmentation.learned.prompt.loading import PromptModel
from medseg.segmentation.learned.prompt.prompts import Prompts
from medseg.segmentation.learned.trained import Request

_PREVIOUS_SCORE = 10.0  # what a previous mask scores inside; only the sign counts
_AIR_HU = -1000.0


@dataclass(frozen=True, eq=False)
class VistaOutcome:
    """Labels (K,J,I) on the scan's grid and how they came about."""

    labels: npt.NDArray[Any]
    segments: tuple[Segment, ...]
    findings: tuple[Finding, ...]
    device: str
    notes: tuple[str, ...] = ()


def segment_with_vista(
    volume: Volume, prompts: Prompts, structures: tuple[str, ...], label: str, model: PromptModel, settings: RunSettings
) -> VistaOutcome:
    """Segment a CT with VISTA3D: structures by name, or one object by points (with a structure: points correct it).

    Raises ParameterError for prompts that VISTA3D does not take (boxes, several structures with points, unknown names).
    """
    description = _description(model)
    numbers = class_numbers(structures, description)
    _check(prompts, numbers)
    findings = _check_scan(volume, description)
    import_torch(), import_networks()
    plan = plan_preparation(volume.geometry, (description.spacing_mm,) * 3, "RAS", "grid")
    image = prepared_image(volume, description, plan)
    if len(prompts.inside_mm) or len(prompts.outside_mm):
        found, device, notes = _by_points(image, prompts, numbers, model, plan, settings)
        number = numbers[0] if numbers else 1
        found = found * smallest_unsigned(number).type(number)
        segments: tuple[Segment, ...] = (Segment(number, _name(number, description) if numbers else label, algorithm=_algorithm(model)),)
    else:
        found, device, notes = _by_classes(image, numbers, model, settings)
        segments = tuple(Segment(number, _name(number, description), algorithm=_algorithm(model)) for number in sorted(numbers))
    step = reversed_axes(plan.source_to_target())
    labels = resample_labels(np.ascontiguousarray(found.transpose(2, 1, 0)), step[:, :3], step[:, 3], volume.geometry.shape[::-1])
    return VistaOutcome(labels, segments, tuple(findings), device, notes)


def prepared_image(volume: Volume, description: VistaDescription, plan: PreparationPlan) -> npt.NDArray[np.float32]:
    """Return what the network sees, (R, A, S) axes as it was trained: clipped and scaled to 0 to 1, float32."""
    lower, upper = np.float32(description.lower), np.float32(description.upper)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which is taken for air
        array = volume.array.astype(np.float32, order="F")
    array = np.where(np.isfinite(array), array, np.float32(_AIR_HU))
    prepared = plan.prepare(volume.with_array(np.clip(array, lower, upper)), float(lower)).array
    return np.ascontiguousarray((prepared - lower) / (upper - lower), dtype=np.float32)


def class_numbers(structures: tuple[str, ...], description: VistaDescription) -> list[int]:
    """Return the class numbers of names or numbers, whole organs as their parts.

    A number is taken as it is where the model lists no names. Raises ParameterError with the nearest names for an
    unknown one.
    """
    by_name = {_plain(name): number for number, name in description.classes.items()}
    numbers: list[int] = []
    for structure in structures:
        number = int(structure) if structure.isdigit() else by_name.get(_plain(structure), 0)
        known = number in description.classes if description.classes else 0 < number < description.network.arguments.n_classes
        if not known:
            near = difflib.get_close_matches(_plain(structure), by_name, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"it knows {len(by_name)} names, see its description"
            raise ParameterError(f"prompt: the model {description.name!r} knows no structure {structure!r}: {hint}")
        numbers += [part for part in description.parts.get(number, (number,)) if part not in numbers]
    return numbers


def _by_classes(
    image: npt.NDArray[np.float32], numbers: list[int], model: PromptModel, settings: RunSettings
) -> tuple[Any, str, tuple[str, ...]]:
    from medseg.segmentation.learned.prompt.vista3d_network import ClassFeatures, ClassSink, class_embeddings

    description = _description(model)
    labels = np.zeros(image.shape, smallest_unsigned(max(numbers)))
    windows = replace(Windows.monai(description.patch_size, overlap=description.overlap, gaussian=True), padding="replicate")
    request = Request(device=settings.device, progress=settings.progress)
    with model.lent() as network:
        sink = ClassSink(class_embeddings(network, numbers), numbers, labels)
        record = run([ClassFeatures(network)], image[None], windows, sink, request)
    return sink.finish(), record.device, record.notes


def _by_points(
    image: npt.NDArray[np.float32], prompts: Prompts, numbers: list[int], model: PromptModel, plan: PreparationPlan, settings: RunSettings
) -> tuple[Any, str, tuple[str, ...]]:
    torch = import_torch()
    from medseg.segmentation.learned.prompt.vista3d_points import PointPrompt, point_scores

    description = _description(model)
    device = resolve_device(settings.device)
    points = plan.target.world_to_index(np.concatenate([prompts.inside_mm, prompts.outside_mm]))
    kinds = np.array([1] * len(prompts.inside_mm) + [0] * len(prompts.outside_mm))
    number = numbers[0] if numbers else None
    kinds = kinds + 2 if number in description.special_classes else kinds
    by_class = number is not None and number <= description.network.arguments.last_supported
    asked = PointPrompt(points, kinds, number, use_class_branch=by_class)
    previous = None
    if prompts.previous is not None:
        step = reversed_axes(plan.target_to_source())
        mask = resample_labels(prompts.previous, step[:, :3], step[:, 3], plan.target.shape[::-1]).transpose(2, 1, 0)
        previous = torch.from_numpy(np.where(mask, np.float32(_PREVIOUS_SCORE), np.float32(-_PREVIOUS_SCORE)))
    with model.lent() as network:
        patches = torch.from_numpy(image)[None, None].to(device)
        scores = point_scores(network.to(device), patches, asked, description.patch_size, previous, settings.progress)
    return (scores > 0).numpy().astype(np.uint8), str(device), ()


def _check(prompts: Prompts, numbers: list[int]) -> None:
    if len(prompts.boxes_mm):
        raise ParameterError("prompt: VISTA3D takes no boxes: give points inside the structure, or its name")
    has_points = bool(len(prompts.inside_mm) or len(prompts.outside_mm))
    if has_points and len(numbers) > 1:
        raise ParameterError(f"prompt: points belong to one structure, {len(numbers)} were named: ask for the others without points")
    if not has_points and not numbers:
        raise ParameterError("prompt: VISTA3D needs a structure by name or points; a previous mask alone says nothing new")
    if has_points and not len(prompts.inside_mm) and not numbers and prompts.previous is None:
        raise ParameterError("prompt: points outside the structure alone do not say where it is: add a point inside it")


def _check_scan(volume: Volume, description: VistaDescription) -> list[Finding]:
    if volume.modality and volume.modality != "CT":
        raise IncompatibleModelError(
            f"model {description.name!r} was trained on CT, this scan is {volume.modality}: use click-3d, or one for {volume.modality}"
        )
    if volume.modality:
        return []
    message = f"the file does not say what kind of scan it is; model {description.name!r} takes it for CT"
    return [Finding("MODALITY_UNKNOWN", Severity.INFO, message)]


def _description(model: PromptModel) -> VistaDescription:
    if not isinstance(model.description, VistaDescription):
        raise IncompatibleModelError(f"model {model.description.name!r} is no VISTA3D model")
    return model.description


def _name(number: int, description: VistaDescription) -> str:
    return description.classes.get(number, f"class_{number}")


def _plain(name: str) -> str:
    return name.strip().lower().replace("_", " ").replace("-", " ")


def _algorithm(model: PromptModel) -> str:
    return f"{model.description.name} {model.description.version}"
