"""The exact median of the cube around each voxel. Outside the array the border voxel is repeated.

For 27 voxels: the nine of each column of the cube are sorted once and serve three voxels; of three sorted columns only
13 values can be the median, found by comparisons alone, a whole line of voxels at once. For 125 voxels: bit by bit, the
greatest number that half of the neighbours reach.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import as_image
from .slabs import in_slabs


@njit(cache=True, nogil=True)
def _low(a, b):  # type: ignore[no-untyped-def]
    return a if a < b else b


@njit(cache=True, nogil=True)
def _high(a, b):  # type: ignore[no-untyped-def]
    return b if a < b else a


@njit(cache=True, nogil=True)
def _pair(a, b):  # type: ignore[no-untyped-def]
    """Both in rising order."""
    return _low(a, b), _high(a, b)


@njit(cache=True, nogil=True)
def _sort_columns(rows, out, length):  # type: ignore[no-untyped-def]
    """The nine values at each place of nine lines in rising order: 25 comparisons, the fewest that sort nine."""
    for i in range(length):
        a, b = _pair(rows[0, i], rows[1, i])
        d, e = _pair(rows[3, i], rows[4, i])
        g, h = _pair(rows[6, i], rows[7, i])
        b, c = _pair(b, rows[2, i])
        e, f = _pair(e, rows[5, i])
        h, m = _pair(h, rows[8, i])
        a, b = _pair(a, b)
        d, e = _pair(d, e)
        g, h = _pair(g, h)
        c, f = _pair(c, f)
        a, d = _pair(a, d)
        b, e = _pair(b, e)
        f, m = _pair(f, m)
        d, g = _pair(d, g)
        e, h = _pair(e, h)
        c, f = _pair(c, f)
        a, d = _pair(a, d)
        b, e = _pair(b, e)
        f, h = _pair(f, h)
        c, g = _pair(c, g)
        b, d = _pair(b, d)
        e, g = _pair(e, g)
        c, e = _pair(c, e)
        f, g = _pair(f, g)
        c, d = _pair(c, d)
        out[0, i], out[1, i], out[2, i], out[3, i], out[4, i] = a, b, c, d, e
        out[5, i], out[6, i], out[7, i], out[8, i] = f, g, h, m


@njit(cache=True, nogil=True)
def _middle_and_greatest(a, b, c):  # type: ignore[no-untyped-def]
    low, high = _pair(a, b)
    inner, greatest = _pair(high, c)
    return _high(low, inner), greatest


@njit(cache=True, nogil=True)
def _least_and_middle(a, b, c):  # type: ignore[no-untyped-def]
    low, high = _pair(a, b)
    least, inner = _pair(low, c)
    return least, _low(inner, high)


@njit(cache=True, nogil=True)
def _median_of_columns(one, two, three, out):  # type: ignore[no-untyped-def]
    """The median of three sorted columns of nine; a value with more than 13 certainly below or above it is left out."""
    for i in range(out.size):
        # sorted across the columns too, value (row r, place c) has (r+1)(c+1)-1 below and (9-r)(3-c)-1 above it
        c0 = _high(_high(one[0, i], two[0, i]), three[0, i])
        c1 = _high(_high(one[1, i], two[1, i]), three[1, i])
        b0, c2 = _middle_and_greatest(one[2, i], two[2, i], three[2, i])
        b1, c3 = _middle_and_greatest(one[3, i], two[3, i], three[3, i])
        _, b2 = _least_and_middle(one[4, i], two[4, i], three[4, i])
        a0, b3 = _least_and_middle(one[5, i], two[5, i], three[5, i])
        a1, b4 = _least_and_middle(one[6, i], two[6, i], three[6, i])
        a2 = _low(_low(one[7, i], two[7, i]), three[7, i])
        a3 = _low(_low(one[8, i], two[8, i]), three[8, i])
        # a and c merged to x0..x7 in rising order; x0 and x7 are not needed
        x4 = _high(a0, c0)
        x1, x5 = _pair(a1, c1)
        x2, x6 = _pair(a2, c2)
        x3 = _low(a3, c3)
        x2, x4 = _pair(x2, x4)
        x3, x5 = _pair(x3, x5)
        x1, x2 = _pair(x1, x2)
        x3, x4 = _pair(x3, x4)
        x5, x6 = _pair(x5, x6)
        # the seventh of the 13: the least of the greatest of n of b and 7 - n of x
        best = _low(_low(_high(x1, b4), _high(x2, b3)), _low(_high(x3, b2), _high(x4, b1)))
        out[i] = _low(best, _low(_high(x5, b0), x6))


@njit(cache=True, nogil=True)
def _median_27_slab(image, out, start, end):  # type: ignore[no-untyped-def]
    depth, height, length = image.shape
    rows = np.empty((9, length), image.dtype)
    columns = np.empty((9, length + 2), image.dtype)
    left, inner, right = columns[:, :length], columns[:, 1 : length + 1], columns[:, 2:]
    for k in range(start, end):
        for j in range(height):
            for n in range(9):
                source = image[min(max(k + n // 3 - 1, 0), depth - 1), min(max(j + n % 3 - 1, 0), height - 1)]
                row = rows[n]
                for i in range(length):
                    row[i] = source[i]
            _sort_columns(rows, inner, length)
            for n in range(9):
                columns[n, 0], columns[n, length + 1] = columns[n, 1], columns[n, length]
            _median_of_columns(left, inner, right, out[k, j])


@njit(cache=True, nogil=True)
def _median_slab(keys, radius, bits, out, start, end):  # type: ignore[no-untyped-def]
    """The median bit by bit: the greatest number that at least half of the neighbours reach (all voxels of a line at once)."""
    depth, height, length = keys.shape
    side = 2 * radius + 1
    enough = keys.dtype.type((side * side * side + 1) // 2)
    rows = np.empty((side * side, length + 2 * radius), keys.dtype)
    reached, candidate = np.empty(length, keys.dtype), np.empty(length, keys.dtype)
    one = keys.dtype.type(1)
    for k in range(start, end):
        for j in range(height):
            for n in range(side * side):
                source = keys[min(max(k + n // side - radius, 0), depth - 1), min(max(j + n % side - radius, 0), height - 1)]
                row = rows[n]
                for i in range(radius):
                    row[i] = source[0]
                    row[radius + length + i] = source[length - 1]
                inner = row[radius : radius + length]
                for i in range(length):
                    inner[i] = source[i]
            line = out[k, j]
            for i in range(length):
                line[i] = 0
            for bit in range(bits - 1, -1, -1):
                step = one << keys.dtype.type(bit)
                for i in range(length):
                    candidate[i] = line[i] | step
                    reached[i] = 0
                for n in range(side * side):
                    for shift in range(0, side - 1, 2):
                        one_row, other = rows[n, shift : shift + length], rows[n, shift + 1 : shift + 1 + length]
                        for i in range(length):
                            reached[i] += keys.dtype.type(one_row[i] >= candidate[i]) + keys.dtype.type(other[i] >= candidate[i])
                    row = rows[n, side - 1 : side - 1 + length]
                    for i in range(length):
                        reached[i] += keys.dtype.type(row[i] >= candidate[i])
                for i in range(length):
                    line[i] = candidate[i] if reached[i] >= enough else line[i]


def _to_keys(image: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Unsigned integers in the same order as the values, and how many bits they need."""
    unsigned = np.dtype(f"u{image.dtype.itemsize}")
    if image.dtype.kind != "f":
        lowest = image.min()
        keys = image.view(unsigned) - lowest.view(unsigned)  # modulo 2**bits: right for signed values too
        return keys, int(keys.max()).bit_length()
    bits = image.view(unsigned)
    top = unsigned.type(1 << (8 * unsigned.itemsize - 1))
    return np.where(bits & top, ~bits, bits | top), 8 * unsigned.itemsize


def _from_keys(keys: NDArray[Any], image: NDArray[Any]) -> NDArray[Any]:
    if image.dtype.kind != "f":
        keys += image.min().view(keys.dtype)
        return keys.view(image.dtype)
    top = keys.dtype.type(1 << (8 * keys.dtype.itemsize - 1))
    return np.where(keys & top, keys ^ top, ~keys).view(image.dtype)


def median(image: NDArray[Any], radius: int = 1) -> NDArray[Any]:
    """The exact median of the cube of 2 * radius + 1 voxels around each voxel (radius 1 or 2), in the dtype of the image.

    ``image`` (k, j, i). Equal to SimpleITK's Median. NaN counts as the greatest value. Memory beyond the image: the
    result; for floats, and for radius 2, another array of its size (they are compared as whole numbers).

    >>> median(np.array([[[1, 9, 1]]], np.uint8)).tolist()
    [[[1, 1, 1]]]
    """
    source = as_image(image)
    if radius not in (1, 2):
        raise ValueError(f"radius is {radius}; use 1 (27 voxels) or 2 (125 voxels)")
    native = image.dtype.newbyteorder("=")
    if radius == 1 and source.dtype.kind != "f":
        found = np.empty(source.shape, source.dtype)
        in_slabs(lambda start, end: _median_27_slab(source, found, start, end), source.shape[0])
        return found.astype(native, copy=False)
    keys, bits = _to_keys(source)
    keys.flags.writeable = False
    out = np.empty(keys.shape, keys.dtype)
    if radius == 1:
        in_slabs(lambda start, end: _median_27_slab(keys, out, start, end), keys.shape[0])
    else:
        in_slabs(lambda start, end: _median_slab(keys, radius, bits, out, start, end), keys.shape[0])
    return _from_keys(out, source).astype(native, copy=False)
