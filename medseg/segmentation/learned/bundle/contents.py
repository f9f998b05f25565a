"""What inference needs of a bundle, read as data from its configuration; everything refused is listed at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from medseg.core.errors import IncompatibleModelError, ModelNotFoundError
from medseg.segmentation.learned.bundle.config import Component, Configuration, read_files, unsafe
from medseg.segmentation.learned.bundle.expression import RefusedError
from medseg.segmentation.learned.bundle.inferer import INFERER_NAMES, Inference, build_inference
from medseg.segmentation.learned.bundle.metadata import BundleMetadata, read_metadata
from medseg.segmentation.learned.bundle.network import SECTIONS, NetworkDefinition, define_network, short_network_name
from medseg.segmentation.learned.bundle.postprocess import STEP_NAMES, Postprocessing, build_postprocessing
from medseg.segmentation.learned.bundle.transforms import TRANSFORM_NAMES, Preprocessing, build_preprocessing
from medseg.segmentation.learned.networks.registry import network_names

METADATA = "configs/metadata.json"
# Inference does nothing with these, so that what a bundle writes into their arguments is not even looked at.
_UNREAD = frozenset(("SaveImaged", "DeleteItemsd", "ToDeviced", "Identityd"))
_PREPROCESSING = ("preprocessing", "dataset::transform", "pre_transforms", "transforms_infer")
_INFERER = ("inferer", "evaluator::inferer")
_POSTPROCESSING = ("postprocessing", "evaluator::postprocessing", "evaluator::key_val_postprocessing", "post_transforms")

T = TypeVar("T")


@dataclass(frozen=True)
class BundleContents:
    """A bundle that was read without running anything of it; `network` is None where it comes as TorchScript only."""

    metadata: BundleMetadata
    network: NetworkDefinition | None
    preprocessing: Preprocessing
    inference: Inference
    postprocessing: Postprocessing
    configuration: Configuration


def known_target(target: str) -> str | None:
    """Return the short name of a `_target_` that is built from data, None for any other.

    >>> known_target("monai.transforms.LoadImageD"), known_target("os.system"), known_target("scripts.transforms.LoadImaged")
    ('LoadImaged', None, None)
    """
    if target == "torch.device":
        return "device"
    package, _, name = target.rpartition(".")
    if package and package != "monai" and not package.startswith("monai."):
        return None
    for spelling in (name, f"{name.removesuffix('Dict')}d", f"{name.removesuffix('D')}d"):
        if spelling in TRANSFORM_NAMES or spelling in STEP_NAMES or spelling in INFERER_NAMES or spelling == "SaveImaged":
            return spelling
    network = short_network_name(name)
    return network if network in network_names() else None


def configuration_files(folder: Path, names: Sequence[str] = ()) -> list[Path]:
    """Return the configuration files of a bundle in the order they are merged; "inference" where none are named."""
    found = []
    for name in names or ("inference",):
        candidates = [f"configs/{name}"] + [f"configs/{name}{suffix}" for suffix in (".json", ".yaml", ".yml")]
        path = next((folder / candidate for candidate in candidates if (folder / candidate).is_file()), None)
        if path is None or folder.resolve() not in path.resolve().parents:
            raise ModelNotFoundError(
                f"bundle {folder.name!r} has no configs/{name}.json or .yaml: medseg needs its inference configuration"
            )
        found.append(path)
    return found


def read_folder(folder: Path, names: Sequence[str] = ()) -> BundleContents:
    """Return the contents of a bundle folder; raises UnsafeModelError with the list of everything that is not data."""
    from medseg.segmentation.learned.bundle.auto3dseg import is_auto3dseg, read_auto3dseg

    if is_auto3dseg(folder):
        return read_auto3dseg(folder)
    if not (folder / METADATA).is_file():
        raise ModelNotFoundError(f"{folder} is no MONAI bundle: it has no {METADATA}")
    entries = read_files(configuration_files(folder, names))
    metadata = read_metadata(read_files([folder / METADATA]), folder.name)
    needs_network = (folder / "models").is_dir() and not _only_torchscript(folder)
    return read_contents(entries, metadata, folder, needs_network=needs_network)


def _only_torchscript(folder: Path) -> bool:
    files = [path.suffix for path in (folder / "models").iterdir()]
    return ".ts" in files and not {".pt", ".pth", ".safetensors", ".ckpt"} & set(files)


def read_contents(entries: Mapping[str, Any], metadata: BundleMetadata, root: Path | None, *, needs_network: bool = True) -> BundleContents:
    """Return the contents of merged configuration entries; see `read_folder`."""
    configuration = Configuration({**entries, "bundle_root": "."}, known_target, root, _UNREAD)
    pending: list[Exception] = []

    def part(build: Callable[[Any], T], places: Sequence[str], what: str, *, optional: bool = False) -> T | None:
        place = next((one for one in places if one in configuration), None)
        if place is None:
            if not optional:
                configuration.refusals.append(f"{what}: the configuration has no {places[0]!r}")
            return None
        count = len(configuration.refusals)
        value = configuration.section(place)
        if len(configuration.refusals) > count or (value is None and configuration.refusals):
            return None
        try:
            return build(_as_compose(value, place))
        except RefusedError as err:
            configuration.refusals.append(str(err))
        except IncompatibleModelError as err:
            pending.append(err)
        return None

    network = part(define_network, SECTIONS, "network") if needs_network else None
    prepare: list[Component] = []

    def preprocessing_of(component: Any) -> Preprocessing:
        prepare.append(component)
        return build_preprocessing(component)

    preprocessing = part(preprocessing_of, _PREPROCESSING, "preprocessing")
    inference = part(build_inference, _INFERER, "inferer")
    before = prepare[0] if prepare else Component("Compose", {}, _PREPROCESSING[0])
    postprocessing = part(lambda value: build_postprocessing(value, before), _POSTPROCESSING, "postprocessing", optional=True)
    if configuration.refusals:
        raise unsafe(metadata.name, configuration.refusals)
    if pending:
        raise pending[0]
    if preprocessing is None or inference is None or (needs_network and network is None):
        raise IncompatibleModelError(f"bundle {metadata.name!r} lacks a network, a preprocessing or an inferer")
    if network is not None:
        metadata.check_outputs(network.out_channels)
    return BundleContents(metadata, network, preprocessing, inference, postprocessing or Postprocessing(()), configuration)


def _as_compose(value: Any, place: str) -> Any:
    return Component("Compose", {"transforms": value}, place) if isinstance(value, list) else value
