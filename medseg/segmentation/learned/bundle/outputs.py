"""From what a bundle's steps leave to one label a voxel, and the sink that keeps labels instead of outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medseg.core.finding import Finding, Severity
from medseg.core.segment import Segment
from medseg.segmentation.learned.bundle.metadata import BundleMetadata
from medseg.segmentation.learned.bundle.postprocess import Prediction
from medseg.segmentation.learned.engine.windows import Shape

if TYPE_CHECKING:
    import torch


class LargestSink:
    """Keeps the number of the largest channel of each voxel, (1, K, J, I): outputs of many channels are never there in full."""

    def __init__(self) -> None:
        self.channels = 0
        self._axis, self._done = 0, 0
        self._labels: npt.NDArray[Any] = np.zeros((0, 0, 0), np.uint8)

    def begin(self, channels: int, shape: Shape, axis: int, device: torch.device) -> None:
        """Get ready for rows along `axis`."""
        self.channels, self._axis, self._done = channels, axis, 0
        self._labels = np.zeros(shape, np.uint8 if channels <= 256 else np.uint16)

    def push(self, rows: torch.Tensor) -> None:
        """Keep the largest channel of the next rows."""
        count = rows.shape[self._axis + 1]
        place = [slice(None)] * 3
        place[self._axis] = slice(self._done, self._done + count)
        self._labels[tuple(place)] = rows.argmax(0).cpu().numpy()
        self._done += count

    def finish(self) -> Any:
        """Return the labels."""
        return self._labels[None]


def as_labels(
    prediction: Prediction, metadata: BundleMetadata, channels: int
) -> tuple[npt.NDArray[Any], tuple[Segment, ...], list[Finding]]:
    """Return labels (K,J,I), their segments and what was doubtful; `channels` is the number of outputs of the network.

    Masks that overlap are painted from the largest to the smallest, so that a structure within another one stays visible.
    """
    values = np.asarray(prediction.values)
    if prediction.choices:
        return np.ascontiguousarray(values[0].T), metadata.segments_of_choices(prediction.choices, channels), []
    if prediction.kind == "labels":
        segments = metadata.segments_of_labels(max(channels, int(values.max(initial=0)) + 1))
        return np.ascontiguousarray(values[0].T), segments, []
    segments = metadata.segments_of_masks(values.shape[0])
    first = values.shape[0] - len(segments)
    counts = {segment.number: int(np.count_nonzero(values[first + segment.number - 1])) for segment in segments}
    order = sorted(segments, key=lambda segment: (-counts[segment.number], segment.number))
    labels = np.zeros(values.shape[:0:-1], np.uint8 if len(segments) < 256 else np.uint16)
    overlapping = 0
    for segment in order:
        mask = values[first + segment.number - 1].T > 0
        overlapping += int(np.count_nonzero(labels[mask]))
        labels[mask] = segment.number
    return labels, segments, _overlap(overlapping, order, counts) if overlapping else []


def _overlap(overlapping: int, order: list[Segment], counts: dict[int, int]) -> list[Finding]:
    present = [segment.label for segment in order if counts[segment.number]]
    message = (
        f"the model's structures overlap in {overlapping} voxels, and a label map holds one label a voxel: painted in the order "
        f"{', '.join(present)}, so that the smaller ones lie on top; volumes of the larger ones leave out what lies under them"
    )
    return [Finding("MODEL_OUTPUTS_OVERLAP", Severity.WARNING, message, {"voxels": overlapping, "order": present})]
