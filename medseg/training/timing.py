"""How long a training step takes on this machine, measured with the network and patch of the plan itself."""

from __future__ import annotations

import time

from medseg.io.memory import free_memory_bytes
from medseg.segmentation.learned.dependencies import import_torch
from medseg.segmentation.learned.device import resolve_device
from medseg.training.loss import deep_loss
from medseg.training.networks import build_training_network, outputs_of
from medseg.training.plan import TrainingPlan
from medseg.training.precision import autocast, training_precision
from medseg.training.run_folder import Machine

_DEFAULT_MEMORY_MB = 8000  # where the system does not say
_KEEP_SHARE = 0.8  # of the free memory: the rest is for what others start meanwhile
_STEPS = 3
_ENOUGH_SECONDS = 10.0


def this_machine(device: str, memory_gb: float | None = None) -> Machine:
    """Return where a run on `device` ("auto", "cpu", "cuda", ...) will take place; its memory is what is free unless given."""
    torch = import_torch()
    target = resolve_device(device)
    if memory_gb is not None:
        memory_mb = int(memory_gb * 1000)
    elif target.type == "cuda":
        memory_mb = int(torch.cuda.mem_get_info(target)[0] / 1e6 * _KEEP_SHARE)
    else:
        free = free_memory_bytes()
        memory_mb = int(free / 1e6 * _KEEP_SHARE) if free else _DEFAULT_MEMORY_MB
    return Machine(str(target), memory_mb, lambda plan: seconds_per_step(plan, device))


def seconds_per_step(plan: TrainingPlan, device: str = "auto") -> float:
    """Return the seconds of one step (forward, loss, back) on random patches; the first, which also tunes kernels, is not counted.

    Making and augmenting patches goes on beside the network and is not part of it. Raises DeviceError, OutOfMemoryError as
    torch does where the plan is too large for the device.
    """
    torch = import_torch()
    target = resolve_device(device)
    precision = training_precision(plan.precision, target)
    with torch.random.fork_rng(devices=[target] if target.type == "cuda" else []):
        torch.manual_seed(plan.seed)
        network = build_training_network(plan, 0).to(target, memory_format=torch.channels_last_3d)
        shape = plan.patch_size[::-1]
        images = torch.randn((plan.batch_size, len(plan.channels), *shape), device=target)
        labels = torch.randint(0, len(plan.labels) + 1, (plan.batch_size, *shape), device=target)
        times: list[float] = []
        while len(times) < _STEPS + 1 and sum(times) < _ENOUGH_SECONDS:
            began = time.monotonic()
            with autocast(precision, target):
                outputs = outputs_of(network, images.contiguous(memory_format=torch.channels_last_3d), plan.deep_supervision)
            deep_loss(outputs, labels).backward()
            if target.type == "cuda":
                torch.cuda.synchronize(target)
            times.append(time.monotonic() - began)
    return min(times[1:] or times)
