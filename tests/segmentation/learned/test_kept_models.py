"""Models that serve scan after scan: what is done once, and that the answers are those of a fresh process."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from builds import count_builds
from sound_models import NNUNET_FOLDER, SOUND, nnunet_checkpoint, write_description

import medseg
from medseg.core.errors import ChecksumError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.method.settings import RunSettings
from medseg.segmentation.learned.loading import open_model
from medseg.segmentation.learned.nnunet import model as nnunet_model
from medseg.segmentation.learned.nnunet.model import NnunetModel
from medseg.segmentation.learned.trained import Request

CHECKPOINT = f"{NNUNET_FOLDER}/fold_0/checkpoint_final.pth"


def make(kind: str, folder: Path) -> Path:
    """Write a small model of a kind that finds something in noise: no offsets, and every channel of one width."""
    model = SOUND[kind](folder)
    if kind == "medseg":
        weights = safetensors.torch.load_file(model / "weights.safetensors")
        (model / "weights.safetensors").write_bytes(safetensors.torch.save(_lively(weights)))
        write_description(model)
    elif kind == "nnunet":
        torch.save(_checkpoint(), folder / CHECKPOINT)
    else:
        torch.save(_lively(torch.load(model / "models" / "model.pt")), model / "models" / "model.pt")
    return model


def _lively(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    def value(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if name.endswith("bias"):
            return torch.zeros_like(tensor)
        return torch.ones_like(tensor) if tensor.ndim == 1 and name.endswith("weight") and len(tensor) > 1 else tensor

    return {name: value(name, tensor) for name, tensor in weights.items()}


def _checkpoint(sign: float = 1) -> dict[str, Any]:
    """Of `sign` -1: with a last layer that prefers the other labels."""
    checkpoint = nnunet_checkpoint()
    weights = _lively(checkpoint["network_weights"])
    last = "decoder.seg_layers.0.weight"
    return {**checkpoint, "network_weights": {**weights, last: sign * weights[last]}}


def scan(seed: int) -> Volume:
    """A small CT of smooth noise."""
    coarse = np.random.default_rng(seed).normal(-200, 500, (8, 7, 6))
    array = np.kron(coarse, np.ones((3, 3, 3))).astype(np.int16)
    return Volume(array, Geometry(array.shape, np.diag([2.0, 2.5, 3.0, 1.0])), "CT", "HU")


def segment(volume: Volume, folder: Path, settings: RunSettings, **parameters: object) -> np.ndarray:
    found = medseg.segment(volume, "model", model=str(folder), settings=settings, **parameters)
    assert found.provenance is not None
    return found.array


def kept() -> RunSettings:
    return RunSettings(device="cpu", kept={})


@pytest.mark.parametrize("kind", SOUND)
def test_three_scans_build_one_network(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, settings = make(kind, tmp_path), kept()
    counts = count_builds(monkeypatch)
    first = segment(scan(0), folder, settings)
    once = dict(counts)
    assert once["filled"] == 1
    assert once["read"] == 1
    for seed in (1, 2):
        segment(scan(seed), folder, settings)
    assert dict(counts) == once
    np.testing.assert_array_equal(segment(scan(0), folder, settings), first)
    assert first.any()


@pytest.mark.parametrize("kind", SOUND)
def test_nothing_is_kept_where_nobody_asked_for_it(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, counts = make(kind, tmp_path), count_builds(monkeypatch)
    for seed in (0, 1):
        segment(scan(seed), folder, RunSettings(device="cpu"))
    assert counts["filled"] == 2


_FRESH = """
import hashlib, json, sys
import torch
torch.set_num_threads(1)
from test_kept_models import kept, scan, segment
from pathlib import Path
print(json.dumps([hashlib.sha256(segment(scan(int(seed)), Path(folder), kept()).tobytes()).hexdigest() for seed, folder in
      (one.split("=", 1) for one in sys.argv[1:])]))
"""


@pytest.mark.slow
def test_models_in_turn_give_the_labels_of_a_fresh_process(tmp_path: Path) -> None:
    """Scan 0 again after others, and after other models: to the bit what a model gives that was opened for this scan alone."""
    folders = {kind: make(kind, tmp_path / kind) for kind in SOUND}
    asked = [f"{seed}={folder}" for seed in (0, 1) for folder in folders.values()]
    here = Path(__file__).parent
    code = f"import sys; sys.path[:0] = [{str(here)!r}]\n{_FRESH}"
    done = subprocess.run([sys.executable, "-c", code, *asked], check=True, capture_output=True, text=True)
    fresh = dict(zip(asked, json.loads(done.stdout), strict=True))
    settings = kept()
    for seed in (0, 1, 0):
        for folder in folders.values():
            labels = segment(scan(seed), folder, settings)
            assert hashlib.sha256(labels.tobytes()).hexdigest() == fresh[f"{seed}={folder}"], (seed, folder)
    assert len(set(fresh.values())) == len(fresh)


def test_folds_are_built_when_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One fold, then both, then the other: two networks in all, each with the labels it gives alone."""
    folder = make("nnunet", tmp_path)
    _second_fold(tmp_path)
    alone = {folds: segment(scan(0), folder, RunSettings(device="cpu"), folds=list(folds)) for folds in ((0,), (1,), (0, 1))}
    assert not np.array_equal(alone[0,], alone[1,])
    settings, counts = kept(), count_builds(monkeypatch)
    built = []
    for folds in ((0,), (0, 1), (1,), (0, 1), (0,)):
        np.testing.assert_array_equal(segment(scan(0), folder, settings, folds=list(folds)), alone[folds])
        built.append(counts["filled"])
    assert built == [1, 2, 2, 2, 2]


def _second_fold(folder: Path) -> None:
    file = folder / NNUNET_FOLDER / "fold_1" / "checkpoint_final.pth"
    file.parent.mkdir()
    torch.save(_checkpoint(-1), file)


@pytest.mark.parametrize("replaced", [False, True], ids=["written over", "replaced"])
def test_a_kept_model_stays_what_its_hash_says(replaced: bool, tmp_path: Path) -> None:
    """Its weights were mapped from the file: written over in place, they would be other ones under the old hash."""
    folder, file, settings = make("nnunet", tmp_path), tmp_path / CHECKPOINT, kept()

    def found(settings: RunSettings) -> tuple[bytes, str]:
        map_ = medseg.segment(scan(0), "model", model=str(folder), settings=settings)
        return map_.array.tobytes(), map_.provenance.model["sha256"]

    first = found(settings)
    if replaced:
        torch.save(_checkpoint(-1), file.with_suffix(".new"))
        file.with_suffix(".new").replace(file)
    else:
        torch.save(_checkpoint(-1), file)
    assert found(settings) == first
    other = found(kept())
    assert other[0] != first[0]
    assert other[1] != first[1] == hashlib.sha256(_bytes_of(tmp_path / "again")).hexdigest()


def _bytes_of(folder: Path) -> bytes:
    make("nnunet", folder)
    return (folder / CHECKPOINT).read_bytes()


@pytest.mark.parametrize("kind", ["nnunet", "bundle"])
def test_weights_that_change_before_they_are_read_are_refused(kind: str, tmp_path: Path) -> None:
    """Between the hash and the first scan; a medseg model compares the hash with the bytes it loads."""
    folder = make(kind, tmp_path)
    model = open_model(folder)
    assert model.identity.sha256
    file = tmp_path / CHECKPOINT if kind == "nnunet" else folder / "models" / "model.pt"
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content[:-8] + bytes(8))
    with pytest.raises(ChecksumError):
        model.segment((scan(0),), Request(device="cpu"))


def test_threads_share_a_kept_model(tmp_path: Path) -> None:
    """The engine takes the last layer of a network apart while it runs: one run at a time."""
    folder, settings = make("nnunet", tmp_path), kept()
    alone = [segment(scan(seed), folder, RunSettings(device="cpu")) for seed in range(2)]
    found: dict[int, np.ndarray] = {}
    start = threading.Barrier(2)

    def work(seed: int) -> None:
        start.wait()
        for _ in range(3):
            found[seed] = segment(scan(seed), folder, settings)
            np.testing.assert_array_equal(found[seed], alone[seed])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(2):
        np.testing.assert_array_equal(found[seed], alone[seed])
    assert settings.kept is not None
    assert len({id(one) for one in settings.kept.values()}) == 1


def test_one_model_at_a_time_lies_on_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that ran before is told to leave when another begins, and only then."""
    from medseg.segmentation.learned.bundle.model import BundleModel
    from medseg.segmentation.learned.medseg_model import MedsegModel

    left: list[str] = []
    for kind in (BundleModel, MedsegModel, NnunetModel):
        monkeypatch.setattr(kind, "leave_device", lambda self: left.append(type(self).__name__))
    folders, settings = {kind: make(kind, tmp_path / kind) for kind in SOUND}, kept()
    for kind in ("medseg", "medseg", "nnunet", "nnunet", "bundle", "medseg"):
        segment(scan(0), folders[kind], settings)
    assert left == ["MedsegModel", "NnunetModel", "BundleModel"]


@pytest.mark.parametrize(
    ("moved", "enough", "expected"),
    [
        (True, True, ["cuda", "left", "cuda"]),
        (True, False, ["cuda", "left", "cuda", "cpu"]),
        (False, False, ["cuda", "left", "cpu"]),
    ],
)
def test_a_scan_is_prepared_on_the_device_once_the_networks_have_left_it(
    moved: bool, enough: bool, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the scan before left there may be what is in the way; the CPU is the last resort, as before."""
    stage = NnunetModel.open(make("nnunet", tmp_path)).stages[0]
    tried: list[str] = []

    def prepare_on(device: Any) -> Any:
        tried.append(str(device))
        if device != "cpu" and not ("left" in tried and enough):
            raise torch.OutOfMemoryError("none left")
        return "prepared"

    monkeypatch.setattr(stage.networks, "leave_device", lambda: tried.append("left") or moved)
    assert nnunet_model._prepared(prepare_on, "cuda", stage) == "prepared"
    assert tried == expected


def test_a_prompt_network_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For every click on every scan where models are kept, and for all segments of one seed map in any case."""
    from medseg.core.segment import Segment as OneSegment

    ball = ((np.indices((40, 40, 40)) - 20) ** 2).sum(axis=0) < 100
    volume = Volume(np.where(ball, 80, 0).astype(np.int16), Geometry((40, 40, 40), np.eye(4)))
    seeds = np.zeros(volume.array.shape, np.uint8)
    seeds[18:21, 18:21, 18:21], seeds[22:25, 22:25, 22:25] = 1, 2
    seed_map = LabelMap(seeds, volume.geometry, (OneSegment(1, "a"), OneSegment(2, "b")))
    monkeypatch.setattr("medseg.segmentation.learned.prompt.click.MOST_LOOKS", 0)  # the answer matters less than the time
    counts, settings = count_builds(monkeypatch), kept()
    alone = medseg.segment(volume, "prompt", points=[(20, 20, 20)], settings=RunSettings(device="cpu"))
    assert counts["filled"] == 1
    for _ in range(2):
        found = medseg.segment(volume, "prompt", points=[(20, 20, 20)], settings=settings)
        np.testing.assert_array_equal(found.array, alone.array)
    assert counts["filled"] == 2
    medseg.segment(volume, "prompt", seed_map=seed_map, settings=RunSettings(device="cpu"))
    assert counts["filled"] == 3
