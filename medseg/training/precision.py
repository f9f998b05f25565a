"""The number format a network is trained in, by what the device computes fast."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from medseg.core.errors import OutOfMemoryError
from medseg.segmentation.learned.dependencies import import_torch
from medseg.training.plan import TrainingPlan

if TYPE_CHECKING:
    import torch

_NATIVE_BFLOAT16 = (8, 0)  # compute capability from which CUDA devices multiply bfloat16 matrices in hardware


def training_precision(wanted: str, device: torch.device) -> str:
    """Return "float32", "bfloat16" or "float16"; "auto" is the fastest the device has in hardware.

    >>> import torch
    >>> training_precision("float32", torch.device("cpu"))
    'float32'
    """
    torch = import_torch()
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device) >= _NATIVE_BFLOAT16 else "float16"
    return "bfloat16" if device.type == "cpu" and _cpu_has_bfloat16() else "float32"


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which a forward pass runs."""
    torch = import_torch()
    if precision == "float32":
        return contextlib.nullcontext()
    context: contextlib.AbstractContextManager[Any] = torch.autocast(device.type, dtype=getattr(torch, precision))
    return context


def tuned(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which cuDNN measures which of its algorithms is fastest: patches all have one size."""
    torch = import_torch()
    if device.type != "cuda":
        return contextlib.nullcontext()
    context: contextlib.AbstractContextManager[Any] = torch.backends.cudnn.flags(enabled=True, benchmark=True)
    return context


@contextlib.contextmanager
def memory_errors(device: torch.device, plan: TrainingPlan) -> Iterator[None]:
    """Say what to change in a plan where the memory of a device does not hold a step."""
    torch = import_torch()
    try:
        yield
    except (MemoryError, RuntimeError) as err:
        # The CPU allocator of torch raises a plain RuntimeError and is known by its text alone.
        if not (isinstance(err, (MemoryError, torch.OutOfMemoryError)) or "DefaultCPUAllocator" in str(err)):
            raise
        size = "×".join(str(length) for length in plan.patch_size)
        raise OutOfMemoryError(
            f"{device} has too little memory for {plan.batch_size} patch(es) of {size}: "
            "lower `batch_size`, then `patch_size` in plan.yaml, and train into a new folder"
        ) from err


def _cpu_has_bfloat16() -> bool:
    torch = import_torch()
    if not torch.backends.mkldnn.is_available():
        return False
    # Private in torch, so each may be gone: then the slower format is used.
    checks = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return any(bool(check()) for check in checks if check is not None)
