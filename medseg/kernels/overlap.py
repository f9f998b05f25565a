"""How many voxels two label arrays share, for all labels in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import as_labels, as_words, same_shape
from .label_table import grown_hash, place_of
from .slabs import in_slabs


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
    words, per_word, repeat = as_words(reference)
    other, per_other, _ = as_words(prediction)
    per_word = min(per_word, per_other)
    a, b = reference.reshape(-1), prediction.reshape(-1)
    parts = in_slabs(lambda start, end: _slab(a, b, (words, other), per_word, repeat, start, end), a.size)
    numbers = np.unique(np.concatenate([part[0] for part in parts]))
    table = np.zeros((len(numbers), 3), np.int64)
    for labels, rows in parts:
        table[np.searchsorted(numbers, labels)] += rows
    return numbers.astype(dtype), table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy()
