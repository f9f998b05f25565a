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
def _along_i(source, inside, step, most, line):  # type: ignore[no-untyped-def]
    """Squared distance along i to the nearest voxel that is not inside."""
    far = np.inf
    steps = far
    for i in range(line.size):
        steps = steps + 1.0 if (source[i] != 0) == inside else 0.0
        line[i] = steps
    steps = far
    for i in range(line.size - 1, -1, -1):
        steps = steps + 1.0 if line[i] != 0 else 0.0
        nearest = min(steps, np.float64(line[i])) * step
        line[i] = nearest * nearest if nearest <= most else far


@njit(cache=True, nogil=True)
def _envelope(column, halves, centres, heights, begins, out):  # type: ignore[no-untyped-def]
    """The lower envelope of parabolas (doi:10.4086/toc.2012.v008a019), for each stretch between zeros by itself.

    ``column`` in squared steps. ``halves[d]`` is 1 / (2 d): a product costs a fifth of a division.
    """
    n = column.size
    begin = 0
    while begin < n:
        if column[begin] == 0:
            out[begin] = 0
            begin += 1
            continue
        end = begin + 1
        while end < n and column[end] != 0:
            end += 1
        top = -1
        for q in range(max(begin - 1, 0), min(end + 1, n)):
            height = column[q] + np.float64(q * q)
            if height == np.inf:
                continue
            cross = -np.inf
            while top >= 0:
                cross = (height - heights[top]) * halves[q - centres[top]]
                if cross > begins[top]:
                    break
                top -= 1
            top += 1
            centres[top], heights[top] = q, height
            begins[top] = cross if top > 0 else -np.inf
        if top < 0:
            for q in range(begin, end):
                out[q] = np.inf
            begin = end
            continue
        begins[top + 1] = np.inf
        at = 0
        for q in range(begin, end):
            while begins[at + 1] < q:
                at += 1
            away = np.float64(q - centres[at])
            out[q] = away * away + column[centres[at]]
        begin = end


@njit(cache=True, nogil=True)
def _tables(count):  # type: ignore[no-untyped-def]
    """Scratch for columns of that length."""
    halves = np.empty(count + 1)
    for n in range(1, count + 1):
        halves[n] = 0.5 / n
    return halves, np.empty(count + 1, np.int64), np.empty(count + 1), np.empty(count + 2)


@njit(cache=True, nogil=True)
def _across(plane, step, most, root, columns, found, tables):  # type: ignore[no-untyped-def]
    """In place along the first axis of a plane; with ``root`` the distance is written, not its square."""
    count, length = plane.shape
    halves, centres, heights, begins = tables
    square = step * step
    per_square, limit = 1 / square, most * most
    for first in range(0, length, _BLOCK):
        width = min(_BLOCK, length - first)
        is_needed = False
        for n in range(count):
            line = plane[n, first : first + width]
            for m in range(width):
                columns[m, n] = line[m] * per_square
                is_needed |= line[m] != 0
        if not is_needed:
            continue
        for m in range(width):
            _envelope(columns[m], halves, centres, heights, begins, found[m])
        for n in range(count):
            line = plane[n, first : first + width]
            for m in range(width):
                value = found[m, n] * square
                value = value if value <= limit else np.inf
                line[m] = np.sqrt(value) if root else value


@njit(cache=True, nogil=True)
def _within_planes(mask, origin, inside, spacing, most, out, start, end):  # type: ignore[no-untyped-def]
    """Along i and j, plane by plane while it is in the cache; ``origin`` is where out begins in the mask."""
    height = out.shape[1]
    tables = _tables(height)
    columns, found = np.empty((_BLOCK, height)), np.empty((_BLOCK, height))
    for k in range(start, end):
        for j in range(height):
            source = mask[k + origin[0], j + origin[1], origin[2] : origin[2] + out.shape[2]]
            _along_i(source, inside, spacing[2], most, out[k, j])
        _across(out[k], spacing[1], most, False, columns, found, tables)


@njit(cache=True, nogil=True)
def _between_planes(squared, step, most, root, start, end):  # type: ignore[no-untyped-def]
    depth = squared.shape[0]
    tables = _tables(depth)
    columns, found = np.empty((_BLOCK, depth)), np.empty((_BLOCK, depth))
    for j in range(start, end):
        _across(squared[:, j], step, most, root, columns, found, tables)


def _squared(
    mask: NDArray[np.uint8],
    box: list[tuple[int, int]],
    inside: bool,
    spacing: tuple[float, float, float],
    most: float,
    root: bool = False,
) -> NDArray[np.float32]:
    """Squared distances (or, with ``root``, distances) within a box of the mask, from voxels that are inside (or not) to the others."""
    out = np.empty([stop - start for start, stop in box], np.float32)
    origin = tuple(start for start, _ in box)
    in_slabs(lambda start, end: _within_planes(mask, origin, inside, spacing, most, out, start, end), out.shape[0])
    in_slabs(lambda start, end: _between_planes(out, spacing[0], most, root, start, end), out.shape[1])
    return out


@njit(cache=True, nogil=True)
def _held_slab(mask, planes, rows, columns, start, end):  # type: ignore[no-untyped-def]
    """Mark the planes, rows and columns that hold a voxel of the mask."""
    for k in range(start, end):
        any_k = np.uint8(0)
        for j in range(mask.shape[1]):
            line = mask[k, j]
            any_j = np.uint8(0)
            for i in range(line.size):
                any_j |= line[i]
                columns[i] |= line[i]
            rows[j] |= any_j
            any_k |= any_j
        planes[k] = any_k


def _box(mask: NDArray[np.uint8], margin: Sequence[int]) -> list[tuple[int, int]] | None:
    """The bounds of the voxels inside plus a margin, cut at the array; None for an empty mask."""
    planes = np.zeros(mask.shape[0], np.uint8)

    def look(start: int, end: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        rows, columns = np.zeros(mask.shape[1], np.uint8), np.zeros(mask.shape[2], np.uint8)
        _held_slab(mask, planes, rows, columns, start, end)
        return rows, columns

    parts = in_slabs(look, mask.shape[0])
    held = [np.flatnonzero(planes), *(np.flatnonzero(np.any([part[n] for part in parts], axis=0)) for n in (0, 1))]
    if len(held[0]) == 0:
        return None
    bounds = zip(held, margin, mask.shape, strict=True)
    return [(max(int(at[0]) - add, 0), min(int(at[-1]) + 1 + add, length)) for at, add, length in bounds]


def _slices(box: list[tuple[int, int]]) -> tuple[slice, ...]:
    return tuple(slice(start, stop) for start, stop in box)


def distance_mm(mask: NDArray[Any], spacing_mm: Sequence[float], max_distance_mm: float | None = None) -> NDArray[np.float32]:
    """The distance in mm from each voxel inside the mask to the nearest voxel outside it, between centres; 0 outside.

    ``mask`` uint8 or bool and ``spacing_mm`` in the order (k, j, i), axes at right angles; the space beyond the array
    counts neither as inside nor as outside. Infinity where the mask fills the array, and where the distance is above
    ``max_distance_mm`` (which saves time). Exact, as scipy.ndimage.distance_transform_edt. Memory beyond the mask: the
    result, 4 bytes a voxel.

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
    found = _squared(inside, box, True, spacing, most, root=True)
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
