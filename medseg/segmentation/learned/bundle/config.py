"""A bundle's configuration files as data: references, macros and targets resolved by us, nothing executed.

Sources: the MONAI bundle specification (docs.monai.io, "MONAI Bundle Specification" and "Config syntax").
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from medseg.core.errors import IncompatibleModelError, ModelNotFoundError, UnsafeModelError
from medseg.segmentation.learned.bundle.expression import Device, RefusedError, check_weight, read_expression

FILE_LIMIT = 4 << 20
DEPTH_LIMIT = 60
MACRO_LIMIT = 200
SUFFIXES = (".json", ".yaml", ".yml")
SEPARATOR = "::"
_OWN_KEYS = ("_target_", "_disabled_", "_requires_", "_desc_", "_mode_")
_MACRO_FILE = re.compile(r"^(.*\.(?:json|yaml|yml))(?:::(.*))?$", re.IGNORECASE)
_RELATIVE = re.compile(r"(?<=[@%])(?:::)+")
_RELATIVE_START = re.compile(r"[@%](?:::)+")
_WHOLE_REFERENCE = re.compile(r"^@\w+(?:::\w+)*$")


@dataclass(frozen=True)
class Component:
    """Something a configuration asks to be built: the short name of an allowed target, its arguments, and its place."""

    target: str
    arguments: Mapping[str, Any]
    where: str


class _DependentError(RefusedError):
    """A value could not be read because another one was refused, which is in the list already."""


_REFUSED = object()


@dataclass
class Configuration:
    """The merged entries of a bundle's configuration, resolved on demand; what was refused so far is in `refusals`.

    `known` translates a `_target_` to the short name of what we build for it, None for what we do not know. Arguments of
    the targets in `unread` are not looked at, because the target is left out.
    """

    entries: dict[str, Any]
    known: Callable[[str], str | None]
    root: Path | None = None
    unread: frozenset[str] = frozenset()
    refusals: list[str] = field(default_factory=list)
    _resolved: dict[str, Any] = field(default_factory=dict)
    _busy: list[str] = field(default_factory=list)
    _macros: int = 0

    def __contains__(self, where: str) -> bool:
        try:
            self._node(where)
        except RefusedError:
            return False
        return True

    def raw(self, where: str) -> Any:
        """Return the text as it stands in the file, None where there is none."""
        try:
            return self._node(where)
        except RefusedError:
            return None

    def section(self, where: str) -> Any:
        """Return the resolved value at an id such as "inferer" or "network_def::channels".

        What is refused in it is added to `refusals`; the value then is None and must not be used.
        """
        try:
            value = self._lookup(where.replace("#", SEPARATOR))
        except RefusedError as err:
            self._refuse(where, err)
            return None
        return None if value is _REFUSED else value

    def quietly(self, where: str) -> Any:
        """Return the resolved value, None where it is missing or refused; for entries inference can do without."""
        count = len(self.refusals)
        value = self.section(where)
        refused = len(self.refusals) > count
        del self.refusals[count:]
        if refused:
            self._resolved.clear()  # what was refused here must be refused again where it is needed
        return None if refused else value

    def _refuse(self, where: str, err: RefusedError) -> None:
        if not isinstance(err, _DependentError):
            entry = f"{where}: {err}"
            if entry not in self.refusals:
                self.refusals.append(entry)

    def _lookup(self, where: str) -> Any:
        if where in self._resolved:
            value = self._resolved[where]
        else:
            if where in self._busy:
                raise RefusedError(f"references in a circle: {' → '.join([*self._busy[self._busy.index(where) :], where])}")
            if len(self._busy) >= DEPTH_LIMIT:
                raise RefusedError(f"references more than {DEPTH_LIMIT} deep")
            node = self._node(where)
            self._busy.append(where)
            try:
                value = self._resolve(node, where, 0)
            finally:
                self._busy.pop()
            check_weight(value)
            self._resolved[where] = value
        if value is _REFUSED:
            raise _DependentError(f"@{where} was refused")
        return value

    def _node(self, where: str) -> Any:
        node: Any = self.entries
        place = ""
        for part in where.replace("#", SEPARATOR).split(SEPARATOR) if where else ():
            node = self._expanded(node, place)
            place = f"{place}{SEPARATOR}{part}" if place else part
            if isinstance(node, Mapping) and part in node:
                node = node[part]
            elif isinstance(node, list) and part.isdigit() and int(part) < len(node):
                node = node[int(part)]
            else:
                raise RefusedError(f"@{where} is not in the configuration")
        return self._expanded(node, place)

    def _expanded(self, node: Any, where: str) -> Any:
        """The entries a macro `%...` stands for; anything else as it is."""
        if not (isinstance(node, str) and node.startswith("%")):
            return node
        self._macros += 1
        if self._macros > MACRO_LIMIT:
            raise RefusedError(f"more than {MACRO_LIMIT} macros")
        text = absolute(node, where)[1:]
        match = _MACRO_FILE.match(text)
        if not match:
            if text in self._busy:
                raise RefusedError(f"macros in a circle: %{text}")
            self._busy.append(text)
            try:
                return copy.deepcopy(self._node(text))
            finally:
                self._busy.pop()
        path = inside(self.root, match.group(1))
        other = Configuration(_read_file(path), self.known)
        return copy.deepcopy(other._node(match.group(2) or ""))

    def _resolve(self, node: Any, where: str, depth: int) -> Any:
        if depth > DEPTH_LIMIT:
            raise RefusedError(f"entries nested more than {DEPTH_LIMIT} deep")
        node = self._expanded(node, where)
        if isinstance(node, Mapping):
            return self._component(node, where, depth) if "_target_" in node else self._mapping(node, where, depth)
        if isinstance(node, list):
            values = [self._entry(entry, f"{where}{SEPARATOR}{number}", depth) for number, entry in enumerate(node)]
            return _REFUSED if any(value is _REFUSED for value in values) else values
        if isinstance(node, str):
            text = absolute(node, where)
            if node.startswith("$"):
                return read_expression(text[1:], self._lookup)
            if _WHOLE_REFERENCE.match(text):
                return self._lookup(text[1:])
        return node

    def _entry(self, node: Any, where: str, depth: int) -> Any:
        """One entry of a list or mapping: refused alone, so that all that is wrong is found in one go."""
        try:
            return self._resolve(node, where, depth + 1)
        except RefusedError as err:
            self._refuse(where, err)
            return _REFUSED

    def _mapping(self, node: Mapping[str, Any], where: str, depth: int) -> Any:
        values = {key: self._entry(entry, f"{where}{SEPARATOR}{key}", depth) for key, entry in node.items()}
        return _REFUSED if any(value is _REFUSED for value in values.values()) else values

    def _component(self, node: Mapping[str, Any], where: str, depth: int) -> Any:
        if self._is_disabled(node, where, depth):
            return None
        target = node["_target_"]
        short = self.known(target) if isinstance(target, str) and not target.startswith(("$", "@", "%")) else None
        if short is None:
            self._refuse(where, RefusedError(f"_target_ {str(target)[:160]!r} is not one that is read as data"))
        if short in self.unread:
            return Component(str(short), {}, where)
        if node.get("_mode_", "default") != "default":
            self._refuse(where, RefusedError(f"_mode_ {str(node['_mode_'])[:40]!r}"))
            short = None
        required = self._entry(node.get("_requires_"), f"{where}{SEPARATOR}_requires_", depth)
        arguments = {key: entry for key, entry in node.items() if key not in _OWN_KEYS}
        values = self._mapping(arguments, where, depth)
        if short is None or required is _REFUSED or values is _REFUSED:
            return _REFUSED
        return Device() if short == "device" else Component(short, values, where)

    def _is_disabled(self, node: Mapping[str, Any], where: str, depth: int) -> bool:
        value = self._resolve(node.get("_disabled_", False), f"{where}{SEPARATOR}_disabled_", depth + 1)
        return value.strip().lower() == "true" if isinstance(value, str) else bool(value)


def absolute(text: str, where: str) -> str:
    """Return a text with `#` as `::` and relative ids (`@#same_level`, `@##one_up`) made absolute.

    >>> absolute("$@##spacing * 2", "a::b::c")
    '$@a::spacing * 2'
    """
    text = text.replace("#", SEPARATOR) if "@" in text or text.startswith("%") else text
    here = where.split(SEPARATOR) if where else []

    def base(match: re.Match[str]) -> str:
        levels = len(match.group(0)) // len(SEPARATOR)
        if levels > len(here):
            raise RefusedError(f"{text[:160]}: a relative id that leaves the configuration")
        return "".join(f"{part}{SEPARATOR}" for part in here[: len(here) - levels])

    return _RELATIVE.sub(base, text) if _RELATIVE_START.search(text) else text


def inside(root: Path | None, name: str) -> Path:
    """Return the path of a file of the bundle; raises RefusedError where it would lie outside of it.

    Where `root` is None (a file named by another file, or a bundle within one archive) every name is refused.
    """
    if root is None:
        raise RefusedError(f"the file {name[:160]!r}: no other files are read from here")
    base = root.resolve()
    try:
        path = (base / name).resolve()
    except (OSError, ValueError, RuntimeError) as err:
        raise RefusedError(f"the file {name[:160]!r} is not in the bundle") from err
    if base not in path.parents:
        raise RefusedError(f"the file {name[:160]!r} lies outside the bundle")
    if not path.is_file():
        raise RefusedError(f"the file {name[:160]!r} is not in the bundle")
    return path


def read_files(paths: Iterable[Path]) -> dict[str, Any]:
    """Return the merged entries of several files: later ones win, a key with `+` adds to what is there.

    Raises ModelNotFoundError for a missing file, IncompatibleModelError for one that is no configuration.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        for key, value in _read_file(path).items():
            merge(merged, key, value)
    return merged


def merge(entries: dict[str, Any], key: str, value: Any) -> None:
    """Put `value` at an id; a key that begins with `+` extends the list or mapping that is there."""
    adds = key.startswith("+")
    *parents, last = (key[1:] if adds else key).replace("#", SEPARATOR).split(SEPARATOR)
    node: Any = entries
    for part in parents:
        if isinstance(node, dict):
            node = node.setdefault(part, {})
        elif isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            raise IncompatibleModelError(f"the configuration sets {key!r}, which is not there")
    if isinstance(node, list) and last.isdigit() and int(last) < len(node):
        node[int(last)] = value
    elif not isinstance(node, dict):
        raise IncompatibleModelError(f"the configuration sets {key!r}, which is not there")
    elif adds and isinstance(node.get(last), dict) and isinstance(value, dict):
        node[last].update(value)
    elif adds and isinstance(node.get(last), list) and isinstance(value, list):
        node[last].extend(value)
    else:
        node[last] = value


def unsafe(name: str, refusals: Iterable[str]) -> UnsafeModelError:
    """Return the error that lists everything that was refused."""
    listed = list(refusals)
    return UnsafeModelError(
        f"bundle {name!r} asks for {len(listed)} thing(s) that medseg does not read as data, so nothing of it was run:\n"
        + "\n".join(f"  - {entry}" for entry in listed[:50])
        + (f"\n  - and {len(listed) - 50} more" if len(listed) > 50 else "")
        + "\nIf you know who made the bundle and have read its code, `--trust-bundle SHA256` with the hash of the whole folder runs it."
    )


class _DataLoader(yaml.SafeLoader):
    """Safe YAML without merge keys, whose repetition can make a small file large."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                raise yaml.YAMLError("merge keys (<<) are not read")
        super().flatten_mapping(node)


def read_text(content: bytes, name: str) -> dict[str, Any]:
    """Return the entries of a JSON or YAML file given as bytes; raises IncompatibleModelError where it is none."""
    if len(content) > FILE_LIMIT:
        raise IncompatibleModelError(f"{name} has {len(content)} bytes: a configuration is a few pages of text")
    try:
        text = content.decode("utf-8-sig")
        entries = json.loads(text) if name.lower().endswith(".json") else yaml.load(text, _DataLoader)
        check_weight(entries)
    except (ValueError, RecursionError, yaml.YAMLError, RefusedError) as err:
        raise IncompatibleModelError(f"{name} cannot be read as a configuration ({type(err).__name__}): install the model again") from err
    if not isinstance(entries, dict) or not all(isinstance(key, str) for key in entries):
        raise IncompatibleModelError(f"{name} is no mapping of names: it is not a configuration")
    return entries


def _read_file(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > FILE_LIMIT:
            raise IncompatibleModelError(f"{path} has {path.stat().st_size} bytes: a configuration is a few pages of text")
        content = path.read_bytes()
    except OSError as err:
        raise ModelNotFoundError(f"{path} is missing or cannot be read: install the model again") from err
    return read_text(content, path.name)
