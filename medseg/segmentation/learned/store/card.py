"""What a person should know about a model before using it, from its description or its place in a store."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medseg.core.segment import Segment
from medseg.segmentation.learned.store.find import DESCRIPTION_FILE, ModelFolder, locate_model, read_folder
from medseg.segmentation.learned.store.installed import InstalledModel, Origin, find_installed
from medseg.segmentation.learned.trained import ModelIdentity, TrainedModel

_NON_COMMERCIAL = re.compile(
    r"non[\s_-]?commercial|\bNC\b|-NC(-|$)|research[\s-]+(use[\s-]+)?only|academic[\s-]+(use[\s-]+)?only|not for commercial", re.IGNORECASE
)


@dataclass(frozen=True)
class ModelCard:
    """A model in facts: who it is, what it finds, size, where it lies and came from, and what its training says of it."""

    name: str
    identity: ModelIdentity
    segments: tuple[Segment, ...]
    bytes: int
    folder: Path
    origin: Origin | None = None
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def non_commercial(self) -> tuple[str, ...]:
        """Which of its licences (code, weights, data) do not allow commercial use, by their words."""
        return tuple(what for what, text in self.identity.licence.items() if is_non_commercial(text))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        identity = self.identity
        return {
            "name": self.name,
            "kind": identity.kind,
            "title": identity.title,
            "version": identity.version,
            "modality": identity.modality,
            "channels": list(identity.channels),
            "spacing_mm": [float(value) for value in identity.spacing_mm] if identity.spacing_mm else None,
            "segments": [segment.to_dict() for segment in self.segments],
            "licence": dict(identity.licence),
            "non_commercial": list(self.non_commercial),
            "intended_use": identity.intended_use,
            "sha256": identity.sha256,
            "bytes": self.bytes,
            "folder": str(self.folder),
            "origin": None
            if self.origin is None
            else {name: getattr(self.origin, name) for name in ("source", "sha256", "bytes", "added")},
            "training": dict(self.training),
        }


def is_non_commercial(licence: str) -> bool:
    """Say whether the words of a licence forbid commercial use; no other licence is promised to allow it.

    >>> is_non_commercial("CC-BY-NC-SA-4.0"), is_non_commercial("CC-BY-SA-4.0")
    (True, False)
    """
    return bool(_NON_COMMERCIAL.search(licence))


def card_of(name_or_path: str | os.PathLike[str], folders: Iterable[Path] = ()) -> ModelCard:
    """Return the card of a model by name or path; only models that are neither installed nor medseg's own are opened.

    Raises ModelError and its children.
    """
    stores = tuple(folders)
    installed = find_installed(os.fspath(name_or_path), stores)
    if installed is not None:
        return installed_card(installed)
    path = locate_model(name_or_path, stores)
    from medseg.segmentation.learned.loading import open_model
    from medseg.segmentation.learned.nnunet.converted import is_converted, open_converted

    if is_converted(path):
        model: TrainedModel = open_converted(path)
    elif (path / DESCRIPTION_FILE).is_file():
        return described_card(read_folder(path))
    else:
        model = open_model(path)
    return ModelCard(model.identity.name, model.identity, tuple(model.segments), _bytes_of(path), path)


def installed_card(model: InstalledModel) -> ModelCard:
    """Return the card of an installed model."""
    training = read_folder(model.root).description.training if model.identity.kind == "medseg" else {}
    return ModelCard(model.name, model.identity, model.segments, model.bytes, model.folder, model.origin, training)


def described_card(model: ModelFolder) -> ModelCard:
    """Return the card of a medseg model folder."""
    description = model.description
    weights = description.fold_weights
    identity = ModelIdentity(
        name=description.name,
        version=description.version,
        title=description.title,
        kind="medseg",
        sha256=weights[0].sha256
        if len(weights) == 1
        else hashlib.sha256("\n".join(entry.sha256 for entry in weights).encode()).hexdigest(),
        licence=description.licence.model_dump(),
        intended_use=description.intended_use,
        modality=description.modality,
        channels=description.channels,
        spacing_mm=description.spacing_mm,
    )
    size = sum(entry.bytes for entry in weights)
    return ModelCard(description.name, identity, description.label_segments(), size, model.path, None, description.training)


def _bytes_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
