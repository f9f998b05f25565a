"""Surfaces of 120 labels on 512 x 512 x 300 beside vtkSurfaceNets3D: the net of all labels, unsmoothed and smoothed, and closed meshes.

Both nets must have as many triangles. VTK's smoothing (16 steps) shrinks; ours (16 steps) gives the volumes back. The last row of
ours also cuts the net into one closed mesh a label in patient space, which VTK does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from harness import Case, Run, main
from inputs import block_labels
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonDataModel import vtkImageData
from vtkmodules.vtkFiltersCore import vtkSurfaceNets3D

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.kernels.surface_nets import surface_nets
from medseg.kernels.surface_smoothing import smooth_net
from medseg.measurement.surfaces import surfaces

COUNT = 120
STEPS = 16


def labels_of(ct: np.ndarray) -> np.ndarray:
    """Labels that do not touch the border: VTK leaves surfaces open there."""
    labels = block_labels(ct, COUNT)
    for axis in range(3):
        border = np.moveaxis(labels, axis, 0)
        border[0] = border[-1] = 0
    return labels


def vtk_net(labels: np.ndarray, smoothing: bool) -> Callable[[], int]:
    image = vtkImageData()
    image.SetDimensions(*labels.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(labels.reshape(-1), deep=False))
    numbers = [int(number) for number in np.unique(labels) if number]

    def run() -> int:
        nets = vtkSurfaceNets3D()
        for place, number in enumerate(numbers):
            nets.SetValue(place, number)
        nets.SetSmoothing(smoothing)
        nets.SetNumberOfIterations(STEPS)
        nets.SetOutputMeshTypeToTriangles()
        nets.SetInputData(image)
        nets.Update()
        return int(nets.GetOutput().GetNumberOfPolys())

    return run


def triangles(first: Any, second: Any) -> float:
    """Triangles of the second for each of the first."""
    return second / first


def unsmoothed(ct: np.ndarray) -> dict[str, Run]:
    labels = labels_of(ct)
    return {"medseg": lambda: 2 * len(surface_nets(labels).quads), "vtkSurfaceNets3D": vtk_net(labels, False)}


def smoothed(ct: np.ndarray) -> dict[str, Run]:
    labels = labels_of(ct)
    return {
        "medseg, volumes kept": lambda: 2 * len(smooth_net(surface_nets(labels), STEPS).quads),
        "vtkSurfaceNets3D, volumes shrink": vtk_net(labels, True),
    }


def closed(ct: np.ndarray) -> dict[str, Run]:
    labels = labels_of(ct)
    grid = Geometry(labels.shape[::-1], np.diag([-0.8, -0.8, 1.25, 1.0]))
    label_map = LabelMap(labels.T, grid, tuple(Segment(int(n), f"label {n}") for n in np.unique(labels) if n))

    def run() -> int:  # triangles between two labels belong to both
        return sum(len(surface.triangles) for surface in surfaces(label_map))

    return {"medseg, one closed mesh a label": run, "vtkSurfaceNets3D, one mesh of all": vtk_net(labels, True)}


CASES = [
    Case("net of 120 labels", unsmoothed, triangles),
    Case("smooth net of 120 labels", smoothed, triangles),
    Case("120 closed surfaces", closed, triangles),
]

if __name__ == "__main__":
    main(CASES, __file__)
