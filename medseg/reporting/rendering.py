"""A 3D picture of a label map, drawn on the processor: it works in any container, without display, driver or OpenGL."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medseg.core.errors import ParameterError
from medseg.core.label_map import LabelMap
from medseg.core.measurement import MeasurementTable
from medseg.reporting.canvas import FAINT, Canvas
from medseg.reporting.legend import draw_legend
from medseg.reporting.places import Place, find_places, glass_opacity, outer_numbers

if TYPE_CHECKING:
    from medseg.reporting.ray_casting import Camera, Hits

FloatArray = npt.NDArray[np.float64]

# view -> direction looked along and direction that is up, in RAS; letters follow from them
_VIEWS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "anterior": ((0, -1, 0), (0, 0, 1)),
    "posterior": ((0, 1, 0), (0, 0, 1)),
    "left": ((1, 0, 0), (0, 0, 1)),
    "right": ((-1, 0, 0), (0, 0, 1)),
    "superior": ((0, 0, -1), (0, 1, 0)),
    "inferior": ((0, 0, 1), (0, 1, 0)),
    "oblique": ((0.5, -0.82, -0.28), (0, 0, 1)),
}
_LEGEND_WIDTH = 290
_SUPERSAMPLING = 2
_BORDER = 44  # pixels around the segments: room for letters and scale bar
_NEUTRAL = np.array([[16, 20, 27], [34, 41, 52]], dtype=np.float32)  # top and bottom of the backdrop
_ROUND_LENGTHS_MM = (5, 10, 20, 50, 100, 200)


@dataclass(frozen=True)
class _Layer:
    place: Place
    hits: Hits
    least_opacity: float


def render_3d_png(
    label_map: LabelMap,
    *,
    size: tuple[int, int] = (900, 700),
    view: str = "anterior",
    exclude: Collection[str] = (),
    table: MeasurementTable | None = None,
) -> bytes:
    """Render the surfaces of the segments in parallel projection, with letters, scale bar and legend.

    `view` is where the viewer stands: anterior (patient right on the left of the picture), posterior, left, right,
    superior, inferior or oblique. A segment that encloses all others, and one that encloses a lesion, is drawn as glass.
    `exclude` names segments to leave out. A label map without voxels gives a picture that says so. Raises ParameterError
    for an unknown view or size, MissingDependencyError without the extra `report`.
    """
    if view not in _VIEWS:
        raise ParameterError(f"there is no view {view!r}; known: {', '.join(_VIEWS)}")
    width, height = int(size[0]), int(size[1])
    if min(width, height) < 64 or max(width, height) > 4000:
        raise ParameterError(f"a picture has 64 to 4000 pixels a side, got {width} × {height}")
    canvas = Canvas(width, height)
    places = tuple(place for place in find_places(label_map) if place.segment.label not in exclude)
    room = width - _LEGEND_WIDTH if width >= 2.6 * _LEGEND_WIDTH else width
    if not places:
        canvas.picture(np.rint(_backdrop(height, width)).astype(np.uint8), 0, 0)
        canvas.text("no segment has voxels", width / 2, height / 2, size=18, colour=FAINT, align="center")
        return canvas.png()
    camera = _camera(label_map, places, view, (room * _SUPERSAMPLING, height * _SUPERSAMPLING))
    scene = _scene(label_map, places, camera)
    page = np.repeat(_backdrop(height, 1), width, axis=1)
    page[:, :room] = scene.reshape(height, _SUPERSAMPLING, room, _SUPERSAMPLING, 3).mean(axis=(1, 3))
    canvas.picture(np.rint(page).astype(np.uint8), 0, 0)
    _annotate(canvas, camera, room)
    if room < width:
        draw_legend(canvas, places, (room + 6, 18, _LEGEND_WIDTH - 6, height - 30), table=table)
    return canvas.png()


def surface_pixels(label_map: LabelMap, place: Place, size: tuple[int, int], view: str = "anterior") -> npt.NDArray[np.uint8]:
    """Render the surface of one segment alone as the pixels (height, width, 3) of a small picture."""
    width, height = size
    pixels = scene_pixels(label_map, (place,), (width * _SUPERSAMPLING, height * _SUPERSAMPLING), view=view)
    averaged = pixels.reshape(height, _SUPERSAMPLING, width, _SUPERSAMPLING, 3).mean(axis=(1, 3))
    return np.asarray(np.rint(averaged).astype(np.uint8))


def scene_pixels(
    label_map: LabelMap, places: tuple[Place, ...], size: tuple[int, int], *, view: str = "anterior", border: int = _BORDER * _SUPERSAMPLING
) -> npt.NDArray[np.float32]:
    """Render the surfaces of these segments, one ray a pixel: (height, width, 3) from 0 to 255, `border` pixels free on each side."""
    return _scene(label_map, places, _camera(label_map, places, view, size, border))


def _camera(
    label_map: LabelMap, places: tuple[Place, ...], view: str, size: tuple[int, int], border: int = _BORDER * _SUPERSAMPLING
) -> Camera:
    from medseg.reporting.ray_casting import Camera

    width, height = size
    forward, up = (np.array(direction, dtype=np.float64) for direction in _VIEWS[view])
    forward /= np.linalg.norm(forward)
    up -= forward * (up @ forward)
    up /= np.linalg.norm(up)
    right = np.cross(forward, up)
    corners = np.array([[(p.first, p.last)[n >> axis & 1][axis] for axis in range(3)] for p in places for n in range(8)], dtype=np.float64)
    corners += np.sign(corners - corners.mean(axis=0)) * 0.5
    offsets = label_map.geometry.index_to_world(corners)
    across, upward = offsets @ right, offsets @ up
    pixel_mm = max(np.ptp(across) / max(width - 2 * border, 1), np.ptp(upward) / max(height - 2 * border, 1), 1e-3)
    along = offsets @ forward
    centre = right * (across.min() + across.max()) / 2 + up * (upward.min() + upward.max()) / 2 + forward * (along.min() - 10.0)
    return Camera(centre, right, up, forward, float(pixel_mm), height, width)


def _scene(label_map: LabelMap, places: tuple[Place, ...], camera: Camera) -> npt.NDArray[np.float32]:
    """Opaque surfaces by depth, shaded and darkened in their hollows; glass in front of them, the farthest first."""
    from medseg.reporting.ray_casting import cast_rays
    from medseg.reporting.surfaces import smooth_field

    clearness = glass_opacity(places, outer_numbers(places))
    depth = np.full((camera.height, camera.width), np.inf, dtype=np.float32)
    picture = np.repeat(_backdrop(camera.height, 1), camera.width, axis=1)
    glass: list[_Layer] = []
    for place in places:
        field = smooth_field(label_map, place)
        hits = cast_rays(field.values, field.level, field.affine, camera)
        if place.segment.number in clearness:
            glass.append(_Layer(place, hits, clearness[place.segment.number]))
            continue
        window = _window(hits)
        nearer = hits.depth_mm < depth[window]
        depth[window][nearer] = hits.depth_mm[nearer]
        picture[window][nearer] = _shaded(place, hits.normals[nearer])
    picture *= _hollows(depth, camera)[..., None]
    glass.sort(key=lambda layer: -float(np.min(layer.hits.depth_mm, initial=np.inf)))
    for layer in glass:
        window = _window(layer.hits)
        seen = np.isfinite(layer.hits.depth_mm) & (layer.hits.depth_mm < depth[window])
        normals = layer.hits.normals[seen]
        # Glass is clear where it faces the viewer and shows its outline where it turns away
        alpha = (layer.least_opacity + 0.55 * (1 - np.clip(normals[:, 2:], 0, 1)) ** 2.2).astype(np.float32)
        picture[window][seen] = picture[window][seen] * (1 - alpha) + _shaded(layer.place, normals) * alpha
    return picture


def _window(hits: Hits) -> tuple[slice, slice]:
    height, width = hits.depth_mm.shape
    return slice(hits.top, hits.top + height), slice(hits.left, hits.left + width)


def _shaded(place: Place, normals: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A key light from the upper left, a weak fill from the right, and a soft highlight (Blinn 1977)."""
    key = np.array([-0.42, 0.48, 0.77], dtype=np.float32)
    fill = np.array([0.75, -0.05, 0.66], dtype=np.float32)
    half = key + np.array([0, 0, 1], dtype=np.float32)
    half /= np.linalg.norm(half)
    light = 0.30 + 0.66 * np.clip(normals @ key, 0, 1) + 0.16 * np.clip(normals @ fill, 0, 1)
    gloss = 0.20 * np.clip(normals @ half, 0, 1) ** 28
    colour = np.array(place.segment.rgb, dtype=np.float32)
    return np.asarray(np.clip(colour * light[..., None] + 255 * gloss[..., None], 0, 255), dtype=np.float32)


def _hollows(depth: npt.NDArray[np.float32], camera: Camera) -> npt.NDArray[np.float32]:
    """Darken what lies behind its surroundings (unsharp masking of the depth, Luft et al. 2006, doi:10.1145/1141911.1142016)."""
    solid = np.isfinite(depth)
    if not solid.any():
        return np.ones(depth.shape, dtype=np.float32)
    known = np.where(solid, depth, 0).astype(np.float32)
    sigma = 0.016 * camera.width
    weight = ndimage.gaussian_filter(solid.astype(np.float32), sigma)
    around = ndimage.gaussian_filter(known, sigma) / np.maximum(weight, 1e-3)
    reach_mm = 0.09 * camera.width * camera.pixel_mm
    behind = np.clip((known - around) / reach_mm, 0, 1)
    return np.where(solid, 1 - 0.55 * behind, 1).astype(np.float32)


def _backdrop(height: int, width: int) -> npt.NDArray[np.float32]:
    rise = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    return np.asarray(np.broadcast_to(_NEUTRAL[0] * (1 - rise) + _NEUTRAL[1] * rise, (height, width, 3)).copy())


def _annotate(canvas: Canvas, camera: Camera, room: int) -> None:
    """Letters at the edges where the picture's axes are patient axes, and a scale bar (true everywhere: parallel rays)."""
    height = canvas.height
    places = (
        (camera.right, room - 14, height / 2),
        (-camera.right, 14, height / 2),
        (camera.up, room / 2, 18),
        (-camera.up, room / 2, height - 18),
    )
    for (direction, x, y), align in zip(places, ("right", "left", "center", "center"), strict=True):
        canvas.text(nearest_letters(direction), x, y, size=18, align=align, bold=True)
    pixel_mm = camera.pixel_mm * _SUPERSAMPLING
    fitting = [length for length in _ROUND_LENGTHS_MM if length / pixel_mm <= 0.3 * room]
    if fitting:
        length = fitting[-1] / pixel_mm
        canvas.line([(16, height - 18), (16 + length, height - 18)], width=3)
        canvas.text(f"{fitting[-1]} mm", 16, height - 26, size=13, anchor="bottom")


def nearest_letters(direction: npt.ArrayLike) -> str:
    """Name a direction in RAS by its patient letters, the strongest first; parts below a third are left out.

    >>> nearest_letters((-1, 0, 0)), nearest_letters((0.7, -0.7, 0.1))
    ('L', 'RP')
    """
    parts = np.asarray(direction, dtype=np.float64)
    order = sorted(range(3), key=lambda n: -round(abs(float(parts[n])), 6))
    return "".join(("RAS" if parts[n] > 0 else "LPI")[n] for n in order if abs(parts[n]) > 1 / 3)
