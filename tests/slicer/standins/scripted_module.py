"""`slicer.ScriptedLoadableModule` and `slicer.i18n`: what scripted modules import."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import types
import unittest
from pathlib import Path
from typing import Any

import slicer
import slicer.util
from PySide6 import QtGui, QtWidgets

from standins.packages import OFFERED, packaging

ICON_ENDINGS = (".svg", ".png")


class ScriptedLoadableModule:
    """Base of the class that describes a module."""

    def __init__(self, parent: Any) -> None:
        super().__init__()  # for mixins behind this class, as in Slicer
        self.parent = parent
        self.moduleName = type(self).__name__
        parent.title = ""
        parent.categories = []
        parent.dependencies = []
        parent.contributors = ["not set by the module"]
        parent.helpText = "not set by the module"
        parent.acknowledgementText = "not set by the module"
        icons = [self.resourcePath(f"Icons/{self.moduleName}{ending}") for ending in ICON_ENDINGS]
        found = [path for path in icons if os.path.isfile(path)]
        if found:
            parent.icon = QtGui.QIcon(found[0])
        slicer.selfTests[self.moduleName] = self.runTest

    def resourcePath(self, filename: str) -> str:
        return os.path.join(os.path.dirname(self.parent.path), "Resources", filename)

    def getDefaultModuleDocumentationLink(self, docPage: str | None = None) -> str:
        return f'<p>For more information, see the <a href="{docPage or self.moduleName}">online documentation</a>.</p>'

    def runTest(self, msec: int = 100, **kwargs: Any) -> None:
        source = importlib.import_module(type(self).__module__)
        name = f"{self.moduleName}Test"
        if not hasattr(source, name):
            raise AssertionError(f"no class {name} in {source.__name__}")
        case = getattr(source, name)()
        case.messageDelay = msec
        case.runTest(**kwargs)


class ScriptedLoadableModuleWidget:
    """Base of a module's panel."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        alone = parent is None
        if alone:
            parent = slicer.qMRMLWidget()
            QtWidgets.QVBoxLayout(parent)
            parent.setMRMLScene(slicer.mrmlScene)
        self.parent = parent
        self.layout = parent.layout()
        if alone:
            self.setup()
            parent.show()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def resourcePath(self, filename: str) -> str:
        return os.path.join(os.path.dirname(slicer.util.modulePath(self.moduleName)), "Resources", filename)

    def setup(self) -> None: ...

    def cleanup(self) -> None: ...

    def _onModuleAboutToBeUnloaded(self, moduleName: str) -> None:
        if moduleName == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)


class ScriptedLoadableModuleLogic:
    """Base of a module's logic: its parameter node."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self) -> Any:
        if self.isSingletonParameterNode:
            node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
            if node and node.GetAttribute("ModuleName") != self.moduleName:
                node.SetAttribute("ModuleName", self.moduleName)  # closing a scene takes it away
        else:
            node = next(iter(self.getAllParameterNodes()), None)
        return node or slicer.mrmlScene.AddNode(self.createParameterNode())

    def getAllParameterNodes(self) -> list[Any]:
        kind = "vtkMRMLScriptedModuleNode"
        nodes = [slicer.mrmlScene.GetNthNodeByClass(index, kind) for index in range(slicer.mrmlScene.GetNumberOfNodesByClass(kind))]
        return [node for node in nodes if node.GetAttribute("ModuleName") == self.moduleName]

    def createParameterNode(self) -> Any:
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Base of the test that a module carries."""

    messageDelay = 50

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        super(unittest.TestCase, self).__init__()  # unittest ends the chain, mixins behind it are called here

    def delayDisplay(self, message: str, requestedDelay: int | None = None, msec: int | None = None) -> None:
        logging.getLogger(type(self).__name__).info(message)
        slicer.app.processEvents()

    def takeScreenshot(self, name: str, description: str, type: int = -1) -> None:
        self.delayDisplay(description)

    def runTest(self) -> None:
        for name in [name for name in dir(self) if name.startswith("test") and callable(getattr(self, name))]:
            self.setUp()
            getattr(self, name)()
            self.tearDown()


def _module(name: str, public: dict[str, Any], exported: list[str] | None = None) -> types.ModuleType:
    module = types.ModuleType(name)
    module.__dict__.update(public)
    if exported is not None:
        module.__all__ = exported  # type: ignore[attr-defined]
    sys.modules[name] = module
    parent, _, leaf = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], leaf, module)
    return module


def _translate(_context: str, text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"translate takes a text, not {type(text).__name__}")
    return text


def install() -> None:
    """Makes `slicer.ScriptedLoadableModule`, `slicer.i18n` and `slicer.packaging`."""
    slicer.selfTests = {}
    classes = {
        kind.__name__: kind
        for kind in (ScriptedLoadableModule, ScriptedLoadableModuleWidget, ScriptedLoadableModuleLogic, ScriptedLoadableModuleTest)
    }
    _module("slicer.ScriptedLoadableModule", classes, list(classes))
    _module("slicer.i18n", {"tr": lambda text: _translate("", text), "translate": _translate, "getContext": lambda path: Path(path).stem})
    _module("slicer.packaging", {name: getattr(packaging, name) for name in OFFERED})
