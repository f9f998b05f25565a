"""A small hash table from labels to rows, and runs of equal labels: what the one-pass tables are made of."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def place_of(keys, slots, label):  # type: ignore[no-untyped-def]
    """Where a label stands in the hash table, or the free place where it belongs."""
    mask = np.uint64(keys.size - 1)
    # All bits take part: labels differ in the low ones, the patterns of floats only in the high ones.
    at = (((label ^ (label >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask
    while slots[at] >= 0 and keys[at] != label:
        at = (at + np.uint64(1)) & mask
    return at


@njit(cache=True, nogil=True)
def grown_hash(keys, slots):  # type: ignore[no-untyped-def]
    """The same table with four times the places."""
    more_keys = np.zeros(4 * keys.size, np.uint64)
    more_slots = np.full(4 * keys.size, -1, np.int64)
    for n in range(keys.size):
        if slots[n] >= 0:
            at = place_of(more_keys, more_slots, keys[n])
            more_keys[at] = keys[n]
            more_slots[at] = slots[n]
    return more_keys, more_slots


@njit(cache=True, nogil=True)
def run_end(line, words, base, per_word, repeat, i):  # type: ignore[no-untyped-def]
    """Where the run of equal labels ends that holds voxel i: whole words are compared where lines are made of them."""
    label, length = line[i], line.size
    i += 1
    while i < length and line[i] == label:
        i += 1
        if per_word > 0 and i % per_word == 0:
            word = np.uint64(label) * repeat
            while i < length and words[base + i // per_word] == word:
                i += per_word
    return i
