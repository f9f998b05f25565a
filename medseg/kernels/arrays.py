"""Checks that every kernel makes of the arrays it is given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from medseg.core.errors import TooLargeError

Connectivity = Literal[6, 18, 26]

MOST_VOXELS = 2**31 - 1  # places of voxels are numbers of 32 bits with a sign

# The dtypes the loops are compiled for; every other one is converted to the narrowest of these that holds its values.
_CONVERTED = {
    "b1": np.uint8,
    "i1": np.int16,
    "u4": np.float64,
    "i8": np.float64,
    "u8": np.float64,
    "f2": np.float32,
    "f16": np.float64,
}
_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def _frozen(array: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """A contiguous, aligned, native, read-only array: one numba signature whatever the flags of the input were."""
    view = np.require(array, dtype=dtype, requirements=["C", "A"]).view()
    view.flags.writeable = False
    return view


def _checked(array: NDArray[Any], name: str) -> NDArray[Any]:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} is {type(array).__name__}, not a numpy array; pass an array with axes (k, j, i)")
    if array.ndim != 3:
        raise ValueError(f"{name} has {array.ndim} axes; pass a 3D array with axes (k, j, i)")
    if array.size == 0:
        raise ValueError(f"{name} has no voxels (shape {array.shape}); pass an array with at least one voxel")
    return array


def as_image(array: NDArray[Any], name: str = "image") -> NDArray[Any]:
    """The array as uint8, uint16, int16, int32, float32 or float64, unchanged where it is one of these already."""
    array = _checked(array, name)
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name} has dtype {array.dtype}; pass integers, booleans or real floats")
    return _frozen(array, _CONVERTED.get(array.dtype.str[1:], array.dtype.newbyteorder("=")))


def refuse_too_large(shape: Sequence[int], border: int = 0, most: int | None = None) -> None:
    """Raise TooLargeError where an array (k, j, i), with a border around it, has more voxels than can be numbered."""
    most = MOST_VOXELS if most is None else most
    if math.prod(int(length) + 2 * border for length in shape) > most:
        sides = " x ".join(str(length) for length in reversed(shape))
        raise TooLargeError(
            f"the image has {sides} voxels, {math.prod(int(n) for n in shape):.3g} in all, and at most about {most:.3g} can be worked on "
            "at once; crop it to the part that matters or resample it to a coarser grid first"
        )


def as_mask(array: NDArray[Any], name: str = "mask") -> NDArray[np.uint8]:
    """The array as uint8, free of cost for bool and uint8: non-zero means inside."""
    array = _checked(array, name)
    if array.dtype not in (np.bool_, np.uint8):
        raise TypeError(f"{name} has dtype {array.dtype}; pass a bool or uint8 mask, for example labels == 3")
    return _frozen(array.view(np.uint8) if array.flags.c_contiguous else array, np.uint8)


def as_labels(array: NDArray[Any], name: str = "labels") -> NDArray[Any]:
    """The array as uint8, uint16, uint32 or uint64 of its own width; negative labels raise."""
    array = _checked(array, name)
    if array.dtype.kind not in "bui":
        raise TypeError(f"{name} has dtype {array.dtype}; pass an integer array of labels")
    if array.dtype.kind == "i" and int(array.min()) < 0:
        raise ValueError(f"{name} holds negative numbers; labels are 0 (background) and above")
    return _frozen(array, _UNSIGNED[array.dtype.itemsize])


def as_words(labels: NDArray[Any]) -> tuple[NDArray[np.uint64], int, np.uint64]:
    """The same memory as 64-bit words, the voxels in a word, and the factor that repeats one label through a word.

    No words, and 0 voxels, where the lines along i are not made of whole words.
    """
    per_word = 8 // labels.dtype.itemsize
    repeat = np.uint64(sum(1 << (64 // per_word * n) for n in range(per_word)))
    if per_word > 1 and labels.shape[2] % per_word == 0 and labels.ctypes.data % 8 == 0:
        return labels.reshape(-1).view(np.uint64), per_word, repeat
    return _frozen(np.zeros(1, np.uint64), np.uint64), 0, repeat


def same_shape(first: NDArray[Any], second: NDArray[Any], names: tuple[str, str]) -> None:
    """Raise unless both arrays lie on the same grid."""
    if first.shape != second.shape:
        raise ValueError(f"{names[0]} has shape {first.shape} and {names[1]} {second.shape}; resample one onto the grid of the other")


def spacing_of(spacing_mm: Sequence[float]) -> tuple[float, float, float]:
    """Three positive numbers in the order of the axes (k, j, i)."""
    spacing = tuple(float(value) for value in spacing_mm)
    if len(spacing) != 3 or not all(np.isfinite(value) and value > 0 for value in spacing):
        raise ValueError(f"spacing_mm is {spacing}; pass three positive numbers in the order (k, j, i)")
    return spacing[0], spacing[1], spacing[2]


def limits_as(dtype: np.dtype[Any], lower: float, upper: float) -> tuple[Any, Any] | None:
    """Inclusive limits in the dtype of an image, or None where no value of it lies between them.

    For integers the limits move inwards to whole numbers. For floats they are rounded to the precision of the image,
    so that an upper limit of 0.1 keeps a float32 voxel that was written as 0.1 (ITK and numpy do the same).
    """
    if np.isnan(lower) or np.isnan(upper):
        raise ValueError(f"the limits are {lower} and {upper}; pass numbers (infinity is allowed)")
    if lower > upper:
        raise ValueError(f"the lower limit {lower} is above the upper limit {upper}; swap them")
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return dtype.type(lower), dtype.type(upper)
    info = np.iinfo(dtype)
    if upper < info.min or lower > info.max:
        return None
    low = info.min if lower <= info.min else int(np.ceil(lower))
    high = info.max if upper >= info.max else int(np.floor(upper))
    return (dtype.type(low), dtype.type(high)) if low <= high else None


def connectivity_of(connectivity: int) -> Connectivity:
    """6, 18 or 26, or a ValueError."""
    if connectivity not in (6, 18, 26):
        raise ValueError(f"connectivity is {connectivity}; use 6 (faces), 18 (edges) or 26 (corners)")
    return connectivity  # type: ignore[return-value]
