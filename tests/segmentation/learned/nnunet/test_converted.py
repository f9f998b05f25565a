from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from medseg.core.errors import ChecksumError, IncompatibleModelError, MedsegError, OutputExistsError, UnsafeModelError
from medseg.core.volume import Volume
from medseg.segmentation.learned.nnunet.converted import convert_nnunet, is_converted, open_converted
from medseg.segmentation.learned.nnunet.model import NnunetModel
from medseg.segmentation.learned.trained import Request


@pytest.fixture
def converted(write_model: Callable[..., Path], tmp_path: Path) -> Path:
    folder = write_model(folds=2, mirror=(0, 2))
    licence = {"weights": "CC-BY-4.0"}
    return convert_nnunet(folder, tmp_path / "converted", licence=licence, intended_use="Tests").parent


def edited(folder: Path, **changes: Any) -> Path:
    entries = json.loads((folder / "model.json").read_text())
    entries.update(changes)
    (folder / "model.json").write_text(json.dumps(entries))
    return folder


def test_no_pickle_is_left(converted: Path) -> None:
    names = sorted(file.name for file in converted.iterdir())
    assert names == ["3d_fullres_fold_0.safetensors", "3d_fullres_fold_1.safetensors", "model.json"]
    assert is_converted(converted)
    assert not is_converted(converted.parent)


def test_the_same_labels(converted: Path, scan: Volume, tmp_path: Path) -> None:
    original = NnunetModel.open(tmp_path / "Dataset900_Made")
    request = Request(device="cpu")
    one, other = (model.segment((scan,), request) for model in (original, open_converted(converted)))
    assert one.labels.any()
    assert (one.labels == other.labels).all()
    assert one.segments == tuple(segment for segment in original.segments)
    assert [s.label for s in other.segments] == [s.label for s in one.segments]
    assert other.record["mirror_axes"] == [0, 2]


def test_who_it_is(converted: Path) -> None:
    identity = open_converted(converted).identity
    assert identity.name == "dataset900_made"
    assert identity.licence == {"code": "unknown", "weights": "CC-BY-4.0", "data": "unknown"}
    assert identity.intended_use == "Tests"
    assert identity.kind == "nnunet"
    assert identity.modality == "CT"


def test_changed_weights_are_refused(converted: Path, scan: Volume) -> None:
    file = converted / "3d_fullres_fold_1.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    model = open_converted(converted)
    assert model.identity.sha256  # the hash it names is part of the identity before the weights are read
    with pytest.raises(ChecksumError, match="another size or SHA-256"):
        model.segment((scan,), Request(device="cpu"))


@pytest.mark.parametrize("file", ["../x.safetensors", "/etc/x.safetensors", "a.pth", ".hidden.safetensors", "a\\b.safetensors"])
def test_weights_lie_beside_the_description(converted: Path, file: str) -> None:
    stages = json.loads((converted / "model.json").read_text())["stages"]
    stages[0]["weights"][0]["file"] = file
    with pytest.raises(UnsafeModelError, match="plain name"):
        open_converted(edited(converted, stages=stages))


@pytest.mark.parametrize(
    "changes", [{"schema": "medseg.model/1"}, {"stages": []}, {"plans": {}}, {"dataset": {"labels": {}}}, {"name": "../x"}, {"licence": 7}]
)
def test_descriptions_that_cannot_be(converted: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(IncompatibleModelError):
        open_converted(edited(converted, **changes))


def test_a_folder_that_is_there_stays(converted: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputExistsError):
        convert_nnunet(tmp_path / "Dataset900_Made", converted)


def test_a_model_that_does_not_fit_is_not_converted(write_model: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_model(heads=7, name="Dataset901_Broken")
    with pytest.raises(MedsegError, match="output channels"):
        convert_nnunet(folder, tmp_path / "out")
