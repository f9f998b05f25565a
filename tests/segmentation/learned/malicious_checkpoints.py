"""Checkpoints that ask for a program, lie about sizes, or do not fit."""

from __future__ import annotations

import builtins
import functools
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from sound_models import MEDSEG_NETWORK, NNUNET_FOLDER, make_medseg, make_nnunet, nnunet_checkpoint, write_description


class Reduced:
    """An object whose pickle calls something."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call, self.arguments

    def __call__(self, *arguments: Any) -> None:
        """Pickle wants what it calls to be callable."""


def _evil_checkpoint(folder: Path, part: Any) -> Path:
    source = make_nnunet(folder)
    torch.save({**nnunet_checkpoint(), "logging": part}, folder / NNUNET_FOLDER / "fold_0" / "checkpoint_final.pth")
    return source


def os_system(folder: Path, canary: Path) -> Path:
    return _evil_checkpoint(folder, Reduced(os.system, f"touch {canary}"))


def builtins_eval(folder: Path, canary: Path) -> Path:
    return _evil_checkpoint(folder, Reduced(builtins.eval, f"open({str(canary)!r}, 'w')"))


def builtins_exec_deep(folder: Path, canary: Path) -> Path:
    return _evil_checkpoint(folder, {"a": [{"b": (1, Reduced(builtins.exec, f"open({str(canary)!r}, 'w')"))}]})


def reduce_within_reduce(folder: Path, canary: Path) -> Path:
    """The function that is called is itself the result of a call."""
    return _evil_checkpoint(folder, Reduced(Reduced(builtins.eval, "open"), str(canary), "w"))


def torch_load_again(folder: Path, canary: Path) -> Path:
    """A pickle that loads a second one, with the safety off."""
    second = folder / "second.pt"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(Reduced(os.system, f"touch {canary}"), second)
    return _evil_checkpoint(folder, Reduced(functools.partial(torch.load, weights_only=False), str(second)))


def whole_module(folder: Path, canary: Path) -> Path:
    return _evil_checkpoint(folder, torch.nn.Conv3d(1, 1, 1))


def allocates_on_load(folder: Path, canary: Path) -> Path:
    """Classes torch itself allows, called with a size that fills the memory."""
    return _evil_checkpoint(folder, Reduced(bytearray, 1 << 50))


def bare_pickle_as_checkpoint(folder: Path, canary: Path) -> Path:
    source = make_nnunet(folder)
    file = folder / NNUNET_FOLDER / "fold_0" / "checkpoint_final.pth"
    file.write_bytes(pickle.dumps(Reduced(os.system, f"touch {canary}")))
    return source


def bare_pickle_file(folder: Path, canary: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.pkl").write_bytes(pickle.dumps({"weights": Reduced(os.system, f"touch {canary}")}))
    return folder / "model.pkl"


def legacy_checkpoint(folder: Path, canary: Path) -> Path:
    source = make_nnunet(folder)
    file = folder / NNUNET_FOLDER / "fold_0" / "checkpoint_final.pth"
    torch.save({"network_weights": Reduced(os.system, f"touch {canary}")}, file, _use_new_zipfile_serialization=False)
    return source


def opcodes_of_protocol_4(folder: Path, canary: Path) -> Path:
    """Names pushed by STACK_GLOBAL, which lists of GLOBAL instructions do not show."""
    source = make_nnunet(folder)
    file = folder / NNUNET_FOLDER / "fold_0" / "checkpoint_final.pth"
    _rewrite(file, {"data.pkl": pickle.dumps({"network_weights": Reduced(os.system, f"touch {canary}")}, protocol=4)})
    return source


def pickle_called_safetensors(folder: Path, canary: Path) -> Path:
    source = make_medseg(folder)
    (source / "weights.safetensors").write_bytes(pickle.dumps(Reduced(os.system, f"touch {canary}")))
    write_description(source)
    return source


def _rewrite(file: Path, changes: dict[str, bytes], compression: int = zipfile.ZIP_STORED, twice: str = "") -> None:
    """Write a torch archive again with other contents of some records."""
    with zipfile.ZipFile(file) as archive:
        records = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in records.items():
            key = name.split("/", 1)[1]
            archive.writestr(name, changes.get(key, content))
            if key == twice:
                archive.writestr(name, content)


def values_shorter_than_claimed(folder: Path, canary: Path) -> Path:
    """Read through a memory map, such a file shows what lies behind its values."""
    source = make_nnunet(folder)
    file = folder / NNUNET_FOLDER / "fold_0" / "checkpoint_final.pth"
    _rewrite(file, {"data/0": b"\0" * 4})
    return source


def tensor_larger_than_storage(folder: Path, canary: Path) -> Path:
    source = make_nnunet(folder)
    entries = nnunet_checkpoint()
    entries["network_weights"] = {"stretched": torch.zeros(1).expand(1 << 40)}
    torch.save(entries, folder / NNUNET_FOLDER / "fold_0" / "checkpoint_final.pth")
    return source


def compressed_checkpoint(folder: Path, canary: Path) -> Path:
    """A bomb within the archive of torch: 64 MB of zeros in 64 kB."""
    source = make_nnunet(folder)
    file = folder / NNUNET_FOLDER / "fold_0" / "checkpoint_final.pth"
    _rewrite(file, {"data/0": b"\0" * (64 << 20)}, zipfile.ZIP_DEFLATED)
    return source


def record_twice(folder: Path, canary: Path) -> Path:
    import warnings

    source = make_nnunet(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile warns of what we want here
        _rewrite(folder / NNUNET_FOLDER / "fold_0" / "checkpoint_final.pth", {}, twice="data.pkl")
    return source


def truncated_checkpoint(folder: Path, canary: Path) -> Path:
    source = make_nnunet(folder)
    file = folder / NNUNET_FOLDER / "fold_0" / "checkpoint_final.pth"
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    return source


def flipped_bit(folder: Path, canary: Path) -> Path:
    source = make_nnunet(folder)
    file = folder / NNUNET_FOLDER / "fold_0" / "checkpoint_final.pth"
    with zipfile.ZipFile(file) as archive:
        info = next(info for info in archive.infolist() if info.filename.endswith("data/0"))
        name = struct.unpack_from("<HH", file.read_bytes(), info.header_offset + 26)
    content = bytearray(file.read_bytes())
    content[info.header_offset + 30 + sum(name)] ^= 0x40
    file.write_bytes(bytes(content))
    return source


def truncated_safetensors(folder: Path, canary: Path) -> Path:
    source = make_medseg(folder)
    file = source / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    write_description(source)
    return source


def huge_safetensors_header(folder: Path, canary: Path) -> Path:
    source = make_medseg(folder)
    (source / "weights.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    write_description(source)
    return source


def wrong_shapes(folder: Path, canary: Path) -> Path:
    source = make_nnunet(folder)
    entries = nnunet_checkpoint()
    name = next(iter(entries["network_weights"]))
    entries["network_weights"][name] = torch.zeros(7, 7)
    torch.save(entries, folder / NNUNET_FOLDER / "fold_0" / "checkpoint_final.pth")
    return source


def wrong_keys(folder: Path, canary: Path) -> Path:
    source = make_medseg(folder)
    (source / "weights.safetensors").write_bytes(safetensors.torch.save({"nothing": torch.zeros(3)}))
    write_description(source)
    return source


def nan_weights(folder: Path, canary: Path) -> Path:
    source = make_nnunet(folder)
    entries = nnunet_checkpoint()
    next(iter(entries["network_weights"].values())).view(-1)[0] = float("nan")
    torch.save(entries, folder / NNUNET_FOLDER / "fold_0" / "checkpoint_final.pth")
    return source


def hash_mismatch(folder: Path, canary: Path) -> Path:
    source = make_medseg(folder)
    file = source / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    return source


def huge_json(folder: Path, canary: Path) -> Path:
    source = make_medseg(folder)
    (source / "model.json").write_text('{"schema": "' + "x" * (2 << 20) + '"}')
    return source


def nested_json(folder: Path, canary: Path) -> Path:
    source = make_nnunet(folder)
    (folder / NNUNET_FOLDER / "plans.json").write_text("[" * 200_000)
    return source


def label_count_mismatch(folder: Path, canary: Path) -> Path:
    source = make_nnunet(folder)
    file = folder / NNUNET_FOLDER / "dataset.json"
    entries = json.loads(file.read_text())
    entries["labels"] = {"background": 0, "liver": 1, "spleen": 2, "kidney": 3}
    file.write_text(json.dumps(entries))
    return source


def label_count_mismatch_medseg(folder: Path, canary: Path) -> Path:
    source = make_medseg(folder)
    write_description(source, segments=[{"number": 1, "label": "first"}, {"number": 2, "label": "second"}])
    return source


def weights_outside_the_folder(folder: Path, canary: Path) -> Path:
    source = make_medseg(folder)
    write_description(source, weights={"file": "../../weights.safetensors", "sha256": "0" * 64, "bytes": 1})
    return source


def network_of_the_model(folder: Path, canary: Path) -> Path:
    """A network class outside of the list."""
    source = make_nnunet(folder)
    file = folder / NNUNET_FOLDER / "plans.json"
    file.write_text(file.read_text().replace("dynamic_network_architectures.architectures.unet.PlainConvUNet", "os.system"))
    return source


def layer_of_the_model(folder: Path, canary: Path) -> Path:
    """An argument that names a function to be imported."""
    source = make_nnunet(folder)
    file = folder / NNUNET_FOLDER / "plans.json"
    file.write_text(file.read_text().replace("torch.nn.LeakyReLU", "os.system"))
    return source


def giant_network(folder: Path, canary: Path) -> Path:
    source = make_medseg(folder)
    network = {**MEDSEG_NETWORK, "arguments": {**MEDSEG_NETWORK["arguments"], "features": [1 << 20] * 6}}  # type: ignore[dict-item]
    write_description(source, network=network)
    return source
