from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from medseg.core.errors import ChecksumError, IncompatibleModelError, ModelNotFoundError, UnsafeModelError
from medseg.segmentation.learned.store import find_model, list_models, parse_description, read_folder

MakeModel = Callable[..., Path]
Entries = Callable[..., dict[str, object]]


def test_a_description_comes_back_as_it_was_written(description_entries: Entries) -> None:
    entries = description_entries(overlap=0.25, mirror_axes=[0])
    again = parse_description(entries).to_dict()
    assert parse_description(again) == parse_description(entries)
    for key, value in entries.items():
        assert again[key] == value


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"schema": "medseg.model/2"}, "medseg.model/2"),
        ({"spacing_mm": [1, 1]}, "spacing_mm"),
        ({"spacing_mm": [1, 0, 1]}, "spacing_mm"),
        ({"orientation": "RLS"}, "RLS"),
        ({"normalisation": {"kind": "magic"}}, "normalisation"),
        ({"normalisation": {"kind": "clip-and-scale", "lower": 5, "upper": 5}}, "lower must be below upper"),
        ({"patch_size": [32, 32, 30]}, "multiple of 16"),
        ({"overlap": 1.0}, "overlap"),
        ({"segments": []}, "segments"),
        ({"segments": [{"number": 1, "label": "a"}, {"number": 1, "label": "b"}]}, "same number"),
        ({"segments": [{"number": 1, "label": "a"}, {"number": 2, "label": "a"}]}, "same label"),
        ({"segments": [{"number": 1, "label": "a", "type": {"scheme": "SCT"}}]}, "code"),
        ({"segments": [{"number": 1, "label": "a", "colour": [0, 0, 300]}]}, "colour"),
        ({"weights": {"file": "weights.safetensors", "sha256": "xyz", "bytes": 3}}, "sha256"),
        ({"surprise": 1}, "surprise"),
        ({"name": "../evil"}, "name"),
    ],
)
def test_a_wrong_description_is_refused_by_name(change: dict[str, object], word: str, description_entries: Entries) -> None:
    with pytest.raises(IncompatibleModelError, match=word.replace(".", r"\.")):
        parse_description(description_entries(**change))


@pytest.mark.parametrize("file", ["weights.pt", "weights.PTH", "last.ckpt", "a.pkl"])
def test_weights_that_can_hold_code_are_refused(file: str, description_entries: Entries) -> None:
    with pytest.raises(UnsafeModelError, match="can run code"):
        parse_description(description_entries(weights={"file": file, "sha256": "0" * 64, "bytes": 1}))


@pytest.mark.parametrize("file", ["../w.safetensors", "/w.safetensors", "a/w.safetensors", "a\\w.safetensors", ".safetensors", "w.txt", ""])
def test_weights_outside_the_folder_are_refused(file: str, description_entries: Entries) -> None:
    with pytest.raises(UnsafeModelError, match="plain name"):
        parse_description(description_entries(weights={"file": file, "sha256": "0" * 64, "bytes": 1}))


def test_a_pickle_given_as_the_model_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    file.write_bytes(b"\x80\x04.")
    with pytest.raises(UnsafeModelError, match="can run code"):
        find_model(file)


def test_a_model_is_found_by_path_by_file_and_by_name(make_model: MakeModel, tmp_path: Path) -> None:
    folder = make_model()
    assert find_model(folder).path == folder
    assert find_model(str(folder / "model.json")).path == folder
    assert find_model("tiny", [tmp_path]).path == folder
    assert [model.description.name for model in list_models([tmp_path])].count("tiny") == 1


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no model is called 'absent'"):
        find_model("absent")
    with pytest.raises(ModelNotFoundError, match=r"has no model\.json"):
        find_model(tmp_path)


def test_broken_json_is_refused_and_left_out_of_the_list(make_model: MakeModel, tmp_path: Path) -> None:
    folder = make_model()
    (folder / "model.json").write_text("{")
    with pytest.raises(IncompatibleModelError, match="not valid JSON"):
        read_folder(folder)
    assert all(model.path != folder for model in list_models([tmp_path]))
    (folder / "model.json").write_text("[" * 100_000)
    with pytest.raises(IncompatibleModelError, match="not valid JSON"):
        read_folder(folder)
    (folder / "model.json").write_text(json.dumps("x" * (1 << 20)))
    with pytest.raises(IncompatibleModelError, match="larger than"):
        read_folder(folder)


def test_one_changed_byte_and_one_missing_byte_are_noticed(make_model: MakeModel, tiny_weights: bytes) -> None:
    folder = make_model()
    assert read_folder(folder).read_weights() == tiny_weights
    middle = len(tiny_weights) // 2
    (folder / "weights.safetensors").write_bytes(tiny_weights[:middle] + bytes([tiny_weights[middle] ^ 1]) + tiny_weights[middle + 1 :])
    with pytest.raises(ChecksumError, match="SHA-256"):
        read_folder(folder).read_weights()
    (folder / "weights.safetensors").write_bytes(tiny_weights[:-1])
    with pytest.raises(ChecksumError, match="bytes"):
        read_folder(folder).read_weights()


def test_missing_and_linked_weights_are_refused(make_model: MakeModel) -> None:
    folder = make_model()
    weights = folder / "weights.safetensors"
    moved = weights.rename(folder / "elsewhere")
    with pytest.raises(ModelNotFoundError, match="missing"):
        read_folder(folder).read_weights()
    weights.symlink_to(moved)
    with pytest.raises(UnsafeModelError, match="link"):
        read_folder(folder).read_weights()
