"""One round of the clustering methods over weighted points: nearest centres, fuzzy memberships, mixtures of normal distributions.

Points are float64 (M, F), centres (K, F). Nothing of the size M x K is stored.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def lloyd_round(points, centres, nearest, sums, numbers):  # type: ignore[no-untyped-def]
    """Write the nearest centre of each point, and sum and number of the points of each centre.

    Gives how many points changed their centre, the sum of squared distances, and the point furthest from its centre.
    """
    sums[:] = 0.0
    numbers[:] = 0
    changed, total, worst, furthest = 0, 0.0, -1.0, 0
    for n in range(points.shape[0]):
        least, best = np.inf, 0
        for k in range(centres.shape[0]):
            apart = 0.0
            for f in range(points.shape[1]):
                step = points[n, f] - centres[k, f]
                apart += step * step
            if apart < least:
                least, best = apart, k
        changed += nearest[n] != best
        nearest[n] = best
        numbers[best] += 1
        for f in range(points.shape[1]):
            sums[best, f] += points[n, f]
        total += least
        if least > worst:
            worst, furthest = least, n
    return changed, total, furthest


@njit(cache=True, nogil=True)
def fuzzy_round(own, around, share, weights, centres, fuzziness):  # type: ignore[no-untyped-def]
    """The centres that the memberships to the present centres give.

    A point costs a centre its squared distance plus ``share`` times that of the mean around it (Chen and Zhang's FCM_S1).
    """
    number, size = centres.shape
    sums, totals, cost = np.zeros((number, size)), np.zeros(number), np.empty(number)
    power = 1.0 / (fuzziness - 1.0)
    for n in range(own.shape[0]):
        least = np.inf
        for k in range(number):
            one, other = 0.0, 0.0
            for f in range(size):
                one += (own[n, f] - centres[k, f]) ** 2
                other += (around[n, f] - centres[k, f]) ** 2
            cost[k] = max(one + share * other, 1e-30)
            least = min(least, cost[k])
        total = 0.0
        for k in range(number):
            # relative to the least cost no power overflows; the usual fuzziness of 2 needs no power at all
            cost[k] = least / cost[k] if fuzziness == 2.0 else (least / cost[k]) ** power
            total += cost[k]
        for k in range(number):
            degree = cost[k] / total
            degree = (degree * degree if fuzziness == 2.0 else degree**fuzziness) * weights[n]
            totals[k] += degree
            for f in range(size):
                sums[k, f] += degree * (own[n, f] + share * around[n, f])
    for k in range(number):
        for f in range(size):
            # a centre that no point belongs to stays where it is
            sums[k, f] = sums[k, f] / ((1.0 + share) * totals[k]) if totals[k] > 0.0 else centres[k, f]
    return sums


@njit(cache=True, nogil=True)
def mixture_round(points, weights, means, factors, offsets):  # type: ignore[no-untyped-def]
    """Weighted log likelihood, and for each class its weight, sum and sum of squares around its present mean.

    Class c has the density exp(-(|U_c (x - m_c)|² + b_c) / 2) but for a constant, its share within b_c.
    """
    number, size = means.shape
    totals, sums, squares = np.zeros(number), np.zeros((number, size)), np.zeros((number, size, size))
    logs, apart = np.empty(number), np.empty(size)
    likelihood = 0.0
    for n in range(points.shape[0]):
        top = -np.inf
        for c in range(number):
            cost = offsets[c]
            for f in range(size):
                part = 0.0
                for g in range(f, size):
                    part += factors[c, f, g] * (points[n, g] - means[c, g])
                cost += part * part
            logs[c] = -0.5 * cost
            top = max(top, logs[c])
        total = 0.0
        for c in range(number):
            logs[c] = np.exp(logs[c] - top)
            total += logs[c]
        likelihood += weights[n] * (np.log(total) + top)
        for c in range(number):
            degree = weights[n] * logs[c] / total
            if degree == 0.0:
                continue
            totals[c] += degree
            for f in range(size):
                apart[f] = points[n, f] - means[c, f]
            for f in range(size):
                sums[c, f] += degree * apart[f]
                for g in range(f + 1):
                    squares[c, f, g] += degree * apart[f] * apart[g]
    for c in range(number):
        for f in range(size):
            for g in range(f):
                squares[c, g, f] = squares[c, f, g]
    return likelihood, totals, sums, squares
