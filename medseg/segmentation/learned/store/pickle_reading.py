"""What the pickle of a checkpoint would do, read as a list of opcodes: nothing is built, nothing is called."""

from __future__ import annotations

import contextlib
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

from medseg.core.errors import UnsafeModelError


@dataclass(frozen=True)
class Name:
    """A class or function the pickle names, `module.name`."""

    text: str


@dataclass(frozen=True)
class Call:
    """A call the pickle asks for: what is called, and with what."""

    what: Any
    arguments: Any


@dataclass(frozen=True)
class Stored:
    """A reference to a storage outside the pickle."""

    identity: Any


@dataclass
class PickleContents:
    """What was found: names, calls and storages, each in the order of the file."""

    names: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    storages: list[Any] = field(default_factory=list)


_MARK = object()
# The opcodes of torch.save; whatever else appears was not written by it.
_VALUES = {"BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING", "BINSTRING", "LONG1"}
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_CONTAINERS: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": list}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_DROP = {"APPEND": 1, "SETITEM": 2, "BUILD": 1}  # what they take off the stack; their target stays as it was


def read_pickle(content: bytes, where: str) -> PickleContents:
    """Return what a pickle names, calls and refers to; raises UnsafeModelError for an opcode torch.save never writes.

    >>> import pickle
    >>> read_pickle(pickle.dumps([1, len], protocol=2), "example").names
    ['builtins.len']
    """
    machine = _Machine(where)
    try:
        for opcode, argument, _ in pickletools.genops(content):
            machine.step(opcode.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, UnicodeDecodeError) as err:
        raise UnsafeModelError(f"{where} holds a pickle that is damaged or made to mislead: get the model again from its source") from err
    return machine.contents


def names_in(stream: IO[bytes], most: int = 1000) -> list[str]:
    """Return the classes and functions that pickles, one after the other, name: as far as they can be read, to show to a person."""
    names: list[str] = []
    memo: dict[int, Any] = {}
    texts: list[Any] = ["", ""]
    with contextlib.suppress(Exception):  # a damaged end does not matter here
        while len(names) < most:
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name in ("GLOBAL", "INST"):
                    names.append(str(argument).replace(" ", "."))
                elif opcode.name == "STACK_GLOBAL":
                    names.append(".".join(str(text) for text in texts[-2:]))
                elif opcode.name in ("BINGET", "LONG_BINGET", "GET"):
                    texts.append(memo.get(int(str(argument)), ""))
                elif opcode.name in ("BINPUT", "LONG_BINPUT", "PUT"):
                    memo[int(str(argument))] = texts[-1]
                elif opcode.name == "MEMOIZE":
                    memo[len(memo)] = texts[-1]
                elif isinstance(argument, str):
                    texts.append(argument)
                del texts[:-2], names[most:]
    return sorted(set(names))


class _Machine:
    """The stack and memo of the pickle language, holding descriptions instead of objects."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.contents = PickleContents()

    def step(self, name: str, argument: Any) -> None:
        """Take one opcode."""
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _CONTAINERS:
            self.stack.append(_CONTAINERS[name]())
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name in _TUPLES:
            self._put(_TUPLES[name])
        elif name in _DROP:
            self._take(_DROP[name])
            self.stack[-1]
        else:
            self._rarer(name, argument)

    def _rarer(self, name: str, argument: Any) -> None:
        if name == "MARK":
            self.stack.append(_MARK)
        elif name == "TUPLE":
            self.stack.append(tuple(self._down_to_mark()))
        elif name in ("APPENDS", "SETITEMS"):
            self._down_to_mark()
            self.stack[-1]
        elif name == "GLOBAL":
            text = argument.replace(" ", ".").replace("__builtin__.", "builtins.")  # Python 2's name for it
            self.contents.names.append(text)
            self.stack.append(Name(text))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, what = self.stack.pop(), self.stack.pop()
            self.contents.calls.append(Call(what, arguments))
            self.stack.append(self.contents.calls[-1])
        elif name == "BINPERSID":
            identity = self.stack.pop()
            self.contents.storages.append(identity)
            self.stack.append(Stored(identity))
        elif name not in ("PROTO", "STOP"):
            raise UnsafeModelError(f"{self.where} uses the pickle instruction {name}, which torch.save never writes: do not use this file")

    def _put(self, count: int) -> None:
        self.stack.append(tuple(self._take(count)))

    def _take(self, count: int) -> list[Any]:
        taken = self.stack[len(self.stack) - count :]
        if len(taken) != count or len(self.stack) < count or _MARK in taken:
            raise ValueError
        del self.stack[len(self.stack) - count :]
        return taken

    def _down_to_mark(self) -> list[Any]:
        taken: list[Any] = []
        while (value := self.stack.pop()) is not _MARK:
            taken.append(value)
        return taken[::-1]
