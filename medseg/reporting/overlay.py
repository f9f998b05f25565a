"""Grey values and segment colours of one slice, as the RGB pixels of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.reporting.planes import Plane, plane_of, sample_intensity, sample_labels

Window = tuple[float, float]  # centre, width
RGB = npt.NDArray[np.uint8]

SUPERSAMPLING = 2  # pixels are drawn at twice the size and averaged: smooth contours without another library
CT_SOFT_TISSUE: Window = (40.0, 400.0)
CT_LUNG: Window = (-600.0, 1500.0)
BACKGROUND = np.array([10, 13, 18], dtype=np.float32)
_BAND_ROWS = 64 * SUPERSAMPLING
_SAMPLE_VOXELS = 1 << 19  # enough voxels to know the percentiles of an MR scan


def automatic_window(volume: Volume, segments: tuple[Segment, ...] = ()) -> Window:
    """Return a window (centre, width): soft tissue or lung for CT, the 1st to 99.5th percentile for everything else.

    >>> from medseg.core.geometry import Geometry
    >>> automatic_window(Volume(np.zeros((2, 2, 2), np.int16), Geometry((2, 2, 2), np.eye(4)), "CT", "HU"))
    (40.0, 400.0)
    """
    if volume.unit == "HU" or volume.modality == "CT":
        only_lungs = bool(segments) and all("lung" in segment.label.lower() for segment in segments)
        return CT_LUNG if only_lungs else CT_SOFT_TISSUE
    flat = volume.array.reshape(-1, order="F")
    values = flat[:: max(1, flat.size // _SAMPLE_VOXELS)].astype(np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(values, (1.0, 99.5)))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    return (low + high) / 2, max(high - low, 1e-6)


@dataclass(frozen=True)
class Cut:
    """Which slice to draw: plane name, index (i,j,k), and its part `box_mm` (left, top, right, bottom on the page; None is all).

    `only` names the one segment to overlay; None overlays all.
    """

    plane: str
    index: tuple[int, int, int]
    box_mm: tuple[float, ...] | None = None
    only: int | None = None


@dataclass(frozen=True)
class Style:
    """The window (centre, width), and the numbers of segments shown as an outline with hardly any fill."""

    window: Window
    faint: frozenset[int] = frozenset()


def draw_slice(volume: Volume, label_map: LabelMap, cut: Cut, scale: float, style: Style) -> RGB:
    """Draw a slice with its segments: (height, width, 3) at `scale` pixels a millimetre; outside the scan is background."""
    plane = plane_of(volume.geometry, cut.plane)
    left, top, right, bottom = cut.box_mm or (0.0, 0.0, *plane.size_mm)
    voxels = plane.voxels_of_pixels((left, top, right, bottom), scale * SUPERSAMPLING)
    grey = sample_intensity(plane.cut(volume.array, cut.index), voxels)
    flat = plane.cut(label_map.array, cut.index)
    labels, numbers = sample_labels(flat if cut.only is None else np.where(flat == cut.only, flat, 0), voxels)
    segments = [label_map[number] if number else None for number in numbers]
    edge = inner_edge(labels)
    rows = max(grey.shape[0] // SUPERSAMPLING * SUPERSAMPLING, min(grey.shape[0], 1))
    # a band at a time: a whole page of colours in floating point would weigh more than the slice it shows
    bands = [slice(start, min(start + _BAND_ROWS, rows)) for start in range(0, rows, _BAND_ROWS)]
    return np.concatenate([_averaged(paint(grey[band], labels[band], edge[band], segments, style)) for band in bands])


def inner_edge(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Return the contour of each segment; it lies inside its segment, so two that touch keep both lines."""
    reach = 2 * SUPERSAMPLING + 1
    edge = ndimage.minimum_filter(labels, reach) != labels
    edge |= ndimage.maximum_filter(labels, reach) != labels
    return np.asarray(edge & (labels > 0))


def paint(
    grey: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int32],
    edge: npt.NDArray[np.bool_],
    segments: Sequence[Segment | None],
    style: Style,
) -> npt.NDArray[np.float32]:
    """Blend segment colours over windowed grey values (NaN is background): translucent inside, clear at the edge.

    `labels` are places in `segments`, whose first entry is None for background; `edge` is their `inner_edge`.
    """
    centre, width = style.window
    shade = np.clip((grey - (centre - width / 2)) / width, 0, 1) * 255
    picture = np.where(np.isnan(grey)[..., None], BACKGROUND, shade[..., None]).astype(np.float32)
    table = np.array([(0, 0, 0) if segment is None else segment.rgb for segment in segments], dtype=np.float32)
    fill = np.array([0.0 if s is None else 0.05 if s.number in style.faint else 0.22 for s in segments], dtype=np.float32)
    alpha = np.where(edge, np.float32(0.92), fill[labels])[..., None]
    colour = table[labels]
    colour[edge] += (255 - colour[edge]) * 0.15
    return np.asarray(picture * (1 - alpha) + colour * alpha)


def _averaged(picture: npt.NDArray[np.float32]) -> RGB:
    height, width = (n // SUPERSAMPLING for n in picture.shape[:2])
    if not height or not width:
        return np.rint(picture).astype(np.uint8)
    whole = picture[: height * SUPERSAMPLING, : width * SUPERSAMPLING]
    blocks = whole.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING, 3)
    return np.asarray(np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8))


def page_box(plane: Plane, geometry: Geometry, first: tuple[int, ...], last: tuple[int, ...], margin_mm: float) -> tuple[float, ...]:
    """Return the part of a slice (left, top, right, bottom in page mm) that shows the index box `first`..`last` with a margin."""
    corners = np.array([plane.to_page_mm([(first, last)[bit >> n & 1][n] for n in range(3)]) for bit in range(8)])
    low, high = corners.min(axis=0) - margin_mm, corners.max(axis=0) + margin_mm
    width, height = plane.size_mm
    return max(0.0, float(low[0])), max(0.0, float(low[1])), min(width, float(high[0])), min(height, float(high[1]))
