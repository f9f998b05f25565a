"""A random forest that learns from scribbles what each structure looks like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic

from medseg.core.errors import GeometryMismatchError, InputError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap, smallest_unsigned
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, LabelMapInput, MethodParams, Number
from medseg.segmentation.classical.dependencies import scikit_learn
from medseg.segmentation.classical.pixel_features import channels_of, scale_features
from medseg.segmentation.classical.result import label_map_on

BACKGROUND = "background"
MOST_SAMPLES = 20_000  # voxels a segment that the forest learns from
MOST_SEGMENTS = 250  # each leaf of each tree holds the share of every segment
_ROWS = 1 << 16  # voxels that are classified at a time


class PixelClassifierParams(MethodParams):
    """Parameters of `pixel-classifier`."""

    scribbles: LabelMapInput = Field(
        description="Label map of examples: some voxels of each structure, and of a segment called background, which stays unlabelled"
    )
    sigmas_mm: list[Number] = Field(
        [1.0, 2.0, 4.0], description="Standard deviations of the Gaussians at which surroundings are described", unit="mm", min_length=1
    )
    trees: int = Field(50, description="Trees of the forest: more are slower and steadier", ge=1, le=1000)
    least_probability: Number | None = Field(
        None, description="Voxels whose likeliest segment is less likely than this stay unlabelled; empty: none do", ge=0, le=1
    )
    seed: int = Field(0, description="Start of the random numbers: the same seed gives the same forest", ge=0, le=4_294_967_295)

    @pydantic.model_validator(mode="after")
    def _sizes(self) -> PixelClassifierParams:
        if not all(0 <= sigma <= 100 for sigma in self.sigmas_mm):
            raise ValueError("sigmas_mm must lie between 0 and 100")
        return self


@method("pixel-classifier", stage=Stage.SEGMENT, reference="doi:10.1023/A:1010933404324", several=True)
def pixel_classifier(volume: Volume | tuple[Volume, ...], params: PixelClassifierParams) -> LabelMap:
    """Label every voxel as the scribbled one it resembles most: a random forest on the scan at several scales.

    Each voxel is told by its intensity and, at each sigma in mm, by blur, slope, Laplacian and coherence of the slopes, of
    every channel. The trees vote with the share of scribbled voxels in their leaves, segments weigh alike however much of
    them was scribbled. Scribbles keep their segments (number, label, colour); what the forest takes for "background" stays 0. The
    scribbles themselves may be relabelled. The same seed gives the same result, on any number of cores. Unequal spacing, oblique,
    left-handed and sheared grids are honoured. Voxels without a finite value stay 0. Takes about 16 bytes a voxel, channel and
    sigma. Needs scikit-learn (the extra `classical`). Raises GeometryMismatchError where the scribbles lie on another grid,
    InputError where fewer than two segments are scribbled, or more than 250.

    >>> from medseg.core.geometry import Geometry
    >>> from medseg.core.segment import Segment
    >>> halves = np.zeros((12, 6, 6), np.int16)
    >>> halves[6:] = 90
    >>> grid = Geometry((12, 6, 6), np.eye(4))
    >>> marks = np.zeros((12, 6, 6), np.uint8)
    >>> marks[1, 1:5, 3], marks[10, 1:5, 3] = 2, 1
    >>> scribbles = LabelMap(marks, grid, (Segment(1, "liver"), Segment(2, "background")))
    >>> pixel_classifier(Volume(halves, grid), PixelClassifierParams(scribbles=scribbles)).array[:, 3, 3].tolist()
    [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]
    """
    volumes, arrays, finite = channels_of(volume, "pixel-classifier")
    first = volumes[0]
    if not params.scribbles.geometry.matches(first.geometry):
        raise GeometryMismatchError(
            "pixel-classifier: scribbles lie on another grid than the scan; restore them onto the scan's grid first",
            first.geometry,
            params.scribbles.geometry,
        )
    marks = np.where(finite, params.scribbles.array.T, 0)
    marked = [segment for segment in params.scribbles.segments if (marks == segment.number).any()]
    if len(marked) < 2:
        held = "only one segment has" if marked else "no segment has"
        raise InputError(f"pixel-classifier: {held} a scribble on a voxel with a value; give two or more, such as background")
    if len(marked) > MOST_SEGMENTS:
        raise InputError(
            f"pixel-classifier: {len(marked)} segments are scribbled, and a forest tells at most {MOST_SEGMENTS} apart: scribble kinds "
            "of tissue, not every object, and part what touches with `instances` afterwards"
        )
    features = [field for array in arrays for field in scale_features(array, first.geometry, params.sigmas_mm)]
    forest = _trained(features, marks, [segment.number for segment in marked], params)
    numbers = np.array([0 if segment.label.lower() == BACKGROUND else segment.number for segment in marked])
    labels = _labelled(forest, features, numbers, params.least_probability)
    labels[~finite] = 0
    kept = [segment for segment in params.scribbles.segments if segment.label.lower() != BACKGROUND]
    segments = [replace(segment, algorithm="pixel-classifier") for segment in kept]
    if not segments:
        raise InputError("pixel-classifier: only background is scribbled; mark at least one structure")
    counts = {segment.label: int((marks == segment.number).sum()) for segment in marked}
    text = ", ".join(f"{count} voxels of {label}" for label, count in counts.items())
    return label_map_on(first, labels, segments, [Finding("CLASSIFIER_TRAINED", Severity.INFO, f"learned from {text}", {"voxels": counts})])


def _trained(
    features: Sequence[npt.NDArray[np.float32]], marks: npt.NDArray[Any], numbers: Sequence[int], params: PixelClassifierParams
) -> Any:
    """A forest whose class n is the n-th of the numbers."""
    rows, classes = [], []
    for place, number in enumerate(numbers):
        held = marks == number
        found = np.stack([field[held] for field in features], axis=1)
        # in an order that does not depend on how the axes of the scan run
        found = found[np.lexsort(found.T)]
        found = found[:: -(-len(found) // MOST_SAMPLES)]
        rows.append(found)
        classes.append(np.full(len(found), place))
    forest = scikit_learn("ensemble").RandomForestClassifier(
        n_estimators=params.trees, min_samples_leaf=2, class_weight="balanced_subsample", random_state=params.seed, n_jobs=1
    )
    return forest.fit(np.concatenate(rows), np.concatenate(classes))


def _labelled(
    forest: Any, features: Sequence[npt.NDArray[np.float32]], numbers: npt.NDArray[np.int64], least: float | None
) -> npt.NDArray[Any]:
    """Labels (k,j,i); the forest sums its trees in one thread each time, so that rounding is the same on every machine."""
    from medseg.kernels.slabs import in_slabs

    flat = [field.reshape(-1) for field in features]
    labels = np.zeros(flat[0].size, smallest_unsigned(int(numbers.max())))

    def work(start: int, end: int) -> None:
        for low in range(start, end, _ROWS):
            part = slice(low, min(low + _ROWS, end))
            likely = forest.predict_proba(np.stack([field[part] for field in flat], axis=1))
            best = likely.argmax(axis=1)
            found = numbers[best]
            if least is not None:
                found[likely[np.arange(len(best)), best] < least] = 0
            labels[part] = found

    in_slabs(work, labels.size)
    return labels.reshape(features[0].shape)
