"""The module `ctk`: widgets with the properties, signals and methods of CTK, made of plain Qt ones."""

from __future__ import annotations

import sys
import types
from typing import Any, ClassVar

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Signal

from standins.ctk_numbers import NUMBER_WIDGETS
from standins.properties import qt_property, widget_class
from standins.pythonqt import read

HEADER_HEIGHT_PX = 22


class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """A header that shows and hides what lies below it."""

    contentsCollapsed = Signal(bool)
    locals().update(qt_property(bool, "collapsed", False, "contentsCollapsed", "_fold"))
    locals().update(qt_property(int, "collapsedHeight", 10))
    locals().update(qt_property(int, "contentsLineWidth", 1))
    locals().update(qt_property(int, "contentsMidLineWidth", 0))
    locals().update(qt_property(bool, "flat", False))

    def __init__(self, text: Any = None, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(text if isinstance(text, QtWidgets.QWidget) else parent)
        self._folded: list[QtWidgets.QWidget] = []
        if isinstance(text, str):
            self.setText(text)
        self.setContentsMargins(0, HEADER_HEIGHT_PX, 0, 0)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Preferred, QtWidgets.QSizePolicy.Policy.Preferred)
        read(self, "setCheckable")(True)
        read(self, "setChecked")(True)  # CTK: checked is the contrary of collapsed
        read(self, "toggled").connect(lambda on: self.setCollapsed(not on))

    def _fold(self, collapsed: bool) -> None:
        read(self, "setChecked")(not collapsed)
        if collapsed:
            shown = [child for child in self.children() if isinstance(child, QtWidgets.QWidget) and not child.isHidden()]
            self._folded += shown
            for child in shown:
                child.setVisible(False)
        else:
            for child in self._folded:  # what the module itself has hidden stays hidden
                child.setVisible(True)
            self._folded = []
        self.setMaximumHeight(HEADER_HEIGHT_PX if collapsed else 16777215)

    def showEvent(self, event: QtGui.QShowEvent) -> None:
        super().showEvent(event)
        if self.collapsed:  # children that came after the property, as from a .ui file
            self._fold(True)

    def paintEvent(self, _event: QtGui.QPaintEvent) -> None:
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, self.rect.width(), HEADER_HEIGHT_PX - 2)
        option.text = ("▸ " if self.collapsed else "▾ ") + self.text
        painter.drawControl(QtWidgets.QStyle.ControlElement.CE_PushButton, option)


class ctkPathLineEdit(QtWidgets.QWidget):
    """A path, typed or picked."""

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)
    locals().update(qt_property(str, "currentPath", "", "currentPathChanged", "_show"))
    locals().update(qt_property(str, "label", ""))
    locals().update(qt_property(str, "settingKey", ""))
    locals().update(qt_property(list, "nameFilters", []))
    locals().update(qt_property(bool, "showBrowseButton", True))
    locals().update(qt_property(bool, "showHistoryButton", True))
    locals().update(qt_property(int, "minimumContentsLength", 0))
    Dirs, Files, Drives, NoSymLinks, Readable, Writable, Executable = 0x1, 0x2, 0x4, 0x8, 0x10, 0x20, 0x40
    NoDot, NoDotDot, NoDotAndDotDot = 0x2000, 0x4000, 0x6000
    locals().update(qt_property(int, "filters", 0x6073))

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._edit = QtWidgets.QLineEdit()
        self._browse = QtWidgets.QToolButton()
        self._browse.setText("…")
        layout.addWidget(self._edit)
        layout.addWidget(self._browse)
        read(self._edit, "textChanged").connect(self.setCurrentPath)
        read(self._browse, "clicked").connect(self.browse)
        self._history: list[str] = []

    def _show(self, path: str) -> None:
        if self._edit.text != path:
            self._edit.setText(path)

    def browse(self) -> None:
        """Asks as the button does: the answer comes from the record of dialogs."""
        if self.filters & self.Files:
            path = QtWidgets.QFileDialog.getOpenFileName(self, "Select a file...", self.currentPath, ";;".join(self.nameFilters))
        else:
            path = QtWidgets.QFileDialog.getExistingDirectory(self, "Select a directory...", self.currentPath)
        if path:
            self.setCurrentPath(path)

    def addCurrentPathToHistory(self) -> None:
        self._history.append(self.currentPath)


class ctkDirectoryButton(QtWidgets.QWidget):
    """A button with the name of a folder."""

    directoryChanged = Signal(str)
    directorySelected = Signal(str)
    locals().update(qt_property(str, "caption", ""))
    locals().update(qt_property(str, "text", "", "", "_show"))

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._path = "."
        self._button = QtWidgets.QPushButton()
        layout.addWidget(self._button)
        read(self._button, "clicked").connect(self.browse)

    def _folder(self) -> str:
        return self._path

    def setDirectory(self, folder: str) -> None:
        if QtCore.QDir(folder) == QtCore.QDir(self._path):  # CTK keeps a QDir: an equal one changes nothing
            self.directorySelected.emit(QtCore.QDir(folder).absolutePath())
            return
        self._path = QtCore.QDir(folder).absolutePath()
        self._show(self._path)
        self.directorySelected.emit(self._path)
        self.directoryChanged.emit(self._path)

    directory = QtCore.Property(str, _folder, setDirectory)

    def _show(self, _changed: str) -> None:
        self._button.setText(self.text or self.directory)

    def browse(self) -> None:
        folder = QtWidgets.QFileDialog.getExistingDirectory(self, self.caption, self.directory)
        if folder:
            self.setDirectory(folder)


class ctkFittedTextBrowser(QtWidgets.QTextBrowser):
    """Text with a part that is folded away."""

    locals().update(qt_property(bool, "collapsed", True))
    locals().update(qt_property(str, "showDetailsText", "Show details..."))
    locals().update(qt_property(str, "hideDetailsText", "Hide details."))

    def setCollapsibleText(self, text: str) -> None:
        self.setHtml(text)


class ctkMessageBox(QtWidgets.QMessageBox):
    """Qt's message box with "Don't show again"."""

    locals().update(qt_property(str, "dontShowAgainSettingsKey", ""))
    locals().update(qt_property(bool, "dontShowAgainVisible", False))
    locals().update(qt_property(bool, "dontShowAgain", False))


class ctkCoordinatesWidget(QtWidgets.QWidget):
    """Numbers side by side, such as a point in mm."""

    coordinatesChanged = Signal(object)
    VTK_SIGNALS: ClassVar[dict[str, str]] = {"coordinatesChanged(double*)": "coordinatesChanged"}
    locals().update(qt_property(str, "coordinates", "0,0,0", "", "_sent"))
    locals().update(qt_property(int, "dimension", 3))
    locals().update(qt_property(int, "decimals", 3))
    locals().update(qt_property(float, "minimum", -100000.0))
    locals().update(qt_property(float, "maximum", 100000.0))
    locals().update(qt_property(float, "singleStep", 1.0))

    def _sent(self, text: str) -> None:
        self.coordinatesChanged.emit([float(part) for part in text.split(",")])


class ctkWidgetsUtils:
    """What CTK offers for widgets as a whole."""

    @staticmethod
    def grabWidget(widget: QtWidgets.QWidget, rect: QtCore.QRect | None = None) -> QtGui.QImage:
        return (widget.grab(rect) if rect else widget.grab()).toImage()


_CHECKABLE = {"checkBoxControlsButton": (bool, False), "checkBoxControlsButtonToggleState": (bool, True), "checkState": (int, 0)}
_push = widget_class("ctkPushButton", QtWidgets.QPushButton, {"buttonTextAlignment": (int, 0x84), "iconAlignment": (int, 0x81)})

WIDGETS: dict[str, type] = {
    "ctkCheckBox": widget_class("ctkCheckBox", QtWidgets.QCheckBox, {}),
    "ctkComboBox": widget_class("ctkComboBox", QtWidgets.QComboBox, {"defaultText": (str, ""), "forceDefault": (bool, False)}),
    "ctkPushButton": _push,
    "ctkMenuButton": widget_class("ctkMenuButton", QtWidgets.QPushButton, {}),
    "ctkCheckablePushButton": widget_class("ctkCheckablePushButton", _push, _CHECKABLE, checkBoxToggled=Signal(bool)),
    "ctkColorPickerButton": widget_class(
        "ctkColorPickerButton",
        QtWidgets.QPushButton,
        {"color": (QtGui.QColor, QtGui.QColor(), "colorChanged"), "displayColorName": (bool, True)},
        colorChanged=Signal(QtGui.QColor),
    ),
    "ctkCollapsibleGroupBox": widget_class(
        "ctkCollapsibleGroupBox", QtWidgets.QGroupBox, {"collapsed": (bool, False), "collapsedHeight": (int, 14)}
    ),
    "ctkSearchBox": widget_class("ctkSearchBox", QtWidgets.QLineEdit, {"showSearchIcon": (bool, False)}),
    "ctkExpandButton": widget_class("ctkExpandButton", QtWidgets.QToolButton, {"mirrorOnExpand": (bool, False)}),
    "ctkDynamicSpacer": widget_class("ctkDynamicSpacer", QtWidgets.QWidget, {"active": (bool, False)}),
    **{
        kind.__name__: kind
        for kind in (ctkCollapsibleButton, ctkPathLineEdit, ctkDirectoryButton, ctkFittedTextBrowser, ctkMessageBox, ctkCoordinatesWidget)
    },
    **NUMBER_WIDGETS,
}


def _no_such_name(name: str) -> Any:
    raise AttributeError(f"ctk has no {name!r} among the stand-ins (tests/slicer/standins/ctk_module.py)")


def install() -> types.ModuleType:
    """Makes the module `ctk` and returns it."""
    if "ctk" not in sys.modules:
        ctk = types.ModuleType("ctk", "Stand-in of Slicer's module ctk.")
        ctk.__dict__.update(WIDGETS, ctkWidgetsUtils=ctkWidgetsUtils)
        ctk.__getattr__ = _no_such_name  # type: ignore[method-assign]
        sys.modules["ctk"] = ctk
    return sys.modules["ctk"]
