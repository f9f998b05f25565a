"""Training states: whole or not there at all, and never a program."""

from __future__ import annotations

import os
import pickle

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from medseg.core.errors import IncompatibleModelError, OutputError  # noqa: E402
from medseg.training.checkpoint import (  # noqa: E402
    Checkpoint,
    load_checkpoint,
    optimiser_tensors,
    restore_optimiser,
    save_checkpoint,
)


def state(value: float) -> Checkpoint:
    weights = torch.full((2, 3, 4, 5, 6), value).to(memory_format=torch.channels_last_3d)
    return Checkpoint({"network": {"a/b.weight": weights}, "average": {"n": torch.tensor(3)}}, {"step": 7, "best": float("-inf")})


def test_what_is_saved_comes_back(tmp_path):
    save_checkpoint(tmp_path / "checkpoint.safetensors", state(0.5))
    back = load_checkpoint(tmp_path / "checkpoint.safetensors")
    assert torch.equal(back.tensors["network"]["a/b.weight"], state(0.5).tensors["network"]["a/b.weight"])
    assert int(back.tensors["average"]["n"]) == 3
    assert back.document == {"step": 7, "best": float("-inf")}


def test_a_write_that_fails_leaves_the_old_state(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, state(1.0))

    def full_disk(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OutputError, match="free some space"):
        save_checkpoint(path, state(2.0))
    monkeypatch.undo()
    assert float(load_checkpoint(path).tensors["network"]["a/b.weight"].mean()) == 1.0
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_a_pickle_or_a_cut_file_is_refused_and_nothing_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, state(1.0))
    content = path.read_bytes()
    for broken in (pickle.dumps(Malicious()), content[:-100], content[:20], b"", b"\xff" * 64):
        path.write_bytes(broken)
        with pytest.raises(IncompatibleModelError, match="train it anew"):
            load_checkpoint(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_an_optimiser_goes_on_as_if_nothing_had_happened(kind):
    def made():
        torch.manual_seed(0)
        layer = torch.nn.Conv3d(2, 3, 3).to(memory_format=torch.channels_last_3d)
        if kind == "adamw":
            return layer, torch.optim.AdamW(layer.parameters(), lr=0.1)
        return layer, torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9, nesterov=True)

    def step(layer, optimiser, seed):
        torch.manual_seed(seed)
        optimiser.zero_grad()
        layer(torch.randn(1, 2, 4, 4, 4)).square().sum().backward()
        optimiser.step()

    first, optimiser = made()
    for seed in range(4):
        step(first, optimiser, seed)
    second, half = made()
    for seed in range(2):
        step(second, half, seed)
    third, resumed = made()
    third.load_state_dict(second.state_dict())
    restore_optimiser(resumed, optimiser_tensors(half))
    for seed in (2, 3):
        step(third, resumed, seed)
    assert torch.equal(first.weight, third.weight)
