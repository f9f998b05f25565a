"""In which number format a network computes, and what is fixed so that it computes the same twice."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from medseg.core.errors import DeviceError
from medseg.segmentation.learned.dependencies import import_torch
from medseg.segmentation.learned.trained import Request

if TYPE_CHECKING:
    import torch


def resolve_precision(request: Request, device: torch.device) -> str:
    """Return "float32", "bfloat16" or "float16" for a request on a device.

    "auto" is float16 on CUDA (with float32 where it overflows) and float32 on a CPU; deterministic runs are float32.
    Raises DeviceError for float16 on a CPU, which has no convolutions in it.
    """
    if request.deterministic or (request.precision == "auto" and device.type != "cuda"):
        return "float32"
    if request.precision == "auto":
        return "float16"
    if request.precision == "float16" and device.type == "cpu":
        raise DeviceError("a CPU does not compute in float16: use --precision bfloat16, float32 or auto")
    return request.precision


@contextlib.contextmanager
def computing(precision: str, device: torch.device) -> Iterator[None]:
    """Compute in a precision: matrix products and convolutions in it, sums over many voxels in float32."""
    torch = import_torch()
    with torch.inference_mode():
        if precision == "float32":
            yield
        else:
            with torch.autocast(device.type, dtype=getattr(torch, precision)):
                yield


@contextlib.contextmanager
def determinism(wanted: bool) -> Iterator[None]:
    """Within, torch uses only algorithms that give the same result each time on the same machine; restored after."""
    if not wanted:
        yield
        return
    torch = import_torch()
    before: tuple[Any, ...] = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
    )
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    try:
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        yield
    except RuntimeError as err:
        if "deterministic" not in str(err):
            raise
        raise DeviceError(
            "this network has a step that is not deterministic on this device: use --device cpu or drop --deterministic"
        ) from err
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = before[2]
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
