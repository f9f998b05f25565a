"""Every method by name: the built-in ones and those other packages register under the entry-point group `medseg.methods`."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
from collections.abc import Mapping

from medseg.core.errors import DuplicateMethodError, MethodError, UnknownMethodError
from medseg.method.builtin import BUILTIN_METHODS
from medseg.method.method import Method, Stage

ENTRY_POINT_GROUP = "medseg.methods"


def registered() -> dict[str, str]:
    """Return name → "module:attribute" of every method, built-in first; a taken name raises DuplicateMethodError."""
    names = dict(BUILTIN_METHODS)
    for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        add_entry(names, entry.name, entry.value)
    return names


def add_entry(names: dict[str, str], name: str, target: str) -> None:
    """Add one name to a table of methods; raises DuplicateMethodError where it is taken by another target."""
    if names.get(name, target) != target:
        raise DuplicateMethodError(f"method {name!r} is claimed by {names[name]} and by {target}: remove or rename one of the packages")
    names[name] = target


def find(name: str, stage: Stage | None = None, names: Mapping[str, str] | None = None) -> Method:
    """Return the method of that name, importing only its module.

    Raises UnknownMethodError with the nearest names, also where the method belongs to another stage.
    """
    table = registered() if names is None else names
    if name not in table:
        near = difflib.get_close_matches(name, table, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "`medseg methods` lists them all"
        raise UnknownMethodError(f"no method is called {name!r}: {hint}")
    found = load(table[name])
    if stage is not None and found.stage is not stage:
        raise UnknownMethodError(f"{name!r} is a {found.stage.value} method, not a {stage.value} method")
    return found


def load(target: str) -> Method:
    """Import "module:attribute" and return the Method there."""
    module, _, attribute = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as err:
        raise MethodError(f"the method at {target} cannot be imported: {err}") from err
    if not isinstance(found, Method):
        raise MethodError(f"{target} is not a method: describe it with @method")
    return found


def methods(stage: Stage | str | None = None) -> list[Method]:
    """Return every method in the order of the flow, of one stage where given.

    >>> "region-growing" in [method.name for method in methods("segment")]
    True
    """
    wanted = Stage(stage) if stage is not None else None
    names = registered()
    found = [find(name, names=names) for name in names]
    order = list(Stage)
    return sorted((m for m in found if wanted in (None, m.stage)), key=lambda m: order.index(m.stage))
