"""TorchScript archives (`.ts`): inspected member by member, written anew from what was inspected, only then loaded.

What loading can do is limited to the operators on the list of `script_code`: no files, no processes, no custom classes.
It is still a program in torch's own interpreter (it may loop for ever), read by torch's own parser; a bundle with plain
weights is the better choice where there is one.
"""

from __future__ import annotations

import hashlib
import io
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.core.errors import ChecksumError, IncompatibleModelError, ModelNotFoundError, UnsafeModelError
from medseg.segmentation.learned.bundle.config import FILE_LIMIT, read_text, unsafe
from medseg.segmentation.learned.bundle.contents import read_contents
from medseg.segmentation.learned.bundle.metadata import read_metadata
from medseg.segmentation.learned.bundle.script_code import refused_code, refused_pickle
from medseg.segmentation.learned.dependencies import import_torch

if TYPE_CHECKING:
    from medseg.segmentation.learned.bundle.model import BundleModel

ARCHIVE_LIMIT = 8 << 30
_MOST_MEMBERS = 100_000
_CODE_LIMIT = 64 << 20  # of all code and pickles, unpacked
# Positions in the author's source, and the inputs a network was traced with: not needed, so not given to torch's parser.
_LEFT_OUT = (".debug_pkl",)
_PLACES = ("code", "data", "constants", "tensors", "extra", ".data", "traced_inputs")
_FILES = (
    "data.pkl",
    "constants.pkl",
    "attributes.pkl",
    "traced_inputs.pkl",
    "version",
    "byteorder",
    ".format_version",
    ".storage_alignment",
)
_LEFT_OUT_PLACES = ("traced_inputs", "traced_inputs.pkl")


def inspect_archive(path: Path) -> tuple[bytes, dict[str, bytes]]:
    """Return an archive that holds nothing but inspected members, and the extra files in it (names → contents).

    Nothing is executed. Raises UnsafeModelError with the list of what the program does beyond network arithmetic,
    ChecksumError for a damaged file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _checked_members(path, archive)
            contents = {name: archive.read(member) for name, member in members.items()}
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, OSError, RuntimeError) as err:
        raise ChecksumError(f"{path.name} is damaged or no TorchScript archive: copy or download it again") from err
    refusals: list[str] = []
    for name, content in contents.items():
        if name.startswith("code/"):
            try:
                text = content.decode("utf-8")
            except UnicodeDecodeError:
                refusals.append(f"{name}: not UTF-8")
                continue
            refusals += refused_code(text, name)
        elif name.endswith(".pkl"):
            refusals += refused_pickle(content, name)
    if refusals:
        raise unsafe(path.name, refusals)
    extra = {name.removeprefix("extra/"): content for name, content in contents.items() if name.startswith("extra/")}
    return _written(contents), extra


def _checked_members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members by their names without the folder they lie in; refused: links, escapes, doubles, bombs, unknown places."""
    infos = archive.infolist()
    top = infos[0].filename.split("/")[0] if infos else ""
    names: dict[str, zipfile.ZipInfo] = {}
    text = packed = 0
    for info in infos:
        name = info.filename.removeprefix(f"{top}/")
        place = name.split("/")[0]
        known = place in _PLACES or name in _FILES
        parts = name.split("/")
        if (
            name == info.filename
            or not known
            or name in names
            or ".." in parts
            or "" in parts
            or "\\" in name
            or "\x00" in info.orig_filename
        ):
            raise UnsafeModelError(
                f"{path.name} has the member {info.filename[:120]!r}, which TorchScript never writes: do not use this file"
            )
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
            raise UnsafeModelError(f"{path.name} has the member {info.filename[:120]!r} in a form TorchScript never writes")
        if place in ("code", "extra") or name.endswith(".pkl"):
            text += info.file_size
        elif info.compress_size != info.file_size:
            raise UnsafeModelError(f"{path.name} has compressed tensors, which TorchScript never writes: do not use this file")
        packed += info.file_size
        if not name.endswith(_LEFT_OUT) and place not in _LEFT_OUT_PLACES:
            names[name] = info
    if len(infos) > _MOST_MEMBERS or text > _CODE_LIMIT or packed > ARCHIVE_LIMIT:
        raise UnsafeModelError(f"{path.name} unpacks to {packed} bytes in {len(infos)} members: more than a network needs")
    if "data.pkl" not in names or not any(name.startswith("code/") for name in names):
        raise IncompatibleModelError(f"{path.name} is no TorchScript archive: it has no code or no data.pkl")
    return names


def _written(contents: dict[str, bytes]) -> bytes:
    """A plain archive of exactly these members, so that torch's reader cannot see another one than we did."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in contents.items():
            if not name.startswith("extra/"):
                archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)
    return buffer.getvalue()


def load_script(content: bytes) -> Any:
    """Return the network of an inspected (or trusted) archive on the CPU, as a function of patches."""
    torch = import_torch()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that TorchScript is deprecated
            module = torch.jit.load(io.BytesIO(content), map_location="cpu")
    except Exception as err:  # torch raises RuntimeError and others for archives it cannot read
        raise IncompatibleModelError("torch cannot load this TorchScript archive: it is damaged, or of another version of torch") from err
    return ScriptNetwork(module.eval())


class ScriptNetwork:
    """A TorchScript module that gives one tensor: the first where it gives several."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __call__(self, patches: Any) -> Any:
        """Return the outputs for patches (B, C, ...)."""
        output = self.module(patches)
        return output[0] if isinstance(output, (list, tuple)) else output

    def to(self, *args: Any, **kwargs: Any) -> ScriptNetwork:
        """Move the module, as `torch.nn.Module.to`."""
        self.module.to(*args, **kwargs)
        return self


def script_loader(path: Path) -> Callable[[], Any]:
    """Return a function that gives the network of an archive; the archive is inspected now, and again when it is loaded."""
    inspect_archive(path)
    return lambda: load_script(inspect_archive(path)[0])


def open_archive(path: Path, trusted_sha256: str | None = None) -> BundleModel:
    """Return the model of one `.ts` file with MONAI's extra files (`metadata.json`, `inference.json`) within.

    `trusted_sha256` must be the SHA-256 of the file; then its program may use operators beyond the list.
    """
    from medseg.segmentation.learned.bundle.model import bundle_model

    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if trusted_sha256 is not None:
        if digest != trusted_sha256.lower():
            raise ChecksumError(f"{path.name} has SHA-256 {digest}, not the one that is trusted: compare it with its source")
        extra = _extra_files(content)
        load: Callable[[], Any] = lambda: load_script(content)  # noqa: E731 - beside its twin below
    else:
        clean, extra = inspect_archive(path)
        load = lambda: load_script(clean)  # noqa: E731
    name = next((one for one in ("inference.json", "inference.yaml", "inference.yml", "inference") if one in extra), None)
    if name is None or not {"metadata.json", "metadata"} & set(extra):
        raise ModelNotFoundError(
            f"{path.name} holds no metadata.json and inference.json: spacing, intensities and labels are unknown; "
            "use the bundle's whole folder"
        )
    entries = read_text(extra[name], name if "." in name else f"{name}.json")
    described = extra.get("metadata.json", extra.get("metadata", b""))
    metadata = read_metadata(read_text(described, "metadata.json"), path.stem)
    return bundle_model(read_contents(entries, metadata, None, needs_network=False), digest, load)


def _extra_files(content: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            found = {info.filename.split("/extra/", 1)[-1]: info for info in archive.infolist() if "/extra/" in info.filename}
            return {name: archive.read(info) for name, info in found.items() if info.file_size <= FILE_LIMIT}
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, OSError) as err:
        raise ChecksumError("the file is damaged or no TorchScript archive: copy or download it again") from err
