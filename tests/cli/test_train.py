"""`medseg train` as a user types it: a plan, a model, a run that goes on, and everything that contradicts it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from medseg.cli.finetune import finetune
from medseg.cli.train import train as command
from medseg.core.errors import InputError, OutputExistsError, ParameterError
from medseg.training.dataset import read_dataset

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Six scans of 16×16×16 voxels with one bright box each."""
    folder = tmp_path / "boxes"
    training = []
    for n in range(6):
        rng = np.random.default_rng(n)
        image, labels = rng.normal(100, 10, (16, 16, 16)).astype(np.float32), np.zeros((16, 16, 16), np.uint8)
        box = tuple(slice(int(start), int(start) + 8) for start in rng.integers(2, 6, 3))
        image[box] += 80
        labels[box] = 1
        for kind, array in (("imagesTr", image), ("labelsTr", labels)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / kind / f"b{n}.nii.gz")
        training.append({"image": f"imagesTr/b{n}.nii.gz", "label": f"labelsTr/b{n}.nii.gz"})
    entries = {"name": "Boxes", "licence": "CC0", "modality": {"0": "T1"}, "labels": {"0": "background", "1": "box"}, "training": training}
    (folder / "dataset.json").write_text(json.dumps(entries))
    return folder


def call(*arguments: Any) -> Any:
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)


def document(*arguments: Any) -> dict[str, Any]:
    result = call(*arguments, "--json", "--device", "cpu")
    assert result.exit_code == 0
    parsed: dict[str, Any] = json.loads(result.stdout)
    return parsed


def test_plan_only_then_an_edited_plan_is_trained(dataset: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    result = call(dataset, "-o", model, "--plan-only", "--device", "cpu", "--folds", 2)
    assert result.exit_code == 0
    for part in ("cases", "16×16×16", "label 1 box", "PlainConvUNet, 3 levels", "s a step on cpu", "plan.yaml is written"):
        assert part in " ".join(result.stdout.split()), part
    assert sorted(path.name for path in model.iterdir()) == ["fingerprint.json", "plan.yaml"]
    text = (model / "plan.yaml").read_text()
    (model / "plan.yaml").write_text(text.replace("steps: 3000", "steps: 4").replace("warmup_steps: 50", "warmup_steps: 0"))
    done = document(dataset, "-o", model, "--fold", 1)
    assert done["resumed"]
    assert (done["plan"]["schedule"]["steps"], [fold["fold"] for fold in done["folds"]]) == (4, [1])
    assert {"model.json", "MODEL_CARD.md", "fold_1.safetensors", "split.json"} <= {path.name for path in model.iterdir()}
    described = json.loads((model / "model.json").read_text())
    assert (described["modality"], [segment["label"] for segment in described["segments"]]) == ("MR", ["box"])


def test_a_run_goes_on_and_finished_folds_are_not_trained_again(dataset: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    first = document(dataset, "-o", model, "--steps", 3, "--folds", 3, "--fold", 0)
    made = (model / "fold_0" / "weights.safetensors").stat().st_mtime_ns
    second = document(dataset, "-o", model)
    assert ([fold["fold"] for fold in first["folds"]], [fold["fold"] for fold in second["folds"]]) == ([0], [0, 1, 2])
    assert (model / "fold_0" / "weights.safetensors").stat().st_mtime_ns == made
    assert sorted(case["case"] for fold in second["folds"] for case in fold["cases"]) == [f"b{n}" for n in range(6)]
    mean = np.mean([case["dice"] for fold in second["folds"] for case in fold["cases"]])
    assert second["mean_dice"]["box"] == pytest.approx(mean)  # the folds have the same size

    with pytest.raises(OutputExistsError, match="steps: 5 asked, 3 in the plan"):
        call(dataset, "-o", model, "--steps", 5)
    (model / "plan.yaml").write_text((model / "plan.yaml").read_text().replace("seed: 0", "seed: 1"))
    with pytest.raises(OutputExistsError, match=r"plan\.yaml was changed after training began"):
        call(dataset, "-o", model, "--device", "cpu", "-q")
    fresh = document(dataset, "-o", model, "--overwrite", "--steps", 2, "--folds", 1)
    assert (fresh["resumed"], [fold["fold"] for fold in fresh["folds"]]) == (False, [0])
    assert not (model / "fold_2").exists()


def test_a_changed_scan_is_noticed(dataset: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    document(dataset, "-o", model, "--steps", 1, "--folds", 2, "--fold", 0)
    path = dataset / "labelsTr" / "b3.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.ones((16, 16, 16), np.uint8), np.eye(4)), path)
    with pytest.raises(OutputExistsError, match="scans or label maps of the dataset were changed"):
        call(dataset, "-o", model, "--device", "cpu", "-q")


def test_another_dataset_in_the_same_folder_is_refused(dataset: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    document(dataset, "-o", model, "--plan-only")
    entries = json.loads((dataset / "dataset.json").read_text())
    entries["training"].pop()
    (dataset / "dataset.json").write_text(json.dumps(entries))
    with pytest.raises(OutputExistsError, match="6 other cases than the 5"):
        call(dataset, "-o", model, "--device", "cpu")


def test_bad_cases_stop_the_run_or_are_left_out(dataset: Path, tmp_path: Path) -> None:
    (dataset / "imagesTr" / "b2.nii.gz").unlink()
    with pytest.raises(InputError, match=r"b2: missing file imagesTr/b2\.nii\.gz"):
        call(dataset, "-o", tmp_path / "model", "--device", "cpu")
    assert not (tmp_path / "model").exists()
    found = document(dataset, "-o", tmp_path / "model", "--plan-only", "--skip-bad")
    assert found["dataset"] == {"name": "Boxes", "cases": 5, "left_out": {"b2": ["missing file imagesTr/b2.nii.gz"]}}
    again = document(dataset, "-o", tmp_path / "model", "--steps", 3000, "--plan-only")
    assert (again["resumed"], again["dataset"]["cases"]) == (True, 5)


def test_a_plan_file_with_wishes_beside_it_resumes_too(dataset: Path, tmp_path: Path) -> None:
    document(dataset, "-o", tmp_path / "a", "--plan-only")
    plan = tmp_path / "a" / "plan.yaml"
    arguments = (dataset, "-o", tmp_path / "b", "--plan", plan, "--name", "My Boxes", "--folds", 2, "--plan-only")
    assert [document(*arguments)["resumed"] for _ in range(2)] == [False, True]
    written = yaml.safe_load((tmp_path / "b" / "plan.yaml").read_text())
    assert (written["name"], written["folds"]) == ("my-boxes", 2)
    plan.write_text(plan.read_text().replace("batch_size: 2", "batch_size: two"))
    with pytest.raises(ParameterError, match="batch_size"):
        call(dataset, "-o", tmp_path / "c", "--plan", plan, "--device", "cpu")


def test_a_split_from_a_file_and_a_fold_that_is_not_there(dataset: Path, tmp_path: Path) -> None:
    split = tmp_path / "split.json"
    split.write_text(json.dumps([{"train": ["b0", "b1", "b2"], "val": ["b5"]}]))
    done = document(dataset, "-o", tmp_path / "model", "--steps", 1, "--split", split, "--folds", 1)
    assert {case["case"] for case in done["folds"][0]["cases"]} == {"b5"}
    with pytest.raises(ParameterError, match="no fold 3"):
        call(dataset, "-o", tmp_path / "model", "--fold", 3, "--device", "cpu", "-q")


def test_minutes_become_steps_and_a_time_budget(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.training.timing.seconds_per_step", lambda plan, device: 0.5)
    plan = document(dataset, "-o", tmp_path / "model", "--minutes-per-fold", 2, "--plan-only")["plan"]
    assert (plan["schedule"]["steps"], plan["time_budget_minutes"]) == (216, 2.0)  # 0.9 × 120 s / 0.5 s
    assert document(dataset, "-o", tmp_path / "model", "--minutes-per-fold", 2, "--plan-only")["resumed"]


def test_stopping_says_how_to_go_on(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medseg.training import folds

    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(folds, "train_fold", stopped)
    result = CliRunner().invoke(command, [str(dataset), "-o", str(tmp_path / "model"), "--device", "cpu", "--steps", "1"])
    assert result.exit_code != 0
    assert "the same command goes on from the last checkpoint" in result.stderr


def test_a_folder_with_a_model_from_elsewhere_is_left_alone(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{}")
    for option in ("--resume", "--overwrite"):
        with pytest.raises(OutputExistsError, match="a model that was not trained here"):
            call(dataset, "-o", tmp_path, option, "--device", "cpu")
    assert (tmp_path / "model.json").read_text() == "{}"


def test_finetuning_keeps_network_and_known_labels_and_runs_do_not_mix(dataset: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    document(dataset, "-o", first, "--steps", 2, "--folds", 1)
    entries = json.loads((dataset / "dataset.json").read_text())
    entries["labels"]["2"] = "sphere"
    (dataset / "dataset.json").write_text(json.dumps(entries))
    arguments = [str(part) for part in (first, dataset, "-o", second, "--steps", 2, "--folds", 1, "--device", "cpu")]
    result = CliRunner().invoke(finetune, [*arguments, "--frozen-steps", "1"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "output channels kept: background, box" in result.stdout
    before, after = (yaml.safe_load((folder / "plan.yaml").read_text()) for folder in (first, second))
    assert after["network"]["arguments"]["features_per_stage"] == before["network"]["arguments"]["features_per_stage"]
    assert after["network"]["arguments"]["num_classes"] == 3
    assert after["optimiser"]["learning_rate"] == pytest.approx(before["optimiser"]["learning_rate"] / 10)
    assert json.loads((second / "finetune.json").read_text())["source"]["name"] == "boxes"
    with pytest.raises(OutputExistsError, match="go on with `medseg finetune`"):
        call(dataset, "-o", second, "--device", "cpu")
    again = CliRunner().invoke(finetune, [*arguments, "--json"], catch_exceptions=False)
    assert json.loads(again.stdout)["resumed"]


def test_the_page_about_training_is_true(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    options = {name for command_ in (command, finetune) for option in command_.params for name in (*option.opts, *option.secondary_opts)}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page)) - {"--nproc-per-node", "--no-python", "--model"}
    assert named <= options, named - options
    example = json.loads(re.search(r"```json\n(.*?)```", page, re.DOTALL)[1])
    example["training"].append({"image": "imagesTr/case_002.nii.gz", "label": "labelsTr/case_002.nii.gz"})
    (tmp_path / "dataset.json").write_text(json.dumps(example))
    read = read_dataset(tmp_path)
    assert (read.modality, read.labels) == ("CT", {1: "liver", 2: "tumour"})
