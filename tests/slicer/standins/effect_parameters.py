"""The parameters of Segment Editor effects: attributes of the editor's node, as in C++."""

from __future__ import annotations

from typing import Any

import slicer
from PySide6 import QtCore

from standins.errors import failures
from standins.widgets_mrml import check_node


def _plain(value: Any) -> str:
    # QString::number: six significant digits, no point behind whole numbers
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"a parameter of an effect is a text, an int or a float, not {type(value).__name__}")
    return f"{value:g}" if isinstance(value, float) else str(value)


class EffectParameters(QtCore.QObject):
    """Parameters of effects: attributes of the segment editor node, with the effect's name in front."""

    def _node_or_none(self) -> Any:
        raise NotImplementedError

    def _prefixed(self, name: str) -> str:
        return f"{self.name}.{name}"

    def parameter(self, name: str) -> str:
        node = self._node_or_none()
        if node is None:
            return ""
        value = node.GetAttribute(self._prefixed(name))
        value = node.GetAttribute(name) if value is None else value
        if value is None:
            failures.add(f"Parameter named {name} cannot be found for effect {self.name}")
            return ""
        return str(value)

    def integerParameter(self, name: str) -> int:
        try:
            return int(self.parameter(name))
        except ValueError:
            failures.add(f"Parameter named {name} cannot be converted to integer")
            return 0

    def doubleParameter(self, name: str) -> float:
        try:
            return float(self.parameter(name))
        except ValueError:
            failures.add(f"Parameter named {name} cannot be converted to floating point number")
            return 0.0

    def parameterDefined(self, name: str) -> bool:
        return self.commonParameterDefined(self._prefixed(name))

    def commonParameterDefined(self, name: str) -> bool:
        node = self._node_or_none()
        return node is not None and bool(node.GetAttribute(name))

    def setParameter(self, name: str, value: Any) -> None:
        self.setCommonParameter(self._prefixed(name), value)

    def setCommonParameter(self, name: str, value: Any) -> None:
        node = self._node_or_none()
        text = _plain(value)
        if node is None:
            failures.add(f"no segment editor node is set to effect {self.name}")
            return
        if (node.GetAttribute(name) or "") == text:
            return
        before = node.GetDisableModifiedEvent()
        node.SetDisableModifiedEvent(1)
        node.SetAttribute(name, text)
        node.SetDisableModifiedEvent(before)
        node.InvokeCustomModifiedEvent(slicer.vtkMRMLSegmentEditorNode.EffectParameterModified)

    def setParameterDefault(self, name: str, value: Any) -> None:
        if not self.parameterDefined(name):
            self.setParameter(name, value)

    def setCommonParameterDefault(self, name: str, value: Any) -> None:
        if not self.commonParameterDefined(name):
            self.setCommonParameter(name, value)

    def nodeReference(self, name: str) -> Any:
        node = self._node_or_none()
        return None if node is None else node.GetNodeReference(self._prefixed(name)) or node.GetNodeReference(name)

    def setNodeReference(self, name: str, node: Any) -> None:
        self.setCommonNodeReference(self._prefixed(name), node)

    def setCommonNodeReference(self, name: str, node: Any) -> None:
        check_node(self, node)
        owner = self._node_or_none()
        if owner is not None and owner.GetNodeReference(name) is not node:
            owner.SetNodeReferenceID(name, node.GetID() if node is not None else None)
            owner.InvokeCustomModifiedEvent(slicer.vtkMRMLSegmentEditorNode.EffectParameterModified)
