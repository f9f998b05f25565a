"""Small example scans with known segments, on which every method shows what it does; made anew from the phantom in a second.

`example_scans()` gives four scans by name. All are cuts of one torso (or a head), deterministic, and below 100 voxels an axis:

| name | what it is | channels |
|---|---|---|
| `ct` | abdomen of the torso phantom in HU, 3.4×3.4×4 mm, axes LPS | 1 |
| `mr` | the same body with the contrast of a T1-weighted MR, noise, and a bias field of ±25 % | 1 |
| `multi` | the same body, T1-like and T2-like, without bias field | 2 |
| `head` | an MR-like head: scalp, skull, fluid, grey and white matter, 2.5 mm | 1 |

and each with five label maps by name: `truth` (every voxel right), `seeds` (balls of 8 mm in the middle of the structures, and one
called background), `rough` (truth as a poor network would draw it: ragged, with holes, islands and shifts), `shifted` (truth moved by
7 mm to the left), `lesions` (touching balls).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.phantom.anatomy import Anatomy, Structure
from medseg.phantom.catalog import centred_geometry
from medseg.phantom.draw import rows
from medseg.phantom.scanner import image, label_map_of, sample
from medseg.phantom.solids import Solid
from medseg.phantom.torso import torso_anatomy

SEED = 3
ABDOMEN_MM = (326.4, 244.8, 192.0)  # right-left, front-back, head-feet: the body with some air around it
ABDOMEN_MIDDLE_MM = (0.0, 0.0, -36.0)
HEAD_MM = (180.0, 220.0, 180.0)
BALL_MM = 8.0
SHIFT_MM = 7.0
BIAS = 0.25
LEFT_OUT = ("body", "ribs")  # segments that fill what lies between the organs

# name in the torso (the beginning of it counts) → T1-like, T2-like
CONTRAST: dict[str, tuple[float, float]] = {
    "subcutaneous fat": (620, 420),
    "cavity": (560, 400),
    "rib marrow": (420, 300),
    "marrow": (420, 300),
    "ribs": (40, 30),
    "sternum": (300, 200),
    "vertebrae": (80, 60),
    "arches": (60, 50),
    "transverse processes": (60, 50),
    "spinous processes": (60, 50),
    "discs": (200, 480),
    "muscle wall": (260, 120),
    "back muscle": (260, 120),
    "psoas": (260, 120),
    "liver vein": (150, 330),
    "liver": (400, 190),
    "spleen": (250, 400),
    "kidney_right medulla": (190, 560),
    "kidney_left medulla": (190, 560),
    "kidney": (310, 460),
    "tumour core": (150, 620),
    "tumour": (210, 430),
    "pancreas": (360, 250),
    "canal": (90, 700),
    "cord": (240, 300),
    "stomach content": (110, 640),
    "lung": (25, 20),
    "aorta": (50, 40),
    "ascending aorta": (50, 40),
    "vena cava": (80, 90),
    "heart": (230, 180),
}


@dataclass(frozen=True)
class ExampleScan:
    """One example: its channels (most have one) and its label maps by name."""

    channels: tuple[Volume, ...]
    label_maps: dict[str, LabelMap]

    @property
    def volume(self) -> Volume:
        """The first channel."""
        return self.channels[0]


def example_scans(coarser: float = 1.0) -> dict[str, ExampleScan]:
    """Return the example scans by name; `coarser` 2 doubles the spacing (the patient stays where it is)."""
    return {name: example_scan(name, coarser) for name in ("ct", "mr", "multi", "head")}


def example_scan(name: str, coarser: float = 1.0) -> ExampleScan:
    """Return one example scan; raises KeyError for another name."""
    step = np.array([3.4, 3.4, 4.0]) * coarser
    torso = torso_anatomy(SEED, None)
    grid = centred_geometry(tuple(step), ABDOMEN_MM, ABDOMEN_MIDDLE_MM)
    if name == "head":
        torso, grid = head_anatomy(), centred_geometry((2.5 * coarser,) * 3, HEAD_MM, (0.0, 0.0, 0.0))
    made = {
        "ct": lambda: (_imaged(torso, grid, noise=12.0),),
        "mr": lambda: (_biased(_as_mr(_imaged(with_contrast(torso, 0), grid, noise=14.0))),),
        "multi": lambda: tuple(_as_mr(_imaged(with_contrast(torso, n), grid, noise=14.0, seed=n)) for n in (0, 1)),
        "head": lambda: (_biased(_as_mr(_imaged(torso, grid, noise=14.0))),),
    }[name]()
    truth = _truth(torso, grid)
    maps = {"truth": truth, "seeds": _seeds(truth), "rough": _rough(truth), "shifted": _shifted(truth), "lesions": _lesions(truth)}
    return ExampleScan(made, maps)


def with_contrast(torso: Anatomy, channel: int) -> Anatomy:
    """Return the torso with MR-like intensities: T1-like (0) or T2-like (1)."""
    changed = tuple(replace(structure, hu=_contrast(structure, channel)) for structure in torso.structures)
    return replace(torso, structures=changed, surroundings_hu=0.0)


def head_anatomy() -> Anatomy:
    """Return a head of ellipsoids: scalp, skull, fluid, grey matter, white matter, two ventricles and a tumour."""
    brain = {"label": "brain"}
    parts = [
        _ellipsoid("scalp", (0, 0, 0), (76, 96, 82), 560),
        _ellipsoid("skull", (0, 0, 0), (70, 90, 76), 40),
        _ellipsoid("fluid", (0, 0, 0), (65, 85, 71), 110),
        _ellipsoid("brain", (0, 0, 0), (62, 82, 68), 300, **brain),
        _ellipsoid("white right", (26, 0, 4), (24, 62, 44), 420, **brain),
        _ellipsoid("white left", (-26, 0, 4), (24, 62, 44), 420, **brain),
        _ellipsoid("ventricle right", (14, 2, 8), (7, 26, 11), 110, label="ventricles"),
        _ellipsoid("ventricle left", (-14, 2, 8), (7, 26, 11), 110, label="ventricles"),
        _ellipsoid("tumour", (34, -28, 14), (14, 12, 13), 205, label="tumour"),
    ]
    segments = (
        Segment(1, "brain", colour=(230, 180, 160)),
        Segment(2, "ventricles", colour=(90, 150, 220)),
        Segment(3, "tumour", colour=(196, 212, 60)),
    )
    return Anatomy("head", SEED, tuple(parts), segments, surroundings_hu=0.0)


def _ellipsoid(name: str, centre: tuple[float, float, float], axes: tuple[float, float, float], value: float, label: str = "") -> Structure:
    return Structure(name, Solid(centre, axes, rows(np.eye(3))), value, label)


def _contrast(structure: Structure, channel: int) -> float:
    if structure.hu < -200:
        return 10.0  # air and gas
    by_length = sorted(CONTRAST.items(), key=lambda item: -len(item[0]))
    known = next((value for name, value in by_length if structure.name.startswith(name)), None)
    return (240.0, 160.0)[channel] if known is None else known[channel]


def _imaged(anatomy: Anatomy, grid: Geometry, noise: float, seed: int = 0) -> Volume:
    return image(sample(anatomy, grid, 3), grid, noise_hu=noise, blur_mm=3.0, seed=SEED + seed)


def _as_mr(volume: Volume) -> Volume:
    """The magnitude of an MR image has no negative values and no unit."""
    return replace(volume.with_array(np.abs(volume.array).astype(np.uint16)), modality="MR", unit="")


def _biased(volume: Volume) -> Volume:
    """Multiply with a smooth field that differs by ±25 % between opposite corners, as a surface coil does."""
    i, j, k = (np.linspace(-1, 1, n) for n in volume.array.shape)
    field = 1 + BIAS * (0.6 * i[:, None, None] + 0.7 * j[None, :, None] - 0.4 * k[None, None, :] ** 2)
    return volume.with_array(np.rint(volume.array * field).astype(np.uint16))


def _truth(anatomy: Anatomy, grid: Geometry) -> LabelMap:
    whole = label_map_of(anatomy, grid, sample(anatomy, grid, 3))
    array = whole.array.copy(order="F")
    kept = tuple(segment for segment in whole.segments if segment.label not in LEFT_OUT)
    array[~np.isin(array, [segment.number for segment in kept])] = 0
    return LabelMap(array, grid, kept)


def _seeds(truth: LabelMap) -> LabelMap:
    """Balls about the deepest voxel of every structure, and some on the outermost layers as background."""
    from scipy.ndimage import distance_transform_edt

    array = np.zeros_like(truth.array)
    for segment in truth.segments:
        mask = truth.array == segment.number
        deep = np.unravel_index(int(distance_transform_edt(mask, sampling=truth.geometry.spacing_mm).argmax()), mask.shape)
        array[mask & (_distance_mm(truth.geometry, deep) <= BALL_MM)] = segment.number
    background = Segment(max(segment.number for segment in truth.segments) + 1, "background", colour=(120, 120, 120))
    depth = distance_transform_edt(truth.array == 0, sampling=truth.geometry.spacing_mm)
    lattice = np.zeros(array.shape, dtype=bool)
    lattice[::4, ::4, ::3] = True
    array[lattice & (depth > 2 * BALL_MM)] = background.number
    return LabelMap(array, truth.geometry, (*truth.segments, background))


def _rough(truth: LabelMap) -> LabelMap:
    """Shift borders at random, punch holes, drop islands: what a poor network gives. Every structure keeps its number."""
    from scipy.ndimage import gaussian_filter

    random = np.random.default_rng(SEED)
    steps = np.asarray(truth.geometry.spacing_mm)
    shifts = gaussian_filter(random.standard_normal((3, *truth.array.shape)), (0, *(6.0 / steps)))
    shifts *= 4.0 / steps[:, None, None, None] / shifts.std()
    places = np.stack(np.meshgrid(*(np.arange(n) for n in truth.array.shape), indexing="ij"))
    moved = np.rint(places + shifts).astype(int)
    last = np.array(truth.array.shape)[:, None, None, None] - 1
    array = truth.array[tuple(np.clip(moved, 0, last))].copy(order="F")
    specks = gaussian_filter(random.standard_normal(array.shape), tuple(3.0 / steps))
    low, high = np.quantile(specks, (0.015, 0.998))
    array[specks < low] = 0
    array[specks > high] = truth.segments[0].number
    return truth.with_array(array)


def _shifted(truth: LabelMap) -> LabelMap:
    """Move every structure by 7 mm to the patient's left, in whole voxels."""
    step = np.rint(np.linalg.inv(truth.geometry.affine[:3, :3]) @ (-SHIFT_MM, 0, 0)).astype(int)
    return truth.with_array(np.asfortranarray(np.roll(truth.array, tuple(step), axis=(0, 1, 2))))


def _lesions(truth: LabelMap) -> LabelMap:
    """Six balls about the middle of the largest structure, some of which touch."""
    array = np.zeros(truth.array.shape, np.uint8)
    largest = max(truth.segments, key=lambda segment: int((truth.array == segment.number).sum()))
    centre = np.argwhere(truth.array == largest.number).mean(axis=0)
    offsets = ((0, 0, 0, 15), (24, 0, 0, 12), (-8, 26, 4, 10), (-50, -10, 0, 14), (-40, 14, 8, 12), (10, -45, -10, 9))
    inverse = np.linalg.inv(truth.geometry.affine[:3, :3])
    for r, a, s, radius in offsets:
        array[_distance_mm(truth.geometry, centre + inverse @ (r, a, s)) <= radius] = 1
    return LabelMap(np.asfortranarray(array), truth.geometry, (Segment(1, "lesion", colour=(226, 96, 72)),))


def _distance_mm(grid: Geometry, index: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Distance of every voxel from a fractional index."""
    places = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1) - np.asarray(index)
    return np.asarray(np.linalg.norm(places @ grid.affine[:3, :3].T, axis=-1))
