"""What kind of model a folder holds, told by its files; nothing in them is run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medseg.core.errors import IncompatibleModelError

PROMPT_FILES = ("click.json", "vista3d.json")

_DEEPEST = 4
_PREFERRED = ("3d_fullres", "3d_cascade_fullres", "3d_lowres")


@dataclass(frozen=True)
class Found:
    """A model within a folder: its kind and where it begins."""

    kind: str
    root: Path


def kind_of(folder: Path) -> str:
    """Return "medseg", "prompt", "nnunet", "monai-bundle", or "" for a folder that is no model itself."""
    if (folder / "model.json").is_file():
        return "medseg"
    if any((folder / name).is_file() for name in PROMPT_FILES):
        return "prompt"
    if (folder / "plans.json").is_file() and (folder / "dataset.json").is_file():
        return "nnunet"
    if (folder / "configs" / "metadata.json").is_file():
        return "monai-bundle"
    return ""


def find_root(folder: Path, configuration: str | None = None) -> Found:
    """Return the one model below a folder (up to four levels down: archives wrap models in folders).

    Of several nnU-Net configurations of one training (3d_fullres, 3d_lowres, 3d_cascade_fullres), `configuration` says
    which; without it the full resolution is taken. Raises IncompatibleModelError where there is no model, or several.
    """
    found = list(_models(folder, 0))
    if configuration:
        found = [one for one in found if one.root.name.endswith(f"__{configuration}")]
        if not found:
            raise IncompatibleModelError(
                f"there is no nnU-Net configuration {configuration!r}: leave --configuration out to see what there is"
            )
    if len(found) > 1 and all(one.kind == "nnunet" for one in found):
        for preferred in _PREFERRED:
            matching = [one for one in found if one.root.name.endswith(f"__{preferred}")]
            if matching:
                found = matching
                break
    if len(found) > 1:
        names = ", ".join(one.root.relative_to(folder).as_posix() for one in found[:5])
        raise IncompatibleModelError(f"there are {len(found)} models ({names}): add them one by one, or choose with --configuration")
    if not found:
        raise IncompatibleModelError(
            "there is no model: medseg takes folders with model.json, click.json or vista3d.json, nnU-Net v2 folders with "
            "plans.json, dataset.json and fold_0, "
            f"and MONAI bundles with configs/metadata.json. Found instead: {_listing(folder)}"
        )
    return found[0]


def _models(folder: Path, depth: int) -> Iterator[Found]:
    kind = kind_of(folder)
    if kind:
        yield Found(kind, folder)
    elif depth < _DEEPEST:
        for entry in sorted(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)):
            yield from _models(folder / entry, depth + 1)


def _listing(folder: Path) -> str:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return ", ".join(repr(name) for name in names[:5]) + (f" and {len(names) - 5} more files" if len(names) > 5 else "") or "nothing"
