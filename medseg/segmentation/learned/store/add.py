"""Installs a model: fetch, unpack aside, read through, ask, and only then give it its place in the store, in one step."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from medseg.core.errors import ChecksumError, IncompatibleModelError, ModelError, ModelNotFoundError, OutputError, OutputExistsError
from medseg.core.segment import Segment
from medseg.method.settings import Progress, no_progress
from medseg.segmentation.learned.description import MODEL_NAME
from medseg.segmentation.learned.store.checkpoint import load_checkpoint
from medseg.segmentation.learned.store.download import Patience, download, is_url, plain_url
from medseg.segmentation.learned.store.durable import MARKER, hash_files, hash_of_hashes, make_final, sha256_of, write_marker
from medseg.segmentation.learned.store.find import builtin_folder
from medseg.segmentation.learned.store.installed import (
    ADDING,
    DOWNLOADS,
    ENTRY_FILE,
    InstalledModel,
    Origin,
    read_installed,
    write_entry,
)
from medseg.segmentation.learned.store.sniff import find_root, kind_of
from medseg.segmentation.learned.store.unpack import Limits, unpack
from medseg.segmentation.learned.store.verify import drop_dangerous, verify_model
from medseg.segmentation.learned.trained import ModelIdentity

_ABANDONED_S = 24 * 3600.0
_BARE_WEIGHTS = (".pt", ".pth", ".ckpt", ".safetensors", ".ts", ".pkl", ".pickle", ".bin")
_DATASET = re.compile(r"Dataset\d{3,}_")


@dataclass(frozen=True)
class Request:
    """What to install: `source` is a path or an http(s) address, which needs the `sha256` of what lies there.

    `configuration` chooses among the nnU-Net configurations of one training. `offline` refuses to use the network.
    """

    source: str
    sha256: str = ""
    configuration: str | None = None
    offline: bool = False
    limits: Limits = field(default_factory=Limits)
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True)
class StagedModel:
    """A model that was unpacked and read through, but does not count yet."""

    store: Path
    folder: Path
    root: Path
    identity: ModelIdentity
    segments: tuple[Segment, ...]
    origin: Origin
    left_out: tuple[str, ...] = ()

    @property
    def suggested_name(self) -> str:
        """A name made from the model's own."""
        name = re.sub(r"[^a-z0-9._-]+", "-", self.identity.name.lower()).strip("-._")[:64]
        return name if MODEL_NAME.fullmatch(name) else "model"

    def install(self, name: str, licence: Mapping[str, str], intended_use: str) -> InstalledModel:
        """Give the model its place under a name; licence (its entry "weights") and intended use must be stated.

        Raises IncompatibleModelError for a name that is none or an unstated licence or use, OutputExistsError where the
        name is taken.
        """
        check_name(name, self.store)
        if not licence.get("weights", "").strip() or not intended_use.strip():
            raise IncompatibleModelError(
                "licence of the weights and intended use must be stated: a result is worth no more than they allow"
            )
        identity = replace(self.identity, licence=dict(licence), intended_use=intended_use.strip())
        write_entry(self.folder, self.root, identity, self.segments, self.origin)
        write_marker(self.folder, hash_files(self.folder))
        final = self.store / name
        try:
            make_final(self.folder, final)
        except FileExistsError as err:
            raise _taken(name, self.store) from err
        return read_installed(final)


def check_name(name: str, store: Path) -> None:
    """Raise IncompatibleModelError for a name no model can have, OutputExistsError for one that is taken."""
    if not MODEL_NAME.fullmatch(name):
        raise IncompatibleModelError(
            f"{name!a} is no name for a model: use small letters, digits and . _ - (at most 64), letter or digit first"
        )
    if (store / name).exists() or (builtin_folder() / name).exists():
        raise _taken(name, store)


@contextmanager
def staged(request: Request, store: Path, progress: Progress = no_progress) -> Iterator[StagedModel]:
    """Fetch, unpack and read a model through; yield it for `StagedModel.install`. What was not installed is deleted at the end.

    A program killed in between leaves a folder below `.adding`, which never counts and which a later call clears away.
    Raises ModelError and its children; OutputError where the store cannot be written or the disk is full.
    """
    work = _work_folder(store)
    try:
        source = _fetched(request, store, progress)
        files = work / _folder_name(request.source)
        try:
            inner = _inner_place(source)
            unpack(source, files / inner, request.limits, progress)
            origin = _origin(request, source, files / inner)
        finally:
            if is_url(request.source):
                source.unlink(missing_ok=True)
        for name in (MARKER, ENTRY_FILE):  # of another store, or made to mislead
            (files / inner / name).unlink(missing_ok=True)
        left_out = drop_dangerous(files)
        with _named_as_given(files, plain_url(request.source) if is_url(request.source) else request.source):
            found = find_root(files, request.configuration)
            facts = verify_model(found.root, progress)
        yield StagedModel(store, files, found.root, facts.identity, facts.segments, origin, tuple(left_out))
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _named_as_given(files: Path, source: str) -> Iterator[None]:
    """Say in errors where a fault lies in what was given, not in the folder it was unpacked to."""
    try:
        yield
    except ModelError as err:
        text = str(err).replace(f"{files}{os.sep}", f"{source}: ").replace(str(files), source)
        raise type(err)(text) from err


def _fetched(request: Request, store: Path, progress: Progress) -> Path:
    """Return the file or folder to unpack; what came over the network has the right hash."""
    if is_url(request.source):
        if not request.sha256:
            raise ChecksumError("an address needs --sha256 with the 64 digits its source states: what comes over a network can be changed")
        if request.offline:
            raise ModelNotFoundError(
                f"{plain_url(request.source)} needs the network, and --offline was given: fetch it elsewhere, add the file"
            )
        most = request.limits.total_bytes
        place = store / DOWNLOADS
        return download(request.source, request.sha256.lower(), place, most_bytes=most, patience=request.patience, progress=progress)
    path = Path(request.source)
    if not path.exists():
        raise ModelNotFoundError(f"{path} is neither a file or folder nor an http(s) address")
    if path.is_file() and path.suffix.lower() in _BARE_WEIGHTS:
        load_checkpoint(path)  # says which calls a pickle asks for
        raise IncompatibleModelError(
            f"{path} holds weights alone, which do not say what they find: give the folder or archive of the model"
        )
    return path


def _origin(request: Request, source: Path, unpacked: Path) -> Origin:
    """Return where the model came from; raises ChecksumError where its hash is not the expected one."""
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    if source.is_dir():
        files = hash_files(unpacked)
        found, size = hash_of_hashes(files), sum(entry.bytes for entry in files.values())
    else:
        found, size = sha256_of(source), source.stat().st_size
    if request.sha256 and found != request.sha256.lower():
        raise ChecksumError(f"{source} has SHA-256 {found}, expected {request.sha256}: do not use it; get it again from its source")
    return Origin(plain_url(request.source) if is_url(request.source) else source.resolve().name, found, size, today)


def _folder_name(source: str) -> str:
    """Return a plain name made from that of an archive: what lies in it without a folder around takes its name from here."""
    name = Path(plain_url(source) if is_url(source) else Path(source).resolve()).name
    for suffix in (".gz", ".tar", ".tgz", ".zip"):
        name = name.removesuffix(suffix)
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:100] or "model"


def _inner_place(source: Path) -> Path:
    """Return where the content goes: nnU-Net reads data set and configuration from the names of its folders, bundles their own."""
    source = source.resolve()
    if not source.is_dir():
        return Path()
    if kind_of(source) in ("medseg", "prompt"):
        return Path()
    in_dataset = kind_of(source) == "nnunet" and _DATASET.match(source.parent.name)
    return Path(source.parent.name, source.name) if in_dataset else Path(source.name)


def _work_folder(store: Path) -> Path:
    adding = store / ADDING
    work = adding / uuid.uuid4().hex
    try:
        work.mkdir(parents=True)
    except OSError as err:
        raise OutputError(f"{store} cannot be written: {err.strerror}. Choose another folder with --store") from err
    for left in adding.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_S:
                shutil.rmtree(left, ignore_errors=True)
    return work


def _taken(name: str, store: Path) -> OutputExistsError:
    if (builtin_folder() / name).exists():
        return OutputExistsError(f"{name!r} is a model that comes with medseg: choose another name with --name")
    return OutputExistsError(f"{name!r} is installed already: `medseg models remove {name}` first, or choose another name with --name")
