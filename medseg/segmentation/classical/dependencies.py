"""The one place where scikit-image and scikit-learn are loaded; without them an error names the extra."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from medseg.core.errors import MissingDependencyError


def scikit_image(submodule: str) -> Any:
    """Return a submodule of scikit-image, such as `segmentation`; raises MissingDependencyError."""
    return _load("skimage", submodule, "scikit-image")


def scikit_learn(submodule: str) -> Any:
    """Return a submodule of scikit-learn, such as `ensemble`; raises MissingDependencyError."""
    return _load("sklearn", submodule, "scikit-learn")


def _load(package: str, submodule: str, name: str) -> Any:
    try:
        return import_module(f"{package}.{submodule}")
    except ImportError as err:
        raise MissingDependencyError(
            f"this method needs {name}, which is not installed: pip install 'medseg[classical]'",
        ) from err
