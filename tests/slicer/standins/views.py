"""The layout manager with slice views: real slice nodes, logics and interactors, no window; clicks are sent by the tests."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from standins.scene import Core
from standins.widgets_mrml import qMRMLWidget

ORIENTATIONS = {"Red": "Axial", "Yellow": "Sagittal", "Green": "Coronal"}
SIZE_PX = 400


class qMRMLSliceView(QtWidgets.QWidget):
    """The picture of a slice view: an interactor, a renderer, a cursor; never rendered."""

    def __init__(self, parent: QtWidgets.QWidget) -> None:
        super().__init__(parent)
        self._window = vtk.vtkGenericOpenGLRenderWindow()  # needs no display as long as nobody renders
        self._window.SetSize(SIZE_PX, SIZE_PX)
        self._renderer = vtk.vtkRenderer()
        self._window.AddRenderer(self._renderer)
        self._interactor = vtk.vtkGenericRenderWindowInteractor()
        self._interactor.SetRenderWindow(self._window)
        self._style = vtk.vtkInteractorStyleUser()
        self._interactor.SetInteractorStyle(self._style)
        self._cursor, self._renders = QtGui.QCursor(), 0

    def renderWindow(self) -> Any:
        return self._window

    def interactor(self) -> Any:
        return self._interactor

    def interactorStyle(self) -> Any:
        return self._style

    def setViewCursor(self, cursor: QtGui.QCursor) -> None:
        self._cursor = cursor

    def setDefaultViewCursor(self, cursor: QtGui.QCursor) -> None:
        self._cursor = cursor

    def viewCursor(self) -> QtGui.QCursor:
        return self._cursor

    def scheduleRender(self) -> None:
        self._renders += 1

    forceRender = scheduleRender


class qMRMLSliceWidget(qMRMLWidget):
    """A slice view with its node and logic."""

    def __init__(self, name: str, core: Core) -> None:
        super().__init__(None)
        self._core = core
        self._view = qMRMLSliceView(self)
        self._logic = slicer.vtkMRMLSliceLogic()
        self._logic.SetMRMLApplicationLogic(core.application_logic)
        self._logic.SetMRMLScene(core.scene)
        core.application_logic.GetSliceLogics().AddItem(self._logic)
        node = self._logic.AddSliceNode(name)  # with a field of view of 400 x 400 mm
        node.SetOrientation(ORIENTATIONS[name])
        node.SetDimensions(SIZE_PX, SIZE_PX, 1)
        node.SetFieldOfView(SIZE_PX, SIZE_PX, 1)
        node.UpdateMatrices()

    def let_go(self) -> None:
        """Ends the view with its nodes."""
        self._core.application_logic.GetSliceLogics().RemoveItem(self._logic)
        nodes = (self._logic.GetSliceNode(), self._logic.GetSliceCompositeNode(), self._logic.GetSliceDisplayNode())
        self._logic.SetMRMLScene(None)
        for node in nodes:
            if node is not None and node.GetScene() is not None:
                node.GetScene().RemoveNode(node)
        self.deleteLater()

    def sliceView(self) -> qMRMLSliceView:
        return self._view

    def sliceLogic(self) -> Any:
        return self._logic

    def mrmlSliceNode(self) -> Any:
        return self._logic.GetSliceNode()

    def mrmlSliceCompositeNode(self) -> Any:
        return self._logic.GetSliceCompositeNode()


class qSlicerLayoutManager(QtCore.QObject):
    """Three slice views and no 3D view."""

    layoutChanged = QtCore.Signal(int)

    def __init__(self, core: Core) -> None:
        super().__init__()
        self._core = core
        self._slices: dict[str, qMRMLSliceWidget] = {}

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(ORIENTATIONS)

    def sliceWidget(self, name: str) -> qMRMLSliceWidget | None:
        if name not in ORIENTATIONS:
            return None
        if name not in self._slices:
            self._slices[name] = qMRMLSliceWidget(name, self._core)
        return self._slices[name]

    def restore(self) -> None:
        """After an emptied scene: views are made anew when they are asked for."""
        for widget in self._slices.values():
            widget.let_go()
        self._slices.clear()

    threeDViewCount = QtCore.Property(int, lambda self: 0)

    def threeDWidget(self, _index: int) -> None:
        return None

    def pauseRender(self) -> None: ...

    def resumeRender(self) -> None: ...

    def resetSliceViews(self) -> None: ...
