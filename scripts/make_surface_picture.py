"""Make docs/pictures/surfaces.png from the sample study: `python scripts/make_surface_picture.py` (needs vtk).

Left the faces of the voxels, right the smoothed surfaces; prints how far their volumes lie from those of the voxels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from vtkmodules import vtkRenderingFreeType, vtkRenderingOpenGL2  # noqa: F401 - the parts that draw register themselves
from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray
from vtkmodules.vtkCommonCore import vtkPoints
from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
from vtkmodules.vtkIOImage import vtkPNGWriter
from vtkmodules.vtkRenderingCore import vtkActor, vtkPolyDataMapper, vtkRenderer, vtkRenderWindow, vtkWindowToImageFilter

from medseg.io.read import read_label_map
from medseg.measurement.surfaces import Surface, surfaces

ROOT = Path(__file__).resolve().parents[1]
STUDY = ROOT / "sample_data" / "torso"
PICTURE = ROOT / "docs" / "pictures" / "surfaces.png"
LEFT_OUT = ("body",)


def actor(surface: Surface, smooth: bool) -> vtkActor:
    """Return one surface in its colour."""
    points, cells, mesh = vtkPoints(), vtkCellArray(), vtkPolyData()
    points.SetData(numpy_to_vtk(surface.vertices_mm, deep=True))
    cells.SetData(3, numpy_to_vtkIdTypeArray(surface.triangles.ravel().astype(np.int64), deep=True))
    mesh.SetPoints(points)
    mesh.SetPolys(cells)
    if smooth:
        mesh.GetPointData().SetNormals(numpy_to_vtk(surface.normals(), deep=True))
    mapper, drawn = vtkPolyDataMapper(), vtkActor()
    mapper.SetInputData(mesh)
    drawn.SetMapper(mapper)
    drawn.GetProperty().SetColor(*(channel / 255 for channel in surface.segment.rgb))
    drawn.GetProperty().SetSpecular(0.15)
    if not smooth:
        drawn.GetProperty().SetInterpolationToFlat()
    return drawn


def main() -> None:
    """Draw both and print the volumes."""
    label_map = read_label_map(STUDY / "labels.nii.gz")
    wanted = [segment.label for segment in label_map.segments if segment.label not in LEFT_OUT]
    window = vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(8)
    window.SetSize(1400, 620)
    counts = np.bincount(label_map.array.ravel(order="K"), minlength=max(s.number for s in label_map.segments) + 1)
    voxel_ml = label_map.geometry.voxel_volume_mm3 / 1000
    for column, steps in enumerate((0, 16)):
        renderer = vtkRenderer()
        renderer.SetViewport(column / 2, 0, (column + 1) / 2, 1)
        renderer.SetBackground(1, 1, 1)
        window.AddRenderer(renderer)
        found = surfaces(label_map, wanted, smoothing=steps)
        for surface in found:
            renderer.AddActor(actor(surface, steps > 0))
        ratios = [surface.volume_ml / (counts[surface.segment.number] * voxel_ml) - 1 for surface in found]
        print(f"{steps} steps: volumes within {100 * max(map(abs, ratios)):.3f} % of the voxels', {len(found)} segments")
        camera = renderer.GetActiveCamera()
        camera.SetPosition(-0.45, 1, 0.25)
        camera.SetViewUp(0, 0, 1)
        renderer.ResetCamera()
        camera.Zoom(1.35)
    window.Render()
    shot, writer = vtkWindowToImageFilter(), vtkPNGWriter()
    shot.SetInput(window)
    writer.SetFileName(str(PICTURE))
    writer.SetInputConnection(shot.GetOutputPort())
    writer.Write()


if __name__ == "__main__":
    main()
