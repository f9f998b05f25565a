"""VISTA3D as MONAI's Model Zoo gives it out: a bundle folder, read as data; nothing in it is run."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pydantic

from medseg.core.errors import IncompatibleModelError, ModelNotFoundError
from medseg.segmentation.learned.prompt.description import VistaDescription

METADATA_FILE = Path("configs") / "metadata.json"
CHECKPOINTS = ("model.safetensors", "model.pt")
_METADATA_LIMIT = 4 << 20
_NO_NAME = re.compile(r"[^a-z0-9._-]+")


def is_vista_bundle(folder: Path) -> bool:
    """Whether a folder is a bundle whose metadata call it VISTA3D."""
    try:
        return "vista3d" in str(_metadata(folder).get("name", "")).lower().replace("-", "")
    except (OSError, ValueError, RecursionError):
        return False


def describe_bundle(folder: Path) -> tuple[VistaDescription, Path]:
    """Return the description that the metadata of a VISTA3D bundle give, and the file of its weights.

    Raises IncompatibleModelError for metadata that say too little, ModelNotFoundError without weights.
    """
    metadata = _metadata(folder)
    files = [folder / "models" / name for name in CHECKPOINTS]
    weights = next((file for file in files if file.is_file()), None)
    if weights is None:
        raise ModelNotFoundError(f"{folder} holds no weights: put {' or '.join(CHECKPOINTS)} into its folder models")
    try:
        outputs = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
        classes = {int(number): str(name) for number, name in outputs.items() if int(number) > 0}
        entries: dict[str, Any] = {
            "schema": "medseg.prompt-model/1",
            "kind": "vista3d",
            "name": _NO_NAME.sub("-", folder.name.lower()).strip("-._") or "vista3d",
            "version": str(metadata.get("version", "unknown")),
            "title": str(metadata.get("name", "VISTA3D")),
            "classes": classes,
            "weights": {"file": weights.name, "sha256": _digest(weights), "bytes": weights.stat().st_size},
            "licence": {"code": "Apache-2.0", "weights": _licence(folder), "data": "see the bundle's docs"},
            "intended_use": str(metadata.get("intended_use") or "not stated by the bundle"),
        }
        return VistaDescription(**entries), weights
    except (KeyError, TypeError, ValueError, AttributeError, pydantic.ValidationError) as err:
        raise IncompatibleModelError(f"{folder / METADATA_FILE} does not describe a VISTA3D bundle: get the bundle again") from err


def _metadata(folder: Path) -> dict[str, Any]:
    with (folder / METADATA_FILE).open("rb") as stream:
        content = stream.read(_METADATA_LIMIT + 1)
    found = json.loads(content) if len(content) <= _METADATA_LIMIT else None
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


def _licence(folder: Path) -> str:
    """What the bundle's own licence file of the weights is called in its first line."""
    for name in ("LICENSE.weights", "LICENSE"):
        try:
            with (folder / name).open(encoding="utf-8", errors="replace") as stream:
                lines = (line.strip() for line in stream.readlines(1 << 12))
                return next((line[:120] for line in lines if line), name)
        except OSError:
            continue
    return "see the bundle"


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
