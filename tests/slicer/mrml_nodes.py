"""Nodes of a real MRML scene for tests: made from arrays, and taken apart as a host of the bridge does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import slicer
import slicer.util
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.slicer_bridge.arrays import BridgeSegment, volume_of
from medseg.slicer_bridge.terminology import color_table_csv, terminology_of

BINARY = "Binary labelmap"
SPACING_MM = np.array([0.8, 1.1, 2.5])
ORIGIN_MM = (-31.5, 12.25, 140.0)


def _turned(degrees: tuple[float, float, float]) -> np.ndarray:
    a, b, c = np.radians(degrees)
    about_r = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_a = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_s = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_s @ about_a @ about_r


TILT = np.array([[1, 0, 0], [0, 1, np.sin(np.radians(18.5))], [0, 0, np.cos(np.radians(18.5))]])
DIRECTIONS = {
    "ras": np.eye(3),
    "lps": np.diag([-1.0, -1.0, 1.0]),
    "left-handed": np.diag([-1.0, 1.0, 1.0]),
    "permuted": np.eye(3)[:, [2, 0, 1]] * [1, -1, 1],
    "oblique": _turned((12, -20, 33)),
    "oblique left-handed": _turned((-40, 7, 110)) * [1, 1, -1],
    "gantry tilt": TILT,
    "oblique gantry tilt": _turned((3, 5, -8)) @ TILT,
}


def affine_of(kind: str) -> np.ndarray:
    """An IJK-to-RAS matrix of a kind, with unequal spacing and an origin off zero."""
    matrix = np.eye(4)
    matrix[:3, :3] = DIRECTIONS[kind] * SPACING_MM
    matrix[:3, 3] = ORIGIN_MM
    return matrix


def array_of(matrix: Any) -> np.ndarray:
    """A vtkMatrix4x4 as an array."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def ijk_to_ras(node: Any) -> np.ndarray:
    """The matrix of a volume node, without the transforms above it."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return array_of(matrix)


def parent_to_world(node: Any) -> np.ndarray | None:
    """All linear transforms above a node, None where there is none."""
    parent = node.GetParentTransformNode()
    if parent is None:
        return None
    assert parent.IsTransformToWorldLinear()
    matrix = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(matrix)
    return array_of(matrix)


def transform(node: Any, matrix: np.ndarray) -> Any:
    """Put a linear transform above a node."""
    above = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    above.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    node.SetAndObserveTransformNodeID(above.GetID())
    return above


def volume_node(array_kji: np.ndarray, affine: np.ndarray, kind: str = "vtkMRMLScalarVolumeNode") -> Any:
    """A volume node that holds a copy of an array (k,j,i)."""
    return slicer.util.addVolumeFromArray(np.ascontiguousarray(array_kji), affine, "scan", kind)


def volume_from(node: Any, modality: str = "", unit: str = "") -> Volume:
    """A volume node as a volume, its memory shared."""
    array = slicer.util.arrayFromVolume(node)
    return volume_of(array, ijk_to_ras(node), parent_to_world=parent_to_world(node), modality=modality, unit=unit)


def bridge_segments(node: Any) -> list[BridgeSegment]:
    """The segments of a segmentation node as Slicer keeps them: cropped, those of one layer in one array."""
    segmentation = node.GetSegmentation()
    above = parent_to_world(node)
    found = []
    for place in range(segmentation.GetNumberOfSegments()):
        key = segmentation.GetNthSegmentID(place)
        segment = segmentation.GetSegment(key)
        image = segment.GetRepresentation(BINARY)
        extent = tuple(image.GetExtent())
        size = tuple(extent[2 * axis + 1] - extent[2 * axis] + 1 for axis in (2, 1, 0))
        scalars = image.GetPointData().GetScalars()
        array = np.zeros((0, 0, 0), np.uint8) if scalars is None or min(size) < 1 else vtk_to_numpy(scalars).reshape(size)
        matrix = vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(matrix)
        own = array_of(matrix)
        found.append(
            BridgeSegment(
                id=key,
                name=segment.GetName(),
                array_kji=array,
                extent=extent,
                ijk_to_ras=own if above is None else above @ own,
                colour=segment.GetColor(),
                terminology=segment.GetTerminology(),
                value=segment.GetLabelValue(),
            )
        )
    return found


def segmentation_node(label_map: LabelMap, scan: Any, folder: Path) -> Any:
    """Bring a label map into the scene beside a scan, all segments in one call, with names, colours and codes."""
    labels = volume_node(label_map.array.T, np.array(label_map.geometry.affine), "vtkMRMLLabelMapVolumeNode")
    labels.CreateDefaultDisplayNodes()
    table = color_table(color_table_csv(label_map.segments), folder)
    labels.GetDisplayNode().SetAndObserveColorNodeID(table.GetID())
    node = empty_segmentation(scan)
    assert slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labels, node)
    segmentation = node.GetSegmentation()
    lines = {segment.number: terminology_of(segment) for segment in label_map.segments}
    for place in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(place)
        if lines[segment.GetLabelValue()]:
            segment.SetTerminology(lines[segment.GetLabelValue()])
    slicer.mrmlScene.RemoveNode(labels)
    return node


def empty_segmentation(scan: Any) -> Any:
    """A segmentation node on the grid of a scan."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "segmentation")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(scan)
    return node


def color_table(text: str, folder: Path) -> Any:
    """A colour table node read by Slicer's own storage node."""
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableNode", "labels")
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLColorTableStorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(table)
    return table


def read_segmentation_node(path: Path) -> Any:
    """A .seg.nrrd as Slicer's own storage node reads it."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "read")
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    return node


def write_node(node: Any, path: Path, storage_class: str) -> Path:
    """Let Slicer's own storage node write a node."""
    storage = slicer.mrmlScene.AddNewNodeByClass(storage_class)
    storage.SetFileName(str(path))
    assert storage.WriteData(node)
    return path


def load_volume(*paths: Path, labels: bool = False) -> Any:
    """A volume file, or the files of a DICOM series, as Slicer's Volumes module reads it."""
    names = vtk.vtkStringArray()
    for path in paths if len(paths) > 1 else ():
        names.InsertNextValue(str(path))
    return slicer.modules.volumes.logic().AddArchetypeVolume(str(paths[0]), "scan", 1 if labels else 0, names)
