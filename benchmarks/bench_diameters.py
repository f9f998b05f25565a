"""RECIST diameters of 100 lesions on 512×512×300: medseg beside SimpleITK's Feret diameters and a hull a slice with scipy.

Ours starts from the label array: components, ids, masks, volumes with intervals, both diameters in the slice and the one in
3D. SimpleITK gives the largest distance of voxel centres in 3D alone; its pairs are brute force, so it is run on the 25
smallest lesions only and its time is for these. scipy labels, takes the hull of the mesh vertices of each slice and of the
whole, and compares all pairs of corners: the longest in a slice and in 3D, without perpendiculars.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import SimpleITK as sitk
from harness import Case, Run, main
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from scipy.spatial.distance import pdist

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.kernels.diameters import mask_diameters
from medseg.kernels.instances import find_instances
from medseg.measurement.lesions import lesions

STEPS = np.diag([1.0, 0.8, 0.8])  # k, j, i
AFFINE = np.diag([-0.8, -0.8, 1.0, 1.0])


def mask_of(ct: np.ndarray) -> np.ndarray:
    """Lumpy balls of 3 to 25 mm radius (k, j, i), one in each of the cells that the volume is divided into."""
    rng = np.random.default_rng(0)
    mask = np.zeros(ct.shape, np.uint8)
    cells = [np.arange(n) * per // n for n, per in zip(ct.shape, (4, 5, 5), strict=True)]
    for cell in np.ndindex(4, 5, 5):
        box = tuple(
            slice(int(np.argmax(where == n)), int(len(where) - np.argmax(where[::-1] == n))) for where, n in zip(cells, cell, strict=True)
        )
        size = np.array([part.stop - part.start for part in box])
        most = min(25.0, 0.4 * float((size * STEPS.diagonal()).min()))
        offsets = np.stack(np.meshgrid(*[np.arange(n) - n / 2 + rng.uniform(-1, 1) for n in size], indexing="ij"), axis=-1)
        wave = 1 + 0.1 * np.sin(offsets @ rng.normal(0, 0.12, 3) + rng.uniform(0, 6))
        mask[box] = np.linalg.norm(offsets * STEPS.diagonal(), axis=-1) < rng.uniform(min(3, most / 2), most) * wave
    return mask


def longest(table: Any) -> np.ndarray:
    return np.sort([lesion.longest.length_mm for lesion in table])


def in_plane(ct: np.ndarray) -> dict[str, Run]:
    mask = mask_of(ct)
    label_map = LabelMap(mask.T, Geometry(mask.T.shape, AFFINE), (Segment(1, "tumour"),))
    origins = np.arange(mask.shape[0])[:, None] * STEPS[0]
    return {
        "medseg lesions (all of the table)": lambda: longest(lesions(label_map)),
        "medseg kernels (components and diameters)": lambda: np.sort(mask_diameters(find_instances(mask), origins, STEPS)[0].length_mm),
        "scipy label + ConvexHull + pdist (no perpendicular)": lambda: by_hulls(mask),
    }


def by_hulls(mask: np.ndarray) -> np.ndarray:
    """The longest chord in a slice of every part, from the hull of its mesh vertices; the one in 3D is computed beside it."""
    labels, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    found = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        part = labels[box] == number
        flat = [farthest(vertices(plane[None], (1, 2))) for plane in part if plane.any()]
        farthest(vertices(part, (0, 1, 2)))
        found.append(max(flat))
    return np.sort(found)


def vertices(part: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Mesh vertices in mm, without the axis that all of them share."""
    padded = np.pad(part.astype(np.int8), 1)
    points = []
    for axis in axes:
        edge = np.argwhere(np.diff(padded, axis=axis)).astype(float)
        edge[:, axis] += 0.5
        points.append(edge)
    return np.concatenate(points)[:, list(axes)] @ STEPS[np.ix_(axes, axes)]


def farthest(points: np.ndarray) -> float:
    with contextlib.suppress(QhullError):  # all on one line: they stay as they are
        points = points[ConvexHull(points).vertices]
    return float(pdist(points).max())


def in_space(ct: np.ndarray) -> dict[str, Run]:
    mask = mask_of(ct)
    found = find_instances(mask)
    small = np.argsort(found.voxels, kind="stable")[: max(1, found.voxels.size // 4)]
    few = found.painted(np.isin(np.arange(found.voxels.size), small).astype(np.uint8))
    image = sitk.GetImageFromArray(few)
    image.SetSpacing(tuple(STEPS.diagonal()[::-1]))
    origins = np.arange(mask.shape[0])[:, None] * STEPS[0]

    def simpleitk() -> np.ndarray:
        parts = sitk.ConnectedComponent(image, True)
        shapes = sitk.LabelShapeStatisticsImageFilter()
        shapes.ComputeFeretDiameterOn()
        shapes.Execute(parts)
        return np.sort([shapes.GetFeretDiameter(number) for number in shapes.GetLabels()])

    return {
        "medseg kernels (components and diameters)": lambda: np.sort(mask_diameters(find_instances(few), origins, STEPS)[2].least_mm),
        "SimpleITK LabelShapeStatistics with Feret diameter": simpleitk,
    }


def close_to(first: Any, second: Any) -> float:
    return float(np.isclose(first, second, rtol=1e-9).mean()) if len(first) == len(second) else 0.0


CASES = [
    Case("diameters of 100 lesions", in_plane, close_to),
    Case("3D diameter of the 25 smallest", in_space, close_to),
]

if __name__ == "__main__":
    main(CASES, __file__)
