"""Light on the surfaces of a thumbnail, as the report has it (`rendering`): a loop a picture, which numba compiles."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, inline="always")
def _light(normal, half_length):  # type: ignore[no-untyped-def]
    """Brightness and gloss of a surface: a key light from the upper left, a weak fill from the right (Blinn 1977)."""
    key = max(0.0, -0.42 * normal[0] + 0.48 * normal[1] + 0.77 * normal[2])
    fill = max(0.0, 0.75 * normal[0] - 0.05 * normal[1] + 0.66 * normal[2])
    half = max(0.0, (-0.42 * normal[0] + 0.48 * normal[1] + 1.77 * normal[2]) * half_length)
    second = half * half
    fourth = second * second
    eighth = fourth * fourth
    return 0.30 + 0.66 * key + 0.16 * fill, 255.0 * 0.20 * eighth * eighth * eighth * fourth


_HALF = 1.0 / np.sqrt(0.42**2 + 0.48**2 + 1.77**2)


@njit(cache=True, nogil=True)
def _blurred(values, sigma, first, last):  # type: ignore[no-untyped-def]
    """A Gaussian over pixels of the rows from first to last, and nothing beyond the picture."""
    radius = int(4.0 * sigma + 0.5)
    weights = np.empty(2 * radius + 1, np.float32)
    for n in range(weights.size):
        weights[n] = np.exp(-0.5 * ((n - radius) / sigma) ** 2)
    weights /= weights.sum()
    size = values.shape[1]
    down = np.zeros(values.shape, np.float32)
    out = np.zeros(values.shape, np.float32)
    for y in range(first, last + 1):
        for n in range(weights.size):
            z = y + n - radius
            if first <= z <= last:
                for x in range(size):
                    down[y, x] += weights[n] * values[z, x]
        for n in range(weights.size):
            shift = n - radius
            for x in range(max(0, -shift), min(size, size - shift)):
                out[y, x] += weights[n] * down[y, x + shift]
    return out


@njit(cache=True, nogil=True)
def shade_opaque(depth, normals, owner, colours, ground, sigma, reach):  # type: ignore[no-untyped-def]
    """The picture (n, n, 3), 0 to 255: shaded surfaces, darker where they lie behind their surroundings, before a backdrop.

    `ground` (2, 3) are the colours of the backdrop at top and bottom. What lies `reach` deeper than the mean within `sigma`
    pixels is in a hollow (unsharp masking of the depth, Luft et al. 2006, doi:10.1145/1141911.1142016).
    """
    size = depth.shape[0]
    picture = np.empty((size, size, 3), np.float32)
    known, solid = np.zeros((size, size), np.float32), np.zeros((size, size), np.float32)
    first, last = size, -1
    for y in range(size):
        rise = y / max(1, size - 1)
        for x in range(size):
            if owner[y, x] > 0:
                first, last = min(first, y), y
                known[y, x], solid[y, x] = depth[y, x], 1.0
            else:
                for c in range(3):
                    picture[y, x, c] = ground[0, c] * (1 - rise) + ground[1, c] * rise
    if last < 0:
        return picture
    around, weight = _blurred(known, sigma, first, last), _blurred(solid, sigma, first, last)
    for y in range(first, last + 1):
        for x in range(size):
            if owner[y, x] == 0:
                continue
            behind = (known[y, x] - around[y, x] / max(weight[y, x], 1e-3)) / reach
            share = 1.0 - 0.55 * min(1.0, max(0.0, behind))
            light, gloss = _light(normals[y, x], _HALF)
            for c in range(3):
                picture[y, x, c] = share * min(255.0, colours[owner[y, x], c] * light + gloss)
    return picture


@njit(cache=True, nogil=True)
def blend_glass(picture, depth, glass_depth, normals, colour, least_opacity):  # type: ignore[no-untyped-def]
    """Lay a surface over what lies behind it: clear where it faces the viewer, with its outline where it turns away."""
    size = depth.shape[0]
    for y in range(size):
        for x in range(size):
            if glass_depth[y, x] >= depth[y, x]:  # infinite where no ray met it
                continue
            facing = min(1.0, max(0.0, normals[y, x, 2]))
            alpha = least_opacity + 0.55 * (1.0 - facing) ** 2.2
            light, gloss = _light(normals[y, x], _HALF)
            for c in range(3):
                shaded = min(255.0, colour[c] * light + gloss)
                picture[y, x, c] = picture[y, x, c] * (1.0 - alpha) + shaded * alpha
