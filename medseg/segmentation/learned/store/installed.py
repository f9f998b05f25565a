"""Models in a store: one folder each, with `store.json` saying where it came from and `.complete` saying it is all there."""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from medseg.core.errors import ChecksumError, IncompatibleModelError, ModelNotFoundError, OutputError
from medseg.core.segment import Segment, segment_from_dict
from medseg.segmentation.learned.description import MODEL_NAME
from medseg.segmentation.learned.store.durable import check_files, read_json, read_marker, write_json
from medseg.segmentation.learned.trained import ModelIdentity

ENTRY_FILE = "store.json"
ENTRY_SCHEMA = "medseg.installed-model/1"
ADDING = ".adding"
DOWNLOADS = ".downloads"


@dataclass(frozen=True)
class Origin:
    """Where a model came from: address or file name, the SHA-256 of the archive (of the folder's hashes for a folder), its bytes."""

    source: str
    sha256: str
    bytes: int
    added: str


@dataclass(frozen=True)
class InstalledModel:
    """A model of a store; `folder` is its place there, `root` below it is what `open_model` takes."""

    folder: Path
    root: Path
    identity: ModelIdentity
    segments: tuple[Segment, ...]
    origin: Origin
    files: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name it was installed under."""
        return self.folder.name

    @property
    def bytes(self) -> int:
        """Size of its files in all."""
        return sum(self.files.values())

    def check(self) -> None:
        """Compare every file with the hash it was installed with; raises ChecksumError."""
        check_files(self.folder)


def default_store() -> Path:
    """Return the folder where models of this user lie, by the custom of the system."""
    home = Path.home()
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "medseg" / "models"
    if sys.platform == "win32":
        return home / "AppData" / "Local" / "medseg" / "models"
    return home / ".local" / "share" / "medseg" / "models"


def read_installed(folder: Path) -> InstalledModel:
    """Return the model of one folder of a store.

    Its files must be there with the sizes they were installed with (`InstalledModel.check` compares hashes). Raises
    ModelNotFoundError where there is none, ChecksumError where it is not all there, IncompatibleModelError for a
    damaged `store.json`.
    """
    if not (folder / ENTRY_FILE).is_file():
        raise ModelNotFoundError(f"{folder} is no model of a store")
    files = read_marker(folder)
    for name, entry in files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != entry.bytes:
            raise ChecksumError(f"{path} is missing or has changed since it was installed: remove the model and add it again")
    try:
        entries = read_json(folder / ENTRY_FILE)
        if entries["schema"] != ENTRY_SCHEMA:
            raise ValueError
        root = PurePosixPath(entries["root"])
        if root.is_absolute() or ".." in root.parts:
            raise ValueError
        spacing = entries["identity"].pop("spacing_mm")
        identity = ModelIdentity(
            **{**entries["identity"], "channels": tuple(entries["identity"]["channels"]), "spacing_mm": tuple(spacing) if spacing else None}
        )
        segments = tuple(segment_from_dict(entry) for entry in entries["segments"])
        origin = Origin(**entries["origin"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise IncompatibleModelError(f"{folder / ENTRY_FILE} is damaged or of another version: remove the model and add it again") from err
    return InstalledModel(folder, folder / root, identity, segments, origin, {name: entry.bytes for name, entry in files.items()})


def write_entry(folder: Path, root: Path, identity: ModelIdentity, segments: Iterable[Segment], origin: Origin) -> None:
    """Write the `store.json` of a model."""
    spacing = identity.spacing_mm
    entries = {
        "schema": ENTRY_SCHEMA,
        "root": root.relative_to(folder).as_posix(),
        "identity": {
            "name": identity.name,
            "version": identity.version,
            "title": identity.title,
            "kind": identity.kind,
            "sha256": identity.sha256,
            "licence": dict(identity.licence),
            "intended_use": identity.intended_use,
            "modality": identity.modality,
            "channels": list(identity.channels),
            "spacing_mm": [float(value) for value in spacing] if spacing else None,
        },
        "segments": [segment.to_dict() for segment in segments],
        "origin": {"source": origin.source, "sha256": origin.sha256, "bytes": origin.bytes, "added": origin.added},
    }
    write_json(folder / ENTRY_FILE, entries)


def list_installed(folders: Iterable[Path]) -> list[InstalledModel]:
    """Return the whole models of stores by name; the first of a name counts, broken ones are left out (`find_broken` has them)."""
    found: dict[str, InstalledModel] = {}
    for folder in _folders(folders):
        try:
            found.setdefault(folder.name, read_installed(folder))
        except (ChecksumError, IncompatibleModelError, ModelNotFoundError):
            continue
    return [found[name] for name in sorted(found)]


def find_broken(folders: Iterable[Path]) -> dict[str, str]:
    """Return what is wrong with each model of the stores that cannot be used, by name."""
    broken = {}
    for folder in _folders(folders):
        try:
            read_installed(folder)
        except (ChecksumError, IncompatibleModelError) as err:
            broken[folder.name] = str(err)
    return broken


def find_installed(name: str, folders: Iterable[Path]) -> InstalledModel | None:
    """Return the installed model of a name, None where there is none; raises ChecksumError, IncompatibleModelError for a broken one."""
    if not MODEL_NAME.fullmatch(name):
        return None
    for folder in folders:
        if (folder / name / ENTRY_FILE).is_file():
            return read_installed(folder / name)
    return None


def remove_installed(name: str, store: Path) -> Path:
    """Delete a model of a store, whole or broken; it stops counting in one step. Returns where it lay.

    Raises ModelNotFoundError where there is none of this name, OutputError where it cannot be deleted.
    """
    folder = store / name
    if not MODEL_NAME.fullmatch(name) or folder.is_symlink() or not ((folder / ENTRY_FILE).is_file() or (folder / "model.json").is_file()):
        raise ModelNotFoundError(f"no model called {name!r} is installed in {store}")
    going = store / ADDING / f"removed-{uuid.uuid4().hex}"
    try:
        going.parent.mkdir(exist_ok=True)
        os.rename(folder, going)
        shutil.rmtree(going)
    except OSError as err:
        raise OutputError(f"{folder} cannot be removed: {err.strerror or 'it is in use'}") from err
    return folder


def _folders(stores: Iterable[Path]) -> list[Path]:
    return [path for store in stores for path in (sorted(store.iterdir()) if store.is_dir() else []) if (path / ENTRY_FILE).is_file()]
