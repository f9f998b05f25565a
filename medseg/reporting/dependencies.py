"""The one place where reporting loads its optional packages."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from medseg.core.errors import MissingDependencyError

_EXTRA_OF = {
    "matplotlib": "report",
    "jinja2": "report",
    "markupsafe": "report",
    "PIL": "report",
    "plutoprint": "report",
    "pyarrow": "report",
}


def load(module: str) -> ModuleType:
    """Return an optional module by its dotted name; raises MissingDependencyError naming the extra that brings it.

    >>> load("json").__name__
    'json'
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ImportError as err:
        extra = _EXTRA_OF.get(package, "all")
        raise MissingDependencyError(
            f"pictures and reports need the package {package}, which is not installed: pip install 'medseg[{extra}]'"
        ) from err
