"""`slicer.modules`, the module manager and the way Slicer loads a scripted module and makes its widget."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Signal

from standins.errors import guarded
from standins.properties import qt_property, widget_class
from standins.widgets_mrml import qSlicerWidget


class Modules:
    """`slicer.modules`: one attribute a module, in small letters, and the instances of scripted modules and widgets."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"slicer.modules has no {name!r}: the stand-ins know {', '.join(sorted(vars(self)))}")


class qSlicerAbstractCoreModule(QtCore.QObject):
    """A module: its name, texts and logic."""

    def __init__(self, name: str, logic: Any = None) -> None:
        super().__init__()
        self._name, self._logic, self._widget = name, logic, None

    name = QtCore.Property(str, lambda self: self._name)

    def logic(self) -> Any:
        return self._logic

    def widgetRepresentation(self) -> Any:
        return self._widget


_TEXTS: dict[str, tuple[Any, ...]] = {
    "title": (str, ""),
    "helpText": (str, ""),
    "acknowledgementText": (str, ""),
    "categories": (list, []),
    "contributors": (list, []),
    "dependencies": (list, []),
    "associatedNodeTypes": (list, []),
    "hidden": (bool, False),
    "index": (int, -1),
    "icon": (QtGui.QIcon, QtGui.QIcon()),
    "defaultDocumentationLink": (
        str,
        '<p>For more information, see the <a href="https://slicer.readthedocs.io">online documentation</a>.</p>',
    ),
}
_Described = widget_class("_Described", qSlicerAbstractCoreModule, _TEXTS)


def load_as_module(name: str, path: Path) -> Any:
    """Imports a file under a name, as the application does."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class qSlicerScriptedLoadableModule(_Described):
    """A module whose class is written in Python."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.stem)
        self._path = path
        self._enabled = True

    path = QtCore.Property(str, lambda self: str(self._path))
    locals().update(qt_property(bool, "widgetRepresentationCreationEnabled", True))

    def setup(self) -> None:
        """Imports the file and makes the module's instance, without a widget."""
        source = sys.modules.get(self.name)
        if source is None or not hasattr(source, self.name):
            source = load_as_module(self.name, self._path)
        instance = getattr(source, self.name)(self)
        setattr(slicer.modules, f"{self.name}Instance", instance)
        self.setWidgetRepresentationCreationEnabled(hasattr(source, f"{self.name}Widget"))
        if hasattr(instance, "setup"):
            guarded(instance.setup, f"{self.name}.setup")()

    def widgetRepresentation(self) -> Any:
        if self._widget is None and self.widgetRepresentationCreationEnabled:
            self._widget = qSlicerScriptedLoadableModuleWidget(self)
            self._widget.reload()
        return self._widget

    def createNewWidgetRepresentation(self) -> Any:
        widget = qSlicerScriptedLoadableModuleWidget(self)
        widget.reload()
        return widget


class qSlicerScriptedLoadableModuleWidget(qSlicerWidget):
    """The panel of a scripted module; `self()` gives the Python object."""

    locals().update(qt_property(bool, "isEntered", False))

    def __init__(self, module: qSlicerScriptedLoadableModule) -> None:
        super().__init__(None)
        self._module, self._python = module, None
        QtWidgets.QVBoxLayout(self)
        self.setMRMLScene(slicer.mrmlScene)

    def self(self) -> Any:
        return self._python

    def reload(self) -> None:
        """Makes the Python widget anew and sets it up; an error is noted, as the application prints it."""
        name = f"{self._module.name}Widget"
        self._python = getattr(sys.modules[self._module.name], name)(self)
        setattr(slicer.modules, name, self._python)
        self._call("setup")

    def enter(self) -> None:
        self.setIsEntered(True)
        self._call("enter")

    def exit(self) -> None:
        self.setIsEntered(False)
        self._call("exit")

    def _call(self, method: str) -> None:
        if hasattr(self._python, method):
            guarded(getattr(self._python, method), f"{self._module.name}Widget.{method}")()


class qSlicerModuleFactoryManager(QtCore.QObject):
    """The names of what is loaded."""

    def __init__(self, known: dict[str, Any]) -> None:
        super().__init__()
        self._known = known

    def loadedModuleNames(self) -> tuple[str, ...]:
        return tuple(self._known)

    def registeredModuleNames(self) -> tuple[str, ...]:
        return tuple(self._known)


class qSlicerModuleManager(QtCore.QObject):
    """All modules by name."""

    moduleAboutToBeUnloaded = Signal(str)
    moduleLoaded = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[str, Any] = {}
        self._factory = qSlicerModuleFactoryManager(self._known)

    def module(self, name: str) -> Any:
        return self._known.get(name)

    def factoryManager(self) -> qSlicerModuleFactoryManager:
        return self._factory

    def add(self, module: Any) -> None:
        self._known[module.name] = module
        setattr(slicer.modules, module.name.lower(), module)

    def load(self, path: Path) -> qSlicerScriptedLoadableModule:
        """Loads a scripted module as the application does at its start."""
        if not path.is_file():
            raise FileNotFoundError(f"no module at {path}")
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))  # as the application does for every module's folder
        module = qSlicerScriptedLoadableModule(path)
        self.add(module)
        module.setup()
        self.moduleLoaded.emit(module.name)
        return module

    def unload(self, module: qSlicerScriptedLoadableModule) -> None:
        """Says that the module goes (its widget cleans up) and forgets it with everything that was imported for it."""
        self.moduleAboutToBeUnloaded.emit(module.name)
        for name in (module.name.lower(), f"{module.name}Instance", f"{module.name}Widget"):
            vars(slicer.modules).pop(name, None)
        self._known.pop(module.name, None)
        slicer.modules.sampleDataSources.clear()
        widget, module._widget = module._widget, None
        if widget is not None:
            widget.deleteLater()
        extension = str(module._path.parents[1])
        if str(module._path.parent) in sys.path:
            sys.path.remove(str(module._path.parent))
        for name, loaded in list(sys.modules.items()):
            if str(getattr(loaded, "__file__", None) or "").startswith(extension):
                del sys.modules[name]
