from __future__ import annotations

import math
import pickle
import random
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from malicious_checkpoints import Reduced

from medseg.core.errors import ChecksumError, IncompatibleModelError, ModelError, ModelNotFoundError, UnsafeModelError
from medseg.segmentation.learned.store.checkpoint import load_checkpoint
from medseg.segmentation.learned.store.pickle_reading import names_in, read_pickle


def same(one: Any, other: Any) -> bool:
    """Compare nested values, tensors by dtype, shape and bits."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and one.shape == other.shape and bool(torch.equal(one, other))
    if isinstance(one, Mapping):
        return isinstance(other, Mapping) and list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and (one == other or (isinstance(one, float) and math.isnan(one) and math.isnan(other)))


def everything() -> dict[str, Any]:
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 4, 3), torch.nn.BatchNorm3d(4))
    optimiser = torch.optim.AdamW(network.parameters())
    network(torch.randn(2, 1, 6, 6, 6)).sum().backward()
    optimiser.step()
    base = torch.arange(60.0).reshape(3, 4, 5)
    return {
        "network_weights": network.state_dict(),
        "optimizer_state": optimiser.state_dict(),
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "views": [base, base[1:], base.transpose(0, 2)[::2], base[:, :, 0]],
        "kinds": OrderedDict(
            (str(dtype), torch.ones(3, dtype=dtype))
            for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int8, torch.uint8, torch.bool, torch.int16)
        ),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5),
        "numpy": [np.float64(0.25), np.float32(0.5), np.int64(3), np.bool_(True), np.uint8(7)],
        "plain": {"none": None, "text": "Läsion", "int": 2**40, "negative": -1, "float": 1e-300, "bytes": b"\0\xff", "tuple": (1, (2, 3))},
        "size": torch.Size([1, 2]),
        "dtype": torch.float32,
        "device": torch.device("cuda:0"),
        "nan": float("nan"),
    }


def test_what_torch_saves_comes_back_as_torch_itself_loads_it(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pth"
    torch.save(everything(), file)
    assert same(load_checkpoint(file), torch.load(file, weights_only=False, map_location="cpu"))


def test_a_network_saved_from_another_folder_name_or_suffix_is_read(tmp_path: Path) -> None:
    for name in ("model.pt", "a b.ckpt", "weights"):
        torch.save({"weight": torch.ones(2)}, tmp_path / name)
        assert torch.equal(load_checkpoint(tmp_path / name)["weight"], torch.ones(2))


def test_safetensors_are_read_whatever_their_name(tmp_path: Path) -> None:
    weights = {"a": torch.randn(3, 4), "b": torch.ones(2, dtype=torch.float16)}
    safetensors.torch.save_file(weights, tmp_path / "weights.bin")
    assert same(weights, dict(sorted(load_checkpoint(tmp_path / "weights.bin").items())))


def test_an_optimisers_state_takes_no_memory(tmp_path: Path) -> None:
    """What is not touched is not read from the disk: the resident memory grows by the checks' buffers only."""
    import resource

    file = tmp_path / "checkpoint.pth"
    torch.save({"optimizer_state": torch.zeros(40 << 20, dtype=torch.float32), "weight": torch.ones(3)}, file)  # 160 MB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    loaded = load_checkpoint(file)
    assert torch.equal(loaded["weight"], torch.ones(3))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 80 << 10  # kB


@pytest.mark.parametrize(
    "content", [b"", b"hello, this is no checkpoint", b"PK\x03\x04", b"PK\x03\x04" + b"\0" * 100, b"\x08" + b"\0" * 7 + b"{"]
)
def test_what_is_no_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises((ChecksumError, IncompatibleModelError)):
        load_checkpoint(tmp_path / "weights.pth")


def test_missing_files_and_folders_are_said(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="missing"):
        load_checkpoint(tmp_path / "absent.pth")
    with pytest.raises(ModelNotFoundError, match="no file"):
        load_checkpoint(tmp_path)


def test_a_tensor_alone_and_a_program_are_no_weights(tmp_path: Path) -> None:
    import warnings

    torch.save(torch.ones(3), tmp_path / "tensor.pt")
    with pytest.raises(IncompatibleModelError, match="state dict"):
        load_checkpoint(tmp_path / "tensor.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is on its way out; files of it are not
        torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "program.pt")
    with pytest.raises(UnsafeModelError, match="TorchScript"):
        load_checkpoint(tmp_path / "program.pt")


def test_all_unsafe_names_are_listed_and_the_safe_ones_are_not(tmp_path: Path) -> None:
    evil = [Reduced(function, "1") for function in (eval, exec, __import__)]
    torch.save({"weight": torch.ones(2), "numpy": np.float64(1), "evil": evil}, tmp_path / "evil.pth")
    with pytest.raises(UnsafeModelError) as caught:
        load_checkpoint(tmp_path / "evil.pth")
    text = str(caught.value)
    assert all(name in text for name in ("eval", "exec", "__import__"))
    assert "numpy" not in text
    assert "_rebuild_tensor" not in text


def test_numpy_arrays_and_objects_are_no_weights(tmp_path: Path) -> None:
    torch.save({"array": np.zeros(3)}, tmp_path / "array.pth")
    with pytest.raises(UnsafeModelError, match="_reconstruct"):
        load_checkpoint(tmp_path / "array.pth")
    torch.save({"text": np.str_("x")}, tmp_path / "text.pth")
    with pytest.raises(UnsafeModelError, match="no plain numbers"):
        load_checkpoint(tmp_path / "text.pth")


def test_a_mutilated_file_is_refused_or_reads_as_before(tmp_path: Path) -> None:
    """300 random changes: never another exception, never other values."""
    torch.manual_seed(0)
    weights = {"a": torch.randn(4, 3), "b": [torch.ones(3), np.float64(2.0)], "c": {"d": "text"}}
    torch.save(weights, tmp_path / "good.pth")
    good = (tmp_path / "good.pth").read_bytes()
    chance = random.Random(5)
    file, refused = tmp_path / "bad.pth", 0
    for _ in range(300):
        content = bytearray(good)
        kind = chance.choice(["flip", "cut", "zeros", "insert"])
        place = chance.randrange(len(content))
        if kind == "flip":
            content[place] ^= 1 << chance.randrange(8)
        elif kind == "cut":
            del content[place:]
        elif kind == "zeros":
            content[place : place + 16] = bytes(len(content[place : place + 16]))
        else:
            content[place:place] = bytes([chance.randrange(256)])
        file.write_bytes(content)
        try:
            loaded = load_checkpoint(file)
        except ModelError:
            refused += 1
        else:
            assert same(loaded, weights), (kind, place)
    assert refused > 150


def test_the_pickle_is_read_without_building_anything(tmp_path: Path) -> None:
    content = pickle.dumps({"x": Reduced(open, str(tmp_path / "canary"), "w")}, protocol=2)
    found = read_pickle(content, "test")
    assert found.names[0] in ("io.open", "_io.open", "builtins.open")
    assert found.calls[0].arguments == (str(tmp_path / "canary"), "w")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_names_of_bare_pickles_are_shown_for_every_protocol(protocol: int) -> None:
    import io

    content = pickle.dumps([Reduced(eval, "1"), Reduced(exec, "2")], protocol=protocol)
    names = names_in(io.BytesIO(content + content[:-3]))
    assert [name.split(".")[-1] for name in names] == ["eval", "exec"]
