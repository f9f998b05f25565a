"""Scenes made of balls in patient space, sampled on any grid: what the pictures must show is known from formulas."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume

Ball = tuple[str, tuple[float, float, float], float, tuple[int, int, int]]

RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
FOUR_BALLS: tuple[Ball, ...] = (
    ("liver", (30.0, 0.0, 0.0), 14.0, RED),  # patient right
    ("spleen", (-32.0, 0.0, 0.0), 9.0, GREEN),  # patient left
    ("sternum", (0.0, 27.0, 0.0), 8.0, BLUE),  # anterior
    ("head", (0.0, 0.0, 30.0), 8.0, YELLOW),  # superior
)


def _centred(matrix: Sequence[Sequence[float]], shape: tuple[int, int, int]) -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Geometry(shape, affine)


def _turn(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


# Every way in which files store one and the same patient
GRIDS: dict[str, Geometry] = {
    "RAS": _centred(np.diag([2.0, 2.0, 2.5]), (60, 50, 50)),
    "LPS": _centred(np.diag([-2.0, -2.0, 2.5]), (60, 50, 50)),
    "PIR": _centred([[0, 0, 2.0], [-2.5, 0, 0], [0, -2.0, 0]], (40, 55, 60)),
    "left_handed_LAS": _centred(np.diag([-2.0, 2.0, 2.5]), (60, 50, 50)),
    "left_handed_SAR": _centred([[0, 0, 2.0], [0, 2.5, 0], [2.0, 0, 0]], (55, 40, 60)),
    "thick_slices": _centred(np.diag([-1.5, -1.5, 5.0]), (80, 66, 24)),
    "oblique": _centred(_turn(15) @ np.diag([-2.0, -2.0, 2.5]), (66, 60, 50)),
    "sheared": _centred([[-2.0, 0, 0], [0, -2.0, 1.0], [0, 0, 2.5]], (60, 66, 50)),
}


@pytest.fixture(params=sorted(GRIDS))
def grid(request: pytest.FixtureRequest) -> Geometry:
    return GRIDS[request.param]


@pytest.fixture
def grids() -> dict[str, Geometry]:
    return GRIDS


@pytest.fixture
def make_scene() -> Callable[..., tuple[Volume, LabelMap]]:
    """make_scene(geometry, balls=FOUR_BALLS): a CT of balls and its label map; numbers begin at 1."""

    def make(geometry: Geometry, balls: Sequence[Ball] = FOUR_BALLS) -> tuple[Volume, LabelMap]:
        indices = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij"), axis=-1)
        points = geometry.index_to_world(indices)
        labels = np.zeros(geometry.shape, np.uint8)
        for number, (_, centre, radius, _) in enumerate(balls, start=1):
            labels[((points - centre) ** 2).sum(axis=-1) <= radius**2] = number
        segments = tuple(Segment(n, label, colour=colour) for n, (label, _, _, colour) in enumerate(balls, start=1))
        intensities = np.where(labels > 0, 60, -80).astype(np.int16)
        return Volume(intensities, geometry, "CT", "HU"), LabelMap(labels, geometry, segments)

    return make


@pytest.fixture
def decode() -> Callable[[bytes], Any]:
    """decode(png): the pixels (height, width, 3)."""

    def read(png: bytes) -> Any:
        from PIL import Image

        assert png[:8] == b"\x89PNG\r\n\x1a\n"
        with Image.open(io.BytesIO(png)) as image:
            image.load()
            return np.asarray(image.convert("RGB")).astype(int)

    return read


@pytest.fixture
def pixels_of() -> Callable[..., np.ndarray]:
    """pixels_of(picture, colour): (n, 2) rows and columns whose hue is that of a pure colour, contour or fill."""

    def find(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
        picture = np.asarray(picture).astype(int)
        on = [channel for channel in range(3) if colour[channel]]
        off = [channel for channel in range(3) if not colour[channel]]
        high, low = picture[..., on].min(axis=-1), picture[..., off].max(axis=-1)
        spread = picture[..., on].max(axis=-1) - high
        return np.argwhere((high - low > 35) & (spread < 25))

    return find
