"""The same fixtures inside Slicer itself, over its own editor and module manager; outside, those of the folder above count."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

IN_SLICER = hasattr(sys.modules.get("slicer"), "app") and "standins" not in sys.modules

if IN_SLICER:

    class RealHost:
        """Slicer's own Segment Editor widget with the handles of the stand-in's host."""

        def __init__(self, volume: Any, segmentation: Any, segment_id: str | None = None) -> None:
            import slicer

            self.node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
            self.editor = slicer.qMRMLSegmentEditorWidget()
            self.editor.setMaximumNumberOfUndoStates(10)
            self.editor.setMRMLScene(slicer.mrmlScene)
            self.editor.setMRMLSegmentEditorNode(self.node)
            self.editor.setSegmentationNode(segmentation)
            self.editor.setSourceVolumeNode(volume)
            if segment_id:
                self.select_segment(segment_id)
            self.editor.show()

        @property
        def effects(self) -> dict[str, Any]:
            return {name: self.editor.effectByName(name) for name in self.editor.availableEffectNames()}

        def activate(self, name: str) -> Any:
            self.editor.setActiveEffectByName(name)
            return self.editor.activeEffect().self()

        def deactivate(self) -> None:
            self.editor.setActiveEffectByName("")

        def select_segment(self, segment_id: str) -> None:
            self.editor.setCurrentSegmentID(segment_id)

        def undo(self) -> None:
            self.editor.undo()

        def redo(self) -> None:
            self.editor.redo()

        def click(self, ras: tuple[float, float, float], view: str = "Red") -> None:
            import slicer
            import vtk

            widget = slicer.app.layoutManager().sliceWidget(view)
            node = widget.mrmlSliceNode()
            node.JumpSliceByCentering(*ras)
            inverse = vtk.vtkMatrix4x4()
            vtk.vtkMatrix4x4.Invert(node.GetXYToRAS(), inverse)
            x, y = (round(value) for value in inverse.MultiplyPoint((*ras, 1.0))[:2])
            slicer.util.clickAndDrag(widget, start=(x, y), end=(x, y), steps=0)

        def close(self) -> None:
            self.editor.setActiveEffectByName("")
            self.editor.setMRMLSegmentEditorNode(None)
            self.editor.setMRMLScene(None)
            self.editor.deleteLater()

    @pytest.fixture(autouse=True)
    def empty_scene() -> None:
        import slicer

        slicer.mrmlScene.Clear(0)

    @pytest.fixture
    def load_module() -> Callable[..., Any]:
        """The module as Slicer has loaded it; `widget=True` opens it."""

        def load(name: str, *_path: Any, widget: bool = False, startup: bool = True) -> Any:
            import slicer

            if not widget:
                return slicer.util.getModule(name)
            slicer.util.selectModule(name)
            return slicer.util.getModuleWidget(name)

        return load

    @pytest.fixture
    def effect_host() -> Iterator[Callable[..., Any]]:
        hosts: list[RealHost] = []

        def make(*arguments: Any) -> RealHost:
            hosts.append(RealHost(*arguments))
            return hosts[-1]

        yield make
        while hosts:
            hosts.pop().close()
