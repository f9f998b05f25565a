"""What is given up, step by step, where memory runs out or a device fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from medseg.core.errors import DeviceError, OutOfMemoryError
from medseg.segmentation.learned.dependencies import import_torch
from medseg.segmentation.learned.engine.windows import Shape, Windows

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Rung:
    """How much memory one attempt may take.

    The batch of `windows` is halved first. `sums_on_cpu` keeps the sums in main memory; `free_axis` lets sums in half
    precision lie along the axis with the smallest slab, which changes the order of their roundings; `keep_constant`
    keeps outputs of constant patches.
    """

    device: torch.device
    windows: Windows
    sums_on_cpu: bool = False
    free_axis: bool = False
    keep_constant: bool = True

    def lower(self, original: Windows, *, may_use_cpu: bool) -> Rung | None:
        """Return the next attempt with less memory; None where there is none."""
        leaner, smaller = replace(self, keep_constant=False), self.windows.smaller()
        found: Rung | None = None
        if self.windows.batch_size > 1:
            found = replace(leaner, windows=replace(self.windows, batch_size=self.windows.batch_size // 2))
        elif self.device.type != "cpu" and not self.sums_on_cpu:
            found = replace(leaner, sums_on_cpu=True)
        elif self.keep_constant:
            found = leaner
        elif self.windows.accumulators == "half-per-fold" and not self.free_axis:
            found = replace(self, free_axis=True)
        elif smaller is not None:
            found = replace(self, windows=smaller)
        elif may_use_cpu and self.device.type != "cpu":
            found = Rung(import_torch().device("cpu"), replace(original, batch_size=1))
        return found

    def text(self) -> str:
        """Return what this attempt does, in words."""
        sums = ", sums in main memory" if self.sums_on_cpu else ""
        axis = ", sums along the axis with the smallest slab (their rounding may decide ties otherwise)" if self.free_axis else ""
        return f"{self.windows.batch_size} of {size_text(self.windows.patch_size)} on {self.device}{sums}{axis}"


def climb_down(attempt: Callable[[Rung], T], first: Rung, *, may_use_cpu: bool) -> tuple[T, Rung, tuple[str, ...]]:
    """Return the first attempt that has enough memory, its rung, and notes on those that had not.

    A CUDA device that fails is left for the CPU once where `may_use_cpu`. Raises OutOfMemoryError where nothing is left
    to try, DeviceError where the device failed.
    """
    rung = first
    notes: list[str] = []
    while True:
        try:
            return attempt(rung), rung, tuple(notes)
        except (MemoryError, RuntimeError) as err:
            lost = rung.device.type == "cuda" and is_device_failure(err)
            if not lost and not is_out_of_memory(err):
                raise
            if lost and not may_use_cpu:
                raise DeviceError(f"{rung.device} failed while it computed: try again, or use --device cpu") from err
        # Outside the handler: the error and all tensors its frames hold are gone by now.
        if lost:
            rung = Rung(import_torch().device("cpu"), replace(first.windows, batch_size=1))
            notes.append(f"the CUDA device failed while it computed; went on with {rung.text()}")
            continue
        size = size_text(rung.windows.patch_size)
        shortage = f"{rung.device} ran out of memory with {rung.windows.batch_size} patch(es) of {size}"
        if rung.device.type == "cuda":
            import_torch().cuda.empty_cache()
        lower = rung.lower(first.windows, may_use_cpu=may_use_cpu)
        if lower is None:
            raise OutOfMemoryError(f"{shortage}, the smallest there is: free memory, use --device cpu or a machine with more")
        rung = lower
        notes.append(f"{shortage}; went on with {rung.text()}")


def is_out_of_memory(err: BaseException) -> bool:
    """Return whether an error says that memory ran out; the CPU allocator of torch is known by its text alone."""
    torch: Any = import_torch()
    return isinstance(err, (MemoryError, torch.OutOfMemoryError)) or "DefaultCPUAllocator" in str(err)


def is_device_failure(err: BaseException) -> bool:
    """Return whether an error says that the CUDA device or its driver failed."""
    return not is_out_of_memory(err) and any(text in str(err) for text in ("CUDA error", "CUDA driver", "cuDNN error", "NVML"))


def size_text(patch_size: Shape) -> str:
    """Return a size as people write it: 32×32×16."""
    return "×".join(str(size) for size in patch_size)
