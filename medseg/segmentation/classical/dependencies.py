"""The one place where scikit-learn is loaded; without it an error names the extra."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from medseg.core.errors import MissingDependencyError


def scikit_learn(submodule: str) -> Any:
    """Return a submodule of scikit-learn, such as `ensemble`; raises MissingDependencyError."""
    try:
        return import_module(f"sklearn.{submodule}")
    except ImportError as err:
        raise MissingDependencyError("this method needs scikit-learn, which is not installed: pip install 'medseg[classical]'") from err
