"""`slicer.parameterNodeWrapper`: a class with typed members over a parameter node, joined with widgets both ways."""

from __future__ import annotations

import pathlib
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

import slicer
import slicer.util
import vtk
from PySide6 import QtWidgets

from standins import parameter_values as values
from standins.parameter_values import Choice, Default, Maximum, Minimum, Text, Validator, WithinRange, kind_of

PROPERTY = "SlicerParameterName"
RESERVED = ("default", "getValue", "setValue", "connectGui", "connectParametersToGui", "disconnectGui", "dataType", "isCached")
# class of a widget → property and signal; only exactly these classes, as in Slicer
BOOLEAN = {
    "QCheckBox": ("checked", "toggled(bool)"),
    "ctkCheckBox": ("checked", "toggled(bool)"),
    "QPushButton": ("checked", "toggled(bool)"),
}
INTEGER = {"QSpinBox": ("value", "valueChanged(int)"), "QSlider": ("value", "valueChanged(int)")}
NUMBER = dict.fromkeys(
    ("QDoubleSpinBox", "ctkSliderWidget", "qMRMLSliderWidget", "ctkDoubleSlider", "ctkDoubleSpinBox", "qMRMLSpinBox"),
    ("value", "valueChanged(double)"),
)
TEXT = {"QLineEdit": ("text", "textChanged(QString)"), "QLabel": ("text", ""), "QTextEdit": ("plainText", "textChanged()")}
PATH = {"ctkPathLineEdit": ("currentPath", "currentPathChanged(QString)"), "ctkDirectoryButton": ("directory", "directoryChanged(QString)")}
CHOICES = ("QComboBox", "ctkComboBox")
BOUNDED_WIDGETS = ("QSlider", "ctkSliderWidget", "qMRMLSliderWidget")


class Parameter:
    """One member: how it is kept, its default and what it refuses."""

    def __init__(self, name: str, hint: Any, owner: type) -> None:
        annotations = list(typing.get_args(hint)[1:]) if typing.get_origin(hint) is typing.Annotated else []
        self.name, self.hint = name, hint
        self.kind: Text = kind_of(typing.get_args(hint)[0] if annotations else hint)
        self.annotations = annotations
        self.validators = [*self.kind.validators(), *(entry for entry in annotations if isinstance(entry, Validator))]
        given = next((entry for entry in annotations if isinstance(entry, Default)), None)
        assigned = owner.__dict__.get(name, self)
        self.default = Default(assigned) if assigned is not self else given or Default(generator=self.kind.default)

    def read(self, node: Any) -> Any:
        if not self.kind.present(node, self.name):
            self.write(node, self.default.value)
        return self.kind.read(node, self.name)

    def write(self, node: Any, value: Any) -> None:
        for validator in self.validators:
            validator.validate(value)
        self.kind.write(node, self.name, value)

    def bounds(self) -> tuple[float | None, float | None]:
        low = next((entry.minimum for entry in self.annotations if isinstance(entry, (WithinRange, Minimum))), None)
        high = next((entry.maximum for entry in self.annotations if isinstance(entry, (WithinRange, Maximum))), None)
        return low, high


class Connector:
    """A widget that shows one parameter."""

    def __init__(self, widget: Any, parameter: Parameter) -> None:
        self.widget, self.parameter = widget, parameter
        self.name = str(widget.className())
        self.kind = parameter.kind.kind
        self.property, self.signal = self._plan()
        self._callback: Callable[[], None] | None = None

    def _plan(self) -> tuple[str, str]:
        is_path = isinstance(self.kind, type) and issubclass(self.kind, pathlib.PurePath)
        tables = (
            (self.kind is bool, BOOLEAN),
            (self.kind is int, INTEGER),
            (self.kind in (int, float), NUMBER),
            (self.kind is str, TEXT),
            (is_path, PATH),
        )
        for fits, table in tables:
            if fits and self.name in table:
                if table in (INTEGER, NUMBER):
                    self._bound()
                return table[self.name]
        if isinstance(self.parameter.kind, values.Node) and self.name == "qMRMLNodeComboBox":
            self.widget.nodeTypes = [self.kind.__name__]
            return "node", "currentNodeChanged(vtkMRMLNode*)"
        if self.name in CHOICES:
            self._fill()
            return "choice", "currentIndexChanged(int)"
        raise RuntimeError(f"Unable to create GUI connector from datatype '{self.parameter.hint}' to widget type '{self.name}'.")

    def _bound(self) -> None:
        low, high = self.parameter.bounds()
        if self.name in BOUNDED_WIDGETS and (low is None or high is None):
            raise RuntimeError(f"Cannot have a connection to {self.name} where the type is unbounded.")
        if self.kind is int and self.name in NUMBER:
            self.widget.decimals = 0
        extreme = 2**31 - 1 if self.name in INTEGER else float("inf")
        self.widget.minimum = low if low is not None else -extreme
        self.widget.maximum = high if high is not None else extreme
        for entry in self.parameter.annotations:
            if isinstance(entry, values.Decimals) and self.name in NUMBER:
                self.widget.decimals = entry.value
            if isinstance(entry, values.SingleStep):
                self.widget.singleStep = entry.value

    def _fill(self) -> None:
        choice = next((entry for entry in self.parameter.annotations if isinstance(entry, Choice)), None)
        if choice is None and not hasattr(self.kind, "__members__"):
            raise RuntimeError("ComboBoxToStringableConnector requires the Choice annotation to be used.")
        if choice is not None:
            self.choices = [(str(value), value) for value in choice.choices]
        else:
            label = getattr(self.kind, "label", lambda entry: entry.name)
            self.choices = [(label(entry), entry) for entry in self.kind]  # type: ignore[attr-defined]
        self.widget.clear()
        self.widget.addItems([text for text, _ in self.choices])

    def read(self) -> Any:
        if self.property == "node":
            return self.widget.currentNode()
        if self.property == "choice":
            return self.choices[self.widget.currentIndex][1]
        value = getattr(self.widget, self.property)
        return value if self.kind is bool else self.kind(value)

    def write(self, value: Any) -> None:
        if self.property == "node":
            self.widget.setCurrentNode(value)
        elif self.property == "choice":
            self.widget.currentIndex = [entry for _, entry in self.choices].index(value)
        else:
            shown = str(value) if isinstance(value, pathlib.PurePath) else value
            if getattr(self.widget, self.property) != shown:
                setattr(self.widget, self.property, shown)

    def on_changed(self, callback: Callable[[], None] | None) -> None:
        if self.signal and callback is not None:
            self._callback = callback
            self.widget.connect(self.signal, self._changed)
        elif self.signal:
            self.widget.disconnect(self.signal, self._changed)

    def _changed(self) -> None:
        if self._callback is not None:
            self._callback()


class _Wrapper:
    """The members that every wrapper has."""

    allParameters: typing.ClassVar[dict[str, Parameter]] = {}
    parameterNode: Any

    def _begin(self, parameterNode: Any, prefix: str | None = None) -> None:
        if parameterNode is None:
            raise AssertionError("a parameter node wrapper needs a node")
        if prefix:
            raise NotImplementedError("the stand-in of parameterNodeWrapper takes no prefix")
        self.parameterNode = parameterNode
        self._joined: dict[int, tuple[list[tuple[str, Connector]], int]] = {}
        self._updating = False
        for parameter in self.allParameters.values():
            if not parameter.kind.present(parameterNode, parameter.name):
                parameter.write(parameterNode, parameter.default.value)

    def _known(self, name: str) -> Parameter:
        if name not in self.allParameters:
            raise ValueError(f"Cannot find a param with the given name: {name}; found {', '.join(self.allParameters)}")
        return self.allParameters[name]

    def default(self, name: str) -> Default:
        return self._known(name).default

    def dataType(self, name: str) -> Any:
        return self._known(name).hint

    def getValue(self, name: str) -> Any:
        return self._known(name).read(self.parameterNode)

    def setValue(self, name: str, value: Any) -> None:
        self._known(name).write(self.parameterNode, value)

    def connectGui(self, gui: Any) -> None:
        """As in Slicer no tag comes back, so that what was joined here can never be parted: use connectParametersToGui."""
        widgets = gui.findChildren(QtWidgets.QWidget) if isinstance(gui, QtWidgets.QWidget) else list(vars(gui).values())
        named = {widget.property(PROPERTY): widget for widget in widgets if widget.property(PROPERTY)}
        self.connectParametersToGui(named)

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        connectors = [(name, Connector(widget, self._known(name))) for name, widget in mapping.items()]
        tag = max(self._joined, default=-1) + 1
        for name, connector in connectors:
            connector.write(self.getValue(name))
            connector.on_changed(self._from_widget(name, connector))
        observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_arguments: self._to_widgets())
        self._joined[tag] = (connectors, observer)
        return tag

    def _from_widget(self, name: str, connector: Connector) -> Callable[[], None]:
        def changed() -> None:
            if not self._updating:
                with slicer.util.NodeModify(self):
                    self.setValue(name, connector.read())

        return changed

    def _to_widgets(self) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            for connectors, _ in self._joined.values():
                for name, connector in connectors:
                    connector.write(self.getValue(name))
        finally:
            self._updating = False

    def disconnectGui(self, tag: int) -> None:
        if tag in self._joined:
            connectors, observer = self._joined.pop(tag)
            for _, connector in connectors:
                connector.on_changed(None)
            self.RemoveObserver(observer)

    def StartModify(self) -> Any:
        return self.parameterNode.StartModify()

    def EndModify(self, was_modifying: Any) -> None:
        self.parameterNode.EndModify(was_modifying)

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()


def _member(name: str) -> property:
    return property(lambda self: self.getValue(name), lambda self, value: self.setValue(name, value))


def parameterNodeWrapper(classtype: Any = None) -> Any:
    """Class decorator: the annotated members become typed parameters of the node given to the constructor."""
    if classtype is None:
        return parameterNodeWrapper
    parameters = {name: Parameter(name, hint, classtype) for name, hint in typing.get_type_hints(classtype, include_extras=True).items()}
    for name in [*RESERVED, "allParameters"]:
        if name in parameters or name in classtype.__dict__:
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
    for name, value in vars(_Wrapper).items():
        if not name.startswith("__"):
            setattr(classtype, name, value)
    for name in parameters:
        setattr(classtype, name, _member(name))
    classtype.allParameters = parameters
    classtype.__init__ = _Wrapper._begin
    classtype._is_parameter_node_wrapper = True
    return classtype


def findChildWidgetForParameter(widget: Any, parameter: str) -> Any:
    """The child of a widget that shows the parameter; None where there is none."""
    return next((child for child in widget.findChildren(QtWidgets.QWidget) if child.property(PROPERTY) == parameter), None)


def install() -> None:
    """Makes `slicer.parameterNodeWrapper`."""
    module = types.ModuleType("slicer.parameterNodeWrapper")
    offered = ("Default", "Decimals", "SingleStep", "Validator", "NotNone", "WithinRange", "Minimum", "Maximum", "Choice", "Exclude")
    public: dict[str, Any] = {name: getattr(values, name) for name in offered}
    public.update(
        parameterNodeWrapper=parameterNodeWrapper,
        findChildWidgetForParameter=findChildWidgetForParameter,
        SlicerParameterNamePropertyName=PROPERTY,
        isParameterNodeWrapper=lambda item: getattr(item, "_is_parameter_node_wrapper", False),
    )
    module.__dict__.update(public, __all__=list(public))
    sys.modules["slicer.parameterNodeWrapper"] = module
    slicer.parameterNodeWrapper = module
