"""MONAI bundles whose configuration or weights are programs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from malicious_checkpoints import Reduced
from sound_models import bundle_configuration, make_bundle, write_bundle


def _evil_bundle(folder: Path, **changes: Any) -> Path:
    return write_bundle(folder / "bundle", {**bundle_configuration(), **changes})


def bundle_import(folder: Path, canary: Path) -> Path:
    command = f"$__import__('os').system('touch {canary}')"
    return _evil_bundle(folder, inferer={"_target_": "SlidingWindowInferer", "roi_size": [32, 32, 32], "overlap": command})


def bundle_network_expression(folder: Path, canary: Path) -> Path:
    return _evil_bundle(folder, network_def=f"$open({str(canary)!r}, 'w')")


def bundle_attribute_walk(folder: Path, canary: Path) -> Path:
    walk = "$().__class__.__base__.__subclasses__()"
    return _evil_bundle(folder, inferer={"_target_": "SlidingWindowInferer", "roi_size": walk, "overlap": 0.5})


def bundle_target(folder: Path, canary: Path) -> Path:
    return _evil_bundle(folder, network_def={"_target_": "os.system", "command": f"touch {canary}"})


def bundle_own_code(folder: Path, canary: Path) -> Path:
    source = _evil_bundle(folder, network_def={"_target_": "scripts.network.Evil"})
    (source / "scripts").mkdir()
    (source / "scripts" / "__init__.py").write_text(f"open({str(canary)!r}, 'w')")
    (source / "scripts" / "network.py").write_text(f"open({str(canary)!r}, 'w')")
    return source


def bundle_endless_arithmetic(folder: Path, canary: Path) -> Path:
    return _evil_bundle(folder, inferer={"_target_": "SlidingWindowInferer", "roi_size": "$[1] * 10**12", "overlap": 0.5})


def bundle_yaml_tag(folder: Path, canary: Path) -> Path:
    source = make_bundle(folder)
    (source / "configs" / "inference.json").unlink()
    (source / "configs" / "inference.yaml").write_text(f"network_def: !!python/object/apply:os.system ['touch {canary}']\n")
    return source


def bundle_pickle(folder: Path, canary: Path) -> Path:
    source = make_bundle(folder)
    torch.save({"model": Reduced(os.system, f"touch {canary}")}, source / "models" / "model.pt")
    return source


class _Writes(torch.nn.Module):
    """TorchScript that writes a file when it is run."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        torch.save(image, self.path)
        return image


def bundle_torchscript(folder: Path, canary: Path) -> Path:
    """A TorchScript program with an operator that writes a file; its state dict is taken away, so that it would be needed."""
    import warnings

    source = make_bundle(folder)
    (source / "models" / "model.pt").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is on its way out; files of it are not
        torch.jit.script(_Writes(str(canary))).save(source / "models" / "model.ts")
    configuration = bundle_configuration()
    del configuration["network_def"]
    (source / "configs" / "inference.json").write_text(json.dumps(configuration))
    return source
