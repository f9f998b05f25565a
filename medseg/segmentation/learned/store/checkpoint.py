"""Weights of others as data: safetensors, else a torch archive read without running anything in it, else a refusal."""

from __future__ import annotations

import io
import json
import math
import os
import stat
import struct
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medseg.core.errors import ChecksumError, IncompatibleModelError, ModelNotFoundError, UnsafeModelError
from medseg.segmentation.learned.dependencies import import_safetensors, import_torch
from medseg.segmentation.learned.store.pickle_reading import Call, Name, PickleContents, Stored, names_in, read_pickle

_GET_IT_AGAIN = "copy or download it again from its source, and compare the SHA-256"
_PICKLES = (".pkl", ".pickle")
_MOST_MEMBERS = 200_000
_LARGEST_PICKLE = 64 << 20  # names and shapes, no values: a network of 10,000 tensors needs about 2 MB
_LARGEST_HEADER = 64 << 20
_CHUNK = 1 << 22

# Everything a file of weights needs. Shorter than torch's own list, which also has calls that allocate what they are told to.
_STORAGE_BYTES = {
    **dict.fromkeys(("Double", "Long", "ComplexFloat"), 8),
    **dict.fromkeys(("Float", "Int"), 4),
    **dict.fromkeys(("Half", "BFloat16", "Short"), 2),
    **dict.fromkeys(("Byte", "Char", "Bool", "Untyped"), 1),
}
_STORAGES = {
    f"{module}.{kind}Storage": size for kind, size in _STORAGE_BYTES.items() for module in ("torch", "torch.storage", "torch.cuda")
}
_TENSORS = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3")
_FLOATS = ("float64", "float32", "float16", "bfloat16")
_DTYPES = tuple(f"torch.{name}" for name in (*_FLOATS, "int64", "int32", "int16", "int8", "uint8", "bool"))
_NUMPY_SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
_NUMPY_KINDS = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1")
_ALLOWED = frozenset(
    (
        *_STORAGES,
        *_TENSORS,
        *_DTYPES,
        *_NUMPY_SCALARS,
        "numpy.dtype",
        "torch._utils._rebuild_parameter",
        "torch.Size",
        "torch.device",
        "torch.serialization._get_layout",
        "collections.OrderedDict",
        "_codecs.encode",
        "builtins.set",
    )
)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return what a file of weights holds: names → tensors (or the dictionary around them), on the CPU.

    Read are safetensors files and the zip archives of `torch.save` (`.pt`, `.pth`, `.ckpt`), the latter only where their
    pickle asks for tensors, numpy scalars and plain containers; the tensors are mapped from the file, so that parts never
    used (an optimiser's state) take no memory. Raises UnsafeModelError with the names of what a file wants to call
    otherwise, ChecksumError for a damaged or truncated file, IncompatibleModelError for a file that holds no weights,
    ModelNotFoundError where it is missing.
    """
    path = Path(path)
    _check_ordinary(path)
    with path.open("rb") as stream:
        start = stream.read(16)
    if start[:4] == b"PK\x03\x04":
        return _from_archive(path)
    if len(start) >= 9 and start[8:9] == b"{":
        return _from_safetensors(path)
    if not start:
        raise ChecksumError(f"{path} is empty: {_GET_IT_AGAIN}")
    if start[:1] == b"\x80" or b"ustar" in start or path.suffix.lower() in _PICKLES:
        with path.open("rb") as stream:
            names = names_in(io.BytesIO(stream.read(_LARGEST_PICKLE)))
        asks = f" (it asks for {_few(names)})" if names else ""
        raise UnsafeModelError(
            f"{path} is a bare pickle, which can run any program when loaded{asks}; medseg never loads one. "
            "Ask its author for safetensors, or for a file saved by torch 1.6 or later"
        )
    raise IncompatibleModelError(f"{path} is neither a safetensors file nor an archive of torch.save: {_GET_IT_AGAIN}")


def _check_ordinary(path: Path) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError as err:
        raise ModelNotFoundError(f"{path} is missing: install the model again") from err
    if not stat.S_ISREG(mode):
        raise ModelNotFoundError(f"{path} is no file: give the file of the weights")


def _from_safetensors(path: Path) -> dict[str, Any]:
    _check_safetensors_length(path)
    load_file = import_safetensors().load_file
    try:
        weights: dict[str, Any] = load_file(str(path))
    except Exception as err:  # safetensors' own error class is not part of its stable interface
        raise IncompatibleModelError(f"{path} is no valid safetensors file: {_GET_IT_AGAIN}") from err
    return weights


def _check_safetensors_length(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        if length > _LARGEST_HEADER:
            raise IncompatibleModelError(f"{path} claims a header of {length} bytes: no safetensors file has one; {_GET_IT_AGAIN}")
        header = stream.read(length)
    if len(header) < length:
        raise ChecksumError(f"{path} ends within its header: it is cut short; {_GET_IT_AGAIN}")
    try:
        ends = [entry["data_offsets"][1] for name, entry in json.loads(header).items() if name != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
        if size < expected:
            raise ChecksumError(f"{path} has {size} of {expected} bytes: it is cut short; {_GET_IT_AGAIN}")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as err:
        raise IncompatibleModelError(f"{path} has no valid safetensors header: {_GET_IT_AGAIN}") from err


def _from_archive(path: Path) -> dict[str, Any]:
    content, records = _read_pickle_of(path)
    found = read_pickle(content, str(path))
    torch = import_torch()
    numbers = [type(np.dtype(kind)) for kind in _NUMPY_KINDS]
    scalar = np.float64(0).__reduce__()[0]
    allowed = [np.dtype, *numbers, *((scalar, name) for name in _NUMPY_SCALARS)]
    with torch.serialization.safe_globals(allowed):
        _check_names(path, found, torch)
        _check_calls(path, found)
        _check_storages(path, found, records)
        try:
            loaded = torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
        except Exception as err:  # torch raises many kinds; its texts speak of turning the safety off
            raise UnsafeModelError(f"{path} cannot be read as plain weights: {_GET_IT_AGAIN}") from err
    if not isinstance(loaded, Mapping):
        raise IncompatibleModelError(f"{path} holds {type(loaded).__name__}, not named weights: give the file that holds the state dict")
    return dict(loaded)


def is_torchscript(names: Iterable[str]) -> bool:
    """Say whether an archive with these members is a TorchScript program."""
    parts = [name.split("/")[1:] for name in names]
    return any(part in (["constants.pkl"], ["bytecode.pkl"]) or part[:1] == ["code"] for part in parts)


def holds_torchscript(path: Path) -> bool:
    """Say whether a file is a TorchScript program (an archive that is damaged is none)."""
    try:
        with zipfile.ZipFile(path) as archive:
            return is_torchscript(archive.namelist())
    except (zipfile.BadZipFile, ValueError, RuntimeError, struct.error, OSError):
        return False


def _read_pickle_of(path: Path) -> tuple[bytes, dict[str, int]]:
    """Return the pickle of a torch archive and the bytes of each record, after checking every member."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if is_torchscript(member.filename for member in members):
                raise UnsafeModelError(f"{path} is a TorchScript program, not a file of weights: medseg takes weights as data only")
            _check_members(path, members)
            top = members[0].filename.split("/")[0]
            records = {member.filename.removeprefix(f"{top}/"): member.file_size for member in members}
            if "data.pkl" not in records:
                raise IncompatibleModelError(f"{path} is a zip archive, but none of torch.save: it has no data.pkl")
            if records["data.pkl"] > _LARGEST_PICKLE:
                raise UnsafeModelError(f"{path} has a pickle of {records['data.pkl']} bytes: weights are no pickle of this size")
            for member in members:
                _check_sum(archive, member)
            return archive.read(f"{top}/data.pkl"), records
    except (zipfile.BadZipFile, EOFError, ValueError, RuntimeError, struct.error, OSError) as err:
        raise ChecksumError(f"{path} is damaged or cut short: {_GET_IT_AGAIN}") from err


def _check_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Check that the members are stored side by side, once each, in one folder: no bomb, no second reading."""
    names = [member.filename for member in members]
    top = names[0].split("/")[0] if names else ""
    reason = ""
    if not 0 < len(members) <= _MOST_MEMBERS:
        reason = f"{len(members)} members"
    elif len(set(names)) < len(names):
        reason = "two members of one name"
    elif any(member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size for member in members):
        reason = "compressed members"
    elif any(not name.startswith(f"{top}/") or ".." in name.split("/") or "\\" in name for name in names):
        reason = "members outside of its folder"
    else:
        end = 0
        for member in sorted(members, key=lambda one: one.header_offset):
            if member.header_offset < end:
                reason = "members that overlap"
            end = member.header_offset + 30 + len(member.filename) + member.file_size
        if end > path.stat().st_size:
            raise ChecksumError(f"{path} is cut short: {_GET_IT_AGAIN}")
    if reason:
        raise UnsafeModelError(f"{path} has {reason}, which torch.save never writes: do not use this file")


def _check_sum(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Read a member to its end: zipfile compares its CRC there, torch does not."""
    with archive.open(member) as stream:
        while stream.read(_CHUNK):
            pass


def _check_names(path: Path, found: PickleContents, torch: Any) -> None:
    try:
        unsafe = set(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except Exception as err:
        raise UnsafeModelError(f"{path} cannot be read as plain weights: {_GET_IT_AGAIN}") from err
    unsafe |= set(found.names) - _ALLOWED
    if unsafe:
        raise UnsafeModelError(
            f"{path} wants to call {_few(sorted(unsafe))}: loading it could run any program, so medseg does not. "
            "Nothing was run. Ask its author for safetensors, or for the state dict alone"
        )


def _few(names: list[str]) -> str:
    return ", ".join(ascii(name[:120])[1:-1] for name in names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _check_calls(path: Path, found: PickleContents) -> None:
    """Check that tensors lie within their storages and numpy scalars are plain numbers."""
    for call in found.calls:
        name = call.what.text if isinstance(call.what, Name) else ""
        if not name:
            raise UnsafeModelError(f"{path} calls something that is no name: do not use this file")
        if name in _TENSORS and not _fits(call):
            raise UnsafeModelError(f"{path} has a tensor larger than its values: it is damaged or made to mislead; {_GET_IT_AGAIN}")
        if name == "numpy.dtype" and not (isinstance(call.arguments, tuple) and call.arguments and call.arguments[0] in _NUMPY_KINDS):
            raise UnsafeModelError(f"{path} holds numpy values that are no plain numbers: medseg reads weights only")


def _fits(call: Call) -> bool:
    try:
        stored, offset, shape, stride = call.arguments[:4]
        numel = stored.identity[4] if isinstance(stored, Stored) else -1
        shape = shape.arguments[0] if isinstance(shape, Call) else shape  # torch.Size((…))
        if not all(type(n) is int and n >= 0 for n in (numel, offset, *shape, *stride)) or len(shape) != len(stride):
            return False
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        return math.prod(shape) == 0 or (math.prod(shape) <= numel and last < numel)
    except (TypeError, ValueError, IndexError, AttributeError):
        return False


def _check_storages(path: Path, found: PickleContents, records: dict[str, int]) -> None:
    for identity in found.storages:
        try:
            kind, storage, key, _, numel = identity
            expected = _STORAGES[storage.text] * numel
            there = records[f"data/{key}"]
        except (TypeError, ValueError, KeyError, AttributeError) as err:
            raise ChecksumError(f"{path} lacks values its tensors need: it is damaged; {_GET_IT_AGAIN}") from err
        if kind != "storage" or expected != there:
            raise UnsafeModelError(f"{path} claims {expected} bytes for values that take {there}: do not use this file")
