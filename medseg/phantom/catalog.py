"""The phantoms by name: a scan, its label map and the known answers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.core.errors import ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume

if TYPE_CHECKING:
    from medseg.phantom.anatomy import Anatomy

TORSO_FIELD_MM = (384.0, 288.0, 342.0)  # holds every torso; the body alone runs out of it above and below
TORSO_MIDDLE_MM = (0.0, -2.5)  # right, front
TORSO_ORGANS = ("liver", "spleen", "kidney_right", "kidney_left", "lung_right", "lung_left", "tumour")
# spacing, noise and blur; "sample" compresses to less than 2.5 MB, "coarse" is for training small networks
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "standard": {"spacing_mm": (1.5, 1.5, 3.0), "noise_hu": 12.0, "blur_mm": 1.2},
        "sample": {"spacing_mm": (2.0, 2.0, 4.0), "noise_hu": 8.0, "blur_mm": 1.5},
        "coarse": {"spacing_mm": (3.0, 3.0, 3.0), "noise_hu": 12.0, "blur_mm": 2.0},
    }
)


@dataclass(frozen=True, eq=False)
class Phantom:
    """A scan with known answers: `truth` is the JSON document of `medseg.phantom.truth`, `parameters` how it was made."""

    name: str
    volume: Volume
    label_map: LabelMap
    truth: dict[str, Any]
    parameters: dict[str, Any]
    anatomy: Anatomy


def make_torso(
    seed: int = 0,
    *,
    preset: str = "standard",
    spacing_mm: Sequence[float] | None = None,
    shape: Sequence[int] | None = None,
    noise_hu: float | None = None,
    blur_mm: float | Sequence[float] | None = None,
    geometry: Geometry | None = None,
    tumour_diameter_mm: float | None = None,
) -> Phantom:
    """A torso CT: lungs, liver with a tumour, spleen, kidneys, spine, bowel; another body for each seed.

    `preset` gives spacing, noise and blur ("standard" 1.5×1.5×3 mm, "sample" 2×2×4 mm, "coarse" 3 mm), each of which
    may be set by itself. The field of view is 384×288×342 mm unless `shape` (I,J,K) is given; the axes point left, back
    and up (LPS), as in most CT series. A `geometry` takes the place of spacing and shape, and may be oblique,
    left-handed or sheared. `tumour_diameter_mm` resizes the tumour alone. Raises ParameterError where an organ does
    not fit into the field of view.

    >>> torso = make_torso(3, preset="coarse")
    >>> torso.volume.geometry.shape, torso.label_map["tumour"].number, torso.truth["segments"][0]["label"]
    ((128, 96, 114), 7, 'liver')
    """
    from medseg.phantom.torso import torso_anatomy

    if preset not in PRESETS:
        raise ParameterError(f"no preset {preset!r} for a torso; use one of: {', '.join(PRESETS)}")
    given: dict[str, Any] = {"spacing_mm": spacing_mm, "noise_hu": noise_hu, "blur_mm": blur_mm}
    chosen = {name: PRESETS[preset][name] if value is None else value for name, value in given.items()}
    anatomy = torso_anatomy(seed, tumour_diameter_mm)
    low, high = anatomy.box_mm(TORSO_ORGANS)
    if geometry is None:
        middle = (*TORSO_MIDDLE_MM, float(low[2] + high[2]) / 2)
        geometry = centred_geometry(chosen["spacing_mm"], TORSO_FIELD_MM, middle, shape)
    _check_field(anatomy, geometry)
    return _phantom(anatomy, geometry, seed, chosen["noise_hu"], chosen["blur_mm"])


def make_sphere(
    seed: int = 0,
    *,
    diameter_mm: float = 40.0,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    noise_hu: float = 0.0,
    blur_mm: float | Sequence[float] = 0.0,
    geometry: Geometry | None = None,
) -> Phantom:
    """A sphere of 60 HU in fat: volume π/6·d³; its place within a voxel depends on the seed.

    >>> round(make_sphere(diameter_mm=20.0).truth["segments"][0]["volume_ml"], 4)
    4.1888
    """
    semi_axes = (diameter_mm / 2,) * 3
    return _single("sphere", seed, semi_axes, spacing_mm, (noise_hu, blur_mm), geometry)


def make_ellipsoid(
    seed: int = 0,
    *,
    semi_axes_mm: Sequence[float] = (14.0, 20.0, 29.0),
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    noise_hu: float = 0.0,
    blur_mm: float | Sequence[float] = 0.0,
    geometry: Geometry | None = None,
) -> Phantom:
    """An ellipsoid of 60 HU in fat, turned at random: volume 4/3·π·abc, diameter twice the longest semi-axis.

    >>> round(make_ellipsoid(semi_axes_mm=(10, 20, 30)).truth["segments"][0]["maximum_diameter_mm"], 6)
    60.0
    """
    a, b, c = (float(axis) for axis in semi_axes_mm)
    return _single("ellipsoid", seed, (a, b, c), spacing_mm, (noise_hu, blur_mm), geometry)


# name: the function that makes it, and one line that says what it is
PHANTOMS: Mapping[str, tuple[Callable[..., Phantom], str]] = MappingProxyType(
    {
        "torso": (make_torso, "a torso CT: lungs, liver with a tumour, spleen, kidneys, spine, bowel; another body for each seed"),
        "sphere": (make_sphere, "a sphere in fat, of volume π/6·d³"),
        "ellipsoid": (make_ellipsoid, "an ellipsoid in fat, turned at random, of volume 4/3·π·abc"),
    }
)


def descriptions() -> dict[str, str]:
    """Return the names of the phantoms, each with one line that says what it is."""
    return {name: line for name, (_, line) in PHANTOMS.items()}


def make_phantom(name: str, seed: int = 0, **parameters: Any) -> Phantom:
    """Make a phantom by name; raises ParameterError where there is none of that name, or it has no such parameter.

    >>> make_phantom("sphere", diameter_mm=10.0).name
    'sphere'
    """
    if name not in PHANTOMS:
        raise ParameterError(f"no phantom {name!r}; there are: {', '.join(PHANTOMS)}")
    make, _ = PHANTOMS[name]
    known = set(inspect.signature(make).parameters) - {"seed"}
    if unknown := sorted(set(parameters) - known):
        raise ParameterError(f"the phantom {name!r} has no parameter {', '.join(unknown)}; it has: {', '.join(sorted(known))}")
    return make(seed, **parameters)


def centred_geometry(
    spacing_mm: Sequence[float], field_mm: Sequence[float], middle_mm: Sequence[float], shape: Sequence[int] | None = None
) -> Geometry:
    """Return a grid whose axes point left, back and up and whose middle lies at `middle_mm` (RAS+).

    >>> centred_geometry((1, 1, 2), (10, 10, 10), (0, 0, 0)).orientation
    'LPS'
    """
    step = np.asarray([float(s) for s in spacing_mm])
    if len(step) != 3 or not np.isfinite(step).all() or step.min() <= 0:
        raise ParameterError(f"spacing_mm is {tuple(spacing_mm)}: give three positive numbers")
    counts = np.ceil(np.asarray(field_mm) / step - 1e-9).astype(int) if shape is None else np.asarray(shape, dtype=int)
    i, j, k = (int(n) for n in counts)
    affine = np.diag([-step[0], -step[1], step[2], 1.0])
    affine[:3, 3] = np.asarray(middle_mm) - affine[:3, :3] @ ((counts - 1) / 2)
    return Geometry((i, j, k), affine)


def _single(
    name: str,
    seed: int,
    semi_axes: tuple[float, float, float],
    spacing_mm: Sequence[float],
    quality: tuple[float, float | Sequence[float]],
    geometry: Geometry | None,
) -> Phantom:
    from medseg.phantom.anatomy import Anatomy, Structure
    from medseg.phantom.draw import Draw, rows
    from medseg.phantom.solids import Solid, rotation_about

    if min(semi_axes) <= 0:
        raise ParameterError(f"the semi-axes are {semi_axes} mm: give positive lengths")
    draw = Draw(seed, 0)
    centre = tuple(draw.about(0.0, 0.5 * float(step)) for step in spacing_mm)
    turn = rotation_about(draw.direction(), draw.between(0, 180)) if len(set(semi_axes)) > 1 else np.eye(3)
    solid = Solid((centre[0], centre[1], centre[2]), semi_axes, rows(turn))
    tumour = Structure("tumour", solid, 60.0, "tumour")
    anatomy = Anatomy(name, seed, (tumour,), (Segment(1, "tumour", colour=(196, 212, 60)),), surroundings_hu=-100.0)
    if geometry is None:
        reach = 2 * max(semi_axes) + 8 * max(spacing_mm)
        geometry = centred_geometry(spacing_mm, (reach,) * 3, (0.0, 0.0, 0.0))
    return _phantom(anatomy, geometry, seed, *quality)


def _check_field(anatomy: Anatomy, geometry: Geometry) -> None:
    for name in TORSO_ORGANS:
        index = geometry.world_to_index(anatomy[name].solid.surface_cloud())
        if (index < 0.5).any() or (index > np.asarray(geometry.shape) - 1.5).any():
            raise ParameterError(
                f"the {name} does not fit into the field of view of shape {geometry.shape} and spacing {geometry.spacing_mm} mm: "
                f"make it {' × '.join(f'{side:.0f}' for side in TORSO_FIELD_MM)} mm (right-left, front-back, head-feet)"
            )


def _phantom(anatomy: Anatomy, geometry: Geometry, seed: int, noise_hu: float, blur_mm: float | Sequence[float]) -> Phantom:
    from medseg.phantom.scanner import image, label_map_of, sample
    from medseg.phantom.truth import truth

    sampled = sample(anatomy, geometry)
    volume = image(sampled, geometry, noise_hu=noise_hu, blur_mm=blur_mm, seed=seed)
    blur = [float(b) for b in np.broadcast_to(np.asarray(blur_mm, dtype=np.float64), 3)]
    parameters = {"name": anatomy.name, "seed": seed, "noise_hu": noise_hu, "blur_mm": blur, "geometry": geometry.to_dict()}
    return Phantom(anatomy.name, volume, label_map_of(anatomy, geometry, sampled), truth(anatomy, geometry), parameters, anatomy)
