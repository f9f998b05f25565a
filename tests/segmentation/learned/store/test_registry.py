from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medseg.core.errors import IncompatibleModelError, ModelNotFoundError
from medseg.segmentation.learned.store.registry import read_registry, registered


def entry(**changes: Any) -> dict[str, Any]:
    values = {"name": "liver", "file": "liver.zip", "sha256": "a" * 64, "bytes": 10, "licence": "CC-BY-4.0", "intended_use": "Liver in CT"}
    return {key: value for key, value in {**values, **changes}.items() if value is not None}


def write(folder: Path, *models: Any, schema: str = "medseg.model-registry/1") -> Path:
    file = folder / "registry.json"
    file.write_text(json.dumps({"schema": schema, "models": list(models)}))
    return file


def test_models_are_found_beside_the_list_or_at_their_address(tmp_path: Path) -> None:
    file = write(tmp_path, entry(), entry(name="lung", file=None, url="https://example.org/lung.zip"))
    assert registered("liver", file).source(tmp_path) == str(tmp_path / "liver.zip")
    assert registered("lung", file).source(tmp_path) == "https://example.org/lung.zip"
    with pytest.raises(ModelNotFoundError, match="it has liver, lung"):
        registered("spleen", file)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"sha256": None}, "sha256"),
        ({"sha256": "abc"}, "sha256"),
        ({"licence": ""}, "licence"),
        ({"intended_use": None}, "intended_use"),
        ({"url": "https://example.org/a.zip"}, "either url or file"),
        ({"file": None}, "either url or file"),
        ({"file": None, "url": "ftp://example.org/a.zip"}, "http"),
        ({"name": "../liver"}, "name"),
        ({"script": "rm"}, "script"),
    ],
)
def test_a_list_must_say_everything(change: dict[str, Any], word: str, tmp_path: Path) -> None:
    with pytest.raises(IncompatibleModelError, match=word):
        read_registry(write(tmp_path, entry(**change)))


def test_what_is_no_list_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        read_registry(tmp_path / "absent.json")
    with pytest.raises(IncompatibleModelError, match="schema"):
        read_registry(write(tmp_path, schema="other"))
    with pytest.raises(IncompatibleModelError, match="one name"):
        read_registry(write(tmp_path, entry(), entry()))
    (tmp_path / "registry.json").write_text("[" * 100_000)
    with pytest.raises(IncompatibleModelError, match="no JSON"):
        read_registry(tmp_path / "registry.json")
