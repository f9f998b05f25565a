"""Qt properties for stand-in widgets: one line each gives the property, its setter and its signal."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore

from standins.pythonqt import read


def qt_property(kind: Any, name: str, default: Any, notify: str = "", changed: str = "") -> dict[str, Any]:
    """Members of a class: the Qt property and its setter; on change the signal named `notify` is sent and the method named
    `changed` called with the value."""
    key = f"_value_of_{name}"

    def get(self: Any) -> Any:
        return read(self, "__dict__").get(key, default)

    def put(self: Any, value: Any) -> None:
        if kind is float and not isinstance(value, bool):
            value = float(value)
        elif kind is list and isinstance(value, tuple):
            value = list(value)
        elif isinstance(kind, type) and not isinstance(value, kind):
            raise TypeError(f"{type(self).__name__}.{name} takes {kind.__name__}, not {type(value).__name__}")
        if value == get(self):
            return
        read(self, "__dict__")[key] = value
        if changed:
            getattr(self, changed)(value)
        if notify:
            read(self, notify).emit(value)

    return {name: QtCore.Property(kind, get, put), "set" + name[0].upper() + name[1:]: put}


def widget_class(name: str, base: type, properties: dict[str, tuple[Any, ...]], **members: Any) -> type:
    """A class of Qt with these properties (name: kind, default, signal, method) besides its base's."""
    space: dict[str, Any] = {"__module__": __name__, "__doc__": f"Stand-in of {name}."}
    for key, description in properties.items():
        space.update(qt_property(description[0], key, *description[1:]))
    space.update(members)
    return type(base)(name, (base,), space)
