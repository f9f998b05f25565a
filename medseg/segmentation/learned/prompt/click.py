"""From clicks, boxes or a rough mask to the mask of one structure, with a small network that looks at a cube of the scan.

A click does not say how large a structure is, so cubes of several sizes are looked at and the surest answer counts. The
cube is then fitted: it grows where the mask touches a face that has scan behind it, and shrinks where the mask fills little
of it. The first click alone decides so far. A last look at finer voxels, with the mask found so far and all clicks, corrects
it and draws the border: so the network was trained.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medseg.core.errors import IncompatibleModelError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.kernels.components import keep_largest, label_components
from medseg.method.settings import Progress, no_progress
from medseg.segmentation.learned.dependencies import import_torch
from medseg.segmentation.learned.prompt.channels import CHANNELS, RegionPrompts, make_channels
from medseg.segmentation.learned.prompt.description import ClickDescription
from medseg.segmentation.learned.prompt.loading import PromptModel
from medseg.segmentation.learned.prompt.prompts import Prompts
from medseg.segmentation.learned.prompt.region import paint, read_mask, read_region, region_at

if TYPE_CHECKING:
    import torch

FloatArray = npt.NDArray[np.float32]
Corners = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]

FIRST_SPACINGS_MM = (1.0, 2.0, 4.0)  # voxels of the first cubes about clicks: structures of about 25, 50 and 100 mm
COARSEST_MM, FINEST_MM = 8.0, 0.5
MOST_LOOKS = 4  # to fit the cube, after the first
_GROWTH = 1.7  # how much larger the next cube is where the mask runs out of this one
_FILL_WANTED = 0.4  # share of the cube's side that the structure should fill
_FILL_LEAST, _FILL_MOST = 0.3, 0.7  # outside of these shares the cube is fitted
_FINE_VOXELS = 80  # side of the cube of the last look
_FINE_FILL = 0.55
_FINE_GAIN = 0.85  # the last look is worth it where its voxels are at least this much smaller
_RIM_VOXELS = 2  # how far around a mask the answer must be sure as well
_MOST_LOGIT = 50.0
_MOST_ANCHORS = 4000
_SAME_SIZE = 0.1  # cubes whose sides differ by less than this share show the same


@dataclass(frozen=True, eq=False)
class Clicked:
    """The mask (k,j,i) on the scan's grid, and the cubes that were looked at: side in voxels and voxel size in mm."""

    mask: npt.NDArray[np.uint8]
    looks: tuple[tuple[int, float], ...]
    device: str


@dataclass(frozen=True, eq=False)
class _Seen:
    """One look: the cube, the logits (k,j,i) and the mask of the wanted components."""

    look: Geometry
    logits: FloatArray
    mask: npt.NDArray[np.uint8]

    @property
    def sureness(self) -> float:
        """How far from even the odds are in and around the mask, 0 to 1; 0 for an empty mask."""
        if not self.mask.any():
            return 0.0
        near = ndimage.binary_dilation(self.mask, iterations=_RIM_VOXELS)
        return float(np.abs(2 * _probability(self.logits[near]) - 1).mean())


class ClickSegmenter:
    """A click network with its weights, ready to answer prompts on any scan; `network` None: one of its own."""

    def __init__(self, model: PromptModel, device: torch.device, network: torch.nn.Module | None = None) -> None:
        torch = import_torch()
        description = model.description
        if not isinstance(description, ClickDescription) or description.channels != CHANNELS:
            raise IncompatibleModelError(f"model {description.name!r} was trained on other prompts than this version of medseg draws")
        self.size = description.region_voxels
        self.device = device
        self.network = (model.network() if network is None else network).to(device, memory_format=torch.channels_last_3d)

    def segment(self, volume: Volume, prompts: Prompts, progress: Progress = no_progress) -> Clicked:
        """Return the mask of the structure that the prompts point at; see the head of this module."""
        every, prompts = prompts, replace(prompts, inside_mm=prompts.inside_mm[:1], outside_mm=prompts.outside_mm[:0])
        first = self._first_looks(volume.geometry, prompts)
        most = len(first) + MOST_LOOKS + 1
        seen: list[_Seen] = []
        for look in first:
            seen.append(self._see(volume, look, prompts))
            progress("looking", len(seen), most)
        best = max(seen, key=lambda one: one.sureness)
        for _ in range(MOST_LOOKS):
            look_on = self._next_look(best, volume.geometry, prompts)
            if look_on is None or any(abs(one.look.spacing_mm[0] / look_on.spacing_mm[0] - 1) < _SAME_SIZE for one in seen[len(first) :]):
                break
            best = self._see(volume, look_on, prompts)
            seen.append(best)
            progress("looking", len(seen), most)
        fine = self._fine_look(best, volume.geometry, every)
        if fine is not None:
            probability = Volume(_probability(best.logits).T, best.look)
            best = self._see(volume, fine, every, np.clip(read_region(probability, fine), 0, 1))
            seen.append(best)
        progress("looking", most, most)
        looks = tuple((one.look.shape[0], one.look.spacing_mm[0]) for one in seen)
        return Clicked(_on_scan(best.logits, best.look, volume.geometry, every), looks, str(self.device))

    def _see(self, volume: Volume, look: Geometry, prompts: Prompts, previous: FloatArray | None = None) -> _Seen:
        logits = self._logits(volume, look, prompts, previous)
        return _Seen(look, logits, _wanted(logits > 0, look, prompts, _places_mm(prompts.previous, volume.geometry)))

    def _logits(self, volume: Volume, look: Geometry, prompts: Prompts, previous: FloatArray | None = None) -> FloatArray:
        """Logits (k,j,i) of one look."""
        torch = import_torch()
        seen = region_prompts(prompts, volume.geometry, look)
        if previous is not None:
            seen = replace(seen, previous=previous)
        channels = make_channels(read_region(volume, look), seen)
        with torch.inference_mode():
            batch = torch.from_numpy(channels)[None].to(self.device).contiguous(memory_format=torch.channels_last_3d)
            logits = self.network(batch)[0, 0].float().cpu().numpy()
        if not np.isfinite(logits).all():
            raise IncompatibleModelError("the click network gave values that are not finite: install the model again")
        return np.asarray(logits, np.float32)

    def _first_looks(self, geometry: Geometry, prompts: Prompts) -> list[Geometry]:
        """One cube where box or mask tell the size, else several that hold the clicks and are no larger than the scan asks."""
        places = [prompts.inside_mm, prompts.boxes_mm.reshape(-1, 3)]
        if prompts.previous is not None:
            places.append(_corners_mm(prompts.previous, geometry))
        points = np.concatenate(places)
        wanted = float(np.ptp(points, axis=0).max()) / (_FILL_WANTED * self.size)
        middle = (points.min(axis=0) + points.max(axis=0)) / 2
        if len(prompts.boxes_mm) or prompts.previous is not None:
            return [region_at(middle, _limited(wanted, geometry), self.size)]
        largest = max(_least_mm(geometry), float(np.ptp(geometry.corners_mm(), axis=0).max()) / (_FILL_WANTED * self.size), wanted)
        spacings = {_limited(min(max(spacing, wanted), largest), geometry) for spacing in FIRST_SPACINGS_MM}
        return [region_at(middle, spacing, self.size) for spacing in sorted(spacings)]

    def _next_look(self, seen: _Seen, geometry: Geometry, prompts: Prompts) -> Geometry | None:
        """A cube that fits the mask better, or None where this one does."""
        spacing = seen.look.spacing_mm[0]
        held = _held_mm(seen.mask, seen.look, prompts)
        if held is None:
            return None
        low, high = held
        extent = float((high - low).max())
        share = extent / (self.size * spacing)
        wanted = extent / (_FILL_WANTED * self.size)
        if _runs_out(seen.mask, seen.look, geometry):
            wanted = max(wanted, spacing * _GROWTH)
        elif _FILL_LEAST <= share <= _FILL_MOST:
            return None
        fitted = _limited(wanted, geometry)
        return None if abs(fitted / spacing - 1) < _SAME_SIZE else region_at((low + high) / 2, fitted, self.size)

    def _fine_look(self, seen: _Seen, geometry: Geometry, prompts: Prompts) -> Geometry | None:
        """A cube of finer voxels about the mask, or None where there is nothing to gain."""
        held = _held_mm(seen.mask, seen.look, prompts)
        if held is None:
            return None
        low, high = held
        spacing = _limited(float((high - low).max()) / (_FINE_FILL * _FINE_VOXELS), geometry)
        corrects = len(prompts.inside_mm) + len(prompts.outside_mm) > 1
        if spacing > seen.look.spacing_mm[0] * _FINE_GAIN and not corrects:
            return None
        return region_at((low + high) / 2, spacing, _FINE_VOXELS)


def region_prompts(prompts: Prompts, geometry: Geometry, look: Geometry) -> RegionPrompts:
    """Return prompts of a scan in the voxels (k,j,i) of a region."""
    return RegionPrompts(
        look.world_to_index(prompts.inside_mm)[:, ::-1],
        look.world_to_index(prompts.outside_mm)[:, ::-1],
        look.world_to_index(prompts.boxes_mm)[..., ::-1],
        None if prompts.previous is None else np.clip(read_mask(prompts.previous, geometry, look), 0, 1),
    )


def _wanted(mask: npt.NDArray[np.bool_], look: Geometry, prompts: Prompts, previous_mm: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """The components that hold a click; without clicks those that meet the previous mask, else the largest, one a box."""
    whole = np.ascontiguousarray(mask).view(np.uint8)
    if not whole.any():
        return whole
    anchors = prompts.inside_mm if len(prompts.inside_mm) else previous_mm
    if not len(anchors):
        return keep_largest(whole, max(1, len(prompts.boxes_mm)))
    index = np.rint(look.world_to_index(anchors)).astype(int)[:, ::-1]
    index = index[((index >= 0) & (index < mask.shape)).all(axis=1)]
    labels, _ = label_components(whole)
    hit = np.unique(labels[tuple(index.T)])
    return np.isin(labels, hit[hit > 0]).view(np.uint8)


def _places_mm(mask: npt.NDArray[np.uint8] | None, geometry: Geometry) -> npt.NDArray[np.float64]:
    """Centres (n, 3) of some thousand voxels spread over a mask (k,j,i), RAS+ mm."""
    if mask is None:
        return np.empty((0, 3))
    held = np.argwhere(mask)
    return geometry.index_to_world(held[:: max(1, len(held) // _MOST_ANCHORS), ::-1])


def _on_scan(logits: FloatArray, look: Geometry, geometry: Geometry, prompts: Prompts) -> npt.NDArray[np.uint8]:
    """The mask (k,j,i) on the scan's grid, of the wanted components."""
    painted, box = paint(logits, look, geometry)
    mask = np.zeros(geometry.shape[::-1], np.uint8)
    cropped = geometry.cropped(box.start, box.shape)
    mask[box.slices[::-1]] = _wanted(painted.view(np.bool_), cropped, prompts, _places_mm(prompts.previous, geometry))
    return mask


def _held_mm(mask: npt.NDArray[np.uint8], look: Geometry, prompts: Prompts) -> Corners | None:
    """Lowest and highest corner, RAS+ mm, of the mask and the prompts; None for an empty mask."""
    if not mask.any():
        return None
    corners = np.concatenate([_corners_mm(mask, look), prompts.inside_mm, prompts.boxes_mm.reshape(-1, 3)])
    return corners.min(axis=0), corners.max(axis=0)


def _corners_mm(mask: npt.NDArray[np.uint8], geometry: Geometry) -> npt.NDArray[np.float64]:
    """The corners (8, 3), RAS+ mm, of the box of voxels that holds a mask (k,j,i)."""
    ranges = []
    for axis in (2, 1, 0):
        held = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        ranges.append((held[0] - 0.5, held[-1] + 0.5))
    return geometry.index_to_world(np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3))


def _runs_out(mask: npt.NDArray[np.uint8], look: Geometry, geometry: Geometry) -> bool:
    """Whether the mask touches a face of the cube where the scan goes on."""
    last = mask.shape[0] - 1
    for axis in range(3):
        for face in (1, last - 1):
            touched = np.argwhere(np.take(mask, face, axis=axis))
            if len(touched):
                index = np.insert(touched[:: max(1, len(touched) // 50)], axis, 0 if face == 1 else last, axis=1)
                if geometry.contains(geometry.world_to_index(look.index_to_world(index[:, ::-1]))).any():
                    return True
    return False


def _limited(spacing_mm: float, geometry: Geometry) -> float:
    return float(np.clip(spacing_mm, _least_mm(geometry), COARSEST_MM))


def _least_mm(geometry: Geometry) -> float:
    """The finest voxels that are worth a look: half the scan's own."""
    return min(max(FINEST_MM, min(geometry.spacing_mm) / 2), COARSEST_MM)


def _probability(logits: FloatArray) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -_MOST_LOGIT, _MOST_LOGIT))), np.float32)
