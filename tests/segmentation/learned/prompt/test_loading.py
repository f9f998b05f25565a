"""Folders of promptable models: found by name or path, checked before they are used, never run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medseg.core.errors import ChecksumError, IncompatibleModelError, ModelNotFoundError, UnsafeModelError
from medseg.segmentation.learned.loading import open_model
from medseg.segmentation.learned.prompt.description import ClickDescription, VistaDescription
from medseg.segmentation.learned.prompt.loading import find_prompt_model
from medseg.segmentation.learned.prompt.vista3d import class_numbers
from medseg.segmentation.learned.trained import Request

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")


def test_the_built_in_model_is_small_and_says_where_it_comes_from() -> None:
    """At most 4 MB; licences of weights and data, intended use and training are stated; its tensors fit."""
    model = find_prompt_model("click-3d")
    assert isinstance(model.description, ClickDescription)
    assert model.description.weights.bytes <= 4_000_000
    assert model.description.licence.weights == "Apache-2.0"
    assert "SA" not in model.description.licence.data
    assert "NC" not in model.description.licence.data
    assert "Not a medical device" in model.description.intended_use
    assert sum(file.stat().st_size for file in model.path.iterdir()) <= 4_000_000
    assert all(tensor.dtype == torch.float32 for tensor in model.weights().values())


def test_an_unknown_name_lists_what_there_is() -> None:
    """And points to the other method for models without prompts."""
    with pytest.raises(ModelNotFoundError, match=r"known: click-3d.*method `model`"):
        find_prompt_model("nothing-like-it")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"schema": "medseg.prompt-model/9"}, IncompatibleModelError),
        ({"kind": "other"}, IncompatibleModelError),
        ({"surprise": 1}, IncompatibleModelError),
        ({"overlap": 1.5}, IncompatibleModelError),
        ({"weights": {"file": "weights.pt", "sha256": "0" * 64, "bytes": 1}}, UnsafeModelError),
        ({"weights": {"file": "../weights.safetensors", "sha256": "0" * 64, "bytes": 1}}, UnsafeModelError),
    ],
)
def test_descriptions_that_are_none_are_refused(vista_folder: Callable[..., Path], changes: dict[str, Any], error: type[Exception]) -> None:
    """Wrong schema, kind, fields and values; weights that could hold code or lie elsewhere."""
    with pytest.raises(error):
        find_prompt_model(vista_folder(**changes))


def test_changed_truncated_and_linked_weights_are_refused(vista_folder: Callable[..., Path]) -> None:
    """Size, hash and kind of file are checked before the bytes are read as tensors."""
    folder = vista_folder()
    file = folder / "weights.safetensors"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ChecksumError, match="SHA-256"):
        find_prompt_model(folder).weights()
    file.write_bytes(content[:-10])
    with pytest.raises(ChecksumError, match="bytes"):
        find_prompt_model(folder).weights()
    file.rename(folder / "elsewhere.safetensors")
    file.symlink_to(folder / "elsewhere.safetensors")
    with pytest.raises(UnsafeModelError, match="link"):
        find_prompt_model(folder).weights()
    file.unlink()
    with pytest.raises(ModelNotFoundError, match="missing"):
        find_prompt_model(folder).weights()


def test_broken_json_is_refused(tmp_path: Path) -> None:
    """With the name of the file."""
    (tmp_path / "click.json").write_text("{")
    with pytest.raises(IncompatibleModelError, match=r"click\.json"):
        find_prompt_model(tmp_path)


def _bundle(folder: Path, **changes: Any) -> Path:
    classes = {"0": "background", "1": "liver", "2": "kidney", "5": "right kidney", "14": "left kidney"}
    metadata = {
        "name": "VISTA-3D: Versatile Imaging SegmenTation and Annotation",
        "version": "0.6.0",
        "intended_use": "an example",
        "network_data_format": {"outputs": {"pred": {"channel_def": classes}}},
        **changes,
    }
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    (folder / "LICENSE.weights").write_text("\nNCLS v1 model licence\nmore\n")
    return folder


def test_a_bundle_of_the_model_zoo_is_read_as_data(vista: Any, tmp_path: Path) -> None:
    """Names, version and licence come from its files, weights from a checkpoint of torch; whole organs become their parts."""
    folder = _bundle(tmp_path / "Vista3D")
    torch.save(vista.state_dict(), folder / "models" / "model.pt")
    model = find_prompt_model(folder)
    assert isinstance(model.description, VistaDescription)
    assert (model.description.name, model.description.version) == ("vista3d", "0.6.0")
    assert model.description.licence.weights == "NCLS v1 model licence"
    assert class_numbers(("Kidney", "liver"), model.description) == [14, 5, 1]
    assert set(model.weights()) == set(vista.state_dict())
    with pytest.raises(IncompatibleModelError, match="do not fit"):  # the small one is not the published network
        model.network()


def test_a_bundle_without_weights_or_sense_is_refused(tmp_path: Path) -> None:
    """Each with what to do."""
    with pytest.raises(ModelNotFoundError, match="holds no weights"):
        find_prompt_model(_bundle(tmp_path / "a"))
    other = _bundle(tmp_path / "b", network_data_format={})
    (other / "models" / "model.pt").write_bytes(b"x")
    with pytest.raises(IncompatibleModelError, match="does not describe"):
        find_prompt_model(other)


def test_a_bundle_that_wants_to_run_code_is_refused(tmp_path: Path) -> None:
    """A pickle with a call in it is never loaded."""

    class Call:
        def __reduce__(self) -> Any:
            return print, ("run",)

    folder = _bundle(tmp_path / "c")
    torch.save({"x": Call()}, folder / "models" / "model.pt")
    with pytest.raises(UnsafeModelError):
        find_prompt_model(folder).weights()


def test_the_store_lists_shows_and_keeps_it(tmp_path):
    from medseg.segmentation.learned.store.add import Request as AddRequest
    from medseg.segmentation.learned.store.add import staged
    from medseg.segmentation.learned.store.card import card_of
    from medseg.segmentation.learned.store.find import list_prompt_models

    assert [folder.name for folder in list_prompt_models()] == ["click-3d"]
    card = card_of("click-3d")
    assert (card.identity.kind, card.segments) == ("click", ())
    assert card.identity.sha256 == find_prompt_model("click-3d").description.weights.sha256
    with staged(AddRequest(str(find_prompt_model("click-3d").path)), tmp_path) as model:
        model.install("my-click", {"code": "Apache-2.0", "weights": "Apache-2.0", "data": "see card"}, "tests")
    assert tmp_path in find_prompt_model("my-click", [tmp_path]).path.parents


def test_without_prompts_it_says_how_to_ask():
    model = open_model("click-3d")
    with pytest.raises(IncompatibleModelError, match="medseg segment prompt"):
        model.segment((), Request())
