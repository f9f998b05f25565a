"""How the parameter node wrapper keeps typed values in a node's text parameters, in the same form as Slicer does."""

from __future__ import annotations

import enum
import pathlib
import types
import typing
from typing import Any

import slicer


class Default:
    """Annotation: the value before anyone sets one."""

    def __init__(self, value: Any = None, *, generator: Any = None) -> None:
        self._value, self._generator = value, generator

    @property
    def value(self) -> Any:
        return self._generator() if self._generator else self._value


class Decimals:
    """Annotation for widgets: digits after the point."""

    def __init__(self, value: int) -> None:
        self.value = value


class SingleStep:
    """Annotation for widgets: one step."""

    def __init__(self, value: float) -> None:
        self.value = value


class Validator:
    """Base of the annotations that refuse values."""

    def validate(self, value: Any) -> None:
        raise NotImplementedError


class NotNone(Validator):
    def validate(self, value: Any) -> None:
        if value is None:
            raise ValueError("Value must not be None")


class WithinRange(Validator):
    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value: Any) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within range [{self.minimum}, {self.maximum}], is {value}")


class Minimum(Validator):
    def __init__(self, minimum: float) -> None:
        self.minimum = minimum

    def validate(self, value: Any) -> None:
        if value < self.minimum:
            raise ValueError(f"Value must be at least {self.minimum}, is {value}")


class Maximum(Validator):
    def __init__(self, maximum: float) -> None:
        self.maximum = maximum

    def validate(self, value: Any) -> None:
        if value > self.maximum:
            raise ValueError(f"Value must be at most {self.maximum}, is {value}")


class Choice(Validator):
    def __init__(self, choices: list[Any]) -> None:
        self.choices = choices

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"Value is {value}, but must be in one of the following: {self.choices}")


class Exclude(Validator):
    def __init__(self, excludedValues: list[Any]) -> None:
        self.excludedValues = excludedValues

    def validate(self, value: Any) -> None:
        if value in self.excludedValues:
            raise ValueError(f"Value is {value}, but must not be one of {self.excludedValues}")


class _IsInstance(Validator):
    def __init__(self, *kinds: type) -> None:
        self.kinds = kinds

    def validate(self, value: Any) -> None:
        if value is not None and not isinstance(value, self.kinds):
            raise TypeError(f"Value must be of type {self.kinds[0].__name__}, is {type(value).__name__}: {value!r}")


class Text:
    """A value kept as text: bool, int, float, str, Path, Enum."""

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def default(self) -> Any:
        return next(iter(self.kind)) if issubclass(self.kind, enum.Enum) else self.kind()

    def validators(self) -> list[Validator]:
        return [NotNone(), _IsInstance(float, int) if self.kind is float else _IsInstance(self.kind)]

    def present(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(name))

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, value.name if isinstance(value, enum.Enum) else str(value))

    def read(self, node: Any, name: str) -> Any:
        text = node.GetParameter(name)
        if self.kind is bool:
            return text == "True"
        return self.kind[text] if issubclass(self.kind, enum.Enum) else self.kind(text)  # type: ignore[index]


class Node(Text):
    """A reference to a node of the scene; None is a value."""

    def default(self) -> Any:
        return None

    def validators(self) -> list[Validator]:
        return [_IsInstance(self.kind)]

    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, "")  # that it is set at all: None is a value too
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node: Any, name: str) -> Any:
        return node.GetNodeReference(name)


class Sequence(Text):
    """A list: its length and its elements one by one."""

    def __init__(self, element: Text) -> None:
        super().__init__(list)
        self.element = element

    def validators(self) -> list[Validator]:
        return [NotNone()]

    def present(self, node: Any, name: str) -> bool:
        return bool(node.HasParameter(f"{name}.len"))

    def write(self, node: Any, name: str, values: Any) -> None:
        values = list(values)
        for value in values:
            for validator in self.element.validators():
                validator.validate(value)
        node.SetParameter(f"{name}.len", str(len(values)))
        for index, value in enumerate(values):
            self.element.write(node, f"{name}.{index}", value)

    def read(self, node: Any, name: str) -> Any:
        return ObservedList(
            node, name, self, [self.element.read(node, f"{name}.{index}") for index in range(int(node.GetParameter(f"{name}.len")))]
        )


class ObservedList(list):  # type: ignore[type-arg]
    """A list that writes itself back when it is changed."""

    def __init__(self, node: Any, name: str, kind: Sequence, values: list[Any]) -> None:
        super().__init__(values)
        self._write = lambda: kind.write(node, name, self)


def _saving(name: str) -> Any:
    def change(self: ObservedList, *arguments: Any) -> Any:
        result = getattr(list, name)(self, *arguments)
        self._write()
        return result

    return change


for _name in ("append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse", "__setitem__", "__delitem__", "__iadd__"):
    setattr(ObservedList, _name, _saving(_name))


def kind_of(hint: Any) -> Text:
    """The keeper of a type; a type that these stand-ins do not know raises."""
    if hint in (bool, int, float, str) or (isinstance(hint, type) and issubclass(hint, (enum.Enum, pathlib.PurePath))):
        return Text(hint)
    if isinstance(hint, type) and issubclass(hint, slicer.vtkMRMLNode):
        return Node(hint)
    if typing.get_origin(hint) is list or hint is list:
        return Sequence(kind_of((typing.get_args(hint) or (str,))[0]))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [part for part in typing.get_args(hint) if part is not type(None)]
        if all(isinstance(part, type) and issubclass(part, slicer.vtkMRMLNode) for part in inner):
            return Node(inner[0]) if len(inner) == 1 else Node(slicer.vtkMRMLNode)
    raise TypeError(
        f"the stand-in of parameterNodeWrapper keeps no {hint}: bool, int, float, str, Path, Enum, node types and lists of these"
    )
