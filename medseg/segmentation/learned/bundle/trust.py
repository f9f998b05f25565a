"""Bundles whose code a person has read and trusts: named by the hash of the whole folder, run by MONAI."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.core.errors import ChecksumError, IncompatibleModelError, UnsafeModelError
from medseg.segmentation.learned.bundle.config import Configuration, read_files
from medseg.segmentation.learned.bundle.contents import METADATA, BundleContents, configuration_files, known_target, read_folder
from medseg.segmentation.learned.bundle.expression import RefusedError
from medseg.segmentation.learned.bundle.inferer import SLIDING, Inference, from_values
from medseg.segmentation.learned.bundle.metadata import read_metadata
from medseg.segmentation.learned.bundle.network import find_weights, sha256_of, state_dict_of
from medseg.segmentation.learned.bundle.postprocess import Postprocessing, Prediction, Step, WayBack
from medseg.segmentation.learned.bundle.transforms import Preprocessing, foreign_errors
from medseg.segmentation.learned.dependencies import import_bundle, import_torch
from medseg.segmentation.learned.store.checkpoint import load_checkpoint
from medseg.segmentation.learned.store.file_state import while_unchanged

if TYPE_CHECKING:
    from medseg.segmentation.learned.bundle.model import BundleModel

_BLOCK = 1 << 22
_FILE = "SaveImaged", "SaveImage", "LoadImaged", "LoadImage"


def bundle_sha256(folder: Path) -> str:
    """Return the SHA-256 over a whole bundle: every file's name, length and contents, in the order of their names.

    For one `.ts` file it is the SHA-256 of the file. Raises UnsafeModelError for links and other things that are no files.
    """
    folder = Path(folder)
    if folder.is_file():
        return sha256_of(folder)
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*"), key=lambda one: one.relative_to(folder).as_posix()):
        mode = os.lstat(path).st_mode
        if stat.S_ISDIR(mode):
            continue
        name = path.relative_to(folder).as_posix()
        if not stat.S_ISREG(mode):
            raise UnsafeModelError(f"bundle {folder.name!r}: {name} is a link or no ordinary file, so no hash can stand for the bundle")
        digest.update(f"{name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def open_trusted(folder: Path, trusted_sha256: str, configs: Sequence[str] = ()) -> BundleModel:
    """Return a bundle whose hash is trusted; only what cannot be read as data is run, by MONAI's own ConfigParser.

    Raises ChecksumError, and runs nothing, where the hash is another one.
    """
    from medseg.segmentation.learned.bundle.model import bundle_model, open_bundle

    digest = bundle_sha256(folder)
    if not hmac.compare_digest(digest, trusted_sha256.strip().lower()):
        raise ChecksumError(
            f"bundle {folder.name!r} has SHA-256 {digest}, not the one that is trusted: it was changed, or the hash is of another version"
        )
    try:
        read_folder(folder, configs)
    except UnsafeModelError as err:
        refused = str(err)
    else:
        return open_bundle(folder, None, configs)
    contents, network = _run(folder, configs)
    weights = _weights(folder, contents)
    note = f"MONAI ran the bundle's own code, which the hash {digest} vouches for; read as data it was refused: {refused.splitlines()[0]}"
    load = while_unchanged(weights, lambda: _filled(network, weights))
    return bundle_model(contents, sha256_of(weights), load, (note,))


def _weights(folder: Path, contents: BundleContents) -> Path:
    try:
        return find_weights(folder, contents.configuration)
    except RefusedError as err:
        raise IncompatibleModelError(f"bundle {folder.name!r}: {err}") from err


def _filled(network: Any, weights: Path) -> Any:
    """The network with its weights, which are read as data even here."""
    with foreign_errors(f"{weights.name} does not fit the bundle's network"):
        network.load_state_dict(state_dict_of(load_checkpoint(weights), weights), strict=True)
    return network.eval()


@contextlib.contextmanager
def _own_scripts(folder: Path) -> Iterator[None]:
    """The bundle's folder on the path of imports, and no byte code written into it (its hash would change)."""
    path, written = list(sys.path), sys.dont_write_bytecode
    sys.path.insert(0, str(folder))
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.path[:], sys.dont_write_bytecode = path, written


def _run(folder: Path, configs: Sequence[str]) -> tuple[BundleContents, Any]:
    """The parts of a bundle as objects that MONAI made by running its configuration."""
    files = configuration_files(folder, configs)
    entries = read_files(files)
    metadata = read_metadata(read_files([folder / METADATA]), folder.name)
    torch = import_torch()
    with _own_scripts(folder), foreign_errors(f"MONAI cannot run bundle {folder.name!r}"):
        parser = import_bundle().ConfigParser()
        parser.read_config([str(path) for path in files])
        parser.read_meta(str(folder / METADATA))
        parser["bundle_root"] = str(folder)
        if "device" in parser:
            parser["device"] = torch.device("cpu")  # medseg's engine moves the network
        name = "network_def" if "network_def" in parser else "network"
        network = parser.get_parsed_content(name)
        preprocessing = parser.get_parsed_content("preprocessing")
        inferer = parser.get_parsed_content("inferer")
        postprocessing = parser.get_parsed_content("postprocessing") if "postprocessing" in parser else None
    contents = BundleContents(
        metadata,
        None,
        _foreign_preprocessing(preprocessing),
        _foreign_inference(inferer),
        Postprocessing(() if postprocessing is None else (ForeignSteps("foreign", {}, postprocessing),)),
        Configuration({**entries, "bundle_root": "."}, known_target, folder),
    )
    return contents, network


def _foreign_preprocessing(compose: Any) -> Preprocessing:
    """A Compose without its loaders: medseg reads the scan."""
    loaders = [one for one in compose.transforms if type(one).__name__ in _FILE]
    if len(loaders) != 1 or not getattr(loaders[0], "keys", None):
        raise IncompatibleModelError(f"the bundle's preprocessing reads {len(loaders)} times a file by LoadImaged: one image is read")
    compose.transforms = [one for one in compose.transforms if one is not loaders[0]]
    first = bool(getattr(getattr(loaders[0], "_loader", None), "ensure_channel_first", False))
    names = tuple(type(one).__name__ for one in compose.transforms)
    return Preprocessing(loaders[0].keys[0], compose, names, "preprocessing", None, first)


def _foreign_inference(inferer: Any) -> Inference:
    name = type(inferer).__name__
    if name == "SimpleInferer":
        return Inference()
    if name not in SLIDING:
        raise IncompatibleModelError(f"the bundle's inferer {name} has no counterpart in medseg's engine, even where its code is trusted")
    values: Mapping[str, Any] = {
        key: getattr(inferer, key) for key in ("roi_size", "sw_batch_size", "overlap", "sigma_scale", "padding_mode", "cval")
    }
    mode = getattr(inferer.mode, "value", inferer.mode)
    padding = getattr(values["padding_mode"], "value", values["padding_mode"])
    try:
        return from_values({**values, "mode": mode, "padding_mode": padding}, "inferer", name)
    except RefusedError as err:
        raise IncompatibleModelError(str(err)) from err


@dataclass(frozen=True)
class ForeignSteps(Step):
    """The whole postprocessing of a trusted bundle as MONAI made it."""

    compose: Any = None

    def run(self, prediction: Prediction, way: WayBack) -> Prediction:
        """Return what the bundle's own steps make of network outputs."""
        torch = import_torch()
        with foreign_errors("the postprocessing of the bundle fails"):
            from monai.data.meta_tensor import MetaTensor

            pred = MetaTensor(torch.as_tensor(prediction.values), meta=dict(way.reference.meta))
            data: Any = {"pred": pred, way.preprocessing.image_key: way.reference}
            for step in self.compose.transforms:
                if type(step).__name__ not in _FILE:
                    data = step(data)
            values = np.asarray(data["pred"].detach().cpu().numpy())
        whole = bool(np.array_equal(values, np.rint(values))) and values.min() >= 0
        on_scan = values.shape[1:] == tuple(way.shape)
        if not whole:
            return Prediction(values, "outputs", on_scan)
        labels = values.astype(np.uint16 if values.max() > 255 else np.uint8)
        return Prediction(labels, "labels" if values.shape[0] == 1 else "masks", on_scan)
