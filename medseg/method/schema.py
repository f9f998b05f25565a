"""The description of a method as data: for `medseg methods --json`, command-line flags, docs and widgets."""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

from pydantic_core import PydanticUndefined

from medseg.core.label_map import LabelMap
from medseg.method.method import Method
from medseg.method.param import MethodParams

SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}  # how the limits of a parameter are shown to people


@dataclass(frozen=True)
class ParameterInfo:
    """One parameter as an interface shows it.

    `kind` is one of number, integer, boolean, choice, text, point, label-map; `is_list` means it may be given repeatedly.
    """

    name: str
    kind: str
    description: str
    unit: str
    required: bool
    default: Any
    is_list: bool
    choices: tuple[Any, ...]
    limits: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "name": self.name,
            "kind": self.kind,
            "description": self.description,
            "unit": self.unit,
            "required": self.required,
            "default": self.default,
            "is_list": self.is_list,
            "choices": list(self.choices),
            "limits": self.limits,
        }


def parameters_of(model: type[MethodParams]) -> list[ParameterInfo]:
    """Describe every field of a parameter model in its order."""
    return [_describe(name, field) for name, field in model.model_fields.items()]


def describe(method: Method) -> dict[str, Any]:
    """Return the JSON form of a method: name, stage, summary, reference, parameters and JSON Schema."""
    return {
        "name": method.name,
        "stage": method.stage.value,
        "summary": method.summary,
        "description": method.description,
        "reference": method.reference,
        "several_volumes": method.several,
        "parameters": [info.to_dict() for info in parameters_of(method.params)],
        "json_schema": method.params.model_json_schema(),
    }


def _describe(name: str, field: Any) -> ParameterInfo:
    annotation = _without_none(field.annotation)
    is_list = typing.get_origin(annotation) is list
    inner = _without_annotated(typing.get_args(annotation)[0]) if is_list else _without_annotated(annotation)
    choices = typing.get_args(inner) if typing.get_origin(inner) is Literal else ()
    limits = {
        key: float(getattr(rule, key))
        for rule in field.metadata
        for key in ("ge", "gt", "le", "lt")
        if getattr(rule, key, None) is not None
    }
    default = None if field.is_required() or field.default is PydanticUndefined else field.default
    return ParameterInfo(
        name=name,
        kind="choice" if choices else _kind(inner),
        description=field.description or "",
        unit=(field.json_schema_extra or {}).get("unit", ""),
        required=field.is_required(),
        default=default,
        is_list=is_list,
        choices=choices,
        limits=limits,
    )


def _without_none(annotation: Any) -> Any:
    annotation = _without_annotated(annotation)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        rest = [arg for arg in typing.get_args(annotation) if arg is not type(None)]
        return _without_annotated(rest[0])
    return annotation


def _without_annotated(annotation: Any) -> Any:
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    return annotation


def _kind(annotation: Any) -> str:
    if typing.get_origin(annotation) is tuple:
        return "point"
    kinds: dict[Any, str] = {float: "number", int: "integer", bool: "boolean", str: "text", LabelMap: "label-map"}
    return kinds.get(annotation, "text")
