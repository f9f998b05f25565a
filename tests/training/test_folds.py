"""Folds, from the split of the cases to the model folder with its card."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

from toy import toy_plan  # noqa: E402

from medseg.core.errors import InputError, ParameterError  # noqa: E402
from medseg.core.geometry import Geometry  # noqa: E402
from medseg.core.label_map import LabelMap  # noqa: E402
from medseg.core.segment import Segment  # noqa: E402
from medseg.core.volume import Volume  # noqa: E402
from medseg.segmentation.learned.loading import open_model  # noqa: E402
from medseg.segmentation.learned.trained import Request  # noqa: E402
from medseg.training.cache import cache_cases  # noqa: E402
from medseg.training.dataset import read_case, read_dataset  # noqa: E402
from medseg.training.export import export_model, finished_folds  # noqa: E402
from medseg.training.folds import FoldSettings, read_split, split, train_folds, write_split  # noqa: E402
from medseg.training.loop import LoopSettings  # noqa: E402
from medseg.training.validate import score_labels, summary_of  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class StoppedError(Exception):
    pass


@dataclass
class StopIn:
    """Stops at a step of a fold, as Ctrl+C would."""

    fold: int
    step: int

    def __call__(self, progress) -> None:
        if (progress.fold, progress.step) == (self.fold, self.step):
            raise StoppedError


def test_every_case_validates_once_and_never_where_it_trains():
    ids = [f"c{n}" for n in range(11)]
    folds = split(ids, 4, seed=3)
    assert sorted(name for _, validation in folds for name in validation) == sorted(ids)
    assert sorted(len(validation) for _, validation in folds) == [2, 3, 3, 3]
    for train, validation in folds:
        assert not set(train) & set(validation)
        assert sorted(train + validation) == sorted(ids)
    assert split(list(reversed(ids)), 4, seed=3) == folds
    assert split(ids, 4, seed=4) != folds
    assert split(ids, 1, seed=0) == [(sorted(ids), [])]
    with pytest.raises(ParameterError, match="use fewer folds"):
        split(ids, 12, seed=0)


def test_a_split_is_read_as_nnunet_writes_it(tmp_path):
    path = tmp_path / "split.json"
    folds = split(["a", "b", "c"], 3, seed=0)
    write_split(path, folds)
    assert read_split(path, ["a", "b", "c"]) == folds
    for text, message in [
        ("{", "is no split"),
        ('[{"train": ["a"], "val": ["z"]}]', "no case z"),
        ('[{"train": ["a"], "val": ["a"]}]', "at once: a"),
        ('[{"train": [], "val": ["a"]}]', "no training case"),
    ]:
        path.write_text(text)
        with pytest.raises(ParameterError, match=message):
            read_split(path, ["a", "b", "c"])


def test_folds_are_trained_resumed_scored_and_become_a_model_that_runs(make_dataset, tmp_path):
    dataset = read_dataset(make_dataset(4))
    plan = toy_plan(
        120,
        labels={1: "first", 2: "second"},
        channels=list(dataset.channels),
        spacing_mm=[1.0, 1.0, 2.0],
        patch_size=[16, 16, 8],
        ema_decay=0.9,
        validation_every_steps=120,
    )
    folder = tmp_path / "model"
    cases = cache_cases(dataset, plan, tmp_path / "cache")
    folds = split([case.id for case in dataset.cases], 2, seed=0)
    settings = FoldSettings(loop=LoopSettings(progress=StopIn(1, 2)), command="medseg train data -o model")
    with pytest.raises(StoppedError):
        train_folds(dataset, plan, cases, folder, folds=folds, settings=settings, device="cpu")
    begun = finished_folds(folder)
    assert [score["fold"] for score in begun] == [0]
    export_model(folder, plan, dataset, begun)
    assert "Trained so far: 1 of 2 folds; missing: 1." in (folder / "MODEL_CARD.md").read_text()
    scores = train_folds(dataset, plan, cases, folder, folds=folds, settings=FoldSettings(command=settings.command), device="cpu")
    assert scores[0] == begun[0]
    export_model(folder, plan, dataset, finished_folds(folder))
    card = (folder / "MODEL_CARD.md").read_text()
    assert "CC-BY-SA 4.0" in card
    assert "medseg train data -o model" in card
    assert "missing" not in card
    check_model(folder, dataset, scores)
    with pytest.raises(ParameterError, match="another split"):
        train_folds(dataset, plan, cases, folder, folds=folds[::-1], settings=FoldSettings(), device="cpu")
    with pytest.raises(ParameterError, match="there is no fold 2"):
        train_folds(dataset, plan, cases, folder, folds=folds, settings=FoldSettings(folds=(2,)), device="cpu")


def check_model(folder: Path, dataset, scores) -> None:
    description = json.loads((folder / "model.json").read_text())
    assert [entry["file"] for entry in description["weights"]] == ["fold_0.safetensors", "fold_1.safetensors"]
    assert sorted(description["training"]["folds"]) == ["0", "1"]
    model = open_model(folder)
    assert [segment.label for segment in model.segments] == ["first", "second"]
    images, label = read_case(dataset.cases[0], dataset)
    outcome = model.segment(images, Request(device="cpu", mirroring=True))
    for number in (1, 2):
        ours, theirs = (number == outcome.labels.T), (label.array == number)
        assert 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()) > 0.6
    # the scores of a fold are those of its own model, computed here without medseg.evaluation
    row = scores[1]["cases"][0]
    case = next(case for case in dataset.cases if case.id == row["case"])
    images, label = read_case(case, dataset)
    found = open_model(folder / "fold_1").segment(images, Request(device="cpu", mirroring=True)).labels.T
    number = {"first": 1, "second": 2}[row["label"]]
    dice = 2 * ((found == number) & (label.array == number)).sum() / ((found == number).sum() + (label.array == number).sum())
    assert row["dice"] == pytest.approx(dice)
    assert row["reference_ml"] == pytest.approx((label.array == number).sum() * 2 / 1000)


def test_one_fold_trains_on_every_case_and_the_card_says_there_are_no_scores(make_dataset, tmp_path):
    dataset = read_dataset(make_dataset(2))
    changes = {"labels": {1: "first", 2: "second"}, "channels": list(dataset.channels), "spacing_mm": [1.0, 1.0, 2.0]}
    plan = toy_plan(2, patch_size=[16, 16, 8], folds=1, **changes)
    cases = cache_cases(dataset, plan, tmp_path / "cache")
    scores = train_folds(dataset, plan, cases, tmp_path / "model", folds=split(["c0", "c1"], 1, 0), settings=FoldSettings(), device="cpu")
    export_model(tmp_path / "model", plan, dataset, scores)
    assert "trained on all cases" in (tmp_path / "model" / "MODEL_CARD.md").read_text()
    assert open_model(tmp_path / "model").identity.name == "toy"


def test_without_a_trained_fold_there_is_no_model(make_dataset, tmp_path):
    dataset = read_dataset(make_dataset(2))
    with pytest.raises(InputError, match="no trained fold"):
        export_model(tmp_path, toy_plan(), dataset, finished_folds(tmp_path))


def test_voxels_nobody_judged_count_on_neither_side():
    geometry = Geometry((4, 1, 1), np.eye(4))
    label = Volume(np.array([1, 1, 2, 9], np.uint8).reshape(4, 1, 1), geometry)
    segments = (Segment(1, "a"), Segment(2, "b"))
    found = LabelMap(np.array([1, 2, 2, 1], np.uint8).reshape(4, 1, 1), geometry, segments)
    judged = {score.label: score for score in score_labels("c", label, found, ignore_label=9)}
    plain = {score.label: score for score in score_labels("c", label, found)}
    assert judged["a"].dice == pytest.approx(2 / 3)
    assert plain["a"].dice == pytest.approx(0.5)
    assert judged["a"].prediction_ml == pytest.approx(0.001)
    assert judged["b"].dice == pytest.approx(2 / 3)


def test_a_label_that_nobody_has_enters_no_mean():
    rows = [
        {"case": "a", "label": "x", "dice": None, "hd95_mm": None},
        {"case": "b", "label": "x", "dice": 0.0, "hd95_mm": None},
        {"case": "c", "label": "x", "dice": 1.0, "hd95_mm": 2.0},
    ]
    summary = summary_of(rows)["x"]
    assert summary["cases"] == 2
    assert summary["mean_dice"] == 0.5
    assert summary["sd_dice"] == pytest.approx(np.std([0, 1], ddof=1))
    assert (summary["worst_dice"], summary["worst_case"]) == (0.0, "b")
    assert summary_of(rows[:1])["x"]["mean_dice"] is None
