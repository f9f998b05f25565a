"""PySide6 with the manners of PythonQt, which Slicer uses: properties are attributes, signals are connected by signature.

Ours is stricter where PythonQt would keep silent: an unknown signal or attribute raises."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from PySide6 import QtCore, QtGui, QtNetwork, QtSvg, QtUiTools, QtWidgets

from standins.errors import guarded

QT_MODULES = (QtCore, QtGui, QtWidgets, QtNetwork, QtUiTools, QtSvg)
RENAMED = {"name": "objectName"}

_native_read: dict[type, Callable[[Any, str], Any]] = {}
_properties: dict[type, frozenset[str]] = {}
_being_read: set[tuple[int, str]] = set()
_loading: list[str] = []
# what objects answer besides Qt's own members; filled by other stand-ins (`exec` of dialogs)
EXTRA: dict[str, Callable[[Any], Any]] = {}


@contextmanager
def loading(path: str) -> Iterator[None]:
    """While a .ui file is loaded."""
    _loading.append(path)
    try:
        yield
    finally:
        _loading.pop()


def properties_of(item: QtCore.QObject) -> frozenset[str]:
    """The names of an object's Qt properties."""
    kind = type(item)
    if kind not in _properties:
        meta = QtCore.QObject.metaObject(item)
        _properties[kind] = frozenset(str(meta.property(index).name()) for index in range(meta.propertyCount()))
    return _properties[kind]


def known_as(item: QtCore.QObject, name: str) -> str:
    """The Qt property behind a name of PythonQt: `name` is objectName unless the class has a property of that name."""
    return name if name in properties_of(item) else RENAMED.get(name, name)


def _native(kind: type) -> type:
    return next(base for base in kind.__mro__ if base in _native_read)


def _written_in_python(item: QtCore.QObject, name: str) -> bool:
    """Whether a Python class above Qt's own, or the object itself, defines the name: PythonQt takes that first."""
    if name in (read(item, "__dict__") or {}):
        return True
    for kind in type(item).__mro__:
        if kind in _native_read:
            return False
        if name in kind.__dict__:
            # not isinstance: PySide6 6.12 loses a reference of False whenever something is asked to be a Signal
            return type(kind.__dict__[name]) not in (QtCore.Property, QtCore.Signal)
    return False


def _plays_cpp(item: QtCore.QObject) -> bool:
    """Whether the object is one of Qt, or a stand-in of one that Slicer has in C++."""
    return type(item) in _native_read or type(item).__module__.startswith("standins.")


def read(item: QtCore.QObject, name: str) -> Any:
    """The attribute as PySide6 gives it."""
    return _native_read[_native(type(item))](item, name)


def arity(function: Callable[..., Any]) -> int | None:
    """How many arguments a slot takes at most; None where all are passed on, as PythonQt does for what is not plain Python."""
    inner = function.__func__ if isinstance(function, types.MethodType) else function
    if not isinstance(inner, types.FunctionType):
        return None
    code = inner.__code__
    if code.co_flags & inspect.CO_VARARGS:
        return None
    return code.co_argcount - isinstance(function, types.MethodType)


class BoundSignal:
    """`widget.clicked`: connect, disconnect, emit; calling it emits."""

    def __init__(self, owner: QtCore.QObject, name: str, native: Any) -> None:
        self._owner, self._name, self._native = owner, name, native

    def connect(self, function: Callable[..., Any]) -> bool:
        return _attach(self._owner, self._name, self._native, function, None)

    def disconnect(self, function: Callable[..., Any] | None = None) -> bool:
        return _detach(self._owner, self._name, function)

    def emit(self, *arguments: Any) -> None:
        self._native.emit(*arguments)

    __call__ = emit


def _connections(owner: QtCore.QObject) -> list[tuple[str, Any, Any, Any]]:
    return read(owner, "__dict__").setdefault("_standin_connections", [])


def _attach(owner: QtCore.QObject, key: str, native: Any, function: Callable[..., Any], count: int | None) -> bool:
    if not callable(function):
        raise TypeError(f"{type(owner).__name__}.connect({key!r}): {function!r} cannot be called")
    accepted = arity(function)
    limit = min(value for value in (count, accepted, 99) if value is not None)

    def slot(*arguments: Any) -> None:
        guarded(function, f"slot of {type(owner).__name__}.{key}")(*arguments[:limit])

    native.connect(slot)
    _connections(owner).append((key, function, native, slot))
    return True


def _detach(owner: QtCore.QObject, key: str, function: Callable[..., Any] | None) -> bool:
    found = [entry for entry in _connections(owner) if entry[0] == key and (function is None or entry[1] == function)]
    for entry in found:
        entry[2].disconnect(entry[3])
        _connections(owner).remove(entry)
    return bool(found)


def detach_all(owner: QtCore.QObject) -> None:
    """Takes away every connection that was made by Python from an object that outlives a test."""
    for key in {entry[0] for entry in _connections(owner)}:
        _detach(owner, key, None)


def _normalized(signature: str) -> str:
    """The signature as Qt's meta objects spell it: no blanks, no `const` and `&` (PySide6's own function changed between versions)."""
    name, _, rest = signature.partition("(")
    inside = [" ".join(part.split()).removeprefix("const ").removesuffix("&").strip() for part in rest.removesuffix(")").split(",")]
    return f"{name.strip()}({','.join(inside)})"


def _signal(owner: QtCore.QObject, signature: str) -> tuple[Any, int]:
    """PySide's signal of a C++ signature and its number of arguments; ValueError where the class has none of that name."""
    normal = _normalized(signature)
    name, _, rest = normal.partition("(")
    inside = rest.removesuffix(")")
    count = len(inside.split(",")) if inside else 0
    spoken = getattr(type(owner), "VTK_SIGNALS", {})
    if normal in spoken:
        return read(owner, spoken[normal]), count
    meta = QtCore.QObject.metaObject(owner)
    if "(" not in signature or meta.indexOfSignal(normal) < 0:
        known = sorted(
            bytes(meta.method(index).methodSignature().data()).decode()
            for index in range(meta.methodCount())
            if meta.method(index).methodType() == QtCore.QMetaMethod.MethodType.Signal
        )
        raise ValueError(f"{meta.className()} has no signal {signature!r}; it has {', '.join([*spoken, *known])}")
    native = read(owner, name)
    try:
        return (native[inside] if inside else native), count
    except (KeyError, IndexError, TypeError):
        return native, count


def _connect(owner: QtCore.QObject, signature: str, target: Any, slot: str | None = None) -> bool:
    native, count = _signal(owner, signature)
    function = getattr(target, slot.partition("(")[0]) if slot is not None else target
    return _attach(owner, signature.replace(" ", ""), native, function, count)


def _disconnect(owner: QtCore.QObject, signature: str, target: Any = None, slot: str | None = None) -> bool:
    _signal(owner, signature)
    function = getattr(target, slot.partition("(")[0]) if slot is not None else target
    return _detach(owner, signature.replace(" ", ""), function)


def _property(item: QtCore.QObject, name: str) -> Any:
    # a getter that is virtual (QLayout::spacing) looks for its Python override under the very name: there it gets the method
    key = (id(item), name)
    _being_read.add(key)
    try:
        value = QtCore.QObject.property(item, name)
        return tuple(value) if isinstance(value, list) else value  # PythonQt gives a QStringList as a tuple
    finally:
        _being_read.discard(key)


def _by_signature(item: QtCore.QObject, name: str, ours: Callable[..., bool], arguments: tuple[Any, ...]) -> Any:
    if arguments and isinstance(arguments[0], str) and arguments[0][:1].isalpha():
        return ours(item, *arguments)
    return read(item, name)(*arguments)  # PySide6's signals call connect(object, "2signal()", ...) themselves


# what every object answers in PythonQt's way
METHODS: dict[str, Callable[[Any], Any]] = {
    "connect": lambda item: lambda *arguments: _by_signature(item, "connect", _connect, arguments),
    "disconnect": lambda item: lambda *arguments: _by_signature(item, "disconnect", _disconnect, arguments),
    "className": lambda item: lambda: str(QtCore.QObject.metaObject(item).className()),
}


def _as_pythonqt(item: Any, name: str) -> Any:
    """The answer where PythonQt's differs from PySide6's; NotImplemented where it does not."""
    if name.startswith("_") or _written_in_python(item, name):
        return NotImplemented
    found = EXTRA[name](item) if name in EXTRA else None
    if found is not None:
        return found
    if name in METHODS:
        return METHODS[name](item)
    known = known_as(item, name)
    if known in properties_of(item) and (id(item), name) not in _being_read:
        return _property(item, known)
    return NotImplemented


def _manners(original: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    def get(self: Any, name: str) -> Any:
        answer = _as_pythonqt(self, name)
        if answer is not NotImplemented:
            return answer
        try:
            found = original(self, "exec" if name == "exec_" else name)
        except AttributeError:
            if name.startswith("_") or not _plays_cpp(self):
                raise
            raise AttributeError(
                f"{type(self).__name__} has no property, signal or method {name!r} (stand-ins in tests/slicer/standins)"
            ) from None
        return BoundSignal(self, name, found) if type(found) is QtCore.SignalInstance and not name.startswith("_") else found

    return get


def _set_property(item: QtCore.QObject, name: str, value: Any) -> None:
    meta = QtCore.QObject.metaObject(item)
    entry = meta.property(meta.indexOfProperty(name))
    if not entry.isWritable():
        raise AttributeError(f"property {name!r} of {type(item).__name__} cannot be written")
    if value is None:
        raise ValueError(f"property {name!r} of {type(item).__name__} does not accept None")
    setter = "set" + name[0].upper() + name[1:]
    try:
        method = read(item, setter)
    except AttributeError:
        method = None
    if method is not None:
        method(value)  # the setter checks the type, setProperty would only answer False
    elif not QtCore.QObject.setProperty(item, name, value):
        raise ValueError(f"property {name!r} of {type(item).__name__} does not accept {value!r}")


def _write(self: Any, name: str, value: Any) -> None:
    known = known_as(self, name)
    if not _written_in_python(self, name) and known in properties_of(self):
        _set_property(self, known, value)
        return
    plays_cpp = _plays_cpp(self)
    if plays_cpp and _loading and not name.startswith("_"):
        return  # PySide6's loader writes every child as an attribute of its parent, PythonQt's does not
    if plays_cpp and not name.startswith("_") and not hasattr(type(self), name):
        # PythonQt: no new attributes on objects of C++, only on Python classes derived from them
        raise AttributeError(f"attribute {name!r} does not exist and creating new attributes on {type(self).__name__} is not allowed")
    for kind in type(self).__mro__:
        descriptor = kind.__dict__.get(name)
        if hasattr(type(descriptor), "__set__"):
            descriptor.__set__(self, value)
            return
    read(self, "__dict__")[name] = value


def _classes() -> set[type]:
    found: set[type] = set()
    for module in QT_MODULES:
        for name in dir(module):  # getattr, not vars: PySide6 makes its classes when they are first asked for
            value = getattr(module, name)
            if isinstance(value, type) and issubclass(value, QtCore.QObject):
                found.add(value)
    return found


def install() -> None:
    """Teaches PySide6's classes the manners; a second call changes nothing."""
    if _native_read:
        return
    classes = _classes()
    # every class of PySide6 has its own slots, read before any is replaced
    _native_read.update({kind: kind.__getattribute__ for kind in classes})
    for kind in classes:
        kind.__getattribute__ = _manners(_native_read[kind])  # type: ignore[method-assign]
        kind.__setattr__ = _write  # type: ignore[method-assign,assignment]
