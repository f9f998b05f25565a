"""Model folders: where they are, what they say, and whether the weights are the ones they name. Imports no torch."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from medseg.core.errors import ChecksumError, IncompatibleModelError, ModelNotFoundError, UnsafeModelError
from medseg.segmentation.learned.description import MODEL_NAME, SCHEMA, ModelDescription
from medseg.segmentation.learned.store.installed import ENTRY_FILE, find_installed, list_installed, read_installed
from medseg.segmentation.learned.store.sniff import PROMPT_FILES

DESCRIPTION_FILE = "model.json"
WEIGHTS_SUFFIX = ".safetensors"
_PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin", ".ts", ".npy")
_DESCRIPTION_LIMIT = 1 << 20  # a description is a page of text; more than this is not one


@dataclass(frozen=True)
class ModelFolder:
    """A folder with `model.json` and weights; the description is checked, the weights not yet read."""

    path: Path
    description: ModelDescription

    def read_weights(self, fold: int = 0) -> bytes:
        """Return the bytes of the weights (of one of several folds) after comparing size and SHA-256 with the description.

        The bytes that were hashed are the bytes returned, so a file that changes in between cannot slip in. Raises
        ChecksumError where they differ, ModelNotFoundError where the file is missing, UnsafeModelError for a link.
        """
        entry = self.description.fold_weights[fold]
        path = self.path / entry.file
        where = f"model {self.description.name!r}: {path}"
        try:
            mode = os.lstat(path).st_mode
        except OSError as err:
            raise ModelNotFoundError(f"{where} is missing: install the model again") from err
        if not stat.S_ISREG(mode):
            raise UnsafeModelError(f"{where} is a link or no ordinary file: put the weights themselves into the folder")
        size = path.stat().st_size
        if size != entry.bytes:
            raise ChecksumError(f"{where} has {size} bytes, its description names {entry.bytes}: install the model again")
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest != entry.sha256:
            raise ChecksumError(f"{where} has SHA-256 {digest[:12]}…, its description names {entry.sha256[:12]}…: install the model again")
        return content

    def check_weights(self) -> None:
        """Compare every file of weights with the description; raises as `read_weights`."""
        for fold in range(len(self.description.fold_weights)):
            self.read_weights(fold)


def locate_model(name_or_path: str | os.PathLike[str], folders: Iterable[Path] = ()) -> Path:
    """Return the folder (or file) of a model of any kind: a name in the stores `folders`, then a built-in one, then a path.

    A model that was not installed to its end does not count. Raises ModelNotFoundError; ChecksumError and
    IncompatibleModelError for an installed model that is broken.
    """
    text, stores = os.fspath(name_or_path), tuple(folders)
    installed = find_installed(text, stores)
    if installed is not None:
        return installed.root
    if MODEL_NAME.fullmatch(text):
        for root in (*stores, builtin_folder()):
            if any((root / text / file).is_file() for file in (DESCRIPTION_FILE, *PROMPT_FILES)):
                return root / text
    path = Path(text)
    if path.name == DESCRIPTION_FILE and path.is_file():
        return path.parent
    if (path / ENTRY_FILE).is_file():
        return read_installed(path).root
    if path.exists():
        return path
    known = sorted({*(model.description.name for model in list_models(stores)), *(model.name for model in list_installed(stores))})
    raise ModelNotFoundError(
        f"no model is called {text!r} and no folder lies there; known models: {', '.join(known) or 'none'}. "
        "`medseg models add` installs one"
    )


def find_model(name_or_path: str | os.PathLike[str], folders: Iterable[Path] = ()) -> ModelFolder:
    """Return a model by its name (in `folders`, then among the built-in ones) or by the path of its folder.

    Raises ModelNotFoundError, UnsafeModelError for a file that can hold code, IncompatibleModelError for a description
    that is not one.

    >>> find_model("ct-phantom").description.modality
    'CT'
    """
    text = os.fspath(name_or_path)
    if Path(text).suffix.lower() in _PICKLES:
        raise _pickle_error(text)
    path = locate_model(text, folders)
    if (path / DESCRIPTION_FILE).is_file():
        return read_folder(path)
    raise ModelNotFoundError(f"{text} is not a model folder: it has no {DESCRIPTION_FILE}")


def list_models(folders: Iterable[Path] = ()) -> list[ModelFolder]:
    """Return every readable model below `folders` and among the built-in ones, by name; the first of a name counts.

    Installed models of every kind come by `list_installed`. A folder whose description is broken is left out:
    `find_model` says what is wrong with it.
    """
    found: dict[str, ModelFolder] = {}
    for root in (*folders, builtin_folder()):
        for file in sorted(root.glob(f"*/{DESCRIPTION_FILE}")):
            if (file.parent / ENTRY_FILE).exists():
                continue  # an installed model: it counts only where it is whole
            try:
                model = read_folder(file.parent)
            except (IncompatibleModelError, UnsafeModelError):
                continue
            found.setdefault(model.description.name, model)
    return [found[name] for name in sorted(found)]


def list_prompt_models(folders: Iterable[Path] = ()) -> list[Path]:
    """Return the folders of the models that answer prompts, below `folders` and among the built-in ones, not those installed."""
    roots = (*folders, builtin_folder())
    found = {file.parent for root in roots for name in PROMPT_FILES for file in root.glob(f"*/{name}")}
    return sorted(folder for folder in found if not (folder / ENTRY_FILE).exists())


def builtin_folder() -> Path:
    """Return the folder of the models that come with medseg."""
    return Path(str(importlib.resources.files("medseg"))) / "models"


def read_folder(path: Path) -> ModelFolder:
    """Return the model in a folder; its description is checked, its weights not yet read.

    Raises IncompatibleModelError, UnsafeModelError.
    """
    file = path / DESCRIPTION_FILE
    try:
        with file.open("rb") as stream:
            content = stream.read(_DESCRIPTION_LIMIT + 1)
    except OSError as err:
        raise ModelNotFoundError(f"{file} cannot be read: {err.strerror}") from err
    if len(content) > _DESCRIPTION_LIMIT:
        raise IncompatibleModelError(f"{file} is larger than {_DESCRIPTION_LIMIT} bytes: that is no model description")
    try:
        entries = json.loads(content)
    except (ValueError, RecursionError) as err:
        raise IncompatibleModelError(f"{file} is not valid JSON: {err}") from err
    return ModelFolder(path, parse_description(entries, str(file)))


def parse_description(entries: Any, where: str = DESCRIPTION_FILE) -> ModelDescription:
    """Return the checked description of a JSON value; raises IncompatibleModelError, UnsafeModelError."""
    if not isinstance(entries, dict):
        raise IncompatibleModelError(f"{where} is no JSON object")
    if entries.get("schema") != SCHEMA:
        raise IncompatibleModelError(f"{where} has schema {entries.get('schema')!r}; this version of medseg reads {SCHEMA!r}")
    weights = entries.get("weights")
    for entry in weights if isinstance(weights, list) else [weights]:
        _check_file_name(entry.get("file") if isinstance(entry, dict) else None, where)
    try:
        return ModelDescription(**entries)
    except pydantic.ValidationError as err:
        faults = [f"{'.'.join(str(part) for part in fault['loc']) or 'description'}: {fault['msg']}" for fault in err.errors()[:5]]
        raise IncompatibleModelError(f"{where} is no valid model description: {'; '.join(faults)}") from err


def _check_file_name(name: Any, where: str) -> None:
    if not isinstance(name, str):
        return  # the schema says so in its own words
    if name.lower().endswith(_PICKLES):
        raise _pickle_error(f"{where}, weights {name!r}")
    if not name.endswith(WEIGHTS_SUFFIX) or name.startswith(".") or any(c in name for c in "/\\:\0"):
        raise UnsafeModelError(f"{where}: weights {name!r} must be the plain name of a {WEIGHTS_SUFFIX} file in the same folder")


def _pickle_error(what: str) -> UnsafeModelError:
    return UnsafeModelError(f"{what}: such files can run code when loaded; medseg reads model folders with {WEIGHTS_SUFFIX} weights")
