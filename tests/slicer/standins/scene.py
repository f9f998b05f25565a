"""`slicer.mrmlScene` with the application's logics: the real C++ ones of slicer-core, put together as the application does."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import slicer
import vtk

# module name → its logic's class in slicer-core; only these modules exist
LOGICS = {
    "Colors": "vtkMRMLColorLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "Data": "vtkSlicerDataModuleLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Models": "vtkSlicerModelsLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Units": "vtkSlicerUnitsLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
    "Volumes": "vtkSlicerVolumesLogic",
}
# the plug-ins of Slicer's subject hierarchy take these; display, storage, view and parameter nodes stay out
IN_HIERARCHY = (
    "vtkMRMLVolumeNode",
    "vtkMRMLSegmentationNode",
    "vtkMRMLModelNode",
    "vtkMRMLMarkupsNode",
    "vtkMRMLTransformNode",
    "vtkMRMLTableNode",
    "vtkMRMLTextNode",
    "vtkMRMLSequenceNode",
    "vtkMRMLSequenceBrowserNode",
    "vtkMRMLPlotChartNode",
    "vtkMRMLPlotSeriesNode",
)
# names under which the application shows its wrapped libraries
LIBRARIES = {
    "MRMLCorePython": "MRMLCore",
    "MRMLLogicPython": "MRMLLogic",
    "vtkSegmentationCorePython": "vtkSegmentationCore",
    "vtkSegmentationCore": "vtkSegmentationCore",
    "vtkITK": "vtkITK",
    "vtkITKPython": "vtkITK",
    "vtkAddon": "vtkAddonPython",
    "vtkAddonPython": "vtkAddonPython",
}


def _hidden(node: Any) -> bool:
    return bool(node.GetHideFromEditors()) and not node.GetAttribute("SubjectHierarchy.ShowHidden")


class SubjectHierarchy:
    """What the Qt plug-ins of the subject hierarchy do: an item for every data node, gone with it."""

    def __init__(self, scene: Any) -> None:
        self.scene = scene
        self.on_added.__func__.CallDataType = vtk.VTK_OBJECT  # type: ignore[attr-defined]
        self.on_removed.__func__.CallDataType = vtk.VTK_OBJECT  # type: ignore[attr-defined]
        scene.AddObserver(scene.NodeAddedEvent, self.on_added)
        scene.AddObserver(scene.NodeAboutToBeRemovedEvent, self.on_removed)
        scene.AddObserver(scene.EndImportEvent, lambda *_arguments: self.add_missing())

    def on_added(self, _scene: Any, _event: str, node: Any) -> None:
        if not (self.scene.IsImporting() or self.scene.IsRestoring()):
            self._add(node)

    def on_removed(self, _scene: Any, _event: str, node: Any) -> None:
        if self.scene.IsClosing() or node.IsA("vtkMRMLSubjectHierarchyNode"):
            return
        hierarchy = self.scene.GetSubjectHierarchyNode()
        item = hierarchy.GetItemByDataNode(node) if hierarchy else 0
        if item:
            hierarchy.RemoveItem(item, False, False)

    def add_missing(self) -> None:
        for kind in IN_HIERARCHY:
            for index in range(self.scene.GetNumberOfNodesByClass(kind)):
                self._add(self.scene.GetNthNodeByClass(index, kind))

    def _add(self, node: Any) -> None:
        if not any(node.IsA(kind) for kind in IN_HIERARCHY) or _hidden(node):
            return
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self.scene)
        if not hierarchy.GetItemByDataNode(node):
            hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)


class Core:
    """The scene, the application's logic and the logics of the modules."""

    def __init__(self, terminologies: Path) -> None:
        self.scene = slicer.vtkMRMLScene()
        self.application_logic = slicer.vtkSlicerApplicationLogic()
        self.application_logic.SetSliceLogics(vtk.vtkCollection())
        self.application_logic.SetViewLogics(vtk.vtkCollection())
        self.application_logic.SetMRMLScene(self.scene)
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene)
        self.application_logic.GetColorLogic().SetMRMLScene(self.scene)
        self.application_logic.GetColorLogic().AddDefaultColorNodes()
        self.module_logics: dict[str, Any] = dict(self._make_logics(terminologies))
        self.hierarchy = SubjectHierarchy(self.scene)

    def _make_logics(self, terminologies: Path) -> Iterator[tuple[str, Any]]:
        for name, kind in LOGICS.items():
            logic = self.application_logic.GetColorLogic() if name == "Colors" else getattr(slicer, kind)()
            if name == "Terminologies":
                logic.SetModuleShareDirectory(str(terminologies))
            logic.SetMRMLScene(self.scene)
            if hasattr(logic, "SetMRMLApplicationLogic"):
                logic.SetMRMLApplicationLogic(self.application_logic)
            self.application_logic.SetModuleLogic(name, logic)
            yield name, logic

    def _restore_singletons(self) -> None:
        for kind in ("vtkMRMLInteractionNode", "vtkMRMLSelectionNode", "vtkMRMLCrosshairNode"):
            if self.scene.GetSingletonNode("Singleton" if kind != "vtkMRMLCrosshairNode" else "default", kind) is None:
                node = self.scene.CreateNodeByClass(kind)
                node.UnRegister(None)
                node.SetSingletonTag("Singleton" if kind != "vtkMRMLCrosshairNode" else "default")
                self.scene.AddNode(node)

    def clear(self) -> None:
        """An empty scene as after starting: closes it, then takes away the singletons that closing keeps."""
        self.scene.Clear(0)
        self._restore_singletons()
        for kind in ("vtkMRMLScriptedModuleNode", "vtkMRMLSegmentEditorNode"):
            while self.scene.GetNumberOfNodesByClass(kind):
                self.scene.RemoveNode(self.scene.GetNthNodeByClass(0, kind))


def install(terminologies: Path) -> Core:
    """Makes the scene once and shows it as `slicer.mrmlScene`."""
    for name, library in LIBRARIES.items():
        sys.modules.setdefault(name, importlib.import_module(f"slicer_core.{library}"))
    core = Core(terminologies)
    slicer.mrmlScene = core.scene
    return core
