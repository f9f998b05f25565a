"""Texture in voxel neighbourhoods: local binary patterns, and the shape of structure tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import as_image
from .slabs import in_slabs

# The 26 directions to the neighbours (k, j, i), and which of them touch over a face of the cube's surface.
DIRECTIONS = np.array([(k, j, i) for k in (-1, 0, 1) for j in (-1, 0, 1) for i in (-1, 0, 1) if k or j or i], np.int64)
TOUCHING = np.array(
    [sum(1 << n for n, other in enumerate(DIRECTIONS) if np.abs(one - other).sum() == 1) for one in DIRECTIONS.tolist()],
    np.int64,
)
NOT_UNIFORM = 27
# Tensors whose largest eigenvalue is below this share of the scan's greatest one have no direction, only rounding.
FLAT = 1e-9


@njit(cache=True, nogil=True, inline="always")
def _between(image, k, j, i):  # type: ignore[no-untyped-def]
    """The value between voxels, linear; beyond the array the border voxel is repeated."""
    k, j, i = min(max(k, 0.0), image.shape[0] - 1.0), min(max(j, 0.0), image.shape[1] - 1.0), min(max(i, 0.0), image.shape[2] - 1.0)
    k0, j0, i0 = int(k), int(j), int(i)
    fk, fj, fi = k - k0, j - j0, i - i0
    k1, j1, i1 = min(k0 + 1, image.shape[0] - 1), min(j0 + 1, image.shape[1] - 1), min(i0 + 1, image.shape[2] - 1)
    total = 0.0
    for n in range(8):
        weight = (fk if n & 4 else 1 - fk) * (fj if n & 2 else 1 - fj) * (fi if n & 1 else 1 - fi)
        if weight > 0:
            total += weight * np.float64(image[k1 if n & 4 else k0, j1 if n & 2 else j0, i1 if n & 1 else i0])
    return total


@njit(cache=True, nogil=True, inline="always")
def _one_piece(pattern, touching):  # type: ignore[no-untyped-def]
    """Whether the directions of a bit pattern form one piece on the surface of the cube (none do)."""
    if pattern == 0:
        return True
    reached = pattern & -pattern
    grown = True
    while grown:
        grown = False
        for n in range(26):
            if (pattern >> n) & 1 and not (reached >> n) & 1 and reached & touching[n]:
                reached |= 1 << n
                grown = True
    return reached == pattern


@njit(cache=True, nogil=True)
def _patterns_slab(image, offsets, touching, least, is_uniform, out, start, end):  # type: ignore[no-untyped-def]
    every = (1 << 26) - 1
    for k in range(start, end):
        for j in range(image.shape[1]):
            for i in range(image.shape[2]):
                centre = np.float64(image[k, j, i])
                count, pattern = 0, 0
                for n in range(26):
                    value = _between(image, k + offsets[n, 0], j + offsets[n, 1], i + offsets[n, 2])
                    if value - centre >= least:
                        count += 1
                        pattern |= 1 << n
                if is_uniform and not (_one_piece(pattern, touching) and _one_piece(every ^ pattern, touching)):
                    count = 27
                out[k, j, i] = count


def binary_patterns(image: NDArray[Any], offsets: NDArray[np.float64], least: float, is_uniform: bool) -> NDArray[np.uint8]:
    """How many of 26 points about each voxel are brighter than it by at least ``least``: 0 to 26 (uint8, 1 byte a voxel).

    ``offsets`` 26 x 3 in voxels (k, j, i), in the order of DIRECTIONS. With ``is_uniform`` a voxel gets 27 where the brighter
    or the other points fall into more than one piece on the surface of the cube. Values between voxels are linear. NaN is
    never brighter. Ojala et al. 2002, doi:10.1109/TPAMI.2002.1017623.

    >>> dot = np.zeros((3, 3, 3), np.uint8)
    >>> dot[1, 1, 1] = 9
    >>> binary_patterns(dot, DIRECTIONS.astype(float), 1, False)[1, 1].tolist()
    [1, 0, 1]
    """
    image = as_image(image)
    offsets = np.array(offsets, np.float64, order="C")
    if offsets.shape != (26, 3):
        raise ValueError(f"offsets have shape {offsets.shape}; pass 26 x 3")
    out = np.empty(image.shape, np.uint8)
    in_slabs(lambda start, end: _patterns_slab(image, offsets, TOUCHING, float(least), is_uniform, out, start, end), image.shape[0])
    return out


@njit(cache=True, nogil=True, inline="always")
def _eigenvalues(a, b, c, d, e, f):  # type: ignore[no-untyped-def]
    """The eigenvalues of a symmetric 3 x 3 matrix (diagonal a, b, c; d = ab, e = ac, f = bc), the largest first.

    By the trigonometric solution of the cubic (Smith 1961, doi:10.1145/355578.366316).
    """
    mean = (a + b + c) / 3
    off = d * d + e * e + f * f
    spread = np.sqrt(((a - mean) ** 2 + (b - mean) ** 2 + (c - mean) ** 2 + 2 * off) / 6)
    if not spread > 0:
        return mean, mean, mean
    a, b, c, d, e, f = (a - mean) / spread, (b - mean) / spread, (c - mean) / spread, d / spread, e / spread, f / spread
    half = (a * (b * c - f * f) - d * (d * c - f * e) + e * (d * f - b * e)) / 2
    angle = np.arccos(min(max(half, -1.0), 1.0)) / 3
    first = mean + 2 * spread * np.cos(angle)
    third = mean + 2 * spread * np.cos(angle + 2 * np.pi / 3)
    return first, 3 * mean - first - third, third


@njit(cache=True, nogil=True)
def _shapes_slab(tensor, least, out, start, end):  # type: ignore[no-untyped-def]
    for k in range(start, end):
        for j in range(tensor.shape[2]):
            for i in range(tensor.shape[3]):
                a, b, c = np.float64(tensor[0, k, j, i]), np.float64(tensor[1, k, j, i]), np.float64(tensor[2, k, j, i])
                d, e, f = np.float64(tensor[3, k, j, i]), np.float64(tensor[4, k, j, i]), np.float64(tensor[5, k, j, i])
                first, second, third = _eigenvalues(a, b, c, d, e, f)
                third = max(third, 0.0)
                second = max(second, third)
                if not first > least:
                    out[0, k, j, i], out[1, k, j, i], out[2, k, j, i] = 0, 0, 0
                    continue
                share = (first - third) / (first + third)
                out[0, k, j, i] = share * share
                out[1, k, j, i] = (second - third) / first
                out[2, k, j, i] = (first - second) / first


def tensor_shapes(tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    """Coherence, linearity and planarity, each 0 to 1, of symmetric tensors: float32 [3, k, j, i], 12 bytes a voxel.

    ``tensor`` [6, k, j, i] holds rr, aa, ss, ra, rs, as. Of the eigenvalues l1 >= l2 >= l3: coherence
    ((l1 - l3) / (l1 + l3))², linearity (l2 - l3) / l1 (slopes across a line, none along it), planarity (l1 - l2) / l1 (one
    slope, across a plane). 0 where l1 is no more than rounding.

    >>> plane = np.zeros((6, 1, 1, 1), np.float32)
    >>> plane[0] = 4
    >>> tensor_shapes(plane).ravel().round(3).tolist()
    [1.0, 0.0, 1.0]
    """
    tensor = np.ascontiguousarray(tensor, np.float32)
    out = np.empty((3, *tensor.shape[1:]), np.float32)
    greatest = float(tensor[:3].max(initial=0.0))
    in_slabs(lambda start, end: _shapes_slab(tensor, FLAT * greatest, out, start, end), tensor.shape[1])
    return out


@njit(cache=True, nogil=True)
def _wave_slab(spectrum, along_k, along_j, along_i, inverse, centre, steep, at_zero, out, start, end):  # type: ignore[no-untyped-def]
    for k in range(start, end):
        for j in range(spectrum.shape[1]):
            for i in range(spectrum.shape[2]):
                away, from_zero = 0.0, 0.0
                for world in range(3):
                    f = inverse[0, world] * along_i[i] + inverse[1, world] * along_j[j] + inverse[2, world] * along_k[k]
                    away += (f - centre[world]) ** 2
                    from_zero += f * f
                weight = 2 * (np.exp(steep * away) - at_zero * np.exp(steep * from_zero))
                out[k, j, i] = spectrum[k, j, i] * np.float32(weight)


def weigh_wave(
    spectrum: NDArray[np.complex64],
    inverse: NDArray[np.float64],
    centre: NDArray[np.float64],
    sigma_mm: float,
    out: NDArray[np.complex64],
) -> None:
    """Multiply a Fourier spectrum [k, j, i] with a Gabor filter in the patient, into ``out``.

    ``inverse`` turns mm (R, A, S) into voxels (i, j, k), ``centre`` is the wave in cycles a mm along R, A, S. The filter is twice
    a Gaussian about it (a real wave holds half its amplitude at its frequency, half at the opposite one), less what that
    would answer to a constant. Daugman 1985, doi:10.1364/JOSAA.2.001160.

    >>> flat = np.zeros((1, 1, 4), np.complex64)
    >>> flat[0, 0, 0] = 1
    >>> out = np.empty_like(flat)
    >>> weigh_wave(flat, np.eye(3), np.array([0.25, 0.0, 0.0]), 2.0, out)
    >>> bool(np.abs(out).max() < 1e-6)
    True
    """
    along_k, along_j, along_i = (np.fft.fftfreq(n) for n in spectrum.shape)
    steep = -2 * (np.pi * sigma_mm) ** 2
    at_zero = float(np.exp(steep * float(centre @ centre)))
    inverse, centre = np.array(inverse, np.float64, order="C"), np.array(centre, np.float64)
    in_slabs(
        lambda start, end: _wave_slab(spectrum, along_k, along_j, along_i, inverse, centre, steep, at_zero, out, start, end),
        spectrum.shape[0],
    )
