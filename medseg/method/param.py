"""Parameters of a method: a pydantic model whose fields carry description, unit, limits and default."""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, InstanceOf, WithJsonSchema

from medseg.core.errors import ParameterError
from medseg.core.label_map import LabelMap

_AXES = 3
_POINT = "needs three numbers R,A,S in mm"
_LONGEST_GIVEN = 40


class MethodParams(BaseModel):
    """Base of every parameter model: frozen, unknown names refused, limits checked when built."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)


def _point(value: Any) -> Any:
    """Accept a sequence of three numbers or the text "R,A,S"."""
    parts = value.split(",") if isinstance(value, str) else value
    try:
        point = tuple(float(part) for part in parts)
    except (TypeError, ValueError) as err:
        raise ValueError(_POINT) from err
    if len(point) != _AXES:
        raise ValueError(_POINT)
    if not all(math.isfinite(part) for part in point):
        raise ValueError("needs three finite numbers R,A,S in mm")
    return point


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


Number = Annotated[float, pydantic.AfterValidator(_finite)]
PointRAS = Annotated[tuple[Number, Number, Number], BeforeValidator(_point)]
"""A point in the patient, RAS+ mm."""

LabelMapInput = Annotated[InstanceOf[LabelMap], WithJsonSchema({"type": "string", "format": "label-map"})]
"""A label map given as a value in Python and as a file everywhere else."""


def Field(default: Any = ..., *, description: str, unit: str = "", **limits: Any) -> Any:  # noqa: N802 - pydantic's own name
    """Describe one parameter: what it means, its unit, its limits (ge, le, gt, lt, min_length) and its default."""
    return pydantic.Field(default, description=description, json_schema_extra={"unit": unit}, **limits)


P = TypeVar("P", bound=MethodParams)


def build_params(model: type[P], method_name: str, values: Mapping[str, Any]) -> P:
    """Return the checked parameters of a method; raises ParameterError that names each fault in one line."""
    try:
        return model(**values)
    except pydantic.ValidationError as err:
        raise ParameterError(f"{method_name}: {_explain(model, err)}") from err


def _explain(model: type[MethodParams], err: pydantic.ValidationError) -> str:
    """Return every fault in our own words: where it is, what is needed, and what was given."""
    return "; ".join(_fault(model, fault) for fault in err.errors())


def _fault(model: type[MethodParams], fault: Any) -> str:
    name = str(fault["loc"][0]) if fault["loc"] else ""
    if fault["type"] == "missing" and name in model.model_fields:
        choices = _choices(model.model_fields[name].annotation)
        return f"{name} is required ({model.model_fields[name].description}{choices})"
    if fault["type"] == "extra_forbidden":
        return f"there is no parameter {name!r}; known: {', '.join(model.model_fields) or 'none'}"
    if not fault["loc"]:
        return str(fault["msg"]).removeprefix("Value error, ")
    where = " ".join([name, *(str(part + 1) for part in fault["loc"][1:] if isinstance(part, int))])
    given = _given(fault["input"])
    needs = _needs(fault)
    if needs.startswith("needs three"):
        return f"{where} ({given}): {needs}" if given else f"{where}: {needs}"
    return f"{where}: {needs} (given {given})" if given and given not in needs else f"{where}: {needs}"


def _needs(fault: Any) -> str:
    """Return what a value must be; a number that is not finite is said to be that before any limit."""
    kind, limits = str(fault["type"]), fault.get("ctx", {})
    value = fault["input"]
    if isinstance(value, float) and not math.isfinite(value) and kind != "value_error":
        return "must be a finite number"
    if kind in _LIMITS:
        return _LIMITS[kind].format(**{name: _plain(limit) for name, limit in limits.items()})
    if kind == "value_error":
        return str(fault["msg"]).removeprefix("Value error, ")
    return next((words for start, words in _KINDS.items() if kind.startswith(start)), "is not a value of this parameter")


_LIMITS = {
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "needs at least {min_length}",
    "too_long": "takes at most {max_length}",
    "literal_error": "must be one of {expected}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "string_too_short": "needs at least {min_length} characters",
    "string_too_long": "takes at most {max_length} characters",
}
_KINDS = {
    "float": "must be a number",
    "finite": "must be a finite number",
    "int": "must be a whole number",
    "bool": "must be true or false",
    "string": "must be text",
    "list": "must be a list",
    "tuple": "must be a list",
    "dict": "must be a table of names and values",
    "is_instance_of": "must be a label map",
}


def _plain(limit: Any) -> Any:
    """Return 0 for 0.0, and everything else as it is."""
    return f"{limit:g}" if isinstance(limit, float) else limit


def _given(value: Any) -> str:
    """Return a value as it was typed, cut where it is long; nothing for arrays, label maps and lists."""
    if not isinstance(value, (str, int, float)):
        return ""
    text = repr(value) if isinstance(value, str) else str(int(value) if isinstance(value, float) and value.is_integer() else value)
    return text if len(text) <= _LONGEST_GIVEN else text[:_LONGEST_GIVEN] + "…"


def _choices(annotation: Any) -> str:
    values = typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()
    return f": one of {', '.join(map(str, values))}" if values else ""
