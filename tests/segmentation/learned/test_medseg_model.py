"""Models in medseg's own format: several channels, folds, passes, and what `open_model` opens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medseg.core.errors import GeometryMismatchError, IncompatibleModelError, ModelNotFoundError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.method.settings import RunSettings
from medseg.segmentation.learned import medseg_model
from medseg.segmentation.learned.loading import open_model
from medseg.segmentation.learned.model import ModelParams, model
from medseg.segmentation.learned.prepared import prepare
from medseg.segmentation.learned.store import parse_description
from medseg.segmentation.learned.trained import Request, TrainedModel

MakeModel = Callable[..., Path]
CPU = Request(device="cpu")


def scan(*shape: int, seed: int = 0, modality: str = "CT", spacing: float = 4.0) -> Volume:
    values = np.random.default_rng(seed).normal(-300, 400, shape).astype(np.float32)
    return Volume(values, Geometry(shape, np.diag([spacing, spacing, spacing, 1.0])), modality=modality)


@pytest.fixture
def two_folds(make_model: MakeModel, tiny_weights: bytes) -> Path:
    """The tiny network with two sets of weights."""
    st = pytest.importorskip("safetensors.torch")
    second = st.save({name: -tensor if name.startswith("final_conv") else tensor for name, tensor in st.load(tiny_weights).items()})
    entries = []
    for number, content in enumerate((tiny_weights, second)):
        entries.append({"file": f"fold_{number}.safetensors", "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)})
    folder = make_model(name="folds", weights=tiny_weights, **{"mirror_axes": [0, 2]})
    described = json.loads((folder / "model.json").read_text())
    described["weights"] = entries
    (folder / "model.json").write_text(json.dumps(described))
    (folder / "fold_0.safetensors").write_bytes(tiny_weights)
    (folder / "fold_1.safetensors").write_bytes(second)
    return folder


def test_folds_are_averaged_chosen_and_named(two_folds: Path) -> None:
    opened = open_model(two_folds)
    assert isinstance(opened, TrainedModel)
    both = opened.segment((scan(30, 30, 30),), CPU)
    one = opened.segment((scan(30, 30, 30),), Request(device="cpu", folds=(1,)))
    assert both.record["folds"] == [0, 1]
    assert both.record["passes"] == 2
    assert one.record["folds"] == [1]
    assert (both.labels != one.labels).any()
    for wrong in ((2,), (0, 0), (), (-1,)):
        with pytest.raises(IncompatibleModelError, match="folds 0 to 1"):
            opened.segment((scan(30, 30, 30),), Request(device="cpu", folds=wrong))
    assert opened.identity.sha256 != opened.folder.description.fold_weights[0].sha256


@pytest.mark.parametrize(("kind", "names"), [("folds", ("fold 0", "fold 1")), ("mirror", None)])
def test_the_spread_of_passes_is_that_of_single_runs(two_folds: Path, kind: Any, names: Any) -> None:
    opened = open_model(two_folds)
    volume = scan(30, 26, 22, spacing=3.0)
    found = opened.segment((volume,), Request(device="cpu", uncertainty=kind)).uncertainty
    assert found is not None
    assert found.entropy is not None
    assert found.entropy.shape == (22, 26, 30)
    assert 0 <= found.entropy.min() <= found.entropy.max() <= np.log(3) + 1e-3
    if kind == "mirror":
        assert len(found.passes) == 8
        assert found.passes[:2] == ("fold 0 mirror none", "fold 0 mirror i")
        return
    assert found.passes == names
    for fold in range(2):
        alone = opened.segment((volume,), Request(device="cpu", folds=(fold,)))
        for number in (1, 7):
            assert found.volumes_ml[number][fold] == pytest.approx((alone.labels == number).sum() * 27 / 1000)
    label_map = model(volume, ModelParams(model=str(two_folds), uncertainty="folds"), settings=RunSettings(device="cpu"))
    assert label_map.model_spread is not None
    assert label_map.model_spread.volumes_ml["first"] == found.volumes_ml[1]
    assert label_map.model_spread.entropy is not None
    assert label_map.model_spread.entropy.shape == label_map.array.shape


def test_what_gives_no_spread_is_said(two_folds: Path, make_model: MakeModel) -> None:
    opened = open_model(two_folds)
    with pytest.raises(IncompatibleModelError, match="two or more"):
        opened.segment((scan(20, 20, 20),), Request(device="cpu", uncertainty="folds", folds=(0,)))
    with pytest.raises(IncompatibleModelError, match="no dropout"):
        opened.segment((scan(20, 20, 20),), Request(device="cpu", uncertainty="dropout"))
    with pytest.raises(IncompatibleModelError, match="not trained for mirroring"):
        open_model(make_model()).segment((scan(20, 20, 20),), Request(device="cpu", uncertainty="mirror"))


def test_dropout_gives_passes_and_the_labels_of_a_run_without(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 8, 3, padding=1), torch.nn.Dropout3d(0.5), torch.nn.Conv3d(8, 3, 1)).eval()
    monkeypatch.setattr(medseg_model, "load_network", lambda _: network)
    opened = open_model(make_model())
    plain = opened.segment((scan(20, 20, 20),), CPU)
    spread = opened.segment((scan(20, 20, 20),), Request(device="cpu", uncertainty="dropout"))
    np.testing.assert_array_equal(spread.labels, plain.labels)
    assert spread.uncertainty is not None
    assert spread.uncertainty.passes == tuple(f"dropout {number}" for number in range(8))
    assert len(set(spread.uncertainty.volumes_ml[1])) > 1


def test_several_channels_each_with_its_own_rule(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    def watch(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.clone())
        return torch.cat([x, x[:, :1]], 1)

    monkeypatch.setattr(medseg_model, "load_network", lambda _: watch)
    rules = [{"kind": "z-score", "nonzero": True}, {"kind": "clip-and-z-score", "lower": -100, "upper": 100, "mean": 10, "std": 50}]
    folder = make_model(channels=["T1", "T2"], modality="MR", normalisation=rules, background=0, patch_size=[32, 32, 32])
    first, second = scan(32, 32, 32, modality="MR"), scan(32, 32, 32, seed=1, modality="MR")
    values = first.array.copy()
    values[:16] = 0
    first = first.with_array(values)
    found = model((first, second), ModelParams(model=str(folder)), settings=RunSettings(device="cpu"))
    assert found.geometry == first.geometry
    counted = values[16:]
    np.testing.assert_allclose(seen[0][0, 0].numpy(), ((values - counted.mean()) / counted.std()).T, atol=1e-3)
    np.testing.assert_allclose(seen[0][0, 1].numpy(), ((np.clip(second.array, -100, 100) - 10) / 50).T, atol=1e-4)
    with pytest.raises(IncompatibleModelError, match="needs 2 scans"):
        model(first, ModelParams(model=str(folder)), settings=RunSettings(device="cpu"))
    with pytest.raises(GeometryMismatchError, match="'T2' lies on another grid"):
        open_model(folder).segment((first, scan(30, 32, 32, modality="MR")), CPU)


def test_preparation_says_what_lies_outside(description_entries: Callable[..., dict[str, Any]]) -> None:
    described = parse_description(description_entries(spacing_mm=[2.0, 2.0, 2.0]))
    prepared = prepare((scan(20, 18, 16),), described)
    assert prepared.image.shape == (1, 32, 36, 40)
    assert prepared.image.dtype == np.float32
    assert prepared.background.tolist() == [-1.0]
    assert prepared.plan.target.spacing_mm == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"normalisation": [{"kind": "z-score"}, {"kind": "z-score"}]}, "1 channels and 2 rules"),
        ({"weights": []}, "at least 1"),
        ({"weights": [{"file": "a.safetensors", "sha256": "0" * 64, "bytes": 1}] * 2}, "same file"),
        ({"normalisation": {"kind": "clip-and-z-score", "lower": 0, "upper": 1, "mean": 0, "std": 0}}, "greater than 0"),
    ],
)
def test_impossible_descriptions_are_refused(
    changes: dict[str, Any], says: str, description_entries: Callable[..., dict[str, Any]]
) -> None:
    with pytest.raises(IncompatibleModelError, match=says):
        parse_description(description_entries(**changes))


def test_models_are_opened_by_what_their_folder_holds(tmp_path: Path, make_model: MakeModel) -> None:
    assert open_model("ct-phantom").identity.kind == open_model(make_model()).identity.kind == "medseg"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFoundError, match="not a model folder"):
        open_model(tmp_path / "empty")
    with pytest.raises(ModelNotFoundError):
        open_model("nowhere")
