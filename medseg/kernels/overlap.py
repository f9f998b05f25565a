"""How many voxels two label arrays share, for all labels in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import as_labels, as_words, same_shape
from .label_table import grown_hash, place_of
from .slabs import SLABS, in_slabs


@njit(cache=True, nogil=True)
def _row_of(keys, slots, used, label):  # type: ignore[no-untyped-def]
    """The row of a label, and the number of rows after it got one."""
    at = place_of(keys, slots, np.uint64(label))
    if slots[at] < 0:
        keys[at], slots[at] = label, used
        used += 1
    return slots[at], used


@njit(cache=True, nogil=True)
def _with_room(table):  # type: ignore[no-untyped-def]
    wider = np.zeros((4 * table.shape[0], 3), np.int64)
    for n in range(table.shape[0]):
        for column in range(3):
            wider[n, column] = table[n, column]
    return wider


@njit(cache=True, nogil=True)
def _slab(reference, prediction, words, per_word, repeat, start, end):  # type: ignore[no-untyped-def]
    """Voxels of each label in the reference, in the prediction and in both, for flat voxels from start to end."""
    keys, slots = np.zeros(1024, np.uint64), np.full(1024, -1, np.int64)
    table = np.zeros((256, 3), np.int64)
    used = 0
    i = start
    while i < end:
        first, a, b = i, reference[i], prediction[i]
        i += 1
        while i < end and reference[i] == a and prediction[i] == b:
            i += 1
            if per_word > 0 and i % per_word == 0:
                word_a, word_b = np.uint64(a) * repeat, np.uint64(b) * repeat
                w = i // per_word
                last = end // per_word
                while w < last and words[0][w] == word_a and words[1][w] == word_b:
                    w += 1
                i = w * per_word
        if used + 2 > table.shape[0]:
            table = _with_room(table)
            keys, slots = grown_hash(keys, slots)
        if a != 0:
            n, used = _row_of(keys, slots, used, a)
            table[n, 0] += i - first
            if a == b:
                table[n, 1] += i - first
                table[n, 2] += i - first
        if b != 0 and a != b:  # noqa: PLR1714 (quicker than a tuple)
            n, used = _row_of(keys, slots, used, b)
            table[n, 1] += i - first
    numbers = np.zeros(used, np.uint64)
    for n in range(keys.size):
        if slots[n] >= 0:
            numbers[slots[n]] = keys[n]
    return numbers, table[:used]


@njit(cache=True, nogil=True)
def _joint_slab(words, joint, alike, start, end):  # type: ignore[no-untyped-def]
    """For 8 bits, words from start to end: pairs of labels into joint[256 * reference + prediction].

    Words of one label that are equal in both arrays are counted as such, in alike[label].
    """
    byte, repeat = np.uint64(255), np.uint64(0x0101010101010101)
    w = start
    while w < end:
        word, other = words[0][w], words[1][w]
        label = word & byte
        w += 1
        if word == other and word == label * repeat:
            first = w - 1
            while w < end and words[0][w] == word and words[1][w] == word:
                w += 1
            alike[label] += 8 * (w - first)
            continue
        for n in range(8):
            shift = np.uint64(8 * n)
            joint[(((word >> shift) & byte) << np.uint64(8)) | ((other >> shift) & byte)] += 1


@njit(cache=True, nogil=True)
def _dense_slab(words, counts, start, end):  # type: ignore[no-untyped-def]
    """For 16 bits, words from start to end: counts[label] (reference, prediction, both)."""
    half, repeat = np.uint64(65535), np.uint64(0x0001000100010001)
    w = start
    while w < end:
        word, other = words[0][w], words[1][w]
        label = word & half
        w += 1
        if word == other and word == label * repeat:
            first = w - 1
            while w < end and words[0][w] == word and words[1][w] == word:
                w += 1
            for column in range(3):
                counts[label, column] += 4 * (w - first)
            continue
        for n in range(4):
            shift = np.uint64(16 * n)
            a, b = (word >> shift) & half, (other >> shift) & half
            counts[a, 0] += 1
            counts[b, 1] += 1
            counts[a, 2] += a == b


def _joint(words: tuple[NDArray[np.uint64], ...]) -> NDArray[np.int64]:
    def work(start: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
        alike, joint = np.zeros(256, np.int64), np.zeros(1 << 16, np.uint32)
        _joint_slab(words, joint, alike, start, end)
        return alike, joint

    # a slab counts less than 2**32 voxels one by one
    alike, joint = np.zeros(256, np.int64), np.zeros(1 << 16, np.int64)
    for part in in_slabs(work, words[0].size, max(SLABS, words[0].size >> 28)):
        alike += part[0]
        joint += part[1]
    pairs = joint.reshape(256, 256)
    return np.stack([pairs.sum(axis=1), pairs.sum(axis=0), pairs.diagonal()], axis=1) + alike[:, None]


def _dense(words: tuple[NDArray[np.uint64], ...]) -> NDArray[np.int64]:
    def work(start: int, end: int) -> NDArray[np.int64]:
        counts = np.zeros((1 << 16, 3), np.int64)
        _dense_slab(words, counts, start, end)
        return counts

    return np.asarray(sum(in_slabs(work, words[0].size, 4), np.zeros((1 << 16, 3), np.int64)))  # few slabs: large tables


def _by_words(reference: NDArray[Any], prediction: NDArray[Any]) -> NDArray[np.int64]:
    """The counts of every value that 8 or 16 bits can have, [values, 3], for flat arrays."""
    per_word = 8 // reference.itemsize
    whole = reference.size // per_word * per_word
    words = reference[:whole].view(np.uint64), prediction[:whole].view(np.uint64)
    counts = _joint(words) if per_word == 8 else _dense(words)
    for a, b in zip(reference[whole:].tolist(), prediction[whole:].tolist(), strict=True):
        counts[a, 0] += 1
        counts[b, 1] += 1
        counts[a, 2] += a == b
    counts[0] = 0
    return counts


def overlap_counts(
    reference: NDArray[Any], prediction: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The voxels of every label in the reference, in the prediction and in both.

    Both arrays (k, j, i) hold integers >= 0 on the same grid; 0 is background. Returns the labels that occur in
    either, in rising order, and the three counts (int64) beside them. Exact.

    >>> counts = overlap_counts(np.array([[[1, 1, 2, 0]]]), np.array([[[1, 0, 2, 7]]]))
    >>> [array.tolist() for array in counts]
    [[1, 2, 7], [2, 1, 0], [1, 1, 1], [1, 1, 0]]
    """
    reference, prediction = as_labels(reference, "reference"), as_labels(prediction, "prediction")
    same_shape(reference, prediction, ("reference", "prediction"))
    dtype = np.promote_types(reference.dtype, prediction.dtype)
    reference, prediction = as_labels(reference.astype(dtype, copy=False)), as_labels(prediction.astype(dtype, copy=False))
    a, b = reference.reshape(-1), prediction.reshape(-1)
    if dtype.itemsize <= 2 and a.ctypes.data % 8 == 0 and b.ctypes.data % 8 == 0:
        counts = _by_words(a, b)
        numbers = np.flatnonzero(counts.any(axis=1))
        return numbers.astype(dtype), counts[numbers, 0], counts[numbers, 1], counts[numbers, 2]
    words, per_word, repeat = as_words(reference)
    other, per_other, _ = as_words(prediction)
    per_word = min(per_word, per_other)
    parts = in_slabs(lambda start, end: _slab(a, b, (words, other), per_word, repeat, start, end), a.size)
    numbers = np.unique(np.concatenate([part[0] for part in parts]))
    table = np.zeros((len(numbers), 3), np.int64)
    for labels, rows in parts:
        table[np.searchsorted(numbers, labels)] += rows
    return numbers.astype(dtype), table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy()
