"""Counts what a model does to get its networks ready: reading weights, building modules, filling them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import safetensors.torch
import torch


def count_builds(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return a counter of "read" (files of weights), "built" (modules of the registry) and "filled" (load_state_dict)."""
    from medseg.segmentation.learned.networks import registry

    counts: Counter[str] = Counter()

    def counted(place: Any, name: str, what: str) -> None:
        plain = getattr(place, name)

        def call(*arguments: Any, **keywords: Any) -> Any:
            counts[what] += 1
            return plain(*arguments, **keywords)

        monkeypatch.setattr(place, name, call)

    counted(torch, "load", "read")
    counted(safetensors.torch, "load", "read")
    counted(safetensors.torch, "load_file", "read")
    counted(registry, "_construct", "built")
    counted(torch.nn.Module, "load_state_dict", "filled")
    return counts
