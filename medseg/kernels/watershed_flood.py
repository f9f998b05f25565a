"""The flood of a watershed: levels in rising order, first come first served within a level.

A word a voxel holds what the flood needs to know, its level (0 or more) until it is reached and minus its label after that:
one cache line for a neighbour instead of two. The least number there is marks closed voxels.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .level_queues import LAST, ONE, close, new_chunk, next_chunk
from .neighbours import prefetch

_AHEAD = np.uint64(10)  # voxels of the queue whose neighbours are already on their way from memory


@njit(cache=True, nogil=True)
def pack(relief, lowest, markers, inside, closed, words, start, end):  # type: ignore[no-untyped-def]
    """Fill the words from ``start`` to ``end``: levels, minus the labels of markers, closed outside the mask."""
    for v in range(start, end):
        level = np.int64(relief[v]) - lowest
        label = np.int64(markers[v])
        words[v] = level if label == 0 else -label
    if inside.size > 0:
        for v in range(start, end):
            if inside[v] == 0:
                words[v] = closed


@njit(cache=True, nogil=True)
def unpack(words, labels, closed):  # type: ignore[no-untyped-def]
    """Write the labels, 0 where no flood came; ``labels`` may be the beginning of the same memory."""
    for v in range(labels.size):
        word = np.int64(words[v])
        labels[v] = -word if word < 0 and word != closed else 0


@njit(cache=True, nogil=True)
def start(words, relief, lowest, shift, near, queue, closed, lines):  # type: ignore[no-untyped-def]
    """Queue the voxels of the markers that have a neighbour to flood; with lines, those neighbours instead."""
    steps, starts, kinds, _, length, _ = near
    bounds, pool, state = queue
    for line in range(kinds.size):
        for i in range(length):
            v = line * length + i
            if words[np.uint64(v)] >= 0 or words[np.uint64(v)] == closed:
                continue
            kind = np.int64(kinds[np.uint64(line)]) + (i == 0) + 2 * (i == length - 1)
            for m in range(starts[kind], starts[kind + 1]):
                u = v + steps[m]
                if words[np.uint64(u)] < 0:
                    continue
                if not lines:
                    to = np.uint64((np.int64(relief[np.uint64(v)]) - lowest) >> shift)
                    at = bounds[to, 1]
                    if at & LAST == 0:
                        at = new_chunk(bounds, pool, state, to, at)
                    pool[at] = v
                    bounds[to, 1] = at + ONE
                    break
                to = np.uint64(np.int64(words[np.uint64(u)]) >> shift)
                at = bounds[to, 1]
                if at & LAST == 0:
                    at = new_chunk(bounds, pool, state, to, at)
                pool[at] = u
                bounds[to, 1] = at + ONE
                words[np.uint64(u)] = closed


@njit(cache=True, nogil=True)
def _decided(words, v, steps, first, stop, closed):  # type: ignore[no-untyped-def]
    """Give voxel v the word of the basins that it touches; closed where it touches two: v is on a line between them."""
    mark = closed
    for m in range(first, stop):
        other = np.int64(words[np.uint64(v + steps[np.uint64(m)])])
        if other < 0 and other != closed:
            if mark != closed and other != mark:  # noqa: PLR1714 (quicker than a tuple)
                return closed
            mark = other
    words[np.uint64(v)] = mark
    return mark


@njit(cache=True, nogil=True)
def flood(words, near, queue, closed, lines):  # type: ignore[no-untyped-def]
    """Flood in place. Without lines a voxel gets its label when it enters a queue, with lines when it leaves it.

    The level of the flood never falls. With lines, closed voxels are also those that wait in a queue or lie on a line.
    """
    steps, starts, kinds, rows, length, inverse = near
    bounds, pool, state = queue
    here, one, two, three, four = rows[0], rows[1], rows[2], rows[3], rows[4]
    for level in range(bounds.shape[0]):
        now = np.uint64(level)
        while bounds[now, 0] != bounds[now, 1]:
            at = bounds[now, 0]
            v = np.int64(pool[at])
            if at & LAST < LAST - _AHEAD:
                later = np.int64(pool[at + _AHEAD])
                prefetch(words, later + here)  # written out: a loop takes longer
                prefetch(words, later + one)
                prefetch(words, later + two)
                prefetch(words, later + three)
                prefetch(words, later + four)
                for m in range(5, rows.size):
                    prefetch(words, later + rows[np.uint64(m)])
            at += ONE
            if at & LAST == 0:
                at = next_chunk(bounds, pool, state, now, at)
            bounds[now, 0] = at
            line = np.int64((v + 0.5) * inverse)  # as neighbours.kind_of
            i = v - line * length
            kind = np.int64(kinds[np.uint64(line)]) + (i == 0) + 2 * (i == length - 1)
            first, stop = np.int64(0), starts[1]
            if kind != 0:
                first, stop = starts[np.uint64(kind)], starts[np.uint64(kind + 1)]
            mark = np.int64(words[np.uint64(v)])
            if lines:
                mark = _decided(words, v, steps, first, stop, closed)
                if mark == closed:
                    continue
                mark = closed
            for m in range(first, stop):
                u = v + steps[np.uint64(m)]
                there = np.int64(words[np.uint64(u)])
                if there >= 0:
                    words[np.uint64(u)] = mark
                    to = max(np.uint64(there), now)
                    at = bounds[to, 1]
                    if at & LAST == 0:
                        at = new_chunk(bounds, pool, state, to, at)
                    pool[at] = u
                    bounds[to, 1] = at + ONE
        close(bounds, pool, state, now)


@njit(cache=True, nogil=True)
def _spread_out(relief, lowest, queue, fine, now):  # type: ignore[no-untyped-def]
    """Move the voxels of a level into the lists of its fine levels, in their order.

    Returns how many fine levels hold about eight voxels: so far ahead memory is asked for; 0 where there was no voxel.
    """
    bounds, pool, state = queue
    ends, links, used = fine
    count = 0
    while bounds[now, 0] != bounds[now, 1]:
        at = bounds[now, 0]
        v = np.int64(pool[at])
        if at & LAST < LAST - _AHEAD:
            prefetch(relief, np.int64(pool[at + _AHEAD]))
        at += ONE
        if at & LAST == 0:
            at = next_chunk(bounds, pool, state, now, at)
        bounds[now, 0] = at
        low_level = np.uint64((np.int64(relief[np.uint64(v)]) - lowest) & (ends.shape[0] - 1))
        link = used[1]
        if link >= 0:
            used[1] = links[np.uint64(link), 1]
        else:
            link = used[0]
            used[0] += 1
        links[np.uint64(link), 0] = v
        links[np.uint64(link), 1] = -1
        if ends[low_level, 0] < 0:
            ends[low_level, 0] = link
        else:
            links[np.uint64(ends[low_level, 1]), 1] = link
        ends[low_level, 1] = link
        count += 1
    close(bounds, pool, state, now)
    return 0 if count == 0 else min(8 * ends.shape[0] // count, 4096) + 1


@njit(cache=True, nogil=True)
def flood_finely(words, relief, lowest, shift, near, queue, fine, closed, lines):  # type: ignore[no-untyped-def]
    """As `flood` for reliefs of up to 32 bits: a queue holds 2**shift levels and is put in order when the flood gets there."""
    steps, starts, kinds, rows, length, inverse = near
    ends, links, used = fine
    bounds, pool, state = queue
    for level in range(bounds.shape[0]):
        now = np.uint64(level)
        ahead = _spread_out(relief, lowest, queue, fine, now)
        if ahead == 0:
            continue
        for low in range(ends.shape[0]):
            if low + ahead < ends.shape[0] and ends[np.uint64(low + ahead), 0] >= 0:
                later = np.int64(links[np.uint64(ends[np.uint64(low + ahead), 0]), 0])
                for m in range(rows.size):
                    prefetch(words, later + rows[np.uint64(m)])
            while ends[np.uint64(low), 0] >= 0:
                first_link = np.uint64(ends[np.uint64(low), 0])
                ends[np.uint64(low), 0] = links[first_link, 1]
                links[first_link, 1] = used[1]
                used[1] = np.int64(first_link)
                v = np.int64(links[first_link, 0])
                line = np.int64((v + 0.5) * inverse)  # as neighbours.kind_of
                i = v - line * length
                kind = np.int64(kinds[np.uint64(line)]) + (i == 0) + 2 * (i == length - 1)
                first, stop = np.int64(0), starts[1]
                if kind != 0:
                    first, stop = starts[np.uint64(kind)], starts[np.uint64(kind + 1)]
                mark = np.int64(words[np.uint64(v)])
                if lines:
                    mark = _decided(words, v, steps, first, stop, closed)
                    if mark == closed:
                        continue
                    mark = closed
                for m in range(first, stop):
                    u = v + steps[np.uint64(m)]
                    there = np.int64(words[np.uint64(u)])
                    if there >= 0:
                        words[np.uint64(u)] = mark
                        if there >> shift > level:
                            to = np.uint64(there >> shift)
                            at = bounds[to, 1]
                            if at & LAST == 0:
                                at = new_chunk(bounds, pool, state, to, at)
                            pool[at] = u
                            bounds[to, 1] = at + ONE
                        else:
                            low_level = np.uint64(max(there & (ends.shape[0] - 1), low) if there >> shift == level else low)
                            link = used[1]
                            if link >= 0:
                                used[1] = links[np.uint64(link), 1]
                            else:
                                link = used[0]
                                used[0] += 1
                            links[np.uint64(link), 0] = u
                            links[np.uint64(link), 1] = -1
                            if ends[low_level, 0] < 0:
                                ends[low_level, 0] = link
                            else:
                                links[np.uint64(ends[low_level, 1]), 1] = link
                            ends[low_level, 1] = link
