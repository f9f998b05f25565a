"""Widgets that know the scene: selectors of nodes, tables, segments; they observe the real scene."""

from __future__ import annotations

from typing import Any, ClassVar

import shiboken6
import slicer
import vtk
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Signal

from standins.ctk_module import WIDGETS as CTK
from standins.ctk_numbers import ctkDoubleSpinBox, ctkRangeWidget, ctkSliderWidget
from standins.properties import qt_property, widget_class
from standins.pythonqt import read


def check_node(item: Any, node: Any, kind: str = "vtkMRMLNode") -> None:
    """C++ takes a node or None; anything else raises there too."""
    if node is not None and not (hasattr(node, "IsA") and node.IsA(kind)):
        raise ValueError(f"{type(item).__name__} takes a {kind} or None, not {type(node).__name__}")


class _WithScene:
    """mrmlScene(), setMRMLScene() and the signal."""

    def setMRMLScene(self, scene: Any) -> None:
        check = scene is None or scene.IsA("vtkMRMLScene")
        if not check:
            raise ValueError(f"{type(self).__name__}.setMRMLScene takes a scene")
        if scene is self.mrmlScene():
            return
        read(self, "__dict__")["_scene"] = scene
        self._scene_changed(scene)

    def mrmlScene(self) -> Any:
        return read(self, "__dict__").get("_scene")

    def _scene_changed(self, scene: Any) -> None:
        if hasattr(type(self), "mrmlSceneChanged"):
            self.mrmlSceneChanged.emit(scene)


class qMRMLWidget(_WithScene, QtWidgets.QWidget):
    """The base of module panels."""

    mrmlSceneChanged = Signal(object)
    VTK_SIGNALS: ClassVar[dict[str, str]] = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}


class qSlicerWidget(qMRMLWidget):
    """The same, of the application."""


class qMRMLNodeComboBox(_WithScene, QtWidgets.QWidget):
    """Selects a node of the scene; follows what is added, renamed and removed."""

    mrmlSceneChanged = Signal(object)
    currentNodeChanged = Signal(object)
    _validity_changed = Signal(bool)
    currentNodeIDChanged = Signal(str)
    nodeAddedByUser = Signal(object)
    nodeAdded = Signal(object)
    VTK_SIGNALS: ClassVar[dict[str, str]] = {
        "mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged",
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "currentNodeChanged(bool)": "_validity_changed",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser",
        "nodeAdded(vtkMRMLNode*)": "nodeAdded",
    }
    locals().update(qt_property(list, "nodeTypes", [], "", "_fill"))
    locals().update(qt_property(list, "hideChildNodeTypes", [], "", "_fill"))
    locals().update(qt_property(bool, "showHidden", False, "", "_fill"))
    locals().update(qt_property(bool, "showChildNodeTypes", True, "", "_fill"))
    locals().update(qt_property(bool, "noneEnabled", False, "", "_fill"))
    locals().update(qt_property(str, "noneDisplay", "None", "", "_fill"))
    locals().update(qt_property(str, "baseName", ""))
    locals().update(qt_property(bool, "addEnabled", True))
    locals().update(qt_property(bool, "removeEnabled", True))
    locals().update(qt_property(bool, "editEnabled", False))
    locals().update(qt_property(bool, "renameEnabled", False))
    locals().update(qt_property(bool, "selectNodeUponCreation", True))
    locals().update(qt_property(str, "interactionNodeSingletonTag", ""))

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._ids: list[str | None] = []
        self._current: str | None = None
        self._attributes: list[tuple[str, str, Any]] = []
        self._observed: list[tuple[Any, int]] = []
        self._combo = QtWidgets.QComboBox()
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)
        read(self._combo, "activated").connect(lambda index: self._select(self._ids[index]))
        self.setEnabled(False)  # until it has a scene

    def _scene_changed(self, scene: Any) -> None:
        for observed, tag in self._observed:
            observed.RemoveObserver(tag)
        self._observed = []
        if scene is not None:
            for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndBatchProcessEvent):
                self._observed.append((scene, scene.AddObserver(event, lambda *_arguments: self._fill())))
        self._fill()
        self.setEnabled(scene is not None)
        super()._scene_changed(scene)

    def _wanted(self, node: Any) -> bool:
        kinds = [kind for kind in self.nodeTypes if node.GetClassName() == kind or (self.showChildNodeTypes and node.IsA(kind))]
        if not kinds or any(node.IsA(kind) for kind in self.hideChildNodeTypes) or (node.GetHideFromEditors() and not self.showHidden):
            return False
        wanted = [(name, value) for kind, name, value in self._attributes if kind in kinds]
        return all(
            node.GetAttribute(name) is not None and (value is None or node.GetAttribute(name) == str(value)) for name, value in wanted
        )

    def nodes(self) -> list[Any]:
        scene = self.mrmlScene()
        every = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())] if scene else []
        return [node for node in every if self._wanted(node)]

    def _fill(self, _value: Any = None) -> None:
        if not shiboken6.isValid(self) or "_observed" not in self.__dict__ or not hasattr(self, "_combo"):
            return
        scene = self.mrmlScene()
        if scene is not None and scene.IsBatchProcessing():
            return  # the real one, too, waits for the end of closing and importing
        position = self._combo.currentIndex
        nodes = self.nodes()
        self._ids = ([None] if self.noneEnabled else []) + [node.GetID() for node in nodes]
        self._combo.clear()
        self._combo.addItems(([self.noneDisplay] if self.noneEnabled else []) + [node.GetName() for node in nodes])
        self._select(self._kept(position))

    def _kept(self, position: int) -> str | None:
        """What stays selected when the list changes: the same node; the one above a removed one; nothing where nothing was (an
        added node is not selected by itself)."""
        if self._current is None or self._current in self._ids or not self._ids:
            return self._current if self._current in self._ids else None
        return self._ids[min(len(self._ids) - 1, max(position - 1, 0))]

    def _select(self, node_id: str | None) -> None:
        self._combo.setCurrentIndex(self._ids.index(node_id) if node_id in self._ids else -1)
        if node_id == self._current:
            return
        self._current = node_id
        self.currentNodeChanged.emit(self.currentNode())
        self._validity_changed.emit(node_id is not None)
        self.currentNodeIDChanged.emit(node_id or "")

    def currentNode(self) -> Any:
        scene = self.mrmlScene()
        return scene.GetNodeByID(self._current) if scene and self._current else None

    def setCurrentNode(self, node: Any) -> None:
        if isinstance(node, str):
            self.setCurrentNodeID(node)
            return
        check_node(self, node)
        self.setCurrentNodeID(node.GetID() if node is not None else "")

    def setCurrentNodeID(self, node_id: str) -> None:
        self._fill()
        self._select(node_id if node_id in self._ids else None)

    currentNodeID = QtCore.Property(str, lambda self: self._current or "", setCurrentNodeID)

    def nodeCount(self) -> int:
        return len(self.nodes())

    def nodeFromIndex(self, index: int) -> Any:
        return self.nodes()[index]

    def addAttribute(self, kind: str, name: str, value: Any = None) -> None:
        self._attributes.append((kind, name, value))
        self._fill()

    def removeAttribute(self, kind: str, name: str) -> None:
        self._attributes = [entry for entry in self._attributes if entry[:2] != (kind, name)]
        self._fill()

    def addNode(self, kind: str = "") -> Any:
        """As the menu "Create new": makes and selects a node."""
        name = self.baseName or (kind or self.nodeTypes[0]).removeprefix("vtkMRML").removesuffix("Node")
        node = self.mrmlScene().AddNewNodeByClass(kind or self.nodeTypes[0], self.mrmlScene().GenerateUniqueName(name))
        self._fill()
        if self.selectNodeUponCreation:
            self._select(node.GetID())
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        self.mrmlScene().RemoveNode(self.currentNode())


class _ForSegmentation(_WithScene):
    """setSegmentationNode() and segmentationNode()."""

    def setSegmentationNode(self, node: Any) -> None:
        check_node(self, node, "vtkMRMLSegmentationNode")
        read(self, "__dict__")["_segmentation"] = node

    def segmentationNode(self) -> Any:
        return read(self, "__dict__").get("_segmentation")


class qMRMLSegmentsTableView(_ForSegmentation, QtWidgets.QWidget):
    """The list of segments: what is selected is told by IDs."""

    selectionChanged = Signal(object, object)
    VTK_SIGNALS: ClassVar[dict[str, str]] = {"selectionChanged(QItemSelection,QItemSelection)": "selectionChanged"}
    locals().update(qt_property(bool, "readOnly", False))
    locals().update(qt_property(int, "selectionMode", 1))

    def selectedSegmentIDs(self) -> tuple[str, ...]:
        return tuple(read(self, "__dict__").get("_selected", ()))

    def setSelectedSegmentIDs(self, ids: list[str]) -> None:
        read(self, "__dict__")["_selected"] = list(ids)
        self.selectionChanged.emit(None, None)


class qMRMLTableView(_WithScene, QtWidgets.QTableView):
    """Shows a table node."""

    def setMRMLTableNode(self, node: Any) -> None:
        check_node(self, node, "vtkMRMLTableNode")
        read(self, "__dict__")["_table"] = node

    def mrmlTableNode(self) -> Any:
        return read(self, "__dict__").get("_table")

    def setFirstRowLocked(self, _locked: bool) -> None: ...

    def setTransposed(self, _transposed: bool) -> None: ...


class qSlicerMarkupsPlaceWidget(_WithScene, QtWidgets.QWidget):
    """Places points by mouse: here `place` does what a click would do."""

    activeMarkupsFiducialPlaceModeChanged = Signal(bool)
    activeMarkupsPlaceModeChanged = Signal(bool)
    locals().update(qt_property(bool, "placeModeEnabled", False, "activeMarkupsPlaceModeChanged"))
    locals().update(qt_property(bool, "buttonsVisible", True))
    locals().update(qt_property(bool, "deleteAllControlPointsOptionVisible", True))
    locals().update(qt_property(int, "placeMultipleMarkups", 0))
    HidePlaceMultipleMarkupsOption, ShowPlaceMultipleMarkupsOption, ForcePlaceSingleMarkup, ForcePlaceMultipleMarkups = range(4)

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._node: Any = None
        self._place_button = QtWidgets.QToolButton()
        layout = QtWidgets.QHBoxLayout(self)
        layout.addWidget(self._place_button)

    def setCurrentNode(self, node: Any) -> None:
        check_node(self, node, "vtkMRMLMarkupsNode")
        self._node = node

    def currentNode(self) -> Any:
        return self._node

    def placeButton(self) -> QtWidgets.QToolButton:
        return self._place_button

    def setNodeColor(self, _color: Any) -> None: ...


def _number_widget(name: str, base: type) -> type:
    return type(base)(
        name,
        (_WithScene, base),
        {"__module__": __name__, **qt_property(str, "quantity", ""), **qt_property(int, "unitAwareProperties", 31)},
    )


qMRMLSliderWidget = _number_widget("qMRMLSliderWidget", ctkSliderWidget)
qMRMLRangeWidget = _number_widget("qMRMLRangeWidget", ctkRangeWidget)
qMRMLSpinBox = _number_widget("qMRMLSpinBox", ctkDoubleSpinBox)
qMRMLSpinBox.Precision, qMRMLSpinBox.Prefix, qMRMLSpinBox.Suffix, qMRMLSpinBox.MinimumValue, qMRMLSpinBox.MaximumValue = 1, 2, 4, 8, 16  # type: ignore[attr-defined]

_mixed = type(QtWidgets.QWidget)
WIDGETS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        qMRMLWidget,
        qSlicerWidget,
        qMRMLNodeComboBox,
        qMRMLSegmentsTableView,
        qMRMLTableView,
        qSlicerMarkupsPlaceWidget,
        qMRMLSliderWidget,
        qMRMLRangeWidget,
        qMRMLSpinBox,
        _mixed("qMRMLCollapsibleButton", (_WithScene, CTK["ctkCollapsibleButton"]), {"__module__": __name__}),
        _mixed("qMRMLSegmentationShow3DButton", (_ForSegmentation, CTK["ctkMenuButton"]), {"__module__": __name__}),
        widget_class("qMRMLCheckableNodeComboBox", qMRMLNodeComboBox, {}),
    )
}


def install() -> None:
    """Shows the widgets in `slicer`."""
    for name, kind in WIDGETS.items():
        setattr(slicer, name, kind)
    if not hasattr(slicer, "mrmlScene") or not isinstance(slicer.mrmlScene, vtk.vtkObject):
        raise RuntimeError("the scene comes before the widgets")
