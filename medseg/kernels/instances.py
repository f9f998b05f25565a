"""Every connected part of every label in one pass over a label array: the runs of all labels, joined where labels agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Connectivity, as_labels, as_words
from .runs import Runs, paint_runs, reach
from .slabs import in_slabs


@dataclass(frozen=True)
class Instances:
    """Runs of equal labels (background has none) and the part that each belongs to.

    `lines` int64 [K * J + 1], `first` and `stop` int32 as in `runs.Runs`; `component` int32 [runs] counts parts from 0 in
    order of first appearance; `numbers` and `voxels` [parts] are the label and the size of each part.
    """

    shape: tuple[int, int, int]
    lines: NDArray[np.int64]
    first: NDArray[np.int32]
    stop: NDArray[np.int32]
    component: NDArray[np.int32]
    numbers: NDArray[np.int64]
    voxels: NDArray[np.int64]

    def rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The k and the j of every run."""
        line = np.repeat(np.arange(self.lines.size - 1), np.diff(self.lines))
        return line // self.shape[1], line % self.shape[1]

    def centroids(self) -> NDArray[np.float64]:
        """The mean index (k, j, i) of every part, [parts, 3]."""
        k, j = self.rows()
        length = (self.stop - self.first).astype(np.float64)
        middle = (self.first.astype(np.float64) + self.stop - 1) / 2
        sums = [np.bincount(self.component, length * index, minlength=self.voxels.size) for index in (k, j, middle)]
        return np.stack(sums, axis=1) / np.maximum(self.voxels, 1)[:, None]

    def islands(self, connectivity: Connectivity = 26) -> NDArray[np.int32]:
        """The number, in order of first appearance, of the connected part of its own plane that each run belongs to."""
        face, diagonal = reach(connectivity)
        parts = self.component.astype(np.int64)
        return _connect(self.lines, self.first, self.stop, parts, self.shape, face, diagonal, False)[0]  # type: ignore[no-any-return]

    def painted(self, values: NDArray[Any]) -> NDArray[Any]:
        """An array (k, j, i) of the dtype of `values` [parts] that holds the value of its part in each voxel, 0 elsewhere."""
        return paint_runs(Runs(self.shape, self.lines, self.first, self.stop), self.component, values)


@njit(cache=True, nogil=True)
def _with_room(array, used, more):  # type: ignore[no-untyped-def]
    wider = np.empty(2 * array.size + more, np.int64)
    for n in range(used):
        wider[n] = array[n]
    return wider


@njit(cache=True, nogil=True)
def _slab(labels, words, per_word, start, end):  # type: ignore[no-untyped-def]
    """The runs of the planes from start to end, as columns of one table: first, stop, label."""
    _, height, length = labels.shape
    lines = np.empty((end - start) * height, np.int64)
    first, stop, value = np.empty(1024, np.int64), np.empty(1024, np.int64), np.empty(1024, np.int64)
    n = 0
    for k in range(start, end):
        for j in range(height):
            lines[(k - start) * height + j] = n
            if n + length > first.size:
                first, stop, value = _with_room(first, n, length), _with_room(stop, n, length), _with_room(value, n, length)
            line = labels[k, j]
            base = (k * height + j) * length // max(per_word, 1)
            i = 0
            while i < length:
                if per_word > 0 and i % per_word == 0 and words[base + i // per_word] == 0:
                    i += per_word
                    continue
                label = line[i]
                if label == 0:
                    i += 1
                    continue
                first[n], value[n] = i, label
                while i < length and line[i] == label:
                    i += 1
                stop[n] = i
                n += 1
    return lines, first[:n], stop[:n], value[:n]


@njit(cache=True, nogil=True)
def _root(parent, n):  # type: ignore[no-untyped-def]
    while parent[n] != n:
        parent[n] = parent[parent[n]]
        n = np.int64(parent[n])
    return n


@njit(cache=True, nogil=True)
def _join(parent, lines, first, stop, value, here, there, apart):  # type: ignore[no-untyped-def]
    """Join the runs of two lines that touch and hold one label; runs of different labels may touch within a line."""
    b, b_end = lines[there], lines[there + 1]
    for a in range(lines[here], lines[here + 1]):
        while b < b_end and stop[b] + apart <= first[a]:
            b += 1
        c = b
        while c < b_end and first[c] < stop[a] + apart:
            if value[c] == value[a]:
                one, other = _root(parent, a), _root(parent, c)
                parent[max(one, other)] = min(one, other)
            c += 1


@njit(cache=True, nogil=True)
def _connect(lines, first, stop, value, shape, face, diagonal, planes):  # type: ignore[no-untyped-def]
    """Number the parts in order of first appearance; give the part of each run, and the voxels and label of each part."""
    depth, height, _ = shape
    parent = np.arange(first.size)
    for line in range(depth * height):
        if lines[line] == lines[line + 1]:
            continue
        k, j = line // height, line % height
        if j > 0:
            _join(parent, lines, first, stop, value, line, line - 1, face)
        if planes and k > 0:
            _join(parent, lines, first, stop, value, line, line - height, face)
            if diagonal >= 0:
                if j > 0:
                    _join(parent, lines, first, stop, value, line, line - height - 1, diagonal)
                if j < height - 1:
                    _join(parent, lines, first, stop, value, line, line - height + 1, diagonal)
    count = 0
    for n in range(parent.size):
        count += parent[n] == n
    component = np.empty(parent.size, np.int32)
    voxels, numbers = np.zeros(count, np.int64), np.zeros(count, np.int64)
    count = 0
    for n in range(parent.size):  # a root has the smallest number of its part: it is met first
        if parent[n] == n:
            component[n] = count
            numbers[count] = value[n]
            count += 1
        else:
            component[n] = component[_root(parent, n)]
        voxels[component[n]] += stop[n] - first[n]
    return component, voxels, numbers


def find_instances(labels: NDArray[Any], connectivity: Connectivity | None = 26) -> Instances:
    """Find the connected parts of every label of an array (k, j, i); with `connectivity` None each label is one part.

    >>> found = find_instances(np.array([[[1, 2, 2, 0, 1]]], np.uint8))
    >>> found.numbers.tolist(), found.voxels.tolist(), found.component.tolist()
    ([1, 2, 1], [1, 2, 1], [0, 1, 2])
    """
    labels = as_labels(labels)
    face, diagonal = reach(26 if connectivity is None else connectivity)
    words, per_word, _ = as_words(labels)
    depth, height, _ = labels.shape
    parts = in_slabs(lambda start, end: _slab(labels, words, per_word, start, end), depth)
    offsets = np.cumsum([0] + [part[1].size for part in parts])
    lines = np.concatenate([*(part[0] + offset for part, offset in zip(parts, offsets, strict=False)), offsets[-1:]])
    first, stop, value = (np.concatenate([part[n] for part in parts]) for n in (1, 2, 3))
    first, stop = np.asarray(first, np.int32), np.asarray(stop, np.int32)
    if connectivity is None:
        component: NDArray[Any]
        numbers, component = np.unique(value, return_inverse=True)
        component = component.reshape(-1).astype(np.int32, copy=False)
        voxels = np.bincount(component, stop - first, minlength=numbers.size).astype(np.int64)
    else:
        component, voxels, numbers = _connect(lines, first, stop, value, labels.shape, face, diagonal, True)
    return Instances((depth, height, labels.shape[2]), lines, first, stop, component, numbers, voxels)
