"""The preprocessing of a bundle: MONAI's own transforms, built from data by a table of what may be built with what.

MONAI's classes do the work, so that grid, interpolation, padding and rounding are MONAI's to the last digit; what reaches
them are numbers, texts and lists, never a function or a class named by the bundle.
"""

from __future__ import annotations

import contextlib
import copy
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg.core.errors import GeometryMismatchError, IncompatibleModelError, MedsegError, OutOfMemoryError
from medseg.core.volume import Volume
from medseg.segmentation.learned.bundle.config import Component
from medseg.segmentation.learned.bundle.expression import DataType, GreaterThan, RefusedError
from medseg.segmentation.learned.dependencies import import_torch, import_transforms

LARGEST_SIZE = 4096  # voxels along an axis that a bundle may ask for
_MOST_VOXELS = 1 << 33
_SHORTEST_MM = 0.01


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_KEYS = _names("keys allow_missing_keys")
LOADER = "LoadImaged"
_LOADER_ARGUMENTS = _KEYS | _names(
    "reader dtype meta_keys meta_key_postfix overwriting image_only ensure_channel_first simple_keys prune_meta_pattern prune_meta_sep"
)
_READERS = (None, "NibabelReader", "ITKReader", "nibabelreader", "itkreader")
_NOTHING_TO_DO = _names("ToDeviced DeleteItemsd Identityd")  # the engine chooses devices; nothing else is in the dictionary
TRANSFORMS: Mapping[str, frozenset[str]] = {
    "EnsureChannelFirstd": _KEYS | _names("meta_keys meta_key_postfix strict_check channel_dim"),
    "EnsureTyped": _KEYS | _names("data_type dtype device wrap_sequence track_meta"),
    "CastToTyped": _KEYS | _names("dtype"),
    "ToTensord": _KEYS | _names("dtype device wrap_sequence track_meta"),
    "Orientationd": _KEYS | _names("axcodes as_closest_canonical labels lazy"),
    "Spacingd": _KEYS
    | _names("pixdim diagonal mode padding_mode align_corners dtype scale_extent recompute_affine min_pixdim max_pixdim")
    | _names("ensure_same_shape lazy"),
    "ScaleIntensityRanged": _KEYS | _names("a_min a_max b_min b_max clip dtype"),
    "ScaleIntensityd": _KEYS | _names("minv maxv factor channel_wise dtype"),
    "NormalizeIntensityd": _KEYS | _names("subtrahend divisor nonzero channel_wise dtype"),
    "ScaleIntensityRangePercentilesd": _KEYS | _names("lower upper b_min b_max clip relative channel_wise dtype"),
    "ThresholdIntensityd": _KEYS | _names("threshold above cval"),
    "CropForegroundd": _KEYS
    | _names("source_key select_fn channel_indices margin allow_smaller k_divisible mode start_coord_key end_coord_key lazy"),
    "SpatialPadd": _KEYS | _names("spatial_size method mode lazy value constant_values"),
    "DivisiblePadd": _KEYS | _names("k mode method lazy value constant_values"),
    "CenterSpatialCropd": _KEYS | _names("roi_size lazy"),
    "Resized": _KEYS | _names("spatial_size size_mode mode align_corners anti_aliasing anti_aliasing_sigma dtype lazy"),
}
# Steps that Auto3DSeg writes as functions; MONAI has no names for them, so these are ours.
FUNCTIONS = frozenset(("Sigmoidd", "SoftLimitd", "SigmoidOfDeviationd"))
TRANSFORM_NAMES = frozenset(TRANSFORMS) | FUNCTIONS | {LOADER, "Compose"} | _NOTHING_TO_DO
_SIZES = ("spatial_size", "k", "margin", "k_divisible", "roi_size")


@dataclass(frozen=True)
class Preprocessing:
    """What a bundle does with a scan before its network sees it, without the reading of files.

    `compose` is a `monai.transforms.Compose` over the dictionary key `image_key`; `spacing_mm` is that of its Spacingd, None
    where the scan keeps its own.
    """

    image_key: str
    compose: Any
    names: tuple[str, ...]
    where: str = ""
    spacing_mm: tuple[float, float, float] | None = None
    channel_first: bool = False  # the reading of the file gives the image a channel axis

    def prepare(self, volumes: Sequence[Volume]) -> Any:
        """Return the network's input as a MetaTensor (C,I,J,K), which remembers how to go back.

        Raises GeometryMismatchError where the channels lie on different grids, IncompatibleModelError where the scan does
        not fit the bundle.
        """
        image = as_meta_tensor(volumes, channel_first=self.channel_first)
        self._check_size(volumes[0])
        with foreign_errors("the preprocessing of the bundle cannot take this scan"):
            prepared = self.compose({self.image_key: image})[self.image_key]
        if getattr(prepared, "ndim", 0) != 4:
            shape = tuple(getattr(prepared, "shape", ()))
            raise IncompatibleModelError(
                f"the preprocessing of the bundle makes an image of shape {shape} of this scan: (C,I,J,K) is needed"
            )
        if prepared.numel() == 0:
            raise IncompatibleModelError("the preprocessing of the bundle leaves nothing of this scan: it has no foreground")
        return prepared

    def _check_size(self, volume: Volume) -> None:
        """Refuse a spacing that makes more voxels of this scan than any machine holds."""
        if self.spacing_mm is None:
            return
        extents = [n * spacing for n, spacing in zip(volume.geometry.shape, volume.geometry.spacing_mm, strict=True)]
        voxels = math.prod(extents) / math.prod(self.spacing_mm)
        if voxels > _MOST_VOXELS:
            raise IncompatibleModelError(
                f"at the bundle's spacing of {self.spacing_mm} mm this scan would have {voxels:.2g} voxels: crop it, or use another model"
            )


def as_meta_tensor(volumes: Sequence[Volume], *, channel_first: bool = False) -> Any:
    """Return volumes on one grid as MONAI's LoadImage gives them: float32 (I,J,K), several as (C,I,J,K), affine RAS+ mm."""
    import_torch()
    from monai.data.meta_tensor import MetaTensor

    first = volumes[0]
    for volume in volumes[1:]:
        if not volume.geometry.matches(first.geometry):
            raise GeometryMismatchError(
                "the scans of one case lie on different grids: resample them first", first.geometry, volume.geometry
            )
    arrays = [np.array(volume.array, dtype=np.float32, order="C") for volume in volumes]
    several = len(arrays) > 1
    stacked = np.stack(arrays) if several else arrays[0]
    affine = np.array(first.geometry.affine, np.float64)
    meta = {
        "affine": affine,
        "original_affine": affine.copy(),
        "space": "RAS",
        "spatial_shape": np.array(first.geometry.shape),
        "original_channel_dim": 0 if several else float("nan"),
    }
    torch = import_torch()
    tensor = MetaTensor(torch.from_numpy(stacked), affine=torch.from_numpy(affine), meta=meta)
    if channel_first and not several:
        tensor = tensor[None] if tensor.ndim == 4 else MetaTensor(torch.from_numpy(stacked[None]), affine=tensor.affine, meta=meta)
        tensor.meta["original_channel_dim"] = 0
    return tensor


def build_preprocessing(component: Component) -> Preprocessing:
    """Return the preprocessing of a `Compose`; raises RefusedError for the first thing in it that is not read."""
    parts = list(flattened(component))
    loaders = [part for part in parts if part.target == LOADER]
    if len(loaders) != 1:
        raise RefusedError(f"{component.where}: {len(loaders)} times {LOADER}: one image is read")
    loader = loaders[0]
    key = _check_loader(loader)
    transforms = import_transforms()
    built = []
    spacing = None
    for part in parts:
        if part is loader or part.target in _NOTHING_TO_DO:
            continue
        arguments = _checked(part, key)
        if part.target == "Spacingd":
            spacing = _spacing_of(part, arguments)
        with foreign_errors(f"{part.where}: {part.target} does not take its arguments"):
            if part.target in FUNCTIONS:
                built.append(transforms.Lambdad(keys=key, func=_function(part.target)))
            else:
                built.append(getattr(transforms, part.target)(**arguments))  # a name of our own table, never the bundle's
    with foreign_errors(f"{component.where}: Compose"):
        compose = transforms.Compose(built)
    names = tuple(part.target for part in parts)
    return Preprocessing(key, compose, names, component.where, spacing, bool(loader.arguments.get("ensure_channel_first")))


def flattened(component: Any, depth: int = 0) -> Iterator[Component]:
    """Yield the transforms of a `Compose` (and of those within it), those that are disabled left out."""
    if not isinstance(component, Component) or depth > 5:
        raise RefusedError(f"{getattr(component, 'where', 'transforms')}: not a list of transforms")
    if component.target != "Compose":
        yield component
        return
    extra = set(component.arguments) - {"transforms", "lazy", "map_items", "unpack_items"}
    entries = component.arguments.get("transforms") or []
    if extra or component.arguments.get("lazy") or not isinstance(entries, (list, tuple)):
        raise RefusedError(f"{component.where}: Compose with {sorted(extra) or 'lazy or no list of transforms'}")
    for entry in entries:
        if entry is not None:
            yield from flattened(entry, depth + 1)


def plain_arguments(part: Component, allowed: Iterable[str]) -> dict[str, Any]:
    """Return arguments as MONAI takes them; raises RefusedError where a name or a value is not on the list."""
    unknown = sorted(set(part.arguments) - set(allowed))
    if unknown:
        raise RefusedError(f"{part.where}: {part.target} with the argument {', '.join(unknown)[:160]}")
    return {name: _plain(value, part, name) for name, value in part.arguments.items()}


def _plain(value: Any, part: Component, name: str) -> Any:
    if isinstance(value, DataType):
        return getattr(import_torch(), value.name)  # the name matched a list of data types when it was read
    if isinstance(value, Mapping):
        return {key: _plain(entry, part, name) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(entry, part, name) for entry in value)
    if value is None or isinstance(value, (bool, int, float, str)):
        if name in _SIZES and isinstance(value, (int, float)) and abs(value) > LARGEST_SIZE:
            raise RefusedError(f"{part.where}: {part.target} with {name} {value}")
        return value
    raise RefusedError(f"{part.where}: {part.target} with {name} that is no plain value ({type(value).__name__})")


def _check_loader(loader: Component) -> str:
    arguments = plain_arguments(loader, _LOADER_ARGUMENTS)
    reader = arguments.get("reader")
    if reader not in _READERS:
        raise RefusedError(f"{loader.where}: the reader {str(reader)[:60]!r}: NIfTI and ITK images are read, by medseg")
    key = one_key(loader)
    return key


def one_key(part: Component, key: str | None = None) -> str:
    """Return the one dictionary key a transform works on; raises RefusedError where it is another one or several."""
    keys = part.arguments.get("keys")
    keys = [keys] if isinstance(keys, str) else keys
    if not isinstance(keys, (list, tuple)) or len(keys) != 1 or not isinstance(keys[0], str) or (key is not None and keys[0] != key):
        raise RefusedError(f"{part.where}: {part.target} for the keys {str(keys)[:80]}: one image is read, and one prediction made")
    return keys[0]


def _checked(part: Component, key: str) -> dict[str, Any]:
    if part.target in FUNCTIONS:
        return {}
    if part.target not in TRANSFORMS:
        raise RefusedError(f"{part.where}: {part.target} is not read in a preprocessing")
    one_key(part, key)
    given = dict(part.arguments)
    given.pop("device", None)  # where it runs is a run setting
    limit = given.pop("select_fn", None)
    if limit is not None and not isinstance(limit, GreaterThan):
        raise RefusedError(f"{part.where}: select_fn that is not of the form `lambda x: x > 0`")
    arguments = plain_arguments(Component(part.target, given, part.where), TRANSFORMS[part.target])
    if limit is not None:
        arguments["select_fn"] = _above(limit.limit)
    if arguments.get("lazy"):
        raise RefusedError(f"{part.where}: lazy resampling")
    arguments.pop("lazy", None)
    if part.target in ("EnsureTyped", "ToTensord") and (arguments.get("track_meta") is False or arguments.get("data_type") == "numpy"):
        raise RefusedError(f"{part.where}: {part.target} that drops the position of the image: there would be no way back")
    size = arguments.get("spatial_size")
    if isinstance(size, (list, tuple)) and math.prod(max(1, n) for n in size if isinstance(n, (int, float))) > _MOST_VOXELS:
        raise RefusedError(f"{part.where}: {part.target} to {str(size)[:80]} voxels")
    source = arguments.get("source_key", key)
    if source != key:
        raise RefusedError(f"{part.where}: {part.target} by another image ({str(source)[:60]})")
    return arguments


def _function(name: str) -> Any:
    torch = import_torch()
    if name == "Sigmoidd":
        return torch.sigmoid
    if name == "SoftLimitd":
        return lambda image: 3 * torch.tanh(image / 3)
    return lambda image: torch.sigmoid((image - image.min()) / image.std())


def _above(limit: float) -> Any:
    return lambda image: image > limit


def _spacing_of(part: Component, arguments: Mapping[str, Any]) -> tuple[float, float, float] | None:
    pixdim = arguments.get("pixdim")
    values = [pixdim] * 3 if isinstance(pixdim, (int, float)) else list(pixdim or [])
    if len(values) == 1:
        values *= 3
    if len(values) != 3 or not all(isinstance(value, (int, float)) for value in values):
        raise RefusedError(f"{part.where}: Spacingd with pixdim {str(pixdim)[:80]}: three numbers in mm are needed")
    if not all(math.isfinite(value) and (value <= 0 or value >= _SHORTEST_MM) for value in values):
        raise RefusedError(f"{part.where}: Spacingd with pixdim {str(pixdim)[:80]}: below {_SHORTEST_MM} mm")
    return (float(values[0]), float(values[1]), float(values[2])) if min(values) > 0 else None


@contextlib.contextmanager
def foreign_errors(what: str) -> Iterator[None]:
    """Turn whatever MONAI and torch raise into IncompatibleModelError, and keep their advice to their own callers quiet."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (MedsegError, RefusedError, MemoryError):
        raise
    except Exception as err:  # MONAI raises whatever comes first for values it does not expect
        if "DefaultCPUAllocator" in str(err):  # torch's CPU allocator has no error class of its own
            raise OutOfMemoryError(f"{what}: the main memory is too small; crop the scan, or use a machine with more") from err
        raise IncompatibleModelError(f"{what} ({type(err).__name__})") from err


def without_values(image: Any) -> Any:
    """Return a MetaTensor with the position and history of an image, but none of its memory."""
    import_torch()
    from monai.data.meta_tensor import MetaTensor

    torch = import_torch()
    empty = MetaTensor(torch.zeros((1, 1, 1, 1)), meta=copy.deepcopy(image.meta))
    empty.applied_operations = copy.deepcopy(image.applied_operations)
    return empty
