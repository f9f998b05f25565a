"""The effect classes that Slicer's C++ gives to Python, over the real vtkSlicerSegmentEditorLogic."""

from __future__ import annotations

import sys
import weakref
from pathlib import Path
from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from standins.ctk_module import ctkMessageBox
from standins.effect_parameters import EffectParameters
from standins.errors import failures, guarded
from standins.modules import load_as_module
from standins.properties import qt_property
from standins.widgets_mrml import check_node

Logic = slicer.vtkSlicerSegmentEditorLogic
EMPTY_EXTENT = (0, -1, 0, -1, 0, -1)


class qSlicerSegmentEditorAbstractEffect(EffectParameters):
    """What an effect can ask its editor for."""

    ModificationModeSet, ModificationModeAdd, ModificationModeRemove, ModificationModeRemoveAll = range(4)
    NotConfirmed, ConfirmedWithoutDialog, ConfirmedWithDialog = range(3)
    locals().update(qt_property(str, "name", "UnnamedScriptedEffect"))
    locals().update(qt_property(bool, "perSegment", True))
    locals().update(qt_property(bool, "requireSegments", True))
    locals().update(qt_property(bool, "showEffectCursorInSliceView", True))
    locals().update(qt_property(bool, "showEffectCursorInThreeDView", False))

    def __init__(self, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self._editor: Any = None  # a weak reference to what hosts the effect
        self._parameter_node: Any = None
        self._active = False
        self._shown_title = ""
        self._confirmed: Any = None
        self._frame = QtWidgets.QFrame()
        QtWidgets.QFormLayout(self._frame)
        self._saved_cursor = QtGui.QCursor()

    def setTitle(self, title: str) -> None:
        self._shown_title = title

    title = QtCore.Property(str, lambda self: self._shown_title or self.name, setTitle)

    def _node_or_none(self) -> Any:
        return self._parameter_node

    def parameterSetNode(self) -> Any:
        return self._parameter_node

    def setParameterSetNode(self, node: Any) -> None:
        check_node(self, node, "vtkMRMLSegmentEditorNode")
        self._parameter_node = node

    def scene(self) -> Any:
        return self._parameter_node.GetScene() if self._parameter_node else None

    def host(self) -> Any:
        """The editor that made this copy of the effect; None for the registered one."""
        return self._editor() if self._editor else None

    def set_host(self, editor: Any) -> None:
        self._editor = weakref.ref(editor)

    def optionsFrame(self) -> QtWidgets.QFrame:
        return self._frame

    def optionsLayout(self) -> QtWidgets.QFormLayout:
        return self._frame.layout()

    def addOptionsWidget(self, item: Any) -> None:
        self.optionsLayout().addRow(item)

    def addLabeledOptionsWidget(self, label: str, item: Any) -> QtWidgets.QLabel:
        text = QtWidgets.QLabel(label)
        self.optionsLayout().addRow(text, item)
        return text

    def active(self) -> bool:
        return self._active

    def activate(self) -> None:
        self._frame.setVisible(True)
        self._active = True
        self.updateGUIFromMRML()

    def deactivate(self) -> None:
        self._frame.setVisible(False)
        self._active = False

    def updateGUIFromMRML(self) -> None: ...

    def selectEffect(self, name: str) -> None:
        if self.host() is not None:
            self.host().setActiveEffectByName(name)

    def saveStateForUndo(self) -> None:
        if self.host() is not None:
            self.host().saveStateForUndo()

    def confirmCurrentSegmentVisible(self) -> int:
        node = self._parameter_node
        segmentation = node.GetSegmentationNode() if node else None
        segment_id = node.GetSelectedSegmentID() if segmentation else ""
        if not segment_id:
            return self.ConfirmedWithoutDialog
        segment = segmentation.GetSegmentation().GetSegment(segment_id)
        display = segmentation.GetDisplayNode()
        seen = display is not None and display.GetVisibility() and display.GetSegmentVisibility(segment_id)
        if seen or (segment is not None and self._confirmed is segment):
            return self.ConfirmedWithoutDialog
        box = ctkMessageBox()
        box.setWindowTitle("Operate on invisible segment?")
        box.setText("The currently selected segment is hidden. Would you like to make it visible?")
        answer = box.exec_()
        if answer == QtWidgets.QMessageBox.StandardButton.Cancel:
            return self.NotConfirmed
        if answer == QtWidgets.QMessageBox.StandardButton.Yes and display is not None:
            display.SetVisibility(True)
            display.SetSegmentVisibility(segment_id, True)
        else:
            self._confirmed = segment
        return self.ConfirmedWithDialog

    # -- images -------------------------------------------------------------------------------------------------------

    def _logic(self) -> Any:
        return self.host().logic if self.host() is not None else None

    def modifierLabelmap(self) -> Any:
        return self._logic().GetModifierLabelmap()

    def defaultModifierLabelmap(self) -> Any:
        return self._logic().GetModifierLabelmap() if self._logic().ResetModifierLabelmapToDefault() else None

    def maskLabelmap(self) -> Any:
        return self._logic().GetMaskLabelmap() if self._logic().UpdateMaskLabelmap() else None

    def selectedSegmentLabelmap(self) -> Any:
        return self._logic().GetSelectedSegmentLabelmap() if self._logic().UpdateSelectedSegmentLabelmap() else None

    def sourceVolumeImageData(self) -> Any:
        return self._logic().GetAlignedSourceVolume() if self._logic().UpdateAlignedSourceVolume() else None

    def referenceGeometryImage(self) -> Any:
        return self._logic().GetReferenceGeometryImage() if self._logic().UpdateReferenceGeometryImage() else None

    def modifySelectedSegmentByLabelmap(self, labelmap: Any, mode: int, *rest: Any) -> None:
        node = self._parameter_node
        self.modifySegmentByLabelmap(node.GetSegmentationNode(), node.GetSelectedSegmentID() or "", labelmap, mode, *rest)

    def modifySegmentByLabelmap(self, segmentation: Any, segment_id: str, labelmap: Any, mode: int, *rest: Any) -> None:
        """(…, mode), (…, mode, bypassMasking), (…, mode, extent) and (…, mode, extent, bypassMasking), as in C++."""
        extent = EMPTY_EXTENT
        if rest and not isinstance(rest[0], bool):
            extent, rest = tuple(int(value) for value in rest[0]), rest[1:]
        if len(extent) != len(EMPTY_EXTENT):
            failures.add("modifySegmentByLabelmap: extent must have 6 int values")
            return
        if len(rest) > 1 or not all(isinstance(value, bool) for value in rest):
            raise ValueError(f"modifySegmentByLabelmap: wrong arguments {rest!r}")
        if labelmap is not None and not labelmap.IsA("vtkOrientedImageData"):
            raise ValueError(f"modifySegmentByLabelmap takes vtkOrientedImageData, not {labelmap.GetClassName()}")
        if self._logic() is None:
            return
        modes = (Logic.ModificationModeSet, Logic.ModificationModeAdd, Logic.ModificationModeRemove, Logic.ModificationModeRemoveAll)
        bypass = bool(rest and rest[0])
        self._logic().ModifySegmentByLabelmap(segmentation, segment_id, labelmap, modes[int(mode)], extent, bool(self.perSegment), bypass)

    # -- views --------------------------------------------------------------------------------------------------------

    def rasToXy(self, ras: QtGui.QVector3D, widget: Any) -> QtCore.QPoint:
        node = widget.mrmlSliceNode()
        inverted = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(node.GetXYToRAS(), inverted)
        x, y, _, _ = inverted.MultiplyPoint((ras.x(), ras.y(), ras.z(), 1.0))
        return QtCore.QPoint(round(x), round(y))

    def xyToRas(self, xy: QtCore.QPoint, widget: Any) -> QtGui.QVector3D:
        return self.xyzToRas(QtGui.QVector3D(xy.x(), xy.y(), 0), widget)

    def xyzToRas(self, xyz: QtGui.QVector3D, widget: Any) -> QtGui.QVector3D:
        point = widget.mrmlSliceNode().GetXYToRAS().MultiplyPoint((xyz.x(), xyz.y(), xyz.z(), 1.0))
        return QtGui.QVector3D(*point[:3])

    def xyToIjk(self, xy: QtCore.QPoint, widget: Any, image: Any, parent: Any = None) -> QtGui.QVector3D:
        return self.xyzToIjk(QtGui.QVector3D(xy.x(), xy.y(), 0), widget, image, parent)

    def xyzToIjk(self, xyz: QtGui.QVector3D, widget: Any, image: Any, parent: Any = None) -> QtGui.QVector3D:
        ijk = [0, 0, 0]
        Logic.XyzToIjk([xyz.x(), xyz.y(), xyz.z()], ijk, widget.mrmlSliceNode(), image, parent)
        return QtGui.QVector3D(*ijk)

    def renderWindow(self, widget: Any) -> Any:
        return widget.sliceView().renderWindow()

    def renderer(self, widget: Any) -> Any:
        return self.renderWindow(widget).GetRenderers().GetItemAsObject(0)

    def viewNode(self, widget: Any) -> Any:
        return widget.mrmlSliceNode()

    def addActor2D(self, widget: Any, actor: Any) -> None:
        self.renderer(widget).AddViewProp(actor)

    addActor3D = addActor2D

    def removeActor2D(self, widget: Any, actor: Any) -> None:
        self.renderer(widget).RemoveViewProp(actor)

    removeActor3D = removeActor2D

    def scheduleRender(self, widget: Any) -> None:
        widget.sliceView().scheduleRender()

    forceRender = scheduleRender

    def sliceSpacing(self, widget: Any) -> float:
        return float(Logic.GetSliceSpacing(widget.mrmlSliceNode(), widget.sliceLogic()))

    def cursorOff(self, widget: Any) -> None:
        self._saved_cursor = widget.sliceView().viewCursor()
        widget.sliceView().setDefaultViewCursor(QtGui.QCursor(QtCore.Qt.CursorShape.BlankCursor))

    def cursorOn(self, widget: Any) -> None:
        widget.sliceView().setDefaultViewCursor(self._saved_cursor)


class qSlicerSegmentEditorScriptedEffect(qSlicerSegmentEditorAbstractEffect):
    """An effect whose class is written in Python. The class is looked up as C++ does: in the module named like the file's
    folder when that is imported already and has it; else the file itself is imported under the folder's name."""

    def __init__(self, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self._python: Any = None
        self._source = ""

    def pythonSource(self) -> str:
        return self._source

    def setPythonSource(self, source: str) -> bool:
        if not source.endswith((".py", ".pyc")):
            return False
        path = Path(source)
        folder, name = path.parent.name, path.stem if path.stem.endswith("Effect") else f"{path.stem}Effect"
        module = sys.modules.get(folder)
        if module is None or not hasattr(module, name):
            module = load_as_module(folder, path)
        if not hasattr(module, name):
            raise RuntimeError(f"class {name} was not found in {path}")
        self._python = getattr(module, name)(self)
        self._source = source
        setattr(slicer, folder, self._python)
        return True

    def self(self) -> Any:
        return self._python

    def _call(self, method: str, *arguments: Any) -> Any:
        """The Python method where there is one; its errors are noted, as PythonQt prints them."""
        if not hasattr(self._python, method):
            return None
        return guarded(getattr(self._python, method), f"{type(self._python).__name__}.{method}")(*arguments)

    def icon(self) -> QtGui.QIcon:
        return self._call("icon") or QtGui.QIcon()

    def helpText(self) -> str:
        return self._call("helpText") or ""

    def clone(self) -> Any:
        made = self._call("clone")
        if not isinstance(made, qSlicerSegmentEditorAbstractEffect):
            failures.add(f"clone() of {self.name} returned no effect")
            return None
        return made

    def activate(self) -> None:
        super().activate()
        self._call("activate")

    def deactivate(self) -> None:
        super().deactivate()
        self._call("deactivate")

    def setupOptionsFrame(self) -> None:
        self._call("setupOptionsFrame")

    def setMRMLDefaults(self) -> None:
        self._call("setMRMLDefaults")

    def createCursor(self, widget: Any) -> QtGui.QCursor:
        return self._call("createCursor", widget) or QtGui.QCursor(QtCore.Qt.CursorShape.CrossCursor)

    def processInteractionEvents(self, interactor: Any, event: int, widget: Any) -> bool:
        if not hasattr(self._python, "processInteractionEvents"):
            return False
        answer = self._call("processInteractionEvents", interactor, event, widget)
        if not isinstance(answer, bool):
            failures.add(f"{self.name}: processInteractionEvents is expected to return a boolean, not {answer!r}")
            return False
        return answer

    def processViewNodeEvents(self, node: Any, event: int, widget: Any) -> None:
        self._call("processViewNodeEvents", node, event, widget)

    def interactionNodeModified(self, node: Any) -> None:
        self._call("interactionNodeModified", node)

    def sourceVolumeNodeChanged(self) -> None:
        self._call("sourceVolumeNodeChanged")

    def referenceGeometryChanged(self) -> None:
        self._call("referenceGeometryChanged")

    def layoutChanged(self) -> None:
        self._call("layoutChanged")

    def updateGUIFromMRML(self) -> None:
        if self.active():
            self._call("updateGUIFromMRML")

    def updateMRMLFromGUI(self) -> None:
        self._call("updateMRMLFromGUI")

    def cleanup(self) -> None:
        self._call("cleanup")
