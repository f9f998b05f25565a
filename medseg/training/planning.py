"""Rules that turn a fingerprint into a plan, after nnU-Net's (doi:10.1038/s41592-020-01008-z): data decide, not the user.

Spacing is the median of the dataset (thick-slice data: the 10th percentile across the slices). The patch is as much of the
median scan as memory holds, the network as deep as the patch allows, its kernels flat where the voxels are. CT is clipped and
scaled by the whole dataset, everything else by each scan's own mean and deviation.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.training.dataset import Dataset
from medseg.training.fingerprint import CaseFacts, Fingerprint
from medseg.training.plan import SCHEMA, Augmentation, TrainingPlan, model_name

ORIENTATION = "RAS"
LEAST_DEEPEST = 4  # voxels along an axis at the deepest level
MOST_LEVELS = 6
_LEAST_LEVELS = 4
_MOST_PADDING = 1.6  # a patch rounded up beyond this share of the scan is mostly padding: a shallower network divides a smaller one
_ANISOTROPIC = 3.0  # spacing (and extent) ratio above which data count as thick slices
_FLAT = 2.0  # spacing ratio at which an axis gets no kernel and no stride yet
_BYTES_PER_FEATURE = 48  # of one voxel and feature of a level: outputs of its convolutions and norms kept for the way back
_FIXED_MB = 1500  # what torch, the weights and the optimiser take
_DATASET_SHARE = 0.05  # a batch holds at most this share of the voxels of the dataset
_LARGEST_GPU_PATCH = 192**3
_LARGEST_CPU_PATCH = 80**3  # on a CPU time ends before memory does
_GPU_VOXELS_PER_STEP = 2 * 128**3
_NAMED_LABELS = 8
_CPU_STEPS, _GPU_STEPS, _WARMUP_STEPS = 3000, 30_000, 50
_CPU_FEATURES, _GPU_FEATURES = (16, 64), (32, 320)  # of the finest level, and the most of any
_FEW_STEPS = 10_000  # a short training learns more from scans that look like scans: fewer changes, no turning upside down
_FEW_STEPS_SHARE = 0.5
_LEAST_COVER = 0.85  # a patch is rounded down where it still covers this share of the scan
_SIDES = re.compile(r"(?:^|[^a-z])(left|right|lh|rh|lt|rt|l|r)(?:[^a-z]|$)|^(?:left|right)|(?:left|right)$")


@dataclass(frozen=True)
class Topology:
    """Kernels and strides of each level, in the order of the axes of the patch they were made for."""

    kernels: tuple[tuple[int, int, int], ...]
    strides: tuple[tuple[int, int, int], ...]

    @property
    def multiples(self) -> npt.NDArray[np.int64]:
        """Product of the strides along each axis."""
        return np.prod(np.array(self.strides), axis=0)


@dataclass(frozen=True)
class Budget:
    """What a plan may use: device type ("cpu" or "cuda") and its memory."""

    device: str = "cpu"
    memory_mb: int = 8000


def make_plan(
    dataset: Dataset,
    fingerprint: Fingerprint,
    *,
    memory_mb: int,
    device: str,
    steps: int | None = None,
    folds: int = 5,
    name: str = "",
    seed: int = 0,
) -> TrainingPlan:
    """Return the plan for a dataset on a device ("cpu", "cuda", ...) with that much memory.

    Without `steps` a fold has 3000 on a CPU and 30 000 on a GPU; `with_steps` changes them. Below 10 000 steps scans are
    changed half as often and mirrored from left to right only. There are never more folds than cases. The plan covers every
    label that dataset.json names, found or not.
    """
    budget = Budget(device.partition(":")[0], memory_mb)
    on_gpu = budget.device != "cpu"
    spacing = target_spacing_mm(fingerprint.cases)
    shape = median_shape(fingerprint.cases, spacing)
    features, most = _GPU_FEATURES if on_gpu else _CPU_FEATURES
    steps = steps or (_GPU_STEPS if on_gpu else _CPU_STEPS)
    patch, topology = patch_and_topology(shape, spacing, features, most, budget)
    filters = level_features(len(topology.strides), features, most)
    outputs = len(dataset.labels) + 1
    batch = _batch_size(patch, topology, filters, len(fingerprint.cases) * float(np.prod(shape)), budget)
    levels = len(topology.strides)
    named = list(dataset.labels.values())
    structures = ", ".join(named) if len(named) <= _NAMED_LABELS else f"{len(named)} structures"
    entries: dict[str, Any] = {
        "schema": SCHEMA,
        "name": model_name(name or dataset.name),
        "title": f"{dataset.name}: {structures}",
        "channels": dataset.channels,
        "modality": dataset.modality,
        "labels": dataset.labels,
        "spacing_mm": tuple(round(float(value), 6) for value in spacing),
        "orientation": ORIENTATION,
        "normalisation": _normalisation(dataset, fingerprint),
        "patch_size": tuple(int(size) for size in patch),
        "batch_size": batch,
        "network": {"name": "PlainConvUNet", "arguments": _plain_conv_unet(topology, filters, len(dataset.channels), outputs)},
        "deep_supervision": max(0, levels - 2),
        "mirror_axes": _mirror_axes(dataset.labels.values(), steps),
        "augmentation": _augmentation(steps),
        "optimiser": {"name": "adamw", "learning_rate": 1e-3 if on_gpu else 3e-3, "weight_decay": 1e-2},
        "ema_decay": 0.999 if on_gpu else 0.998,
        "folds": max(1, min(folds, len(fingerprint.cases))),
        "seed": seed,
        "licence": _licence(dataset),
        "intended_use": (
            f"Research: segmentation of {structures} in {dataset.modality} scans like those of {dataset.name!r}. "
            "Not a medical device; look at every result."
        ),
    }
    return with_steps(TrainingPlan(**entries), steps)


def with_steps(plan: TrainingPlan, steps: int, time_budget_minutes: float | None = None) -> TrainingPlan:
    """Return the plan with another number of steps, ten validations over them, and a time budget where given."""
    schedule = plan.schedule.model_copy(update={"steps": steps, "warmup_steps": min(_WARMUP_STEPS, steps // 10)})
    changes = {"schedule": schedule, "validation_every_steps": max(1, steps // 10), "time_budget_minutes": time_budget_minutes}
    return plan.model_copy(update=changes)


def steps_within(minutes: float, seconds_per_step: float) -> int:
    """Return how many steps fit into so many minutes of a fold, a tenth of which goes to validation and checkpoints."""
    return int(min(max(minutes * 60 * 0.9 / max(seconds_per_step, 1e-6), 20), 250_000))


def target_spacing_mm(cases: Sequence[CaseFacts]) -> npt.NDArray[np.float64]:
    """Return the spacing to train at, along R, A, S: the median, and across thick slices the 10th percentile."""
    spacings = np.array([_along_patient(case.orientation, case.spacing_mm) for case in cases])
    shapes = np.array([_along_patient(case.orientation, case.shape) for case in cases])
    spacing = np.median(spacings, axis=0)
    extent = np.median(shapes * spacings / spacing, axis=0)
    worst = int(spacing.argmax())
    others = [axis for axis in range(3) if axis != worst]
    if spacing[worst] > _ANISOTROPIC * spacing[others].max() and extent[worst] * _ANISOTROPIC < extent[others].min():
        spacing[worst] = max(float(np.percentile(spacings[:, worst], 10)), float(spacing[others].max()))
    return np.asarray(spacing)


def median_shape(cases: Sequence[CaseFacts], spacing: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the median extent of the scans along R, A, S in voxels of that spacing."""
    extents = [_along_patient(case.orientation, case.shape) * _along_patient(case.orientation, case.spacing_mm) for case in cases]
    return np.asarray(np.median(np.array(extents) / spacing, axis=0))


def patch_and_topology(
    shape: npt.NDArray[np.float64], spacing: npt.NDArray[np.float64], features: int, most: int, budget: Budget
) -> tuple[npt.NDArray[np.int64], Topology]:
    """Return the largest patch (i,j,k) within the median scan that memory holds at a batch of two, and its network.

    A patch too large is cut along the axis that covers most of the scan, so that it keeps the scan's proportions.
    """
    on_gpu = budget.device != "cpu"
    largest = _LARGEST_GPU_PATCH if on_gpu else _LARGEST_CPU_PATCH
    size = np.maximum(np.asarray(shape, dtype=np.float64), 1.0)
    while True:
        patch, topology = _rounded(size, spacing)
        needed = memory_needed_mb(patch, topology, level_features(len(topology.strides), features, most), 2)
        if (needed <= budget.memory_mb and patch.prod() <= largest) or (patch <= 2 * LEAST_DEEPEST).all():
            return patch, topology
        axis = int(np.argmax(np.where(patch > 2 * LEAST_DEEPEST, patch / shape, 0)))
        multiple = topology.multiples.max()
        size = patch.astype(np.float64)
        size[axis] = patch[axis] - multiple if patch[axis] > multiple else patch[axis] / 2


def topology_of(
    patch: Sequence[float] | npt.NDArray[np.float64], spacing: Sequence[float] | npt.NDArray[np.float64], levels: int = MOST_LEVELS
) -> Topology:
    """Return kernels and strides for a patch: an axis is halved while 4 voxels remain and its voxels are not the coarse ones.

    >>> topology_of((40, 56, 40), (1, 1, 1)).strides
    ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    >>> topology_of((16, 256, 256), (5, 1, 1)).strides[:4]
    ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2))
    """
    size, mm = [float(value) for value in patch], [float(value) for value in spacing]
    kernels, strides = [], [(1, 1, 1)]
    while True:
        finest = min(mm)
        kernel = [3 if mm[axis] < _FLAT * finest else 1 for axis in range(3)]
        kernels.append((kernel[0], kernel[1], kernel[2]))
        can = [axis for axis in range(3) if size[axis] >= 2 * LEAST_DEEPEST]
        if not can or len(strides) == levels:
            return Topology(tuple(kernels), tuple(strides))
        finest = min(mm[axis] for axis in can)
        stride = [2 if axis in can and mm[axis] < _FLAT * finest else 1 for axis in range(3)]
        strides.append((stride[0], stride[1], stride[2]))
        size = [value / step for value, step in zip(size, stride, strict=True)]
        mm = [value * step for value, step in zip(mm, stride, strict=True)]


def level_features(levels: int, features: int, most: int) -> list[int]:
    """Return the features of each level: doubled with every level up to `most`."""
    return [min(most, features * 2**level) for level in range(levels)]


def memory_needed_mb(patch: Sequence[int] | npt.NDArray[np.int64], topology: Topology, filters: Sequence[int], batch: int) -> float:
    """Return about how much memory a training step takes, MB."""
    voxels = float(np.prod(patch))
    total = 0.0
    for stride, count in zip(topology.strides, filters, strict=True):
        voxels /= math.prod(stride)
        total += voxels * count * _BYTES_PER_FEATURE
    return _FIXED_MB + batch * total / 1e6


def has_side(label: str) -> bool:
    """Whether the name of a structure says left or right.

    >>> has_side("kidney_left"), has_side("Right Lung"), has_side("bright spot"), has_side("Anterior")
    (True, True, False, False)
    """
    return _SIDES.search(label.lower()) is not None


def _rounded(size: npt.NDArray[np.float64], spacing: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], Topology]:
    """The least patch (i,j,k) that (nearly) covers `size`, a multiple of its network's strides; shallower where that would be wasteful."""
    patch, topology = _covering(size, spacing, MOST_LEVELS)
    for levels in range(MOST_LEVELS - 1, _LEAST_LEVELS - 1, -1):
        if (patch <= _MOST_PADDING * np.ceil(size)).all():
            break
        patch, topology = _covering(size, spacing, levels)
    return patch, topology


def _covering(size: npt.NDArray[np.float64], spacing: npt.NDArray[np.float64], levels: int) -> tuple[npt.NDArray[np.int64], Topology]:
    topology = topology_of(np.ceil(size), spacing, levels)
    multiple = int(topology.multiples.max())
    smaller = np.floor(size / multiple) * multiple
    return np.where(smaller >= _LEAST_COVER * size, smaller, np.ceil(size / multiple) * multiple).astype(np.int64), topology


def _batch_size(patch: npt.NDArray[np.int64], topology: Topology, filters: Sequence[int], dataset_voxels: float, budget: Budget) -> int:
    if budget.device == "cpu":
        return 2 if memory_needed_mb(patch, topology, filters, 2) <= budget.memory_mb else 1
    voxels = float(patch.prod())
    batch = int(min(_GPU_VOXELS_PER_STEP / voxels, max(2.0, _DATASET_SHARE * dataset_voxels / voxels)))
    while batch > 2 and memory_needed_mb(patch, topology, filters, batch) > budget.memory_mb:
        batch -= 1
    return max(2, batch) if memory_needed_mb(patch, topology, filters, 2) <= budget.memory_mb else 1


def _plain_conv_unet(topology: Topology, filters: Sequence[int], channels: int, outputs: int) -> dict[str, Any]:
    levels = len(topology.strides)
    return {
        "input_channels": channels,
        "n_stages": levels,
        "features_per_stage": list(filters),
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [list(reversed(kernel)) for kernel in topology.kernels],
        "strides": [list(reversed(stride)) for stride in topology.strides],
        "n_conv_per_stage": [2] * levels,
        "num_classes": outputs,
        "n_conv_per_stage_decoder": [2] * (levels - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def _augmentation(steps: int) -> Augmentation:
    usual = Augmentation()
    if steps >= _FEW_STEPS:
        return usual
    chances = ("rotation", "scaling", "noise", "smoothing", "brightness", "contrast", "low_resolution", "gamma")
    return usual.model_copy(update={name: getattr(usual, name) * _FEW_STEPS_SHARE for name in chances})


def _normalisation(dataset: Dataset, fingerprint: Fingerprint) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = []
    for name, values in zip(dataset.channels, fingerprint.channels.values(), strict=True):
        is_ct = "ct" in re.split(r"[^a-z]+", name.lower()) and values.std > 0 and values.percentile_00_5 < values.percentile_99_5
        limits = {"lower": values.percentile_00_5, "upper": values.percentile_99_5, "mean": values.mean, "std": values.std}
        rules.append({"kind": "clip-and-z-score", **{k: round(v, 4) for k, v in limits.items()}} if is_ct else {"kind": "z-score"})
    return rules if any(rule != rules[0] for rule in rules) else rules[:1]


def _mirror_axes(labels: Iterable[str], steps: int) -> tuple[int, ...]:
    side = next(axis for axis, code in enumerate(ORIENTATION) if code in "RL")
    axes = (side,) if steps < _FEW_STEPS else (0, 1, 2)
    return tuple(axis for axis in axes if axis != side or not any(has_side(label) for label in labels))


def _licence(dataset: Dataset) -> dict[str, str]:
    data = re.sub(r"\s+", "-", dataset.licence) if dataset.licence.upper().startswith("CC") else dataset.licence
    data = data or "unknown: say so here before you share the model"
    # Weights learned from share-alike data are given on under the licence of the data unless a person decides otherwise.
    return {"code": "Apache-2.0", "weights": data, "data": data}


def _along_patient(orientation: str, values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Values per array axis as values along R/L, A/P, S/I."""
    result = np.empty(3)
    for code, value in zip(orientation, values, strict=True):
        result["RLAPSI".index(code) // 2] = value
    return result
