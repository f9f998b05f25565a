"""Contrast-limited adaptive histogram equalisation: a table for each tile, read between tiles (CLAHE in 3D)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import as_image
from .slabs import in_slabs


@njit(cache=True, nogil=True)
def _count_tiles(image, tiles, low, scale, counts, start, end):  # type: ignore[no-untyped-def]
    """Histograms of the tiles whose number along k lies in the slab; ``tiles``: bounds along k, j, i."""
    along_k, along_j, along_i = tiles
    bins = counts.shape[3]
    for a in range(start, end):
        for k in range(along_k[a], along_k[a + 1]):
            for b in range(along_j.size - 1):
                for j in range(along_j[b], along_j[b + 1]):
                    line = image[k, j]
                    for c in range(along_i.size - 1):
                        table = counts[a, b, c]
                        for i in range(along_i[c], along_i[c + 1]):
                            at = (np.float64(line[i]) - low) * scale
                            if at >= 0 and at <= bins:  # NaN fails both
                                table[min(np.int64(at), bins - 1)] += 1


@njit(cache=True, nogil=True)
def _read(tables, at, share, a, b, c):  # type: ignore[no-untyped-def]
    """The table of one tile at a place between two entries."""
    below = tables[a, b, c, at]
    return below + share * (tables[a, b, c, at + 1] - below)


@njit(cache=True, nogil=True)
def _equalise_slab(image, tables, places, low, scale, out, start, end):  # type: ignore[no-untyped-def]
    along_k, along_j, along_i = places
    bins = tables.shape[3] - 1
    for k in range(start, end):
        a, a1, wk = along_k[0][k], along_k[1][k], along_k[2][k]
        for j in range(out.shape[1]):
            b, b1, wj = along_j[0][j], along_j[1][j], along_j[2][j]
            source, line = image[k, j], out[k, j]
            for i in range(line.size):
                place = (np.float64(source[i]) - low) * scale
                if np.isnan(place):
                    line[i] = np.nan
                    continue
                place = min(max(place, 0.0), np.float64(bins))
                at = min(np.int64(place), bins - 1)
                share = place - at
                c, c1, wi = along_i[0][i], along_i[1][i], along_i[2][i]
                near = _read(tables, at, share, a, b, c) * (1 - wi) + _read(tables, at, share, a, b, c1) * wi
                side = _read(tables, at, share, a, b1, c) * (1 - wi) + _read(tables, at, share, a, b1, c1) * wi
                first = near * (1 - wj) + side * wj
                near = _read(tables, at, share, a1, b, c) * (1 - wi) + _read(tables, at, share, a1, b, c1) * wi
                side = _read(tables, at, share, a1, b1, c) * (1 - wi) + _read(tables, at, share, a1, b1, c1) * wi
                line[i] = first * (1 - wk) + (near * (1 - wj) + side * wj) * wk


def limited(counts: NDArray[Any], slope: float) -> NDArray[np.float64]:
    """Histograms [..., bins] as shares of 1 of which none is above ``slope`` / bins; what is cut is spread evenly.

    The level of the cut is found so that cut and spread together just keep the limit. An empty histogram is even.

    >>> limited(np.array([8, 0, 0, 0]), 2).round(6).tolist()
    [0.5, 0.166667, 0.166667, 0.166667]
    """
    bins = counts.shape[-1]
    total = counts.sum(axis=-1, keepdims=True, dtype=np.float64)
    shares = np.where(total > 0, counts / np.maximum(total, 1), 1 / bins)
    most = max(slope, 1.0) / bins
    # min(shares, level) + (most - level) sums to 1: the sum falls as the level rises, so halving finds it
    low, high = np.zeros_like(total), np.full_like(total, most)
    for _ in range(60):
        level = (low + high) / 2
        is_low = np.minimum(shares, level).sum(axis=-1, keepdims=True) + bins * (most - level) > 1
        low, high = np.where(is_low, level, low), np.where(is_low, high, level)
    needs = shares.max(axis=-1, keepdims=True) > most
    return np.asarray(np.where(needs, np.minimum(shares, high) + (most - high), shares))


def tile_bounds(length: int, tiles: int) -> NDArray[np.int64]:
    """The bounds of that many tiles of nearly equal size, each with at least one voxel."""
    tiles = max(1, min(tiles, length))
    return np.asarray([length * n // tiles for n in range(tiles + 1)], np.int64)


def _places(bounds: NDArray[np.int64], length: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The tiles before and after each voxel, by their middles, and the weight of the later one."""
    middles = (bounds[:-1] + bounds[1:] - 1) / 2
    at = np.interp(np.arange(length), middles, np.arange(len(middles), dtype=np.float64))
    first = np.floor(at).astype(np.int64)
    return first, np.minimum(first + 1, len(middles) - 1), at - first


def equalise(image: NDArray[Any], tiles: Sequence[int], limits: tuple[float, float], slope: float, bins: int) -> NDArray[np.float32]:
    """The image with its histogram made even within each tile, from 0 (at and below the lower limit) to 1, as float32.

    ``image`` and ``tiles`` (how many along each axis) in the order (k, j, i). Voxels outside ``limits`` do not count.
    ``slope`` is the most by which contrast grows (1: not at all). NaN stays. Zuiderveld 1994, Graphics Gems IV.

    Memory beyond the image: the result (4 bytes a voxel) and 8 bytes for each tile and bin, four times.

    >>> equalise(np.array([[[0, 1, 2, 9]]], np.int16), (1, 1, 1), (0, 10), 10, bins=10).round(2).tolist()
    [[[0.0, 0.25, 0.5, 0.75]]]
    """
    source = as_image(image)
    low, high = float(limits[0]), float(limits[1])
    if not (np.isfinite(low) and np.isfinite(high) and low < high and slope >= 1 and bins >= 2):
        raise ValueError(f"limits are {limits}, slope {slope}, bins {bins}; pass rising limits, a slope >= 1 and at least 2 bins")
    bounds = tuple(tile_bounds(length, int(count)) for length, count in zip(source.shape, tiles, strict=True))
    counts = np.zeros((*(len(bound) - 1 for bound in bounds), bins), np.int64)
    scale = bins / (high - low)
    in_slabs(lambda start, end: _count_tiles(source, bounds, low, scale, counts, start, end), counts.shape[0])
    tables = np.zeros((*counts.shape[:3], bins + 1))
    np.cumsum(limited(counts, slope), axis=-1, out=tables[..., 1:])
    places = tuple(_places(bound, length) for bound, length in zip(bounds, source.shape, strict=True))
    out = np.empty(source.shape, np.float32)
    in_slabs(lambda start, end: _equalise_slab(source, tables, places, low, scale, out, start, end), source.shape[0])
    return out
