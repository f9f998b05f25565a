"""A validation patch as a picture: the slice with most of the structures, with reference and prediction side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import MissingDependencyError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.reporting.overlay import Cut, Style, draw_slice
from medseg.training.sampling import IGNORE

_HEIGHT = 360  # pixels of a slice, about
_CAPTION = 28
_GAP = 8
_SHOWN_RANGE = (0.5, 99.5)  # percentiles of the intensities that become black and white

RGB = npt.NDArray[np.uint8]


def patch_pictures(
    image: npt.NDArray[Any], labels: npt.NDArray[Any], found: npt.NDArray[Any], spacing_mm: Sequence[float], names: Sequence[str]
) -> tuple[RGB, RGB]:
    """Return the slice of a patch with its reference and with its prediction, each (height, width, 3).

    `image`, `labels` and `found` are (K, J, I), `spacing_mm` in their order, `names` those of the labels 1, 2, ...
    """
    reference = np.where(labels == IGNORE, 0, labels).astype(np.uint8)
    counts = (reference > 0).sum(axis=(1, 2)) * 2 + (found > 0).sum(axis=(1, 2))
    k = int(counts.argmax())
    geometry = Geometry(image.shape[::-1], np.diag([*reversed([float(value) for value in spacing_mm]), 1.0]))
    volume = Volume(np.asfortranarray(image.T.astype(np.float32)), geometry)
    low, high = np.percentile(image, _SHOWN_RANGE)
    style = Style(((low + high) / 2, max(high - low, 1e-6)))
    segments = tuple(Segment(number, name) for number, name in enumerate(names, 1))
    scale = _HEIGHT / (image.shape[1] * float(spacing_mm[1]))
    index = (image.shape[2] // 2, image.shape[1] // 2, k)
    reference_map, found_map = (
        LabelMap(np.asfortranarray(array.T.astype(np.uint8)), geometry, segments) for array in (reference, np.asarray(found))
    )
    return tuple(draw_slice(volume, label_map, Cut("axial", index), scale, style) for label_map in (reference_map, found_map))  # type: ignore[return-value]


def side_by_side_png(pictures: Sequence[RGB], captions: Sequence[str]) -> bytes | None:
    """Return pictures of one size beside each other with their captions as PNG; None without matplotlib (extra `report`)."""
    from medseg.reporting.canvas import Canvas

    height, width = pictures[0].shape[:2]
    try:
        canvas = Canvas(len(pictures) * (width + _GAP) - _GAP, height + _CAPTION)
        for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
            left = number * (width + _GAP)
            canvas.picture(picture, left, _CAPTION)
            canvas.text(canvas.fitted(caption, width - 12, 14), left + 6, _CAPTION / 2, size=14)
        return canvas.png()
    except MissingDependencyError:
        return None
