"""Edges: gradients on any grid, their maxima along the gradient, the Laplacian and its zero crossings.

All functions take an image (k, j, i) and ``inverse``, the 3 x 3 matrix that turns a step in the patient (R, A, S in mm) into
a step in voxels (i, j, k): the inverse of the affine. Unequal spacing, oblique, left-handed and sheared grids are so all
honoured exactly. Derivatives are central differences; in the outermost layer they are one-sided, and 0 along an axis of
one voxel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import as_image
from .slabs import in_slabs

# Magnitudes that differ by less than this share are equal: the order of rounding must not choose the side of an edge.
_TIE = 1e-5
# A step of less than this share of a voxel is none, so that a gradient along one axis stays in its plane.
_NO_STEP = 1e-6


@njit(cache=True, nogil=True, inline="always")
def _change(image, k, j, i, axis):  # type: ignore[no-untyped-def]
    """The derivative per voxel along an axis (0: k, 1: j, 2: i)."""
    at = (k, j, i)[axis]
    low, high = max(at - 1, 0), min(at + 1, image.shape[axis] - 1)
    if low == high:
        return 0.0
    if axis == 0:
        step = np.float64(image[high, j, i]) - np.float64(image[low, j, i])
    elif axis == 1:
        step = np.float64(image[k, high, i]) - np.float64(image[k, low, i])
    else:
        step = np.float64(image[k, j, high]) - np.float64(image[k, j, low])
    return step / (high - low)


@njit(cache=True, nogil=True)
def _gradient_slab(image, inverse, out, start, end):  # type: ignore[no-untyped-def]
    for k in range(start, end):
        for j in range(image.shape[1]):
            for i in range(image.shape[2]):
                di, dj, dk = _change(image, k, j, i, 2), _change(image, k, j, i, 1), _change(image, k, j, i, 0)
                for world in range(3):
                    out[world, k, j, i] = di * inverse[0, world] + dj * inverse[1, world] + dk * inverse[2, world]


def gradient(image: NDArray[Any], inverse: NDArray[np.float64]) -> NDArray[np.float32]:
    """The gradient in intensity per mm towards R, A and S: float32 [3, k, j, i], 12 bytes a voxel.

    >>> gradient(np.array([[[0, 2, 4]]], np.int16), np.diag([0.5, 1.0, 1.0]))[0].tolist()
    [[[1.0, 1.0, 1.0]]]
    """
    image, inverse = as_image(image), _matrix(inverse)
    out = np.empty((3, *image.shape), np.float32)
    in_slabs(lambda start, end: _gradient_slab(image, inverse, out, start, end), image.shape[0])
    return out


@njit(cache=True, nogil=True)
def _magnitude_slab(image, inverse, out, start, end):  # type: ignore[no-untyped-def]
    for k in range(start, end):
        for j in range(image.shape[1]):
            for i in range(image.shape[2]):
                di, dj, dk = _change(image, k, j, i, 2), _change(image, k, j, i, 1), _change(image, k, j, i, 0)
                total = 0.0
                for world in range(3):
                    part = di * inverse[0, world] + dj * inverse[1, world] + dk * inverse[2, world]
                    total += part * part
                out[k, j, i] = np.sqrt(total)


def magnitude(image: NDArray[Any], inverse: NDArray[np.float64]) -> NDArray[np.float32]:
    """The length of the gradient in intensity per mm, float32, 4 bytes a voxel.

    >>> magnitude(np.array([[[0, 3], [4, 7]]], np.int16), np.eye(3)).tolist()
    [[[5.0, 5.0], [5.0, 5.0]]]
    """
    image, inverse = as_image(image), _matrix(inverse)
    out = np.empty(image.shape, np.float32)
    in_slabs(lambda start, end: _magnitude_slab(image, inverse, out, start, end), image.shape[0])
    return out


@njit(cache=True, nogil=True, inline="always")
def _sample(field, k, j, i):  # type: ignore[no-untyped-def]
    """The value between voxels, linear; up to a voxel beyond the array that of its border, from there on -1."""
    depth, height, length = field.shape
    if min(k, j, i) <= -1 or k >= depth or j >= height or i >= length:
        return -1.0
    k, j, i = min(max(k, 0.0), depth - 1.0), min(max(j, 0.0), height - 1.0), min(max(i, 0.0), length - 1.0)
    k0, j0, i0 = int(np.floor(k)), int(np.floor(j)), int(np.floor(i))
    fk, fj, fi = k - k0, j - j0, i - i0
    k1, j1, i1 = min(k0 + 1, depth - 1), min(j0 + 1, height - 1), min(i0 + 1, length - 1)
    near = (field[k0, j0, i0] * (1 - fi) + field[k0, j0, i1] * fi) * (1 - fj) + (field[k0, j1, i0] * (1 - fi) + field[k0, j1, i1] * fi) * fj
    if fk == 0:
        return near
    far = (field[k1, j0, i0] * (1 - fi) + field[k1, j0, i1] * fi) * (1 - fj) + (field[k1, j1, i0] * (1 - fi) + field[k1, j1, i1] * fi) * fj
    return near * (1 - fk) + far * fk


@njit(cache=True, nogil=True)
def _maxima_slab(image, lengths, inverse, out, start, end):  # type: ignore[no-untyped-def]
    for k in range(start, end):
        for j in range(image.shape[1]):
            for i in range(image.shape[2]):
                out[k, j, i] = 0
                here = np.float64(lengths[k, j, i])
                if not here > 0:
                    continue
                di, dj, dk = _change(image, k, j, i, 2), _change(image, k, j, i, 1), _change(image, k, j, i, 0)
                si, sj, sk = 0.0, 0.0, 0.0  # the gradient as a step in voxels
                for world in range(3):
                    part = di * inverse[0, world] + dj * inverse[1, world] + dk * inverse[2, world]
                    si += inverse[0, world] * part
                    sj += inverse[1, world] * part
                    sk += inverse[2, world] * part
                longest = max(abs(si), abs(sj), abs(sk))
                if not longest > 0:
                    continue
                si, sj, sk = si / longest, sj / longest, sk / longest
                si = si if abs(si) > _NO_STEP else 0.0
                sj = sj if abs(sj) > _NO_STEP else 0.0
                sk = sk if abs(sk) > _NO_STEP else 0.0
                brighter = _sample(lengths, k + sk, j + sj, i + si)
                darker = _sample(lengths, k - sk, j - sj, i - si)
                if brighter < 0 or darker < 0:
                    continue
                if here >= brighter * (1 - _TIE) and here > darker * (1 + _TIE):
                    out[k, j, i] = lengths[k, j, i]


def gradient_maxima(image: NDArray[Any], inverse: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The length of the gradient where it is greatest along the gradient, 0 elsewhere; and the length everywhere (float32).

    The two neighbours of a voxel lie where the line along its gradient (straight in the patient) leaves the cube of its 26
    neighbours; their values are interpolated. Of two equal voxels beside each other the darker counts. Where the next
    voxel along the axis that the gradient follows most lies outside the array there is no edge. Memory: 8 bytes a voxel besides the image.
    Canny 1986, doi:10.1109/TPAMI.1986.4767851.

    >>> step = np.array([[[0, 0, 0, 6, 6, 6]]], np.int16)
    >>> gradient_maxima(step, np.eye(3))[0].tolist()
    [[[0.0, 0.0, 3.0, 0.0, 0.0, 0.0]]]
    """
    image, inverse = as_image(image), _matrix(inverse)
    lengths = magnitude(image, inverse)
    out = np.empty(image.shape, np.float32)
    in_slabs(lambda start, end: _maxima_slab(image, lengths, inverse, out, start, end), image.shape[0])
    return out, lengths


@njit(cache=True, nogil=True, inline="always")
def _value(image, k, j, i):  # type: ignore[no-untyped-def]
    """The value of the nearest voxel of the array."""
    depth, height, length = image.shape
    return np.float64(image[min(max(k, 0), depth - 1), min(max(j, 0), height - 1), min(max(i, 0), length - 1)])


@njit(cache=True, nogil=True)
def _sobel_slab(image, inverse, out, start, end):  # type: ignore[no-untyped-def]
    for k in range(start, end):
        for j in range(image.shape[1]):
            for i in range(image.shape[2]):
                di, dj, dk = 0.0, 0.0, 0.0
                for a in range(-1, 2):
                    for b in range(-1, 2):
                        weight = (2 - abs(a)) * (2 - abs(b))
                        di += weight * (_value(image, k + a, j + b, i + 1) - _value(image, k + a, j + b, i - 1))
                        dj += weight * (_value(image, k + a, j + 1, i + b) - _value(image, k + a, j - 1, i + b))
                        dk += weight * (_value(image, k + 1, j + a, i + b) - _value(image, k - 1, j + a, i + b))
                for world in range(3):
                    out[world, k, j, i] = (di * inverse[0, world] + dj * inverse[1, world] + dk * inverse[2, world]) / 32


def sobel(image: NDArray[Any], inverse: NDArray[np.float64]) -> NDArray[np.float32]:
    """The Sobel gradient in intensity per mm towards R, A and S: float32 [3, k, j, i], 12 bytes a voxel.

    Differences over two voxels, weighted 1-2-1 along both other axes; beyond the array the border voxel is repeated.

    >>> sobel(np.array([[[0, 2, 4]]], np.int16), np.eye(3))[0].tolist()
    [[[1.0, 2.0, 1.0]]]
    """
    image, inverse = as_image(image), _matrix(inverse)
    out = np.empty((3, *image.shape), np.float32)
    in_slabs(lambda start, end: _sobel_slab(image, inverse, out, start, end), image.shape[0])
    return out


@njit(cache=True, nogil=True)
def _laplacian_slab(image, metric, is_mixed, out, start, end):  # type: ignore[no-untyped-def]
    for k in range(start, end):
        for j in range(image.shape[1]):
            for i in range(image.shape[2]):
                here = np.float64(image[k, j, i])
                along_i = (_value(image, k, j, i + 1) - here) + (_value(image, k, j, i - 1) - here)
                along_j = (_value(image, k, j + 1, i) - here) + (_value(image, k, j - 1, i) - here)
                along_k = (_value(image, k + 1, j, i) - here) + (_value(image, k - 1, j, i) - here)
                total = metric[0, 0] * along_i + metric[1, 1] * along_j + metric[2, 2] * along_k
                if is_mixed:
                    for a in range(3):
                        for b in range(a + 1, 3):
                            ai, aj, ak = int(a == 0), int(a == 1), int(a == 2)
                            bi, bj, bk = int(b == 0), int(b == 1), int(b == 2)
                            same = _value(image, k + ak + bk, j + aj + bj, i + ai + bi)
                            same += _value(image, k - ak - bk, j - aj - bj, i - ai - bi)
                            cross = _value(image, k + ak - bk, j + aj - bj, i + ai - bi)
                            cross += _value(image, k - ak + bk, j - aj + bj, i - ai + bi)
                            total += metric[a, b] * (same - cross) / 2  # twice the mixed derivative, (same - cross) / 4
                out[k, j, i] = total


def laplacian(image: NDArray[Any], inverse: NDArray[np.float64]) -> NDArray[np.float32]:
    """The sum of the second derivatives in intensity per mm², float32, 4 bytes a voxel.

    From second differences, on sheared grids with the mixed ones; exact for every polynomial of second degree. Beyond the
    array the border voxel is repeated.

    >>> laplacian(np.array([[[0, 1, 4, 9]]], np.int16), np.eye(3)).tolist()
    [[[1.0, 2.0, 2.0, -5.0]]]
    """
    image, inverse = as_image(image), _matrix(inverse)
    metric = inverse @ inverse.T
    off = np.abs(metric - np.diag(np.diag(metric))).max()
    is_mixed = bool(off > 1e-9 * np.diag(metric).max())
    out = np.empty(image.shape, np.float32)
    in_slabs(lambda start, end: _laplacian_slab(image, metric, is_mixed, out, start, end), image.shape[0])
    return out


@njit(cache=True, nogil=True, inline="always")
def _is_nearer(here, there):  # type: ignore[no-untyped-def]
    """Whether the sign changes towards a neighbour and this voxel is the nearer one to zero (equal: the negative one)."""
    if here < 0 < there:
        return -here <= there * (1 + _TIE)
    if there < 0 < here:
        return here * (1 + _TIE) < -there
    return False


@njit(cache=True, nogil=True)
def _crossings_slab(field, out, start, end):  # type: ignore[no-untyped-def]
    for k in range(start, end):
        for j in range(field.shape[1]):
            for i in range(field.shape[2]):
                here = np.float64(field[k, j, i])
                found = False
                for axis in range(3):
                    dk, dj, di = int(axis == 0), int(axis == 1), int(axis == 2)
                    before, after = _value(field, k - dk, j - dj, i - di), _value(field, k + dk, j + dj, i + di)
                    if here == 0:
                        found |= (before < 0 < after) or (after < 0 < before)
                    else:
                        found |= _is_nearer(here, before) or _is_nearer(here, after)
                out[k, j, i] = np.uint8(found)


def zero_crossings(field: NDArray[Any]) -> NDArray[np.uint8]:
    """1 in the voxels nearest to where a field changes its sign (uint8, 1 byte a voxel).

    Of two face neighbours of unlike sign the one nearer to zero is marked (equal: the negative one); a voxel of exactly 0 is
    marked where the field passes through it.

    >>> zero_crossings(np.array([[[5.0, 4.0, -1.0, -6.0]]])).tolist()
    [[[0, 0, 1, 0]]]
    """
    field = as_image(field, "field")
    out = np.empty(field.shape, np.uint8)
    in_slabs(lambda start, end: _crossings_slab(field, out, start, end), field.shape[0])
    return out


def _matrix(inverse: NDArray[np.float64]) -> NDArray[np.float64]:
    matrix = np.array(inverse, np.float64, order="C")
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        raise ValueError(f"inverse has shape {matrix.shape}; pass the finite 3 x 3 matrix from mm to voxels")
    return matrix
