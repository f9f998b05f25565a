"""Building a network without memory: parameters on torch's meta device, small constants on the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_ALLOCATING = frozenset({torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn})


class MetaParameters(TorchFunctionMode):
    """While active, what is allocated without values goes to the meta device; `linspace`, `arange`, `tensor` stay on the host.

    `torch.device("meta")` moves those too, and networks that read their own constants while they are built
    (SwinUNETR's drop rates and window indices) fail under it.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run `func`, on the meta device where it allocates a tensor and no device was named."""
        options = dict(kwargs or {})
        if func in _ALLOCATING and options.get("device") is None:
            options["device"] = "meta"
        return func(*args, **options)
