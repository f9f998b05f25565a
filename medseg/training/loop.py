"""The training of one fold: steps, validation on patches, checkpoints, until the schedule, the clock or the patience ends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.core.errors import ModelError
from medseg.segmentation.learned.dependencies import import_torch
from medseg.segmentation.learned.device import resolve_device
from medseg.segmentation.learned.networks.host_memory import kept_host_memory
from medseg.training.augment import PatchRecipe
from medseg.training.batches import BatchSource, prefetched
from medseg.training.checkpoint import CHECKPOINT_FILE, digest_of, remove_leftovers
from medseg.training.distributed import Group
from medseg.training.logs import TrainingLog, read_log
from medseg.training.loss import deep_loss
from medseg.training.networks import build_training_network, load_partly
from medseg.training.patch_validation import ValidationPatches
from medseg.training.plan import TrainingPlan
from medseg.training.precision import autocast, memory_errors, training_precision, tuned
from medseg.training.sampling import TrainingArrays, generator
from medseg.training.schedule import learning_rate
from medseg.training.state import TrainingState, new_state

if TYPE_CHECKING:
    import torch

_MOST_LEFT_OUT = 20  # steps in a row whose loss is no number before a run is given up
_LARGEST_SEED = 2**31 - 1


@dataclass(frozen=True)
class TrainingProgress:
    """Where a fold stands: `dice` is that of the last validation on patches, None before the first or without cases for it."""

    fold: int
    step: int
    steps: int
    loss: float
    learning_rate: float
    dice: float | None
    seconds: float
    remaining_seconds: float


def _quiet(progress: TrainingProgress) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class LoopSettings:
    """How to run a fold, as opposed to what: none of these changes the result (but `frozen`, of a finetuning).

    `patch_threads` make patches ahead of the network. `frozen` names weights that stay as they are for the first
    `frozen_steps`.
    """

    fold: int = 0
    progress: Callable[[TrainingProgress], None] = _quiet
    checkpoint_every_seconds: float = 60.0
    patch_threads: int = 1
    frozen: tuple[str, ...] = ()
    frozen_steps: int = 0
    group: Group = field(default_factory=Group)


@dataclass(frozen=True)
class FoldResult:
    """A trained fold: averaged weights by name (float32), rows of its log, seconds of work, why it ended, where it ran."""

    weights: dict[str, torch.Tensor]
    curve: tuple[dict[str, str], ...]
    seconds: float
    finished: str
    steps: int
    device: str
    precision: str


def train_fold(
    cases: Sequence[TrainingArrays],
    validation: Sequence[TrainingArrays],
    plan: TrainingPlan,
    folder: Path,
    *,
    settings: LoopSettings = LoopSettings(),
    device: str = "auto",
    start_weights: Mapping[str, torch.Tensor] | None = None,
) -> FoldResult:
    """Train one fold, or go on where its checkpoint in `folder` stands; a finished fold returns at once.

    Every patch is a function of seed, fold and step, so that a run that was killed ends with the weights of one that
    was not (bit for bit on one CPU, without a time budget). Raises ModelError where the loss is no number any more,
    OutOfMemoryError where plan and device do not fit, ParameterError where the folder holds another run.
    """
    torch = import_torch()
    target = settings.group.device(resolve_device(device))
    precision = training_precision(plan.precision, target)
    folder.mkdir(parents=True, exist_ok=True)
    owner = {"plan": plan.digest(), "fold": settings.fold, "cases": [case.id for case in cases], "processes": settings.group.world}
    if start_weights is not None:
        owner["start"] = f"{digest_of(start_weights)}, {settings.frozen_steps} frozen steps"
    with torch.random.fork_rng(devices=[target] if target.type == "cuda" else []), kept_host_memory():
        network = build_training_network(plan, settings.fold)
        if start_weights is not None:
            load_partly(network, start_weights)
        state = new_state(network, plan, owner, scaled=precision == "float16", device=target)
        path = folder / CHECKPOINT_FILE
        if settings.group.is_first:
            remove_leftovers(folder)
        if path.is_file():
            state.restore(path)
        if not state.counters.finished:
            with TrainingLog(folder, state.counters.step, writes=settings.group.is_first) as log:
                patches = ValidationPatches.of_cases(validation, plan, settings.fold)
                with tuned(target), memory_errors(target, plan):
                    _Loop(state, plan, settings, target, precision).run(cases, patches, path, log)
                settings.group.wait()
    counters = state.counters
    weights = {name: tensor.detach().to("cpu").contiguous() for name, tensor in state.average.items()}
    curve = tuple(read_log(folder))
    return FoldResult(weights, curve, counters.seconds, counters.finished, counters.step, str(target), precision)


class _Loop:
    """The steps of one fold."""

    def __init__(self, state: TrainingState, plan: TrainingPlan, settings: LoopSettings, device: torch.device, precision: str) -> None:
        self._state, self._plan, self._settings = state, plan, settings
        self._device, self._precision = device, precision
        self._module = settings.group.wrap(state.network, plan.deep_supervision, device)
        self._frozen = [tensor for name, tensor in state.network.named_parameters() if name in set(settings.frozen)]
        self._dice: float | None = None

    def run(self, cases: Sequence[TrainingArrays], patches: ValidationPatches, path: Path, log: TrainingLog) -> None:
        plan, counters, group = self._plan, self._state.counters, self._settings.group
        recipe = PatchRecipe.of_plan(plan)
        source = BatchSource.of_cases(cases, recipe, plan.batch_size, plan.seed, self._settings.fold, (group.rank, group.world))
        first, before = counters.step, counters.seconds
        begun = saved = time.monotonic()
        pinned = self._device.type == "cuda"
        batches = prefetched(source, (first, plan.schedule.steps), self._settings.patch_threads, pinned=pinned)
        try:
            for images, labels in batches:
                rate = self._rate()
                loss = self._step(images, labels, rate)
                validated = counters.step % plan.validation_every_steps == 0 or counters.step == plan.schedule.steps
                if validated:
                    self._validate(patches, log)
                counters.seconds = group.same(before + time.monotonic() - begun)
                counters.finished = self._why_finished()
                self._record(log, loss, rate, validated=validated)
                if group.is_first and (counters.finished or time.monotonic() - saved >= self._settings.checkpoint_every_seconds):
                    self._state.save(path)
                    saved = time.monotonic()
                remaining = (plan.schedule.steps - counters.step) * (counters.seconds - before) / (counters.step - first)
                self._settings.progress(
                    TrainingProgress(
                        self._settings.fold, counters.step, plan.schedule.steps, loss, rate, self._dice, counters.seconds, remaining
                    )
                )
                if counters.finished:
                    break
        finally:
            batches.close()  # type: ignore[attr-defined]

    def _rate(self) -> float:
        plan, counters = self._plan, self._state.counters
        done = counters.step / plan.schedule.steps
        if plan.time_budget_minutes is not None:
            done = max(done, min(1.0, counters.seconds / (60 * plan.time_budget_minutes)))
        return learning_rate(counters.step, done, plan.optimiser.learning_rate, plan.schedule.warmup_steps, plan.schedule.power)

    def _step(self, images: torch.Tensor, labels: torch.Tensor, rate: float) -> float:
        """One step of the optimiser; returns the loss. A loss or gradient that is no number changes nothing."""
        torch = import_torch()
        state, counters = self._state, self._state.counters
        torch.manual_seed(int(generator(self._plan.seed, self._settings.fold, "network", counters.step).integers(_LARGEST_SEED)))
        images = images.to(self._device, non_blocking=True).contiguous(memory_format=torch.channels_last_3d)
        labels = labels.to(self._device, non_blocking=True)
        for entry in state.optimiser.param_groups:
            entry["lr"] = rate
        state.optimiser.zero_grad(set_to_none=True)
        with autocast(self._precision, self._device):
            outputs = self._module(images)
        loss = deep_loss(outputs, labels)
        value = self._settings.group.mean(float(loss.detach()))
        counters.step += 1
        if not math.isfinite(value):
            self._leave_out()
            return value
        (state.scaler.scale(loss) if state.scaler else loss).backward()
        if counters.step <= self._settings.frozen_steps:
            for tensor in self._frozen:
                tensor.grad = None
        self._update()
        return value

    def _update(self) -> None:
        torch = import_torch()
        state = self._state
        if state.scaler:
            state.scaler.unscale_(state.optimiser)
        norm = torch.nn.utils.clip_grad_norm_(state.network.parameters(), self._plan.gradient_clip)
        if state.scaler:
            state.scaler.step(state.optimiser)  # leaves out steps that overflowed by itself
            state.scaler.update()
        elif bool(torch.isfinite(norm)):
            state.optimiser.step()
        else:
            self._leave_out()
            return
        state.counters.left_out_running = 0
        state.update_average(self._plan.ema_decay)

    def _leave_out(self) -> None:
        counters = self._state.counters
        counters.left_out += 1
        counters.left_out_running += 1
        if counters.left_out_running >= _MOST_LEFT_OUT:
            raise ModelError(
                f"fold {self._settings.fold}: the loss was no finite number for {_MOST_LEFT_OUT} steps in a row, the last is step "
                f"{counters.step}: lower `learning_rate` in plan.yaml (a third is a good try) or set `precision: float32`"
            )

    def _validate(self, patches: ValidationPatches, log: TrainingLog) -> None:
        state, counters = self._state, self._state.counters
        dice = math.nan
        if self._settings.group.is_first:
            dice = patches.dice(state, self._device, self._precision, log)
        dice = self._settings.group.same(dice)
        self._dice = None if math.isnan(dice) else dice
        if dice > counters.best_dice:
            counters.best_dice, counters.since_best = dice, 0
        elif not math.isnan(dice):  # without validation cases there is nothing to lose patience with
            counters.since_best += 1

    def _why_finished(self) -> str:
        plan, counters = self._plan, self._state.counters
        if counters.step >= plan.schedule.steps:
            return "all steps done"
        if plan.time_budget_minutes is not None and counters.seconds >= 60 * plan.time_budget_minutes:
            return f"time budget of {plan.time_budget_minutes:g} minutes used"
        if plan.early_stop_after is not None and counters.since_best >= plan.early_stop_after:
            return f"no better validation {counters.since_best} times in a row"
        return ""

    def _record(self, log: TrainingLog, loss: float, rate: float, *, validated: bool) -> None:
        row: dict[str, Any] = {"step": self._state.counters.step, "loss": repr(loss), "learning_rate": repr(rate)}
        if validated and self._dice is not None:
            row["validation_dice"] = repr(self._dice)
        log.add(row | {"seconds": f"{self._state.counters.seconds:.1f}"})
