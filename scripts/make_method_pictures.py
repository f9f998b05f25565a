"""Draw before and after for every method, from medseg/method_examples/*.yaml: `python scripts/make_method_pictures.py [NAME ...]`.

One file a method, named by it. The keys:

scan        ct | mr | multi | head: an example scan of medseg/phantom/example_scans.py. `multi` gives both channels to a method that takes
            several, the first (T1-like) to any other.
label_map   truth | seeds | rough | shifted | lesions: what a postprocess method works on; default rough. Others leave it out.
parameters  as in a pipeline YAML. Points are [R, A, S] in mm. A parameter that takes a label map names one of those above
            (`seeds` also holds a segment called background).
caption     one sentence: what one sees.
view        may be left out: {plane: axial | coronal | sagittal, at_mm: the place along S, A or R}. By default the axial slice that
            holds most of the result (filters: the slice through the tumour).
window      may be left out: [lowest, highest] intensity drawn in the scan. By default -160 to 240 HU for ct, else 0 to the
            99.5th percentile.

A postprocess method gets the scan too. The pictures go to docs/pictures/methods/<name>.png (40 kB at most).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.method.method import Stage
from medseg.method.schema import parameters_of
from medseg.phantom.example_scans import ExampleScan, example_scan
from medseg.phantom.examples import Example, examples

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "methods"
PIXEL_MM = 0.85
GAP_PIXELS = 6
FILL = 0.4  # share of a segment's colour inside it; its outline is drawn in full
COLOURS = 160
GREYS = 48  # fewer greys leave room for the colours of segments
MOST_BYTES = 40_000
SEED_COLOUR = (255, 235, 60)
# plane: world axis of the columns, of the rows, and across; the patient's right and front are on the left, the head on top
PLANES = {"axial": (0, 1, 2), "coronal": (0, 2, 1), "sagittal": (1, 2, 0)}
WINDOWS = {"ct": (-160.0, 240.0)}

Picture = npt.NDArray[np.uint8]


def main(names: Iterable[str]) -> None:
    """Draw the pictures of the named methods, or of all."""
    found = examples()
    scans: dict[str, ExampleScan] = {}
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in names or found:
        example = found[name]
        if example.scan not in scans:
            scans[example.scan] = example_scan(example.scan)
        scan = scans[example.scan]
        size = save(draw(example, scan), PICTURES / f"{name}.png")
        print(f"{name}: {size / 1000:.1f} kB")


def draw(example: Example, scan: ExampleScan) -> Picture:
    """Return before and after side by side (every channel of a scan that has several)."""
    result = example.run(scan)
    view = View(scan.volume.geometry, example, result if isinstance(result, LabelMap) else None)
    window = example.window or WINDOWS.get(example.scan)
    before = [view.grey(channel, window) for channel in scan.channels[: 2 if example.method.several else 1]]
    if example.method.stage is Stage.PREPROCESS:
        panels = [*before, view.grey(result, window if _is_like(scan.volume, result) else None)]
    else:
        after = view.overlaid(before[0], result)
        if example.method.stage is Stage.POSTPROCESS:
            before[0] = view.overlaid(before[0], scan.label_maps[example.label_map])
        for name in example.label_map_parameters():
            before[0] = view.overlaid(before[0], scan.label_maps[example.parameters[name]])
        panels = [*(view.with_points(panel, example) for panel in before), after]
    gap = np.full((panels[0].shape[0], GAP_PIXELS, 3), 255, np.uint8)
    return np.concatenate([part for panel in panels for part in (gap, panel)][1:], axis=1)


class View:
    """A plane through the patient, as pixels."""

    def __init__(self, geometry: Geometry, example: Example, result: LabelMap | None) -> None:
        columns, rows, across = PLANES[example.view.get("plane", "axial")]
        corners = geometry.corners_mm()
        low, high = corners.min(axis=0), corners.max(axis=0)
        self.place_mm = float(example.view["at_mm"]) if "at_mm" in example.view else _fullest(result, across, (low, high))
        points = np.zeros((int((high - low)[rows] / PIXEL_MM), int((high - low)[columns] / PIXEL_MM), 3))
        points[..., columns] = (high[columns] - PIXEL_MM * np.arange(points.shape[1]))[None, :]
        points[..., rows] = (high[rows] - PIXEL_MM * np.arange(points.shape[0]))[:, None]
        points[..., across] = self.place_mm
        self.points, self.axes = points, (columns, rows, across)

    def sampled(self, array: npt.NDArray[Any], geometry: Geometry) -> npt.NDArray[Any]:
        """Return the voxel nearest to every pixel; 0 outside the grid."""
        index = np.rint(geometry.world_to_index(self.points)).astype(int)
        inside = geometry.contains(index)
        index = np.clip(index, 0, np.array(geometry.shape) - 1)
        return np.where(inside, array[tuple(np.moveaxis(index, -1, 0))], np.zeros((), array.dtype))

    def grey(self, volume: Volume, window: tuple[float, float] | None) -> Picture:
        """Return a slice in grey, from the lowest to the highest intensity of the window (the 0.5th and 99.5th percentile where None)."""
        low, high = window or (float(value) for value in np.nanpercentile(volume.array, (0.5, 99.5)))
        values = np.nan_to_num(self.sampled(volume.array, volume.geometry).astype(np.float64))
        shade = np.clip((values - low) / (high - low if high > low else 1.0), 0, 1)
        return np.repeat(np.rint(255 * np.rint((GREYS - 1) * shade) / (GREYS - 1)).astype(np.uint8)[..., None], 3, axis=2)

    def overlaid(self, picture: Picture, label_map: LabelMap) -> Picture:
        """Return a picture with the segments of a label map: filled lightly, outlined fully."""
        labels = self.sampled(label_map.array, label_map.geometry)
        table = np.zeros((int(label_map.array.max(initial=0)) + 1, 3))
        for segment in label_map.segments:
            if segment.number < len(table):
                table[segment.number] = segment.rgb
        wide = np.pad(labels, 1, mode="edge")
        is_border = np.zeros(labels.shape, bool)
        for shift in ((0, 1), (2, 1), (1, 0), (1, 2)):
            is_border |= wide[shift[0] : shift[0] + labels.shape[0], shift[1] : shift[1] + labels.shape[1]] != labels
        share = np.where(labels > 0, np.where(is_border, 1.0, FILL), 0.0)[..., None]
        return np.asarray(np.rint(picture * (1 - share) + table[labels] * share), np.uint8)

    def with_points(self, picture: Picture, example: Example) -> Picture:
        """Return a picture with a cross at every point among the parameters, whatever slice it lies in."""
        picture = picture.copy()
        kinds = {info.name: info.kind for info in parameters_of(example.method.params)}
        first = self.points[0, 0]
        for name, value in example.parameters.items():
            if kinds.get(name) != "point":
                continue
            for point in [value] if np.ndim(value) == 1 else value:
                column, row = (round((first[axis] - float(point[axis])) / PIXEL_MM) for axis in self.axes[:2])
                for step in range(-5, 6):
                    for r, c in ((row + step, column), (row, column + step)):
                        if 0 <= r < picture.shape[0] and 0 <= c < picture.shape[1]:
                            picture[r, c] = SEED_COLOUR
        return picture


def save(picture: Picture, path: Path) -> int:
    """Write a PNG of few colours; returns its bytes, and raises ValueError where they are too many."""
    Image.fromarray(picture).quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{path.name} has {size} bytes, more than {MOST_BYTES}")
    return size


def _fullest(result: LabelMap | None, across: int, limits: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]) -> float:
    """The place of the slice that holds most of the result; through the tumour of the example scans where there is none."""
    if result is None or not result.array.any():
        return {0: 66.0, 1: 2.0, 2: 10.0}[across]
    places = result.geometry.index_to_world(np.argwhere(result.array))[:, across]
    counts, edges = np.histogram(places, bins=40, range=(limits[0][across], limits[1][across]))
    return float(edges[counts.argmax()] + edges[counts.argmax() + 1]) / 2


def _is_like(before: Volume, after: Volume) -> bool:
    """Whether a filtered scan can be drawn in the window of the scan it came from."""
    low, high = np.percentile(before.array, (1, 99))
    new_low, new_high = np.nanpercentile(after.array, (1, 99))
    return bool(after.unit == before.unit and abs(new_low - low) + abs(new_high - high) < 0.5 * (high - low))


if __name__ == "__main__":
    main(sys.argv[1:])
