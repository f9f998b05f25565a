"""Opens a trained model of any kind by its name or its folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from medseg.segmentation.learned.store import DESCRIPTION_FILE, default_store
from medseg.segmentation.learned.store.find import locate_model
from medseg.segmentation.learned.trained import TrainedModel

_BUNDLE_FILES = ("metadata.json", "hyper_parameters.yaml")


def open_model(
    name_or_path: str | os.PathLike[str], folders: Iterable[Path] | None = None, *, trusted_sha256: str | None = None
) -> TrainedModel:
    """Return a model that is ready to run: a name (in `folders`, then among the built-in ones), a folder or a file.

    `folders` None: the store of this user, see `store.default_store`.

    A folder with `model.json` is a medseg model or an nnU-Net model converted to safetensors, one with `plans.json` and
    `dataset.json` (or a `DatasetNNN_…` around such folders) an nnU-Net model, one with `configs/metadata.json` (or
    Auto3DSeg's `configs/hyper_parameters.yaml`) a MONAI bundle; a single `.ts` file is TorchScript. One with `click.json` or `vista3d.json`
    (or VISTA3D's bundle) only answers prompts, see the method `prompt`. Nothing in a model is
    executed to find out; a bundle whose files hash to `trusted_sha256` may run its own code later. Raises
    ModelNotFoundError, UnsafeModelError, IncompatibleModelError, ChecksumError.

    >>> open_model("ct-phantom").identity.kind
    'medseg'
    """
    given = Path(name_or_path)
    folders = (default_store(),) if folders is None else tuple(folders)
    path = given if given.suffix == ".ts" and given.is_file() else _located(name_or_path, folders)
    if path is not None:
        opened = _of_other_origin(path, trusted_sha256)
        if opened is not None:
            return opened
    from medseg.segmentation.learned.medseg_model import MedsegModel

    return MedsegModel.open(name_or_path, folders)


def _of_other_origin(path: Path, trusted_sha256: str | None) -> TrainedModel | None:
    """The model in a folder that is not in medseg's own format; None for any other folder."""
    if (path / DESCRIPTION_FILE).is_file():
        from medseg.segmentation.learned.nnunet.converted import is_converted, open_converted

        return open_converted(path) if is_converted(path) else None
    from medseg.segmentation.learned.prompt.loading import prompt_model_in

    asked = prompt_model_in(path)
    if asked is not None:
        return asked
    if path.suffix == ".ts" or any((path / "configs" / name).is_file() for name in _BUNDLE_FILES):
        from medseg.segmentation.learned.bundle.model import BundleModel

        return BundleModel.open(path, trusted_sha256)
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
