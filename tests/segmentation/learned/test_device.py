from __future__ import annotations

import sys

import pytest
import torch

from medseg.core.errors import DeviceError, MissingDependencyError
from medseg.segmentation.learned.dependencies import import_networks, import_torch
from medseg.segmentation.learned.device import resolve_device


def test_cpu_is_the_cpu() -> None:
    assert resolve_device("cpu") == torch.device("cpu")


def test_auto_takes_cuda_only_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == torch.device("cuda", 0)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(DeviceError, match="cuda:0 to cuda:1"):
        resolve_device("cuda:2")


def test_cuda_that_is_not_there_is_refused_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="--device cpu"):
        resolve_device("cuda")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "", "CPU", "mps"])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(DeviceError, match="no device"):
        resolve_device(name)


def test_the_slow_torch_series_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(DeviceError, match=r"install torch 2\.10"):
        resolve_device("cpu")
    monkeypatch.setattr(torch, "__version__", "2.90.0")
    assert resolve_device("cpu") == torch.device("cpu")


def test_missing_packages_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match=r"need torch.*medseg\[learned\]"):
        import_torch()
    monkeypatch.setitem(sys.modules, "monai.networks.nets", None)
    with pytest.raises(MissingDependencyError, match=r"need monai.*medseg\[learned\]"):
        import_networks()
