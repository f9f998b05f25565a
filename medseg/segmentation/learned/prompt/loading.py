"""Folders of promptable networks: `click.json` or `vista3d.json`, and the weights it names."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from medseg.core.errors import ChecksumError, IncompatibleModelError, ModelNotFoundError, UnsafeModelError
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.segmentation.learned.dependencies import import_networks, import_safetensors, import_torch
from medseg.segmentation.learned.description import MODEL_NAME
from medseg.segmentation.learned.engine.kept_networks import KeptNetworks
from medseg.segmentation.learned.prompt.description import ADAPTER, ClickDescription, VistaDescription
from medseg.segmentation.learned.prompt.vista3d_bundle import describe_bundle, is_vista_bundle
from medseg.segmentation.learned.store import builtin_folder, default_store, find_installed, load_checkpoint
from medseg.segmentation.learned.trained import ModelIdentity, Outcome, Request

if TYPE_CHECKING:
    import torch

FILES = {"click": "click.json", "vista3d": "vista3d.json"}
WEIGHTS_SUFFIX = ".safetensors"
_DESCRIPTION_LIMIT = 1 << 20
_NAMED_DIFFERENCES = 5


@dataclass(frozen=True)
class PromptModel:
    """A folder with a checked description; its weights are not yet read. `checkpoint` is that of a MONAI bundle.

    `networks` keeps the network that was lent for an answer (`lent`).
    It has what every `TrainedModel` has, so that the store can keep it, but answers prompts only.
    """

    path: Path
    description: ClickDescription | VistaDescription
    checkpoint: Path | None = None
    networks: KeptNetworks = field(default_factory=KeptNetworks, init=False, repr=False, compare=False)

    @property
    def identity(self) -> ModelIdentity:
        """Which model it is."""
        about = self.description
        is_click = isinstance(about, ClickDescription)
        return ModelIdentity(
            name=about.name,
            version=about.version,
            title=about.title,
            kind=about.kind,
            sha256=about.weights.sha256,
            licence=about.licence.model_dump(),
            intended_use=about.intended_use,
            modality="" if is_click else "CT",
            channels=("CT or MR",) if is_click else ("CT",),
        )

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The structures it knows by name; none for one that is asked by clicks alone."""
        about = self.description
        if isinstance(about, ClickDescription):
            return ()
        return tuple(Segment(number, label) for number, label in sorted(about.classes.items()))

    def network(self) -> Any:
        """Return a new network with its weights, on the CPU; raises IncompatibleModelError where they do not fit."""
        torch = import_torch()
        about = self.description
        if isinstance(about, ClickDescription):
            from medseg.segmentation.learned.prompt.click_network import ClickNetwork

            with torch.device("meta"):
                network = ClickNetwork(**about.network.arguments.model_dump())
        else:
            from medseg.segmentation.learned.prompt.vista3d_network import build_vista

            import_networks()
            network = build_vista(about.network.arguments)
        return fill(network, self.weights(), about.name)

    @contextlib.contextmanager
    def lent(self) -> Iterator[Any]:
        """Lend the network, which is built for the first answer and serves the next ones; raises as `network`."""
        with self.networks.lent({None: self.network}) as (network,):
            yield network

    def leave_device(self) -> None:
        """Move the network that the last answer left on a CUDA device to main memory; the next one finds it there."""
        self.networks.leave_device()

    def segment(self, volumes: tuple[Volume, ...], request: Request) -> Outcome:
        """Raise IncompatibleModelError: without prompts there is nothing to answer."""
        raise IncompatibleModelError(
            f"model {self.description.name!r} answers prompts: medseg segment prompt SCAN -o OUT --point R,A,S --model {self.path.name}"
        )

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the tensors (floating ones as float32) after comparing size and SHA-256 with the description.

        Raises ModelNotFoundError, UnsafeModelError for a link, ChecksumError, IncompatibleModelError.
        """
        torch = import_torch()
        if self.checkpoint is not None:
            return _bundle_weights(self.checkpoint)
        content = self._content()
        where = f"model {self.description.name!r}: {self.description.weights.file}"
        try:
            tensors: dict[str, Any] = import_safetensors().load(content)
        except Exception as err:  # safetensors' own error class is not part of its stable interface
            raise IncompatibleModelError(f"{where} is no safetensors file") from err
        values = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
        if not all(bool(torch.isfinite(tensor).all()) for tensor in values.values() if tensor.is_floating_point()):
            raise IncompatibleModelError(f"{where} holds weights that are not finite: install the model again")
        return values

    def _content(self) -> bytes:
        entry = self.description.weights
        path = self.path / entry.file
        where = f"model {self.description.name!r}: {path}"
        try:
            mode = os.lstat(path).st_mode
        except OSError as err:
            raise ModelNotFoundError(f"{where} is missing: install the model again") from err
        if not stat.S_ISREG(mode):
            raise UnsafeModelError(f"{where} is a link or no ordinary file: put the weights themselves into the folder")
        if path.stat().st_size != entry.bytes:
            raise ChecksumError(f"{where} has {path.stat().st_size} bytes, its description names {entry.bytes}: install the model again")
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest != entry.sha256:
            raise ChecksumError(f"{where} has SHA-256 {digest[:12]}…, its description names {entry.sha256[:12]}…: install the model again")
        return content


def find_prompt_model(name_or_path: str | os.PathLike[str], folders: Iterable[Path] | None = None) -> PromptModel:
    """Return a promptable model by name (in `folders`, then among the built-in ones) or by the path of its folder.

    `folders` None: the store of this user.

    Raises ModelNotFoundError, IncompatibleModelError, UnsafeModelError.

    >>> find_prompt_model("click-3d").description.kind
    'click'
    """
    text = os.fspath(name_or_path)
    roots = (*((default_store(),) if folders is None else folders), builtin_folder())
    installed = find_installed(text, roots)
    places = [root / text for root in roots] if MODEL_NAME.fullmatch(text) else []
    for folder in (*((installed.root,) if installed is not None else ()), *places, Path(text)):
        found = prompt_model_in(folder)
        if found is not None:
            return found
    known = ", ".join(sorted({file.parent.name for root in roots for name in FILES.values() for file in root.glob(f"*/{name}")})) or "none"
    raise ModelNotFoundError(
        f"no promptable model is called {text!r} and no folder with {' or '.join(FILES.values())} lies there; known: {known}. "
        "Models that need no prompt run with the method `model`"
    )


def prompt_model_in(folder: Path) -> PromptModel | None:
    """Return the promptable model in a folder, None where there is none; raises as `find_prompt_model`."""
    for file in FILES.values():
        if (folder / file).is_file():
            return read_prompt_folder(folder, file)
    return PromptModel(folder, *describe_bundle(folder)) if is_vista_bundle(folder) else None


def read_prompt_folder(folder: Path, file: str) -> PromptModel:
    """Return the model that a description file in a folder describes; raises IncompatibleModelError, UnsafeModelError."""
    path = folder / file
    try:
        with path.open("rb") as stream:
            content = stream.read(_DESCRIPTION_LIMIT + 1)
    except OSError as err:
        raise ModelNotFoundError(f"{path} cannot be read: {err.strerror}") from err
    if len(content) > _DESCRIPTION_LIMIT:
        raise IncompatibleModelError(f"{path} is larger than {_DESCRIPTION_LIMIT} bytes: that is no model description")
    try:
        entries = json.loads(content)
    except (ValueError, RecursionError) as err:
        raise IncompatibleModelError(f"{path} is not valid JSON: install the model again") from err
    try:
        description = ADAPTER.validate_python(entries)
    except pydantic.ValidationError as err:
        faults = [f"{'.'.join(str(part) for part in fault['loc']) or 'description'}: {fault['msg']}" for fault in err.errors()[:5]]
        raise IncompatibleModelError(f"{path} is no valid description of a promptable model: {'; '.join(faults)}") from err
    name = description.weights.file
    if not name.endswith(WEIGHTS_SUFFIX) or name.startswith(".") or any(c in name for c in "/\\:\0"):
        raise UnsafeModelError(f"{path}: weights {name!r} must be the plain name of a {WEIGHTS_SUFFIX} file in the same folder")
    return PromptModel(folder, description)


def _bundle_weights(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a bundle's checkpoint, read without running anything; some wrap them in one more dictionary."""
    torch = import_torch()
    found = load_checkpoint(path)
    inner = found.get("state_dict", found.get("model", found))
    weights = inner if isinstance(inner, dict) else found
    found = {name: tensor for name, tensor in weights.items() if torch.is_tensor(tensor)}
    # copies: weights that are mapped from a file change with it
    return {name: tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True) for name, tensor in found.items()}


def fill(network: torch.nn.Module, weights: dict[str, torch.Tensor], name: str) -> torch.nn.Module:
    """Put weights into a network made on the meta device; raises IncompatibleModelError where a name or shape differs."""
    expected = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    got = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    differences = [f"{key} is missing" for key in expected if key not in got]
    differences += [f"{key} is not part of the network" for key in got if key not in expected]
    differences += [f"{key} has shape {got[key]} instead of {shape}" for key, shape in expected.items() if got.get(key, shape) != shape]
    if differences:
        more = f" and {len(differences) - _NAMED_DIFFERENCES} more" if len(differences) > _NAMED_DIFFERENCES else ""
        raise IncompatibleModelError(f"model {name!r}: its weights do not fit: {'; '.join(differences[:_NAMED_DIFFERENCES])}{more}")
    network.load_state_dict(weights, strict=True, assign=True)
    network.eval()
    network.requires_grad_(False)
    return network
