"""Run 3D Slicer's own storage code on .seg.nrrd files; a program of its own, because Slicer's classes own the process.

Arguments: files to read; for each, a JSON line says what Slicer sees, and Slicer writes it again as `<name>.slicer.seg.nrrd`
(cropped to its segments with --crop). Needs the package slicer-core.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np


def mask_of(segment: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return indices (n, 3) of a segment's voxels in its own image and that image's index-to-RAS matrix."""
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    image = segment.GetRepresentation("Binary labelmap")
    extent = image.GetExtent()
    scalars = image.GetPointData().GetScalars()
    if scalars is None or extent[1] < extent[0]:
        return np.zeros((0, 3)), np.eye(4)
    shape = tuple(extent[2 * axis + 1] - extent[2 * axis] + 1 for axis in range(3))
    values = vtk_to_numpy(scalars).reshape(shape, order="F")
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    affine = np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
    return np.argwhere(values == segment.GetLabelValue()) + np.array(extent[::2]), affine


def main(paths: list[str], crop: bool) -> None:
    import slicer

    scene = slicer.vtkMRMLScene()
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    logic = slicer.vtkSlicerSegmentationsModuleLogic()  # registers the segmentation nodes
    logic.SetMRMLScene(scene)
    logic.SetMRMLApplicationLogic(application)
    for path in paths:
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S")
        storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
        storage.SetFileName(path)
        done = storage.ReadData(node)
        segmentation = node.GetSegmentation()
        seen = []
        for number in range(segmentation.GetNumberOfSegments()):
            segment = segmentation.GetNthSegment(number)
            index, affine = mask_of(segment)
            points = index @ affine[:3, :3].T + affine[:3, 3]
            seen.append(
                {
                    "name": segment.GetName(),
                    "value": segment.GetLabelValue(),
                    "layer": segmentation.GetLayerIndex(segmentation.GetNthSegmentID(number)),
                    "colour": list(segment.GetColor()),
                    "terminology": segment.GetTerminology(),
                    "voxels": len(index),
                    "centroid": points.mean(axis=0).tolist() if len(points) else None,
                    "volume": len(index) * abs(float(np.linalg.det(affine[:3, :3]))),
                }
            )
        writer = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
        writer.SetCropToMinimumExtent(crop)
        writer.SetFileName(path.replace(".seg.nrrd", ".slicer.seg.nrrd"))
        written = writer.WriteData(node)
        print(json.dumps({"read": done, "written": written, "layers": segmentation.GetNumberOfLayers(), "segments": seen}))  # noqa: T201


if __name__ == "__main__":
    main([argument for argument in sys.argv[1:] if argument != "--crop"], "--crop" in sys.argv)
