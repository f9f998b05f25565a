"""Which device a network runs on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from medseg.core.errors import DeviceError
from medseg.segmentation.learned.dependencies import import_torch

if TYPE_CHECKING:
    import torch

_NAME = re.compile(r"auto|cpu|cuda(?::(\d+))?")
# With cuDNN below 9.15 this series computes 3D convolutions several times slower (github.com/pytorch/pytorch/issues/166122).
_SLOW_SERIES = "2.9."


def resolve_device(name: str = "auto") -> torch.device:
    """Return the torch device of "auto", "cpu", "cuda" or "cuda:1"; "auto" is CUDA where there is one.

    Raises DeviceError where the device is not there or torch is of the series 2.9.

    >>> resolve_device("cpu").type
    'cpu'
    """
    torch = import_torch()
    match = _NAME.fullmatch(name)
    if match is None:
        raise DeviceError(f"there is no device {name!r}: use auto, cpu, cuda or cuda:N")
    if str(torch.__version__).startswith(_SLOW_SERIES):
        raise DeviceError(
            f"torch {torch.__version__} computes 3D convolutions several times slower than other versions "
            "(pytorch issue 166122): install torch 2.10 or newer"
        )
    if name == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda", 0) if count else torch.device("cpu")
    if not count:
        raise DeviceError(f"device {name!r} was asked for, but torch {torch.__version__} sees no CUDA device: use --device cpu or auto")
    number = int(match.group(1) or 0)
    if number >= count:
        raise DeviceError(f"device {name!r} was asked for, but there are {count} CUDA devices, cuda:0 to cuda:{count - 1}")
    return torch.device("cuda", number)
