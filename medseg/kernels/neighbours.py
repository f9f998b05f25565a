"""The neighbours of a voxel in flat memory, without a border of padding: a list of steps for each kind of border."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from .arrays import connectivity_of


class Neighbours(NamedTuple):
    """Steps to the neighbours of a voxel v of a C-contiguous array (k, j, i), in memory order.

    The kind of a voxel is that of its line, ``kinds[v // length]``, plus 1 at the first i and 2 at the last; the steps of
    kind c are ``steps[starts[c]:starts[c + 1]]``; kind 0 is inside the array. ``lines`` are the steps to the lines that
    hold neighbours, its own and the four beside it first (for prefetching), ``inverse`` is 1 / length.
    """

    steps: NDArray[np.int64]
    starts: NDArray[np.int64]
    kinds: NDArray[np.uint8]
    lines: NDArray[np.int64]
    length: int
    inverse: float


def neighbours_of(shape: tuple[int, ...], connectivity: int) -> Neighbours:
    """The table of the neighbours for a shape (k, j, i) and 6, 18 or 26 neighbours.

    >>> near = neighbours_of((2, 3, 4), 6)
    >>> near.steps[near.starts[1 + 4 + 16] : near.starts[2 + 4 + 16]].tolist()  # first i, j and k
    [1, 4, 12]
    """
    most = {6: 1, 18: 2, 26: 3}[connectivity_of(connectivity)]
    wanted = [step for step in product((-1, 0, 1), repeat=3) if 0 < sum(map(abs, step)) <= most]
    flat = (shape[1] * shape[2], shape[2], 1)
    steps: list[int] = []
    starts = [0]
    for kind in range(64):
        borders = (kind >> 4, kind >> 2 & 3, kind & 3)
        for step in wanted:
            if all(not (s < 0 and border & 1) and not (s > 0 and border & 2) for s, border in zip(step, borders, strict=True)):
                steps.append(sum(s * width for s, width in zip(step, flat, strict=True)))
        starts.append(len(steps))
    along_k, along_j = ((np.arange(n) == 0) + 2 * (np.arange(n) == n - 1) for n in shape[:2])
    kinds = np.asarray(16 * along_k[:, None] + 4 * along_j[None, :], np.uint8).reshape(-1)
    lines = [place for _, place in sorted({(abs(k) + abs(j), k * flat[0] + j * flat[1]) for k, j, _ in wanted})]
    return Neighbours(np.array(steps, np.int64), np.array(starts, np.int64), kinds, np.array(lines, np.int64), shape[2], 1.0 / shape[2])


@njit(cache=True, nogil=True)
def kind_of(kinds, length, inverse, v):  # type: ignore[no-untyped-def]
    """The kind of voxel v; the product with the inverse is exact below 2**31 voxels and a third of a division."""
    line = np.int64((v + 0.5) * inverse)
    i = v - line * length
    return np.int64(kinds[np.uint64(line)]) + (i == 0) + 2 * (i == length - 1)


@intrinsic
def prefetch(_context, array, index):  # type: ignore[no-untyped-def]
    """Ask for the cache line of array[index]: a flood waits for memory nearly all of its time without it."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type] + [ir.IntType(32)] * 3)
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], kind)
        builder.call(function, [pointer] + [ir.Constant(ir.IntType(32), value) for value in (0, 3, 1)])
        return context.get_dummy_value()

    return types.void(array, index), generate
