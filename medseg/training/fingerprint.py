"""What a dataset is like: grids, intensities and volumes, in numbers small enough to read; every bad pair is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError, MedsegError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.method.settings import Progress, no_progress
from medseg.training.dataset import Dataset, TrainingCase, read_case, some

SAMPLED_VOXELS = 20_000  # intensities kept per case and channel for the percentiles
PERCENTILES = (0.5, 50.0, 99.5)
_FAULTS_SHOWN = 100


@dataclass(frozen=True)
class CaseFacts:
    """Grid and volumes of one case: `volumes_ml` per label number (0 where the case does not have it)."""

    id: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    orientation: str
    is_oblique: bool
    volumes_ml: dict[int, float]


@dataclass(frozen=True)
class Intensities:
    """Foreground intensities of one channel over all cases: exact mean, standard deviation and range; percentiles of a sample."""

    voxels: int
    mean: float
    std: float
    least: float
    largest: float
    percentile_00_5: float
    median: float
    percentile_99_5: float


@dataclass(frozen=True)
class Fingerprint:
    """A dataset in numbers: the facts of every case, and of each channel within the labelled structures.

    `problems` are the cases left out, with the reasons.
    """

    cases: tuple[CaseFacts, ...]
    channels: dict[str, Intensities]
    labels: dict[int, str]
    problems: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, as it stands in `fingerprint.json`."""
        volumes = {number: np.array([case.volumes_ml[number] for case in self.cases]) for number in self.labels}
        return {
            "schema": "medseg.training-fingerprint/1",
            "cases": [
                {
                    "id": case.id,
                    "shape": list(case.shape),
                    "spacing_mm": [round(value, 6) for value in case.spacing_mm],
                    "orientation": case.orientation,
                    "is_oblique": case.is_oblique,
                    "volumes_ml": {str(number): round(value, 4) for number, value in case.volumes_ml.items()},
                }
                for case in self.cases
            ],
            "orientations": dict(Counter(case.orientation for case in self.cases)),
            "median_shape": np.median([case.shape for case in self.cases], axis=0).tolist(),
            "median_spacing_mm": np.median([case.spacing_mm for case in self.cases], axis=0).tolist(),
            "channels": {name: vars(values) for name, values in self.channels.items()},
            "labels": {
                str(number): {
                    "name": self.labels[number],
                    "cases": int((values > 0).sum()),
                    "volume_ml": {"median": float(np.median(values)), "least": float(values.min()), "largest": float(values.max())},
                }
                for number, values in volumes.items()
            },
            "left_out": {case: list(reasons) for case, reasons in self.problems.items()},
        }


def take_fingerprint(dataset: Dataset, progress: Progress = no_progress, *, skip_bad: bool = False) -> Fingerprint:
    """Read every case once and return what the dataset is like; with `skip_bad`, bad cases are left out and named.

    Raises InputError that lists every problem of every case (missing or unreadable files, image and label map on different
    grids, labels that are no whole numbers or that dataset.json does not name, no finite intensity), so that all can be
    repaired at once.
    """
    facts: list[CaseFacts] = []
    problems: dict[str, tuple[str, ...]] = {}
    pools = [_Pool() for _ in dataset.channels]
    for place, case in enumerate(dataset.cases):
        found, reasons = _examine(case, dataset, pools)
        if reasons:
            problems[case.id] = tuple(reasons)
        elif found is not None:
            facts.append(found)
        progress("examining cases", place + 1, len(dataset.cases))
    if problems and not skip_bad:
        raise InputError(_problem_text(dataset, problems))
    if len(facts) < 2:
        raise InputError(f"{dataset.folder}: {len(facts)} of {len(dataset.cases)} cases can be used; training needs two at least")
    if not any(pool.count for pool in pools):
        raise InputError(f"{dataset.folder}: no case has a labelled voxel: there is nothing to learn")
    channels = {name: pool.summary() for name, pool in zip(_unique(dataset.channels), pools, strict=True)}
    return Fingerprint(tuple(facts), channels, dict(dataset.labels), problems)


def label_problem(label: Volume, dataset: Dataset) -> str:
    """Return what is wrong with the values of a label map, "" where nothing is."""
    values = label.array
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            return "the label map holds NaN or infinity: write it again as whole numbers"
        if not np.array_equal(values, np.rint(values)):
            return "the label map holds fractions: it was interpolated linearly; make it again with nearest neighbours"
    allowed = {0, *dataset.labels} | ({dataset.ignore_label} if dataset.ignore_label is not None else set())
    unknown = sorted({int(value) for value in np.unique(values)} - allowed)
    if unknown:
        named = some(str(value) for value in unknown)
        return f"the label map holds {named}, which dataset.json does not name (it names {some(map(str, sorted(allowed)))})"
    return ""


def _examine(case: TrainingCase, dataset: Dataset, pools: list[_Pool]) -> tuple[CaseFacts | None, list[str]]:
    """Facts of a case, or every reason against it; a good case's intensities go into the pools."""
    missing = [path for path in (*case.images, case.label) if not path.is_file()]
    if missing:
        return None, [f"missing file {path.relative_to(dataset.folder).as_posix()}" for path in missing]
    try:
        images, label = read_case(case, dataset)
    except MedsegError as err:
        return None, [str(err)]
    reasons = []
    for name, image in zip(dataset.channels, images, strict=True):
        what = "image" if len(images) == 1 else f"image ({name})"
        reasons += [text for text in (_grid_problem(image.geometry, label.geometry, what), _intensity_problem(image, what)) if text]
    reasons += [text for text in (label_problem(label, dataset),) if text]
    if reasons:
        return None, reasons
    numbers = label.array.astype(np.int64, copy=False)
    counts = {number: int(np.count_nonzero(numbers == number)) for number in dataset.labels}
    chosen = np.isin(numbers, list(dataset.labels))
    for pool, image in zip(pools, images, strict=True):
        pool.add(image.array[chosen], seed=len(pool.samples))
    geometry = label.geometry
    ml = {number: count * geometry.voxel_volume_mm3 / 1000 for number, count in counts.items()}
    return CaseFacts(case.id, geometry.shape, geometry.spacing_mm, geometry.orientation, geometry.is_oblique, ml), []


def _grid_problem(image: Geometry, label: Geometry, what: str) -> str:
    if image.shape != label.shape:
        return f"the {what} has {_times(image.shape)} voxels, the label map {_times(label.shape)}: they must share one grid"
    if not image.matches(label):
        apart = image.distance_mm(label)
        return f"{what} and label map lie up to {apart:.3g} mm apart: one of them has a wrong affine (their voxels agree in number)"
    return ""


def _intensity_problem(image: Volume, what: str) -> str:
    finite = image.array[np.isfinite(image.array)] if image.array.dtype.kind == "f" else image.array
    if not finite.size:
        return f"the {what} holds no finite number"
    if finite.min() == finite.max():
        return f"the {what} has one intensity only ({finite.flat[0]:g}): nothing can be seen in it"
    return ""


class _Pool:
    """Foreground intensities of one channel: exact sums, and a sample of every case."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0.0
        self.squares = 0.0
        self.least, self.largest = np.inf, -np.inf
        self.samples: list[npt.NDArray[np.float32]] = []

    def add(self, values: npt.NDArray[Any], seed: int) -> None:
        finite = values[np.isfinite(values)].astype(np.float64)
        if finite.size:
            self.count += finite.size
            self.sum += float(finite.sum())
            self.squares += float(np.square(finite).sum())
            self.least, self.largest = min(self.least, float(finite.min())), max(self.largest, float(finite.max()))
        if finite.size > SAMPLED_VOXELS:
            finite = np.random.default_rng(seed).choice(finite, SAMPLED_VOXELS, replace=False)
        self.samples.append(finite.astype(np.float32))

    def summary(self) -> Intensities:
        mean = self.sum / max(1, self.count)
        std = float(np.sqrt(max(0.0, self.squares / max(1, self.count) - mean * mean)))
        low, middle, high = (float(value) for value in np.percentile(np.concatenate(self.samples), PERCENTILES))
        return Intensities(self.count, mean, std, self.least, self.largest, low, middle, high)


def _unique(names: tuple[str, ...]) -> list[str]:
    return [name if names.count(name) == 1 else f"{name} ({place})" for place, name in enumerate(names)]


def _problem_text(dataset: Dataset, problems: Mapping[str, tuple[str, ...]]) -> str:
    lines = [f"  {case}: {reason}" for case, reasons in problems.items() for reason in reasons]
    more = [f"  and {len(lines) - _FAULTS_SHOWN} more"] if len(lines) > _FAULTS_SHOWN else []
    head = f"{len(problems)} of {len(dataset.cases)} cases in {dataset.folder} cannot be used:"
    return "\n".join([head, *lines[:_FAULTS_SHOWN], *more, "Repair them, or leave them out with --skip-bad."])


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(str(n) for n in shape)
