"""The one place that imports torch, MONAI and safetensors, all of them optional (extra `learned`)."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

from medseg.core.errors import MissingDependencyError

EXTRA = "learned"


def import_torch() -> ModuleType:
    """Return torch; raises MissingDependencyError where it is not installed."""
    return _import("torch")


def import_safetensors() -> ModuleType:
    """Return safetensors.torch; raises MissingDependencyError where it is not installed."""
    return _import("safetensors.torch")


def import_networks() -> ModuleType:
    """Return monai.networks.nets; raises MissingDependencyError where it is not installed."""
    return _import("monai.networks.nets")


def import_inferers() -> ModuleType:
    """Return monai.inferers.utils; raises MissingDependencyError where it is not installed."""
    return _import("monai.inferers.utils")


def import_transforms() -> ModuleType:
    """Return monai.transforms; raises MissingDependencyError where it is not installed."""
    return _import("monai.transforms")


def import_openvino(module: str = "") -> ModuleType:
    """Return openvino (an optional backend on the CPU) or a module of it; raises MissingDependencyError where it is not installed."""
    return _import(f"openvino.{module}".rstrip("."), "openvino")


def import_bundle() -> ModuleType:
    """Return monai.bundle; raises MissingDependencyError where it is not installed."""
    return _import("monai.bundle")


def versions() -> dict[str, str]:
    """Return the versions of the packages that run a network."""
    return {name: str(_import(name).__version__) for name in ("torch", "monai")}


def _import(name: str, install: str = f"medseg[{EXTRA}]") -> ModuleType:
    # MONAI warns about its own deprecations while it is imported, and may replace the function that shows warnings.
    show = warnings.showwarning
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            warnings.filterwarnings("ignore", category=FutureWarning)
            warnings.filterwarnings("ignore", category=UserWarning)
            return importlib.import_module(name)
    except ImportError as err:
        package = name.split(".", maxsplit=1)[0]
        raise MissingDependencyError(
            f"trained networks need {package}, which is not installed (or broken: {err}): pip install '{install}'"
        ) from err
    finally:
        warnings.showwarning = show
