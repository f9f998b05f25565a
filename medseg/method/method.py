"""A method: a function with a parameter model, a stage and a source."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from medseg.core.errors import GeometryMismatchError, MethodError, ParameterError
from medseg.core.volume import Volume
from medseg.method.param import MethodParams, build_params
from medseg.method.settings import RunSettings


class Stage(str, Enum):
    """Where in the flow a method stands."""

    PREPROCESS = "preprocess"
    SEGMENT = "segment"
    POSTPROCESS = "postprocess"


@dataclass(frozen=True)
class Method:
    """A described function: Volume → Volume (preprocess), Volume → LabelMap (segment) or LabelMap → LabelMap (postprocess).

    The function takes its subject and its parameters, and, where it names them, `settings` (device, progress) and
    `volume` (a postprocess method that looks at intensities). With `several` it also takes a tuple of volumes on one grid,
    the channels of one scan (T1, T2, FLAIR).
    """

    name: str
    stage: Stage
    function: Callable[..., Any]
    params: type[MethodParams]
    reference: str = ""
    accepts: frozenset[str] = frozenset()
    several: bool = False

    @property
    def summary(self) -> str:
        """The first sentence of the docstring."""
        return (inspect.getdoc(self.function) or "").split("\n\n")[0].replace("\n", " ")

    @property
    def description(self) -> str:
        """The whole docstring."""
        return inspect.getdoc(self.function) or ""

    def build(self, values: Mapping[str, Any]) -> MethodParams:
        """Return checked parameters; raises ParameterError."""
        return build_params(self.params, self.name, values)

    def __call__(self, subject: Any, params: MethodParams, *, settings: RunSettings | None = None, volume: Any = None) -> Any:
        """Run the method on a volume (or, with `several`, a sequence of them on one grid) or label map with checked parameters."""
        extras: dict[str, Any] = {}
        if "settings" in self.accepts:
            extras["settings"] = settings or RunSettings()
        if "volume" in self.accepts:
            extras["volume"] = volume
        return self.function(self._channels(subject) if isinstance(subject, (tuple, list)) else subject, params, **extras)

    def _channels(self, volumes: Sequence[Volume]) -> Volume | tuple[Volume, ...]:
        """Return the channels of one scan after comparing their grids; a single one stands for itself."""
        if not volumes:
            raise ParameterError(f"{self.name}: no scan was given")
        if len(volumes) == 1:
            return volumes[0]
        if not self.several:
            raise ParameterError(f"{self.name} works on one scan, {len(volumes)} were given")
        first = volumes[0].geometry
        for number, volume in enumerate(volumes[1:], 2):
            if not volume.geometry.matches(first):
                raise GeometryMismatchError(
                    f"scan {number} of {len(volumes)} lies on another grid than the first: channels of one scan need one grid; "
                    "register and resample it onto the first before",
                    first,
                    volume.geometry,
                )
        return tuple(volumes)


F = typing.TypeVar("F", bound=Callable[..., Any])


def method(name: str, *, stage: Stage, reference: str = "", several: bool = False) -> Callable[[F], Method]:
    """Turn a function `(subject, params, ...)` into a Method; its `params` annotation is the parameter model.

    `reference` names the source of the algorithm (a DOI, or the section of a standard); `several` says that the function
    takes a tuple of volumes too.
    """

    def describe(function: F) -> Method:
        hints = typing.get_type_hints(function)
        parameters = list(inspect.signature(function).parameters)
        model = hints.get("params")
        if model is None or not issubclass(model, MethodParams):
            raise MethodError(f"method {name!r}: its function needs an argument `params` annotated with a MethodParams class")
        return Method(name, stage, function, model, reference, frozenset(parameters[2:]), several)

    return describe
