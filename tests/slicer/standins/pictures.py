"""Pictures as Slicer draws them: its own slice pipeline and displayable managers, on software OpenGL, without a window."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from standins.scene import Core

PROBE = """
import vtk
window = vtk.vtkRenderWindow(); window.SetOffScreenRendering(1); window.SetSize(8, 8)
renderer = vtk.vtkRenderer(); renderer.SetBackground(1, 0, 0); window.AddRenderer(renderer); window.Render()
pixels = vtk.vtkUnsignedCharArray(); window.GetRGBACharPixelData(0, 0, 7, 7, 0, pixels)
raise SystemExit(0 if pixels.GetTuple(9)[0] == 255 else 1)
"""
SLICE_MANAGERS = ("vtkMRMLSegmentationsDisplayableManager2D",)
SOLID_MANAGERS = ("vtkMRMLCameraDisplayableManager", "vtkMRMLModelDisplayableManager", "vtkMRMLSegmentationsDisplayableManager3D")


def why_not() -> str:
    """Why nothing can be drawn here; empty where it can. Tried in a process of its own, since a failing OpenGL may end one."""
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, timeout=60, check=False)
    return "" if done.returncode == 0 else "no OpenGL in software: on Debian and Ubuntu apt-get install libegl1 libgl1-mesa-dri"


def _window(width: int, height: int) -> tuple[Any, Any]:
    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(0)  # the same pixels on every machine
    window.SetSize(width, height)
    renderer = vtk.vtkRenderer()
    window.AddRenderer(renderer)
    interactor = vtk.vtkGenericRenderWindowInteractor()
    interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())
    interactor.SetRenderWindow(window)
    return window, renderer


def _managers(factory: Any, core: Core, names: tuple[str, ...], renderer: Any, node: Any) -> Any:
    factory.SetMRMLApplicationLogic(core.application_logic)
    for name in names:
        if not factory.IsDisplayableManagerRegistered(name):
            factory.RegisterDisplayableManager(name)
    group = factory.InstantiateDisplayableManagers(renderer)
    group.SetMRMLDisplayableNode(node)
    return group


def _grabbed(window: Any) -> np.ndarray:
    window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.Update()
    width, height, _ = grab.GetOutput().GetDimensions()
    pixels = vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars()).reshape(height, width, -1)
    return np.ascontiguousarray(pixels[::-1, :, :3])


def slice_picture(
    core: Core, volume: Any, ras: tuple[float, float, float], view: str = "Red", size: tuple[int, int] = (400, 400)
) -> tuple[np.ndarray, np.ndarray]:
    """A slice view through a place, as it shows the volume and every visible segmentation: its pixels (rows from the top, RGB)
    and the matrix from a pixel (x from the left, y from the bottom, 0, 1) to RAS in mm."""
    widget = slicer.app.layoutManager().sliceWidget(view)
    logic, node = widget.sliceLogic(), widget.mrmlSliceNode()
    logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
    node.SetDimensions(*size, 1)
    logic.ResizeSliceNode(*size)
    logic.FitSliceToAll()
    node.JumpSliceByOffsetting(*ras)
    window, renderer = _window(*size)
    group = _managers(slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance(), core, SLICE_MANAGERS, renderer, node)
    mapper = vtk.vtkImageMapper()
    mapper.SetColorWindow(255)
    mapper.SetColorLevel(127.5)
    mapper.SetInputConnection(logic.GetImageDataConnection())
    actor = vtk.vtkActor2D()
    actor.SetMapper(mapper)
    actor.GetProperty().SetDisplayLocationToBackground()
    renderer.AddViewProp(actor)
    pixels = _grabbed(window)
    matrix = slicer.util.arrayFromVTKMatrix(node.GetXYToRAS())
    group.SetMRMLDisplayableNode(None)
    logic.GetSliceCompositeNode().SetBackgroundVolumeID(None)
    return pixels, matrix


def solid_picture(core: Core, segmentation: Any, size: tuple[int, int] = (400, 400)) -> np.ndarray:
    """The closed surfaces of a segmentation in Slicer's 3D view, seen from the front; pixels (rows from the top, RGB)."""
    segmentation.CreateClosedSurfaceRepresentation()
    node = core.scene.AddNewNodeByClass("vtkMRMLViewNode", "picture")
    node.SetBoxVisible(False)
    node.SetAxisLabelsVisible(False)
    window, renderer = _window(*size)
    group = _managers(slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance(), core, SOLID_MANAGERS, renderer, node)
    window.Render()
    bounds = [0.0] * 6
    renderer.ComputeVisiblePropBounds(bounds)
    camera = renderer.GetActiveCamera()
    middle = [(bounds[axis] + bounds[axis + 1]) / 2 for axis in (0, 2, 4)]
    camera.SetFocalPoint(middle)
    camera.SetPosition(middle[0], middle[1] + 3 * (bounds[1] - bounds[0] + bounds[5] - bounds[4]), middle[2])
    camera.SetViewUp(0, 0, 1)
    renderer.ResetCamera(bounds)
    pixels = _grabbed(window)
    group.SetMRMLDisplayableNode(None)
    core.scene.RemoveNode(node)
    return pixels
