"""What a run stands on besides data and plan: Python, the platform, and the version of medseg and of everything it depends on."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Iterable, Mapping
from typing import Any

_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)['\"]")
_NOT_FOR_RUNNING = frozenset({"dev", "slicer-test"})  # extras of medseg that bring test tools alone


def environment() -> dict[str, Any]:
    """Return Python, platform and every library that medseg depends on and that is installed, by name; no machine is named.

    >>> found = environment()
    >>> sorted(found), "numpy" in found["libraries"]
    (['libraries', 'platform', 'python'], True)
    """
    where = f"{platform.system()} {platform.machine()} {' '.join(platform.libc_ver())}".strip()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return {"python": python, "platform": where, "libraries": library_versions("medseg")}


def library_versions(root: str) -> dict[str, str]:
    """Return the version of a package and of all it depends on, by name, sorted; what is not installed is left out.

    Of the root's extras all count but those for testing; of another package's those that are asked for.
    """
    versions: dict[str, str] = {}
    visited: set[tuple[str, frozenset[str]]] = set()
    waiting = [(_canonical(root), _running_extras(root))]
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in visited:
            continue
        visited.add((name, extras))
        try:
            package = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        versions[name] = package.version
        waiting += _required(package.requires or (), extras)
    return dict(sorted(versions.items()))


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return in words what differs between two environments: "numpy 2.1.0, now 2.2.0".

    >>> differences({"libraries": {"numpy": "2.1.0"}}, {"libraries": {"numpy": "2.2.0"}})
    ['numpy 2.1.0, now 2.2.0']
    """
    said = [
        f"{before.get(name, 'unknown')}, now {now.get(name, 'unknown')}"
        for name in ("python", "platform")
        if before.get(name) != now.get(name)
    ]
    old, new = before.get("libraries", {}), now.get("libraries", {})
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            said.append(f"{name} {old.get(name, 'not installed')}, now {new.get(name, 'not installed')}")
    return said


def _running_extras(root: str) -> frozenset[str]:
    try:
        named = importlib.metadata.metadata(root).get_all("Provides-Extra") or ()
    except importlib.metadata.PackageNotFoundError:
        return frozenset()
    return frozenset(named) - _NOT_FOR_RUNNING


def _required(requirements: Iterable[str], extras: frozenset[str]) -> list[tuple[str, frozenset[str]]]:
    """The packages that hold for these extras; a marker of the platform is not asked: what it leaves out is not installed."""
    found = []
    for text in requirements:
        named, _, marker = text.partition(";")
        only_for = set(_EXTRA.findall(marker))
        match = _REQUIREMENT.match(named)
        if match is None or (only_for and not only_for & extras):
            continue
        asked = frozenset(part.strip() for part in (match[2] or "").split(",") if part.strip())
        found.append((_canonical(match[1]), asked))
    return found


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
