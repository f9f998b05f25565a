"""A fold learns, survives being killed, and ends when it should."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

from toy import toy_case, toy_plan  # noqa: E402

from medseg.core.errors import ModelError, OutOfMemoryError, ParameterError  # noqa: E402
from medseg.training.checkpoint import load_checkpoint  # noqa: E402
from medseg.training.logs import read_log  # noqa: E402
from medseg.training.loop import LoopSettings, train_fold  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


CASES = [toy_case(number) for number in range(3)]


def curve(folder: Path) -> list[tuple[str, ...]]:
    return [(row["step"], row["loss"], row["learning_rate"], row["validation_dice"]) for row in read_log(folder)]


def equal(first, second) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class KilledError(Exception):
    pass


@dataclass
class KillAt:
    step: int

    def __call__(self, progress) -> None:
        if progress.step == self.step:
            raise KilledError


def test_three_cases_are_learned_well(tmp_path):
    plan = toy_plan(120, validation_every_steps=60, ema_decay=0.95)
    begun = time.monotonic()
    result = train_fold(CASES, [toy_case(9)], plan, tmp_path, device="cpu")
    last = float(result.curve[-1]["validation_dice"])
    assert last > 0.8, f"Dice {last:.3f} after {time.monotonic() - begun:.0f} s"
    assert result.finished == "all steps done"
    assert result.steps == 120


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_a_killed_run_ends_with_the_weights_and_the_curve_of_one_that_went_through(tmp_path, optimiser):
    plan = toy_plan(10, optimiser={"name": optimiser, "learning_rate": 0.01, "weight_decay": 0.001})
    straight = train_fold(CASES, CASES[:1], plan, tmp_path / "straight", device="cpu")
    folder = tmp_path / "killed"
    for step in (2, 5, 6):
        with pytest.raises(KilledError):
            train_fold(
                CASES, CASES[:1], plan, folder, device="cpu", settings=LoopSettings(progress=KillAt(step), checkpoint_every_seconds=0)
            )
    resumed = train_fold(CASES, CASES[:1], plan, folder, device="cpu")
    assert equal(straight.weights, resumed.weights)
    assert curve(tmp_path / "straight") == curve(folder)
    assert len(curve(folder)) == 10


def test_steps_after_the_last_checkpoint_are_done_again_to_the_same_result(tmp_path):
    plan = toy_plan(6)
    straight = train_fold(CASES, CASES[:1], plan, tmp_path / "straight", device="cpu")
    with pytest.raises(KilledError):
        train_fold(CASES, CASES[:1], plan, tmp_path / "killed", device="cpu", settings=LoopSettings(progress=KillAt(4)))
    assert not (tmp_path / "killed" / "checkpoint.safetensors").exists()
    assert len(read_log(tmp_path / "killed")) >= 3
    resumed = train_fold(CASES, CASES[:1], plan, tmp_path / "killed", device="cpu")
    assert equal(straight.weights, resumed.weights)
    assert curve(tmp_path / "straight") == curve(tmp_path / "killed")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_kill_minus_nine_at_any_moment_resumes_to_the_same_weights(tmp_path):
    program = textwrap.dedent(f"""
        import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
        import torch; torch.set_num_threads(1)
        from pathlib import Path
        from toy import toy_case, toy_plan
        from medseg.training.loop import LoopSettings, train_fold
        cases = [toy_case(n) for n in range(3)]
        settings = LoopSettings(checkpoint_every_seconds=0, progress=lambda p: print(p.step, flush=True))
        train_fold(cases, cases[:1], toy_plan(12), Path(sys.argv[1]), device="cpu", settings=settings)
    """)
    folder = tmp_path / "killed"
    for wanted in (4,):
        process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", program, str(folder)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= wanted:
                time.sleep(0.013 * wanted)  # into the next step, or its checkpoint
                os.kill(process.pid, signal.SIGKILL)
                break
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
    (folder / ".tmp-left.safetensors").write_bytes(b"half")
    resumed = train_fold(CASES, CASES[:1], toy_plan(12), folder, device="cpu")
    assert not list(folder.glob(".tmp-*"))
    straight = train_fold(CASES, CASES[:1], toy_plan(12), tmp_path / "straight", device="cpu")
    assert equal(straight.weights, resumed.weights)
    assert curve(tmp_path / "straight") == curve(folder)


def test_a_finished_fold_returns_at_once(tmp_path):
    first = train_fold(CASES, CASES[:1], toy_plan(2), tmp_path, device="cpu")
    again = train_fold(CASES, CASES[:1], toy_plan(2), tmp_path, device="cpu", settings=LoopSettings(progress=KillAt(1)))
    assert equal(first.weights, again.weights)


def test_bfloat16_learns_too(tmp_path):
    result = train_fold(CASES, CASES[:1], toy_plan(30, precision="bfloat16"), tmp_path, device="cpu")
    losses = [float(row["loss"]) for row in result.curve]
    assert result.precision == "bfloat16"
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_the_scale_of_float16_gradients_outlives_a_kill(tmp_path):
    plan = toy_plan(4, precision="float16", batch_size=1)
    straight = train_fold(CASES, [], plan, tmp_path / "straight", device="cpu")
    with pytest.raises(KilledError):
        train_fold(
            CASES, [], plan, tmp_path / "killed", device="cpu", settings=LoopSettings(progress=KillAt(3), checkpoint_every_seconds=0)
        )
    state = load_checkpoint(tmp_path / "killed" / "checkpoint.safetensors").document
    assert state["counters"]["step"] == 3
    assert state["scaler"]["scale"] > 1
    resumed = train_fold(CASES, [], plan, tmp_path / "killed", device="cpu")
    assert equal(straight.weights, resumed.weights)
    assert curve(tmp_path / "straight") == curve(tmp_path / "killed")


def test_the_number_of_threads_that_make_patches_changes_nothing(tmp_path):
    one = train_fold(CASES, [], toy_plan(4), tmp_path / "one", device="cpu")
    three = train_fold(CASES, [], toy_plan(4), tmp_path / "three", device="cpu", settings=LoopSettings(patch_threads=3))
    assert equal(one.weights, three.weights)


def test_another_plan_or_other_cases_do_not_go_on_with_a_checkpoint(tmp_path):
    train_fold(CASES, [], toy_plan(2), tmp_path, device="cpu")
    with pytest.raises(ParameterError, match="another plan"):
        train_fold(CASES, [], toy_plan(3), tmp_path, device="cpu")
    with pytest.raises(ParameterError, match="another cases"):
        train_fold(CASES[:2], [], toy_plan(2), tmp_path, device="cpu")


def test_a_loss_that_is_no_number_is_left_out_and_gives_up_after_twenty_in_a_row(tmp_path):
    broken = replace(CASES[0], image=np_nan_like(CASES[0].image))
    with pytest.raises(ModelError, match="lower `learning_rate`"):
        train_fold([broken], [], toy_plan(40), tmp_path / "all", device="cpu")
    mixed = train_fold([broken, CASES[1]], [], toy_plan(6, batch_size=1), tmp_path / "some", device="cpu")
    losses = [float(row["loss"]) for row in mixed.curve]
    assert sum(math.isfinite(loss) for loss in losses) == 3
    assert all(bool(torch.isfinite(tensor).all()) for tensor in mixed.weights.values())


def test_without_validation_cases_patience_does_not_run_out(tmp_path):
    plan = toy_plan(4, validation_every_steps=1, early_stop_after=1)
    result = train_fold(CASES, [], plan, tmp_path, device="cpu")
    assert result.finished == "all steps done"
    assert {row["validation_dice"] for row in result.curve} == {""}


def test_too_little_memory_says_what_to_change(tmp_path, monkeypatch):
    def full(*_arguments):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setattr("medseg.training.loop.deep_loss", full)
    with pytest.raises(OutOfMemoryError, match="lower `batch_size`, then `patch_size`"):
        train_fold(CASES, [], toy_plan(4), tmp_path, device="cpu")


def test_another_start_does_not_go_on_with_a_finetuning(tmp_path):
    start = {"input_block.conv1.conv.weight": torch.zeros(4, 1, 3, 3, 3)}
    first = train_fold(CASES, [], toy_plan(2), tmp_path, device="cpu", start_weights=start)
    again = train_fold(CASES, [], toy_plan(2), tmp_path, device="cpu", start_weights=start)
    assert equal(first.weights, again.weights)
    other = {name: tensor + 1 for name, tensor in start.items()}
    with pytest.raises(ParameterError, match="another start"):
        train_fold(CASES, [], toy_plan(2), tmp_path, device="cpu", start_weights=other)


def np_nan_like(array):
    copy = array.copy()
    copy[...] = math.nan
    return copy


def test_early_stop_and_time_budget_end_a_run_and_are_named(tmp_path):
    patience = toy_plan(
        50, validation_every_steps=1, early_stop_after=1, optimiser={"name": "sgd", "learning_rate": 1e-9, "weight_decay": 0}
    )
    stopped = train_fold(CASES, CASES[:1], patience, tmp_path / "patience", device="cpu")
    assert stopped.steps == 2
    assert "no better validation" in stopped.finished
    clock = train_fold(CASES, [], toy_plan(5000, time_budget_minutes=0.02), tmp_path / "clock", device="cpu")
    assert 1 <= clock.steps < 5000
    assert "time budget" in clock.finished
    rates = [float(row["learning_rate"]) for row in clock.curve]
    assert rates[-1] < 0.5 * max(rates)  # the schedule follows the clock, so the rate has come down when time is up


def test_frozen_weights_stay_for_the_first_steps_only(tmp_path):
    plan = toy_plan(4, optimiser={"name": "sgd", "learning_rate": 0.01, "weight_decay": 0.0}, ema_decay=0.0)
    settings = LoopSettings(frozen=("input_block.conv1.conv.weight",), frozen_steps=4)
    start = train_fold(CASES, [], plan.model_copy(update={"schedule": plan.schedule.model_copy(update={"steps": 1, "warmup_steps": 0})}),
                       tmp_path / "a", device="cpu", settings=settings).weights  # fmt: skip
    frozen = train_fold(CASES, [], plan, tmp_path / "b", device="cpu", settings=settings).weights
    free = train_fold(CASES, [], plan, tmp_path / "c", device="cpu").weights
    name = "input_block.conv1.conv.weight"
    assert torch.equal(start[name], frozen[name])
    assert not torch.equal(start[name], free[name])
    assert not torch.equal(start["output_block.conv.conv.weight"], frozen["output_block.conv.conv.weight"])
