"""Watershed from markers: flooding of a grey relief, level by level."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from .arrays import Connectivity, as_image, as_labels, as_mask, connectivity_of, same_shape
from .label_table import place_of
from .slabs import in_slabs

LEVELS = 65536
_CHUNK = 126  # voxels in a piece of a queue
_AHEAD = 8  # voxels of the queue whose neighbours are already on their way from memory


@intrinsic
def _prefetch(_context, array, index):  # type: ignore[no-untyped-def]
    """Ask for the cache line of array[index]: the flood waits for memory nearly all of its time without it."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type] + [ir.IntType(32)] * 3)
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], kind)
        builder.call(function, [pointer] + [ir.Constant(ir.IntType(32), value) for value in (0, 3, 1)])
        return context.get_dummy_value()

    return types.void(array, index), generate


@njit(cache=True, nogil=True)
def _pack(levels, lowest, markers, mask, words, start, end):  # type: ignore[no-untyped-def]
    """Words of label and level with a border one voxel thick that counts as flooded, as do voxels outside the mask."""
    closed = ~words.dtype.type(0xFFFF)
    shift = words.dtype.type(16)
    depth, height, length = words.shape
    has_mask = mask.size > 0
    for k in range(start, end):
        for j in range(height):
            line = words[k, j]
            if k == 0 or k == depth - 1 or j == 0 or j == height - 1:
                for i in range(length):
                    line[i] = closed
                continue
            line[0] = closed
            line[length - 1] = closed
            grey, seeds = levels[k - 1, j - 1], markers[k - 1, j - 1]
            for i in range(grey.size):
                level = words.dtype.type(np.int64(grey[i]) - lowest)
                line[i + 1] = (words.dtype.type(seeds[i]) << shift) | level
            if has_mask:
                inside = mask[k - 1, j - 1]
                for i in range(grey.size):
                    if inside[i] == 0:
                        line[i + 1] = closed


@njit(cache=True, nogil=True)
def _unpack(words, out, start, end):  # type: ignore[no-untyped-def]
    shift = words.dtype.type(16)
    closed = ~words.dtype.type(0xFFFF) >> shift
    for k in range(start, end):
        for j in range(out.shape[1]):
            line, labels = words[k + 1, j + 1], out[k, j]
            for i in range(labels.size):
                label = line[i + 1] >> shift
                labels[i] = label if label != closed else 0


@njit(cache=True, nogil=True)
def _start(words, offsets, queues, pool, after):  # type: ignore[no-untyped-def]
    """Queue the voxels of the markers that have a neighbour to flood; give the number of chunks in use."""
    head, read, write, room = queues
    shift, low_bits = words.dtype.type(16), words.dtype.type(0xFFFF)
    closed = ~low_bits >> shift
    used = np.int64(0)
    for v in range(words.size):
        label = words[np.uint64(v)] >> shift
        if label == 0 or label == closed:  # noqa: PLR1714 (quicker than a tuple)
            continue
        for m in range(offsets.size):
            if words[np.uint64(v + offsets[m])] >> shift == 0:
                level = np.uint64(words[np.uint64(v)] & low_bits)
                if write[level] == room[level]:
                    chunk = used
                    used += 1
                    if head[level] == -1:
                        head[level], read[level] = chunk, chunk * _CHUNK
                    else:
                        after[np.uint64(room[level] // _CHUNK - 1)] = chunk
                    write[level], room[level] = chunk * _CHUNK, (chunk + 1) * _CHUNK
                pool[np.uint64(write[level])] = v
                write[level] += 1
                break
    return used


@njit(cache=True, nogil=True)
def _flood(words, offsets, levels, pool, after):  # type: ignore[no-untyped-def]
    """Flood in place. A voxel gets its label when it enters a queue; the level of the flood never falls.

    One first-in first-out queue for each level, made of chunks of ``pool``; ``after`` links the chunks of a queue, and
    the free ones. Unsigned indices spare the test for negative ones.
    """
    shift, low_bits = words.dtype.type(16), words.dtype.type(0xFFFF)
    head = np.full(levels, -1, np.int64)  # first chunk of a queue
    read, write, room = np.zeros(levels, np.int64), np.zeros(levels, np.int64), np.zeros(levels, np.int64)
    used = _start(words, offsets, (head, read, write, room), pool, after)
    free = np.int64(-1)
    for current in range(levels):
        now = np.uint64(current)
        while head[now] != -1:
            chunk = head[now]
            is_last = room[now] == (chunk + 1) * _CHUNK
            end = write[now] if is_last else (chunk + 1) * _CHUNK
            at = read[now]
            if at == end:
                if is_last:
                    head[now], write[now], room[now] = -1, 0, 0
                else:
                    head[now] = after[np.uint64(chunk)]
                    read[now] = head[now] * _CHUNK
                after[np.uint64(chunk)] = free
                free = np.int64(chunk)
                continue
            v = np.int64(pool[np.uint64(at)])
            read[now] = at + 1
            if at + _AHEAD < end:
                later = np.int64(pool[np.uint64(at + _AHEAD)])
                for m in range(offsets.size):
                    _prefetch(words, later + offsets[m])
            label = words[np.uint64(v)] & ~low_bits
            for m in range(offsets.size):
                u = v + offsets[m]
                word = words[np.uint64(u)]
                if word >> shift != 0:
                    continue
                words[np.uint64(u)] = word | label
                level = max(np.uint64(word & low_bits), now)
                if write[level] == room[level]:
                    if free >= 0:
                        other = free
                        free = np.int64(after[np.uint64(free)])
                    else:
                        other = used
                        used += 1
                    if head[level] == -1:
                        head[level], read[level] = other, other * _CHUNK
                    else:
                        after[np.uint64(room[level] // _CHUNK - 1)] = other
                    write[level], room[level] = other * _CHUNK, (other + 1) * _CHUNK
                pool[np.uint64(write[level])] = u
                write[level] += 1


@njit(cache=True, nogil=True)
def _distinct(values, bits, keys, slots, most):  # type: ignore[no-untyped-def]
    """Number the different finite values as they are met; -1 as soon as there are more than ``most``."""
    used = 0
    for n in range(values.size):
        if np.isfinite(values[n]):
            at = place_of(keys, slots, np.uint64(bits[n]))
            if slots[at] < 0:
                if used == most:
                    return -1
                keys[at], slots[at] = bits[n], used
                used += 1
    return used


@njit(cache=True, nogil=True)
def _ranked(values, bits, keys, slots, ranks, out, start, end):  # type: ignore[no-untyped-def]
    for n in range(start, end):
        if np.isfinite(values[n]):
            out[n] = ranks[slots[place_of(keys, slots, np.uint64(bits[n]))]]
        else:
            out[n] = 0 if values[n] < 0 else 65535


@njit(cache=True, nogil=True)
def _scaled(values, low, scale, out, start, end):  # type: ignore[no-untyped-def]
    for n in range(start, end):
        if np.isfinite(values[n]):
            out[n] = np.uint16(min((np.float64(values[n]) - low) * scale + 0.5, 65535.0))
        else:
            out[n] = 0 if values[n] < 0 else 65535


def _as_levels(image: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """An integer image of at most 65,536 levels and its lowest value."""
    if image.dtype.kind != "f":
        lowest = int(image.min())
        if int(image.max()) - lowest < LEVELS:
            return image, lowest
    values = image.reshape(-1).astype(np.float64 if image.dtype.itemsize == 8 else np.float32, copy=False)
    if image.dtype == np.int32:
        values = image.reshape(-1).astype(np.float64)
    values = values + 0  # -0 becomes 0: the two have different bits
    bits = values.view(np.uint32 if values.dtype.itemsize == 4 else np.uint64)
    keys, slots = np.zeros(4 * LEVELS, np.uint64), np.full(4 * LEVELS, -1, np.int64)
    out = np.empty(image.shape, np.uint16)
    flat = out.reshape(-1)
    used = _distinct(values, bits, keys, slots, LEVELS)
    if used >= 0:
        found = np.empty(used, values.dtype)
        found[slots[slots >= 0]] = keys[slots >= 0].astype(bits.dtype).view(values.dtype)
        ranks = np.empty(max(used, 1), np.uint16)
        ranks[np.argsort(found)] = np.arange(used, dtype=np.uint16)
        in_slabs(lambda start, end: _ranked(values, bits, keys, slots, ranks, flat, start, end), flat.size)
        return out, 0
    finite = values[np.isfinite(values)]
    low, high = float(finite.min()), float(finite.max())
    scale = (LEVELS - 1) / (high - low)
    in_slabs(lambda start, end: _scaled(values, low, scale, flat, start, end), flat.size)
    return out, 0


def _offsets(shape: tuple[int, ...], connectivity: int) -> NDArray[np.int64]:
    most = {6: 1, 18: 2, 26: 3}[connectivity_of(connectivity)]
    steps = [(k, j, i) for k in (-1, 0, 1) for j in (-1, 0, 1) for i in (-1, 0, 1)]
    kept = [(k * shape[1] + j) * shape[2] + i for k, j, i in steps if 0 < abs(k) + abs(j) + abs(i) <= most]
    return np.array(kept, np.int64)


def watershed(image: NDArray[Any], markers: NDArray[Any], connectivity: Connectivity = 6, mask: NDArray[Any] | None = None) -> NDArray[Any]:
    """Every voxel gets the label of the marker whose flood reaches it first; there is no line between the basins.

    ``image`` (k, j, i) is the relief, ``markers`` integers >= 0 on the same grid (0: to be flooded); voxels outside
    ``mask`` (uint8 or bool) stay 0, markers there do not count. Returns labels of the dtype of the markers; voxels
    that no flood can reach stay 0. Equal heights are flooded in the order in which they were reached, as
    ITK's MorphologicalWatershedFromMarkers does (Beucher and Meyer 1993).

    Integers that span at most 65,536 values are flooded exactly. Any other image is put into 16-bit levels first: by
    rank, which is exact too, where it holds at most 65,536 different values; else in equal steps over its range. NaN
    and +infinity are flooded last, -infinity first.

    >>> relief = np.array([[[0, 1, 5, 1, 0]]], np.uint8)
    >>> watershed(relief, np.array([[[1, 0, 0, 0, 2]]], np.uint8)).tolist()
    [[[1, 1, 1, 2, 2]]]
    """
    image, seeds = as_image(image), as_labels(markers, "markers")
    same_shape(image, seeds, ("image", "markers"))
    inside = np.empty((0, 0, 0), np.uint8) if mask is None else as_mask(mask)
    inside.flags.writeable = False
    if mask is not None:
        same_shape(image, inside, ("image", "mask"))
    levels, lowest = _as_levels(image)
    levels.flags.writeable = False
    shape = tuple(length + 2 for length in image.shape)
    size = int(np.prod(shape, dtype=np.int64))
    if size > np.iinfo(np.int32).max:
        raise ValueError(f"the image has {image.size} voxels, more than about 2**31; flood a part of it (crop first)")
    offsets = _offsets(shape, connectivity)
    most = int(seeds.max())
    if most >= 1 << 47:
        raise ValueError(f"the markers go up to {most}; number them anew from 1")
    words = np.empty(shape, np.uint32 if most < 0xFFFF else np.uint64)
    in_slabs(lambda start, end: _pack(levels, lowest, seeds, inside, words, start, end), shape[0])
    count = int(levels.max()) - lowest + 1
    chunks = size // _CHUNK + 2 * count + 2
    _flood(words.reshape(-1), offsets, count, np.empty(chunks * _CHUNK, np.int32), np.empty(chunks, np.int64))
    out = np.empty(image.shape, seeds.dtype)
    in_slabs(lambda start, end: _unpack(words, out, start, end), out.shape[0])
    return out.astype(markers.dtype, copy=False)
