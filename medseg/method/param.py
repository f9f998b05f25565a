"""Parameters of a method: a pydantic model whose fields carry description, unit, limits and default."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, InstanceOf, WithJsonSchema

from medseg.core.errors import ParameterError
from medseg.core.label_map import LabelMap


class MethodParams(BaseModel):
    """Base of every parameter model: frozen, unknown names refused, limits checked when built."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


def _point(value: Any) -> Any:
    """Accept a sequence of three numbers or the text "R,A,S"."""
    if isinstance(value, str):
        value = value.split(",")
    try:
        return tuple(float(v) for v in value)
    except TypeError as err:
        raise ValueError("a point is three numbers R,A,S in mm; several points are a list of such triples") from err


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
    faults = []
    for fault in err.errors():
        name = ".".join(str(part) for part in fault["loc"]) or "parameters"
        if fault["type"] == "missing" and name in model.model_fields:
            faults.append(f"{name} is required ({model.model_fields[name].description})")
        elif fault["type"] == "extra_forbidden":
            faults.append(f"there is no parameter {name!r}; known: {', '.join(model.model_fields) or 'none'}")
        else:
            message = fault["msg"].removeprefix("Value error, ")
            faults.append(f"{name}: {message}" if fault["loc"] else message)
    return "; ".join(faults)
