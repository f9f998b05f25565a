"""`slicer.app`: the application object, its main window, settings, files in and out."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Signal

from standins.modules import (
    Modules,
    qSlicerAbstractCoreModule,
    qSlicerModuleManager,
    qSlicerScriptedLoadableModule,
    qSlicerScriptedLoadableModuleWidget,
)
from standins.scene import Core
from standins.views import qSlicerLayoutManager

FILE_TYPES = {
    "SegmentationFile": (".seg.nrrd", ".seg.nhdr"),
    "SceneFile": (".mrml", ".mrb"),
    "ModelFile": (".vtk", ".vtp", ".stl", ".obj", ".ply"),
    "TableFile": (".tsv", ".csv"),
    "VolumeFile": (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".dcm"),
}
CLASSES = {"SegmentationFile": "vtkMRMLSegmentationNode", "ModelFile": "vtkMRMLModelNode", "TableFile": "vtkMRMLTableNode"}


class qSlicerCoreIOManager(QtCore.QObject):
    """Reads and writes what the tests need, with the storage nodes of slicer-core."""

    def fileType(self, path: str) -> str:
        for kind, endings in FILE_TYPES.items():
            if str(path).lower().endswith(endings):
                return kind
        return "NoFile"

    def loadNodes(self, kind: str, properties: dict[str, Any], loaded: Any, messages: Any = None) -> bool:
        path = str(properties["fileName"])
        name = properties.get("name") or re.sub(r"(\.seg)?(\.nii\.gz|\.\w+)$", "", os.path.basename(path))
        if kind == "VolumeFile":
            flags = 1 if properties.get("labelmap") else 0
            node = slicer.modules.volumes.logic().AddArchetypeVolume(path, name, flags, vtk.vtkStringArray())
        elif kind == "SceneFile":
            slicer.mrmlScene.SetURL(path)
            return bool(slicer.mrmlScene.Import())
        elif kind in CLASSES:
            node = slicer.mrmlScene.AddNewNodeByClass(CLASSES[kind], name)
            node.AddDefaultStorageNode()
            node.GetStorageNode().SetFileName(path)
            if not node.GetStorageNode().ReadData(node):
                slicer.mrmlScene.RemoveNode(node)
                return False
            node.CreateDefaultDisplayNodes()
        else:
            raise NotImplementedError(f"the stand-in of the IO manager reads no {kind}")
        if node is None:
            return False
        loaded.AddItem(node)
        return True

    def extractKnownExtension(self, path: str, _node: Any = None) -> str:
        endings = sorted((ending for group in FILE_TYPES.values() for ending in group), key=len, reverse=True)
        return next((ending for ending in endings if str(path).lower().endswith(ending)), "")

    def fileWriterExtensions(self, _node: Any) -> list[str]:
        return [f"{kind} (*{ending})" for kind, group in FILE_TYPES.items() for ending in group]

    def fileWriterFileType(self, node: Any) -> str:
        return next((kind for kind, name in CLASSES.items() if node.IsA(name)), "VolumeFile")

    def exportNodes(
        self, ids: list[str], paths: list[str], properties: dict[str, Any], _harden: bool = False, _messages: Any = None
    ) -> bool:
        done = []
        for node_id, path in zip(ids, paths, strict=True):
            node = slicer.mrmlScene.GetNodeByID(node_id)
            storage = node.CreateDefaultStorageNode()
            storage.UnRegister(None)
            storage.SetFileName(str(path))
            done.append(bool(storage.WriteData(node)))
        return all(done)

    def saveNodes(self, kind: str, properties: dict[str, Any], _messages: Any = None) -> bool:
        path = str(properties["fileName"])
        if kind == "SceneFile":
            slicer.mrmlScene.SetRootDirectory(os.path.dirname(os.path.abspath(path)))
            slicer.mrmlScene.SetURL(path)
            return bool(slicer.mrmlScene.WriteToMRB(path) if path.endswith(".mrb") else slicer.mrmlScene.Commit(path))
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        if node.GetStorageNode() is None:
            node.AddDefaultStorageNode()
        node.GetStorageNode().SetFileName(path)
        return bool(node.GetStorageNode().WriteData(node))


class qSlicerMainWindow(QtWidgets.QMainWindow):
    """The main window: a status bar and the selector of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self._selector = qSlicerModuleSelectorToolBar(self)

    def moduleSelector(self) -> Any:
        return self._selector


class qSlicerModuleSelectorToolBar(QtCore.QObject):
    """Changes the module: exit of the old panel, enter of the new one."""

    selectedModule = QtCore.Property(str, lambda self: self._selected)

    def __init__(self, parent: QtCore.QObject) -> None:
        super().__init__(parent)
        self._selected = ""

    def selectModule(self, name: str) -> None:
        manager = slicer.app.moduleManager()
        for which, step in ((self._selected, "exit"), (name, "enter")):
            module = manager.module(which)
            widget = module.widgetRepresentation() if module is not None else None
            if widget is not None:
                getattr(widget, step)()
        self._selected = name


class qSlicerApplication(QtCore.QObject):
    """The application as Python sees it; `testing` answers testingEnabled()."""

    startupCompleted = Signal()
    renderPaused = Signal(bool)
    lastWindowClosed = Signal()
    aboutToQuit = Signal()
    applicationName = QtCore.Property(str, lambda self: "Slicer")
    applicationVersion = QtCore.Property(str, lambda self: "5.12.3-stand-in")
    majorVersion = QtCore.Property(int, lambda self: 5)
    minorVersion = QtCore.Property(int, lambda self: 12)
    revision = QtCore.Property(str, lambda self: "0")
    os = QtCore.Property(str, lambda self: "linux")
    arch = QtCore.Property(str, lambda self: "amd64")
    platform = QtCore.Property(str, lambda self: "linux-amd64")
    isInstalled = QtCore.Property(bool, lambda self: True)
    applicationLocaleName = QtCore.Property(str, lambda self: "en_US")
    documentationBaseUrl = QtCore.Property(str, lambda self: "https://slicer.readthedocs.io/en/latest/")
    slicerHome = QtCore.Property(str, lambda self: str(self._folder / "home"))
    slicerSharePath = QtCore.Property(str, lambda self: "share/Slicer-5.12")
    temporaryPath = QtCore.Property(str, lambda self: str(self._folder / "temporary"))
    cachePath = QtCore.Property(str, lambda self: str(self._folder / "cache"))
    extensionsInstallPath = QtCore.Property(str, lambda self: str(self._folder / "extensions"))
    slicerUserSettingsFilePath = QtCore.Property(str, lambda self: str(self._folder / "Slicer.ini"))
    slicerRevisionUserSettingsFilePath = QtCore.Property(str, lambda self: str(self._folder / "Slicer-0.ini"))

    def __init__(self, core: Core, folder: Path) -> None:
        super().__init__()
        self._core, self._folder = core, folder
        for part in ("home", "temporary", "cache", "extensions"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        self._io, self._modules, self._layout = qSlicerCoreIOManager(), qSlicerModuleManager(), qSlicerLayoutManager(core)
        QtCore.QSettings.setDefaultFormat(QtCore.QSettings.Format.IniFormat)
        QtCore.QSettings.setPath(QtCore.QSettings.Format.IniFormat, QtCore.QSettings.Scope.UserScope, str(folder))
        self._settings = QtCore.QSettings(str(folder / "Slicer.ini"), QtCore.QSettings.Format.IniFormat)
        self._window = qSlicerMainWindow()
        self._testing = False
        self._restarts = 0

    def mrmlScene(self) -> Any:
        return self._core.scene

    def applicationLogic(self) -> Any:
        return self._core.application_logic

    def moduleLogic(self, name: str) -> Any:
        return self._core.module_logics.get(name)

    def moduleManager(self) -> qSlicerModuleManager:
        return self._modules

    def coreIOManager(self) -> qSlicerCoreIOManager:
        return self._io

    ioManager = coreIOManager

    def layoutManager(self) -> qSlicerLayoutManager:
        return self._layout

    def mainWindow(self) -> qSlicerMainWindow:
        return self._window

    def topLevelWidgets(self) -> list[Any]:
        return QtWidgets.QApplication.topLevelWidgets()

    def processEvents(self, *arguments: Any) -> None:
        QtWidgets.QApplication.processEvents(*arguments)

    def setOverrideCursor(self, cursor: Any) -> None:
        QtWidgets.QApplication.setOverrideCursor(cursor)

    def restoreOverrideCursor(self) -> None:
        QtWidgets.QApplication.restoreOverrideCursor()

    def clipboard(self) -> Any:
        return QtWidgets.QApplication.clipboard()

    def palette(self) -> Any:
        return QtWidgets.QApplication.palette()

    def thread(self) -> Any:
        return QtWidgets.QApplication.instance().thread()

    def testingEnabled(self) -> bool:
        return self._testing

    def userSettings(self) -> QtCore.QSettings:
        return self._settings

    settings = userSettings
    revisionUserSettings = userSettings

    def startupEnvironment(self) -> QtCore.QProcessEnvironment:
        return QtCore.QProcessEnvironment.systemEnvironment()

    def environment(self) -> QtCore.QProcessEnvironment:
        return QtCore.QProcessEnvironment.systemEnvironment()

    def translate(self, _context: str, text: str, *_more: Any) -> str:
        return text

    def pauseRender(self) -> None: ...

    def resumeRender(self) -> None: ...

    def restart(self) -> None:
        self._restarts += 1


def install(core: Core, folder: Path) -> qSlicerApplication:
    """Makes `slicer.app`, `slicer.modules` and the application's classes."""
    slicer.modules = Modules()
    slicer.qSlicerScriptedLoadableModule = qSlicerScriptedLoadableModule
    slicer.qSlicerScriptedLoadableModuleWidget = qSlicerScriptedLoadableModuleWidget
    slicer.qSlicerAbstractCoreModule = qSlicerAbstractCoreModule
    slicer.app = qSlicerApplication(core, folder)
    for name, logic in core.module_logics.items():
        slicer.app.moduleManager().add(qSlicerAbstractCoreModule(name, logic))
    return slicer.app
