"""A list of models somebody vouches for: where each lies, what it hashes to, and under which licence it may be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from medseg.core.errors import IncompatibleModelError, ModelNotFoundError
from medseg.segmentation.learned.description import MODEL_NAME
from medseg.segmentation.learned.store.download import is_url
from medseg.segmentation.learned.store.durable import read_json

REGISTRY_SCHEMA = "medseg.model-registry/1"


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RegisteredModel(_Entry):
    """One model: an http(s) `url`, or a `file` beside the registry; SHA-256 and size of it; licence of the weights."""

    name: str = Field(pattern=f"^{MODEL_NAME.pattern}$")
    title: str = ""
    url: str | None = None
    file: str | None = None
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=1)
    licence: str = Field(min_length=1)
    intended_use: str = Field(min_length=1)

    @pydantic.model_validator(mode="after")
    def _one_place(self) -> RegisteredModel:
        if (self.url is None) == (self.file is None):
            raise ValueError("give either url or file")
        if self.url is not None and not is_url(self.url):
            raise ValueError("url must begin with http:// or https://")
        return self

    def source(self, folder: Path) -> str:
        """Return the address, or the path of the file beside the registry in `folder`."""
        return self.url if self.url is not None else str(folder / (self.file or ""))


class Registry(_Entry):
    """The file: its schema and its models."""

    schema_: Literal["medseg.model-registry/1"] = Field(alias="schema")
    models: tuple[RegisteredModel, ...]

    @pydantic.model_validator(mode="after")
    def _once(self) -> Registry:
        names = [model.name for model in self.models]
        if len(set(names)) != len(names):
            raise ValueError("two models have one name")
        return self


def read_registry(path: Path) -> Registry:
    """Return a checked registry; raises ModelNotFoundError, IncompatibleModelError.

    A folder with a registry and the archives beside it (`file`) serves machines without a network.
    """
    try:
        entries: dict[str, Any] = read_json(path)
    except OSError as err:
        raise ModelNotFoundError(f"{path} cannot be read: {err.strerror}") from err
    except (ValueError, RecursionError) as err:
        raise IncompatibleModelError(f"{path} is no JSON file of a registry") from err
    try:
        return Registry(**entries)
    except pydantic.ValidationError as err:
        faults = [f"{'.'.join(str(part) for part in fault['loc']) or 'registry'}: {fault['msg']}" for fault in err.errors()[:5]]
        raise IncompatibleModelError(f"{path} is no registry of models ({REGISTRY_SCHEMA}): {'; '.join(faults)}") from err


def registered(name: str, path: Path) -> RegisteredModel:
    """Return one model of a registry by name; raises ModelNotFoundError naming those it has."""
    models = read_registry(path).models
    for model in models:
        if model.name == name:
            return model
    raise ModelNotFoundError(f"{path} has no model {name!r}; it has {', '.join(sorted(model.name for model in models)) or 'none'}")
