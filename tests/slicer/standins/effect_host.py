"""A Segment Editor without its looks: hosts the registered effects over the real logic, with clicks, masks, undo."""

from __future__ import annotations

import sys
import types
from typing import Any, ClassVar

import slicer
import vtk
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Signal

from standins.effects import qSlicerSegmentEditorAbstractEffect, qSlicerSegmentEditorScriptedEffect
from standins.errors import failures

EVENTS = {
    "press": vtk.vtkCommand.LeftButtonPressEvent,
    "release": vtk.vtkCommand.LeftButtonReleaseEvent,
    "move": vtk.vtkCommand.MouseMoveEvent,
    "double": vtk.vtkCommand.LeftButtonDoubleClickEvent,
    "right": vtk.vtkCommand.RightButtonPressEvent,
    "wheel_up": vtk.vtkCommand.MouseWheelForwardEvent,
    "wheel_down": vtk.vtkCommand.MouseWheelBackwardEvent,
    "key": vtk.vtkCommand.KeyPressEvent,
    "enter": vtk.vtkCommand.EnterEvent,
    "leave": vtk.vtkCommand.LeaveEvent,
}


class qSlicerSegmentEditorEffectFactory(QtCore.QObject):
    """All effects that were registered, by name."""

    effectRegistered = Signal(str)
    _one: ClassVar[list[Any]] = []

    def __init__(self) -> None:
        super().__init__()
        self._effects: dict[str, Any] = {}

    @staticmethod
    def instance() -> qSlicerSegmentEditorEffectFactory:
        if not qSlicerSegmentEditorEffectFactory._one:
            qSlicerSegmentEditorEffectFactory._one.append(qSlicerSegmentEditorEffectFactory())
        return qSlicerSegmentEditorEffectFactory._one[0]

    def registerEffect(self, effect: Any) -> bool:
        if not isinstance(effect, qSlicerSegmentEditorAbstractEffect):
            raise ValueError(f"registerEffect takes an effect, not {type(effect).__name__}")
        if not effect.name:
            failures.add("Segment editor effect cannot be registered with empty name")
            return False
        if effect.name in self._effects:
            return False
        self._effects[effect.name] = effect
        self.effectRegistered.emit(effect.name)
        return True

    def registeredEffects(self) -> list[Any]:
        return list(self._effects.values())

    def forget(self) -> None:
        """Between tests."""
        self._effects.clear()


class EffectHost:
    """One editor: copies of all registered effects, one segmentation, one source volume, one selected segment."""

    def __init__(self, volume: Any, segmentation: Any, segment_id: str | None = None, undo_states: int = 10) -> None:
        node = slicer.mrmlScene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            node.UnRegister(None)
            node.SetSingletonTag("SegmentEditor")
            node = slicer.mrmlScene.AddNode(node)
        self.node = node
        self.logic = slicer.vtkSlicerSegmentEditorLogic()
        self.logic.SetMRMLScene(slicer.mrmlScene)
        self.logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        self.logic.SetVerbose(True)
        self.logic.SetMaximumNumberOfUndoStates(undo_states)
        self.logic.SetSegmentEditorNode(node)
        segmentation.CreateDefaultDisplayNodes()
        self.logic.SetSegmentationNode(segmentation)
        if volume is not None:
            if segmentation.GetNodeReference(segmentation.GetReferenceImageGeometryReferenceRole()) is None:
                segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
            self.logic.SetSourceVolumeNode(volume)
        self.effects: dict[str, Any] = {}
        self.active: Any = None
        self._observed: list[tuple[Any, int]] = []
        self._add_effects()
        self.select_segment(segment_id or self._first_segment())
        self._observe(node, vtk.vtkCommand.ModifiedEvent, lambda *_arguments: self._follow())

    def _observe(self, item: Any, event: Any, callback: Any) -> None:
        self._observed.append((item, item.AddObserver(event, callback)))

    def _first_segment(self) -> str:
        segmentation = self.node.GetSegmentationNode().GetSegmentation()
        return segmentation.GetNthSegmentID(0) if segmentation.GetNumberOfSegments() else ""

    def _add_effects(self) -> None:
        for registered in qSlicerSegmentEditorEffectFactory.instance().registeredEffects():
            effect = registered.clone()
            if effect is None:
                continue
            effect.set_host(self)
            effect.setParameterSetNode(self.node)
            effect.setMRMLDefaults()
            self._observe(
                self.node,
                slicer.vtkMRMLSegmentEditorNode.EffectParameterModified,
                lambda *_arguments, effect=effect: effect.updateGUIFromMRML(),
            )
            effect.setupOptionsFrame()
            effect.optionsFrame().setVisible(False)
            self.effects[effect.name] = effect

    # -- what a user does ---------------------------------------------------------------------------------------------

    def activate(self, name: str) -> Any:
        """Clicks on the effect's button; returns the effect's Python object."""
        if name not in self.effects:
            raise KeyError(f"no effect {name!r} is registered; there are {', '.join(self.effects) or 'none'}")
        self.setActiveEffectByName(name)
        return self.effects[name].self()

    def deactivate(self) -> None:
        self.setActiveEffectByName("")

    def select_segment(self, segment_id: str) -> None:
        self.node.SetSelectedSegmentID(segment_id)

    def set_source_volume(self, volume: Any) -> None:
        """Another source volume, as in the selector; the effects are told."""
        self.logic.SetSourceVolumeNode(volume)
        for effect in self.effects.values():
            effect.sourceVolumeNodeChanged()

    def undo(self) -> None:
        self.logic.Undo()

    def redo(self) -> None:
        self.logic.Redo()

    def frame(self, name: str) -> QtWidgets.QFrame:
        """The options of an effect."""
        return self.effects[name].optionsFrame()

    def send(
        self, event: str, ras: tuple[float, float, float], view: str = "Red", *, shift: bool = False, control: bool = False, key: str = ""
    ) -> None:
        """A mouse or key event at a place in mm: the slice is moved there, and the event goes through the view's interactor."""
        widget = slicer.app.layoutManager().sliceWidget(view)
        widget.mrmlSliceNode().JumpSliceByCentering(*ras)
        x, y = self._xy(ras, widget)
        interactor = widget.sliceView().interactor()
        interactor.SetEventInformation(x, y, int(control), int(shift), key[:1] if key else "\0", 0, key or None)
        interactor.InvokeEvent(EVENTS[event])

    def click(self, ras: tuple[float, float, float], view: str = "Red", *, shift: bool = False, control: bool = False) -> None:
        """Presses and releases the left button there."""
        self.send("press", ras, view, shift=shift, control=control)
        self.send("release", ras, view, shift=shift, control=control)

    @staticmethod
    def _xy(ras: tuple[float, float, float], widget: Any) -> tuple[int, int]:
        inverse = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(widget.mrmlSliceNode().GetXYToRAS(), inverse)
        x, y, _, _ = inverse.MultiplyPoint((*ras, 1.0))
        return round(x), round(y)

    # -- what effects ask for -----------------------------------------------------------------------------------------

    def setActiveEffectByName(self, name: str) -> None:
        self.node.SetActiveEffectName(name)
        self._follow()

    def saveStateForUndo(self) -> None:
        self.logic.SaveStateForUndo()

    def _follow(self) -> None:
        """The active effect is what the node says; effects need a source volume, and most a segment."""
        wanted = self.effects.get(self.node.GetActiveEffectName() or "")
        if wanted is not None and self.node.GetSourceVolumeNode() is None:
            wanted = None
        if wanted is self.active:
            return
        if self.active is not None:
            self._unobserve_views()
            self.active.deactivate()
        self.active = wanted
        if wanted is not None:
            self.logic.SetSourceRepresentationToBinaryLabelMap()
            self._observe_views()
            wanted.activate()
        self._set_cursors()

    def _observe_views(self) -> None:
        self._views: list[tuple[Any, int]] = []
        for name in slicer.app.layoutManager().sliceViewNames():
            widget = slicer.app.layoutManager().sliceWidget(name)
            interactor = widget.sliceView().interactorStyle().GetInteractor()
            for event in EVENTS.values():
                self._views.append((interactor, interactor.AddObserver(event, self._interaction(widget, event), 1.0)))
            node = widget.mrmlSliceNode()
            self._views.append((node, node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._view_modified(widget), 1.0)))

    def _interaction(self, widget: Any, event: int) -> Any:
        def happened(interactor: Any, _name: str) -> None:
            if self.active is not None and not slicer.mrmlScene.IsClosing():
                self.active.processInteractionEvents(interactor, event, widget)

        return happened

    def _view_modified(self, widget: Any) -> Any:
        def happened(node: Any, _name: str) -> None:
            if self.active is not None and not slicer.mrmlScene.IsClosing():
                self.active.processViewNodeEvents(node, vtk.vtkCommand.ModifiedEvent, widget)

        return happened

    def _unobserve_views(self) -> None:
        for item, tag in self._views:
            item.RemoveObserver(tag)
        self._views = []

    def _set_cursors(self) -> None:
        from PySide6 import QtGui

        for name in slicer.app.layoutManager().sliceViewNames():
            widget = slicer.app.layoutManager().sliceWidget(name)
            shown = self.active is not None and self.active.showEffectCursorInSliceView
            widget.sliceView().setViewCursor(self.active.createCursor(widget) if shown else QtGui.QCursor())

    def close(self) -> None:
        """Puts the effect down and lets all go, as closing the application does."""
        if self.active is not None:
            self._unobserve_views()
            self.active.deactivate()
            self.active = None
        for item, tag in self._observed:
            item.RemoveObserver(tag)
        self._observed = []
        for effect in self.effects.values():
            effect.cleanup()
            effect.optionsFrame().deleteLater()
        self.effects = {}
        self.logic.SetSegmentEditorNode(None)


class AbstractScriptedSegmentEditorEffect:
    """Base of effects in Python."""

    def __init__(self, scriptedEffect: Any) -> None:
        self.scriptedEffect = scriptedEffect

    def register(self) -> None:
        slicer.qSlicerSegmentEditorEffectFactory.instance().registerEffect(self.scriptedEffect)

    def cleanup(self) -> None: ...

    def rasToXy(self, ras: Any, viewWidget: Any) -> list[int]:
        from PySide6 import QtGui

        point = self.scriptedEffect.rasToXy(QtGui.QVector3D(*ras[:3]), viewWidget)
        return [point.x(), point.y()]

    def xyToRas(self, xy: Any, viewWidget: Any) -> list[float]:
        point = self.scriptedEffect.xyToRas(QtCore.QPoint(int(xy[0]), int(xy[1])), viewWidget)
        return [point.x(), point.y(), point.z()]

    def xyToIjk(self, xy: Any, viewWidget: Any, image: Any, parentTransformNode: Any = None) -> list[int]:
        point = self.scriptedEffect.xyToIjk(QtCore.QPoint(int(xy[0]), int(xy[1])), viewWidget, image, parentTransformNode)
        return [int(point.x()), int(point.y()), int(point.z())]


def install() -> None:
    """Shows the classes where effects look for them."""
    for kind in (qSlicerSegmentEditorAbstractEffect, qSlicerSegmentEditorScriptedEffect, qSlicerSegmentEditorEffectFactory):
        setattr(slicer, kind.__name__, kind)
    wrapped = types.ModuleType("qSlicerSegmentationsEditorEffectsPythonQt")
    wrapped.qSlicerSegmentEditorScriptedEffect = qSlicerSegmentEditorScriptedEffect  # type: ignore[attr-defined]
    wrapped.qSlicerSegmentEditorAbstractEffect = qSlicerSegmentEditorAbstractEffect  # type: ignore[attr-defined]
    sys.modules[wrapped.__name__] = wrapped
    base = types.ModuleType("SegmentEditorEffects")
    base.AbstractScriptedSegmentEditorEffect = AbstractScriptedSegmentEditorEffect  # type: ignore[attr-defined]
    base.__all__ = ["AbstractScriptedSegmentEditorEffect"]  # type: ignore[attr-defined]
    sys.modules["SegmentEditorEffects"] = base
