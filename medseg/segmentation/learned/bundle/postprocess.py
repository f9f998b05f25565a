"""The postprocessing of a bundle: from network outputs on its own grid to labels on the grid of the scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medseg.core.errors import IncompatibleModelError
from medseg.core.finding import Finding, Severity
from medseg.segmentation.learned.bundle import cleaning
from medseg.segmentation.learned.bundle.config import Component
from medseg.segmentation.learned.bundle.expression import ChannelPriority, RefusedError
from medseg.segmentation.learned.bundle.transforms import Preprocessing, flattened, foreign_errors, one_key, plain_arguments
from medseg.segmentation.learned.dependencies import import_torch, import_transforms

_CHUNK_BYTES = 1 << 29  # of float64 voxels that are brought to the grid of the scan at once


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split()) | {"keys", "allow_missing_keys"}


STEPS: Mapping[str, frozenset[str]] = {
    "Activationsd": _names("sigmoid softmax dim"),
    "AsDiscreted": _names("argmax to_onehot threshold rounding"),
    "Invertd": _names("transform orig_keys meta_keys orig_meta_keys meta_key_postfix nearest_interp to_tensor device"),
    "Lambdad": _names("func overwrite track_meta"),
    "KeepLargestConnectedComponentd": _names("applied_labels is_onehot independent connectivity num_components"),
    "FillHolesd": _names("applied_labels connectivity"),
    "RemoveSmallObjectsd": _names("min_size connectivity independent_channels by_measure pixdim"),
}
LEFT_OUT = frozenset(("SaveImaged", "DeleteItemsd", "ToDeviced", "Identityd", "ToTensord", "EnsureTyped", "CastToTyped"))
STEP_NAMES = frozenset(STEPS) | LEFT_OUT | {"Compose"}


@dataclass(frozen=True)
class Step:
    """One step: the name of its transform and plain arguments; `monotone` steps do not change which channel is largest."""

    target: str
    arguments: Mapping[str, Any]

    @property
    def monotone(self) -> bool:
        """Whether the largest channel stays the largest."""
        return self.target == "Activationsd"

    def run(self, prediction: Prediction, way: WayBack) -> Prediction:
        """Return the prediction after this step (every step but Invertd, which needs to know what follows it)."""
        return _applied(prediction, self, way)

    @property
    def argmax(self) -> bool:
        """Whether this step takes the largest channel."""
        return self.target == "AsDiscreted" and bool(self.arguments.get("argmax"))


@dataclass(frozen=True)
class Postprocessing:
    """The steps of a bundle after its network."""

    steps: tuple[Step, ...]

    @property
    def labels_at_once(self) -> bool:
        """Whether only the largest channel counts before anything else happens, so that outputs need not be kept."""
        for step in self.steps:
            if step.argmax:
                return True
            if not step.monotone:
                return False
        return False

    @property
    def choices(self) -> tuple[tuple[int, int], ...]:
        """(channel, number) where the bundle says which label number a channel gets."""
        return next((step.arguments["choices"] for step in self.steps if "choices" in step.arguments), ())

    @property
    def inverts(self) -> bool:
        """Whether the bundle itself brings its result to the grid of the scan."""
        return any(step.target == "Invertd" for step in self.steps)


@dataclass
class Prediction:
    """What is there so far: `values` (C,I,J,K), and whether they are outputs, label numbers (C = 1) or masks (0 and 1)."""

    values: Any
    kind: Literal["outputs", "labels", "masks"]
    on_scan: bool = False
    choices: tuple[tuple[int, int], ...] = ()  # (channel, number) where the bundle says which number a channel gets


@dataclass
class WayBack:
    """How a prediction gets to the grid of the scan: `reference` is the prepared image without its values.

    `voxel_mm3` is the volume of a voxel of the prepared image and of the scan.
    """

    preprocessing: Preprocessing
    reference: Any
    shape: tuple[int, int, int]
    voxel_mm3: tuple[float, float]
    findings: list[Finding] = field(default_factory=list)

    def invert(self, values: Any, *, nearest: bool) -> npt.NDArray[Any]:
        """Return channels (C,I,J,K) on the grid of the scan, by MONAI's own inverse of the preprocessing."""
        torch = import_torch()
        with foreign_errors("the way back of the bundle to the grid of the scan fails"):
            from monai.data.meta_tensor import MetaTensor

            tensor = MetaTensor(torch.as_tensor(values).to(torch.float32))
            undo = import_transforms().Invertd(
                keys="pred", transform=self.preprocessing.compose, orig_keys=self.preprocessing.image_key, nearest_interp=nearest
            )
            inverted = undo({"pred": tensor, self.preprocessing.image_key: self.reference})["pred"]
            return np.asarray(inverted.as_tensor().numpy())


def build_postprocessing(component: Any, preprocessing: Component) -> Postprocessing:
    """Return the steps of a `Compose`; raises RefusedError for the first thing in it that is not read."""
    steps = []
    for part in flattened(component):
        if part.target in LEFT_OUT:
            continue
        if part.target not in STEPS:
            raise RefusedError(f"{part.where}: {part.target} is not read in a postprocessing")
        one_key(part)
        given = dict(part.arguments)
        given.pop("device", None)
        undone = given.pop("transform", None)
        function = given.pop("func", None)
        if part.target == "Lambdad" and not isinstance(function, ChannelPriority):
            raise RefusedError(f"{part.where}: a function that is not a choice between channels")
        if part.target == "Invertd" and not (isinstance(undone, Component) and undone.where == preprocessing.where):
            raise RefusedError(f"{part.where}: Invertd of something that is not the preprocessing")
        plain = plain_arguments(Component(part.target, given, part.where), STEPS[part.target])
        arguments = {name: _only(value) if name not in ("applied_labels", "keys") else value for name, value in plain.items()}
        _check(part, arguments)
        if isinstance(function, ChannelPriority):
            arguments = {"choices": function.choices}
        steps.append(Step(part.target, arguments))
    return Postprocessing(tuple(steps))


def _only(value: Any) -> Any:
    return value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value


def _check(part: Component, arguments: Mapping[str, Any]) -> None:
    wrong = [name for name, value in arguments.items() if isinstance(value, (list, tuple, dict)) and name not in ("applied_labels", "keys")]
    if part.target == "AsDiscreted":
        threshold = arguments.get("threshold")
        if threshold is not None and not isinstance(threshold, (int, float)):
            wrong.append("threshold")
        if arguments.get("rounding") is not None:
            wrong.append("rounding")
    if part.target == "Activationsd" and arguments.get("dim", 0) != 0:
        wrong.append("dim")
    if wrong:
        raise RefusedError(f"{part.where}: {part.target} with {', '.join(sorted(set(wrong)))} of this kind")


def run_steps(prediction: Prediction, postprocessing: Postprocessing, way: WayBack) -> Prediction:
    """Return the prediction after all steps, on the grid of the scan."""
    steps = list(postprocessing.steps)
    while steps:
        step = steps.pop(0)
        if step.target == "Invertd":
            if not prediction.on_scan:
                prediction = _inverted(prediction, step, steps, way)
        else:
            prediction = step.run(prediction, way)
    if not prediction.on_scan:
        if prediction.kind == "outputs":
            prediction = _discrete(prediction)
        values = np.rint(way.invert(prediction.values, nearest=True)).astype(np.asarray(prediction.values).dtype)
        prediction = replace(prediction, values=values, on_scan=True)
    return _discrete(prediction) if prediction.kind == "outputs" else prediction


def _discrete(prediction: Prediction) -> Prediction:
    """Labels of outputs that the bundle itself leaves as numbers: the largest channel, or one channel at 0.5."""
    values = np.asarray(prediction.values)
    if values.shape[0] > 1:
        return Prediction(_label_type(values.argmax(0)[None], values.shape[0]), "labels", prediction.on_scan)
    return Prediction((values >= 0.5).astype(np.uint8), "masks", prediction.on_scan)


def _applied(prediction: Prediction, step: Step, way: WayBack) -> Prediction:
    arguments = dict(step.arguments)
    for name in ("keys", "allow_missing_keys"):
        arguments.pop(name, None)
    if step.target == "Activationsd":
        return _activated(prediction, arguments)
    if step.target == "AsDiscreted":
        return _discretised(prediction, arguments)
    values = np.asarray(prediction.values)
    if step.target == "Lambdad":
        return _chosen(prediction, step.arguments["choices"])
    if step.target == "RemoveSmallObjectsd":
        arguments.pop("pixdim", None)
        arguments["voxel_mm3"] = way.voxel_mm3[prediction.on_scan] if arguments.pop("by_measure", False) else None
        cleaned = cleaning.remove_small(values, **arguments)
    else:
        labels = arguments.pop("applied_labels", None)
        labels = labels if labels is None or isinstance(labels, Sequence) else [labels]
        clean = cleaning.fill_holes if step.target == "FillHolesd" else cleaning.keep_largest
        cleaned = clean(values, labels, **arguments)
    return replace(prediction, values=cleaned)


def _chosen(prediction: Prediction, choices: tuple[tuple[int, int], ...]) -> Prediction:
    """Label numbers of masks: of the channels that are set in a voxel the first one named counts."""
    values = np.asarray(prediction.values)
    if max(channel for channel, _ in choices) >= len(values):
        raise IncompatibleModelError(f"the bundle chooses between channels {choices}, its network gives {len(values)}")
    labels = np.zeros((1, *values.shape[1:]), np.uint16 if max(number for _, number in choices) > 255 else np.uint8)
    for channel, number in reversed(choices):
        labels[0][values[channel] > 0] = number
    return Prediction(labels, "labels", prediction.on_scan, choices)


def _activated(prediction: Prediction, arguments: Mapping[str, Any]) -> Prediction:
    if prediction.kind != "outputs":  # the largest channel was taken already, which a softmax does not change
        return prediction
    torch = import_torch()
    values = torch.as_tensor(prediction.values)
    if arguments.get("sigmoid"):
        values = torch.sigmoid(values)
    if arguments.get("softmax"):
        values = torch.softmax(values, 0)
    return Prediction(values.numpy(), "outputs", prediction.on_scan)


def _discretised(prediction: Prediction, arguments: Mapping[str, Any]) -> Prediction:
    values = np.asarray(prediction.values)
    kind = prediction.kind
    if arguments.get("argmax") and kind != "labels":
        values, kind = _label_type(values.argmax(0)[None], values.shape[0]), "labels"
    count = arguments.get("to_onehot")
    if count is not None and kind == "labels":
        values, kind = np.stack([values[0] == number for number in range(int(count))]).astype(np.uint8), "masks"
    if arguments.get("threshold") is not None and kind == "outputs":
        values, kind = (values >= np.float32(arguments["threshold"])).astype(np.uint8), "masks"
    return Prediction(values, kind, prediction.on_scan)


def _inverted(prediction: Prediction, step: Step, rest: list[Step], way: WayBack) -> Prediction:
    """The prediction on the grid of the scan; of outputs only a few channels at a time are there in full."""
    nearest = bool(step.arguments.get("nearest_interp", True))
    if prediction.kind != "outputs":
        if not nearest:
            message = (
                "the bundle interpolates label numbers linearly on the way back, which puts other labels between two: nearest was used"
            )
            way.findings.append(Finding("BUNDLE_LABELS_NEAREST", Severity.INFO, message))
        values = way.invert(prediction.values, nearest=True)
        return replace(prediction, values=np.rint(values).astype(np.asarray(prediction.values).dtype), on_scan=True)
    discretise = _next_discrete(rest)
    if discretise is None:
        return Prediction(way.invert(prediction.values, nearest=nearest), "outputs", True)
    if discretise.argmax:
        return Prediction(_largest_channel(prediction.values, way, nearest), "labels", True)
    masks = np.zeros((len(prediction.values), *way.shape), np.uint8)
    between = rest[: rest.index(discretise)]
    for first, last in _chunks(len(prediction.values), way.shape):
        part = Prediction(way.invert(prediction.values[first:last], nearest=nearest), "outputs", True)
        for one in (*between, discretise):
            part = one.run(part, way)
        masks[first:last] = part.values
    return Prediction(masks, "masks", True)


def _next_discrete(rest: list[Step]) -> Step | None:
    """The step that makes labels or masks of outputs channel by channel, where nothing before it needs all channels."""
    softmax = False
    for step in rest:
        if step.argmax:
            return step
        if step.target == "AsDiscreted" and step.arguments.get("threshold") is not None:
            return None if softmax else step
        if not step.monotone:
            return None
        softmax = softmax or bool(step.arguments.get("softmax"))
    return None


def _largest_channel(outputs: Any, way: WayBack, nearest: bool) -> npt.NDArray[Any]:
    labels = _label_type(np.zeros(way.shape, np.uint8), len(outputs))
    best = np.full(way.shape, -np.inf, np.float32)
    for first, last in _chunks(len(outputs), way.shape):
        part = way.invert(outputs[first:last], nearest=nearest)
        for number, channel in enumerate(part, first):
            larger = channel > best
            labels[larger] = number
            np.maximum(best, channel, out=best)
    return labels[None]


def _chunks(count: int, shape: Sequence[int]) -> list[tuple[int, int]]:
    size = max(1, _CHUNK_BYTES // (8 * int(np.prod(shape, dtype=np.int64))))
    return [(first, min(first + size, count)) for first in range(0, count, size)]


def _label_type(labels: npt.NDArray[Any], channels: int) -> npt.NDArray[Any]:
    return labels.astype(np.uint8 if channels <= 256 else np.uint16)
