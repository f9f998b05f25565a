"""Fitting a closed surface to a lesion: intensities inside and around it and the surface, each from the other in turn."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from .star_surface import best_surface, smooth_over_rays

_DEEP = 2.5  # radii below the inner limit / _DEEP hold a sixteenth of the volume: left out of the statistics


class Weights(NamedTuple):
    """What a surface is drawn by. Lengths are shares of the radius; intensities are in deviations of the inside."""

    inner: float = 0.85  # the inside is learnt up to here
    shell_from: float = 1.08  # the surroundings from here ...
    shell_to: float = 1.4  # ... to here
    edge: float = 1.0  # weight of an edge of full strength
    sharp: float = 3.0  # power by which an edge beside a stronger one loses
    strong: float = 8.0  # deviations of a full edge
    cap: float = 1.5  # contrasts count up to this many times the median contrast of all rays ...
    cap_least: float = 3.0  # ... and at least this many deviations
    size: float = 0.15  # weight of departing from the size asked for, at `spread` times e
    spread: float = 0.45
    spread_later: float = 0.3
    stiffness: float = 0.04  # weight of the squared difference of neighbouring rays, in radius numbers
    sweeps: int = 4


@njit(cache=True, nogil=True)
def signed_edges(values, window):  # type: ignore[no-untyped-def]
    """Mean of the next ``window`` radii less the mean of the last ones, (V, M); 0 where the rays end."""
    rays, count = values.shape
    out = np.zeros((rays, count), np.float32)
    for ray in range(rays):
        for m in range(count - window):
            beyond, within, first = np.float32(0.0), np.float32(0.0), max(m + 1 - window, 0)
            for n in range(m + 1, m + 1 + window):
                beyond += values[ray, n]
            for n in range(first, m + 1):
                within += values[ray, n]
            out[ray, m] = beyond / window - within / (m + 1 - first)
    return out


@njit(cache=True, nogil=True)
def _inside(values, grid, radii, inner):  # type: ignore[no-untyped-def]
    """Median and half the distance of the 16th and 84th percentile inside, by volume."""
    rays, count = values.shape
    kept, weights, used = np.empty(rays * count), np.empty(rays * count), 0
    for ray in range(rays):
        last = max(inner * radii[ray], grid[1])
        for m in range(count):
            if grid[m] > last:
                break
            if grid[m] * _DEEP >= last:
                kept[used] = values[ray, m]
                weights[used] = grid[m] ** 3
                used += 1
    order = np.argsort(kept[:used])
    total = weights[:used].sum()
    found = np.zeros(3)
    reached, place = 0.0, 0
    for n in range(used):
        reached += weights[order[n]]
        while place < 3 and reached >= total * (0.16, 0.5, 0.84)[place]:
            found[place] = kept[order[n]]
            place += 1
    return found[1], 0.5 * (found[2] - found[0])


@njit(cache=True, nogil=True)
def _outside(values, within, grid, radii, first, last, fallback):  # type: ignore[no-untyped-def]
    """Mean of each ray in the shell around the surface, (V, 1); `fallback` where the ray has left the scan."""
    out = np.empty((values.shape[0], 1), np.float32)
    for ray in range(values.shape[0]):
        total, count = 0.0, 0
        for m in range(values.shape[1]):
            if within[ray, m] and first * radii[ray] <= grid[m] <= last * radii[ray]:
                total += values[ray, m]
                count += 1
        out[ray, 0] = total / count if count else fallback
    return out


@njit(cache=True, nogil=True)
def _edge_costs(edges, polarity, cap, deviation, strong, sharp, window, out):  # type: ignore[no-untyped-def]
    """How strong the edge at each radius is; an edge beside a stronger one counts less."""
    rays, count = edges.shape
    line = np.empty(count)
    for ray in range(rays):
        for m in range(count):
            edge = edges[ray, m]
            edge = max(edge * polarity, 0.0) if polarity else abs(edge)
            line[m] = np.log1p(min(edge, cap) / deviation) / np.log1p(strong)
        for m in range(count):
            most = 1e-9
            for n in range(max(m - window, 0), min(m + window + 1, count)):
                most = max(most, line[n])
            out[ray, m] = line[m] * (line[m] / most) ** sharp


@njit(cache=True, nogil=True)
def _costs(values, edge, within, extra, grid, surround, seen, size, spread, weights, out):  # type: ignore[no-untyped-def]
    """The cost of each radius: voxels inside that look like the surroundings, weak edges, an unlikely size."""
    level, deviation, cap, polarity = seen
    step = np.log(grid[1] / grid[0])
    for ray in range(values.shape[0]):
        contrast = min(max(surround[ray, 0] - level, -cap), cap) / deviation
        if polarity and contrast * polarity < 0:
            contrast = 0.0
        total = 0.0
        for m in range(values.shape[1]):
            here = min(max(values[ray, m] - level, -2 * cap), 2 * cap) / deviation
            like = contrast * (2 * here - contrast) / (contrast * contrast + 1)
            total += min(max(like, -1.0), 1.0) * min(grid[m] / size, 1.5) ** 2 * step
            away = np.log(grid[m] / size) / spread
            cost = total - weights.edge * edge[ray, m] + weights.size * away * away + extra[ray, m]
            out[ray, m] = cost if within[ray, m] else cost + 2.0


@njit(cache=True, nogil=True)
def fit_surface(rays, mesh, start, floor, polarity, weights, rounds, size):  # type: ignore[no-untyped-def]
    """Draw the surface, learn the intensities on both sides, and again; ``rounds``: some at ``size`` mm, some that let it go.

    ``rays``: values, edges, within, extra (V, M) at the radii grid (M, in mm, a constant factor apart); ``mesh``: neighbours and
    back of the sphere; ``start`` (V) the first radii; ``floor`` the least deviation; ``polarity`` -1: brighter than the
    surroundings, 1: darker, 0: either. Returns radii (V) and (size, edge, contrast, weak, level, deviation).
    """
    values, edges, within, extra, grid = rays
    neighbours, back = mesh
    first, later = rounds
    radii = start.copy()

    cost, edge = np.empty(values.shape, np.float32), np.empty(values.shape, np.float32)
    labels = np.full(values.shape[0], -1)
    level = deviation = cap = 0.0
    surround = np.empty((values.shape[0], 1), np.float32)
    for turn in range(first + later):
        level, spread = _inside(values, grid, radii, weights.inner)
        deviation = max(spread, floor)
        outer = radii / 0.8 if first and turn == 0 else radii  # the first ball is drawn small, to be safely inside
        around = _outside(values, within, grid, outer, weights.shell_from, weights.shell_to, level)
        surround = smooth_over_rays(around, neighbours)
        cap = max(weights.cap * np.median(np.abs(surround[:, 0] - level)), weights.cap_least * deviation)
        _edge_costs(edges, polarity, cap, deviation, weights.strong, weights.sharp, 3, edge)
        seen = (level, deviation, cap, polarity)
        spread_now = weights.spread if turn < first else weights.spread_later
        _costs(values, edge, within, extra, grid, surround, seen, size, spread_now, weights, cost)
        before = labels
        labels = best_surface(cost, neighbours, back, weights.stiffness, weights.sweeps)
        for ray in range(labels.size):
            radii[ray] = grid[labels[ray]]
        if turn >= first:
            size = (radii**3).mean() ** (1 / 3)
            if (before == labels).all():
                break
    strength, weak, contrast = 0.0, 0.0, 0.0
    for ray in range(labels.size):
        here = min(edge[ray, labels[ray]], 1.0)
        strength += here
        weak += here < 0.3
        contrast += min(abs(surround[ray, 0] - level) / deviation, 3.0) / 3.0
    count = labels.size
    return radii, ((radii**3).mean() ** (1 / 3), strength / count, contrast / count, weak / count, level, deviation)
