"""The module `qt` as Slicer has it: every class of Qt in one name space, a loader of .ui files, timers that are watched."""

from __future__ import annotations

import sys
import types
import weakref
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtUiTools, QtWidgets

from standins.errors import guarded
from standins.pythonqt import QT_MODULES, loading, properties_of, read

CUSTOM_WIDGETS: dict[str, type] = {}  # filled by the stand-ins of ctk and qMRML
_alive: weakref.WeakSet[Any] = weakref.WeakSet()
_single_shots: set[Any] = set()


class QTimer(QtCore.QTimer):
    """Remembers who runs, so that a test which leaves one running fails."""

    def __init__(self, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        _alive.add(self)

    @staticmethod
    def singleShot(milliseconds: int, target: Callable[[], Any], slot: str | None = None) -> None:
        function = getattr(target, slot.partition("(")[0]) if slot else target
        timer = QtCore.QTimer()
        read(timer, "setSingleShot")(True)

        def fired() -> None:
            _single_shots.discard(timer)
            guarded(function, "slot of QTimer.singleShot")()

        read(timer, "timeout").connect(fired)
        _single_shots.add(timer)
        read(timer, "start")(milliseconds)


class QProcess(QtCore.QProcess):
    """Remembers who runs, like the timers."""

    def __init__(self, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        _alive.add(self)


def leftovers() -> list[str]:
    """Sentences on timers and processes that still run; they are stopped."""
    found = []
    for item in [*_alive, *_single_shots]:
        try:
            if isinstance(item, QtCore.QProcess):
                if item.state() != QtCore.QProcess.ProcessState.NotRunning:
                    found.append(f"a process still runs: {item.program()}")
                    item.kill()
                    item.waitForFinished(2000)
            elif item.isActive():
                found.append(f"a timer of {item.interval} ms still runs")
                item.stop()
        except RuntimeError:  # deleted by Qt
            continue
    _single_shots.clear()
    return found


class QUiLoader(QtUiTools.QUiLoader):
    """Loads a .ui file with the stand-ins of ctk and qMRML; unknown classes, properties, signals and slots raise."""

    def load(self, file: QtCore.QIODevice, parent: QtWidgets.QWidget | None = None) -> QtWidgets.QWidget:
        path = Path(file.fileName())
        tree = ET.fromstring(path.read_text(encoding="utf-8"))
        self._refuse_unknown_classes(path, tree)
        connections = [
            tuple(entry.findtext(part, "") for part in ("sender", "signal", "receiver", "slot")) for entry in tree.iter("connection")
        ]
        for part in tree.findall("connections"):
            tree.remove(part)
        buffer = QtCore.QBuffer()
        read(buffer, "setData")(ET.tostring(tree))
        read(buffer, "open")(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        with loading(str(path)):
            widget = super().load(buffer, parent)
        if widget is None:
            raise RuntimeError(f"{path}: {self.errorString()}")
        named = {item.objectName: item for item in [widget, *widget.findChildren(QtCore.QObject)]}
        self._refuse_unknown_properties(path, tree, named)
        for sender, signal, receiver, slot in connections:
            named[sender].connect(signal, named[receiver], slot)
        return widget

    def createWidget(self, className: str, parent: QtWidgets.QWidget | None = None, name: str = "") -> QtWidgets.QWidget:
        if className not in CUSTOM_WIDGETS:
            return super().createWidget(className, parent, name)
        widget = CUSTOM_WIDGETS[className](parent)
        widget.setObjectName(name)
        return widget

    def _refuse_unknown_classes(self, path: Path, tree: ET.Element) -> None:
        used = {entry.get("class", "") for entry in tree.iter("widget")}
        unknown = sorted(used - set(self.availableWidgets()) - set(CUSTOM_WIDGETS))
        if unknown:
            raise RuntimeError(f"{path}: the stand-ins have no {', '.join(unknown)}")
        layouts = {entry.get("class", "") for entry in tree.iter("layout")}
        strange = sorted(layouts - set(self.availableLayouts()))
        if strange:
            raise RuntimeError(f"{path}: no layout {', '.join(strange)}")

    @staticmethod
    def _refuse_unknown_properties(path: Path, tree: ET.Element, named: dict[str, QtCore.QObject]) -> None:
        for entry in tree.iter("widget"):
            item = named.get(entry.get("name", ""))
            for setting in entry.findall("property"):
                known = setting.get("stdset") == "0" or item is None or setting.get("name") in properties_of(item)
                if not known:
                    raise RuntimeError(f"{path}: {entry.get('class')} {entry.get('name')} has no property {setting.get('name')!r}")


def _no_such_name(name: str) -> Any:
    raise AttributeError(f"qt has no {name!r}: Qt {QtCore.qVersion()} lacks it, or Slicer's Python does not show it")


def install() -> types.ModuleType:
    """Makes the modules `qt` and `PythonQt` with its parts; returns `qt`."""
    if "qt" in sys.modules:
        return sys.modules["qt"]
    qt = types.ModuleType("qt", "Stand-in of Slicer's module qt.")
    for module in QT_MODULES:
        for name in dir(module):
            if name.startswith("Q"):  # PySide6's own names (Signal, Slot, Property) are not what Slicer offers
                setattr(qt, name, getattr(module, name))
    for replaced in (QTimer, QProcess, QUiLoader):
        setattr(qt, replaced.__name__, replaced)
    names = dict(vars(qt))
    qt.__getattr__ = _no_such_name  # type: ignore[method-assign]
    sys.modules["qt"] = qt
    python_qt = types.ModuleType("PythonQt")
    sys.modules["PythonQt"] = python_qt
    for part in ("QtCore", "QtGui", "QtNetwork", "QtUiTools"):
        module = types.ModuleType(f"PythonQt.{part}")
        module.__dict__.update({name: value for name, value in names.items() if name.startswith("Q")})
        sys.modules[module.__name__] = module
        setattr(python_qt, part, module)
    return qt
