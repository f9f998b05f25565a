"""What the eight voxels around a cell say about the surface in it: tables over the 256 ways in which they can be inside or outside.

Corner `di + 2 dj + 4 dk` of a cell is bit of the same number. Its twelve edges are numbered by direction and place: along i
`dj + 2 dk`, along j `4 + di + 2 dk`, along k `8 + di + 2 dj`. Its six faces: -i, +i, -j, +j, -k, +k.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FACE_CORNERS = ((0, 2, 4, 6), (1, 3, 5, 7), (0, 1, 4, 5), (2, 3, 6, 7), (0, 1, 2, 3), (4, 5, 6, 7))
EDGE_CORNERS = (
    *((2 * dj + 4 * dk, 1 + 2 * dj + 4 * dk) for dk in (0, 1) for dj in (0, 1)),
    *((di + 4 * dk, di + 2 + 4 * dk) for dk in (0, 1) for di in (0, 1)),
    *((di + 2 * dj, di + 2 * dj + 4) for dj in (0, 1) for di in (0, 1)),
)


class SurfaceTables(NamedTuple):
    """By mask of corners: `sheet` (256,12) the sheet an edge's crossing lies on (-1 none); `sheets` (256,) how many there are.

    `faces` (256,): bits of the faces that the surface passes; `pinched` (256,6): faces where diagonal corners are inside and
    both crossings of the face lie on one sheet; `special` (256,): more than one sheet, or a pinched face; `pull` (256,4,3):
    from the middle of the cell to the middle of a sheet's crossings (i,j,k), 0 for a single sheet.
    """

    sheet: NDArray[np.int8]
    sheets: NDArray[np.int8]
    faces: NDArray[np.uint8]
    pinched: NDArray[np.bool_]
    special: NDArray[np.bool_]
    pull: NDArray[np.float32]


@lru_cache(maxsize=1)
def surface_tables() -> SurfaceTables:
    """Make the tables: crossings are joined across faces, inside corners of an ambiguous face stay apart, cycles are sheets.

    >>> tables = surface_tables()
    >>> int(tables.sheets[0b00000001]), int(tables.sheets[0b10000001]), int(tables.sheets[0b01101001])
    (1, 2, 4)
    """
    tables = SurfaceTables(
        np.full((256, 12), -1, np.int8),
        np.zeros(256, np.int8),
        np.zeros(256, np.uint8),
        np.zeros((256, 6), np.bool_),
        np.zeros(256, np.bool_),
        np.zeros((256, 4, 3), np.float32),
    )
    for mask in range(256):
        _fill(tables, mask)
    for table in tables:
        table.setflags(write=False)
    return tables


def _fill(tables: SurfaceTables, mask: int) -> None:
    inside = [bool(mask >> corner & 1) for corner in range(8)]
    crossings = [edge for edge, (a, b) in enumerate(EDGE_CORNERS) if inside[a] != inside[b]]
    joined: dict[int, set[int]] = {edge: set() for edge in crossings}
    ambiguous: list[tuple[int, list[tuple[int, int]]]] = []
    for face, corners in enumerate(FACE_CORNERS):
        links = _links(corners, inside, crossings)
        for first, second in links:
            joined[first].add(second)
            joined[second].add(first)
        if links:
            tables.faces[mask] |= 1 << face
        if len(links) == 2:
            ambiguous.append((face, links))
    for edge in crossings:
        if tables.sheet[mask, edge] < 0:
            _spread(tables, mask, edge, joined)
    for face, links in ambiguous:
        tables.pinched[mask, face] = tables.sheet[mask, links[0][0]] == tables.sheet[mask, links[1][0]]
    tables.special[mask] = tables.sheets[mask] > 1 or tables.pinched[mask].any()


def _links(corners: tuple[int, ...], inside: list[bool], crossings: list[int]) -> list[tuple[int, int]]:
    """The pairs of crossed edges that the surface joins across a face."""
    crossed = [edge for edge in crossings if set(EDGE_CORNERS[edge]) <= set(corners)]
    if len(crossed) < 4:
        return [(crossed[0], crossed[1])] if crossed else []
    pairs = []
    for corner in corners:
        if inside[corner]:
            first, second = (edge for edge in crossed if corner in EDGE_CORNERS[edge])
            pairs.append((first, second))
    return pairs


def _spread(tables: SurfaceTables, mask: int, start: int, joined: dict[int, set[int]]) -> None:
    """Give all crossings that hang together with one the next sheet."""
    number = int(tables.sheets[mask])
    todo, seen = [start], {start}
    while todo:
        edge = todo.pop()
        tables.sheet[mask, edge] = number
        new = joined[edge] - seen
        seen |= new
        todo += new
    middles = [np.add(*(_place(corner) for corner in EDGE_CORNERS[edge])) / 2 - 0.5 for edge in seen]
    tables.pull[mask, number] = np.mean(middles, axis=0)
    tables.sheets[mask] = number + 1


def _place(corner: int) -> NDArray[np.float64]:
    return np.array([corner & 1, corner >> 1 & 1, corner >> 2], dtype=np.float64)
