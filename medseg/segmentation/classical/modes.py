"""Mean shift: the places where points lie densest, and which point climbs to which."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_SETTLED = 1e-3  # of the window: a step that ends the climb, as in scikit-learn
_SAME = 1e-6


def climb_histogram(values: Floats, counts: npt.NDArray[Any], bandwidth: float, iterations: int) -> tuple[Floats, bool]:
    """Move each value (rising, all held) to the mean of what lies within bandwidth of it, again and again.

    Return where each ends, and whether all settled. Sums over windows come from running totals, so a round costs the same
    for every bandwidth.

    >>> climb_histogram(np.array([0.0, 1.0, 8.0, 9.0]), np.array([1, 1, 1, 1]), 2, 50)[0].tolist()
    [0.5, 0.5, 8.5, 8.5]
    """
    middle = float(np.average(values, weights=counts))
    numbers = np.concatenate([[0.0], np.cumsum(np.asarray(counts, np.float64))])
    moments = np.concatenate([[0.0], np.cumsum(np.asarray(counts, np.float64) * (values - middle))])
    places = values.copy()
    active = np.arange(len(places))
    for _ in range(iterations):
        here = places[active]
        first = np.searchsorted(values, here - bandwidth, side="left")
        stop = np.searchsorted(values, here + bandwidth, side="right")
        held = stop > first  # rounding of huge values may lead out of every window: stay there
        active, here, first, stop = active[held], here[held], first[held], stop[held]
        moved = (moments[stop] - moments[first]) / (numbers[stop] - numbers[first]) + middle
        places[active] = moved
        active = active[np.abs(moved - here) > _SAME * bandwidth]
        if not len(active):
            return places, True
    return places, False


def climb_points(points: Floats, iterations: int) -> tuple[Floats, Indices, bool]:
    """Return where points (M,F) lie densest within distance 1, how many lie there, and whether all climbs settled.

    Climbs begin at the mean of the points of each cell of edge 1 that holds any (as scikit-learn's `bin_seeding` does).
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(points)
    _, cell = np.unique(np.floor(points).astype(np.int64), axis=0, return_inverse=True)
    cell = cell.reshape(-1)
    held = np.bincount(cell)
    places = np.stack([np.bincount(cell, weights=column) for column in points.T], axis=1) / held[:, None]
    numbers = np.zeros(len(places), np.int64)
    active = np.arange(len(places))
    for _ in range(iterations):
        around = tree.query_ball_point(places[active], 1.0)
        sizes = np.array([len(found) for found in around])
        # a start in a gap between its own points may have none within its window
        active, sizes, around = active[sizes > 0], sizes[sizes > 0], [found for found in around if found]
        if not len(active):
            return places, numbers, True
        index = np.concatenate(around).astype(np.int64)
        moved = np.add.reduceat(points[index], np.append(0, np.cumsum(sizes)[:-1]), axis=0) / sizes[:, None]
        numbers[active] = sizes
        steps = np.sqrt(((moved - places[active]) ** 2).sum(axis=1))
        places[active] = moved
        active = active[steps > _SETTLED]
        if not len(active):
            return places, numbers, True
    return places, numbers, False


def distinct(places: Floats, weights: npt.NDArray[Any], apart: float) -> Indices:
    """Return the places (M,F) that no heavier one lies within `apart` of, the heaviest first.

    >>> distinct(np.array([[0.0], [0.5], [9.0]]), np.array([3, 7, 5]), 1).tolist()
    [1, 2]
    """
    order = np.lexsort([*places.T[::-1], -np.asarray(weights)])
    free = np.ones(len(places), bool)
    chosen = []
    for n in order:
        if free[n]:
            chosen.append(n)
            with np.errstate(over="ignore"):  # infinitely far is far enough
                free &= ((places - places[n]) ** 2).sum(axis=1) > apart * apart
    return np.array(chosen, np.int64)
