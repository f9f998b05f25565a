"""A scan with a ball in it and a segmentation with two segments, for the tests of the Segment Editor effects."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from mrml_nodes import BINARY, affine_of, empty_segmentation, transform, volume_node
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

SHAPE = (22, 40, 44)  # k, j, i: 55 x 44 x 35 mm
BALL_INDEX = np.array([21.0, 19.0, 10.0])  # i, j, k
BALL_MM = 9.0
INSIDE_HU, OUTSIDE_HU = 90.0, -20.0


@dataclass
class Scene:
    """The nodes, and what is in them as arrays (k,j,i)."""

    volume: Any
    segmentation: Any
    ids: tuple[str, ...]
    image: np.ndarray
    ball: np.ndarray

    @property
    def centre_mm(self) -> list[float]:
        """The middle of the ball in the world."""
        return self.world(BALL_INDEX)

    def world(self, index: Any) -> list[float]:
        """A voxel (i,j,k) in RAS mm, with the transforms above the scan."""
        return (world_matrix(self.volume) @ np.append(np.asarray(index, float), 1))[:3].tolist()

    def mask(self, number: int = 0) -> np.ndarray:
        """The voxels of a segment on the grid of the scan."""
        return segment_mask(self.segmentation, self.ids[number], self.image.shape)

    def fill(self, number: int, mask: np.ndarray) -> None:
        """Draw a segment, whatever was there."""
        fill_segment(self.segmentation, self.ids[number], mask)


def world_matrix(node: Any) -> np.ndarray:
    """From voxels to the world, by Slicer's own transform nodes."""
    from mrml_nodes import ijk_to_ras, parent_to_world

    above = parent_to_world(node)
    return ijk_to_ras(node) if above is None else above @ ijk_to_ras(node)


def ball_scan(kind: str = "lps", noise: float = 4.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Intensities and ball (k,j,i), and the matrix of a kind of grid."""
    matrix = affine_of(kind)
    k, j, i = np.indices(SHAPE)
    away = np.stack([i, j, k], axis=-1) - BALL_INDEX
    ball = np.linalg.norm(away @ matrix[:3, :3].T, axis=-1) <= BALL_MM
    image = np.where(ball, INSIDE_HU, OUTSIDE_HU) + np.random.default_rng(11).normal(0, noise, SHAPE)
    return np.rint(image).astype(np.int16), ball, matrix


def ball_scene(kind: str = "lps", above: np.ndarray | None = None, names: tuple[str, ...] = ("target", "other")) -> Scene:
    """The scan and an empty segmentation on its grid, both under a transform where one is given."""
    image, ball, matrix = ball_scan(kind)
    volume = volume_node(image, matrix)
    volume.SetAttribute("MedSeg.Modality", "CT")
    segmentation = empty_segmentation(volume)
    if above is not None:
        node = transform(volume, above)
        segmentation.SetAndObserveTransformNodeID(node.GetID())
    ids = tuple(segmentation.GetSegmentation().AddEmptySegment(name, name) for name in names)
    return Scene(volume, segmentation, ids, image, ball)


def segment_mask(segmentation: Any, segment_id: str, shape: tuple[int, ...]) -> np.ndarray:
    """The voxels of a segment whose labelmap shares the grid with an array (k,j,i) that begins at 0."""
    segment = segmentation.GetSegmentation().GetSegment(segment_id)
    image = segment.GetRepresentation(BINARY)
    found = np.zeros(shape, bool)
    extent = image.GetExtent()
    if all(extent[axis] <= extent[axis + 1] for axis in (0, 2, 4)):
        size = tuple(extent[axis + 1] - extent[axis] + 1 for axis in (4, 2, 0))
        part = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(size) == segment.GetLabelValue()
        found[extent[4] : extent[5] + 1, extent[2] : extent[3] + 1, extent[0] : extent[1] + 1] = part
    return found


def fill_segment(segmentation: Any, segment_id: str, mask: np.ndarray) -> None:
    """Draw a segment with Slicer's own function."""
    reference = slicer.vtkOrientedImageData()
    geometry = segmentation.GetSegmentation().GetConversionParameter(
        slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    )
    slicer.vtkSegmentationConverter.DeserializeImageGeometry(geometry, reference, False)
    k, j, i = mask.shape
    reference.SetExtent(0, i - 1, 0, j - 1, 0, k - 1)
    reference.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(mask, np.uint8).reshape(-1), deep=True))
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    assert logic.SetBinaryLabelmapToSegment(reference, segmentation, segment_id, logic.MODE_REPLACE)


def segment_ids(segmentation: Any) -> list[str]:
    """The IDs of all segments in their order."""
    inner = segmentation.GetSegmentation()
    return [inner.GetNthSegmentID(number) for number in range(inner.GetNumberOfSegments())]


def load_effects(load_module: Any) -> Any:
    """Load the hidden module as the application does at its start; the module MedSeg lies beside it."""
    folder = str(Path(__file__).resolve().parents[2] / "slicer_extension" / "MedSeg")
    if folder not in sys.path:
        sys.path.append(folder)
    return load_module("SegmentEditorMedSeg")


def end_session() -> None:
    """Let the process that works for the effects go, and the files handed over to it."""
    from MedSegLib.session import Session

    Session.discard()


def use_worker() -> None:
    """Let this session's work be done by a real worker process of this Python."""
    from MedSegLib.session import Session

    from medseg.slicer_bridge.client import Worker

    Session.discard()
    Session._instance = Session(lambda *_session: Worker([sys.executable, "-m", "medseg.slicer_bridge.worker"]))


def use_no_installation() -> None:
    """As where nothing was installed yet: no worker can be made."""
    from MedSegLib.session import JobError, Session

    def refuse(*_session: Any) -> Any:
        raise JobError("medseg is not installed yet: press Install in the module MedSeg.", "NotInstalled", 4)

    Session.discard()
    Session._instance = Session(refuse)


def only_in_worker(monkeypatch: Any) -> None:
    """As in a Slicer whose own Python has none of the heavy packages."""
    from SegmentEditorMedSegLib import effect_runner

    monkeypatch.setattr(effect_runner, "canRunInProcess", lambda: False)
    use_worker()
