"""Opens a trained model of any kind by its name or its folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from medseg.segmentation.learned.store import DESCRIPTION_FILE
from medseg.segmentation.learned.store.find import locate_model
from medseg.segmentation.learned.trained import TrainedModel


def open_model(name_or_path: str | os.PathLike[str], folders: Iterable[Path] = ()) -> TrainedModel:
    """Return a model that is ready to run: a name (in `folders`, then among the built-in ones), a folder or a file.

    A folder with `model.json` is a medseg model or an nnU-Net model converted to safetensors, one with `plans.json` and
    `dataset.json` (or a `DatasetNNN_…` around such folders) an nnU-Net model, one with `configs/metadata.json` a MONAI
    bundle; a single `.ts` file is TorchScript. Nothing in a model is executed to find out. Raises ModelNotFoundError,
    UnsafeModelError, IncompatibleModelError, ChecksumError.

    >>> open_model("ct-phantom").identity.kind
    'medseg'
    """
    given = Path(name_or_path)
    path = given if given.suffix == ".ts" and given.is_file() else _located(name_or_path, tuple(folders))
    if path is not None:
        opened = _of_other_origin(path)
        if opened is not None:
            return opened
    from medseg.segmentation.learned.medseg_model import MedsegModel

    return MedsegModel.open(name_or_path, folders)


def _of_other_origin(path: Path) -> TrainedModel | None:
    """The model in a folder that is not in medseg's own format; None for any other folder."""
    if (path / DESCRIPTION_FILE).is_file():
        from medseg.segmentation.learned.nnunet.converted import is_converted, open_converted

        return open_converted(path) if is_converted(path) else None
    if path.suffix == ".ts" or (path / "configs" / "metadata.json").is_file():
        from medseg.segmentation.learned.bundle.model import BundleModel

        return BundleModel.open(path)
    if (path / "plans.json").is_file() or next(path.glob("*__*__*/plans.json"), None) is not None:
        from medseg.segmentation.learned.nnunet.model import NnunetModel

        return NnunetModel.open(path)
    return None


def _located(name_or_path: str | os.PathLike[str], folders: tuple[Path, ...]) -> Path | None:
    """The folder of a model; None for a file, about which the reader of medseg's own models says what is wrong."""
    path = Path(name_or_path)
    if path.is_file() and path.name != DESCRIPTION_FILE:
        return None
    return locate_model(name_or_path, folders)
