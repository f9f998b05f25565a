"""The cells of 2 x 2 x 2 voxels along a line: which of them hold more than one label."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def mark_mixed(lines, mixed):  # type: ignore[no-untyped-def]
    """Set mixed[i + 1] for each cell i (between voxels i and i + 1) that is not of a single value; i from -1."""
    a, b, c, d = lines
    length = a.size
    for i in range(length):  # these loops become vector instructions
        mixed[i + 1] = np.uint8(a[i] != b[i]) | np.uint8(a[i] != c[i]) | np.uint8(a[i] != d[i])
    first = mixed[1] | np.uint8(a[0] != 0)
    last = mixed[length] | np.uint8(a[length - 1] != 0)
    for i in range(length - 1):
        mixed[i + 1] = mixed[i + 1] | mixed[i + 2] | np.uint8(a[i] != a[i + 1])
    mixed[0], mixed[length] = first, last
