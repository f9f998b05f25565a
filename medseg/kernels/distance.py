"""Exact Euclidean distances in mm, and growing and shrinking masks by balls in mm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import as_mask, spacing_of
from .slabs import in_slabs

# A voxel at the radius of a ball belongs to it although its distance was rounded (float32, three sums).
_SLACK = 1e-6
_BLOCK = 16  # neighbouring columns taken at once: one line of the cache each time


@njit(cache=True, nogil=True)
def _along_i(mask, origin, inside, step, most, out, start, end):  # type: ignore[no-untyped-def]
    """Squared distance along i to the nearest voxel that is not inside; ``origin`` is where out begins in the mask."""
    length = out.shape[2]
    far = np.inf
    for k in range(start, end):
        for j in range(out.shape[1]):
            source, line = mask[k + origin[0], j + origin[1]], out[k, j]
            steps = far
            for i in range(length):
                steps = steps + 1.0 if (source[i + origin[2]] != 0) == inside else 0.0
                line[i] = steps
            steps = far
            for i in range(length - 1, -1, -1):
                steps = steps + 1.0 if line[i] != 0 else 0.0
                nearest = min(steps, np.float64(line[i])) * step
                line[i] = nearest * nearest if nearest <= most else far


@njit(cache=True, nogil=True)
def _envelope(column, square, halves, centres, begins, out):  # type: ignore[no-untyped-def]
    """The lower envelope of parabolas (doi:10.4086/toc.2012.v008a019), for each stretch between zeros by itself.

    ``halves[d]`` is 1 / (2 d): a product costs a fifth of a division.
    """
    n = column.size
    inverse = 1.0 / square
    begin = 0
    while begin < n:
        if column[begin] == 0:
            out[begin] = 0
            begin += 1
            continue
        end = begin
        while end < n and column[end] != 0:
            end += 1
        top = -1
        for q in range(max(begin - 1, 0), min(end + 1, n)):
            height = np.float64(column[q])
            if height == np.inf:
                continue
            cross = -np.inf
            while top >= 0:
                p = centres[top]
                cross = (height - column[p]) * inverse * halves[q - p] + 0.5 * (q + p)
                if cross > begins[top]:
                    break
                top -= 1
            top += 1
            centres[top] = q
            begins[top] = cross if top > 0 else -np.inf
        at = 0
        for q in range(begin, end):
            if top < 0:
                out[q] = np.inf
                continue
            while at < top and begins[at + 1] < q:
                at += 1
            away = np.float64(q - centres[at])
            out[q] = away * away * square + column[centres[at]]
        begin = end


@njit(cache=True, nogil=True)
def _across(squared, axis, step, most, start, end):  # type: ignore[no-untyped-def]
    """In place along j (axis 1, slabs of k) or k (axis 0, slabs of j)."""
    count, length = squared.shape[axis], squared.shape[2]
    columns = np.empty((_BLOCK, count), np.float32)
    out = np.empty(count, np.float32)
    centres, begins = np.empty(count + 1, np.int64), np.empty(count + 1)
    halves = np.empty(count + 1)
    for n in range(1, count + 1):
        halves[n] = 0.5 / n
    limit = most * most
    for slab in range(start, end):
        for first in range(0, length, _BLOCK):
            width = min(_BLOCK, length - first)
            is_needed = False
            for n in range(count):
                line = squared[slab, n] if axis == 1 else squared[n, slab]
                for m in range(width):
                    columns[m, n] = line[first + m]
                    is_needed |= line[first + m] != 0
            if not is_needed:
                continue
            for m in range(width):
                column = columns[m]
                _envelope(column, step * step, halves, centres, begins, out)
                for n in range(count):
                    column[n] = out[n] if out[n] <= limit else np.inf
            for n in range(count):
                line = squared[slab, n] if axis == 1 else squared[n, slab]
                for m in range(width):
                    line[first + m] = columns[m, n]


def _squared(
    mask: NDArray[np.uint8], box: list[tuple[int, int]], inside: bool, spacing: tuple[float, float, float], most: float
) -> NDArray[np.float32]:
    """Squared distances within a box of the mask, from voxels that are inside (or not) to the nearest other one."""
    out = np.empty([stop - start for start, stop in box], np.float32)
    origin = tuple(start for start, _ in box)
    in_slabs(lambda start, end: _along_i(mask, origin, inside, spacing[2], most, out, start, end), out.shape[0])
    in_slabs(lambda start, end: _across(out, 1, spacing[1], most, start, end), out.shape[0])
    in_slabs(lambda start, end: _across(out, 0, spacing[0], most, start, end), out.shape[1])
    return out


def _box(mask: NDArray[np.uint8], margin: Sequence[int]) -> list[tuple[int, int]] | None:
    """The bounds of the voxels inside plus a margin, cut at the array; None for an empty mask."""
    planes = np.flatnonzero(mask.any(axis=(1, 2)))
    if len(planes) == 0:
        return None
    part: NDArray[np.bool_] = np.any(mask[planes[0] : planes[-1] + 1], axis=0)
    held = [planes, np.flatnonzero(np.any(part, axis=1)), np.flatnonzero(np.any(part, axis=0))]
    bounds = zip(held, margin, mask.shape, strict=True)
    return [(max(int(at[0]) - add, 0), min(int(at[-1]) + 1 + add, length)) for at, add, length in bounds]


def _slices(box: list[tuple[int, int]]) -> tuple[slice, ...]:
    return tuple(slice(start, stop) for start, stop in box)


def distance_mm(mask: NDArray[Any], spacing_mm: Sequence[float], max_distance_mm: float | None = None) -> NDArray[np.float32]:
    """The distance in mm from each voxel inside the mask to the nearest voxel outside it, between centres; 0 outside.

    ``mask`` uint8 or bool and ``spacing_mm`` in the order (k, j, i), axes at right angles; the space beyond the array
    counts neither as inside nor as outside. Infinity where the mask fills the array, and where the distance is above
    ``max_distance_mm`` (which saves time). Exact, as scipy.ndimage.distance_transform_edt.

    >>> distance_mm(np.array([[[0, 1, 1, 1]]], np.uint8), (1, 1, 0.5)).tolist()
    [[[0.0, 0.5, 1.0, 1.5]]]
    """
    inside, spacing = as_mask(mask), spacing_of(spacing_mm)
    most = np.inf if max_distance_mm is None else float(max_distance_mm) * (1 + _SLACK)
    if not most > 0:
        raise ValueError(f"max_distance_mm is {max_distance_mm}; pass a positive number or None")
    box = _box(inside, (1, 1, 1))
    if box is None:
        return np.zeros(inside.shape, np.float32)
    if 2 * np.prod([stop - start for start, stop in box]) > inside.size:
        box = [(0, length) for length in inside.shape]
    found = _squared(inside, box, True, spacing, most)
    np.sqrt(found, out=found)
    if found.shape == inside.shape:
        return found
    out = np.zeros(inside.shape, np.float32)
    out[_slices(box)] = found
    return out


def _radius_of(radius_mm: float, spacing: tuple[float, float, float]) -> tuple[float, list[int]]:
    """The radius with its slack, and the voxels it reaches along each axis."""
    radius = float(radius_mm)
    if not (np.isfinite(radius) and radius >= 0):
        raise ValueError(f"radius_mm is {radius_mm}; pass a number >= 0")
    radius *= 1 + _SLACK
    return radius, [int(radius / step) for step in spacing]


def dilate(mask: NDArray[Any], radius_mm: float, spacing_mm: Sequence[float]) -> NDArray[np.uint8]:
    """The voxels whose centre lies within ``radius_mm`` of the centre of a voxel inside the mask (uint8).

    ``mask`` uint8 or bool and ``spacing_mm`` in the order (k, j, i), axes at right angles.

    >>> dilate(np.array([[[0, 0, 0, 1, 0]]], np.uint8), 2, (1, 1, 1)).tolist()
    [[[0, 1, 1, 1, 1]]]
    """
    inside, spacing = as_mask(mask), spacing_of(spacing_mm)
    radius, reach = _radius_of(radius_mm, spacing)
    out = np.zeros(inside.shape, np.uint8)
    box = _box(inside, reach)
    if box is not None:
        out[_slices(box)] = _squared(inside, box, False, spacing, radius) <= radius * radius
    return out


def erode(mask: NDArray[Any], radius_mm: float, spacing_mm: Sequence[float]) -> NDArray[np.uint8]:
    """The voxels of the mask that are farther than ``radius_mm`` from every voxel outside it (uint8).

    The space beyond the array does not shrink the mask: an organ that the field of view cuts off is not eroded there.
    ``mask`` uint8 or bool and ``spacing_mm`` in the order (k, j, i), axes at right angles.

    >>> erode(np.array([[[1, 1, 1, 0, 1]]], np.uint8), 1, (1, 1, 1)).tolist()
    [[[1, 1, 0, 0, 0]]]
    """
    inside, spacing = as_mask(mask), spacing_of(spacing_mm)
    radius, _ = _radius_of(radius_mm, spacing)
    out = np.zeros(inside.shape, np.uint8)
    box = _box(inside, (1, 1, 1))
    if box is not None:
        found = _squared(inside, box, True, spacing, radius)
        out[_slices(box)] = (found != 0) & (found > radius * radius)
    return out


def open_(mask: NDArray[Any], radius_mm: float, spacing_mm: Sequence[float]) -> NDArray[np.uint8]:
    """The part of the mask that balls of ``radius_mm`` inside it can reach: thin bridges and spikes go (uint8).

    An erosion, then a dilation, with their conventions; at the border of the array the mask counts as going on.

    >>> open_(np.array([[[0, 1, 0, 1, 1, 1, 0]]], np.uint8), 1, (1, 1, 1)).tolist()
    [[[0, 0, 0, 1, 1, 1, 0]]]
    """
    return dilate(erode(mask, radius_mm, spacing_mm), radius_mm, spacing_mm)


def close(mask: NDArray[Any], radius_mm: float, spacing_mm: Sequence[float]) -> NDArray[np.uint8]:
    """The mask with the gaps that no ball of ``radius_mm`` outside it can reach: clefts and holes close (uint8).

    A dilation, then an erosion, on an array wide enough that its border has no influence (as ITK's "safe border"); an
    array one voxel thick is closed within its plane.

    >>> close(np.array([[[1, 0, 1, 0, 0, 0, 1]]], np.uint8), 1, (1, 1, 1)).tolist()
    [[[1, 1, 1, 0, 0, 0, 1]]]
    """
    inside, spacing = as_mask(mask), spacing_of(spacing_mm)
    _, reach = _radius_of(radius_mm, spacing)
    out = np.zeros(inside.shape, np.uint8)
    box = _box(inside, (0, 0, 0))
    if box is not None:
        margins = [add + 1 if inside.shape[axis] > 1 else 0 for axis, add in enumerate(reach)]
        wide = np.pad(inside[_slices(box)], [(add, add) for add in margins])
        closed = erode(dilate(wide, radius_mm, spacing_mm), radius_mm, spacing_mm)
        # A closing never leaves the box of the mask.
        inner = [(add, end - add) for add, end in zip(margins, closed.shape, strict=True)]
        out[_slices(box)] = closed[_slices(inner)]
    return out
