"""Random grids and voxels for round trips."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medseg.core.geometry import Geometry

SCAN_DTYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8")
LABEL_DTYPES = ("u1", "u2", "u4")


@st.composite
def affines(draw: st.DrawFn, sheared: bool | None = None) -> np.ndarray[Any, Any]:
    """Axis-aligned, oblique, left-handed and sheared index-to-RAS matrices."""
    spacing = np.array([draw(st.sampled_from((0.3, 0.9765625, 1.0, 1.2000057, 2.5, 5.0))) for _ in range(3)])
    matrix = np.eye(3)[:, draw(st.permutations((0, 1, 2)))] * [draw(st.sampled_from((-1.0, 1.0))) for _ in range(3)]
    if draw(st.booleans()):
        angles = [draw(st.floats(-np.pi, np.pi)) for _ in range(3)]
        matrix = _turn(0, angles[0]) @ _turn(1, angles[1]) @ _turn(2, angles[2]) @ matrix
    if sheared or (sheared is None and draw(st.booleans())):
        shear = np.eye(3)
        shear[1, 2] = np.tan(np.radians(draw(st.sampled_from((-20.0, -5.0, 1.0, 18.5)))))
        matrix = matrix @ shear
    affine = np.eye(4)
    affine[:3, :3] = matrix * spacing
    affine[:3, 3] = [draw(st.floats(-500, 500)) for _ in range(3)]
    return affine


def _turn(axis: int, angle: float) -> np.ndarray[Any, Any]:
    matrix = np.eye(3)
    first, second = (n for n in range(3) if n != axis)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


@st.composite
def grids(draw: st.DrawFn, sheared: bool | None = None) -> Geometry:
    shape = (draw(st.integers(2, 7)), draw(st.integers(2, 6)), draw(st.integers(2, 5)))
    return Geometry(shape, draw(affines(sheared)))


@st.composite
def voxels(draw: st.DrawFn, shape: tuple[int, int, int], dtypes: tuple[str, ...] = SCAN_DTYPES) -> np.ndarray[Any, Any]:
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    limits = {"width": dtype.itemsize * 8, "allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else {}
    elements = st.floats(-1e6, 1e6, **limits) if dtype.kind == "f" else hnp.from_dtype(dtype)
    return draw(hnp.arrays(dtype, shape, elements=elements))
