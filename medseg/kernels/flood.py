"""Region growing between two limits, and the intensity statistics that steer it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from medseg.core.errors import TooLargeError

from .arrays import Connectivity, as_image, as_mask, limits_as, same_shape
from .runs import fill_run, find_runs, first_run, line_runs, line_scratch, reach, runs_with_seeds
from .slabs import SLABS, in_slabs

T = TypeVar("T")

# Runs for which room is made at first; memory is only used as far as it is written.
_FIRST_ROOM = 1 << 20
# So few lines are painted sooner than threads are started.
_FEW_LINES = 10_000
# Share of the lines of the image after which a flood stops to visit line by line, and at least so many lines: from
# there on it is faster to code all lines in threads and to join their runs in one sweep.
_LARGE_SHARE = 1 / 16
_LARGE_LINES = 100
_DONE, _NO_ROOM, _TOO_LARGE = 0, 1, 2


class _Found(NamedTuple):
    """What a flood knows: the runs of the lines it reached (a line is coded when it is first reached)."""

    start: NDArray[np.int32]
    runs: NDArray[np.int32]  # runs of a line + 1; 0: not reached yet
    reached: NDArray[np.int32]  # lines in the order in which they were reached
    first: NDArray[np.int32]
    stop: NDArray[np.int32]
    is_inside: NDArray[np.uint8]
    stack: NDArray[np.int32]  # (line, run) still to be looked at
    used: NDArray[np.int64]  # lines reached, runs coded, entries of the stack

    def with_more_room(self) -> _Found:
        """The same with twice the room for runs."""

        def doubled(array: NDArray[Any]) -> NDArray[Any]:
            more = np.empty((2 * len(array), *array.shape[1:]), array.dtype)
            more[: len(array)] = array
            return more

        return self._replace(
            first=doubled(self.first),
            stop=doubled(self.stop),
            is_inside=doubled(self.is_inside),
            stack=doubled(self.stack),
        )


@njit(cache=True, nogil=True, inline="always")
def _reach_line(image, lower, upper, scratch, line, found):  # type: ignore[no-untyped-def]
    """Code the runs of a line that was not reached before."""
    start, count, reached, first, stop, is_inside, _, used = found
    height = image.shape[1]
    n = used[1]
    end = line_runs(image[line // height, line % height], lower, upper, scratch, first, stop, n)
    for m in range(n, end):
        is_inside[m] = 0
    start[line] = n
    count[line] = end - n + 1
    reached[used[0]] = line
    used[0] += 1
    used[1] = end


@njit(cache=True, nogil=True)
def _grow(image, seeds, lower, upper, neighbours, most_lines, scratch, found):  # type: ignore[no-untyped-def]
    """Grow until nothing is left, the room for runs is used up (call again with more), or too many lines are reached."""
    depth, height, length = image.shape
    start, count, _, first, stop, is_inside, stack, used = found
    most = length // 2 + 1
    for s in range(seeds.shape[0]):
        line = seeds[s, 0] * height + seeds[s, 1]
        if count[line] == 0:
            if used[1] + most > first.size:
                return _NO_ROOM
            _reach_line(image, lower, upper, scratch, line, found)
        end = np.int64(start[line]) + count[line] - 1
        n = first_run(stop, np.int64(start[line]), end, seeds[s, 2])
        if n < end and first[n] <= seeds[s, 2] and is_inside[n] == 0:
            is_inside[n] = 1
            stack[used[2], 0] = line
            stack[used[2], 1] = n
            used[2] += 1
    while used[2] > 0:
        if used[0] > most_lines:
            return _TOO_LARGE
        if used[1] + neighbours.shape[0] * most > first.size:
            return _NO_ROOM
        used[2] -= 1
        top = used[2]
        k = stack[top, 0] // height
        j = stack[top, 0] - k * height
        low, high = np.int64(first[stack[top, 1]]), np.int64(stop[stack[top, 1]])
        for m in range(neighbours.shape[0]):
            there_k, there_j, apart = k + neighbours[m, 0], j + neighbours[m, 1], neighbours[m, 2]
            if there_k < 0 or there_k >= depth or there_j < 0 or there_j >= height:
                continue
            line = there_k * height + there_j
            if count[line] == 0:
                _reach_line(image, lower, upper, scratch, line, found)
            end = np.int64(start[line]) + count[line] - 1
            n = first_run(stop, np.int64(start[line]), end, low - apart)
            while n < end and first[n] < high + apart:
                if is_inside[n] == 0:
                    is_inside[n] = 1
                    stack[used[2], 0] = line
                    stack[used[2], 1] = n
                    used[2] += 1
                n += 1
    return _DONE


@njit(cache=True, nogil=True)
def _paint(out, found, begin, finish):  # type: ignore[no-untyped-def]
    start, count, reached, first, stop, is_inside, _, _ = found
    height = out.shape[1]
    for m in range(begin, finish):
        line = reached[m]
        row = out[line // height, line % height]
        for n in range(start[line], start[line] + count[line] - 1):
            if is_inside[n]:
                fill_run(row, first[n], stop[n], 1)


def _seeds_in(seeds: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.int64]:
    points = np.atleast_2d(np.asarray(seeds))
    if points.ndim != 2 or points.shape[1] != 3 or points.dtype.kind not in "iu":
        raise ValueError(f"seeds have shape {points.shape} and dtype {points.dtype}; pass N x 3 integers (k, j, i)")
    outside = ((points < 0) | (points >= np.array(shape))).any(axis=1)
    if outside.any():
        raise ValueError(f"seed {points[outside][0].tolist()} (k, j, i) lies outside the image of shape {shape}")
    return np.ascontiguousarray(points, np.int64)


def _neighbour_lines(connectivity: int) -> NDArray[np.int64]:
    face, diagonal = reach(connectivity)
    lines = [(dk, dj, face if dk * dj == 0 else diagonal) for dk in (-1, 0, 1) for dj in (-1, 0, 1) if dk or dj]
    return np.array([line for line in lines if line[2] >= 0], np.int64)


def flood(image: NDArray[Any], seeds: NDArray[Any], lower: float, upper: float, connectivity: Connectivity = 6) -> NDArray[np.uint8]:
    """The voxels with lower <= value <= upper that are connected to a seed.

    ``image`` (k, j, i), any integer or float; ``seeds`` N x 3 integers (k, j, i); a seed outside the limits adds
    nothing, and NaN is never inside. The time depends on the lines that the region touches, not on the volume.
    Voxel for voxel the result of ITK's ConnectedThreshold.

    Raises ValueError for a seed outside the image, crossed or NaN limits, or another connectivity.

    >>> image = np.array([[[5, 5, 0, 5]]], np.int16)
    >>> flood(image, np.array([[0, 0, 1]]), 4, 6).tolist()
    [[[1, 1, 0, 0]]]
    """
    return grow(image, seeds, lower, upper, connectivity).mask()


@dataclass(frozen=True)
class Region:
    """What `grow` found, as runs: the mask and the intensities of it are made when asked for."""

    image: NDArray[Any]
    seeds: NDArray[np.int64]
    found: _Found | None
    is_large: bool = False

    def _in_slabs(self, work: Callable[[int, int], T]) -> list[T]:
        reached = int(self.found.used[0]) if self.found is not None else 0
        return in_slabs(work, reached, SLABS if reached > _FEW_LINES else 1) if reached else []

    def mask(self) -> NDArray[np.uint8]:
        """1 in the region, 0 elsewhere."""
        out = np.zeros(self.image.shape, np.uint8)
        self._in_slabs(lambda begin, finish: _paint(out, self.found, begin, finish))
        return out

    def mean_std(self, ddof: int = 0) -> tuple[float, float]:
        """Mean and standard deviation of the image in the region, as `flood_mean_std` gives them."""
        if len(self.seeds) == 0:
            return float("nan"), float("nan")
        value = self.image[tuple(self.seeds[0])]
        # relative to one voxel no digits are lost where the mean is large; sums of short integers are exact
        is_short = self.image.dtype.kind in "iu" and self.image.dtype.itemsize <= 2
        centre = np.int64(value) if is_short else np.float64(value if np.isfinite(value) else 0)
        parts = self._in_slabs(lambda begin, finish: _run_sums(self.image, self.found, centre, begin, finish))
        count, total, squares = (sum(part[n] for part in parts) for n in range(3))
        if count == 0:
            return float("nan"), float("nan")
        return float(centre) + total / count, _std(int(count), float(total), float(squares), ddof)


def grow(
    image: NDArray[Any], seeds: NDArray[Any], lower: float, upper: float, connectivity: Connectivity = 6, expect_large: bool = False
) -> Region:
    """The region that `flood` paints, without painting it.

    A small region is found line by line, so that nothing else is visited; one that reaches many lines, or that is
    expected to (the same result, sooner), from all runs of the image: 12 bytes for each of them.

    >>> grow(np.array([[[5, 7, 0, 5]]], np.int16), np.array([[0, 0, 1]]), 4, 8).mean_std()
    (6.0, 1.0)
    """
    image = as_image(image)
    points = _seeds_in(seeds, image.shape)
    neighbours = _neighbour_lines(connectivity)
    limits = limits_as(image.dtype, lower, upper)
    if limits is None or len(points) == 0:
        return Region(image, points, None)
    lines = image.shape[0] * image.shape[1]
    if lines > np.iinfo(np.int32).max:
        raise TooLargeError(f"the image has {lines} lines of voxels, more than 2**31 - 1; crop it or resample it to a coarser grid first")
    found = None if expect_large else _line_by_line(image, points, limits, neighbours)
    if found is not None:
        return Region(image, points, found)
    return Region(image, points, _from_all_runs(image, points, limits, connectivity), is_large=True)


def _line_by_line(image: NDArray[Any], points: NDArray[np.int64], limits: tuple[Any, Any], neighbours: NDArray[np.int64]) -> _Found | None:
    """The runs of the lines that a flood reaches; None where it reaches too many."""
    lines = image.shape[0] * image.shape[1]
    room = max(_FIRST_ROOM, 16 * (image.shape[2] // 2 + 1))
    found = _Found(
        start=np.empty(lines, np.int32),
        runs=np.zeros(lines, np.int32),
        reached=np.empty(lines, np.int32),
        first=np.empty(room, np.int32),
        stop=np.empty(room, np.int32),
        is_inside=np.empty(room, np.uint8),
        stack=np.empty((room, 2), np.int32),
        used=np.zeros(3, np.int64),
    )
    scratch = line_scratch(image.shape[2])
    most_lines = max(_LARGE_LINES, int(lines * _LARGE_SHARE))
    while (state := _grow(image, points, *limits, neighbours, most_lines, scratch, found)) == _NO_ROOM:
        found = found.with_more_room()
    return found if state == _DONE else None


def _from_all_runs(image: NDArray[Any], points: NDArray[np.int64], limits: tuple[Any, Any], connectivity: int) -> _Found:
    """The same from the runs of all lines."""
    runs = find_runs(image, *limits)
    is_inside = runs_with_seeds(runs, points, connectivity)
    lines = runs.lines.size - 1
    return _Found(
        start=runs.lines[:-1].astype(np.int32),
        runs=(np.diff(runs.lines) + 1).astype(np.int32),
        reached=np.arange(lines, dtype=np.int32),
        first=runs.first,
        stop=runs.stop,
        is_inside=is_inside,
        stack=np.empty((0, 2), np.int32),
        used=np.array([lines, runs.first.size, 0]),
    )


@njit(cache=True, nogil=True)
def _run_sums(image, found, centre, begin, finish):  # type: ignore[no-untyped-def]
    """Count, sum and sum of squares of image - centre over the runs that a flood reached, in the type of the centre."""
    start, runs, reached, first, stop, is_inside, _, _ = found
    height = image.shape[1]
    count, total, squares = 0, centre - centre, centre - centre
    for m in range(begin, finish):
        line = reached[m]
        row = image[line // height, line % height]
        for n in range(start[line], start[line] + runs[line] - 1):
            if is_inside[n]:
                count += stop[n] - first[n]
                for i in range(np.uint64(first[n]), np.uint64(stop[n])):  # unsigned: see fill_run
                    value = row[i] - centre
                    total += value
                    squares += value * value
    return count, total, squares


def flood_mean_std(
    image: NDArray[Any], seeds: NDArray[Any], lower: float, upper: float, connectivity: Connectivity = 6, ddof: int = 0
) -> tuple[float, float]:
    """Mean and standard deviation over the voxels that ``flood`` gives for the same arguments, without a mask.

    The sum of squares is divided by the number of voxels minus ``ddof``; NaN where there are no more than that.

    >>> flood_mean_std(np.array([[[5, 7, 0, 5]]], np.int16), np.array([[0, 0, 1]]), 4, 8)
    (6.0, 1.0)
    """
    return grow(image, seeds, lower, upper, connectivity).mean_std(ddof)


@njit(cache=True, nogil=True)
def _mask_sums(image, mask, centre, start, end):  # type: ignore[no-untyped-def]
    """Count, sum and sum of squares of image - centre over the mask in the planes from start to end."""
    count, total, squares = 0, 0.0, 0.0
    for k in range(start, end):
        for j in range(image.shape[1]):
            line, inside = image[k, j], mask[k, j]
            for i in range(image.shape[2]):
                if inside[i] != 0:
                    value = np.float64(line[i]) - centre
                    count += 1
                    total += value
                    squares += value * value
    return count, total, squares


def masked_mean_std(image: NDArray[Any], mask: NDArray[Any], ddof: int = 0) -> tuple[float, float]:
    """Mean and standard deviation of the image over the non-zero voxels of the mask, in one pass.

    ``image`` and ``mask`` (k, j, i); the sum of squares is divided by the number of voxels minus ``ddof`` (ITK's
    ConfidenceConnected uses 1). NaN where the mask holds no more than ``ddof`` voxels, or where a voxel is NaN.

    >>> masked_mean_std(np.array([[[1.0, 3.0, 9.0]]]), np.array([[[True, True, False]]]))
    (2.0, 1.0)
    """
    image, inside = as_image(image), as_mask(mask)
    same_shape(image, inside, ("image", "mask"))
    # Values are taken relative to one voxel of the mask: no digits are lost where the mean is large.
    depth = int(inside.any(axis=(1, 2)).argmax())
    at = np.unravel_index(int(inside[depth].argmax()), inside.shape[1:])
    centre = float(image[(depth, *at)])
    parts = in_slabs(lambda start, end: _mask_sums(image, inside, centre, start, end), image.shape[0])
    count, total, squares = (sum(part[n] for part in parts) for n in range(3))
    if count == 0:
        return float("nan"), float("nan")
    return centre + total / count, _std(count, total, squares, ddof)


def _std(count: int, total: float, squares: float, ddof: int) -> float:
    if count <= ddof:
        return float("nan")
    return float(np.sqrt(np.maximum(squares - total * total / count, 0.0) / (count - ddof)))


def seed_mean_std(image: NDArray[Any], seeds: NDArray[Any], radius: int = 1, ddof: int = 1) -> tuple[float, float]:
    """Mean and standard deviation over the cubes of 2 * radius + 1 voxels around the seeds, taken together.

    The first step of ITK's ConfidenceConnected: outside the image the value of the border voxel counts, and voxels
    in the cubes of two seeds count twice. ``seeds`` N x 3 integers (k, j, i), inside the image, at least one. The
    deviation is NaN for a single value with ``ddof=1``.

    >>> seed_mean_std(np.full((3, 3, 3), 7.0), np.array([[1, 1, 1]]))
    (7.0, 0.0)
    """
    image = as_image(image)
    points = _seeds_in(seeds, image.shape)
    if len(points) == 0 or radius < 0:
        raise ValueError(f"{len(points)} seeds with radius {radius}; pass at least one seed and a radius >= 0")
    steps = np.arange(-radius, radius + 1)
    axes = [np.clip(points[:, n, None] + steps, 0, image.shape[n] - 1) for n in range(3)]
    values = image[axes[0][:, :, None, None], axes[1][:, None, :, None], axes[2][:, None, None, :]].astype(np.float64)
    centre = float(values.flat[0])
    values -= centre
    total = float(values.sum())
    return centre + total / values.size, _std(values.size, total, float(np.square(values).sum()), ddof)
