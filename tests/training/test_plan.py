"""The rules of planning on datasets whose best plan is known, and plan.yaml as people edit it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from medseg.core.errors import ParameterError
from medseg.training.dataset import Dataset, TrainingCase, read_dataset
from medseg.training.fingerprint import CaseFacts, Fingerprint, Intensities, take_fingerprint
from medseg.training.plan import TrainingPlan, parse_plan, read_plan
from medseg.training.plan_text import explained_entries, plan_text, write_plan
from medseg.training.planning import make_plan, median_shape, steps_within, target_spacing_mm, topology_of, with_steps

INTENSITIES = Intensities(1000, 60.0, 40.0, -100.0, 400.0, -50.0, 62.0, 210.0)


def facts(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], orientation: str = "RAS", count: int = 20
) -> tuple[CaseFacts, ...]:
    return tuple(CaseFacts(f"c{n}", shape, spacing, orientation, False, {1: 1.0}) for n in range(count))


def planned(
    cases: tuple[CaseFacts, ...], *, labels: dict[int, str] | None = None, channels: tuple[str, ...] = ("CT",), **how
) -> TrainingPlan:
    labels = labels or {1: "liver"}
    dataset = Dataset(
        "Task 03: Liver", Path("."), tuple(TrainingCase(case.id, (), Path()) for case in cases), channels, "CT", labels, "CC-BY-SA 4.0"
    )
    fingerprint = Fingerprint(cases, dict.fromkeys(channels, INTENSITIES), labels)
    return make_plan(dataset, fingerprint, **{"memory_mb": 16_000, "device": "cuda", **how})


def test_hippocampus_on_a_cpu_is_the_plan_that_was_found_to_work(shared_data: Path) -> None:
    dataset = read_dataset(shared_data / "msd_task04_hippocampus")
    dataset = dataset.without({case.id: ("not in this test",) for case in dataset.cases[40:]})
    plan = make_plan(dataset, take_fingerprint(dataset), memory_mb=8000, device="cpu")
    assert (plan.name, plan.spacing_mm, plan.patch_size, plan.batch_size) == ("hippocampus", (1.0, 1.0, 1.0), (32, 48, 32), 2)
    assert plan.network.arguments["features_per_stage"] == [16, 32, 64, 64]
    assert plan.network.arguments["strides"] == [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]]
    assert [rule.kind for rule in plan.normalisation] == ["z-score"]
    assert plan.mirror_axes == (0,)  # short training: from left to right only
    assert plan.augmentation.rotation == 0.25
    assert (plan.optimiser.name, plan.optimiser.learning_rate, plan.schedule.power) == ("adamw", 3e-3, 0.9)
    assert plan.licence["data"] == plan.licence["weights"] == "CC-BY-SA-4.0"


def test_thick_slices_get_flat_kernels_and_strides_first_in_network_order() -> None:
    cases = facts((320, 320, 24), (0.6, 0.6, 4.0), count=9) + facts((320, 320, 24), (0.6, 0.6, 3.0), count=1)
    plan = planned(cases)
    assert plan.spacing_mm[:2] == (0.6, 0.6)
    assert plan.spacing_mm[2] == pytest.approx(np.percentile([4.0] * 9 + [3.0], 10))
    arguments = plan.network.arguments
    assert arguments["kernel_sizes"][0] == [1, 3, 3]  # (k, j, i): the slices lie along k
    assert arguments["strides"][1] == [1, 2, 2]
    assert arguments["kernel_sizes"][-1] == [3, 3, 3]
    k, j, i = np.prod(arguments["strides"], axis=0)
    assert i == j > k
    assert all(size % plan.patch_multiple == 0 for size in plan.patch_size)
    assert plan.patch_multiple == i


def test_slices_along_another_array_axis_are_seen_in_patient_space() -> None:
    sagittal = facts((24, 320, 320), (4.0, 0.6, 0.6), orientation="SAR"[::-1])  # R, A, S: the slices lie along R
    axial = facts((320, 320, 24), (0.6, 0.6, 4.0), orientation="ASR")  # array axes A, S, R: the slices lie along R too
    for cases in (sagittal, axial):
        np.testing.assert_allclose(target_spacing_mm(cases), (4.0, 0.6, 0.6))
        np.testing.assert_allclose(median_shape(cases, target_spacing_mm(cases)), (24, 320, 320))
        assert planned(cases).network.arguments["strides"][1] == [2, 2, 1]


@pytest.mark.parametrize(("memory_mb", "device"), [(4_000, "cuda"), (12_000, "cuda"), (40_000, "cuda"), (8_000, "cpu")])
def test_more_memory_gives_a_larger_patch_never_beyond_the_scan(memory_mb: int, device: str) -> None:
    plan = planned(facts((512, 512, 400), (0.8, 0.8, 1.0)), memory_mb=memory_mb, device=device)
    smaller = planned(facts((512, 512, 400), (0.8, 0.8, 1.0)), memory_mb=memory_mb * 3 // 4, device=device)
    assert np.prod(plan.patch_size) >= np.prod(smaller.patch_size)
    assert min(plan.patch_size) / plan.patch_multiple >= 3
    assert len(plan.network.arguments["strides"]) >= 5
    tiny = planned(facts((30, 40, 20), (1.0, 1.0, 1.0)), memory_mb=memory_mb, device=device)
    assert all(size - tiny.patch_multiple < extent for size, extent in zip(tiny.patch_size, (30, 40, 20), strict=True))


def test_ct_is_scaled_by_the_dataset_and_other_channels_by_themselves() -> None:
    plan = planned(facts((64, 64, 64), (1.0, 1.0, 1.0)), channels=("CT", "PET"))
    assert [rule.kind for rule in plan.normalisation] == ["clip-and-z-score", "z-score"]
    rule = plan.normalisation[0]
    assert (rule.lower, rule.upper, rule.mean, rule.std) == (-50.0, 210.0, 60.0, 40.0)
    assert planned(facts((64, 64, 64), (1.0, 1.0, 1.0)), channels=("ADC", "octane")).normalisation[0].kind == "z-score"


def test_sides_forbid_mirroring_from_left_to_right_only() -> None:
    plan = planned(facts((64, 64, 64), (1.0, 1.0, 1.0)), labels={1: "kidney_left", 2: "kidney_right"})
    assert plan.mirror_axes == (1, 2)


def test_a_long_training_turns_scans_along_every_axis_and_changes_them_more() -> None:
    cases = facts((64, 64, 64), (1.0, 1.0, 1.0))
    long, short = planned(cases, steps=20_000), planned(cases, steps=2000)
    assert long.mirror_axes == (0, 1, 2)
    assert short.mirror_axes == (0,)
    assert planned(cases, steps=2000, labels={1: "kidney_left"}).mirror_axes == ()
    assert long.augmentation.noise == 2 * short.augmentation.noise


def test_a_patch_is_rounded_down_only_where_it_still_covers_the_scan() -> None:
    assert planned(facts((35, 50, 36), (1.0, 1.0, 1.0)), device="cpu").patch_size == (32, 48, 32)
    assert planned(facts((29, 50, 36), (1.0, 1.0, 1.0)), device="cpu").patch_size[0] == 32


def test_never_more_folds_than_cases() -> None:
    assert planned(facts((64, 64, 64), (1.0, 1.0, 1.0), count=3)).folds == 3


@pytest.mark.parametrize("shape", [(1, 300, 300), (5, 8, 200), (700, 20, 20), (7, 7, 7)])
def test_odd_shapes_have_a_network_that_divides_their_patch(shape: tuple[int, int, int]) -> None:
    plan = planned(facts(shape, (1.0, 1.0, 1.0)))
    assert all(size % plan.patch_multiple == 0 for size in plan.patch_size)


@pytest.mark.parametrize("shape", [(20, 24, 18), (40, 40, 6)])
def test_the_planned_network_can_be_built_and_keeps_the_patch(shape: tuple[int, int, int]) -> None:
    torch = pytest.importorskip("torch")
    from medseg.segmentation.learned.networks.registry import build

    plan = planned(facts(shape, (1.0, 1.0, 4.0)), device="cpu", labels={1: "a", 2: "b"})
    network = build(plan.network.name, plan.network.arguments, device="cpu")
    with torch.inference_mode():
        k_j_i = plan.patch_size[::-1]
        assert network(torch.zeros(1, 1, *k_j_i)).shape == (1, 3, *k_j_i)


def test_topology_stops_at_four_voxels() -> None:
    for size in range(4, 130):
        topology = topology_of((size, size, size), (1, 1, 1))
        assert size / topology.multiples[0] >= 4
        assert len(topology.strides) == 6 or size / topology.multiples[0] < 8


def test_steps_from_minutes_leave_time_for_validation() -> None:
    assert steps_within(10, 0.3) == 1800
    plan = with_steps(planned(facts((64, 64, 64), (1.0, 1.0, 1.0))), 30, 5.0)
    assert (plan.schedule.steps, plan.schedule.warmup_steps, plan.validation_every_steps, plan.time_budget_minutes) == (30, 3, 3, 5.0)


def test_every_entry_is_explained_and_the_yaml_comes_back_equal(tmp_path: Path) -> None:
    plan = planned(facts((320, 320, 24), (0.6, 0.6, 4.0)), labels={2: "zwei: ü", 1: "no"}, channels=("CT", "PET"))
    assert explained_entries() == {field.alias or name for name, field in TrainingPlan.model_fields.items()}
    back = read_plan(write_plan(plan, tmp_path / "plan.yaml"))
    assert back == plan
    assert back.digest() == plan.digest()
    assert list(back.labels) == [1, 2]


def test_only_what_decides_the_prepared_image_changes_the_cache_key() -> None:
    plan = planned(facts((64, 64, 64), (1.0, 1.0, 1.0)))
    assert with_steps(plan, 5).key() == plan.key()
    assert plan.model_copy(update={"spacing_mm": (2.0, 1.0, 1.0)}).key() != plan.key()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": [41, 56, 40]}, r"patch_size 41 along i must be a multiple of"),
        ({"batch_size": 0}, "batch_size: .*greater than or equal to 1"),
        ({"learning_rate": 1}, "learning_rate is no entry of a plan"),
        ({"spacing_mm": None}, "spacing_mm"),
        ({"orientation": "RLS"}, "must name each patient axis once"),
        ({"normalisation": [{"kind": "clip-and-z-score", "lower": 1}]}, "needs upper"),
        ({"normalisation": [{"kind": "z-score"}] * 3}, "3 normalisation rules for 1 channels"),
        ({"labels": {1: "a", 2: "a"}}, "two labels have the same name"),
        ({"labels": {1: "a", 2: "b", 3: "c", 4: "d"}}, "the network has 2 output channels, but channels and labels need 5"),
        ({"schema": "medseg.training-plan/9"}, "this version of medseg reads"),
        ({"network": {"name": "os.system", "arguments": {}}}, "network 'os.system' is not known"),
        ({"network": {"name": "DynUNet", "arguments": {"spatial_dims": 3, "width": 2}}}, "does not take these arguments: width"),
        ({"augmentation": {"rotation": 2}}, "augmentation.rotation"),
        ({"augmentation": {"scale_range": [2, 1]}}, r"scale_range must be \[low, high\]"),
    ],
)
def test_a_wrong_edit_is_named(changes: dict, message: str) -> None:
    plan = planned(facts((64, 64, 64), (1.0, 1.0, 1.0)))
    with pytest.raises(ParameterError, match=message):
        parse_plan({**yaml.safe_load(plan_text(plan)), **changes})


def test_what_follows_from_channels_and_labels_may_be_left_out_of_the_network() -> None:
    plan = planned(facts((64, 64, 64), (1.0, 1.0, 1.0)), channels=("CT", "PET"))
    entries = plan.to_dict()
    for name in ("input_channels", "num_classes"):
        del entries["network"]["arguments"][name]
    assert parse_plan(entries) == plan


def test_broken_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("schema: medseg.training-plan/1\nname: [a\n")
    with pytest.raises(ParameterError, match="no valid YAML in line 3"):
        read_plan(tmp_path / "plan.yaml")
    with pytest.raises(ParameterError, match="cannot be read"):
        read_plan(tmp_path / "other.yaml")
