"""A model of another kind as a medseg model: a new folder with safetensors weights, given its name when it is whole."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

from medseg.core.errors import IncompatibleModelError, OutputError, OutputExistsError
from medseg.method.settings import Progress, no_progress
from medseg.segmentation.learned.store.durable import make_final
from medseg.segmentation.learned.store.find import DESCRIPTION_FILE, WEIGHTS_SUFFIX, locate_model, read_folder
from medseg.segmentation.learned.store.installed import find_installed
from medseg.segmentation.learned.store.sniff import find_root, kind_of


def convert_model(
    name_or_path: str | os.PathLike[str],
    output: Path,
    folders: Iterable[Path] = (),
    *,
    name: str | None = None,
    licence: Mapping[str, str] | None = None,
    intended_use: str = "",
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Path:
    """Write a model as `model.json` with safetensors weights into the new folder `output` and return it.

    nnU-Net models keep their own rules beside safe weights, under `name`, with `licence` and `intended_use` where given
    (for an installed model: those it was installed with). Models with a model.json are copied, their hashes compared. A
    MONAI bundle is not converted: its way from scan to network is a program of its own, which model.json has no words
    for. Raises IncompatibleModelError for it, OutputExistsError, OutputError, and what reading the model raises.
    """
    output, stores = Path(output), tuple(folders)
    if output.exists() and not (overwrite and kind_of(output) == "medseg"):
        hint = "--overwrite replaces it" if kind_of(output) == "medseg" else "choose a new folder"
        raise OutputExistsError(f"{output} is there already: {hint}")
    path = locate_model(name_or_path, stores)
    if path.is_dir() and not kind_of(path):
        path = find_root(path).root
    installed = find_installed(os.fspath(name_or_path), stores)
    known = installed.identity if installed is not None else None
    stated = {**(known.licence if known else {}), **(licence or {})}
    use = intended_use or (known.intended_use if known else "")
    work = output.parent / f".{output.name}.{uuid.uuid4().hex}"
    try:
        work.parent.mkdir(parents=True, exist_ok=True)
        _write(path, work, name or (installed.name if installed else None), stated, use)
        check_weights(work)
        _put(work, output)
    except OSError as err:
        raise OutputError(f"{output} cannot be written: {err.strerror or 'the disk refused'}") from err
    finally:
        shutil.rmtree(work, ignore_errors=True)
    progress("converting", 1, 1)
    return output


def _write(path: Path, work: Path, name: str | None, licence: Mapping[str, str], intended_use: str) -> None:
    kind = kind_of(path) if path.is_dir() else ""
    if kind == "medseg":
        _copy(path, work)
    elif kind == "nnunet":
        from medseg.segmentation.learned.nnunet.converted import convert_nnunet

        convert_nnunet(path, work, name=name, licence=licence, intended_use=intended_use)
    elif kind == "prompt":
        raise IncompatibleModelError(f"{path} answers prompts and is in medseg's own form already: use it as it is")
    else:
        raise IncompatibleModelError(
            f"{path} is a MONAI bundle or a TorchScript program: how it prepares a scan is a program of its own, which model.json has "
            "no words for. Use it as it is (medseg segment model --model), or train on from it with medseg finetune"
        )


def check_weights(folder: Path) -> None:
    """Compare the weights of a folder with model.json with their hashes; raises ChecksumError and as its readers do."""
    from medseg.segmentation.learned.nnunet.converted import is_converted, open_converted

    if is_converted(folder):
        for stage in open_converted(folder).stages:
            for fold in stage.folds:
                stage.network(fold)
    else:
        read_folder(folder).check_weights()


def _copy(source: Path, target: Path) -> None:
    """Copy the description and the weights it names, nothing else, and compare what arrived."""
    target.mkdir()
    for file in (source / DESCRIPTION_FILE, *sorted(source.glob(f"*{WEIGHTS_SUFFIX}"))):
        shutil.copyfile(file, target / file.name)
    check_weights(target)


def _put(work: Path, output: Path) -> None:
    """Give the folder its name; what it replaces is deleted after."""
    old = output.parent / f".{output.name}.{uuid.uuid4().hex}.old"
    if output.exists():
        os.rename(output, old)
    try:
        make_final(work, output)
    except BaseException:
        if old.exists() and not output.exists():
            os.rename(old, output)
        raise
    shutil.rmtree(old, ignore_errors=True)
