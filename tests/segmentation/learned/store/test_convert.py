from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from medseg.core.errors import ChecksumError, IncompatibleModelError, OutputExistsError
from medseg.segmentation.learned.nnunet.converted import open_converted
from medseg.segmentation.learned.store.add import Request, staged
from medseg.segmentation.learned.store.checkpoint import load_checkpoint
from medseg.segmentation.learned.store.convert import check_weights, convert_model


def test_an_nnunet_model_becomes_one_without_pickles(sound: dict[str, Path], tmp_path: Path) -> None:
    """Same tensors, bit for bit; what it may be used for goes along."""
    store = tmp_path / "store"
    with staged(Request(str(sound["nnunet"])), store) as model:
        model.install("organs", {"weights": "CC-BY-4.0"}, "Organs in CT")
    out = convert_model("organs", tmp_path / "converted", [store])
    assert sorted(path.suffix for path in out.iterdir()) == [".json", ".safetensors"]
    again = open_converted(out)
    assert again.identity.licence["weights"] == "CC-BY-4.0"
    assert again.identity.intended_use == "Organs in CT"
    assert [segment.label for segment in again.segments] == ["liver", "spleen"]
    before = load_checkpoint(next(sound["nnunet"].rglob("*.pth")))["network_weights"]
    after = load_checkpoint(next(out.glob("*.safetensors")))
    assert {name: tuple(tensor.shape) for name, tensor in after.items()}.items() <= {
        name: tuple(tensor.shape) for name, tensor in before.items()
    }.items()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())


def test_a_medseg_model_is_copied_and_compared(make_model: Callable[..., Path], tmp_path: Path) -> None:
    source = make_model()
    out = convert_model(source, tmp_path / "copy")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {path.name: path.read_bytes() for path in source.iterdir()}
    (source / "weights.safetensors").write_bytes(b"x" * 10)
    with pytest.raises(ChecksumError):
        convert_model(source, tmp_path / "second")
    assert not (tmp_path / "second").exists()
    with pytest.raises(ChecksumError):
        check_weights(source)


def test_a_bundle_is_not_converted_and_the_reason_is_said(sound: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(IncompatibleModelError, match="program of its own"):
        convert_model(sound["bundle"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_replaced_unasked_and_only_models_are_replaced(make_model: Callable[..., Path], tmp_path: Path) -> None:
    source = make_model()
    target = convert_model(source, tmp_path / "out")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        convert_model(source, target)
    (target / "old.txt").write_text("old")
    convert_model(source, target, overwrite=True)
    assert not (target / "old.txt").exists()
    (tmp_path / "private").mkdir()
    with pytest.raises(OutputExistsError, match="choose a new folder"):
        convert_model(source, tmp_path / "private", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "private", "tiny"]
    assert json.loads((target / "model.json").read_text())["name"] == "tiny"
