"""Reads the `$` expressions of a bundle's configuration as data: nothing in them is ever executed.

MONAI gives such text to Python's `eval`, so a bundle is a program. Here the text is parsed (`ast.parse` builds a tree and
runs nothing) and the tree walked by an interpreter that knows constants, containers, arithmetic without powers,
comparisons, `a if b else c`, subscripts, a handful of functions over plain data, names of data types, devices, and
references `@id`. Every other node is refused with its text. Sizes, lengths and depths are limited, so that an
expression cannot fill the memory either.
"""

from __future__ import annotations

import ast
import itertools
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Lookup = Callable[[str], Any]

TEXT_LIMIT = 4096  # characters of one expression
NODE_LIMIT = 500
LENGTH_LIMIT = 10_000  # entries of a list made by an expression
STRING_LIMIT = 1 << 16
NUMBER_LIMIT = 1 << 63
WEIGHT_LIMIT = 50_000  # entries of a value, those within its entries counted

_REFERENCE = re.compile(r"@(\w+(?:(?:#|::)\w+)*)")
_DATA_TYPE = re.compile(r"^(torch|numpy|np)\.(u?int(?:8|16|32|64)?|b?float(?:16|32|64)?|half|double|long|short|bool)$")
_PLACEHOLDER = "reference_"
_CONSTANTS = {f"monai.utils.CommonKeys.{name}": name.lower() for name in ("IMAGE", "LABEL", "PRED")}


class RefusedError(Exception):
    """An expression, a target or a value is outside what is read as data; the message says which and why."""


@dataclass(frozen=True)
class DataType:
    """A data type named by an expression, such as `torch.float32`."""

    name: str


@dataclass(frozen=True)
class Device:
    """A device named by an expression; which one does not matter, because the run settings choose it."""


@dataclass(frozen=True)
class GreaterThan:
    """The function `lambda x: x > limit`, the one kind of lambda that is read (as a limit, not as a function)."""

    limit: float


@dataclass(frozen=True)
class ChannelPriority:
    """The function `lambda x: torch.where(x[[2]] > 0, 4, torch.where(..., 0))`: (channel, number), the first that is set counts."""

    choices: tuple[tuple[int, int], ...]


def read_expression(text: str, lookup: Lookup) -> Any:
    """Return the value of an expression (without its `$`); `lookup` returns what a reference stands for.

    Raises RefusedError for anything outside the small language above.

    >>> read_expression("@spacing[0] * 2 if @high else [3.0]", {"spacing": [1.5], "high": True}.__getitem__)
    3.0
    """
    if len(text) > TEXT_LIMIT:
        raise RefusedError(f"an expression of {len(text)} characters (at most {TEXT_LIMIT} are read)")
    if _PLACEHOLDER in text:
        raise RefusedError(f"the name {_PLACEHOLDER!r} in {_short(text)}")
    names: dict[str, str] = {}

    def name_of(match: re.Match[str]) -> str:
        name = f"{_PLACEHOLDER}{len(names)}"
        names[name] = match.group(1).replace("#", "::")
        return name

    try:
        tree = ast.parse(_REFERENCE.sub(name_of, text).strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as err:
        raise RefusedError(f"{_short(text)}: not an expression") from err
    if sum(1 for _ in itertools.islice(ast.walk(tree), NODE_LIMIT + 1)) > NODE_LIMIT:
        raise RefusedError(f"{_short(text)}: more than {NODE_LIMIT} parts")
    try:
        return _Reader(text, names, lookup).value(tree.body)
    except RefusedError:
        raise
    except (ArithmeticError, TypeError, ValueError, LookupError, RecursionError) as err:
        raise RefusedError(f"{_short(text)}: cannot be worked out ({type(err).__name__})") from err


def check_weight(value: Any) -> None:
    """Raise RefusedError where a value holds more entries, counted within its entries too, than a configuration needs."""
    stack, count = [value], 0
    while stack:
        entry = stack.pop()
        count += 1
        if count > WEIGHT_LIMIT:
            raise RefusedError(f"a value of more than {WEIGHT_LIMIT} entries")
        if isinstance(entry, Mapping):
            stack.extend(entry.values())
        elif isinstance(entry, (list, tuple)):
            stack.extend(entry)


def _short(text: str) -> str:
    shown = " ".join(text.split())
    return "$" + (shown if len(shown) <= 160 else shown[:157] + "...")


def _scalar(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _number(value: Any) -> bool:
    return isinstance(value, (bool, int, float))


_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}


def _as_range(*numbers: int) -> list[int]:
    values = range(*numbers)
    if len(values) > LENGTH_LIMIT:
        raise RefusedError(f"a range of {len(values)} entries")
    return list(values)


def _as_integer(value: Any) -> int:
    if isinstance(value, str) and len(value) > 20:
        raise RefusedError("a number of more than 20 digits")
    return int(value)


def _rounded(value: float, digits: int | None = None) -> float:
    if digits is not None and not 0 <= digits <= 20:
        raise RefusedError(f"rounding to {digits} digits")
    return round(value, digits)


def _as_text(value: Any) -> str:
    if not _scalar(value):
        raise RefusedError(f"str() of a {type(value).__name__}")
    return str(value)


def _joined(*parts: str) -> str:
    if not all(isinstance(part, str) for part in parts):
        raise RefusedError("os.path.join() of something that is no text")
    return "/".join(parts)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "range": _as_range,
    "list": list,
    "tuple": tuple,
    "len": len,
    "min": min,
    "max": max,
    "sum": sum,
    "sorted": sorted,
    "abs": abs,
    "int": _as_integer,
    "float": float,
    "bool": bool,
    "str": _as_text,
    "round": _rounded,
    "os.path.join": _joined,
}


def _priorities(node: ast.AST, name: str) -> list[tuple[int, int]] | None:
    """The choices of nested `torch.where(name[[channel]] > 0, number, ...)` that end in 0; None for anything else."""
    choices = []
    while isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.where" and len(node.args) == 3 and not node.keywords:
        test, number, node = node.args
        channel = re.fullmatch(rf"{re.escape(name)}\[\[(\d{{1,3}})\]\] > 0", ast.unparse(test))
        if channel is None or not isinstance(number, ast.Constant) or type(number.value) is not int or not 0 < number.value < 65536:
            return None
        choices.append((int(channel.group(1)), number.value))
    return choices if isinstance(node, ast.Constant) and type(node.value) is int and node.value == 0 else None


class _Reader:
    """Walks the tree of one expression."""

    def __init__(self, text: str, names: Mapping[str, str], lookup: Lookup) -> None:
        self.text = text
        self.names = names
        self.lookup = lookup

    def value(self, node: ast.AST) -> Any:
        read = getattr(self, f"_read_{type(node).__name__.lower()}", None)  # our own methods, found by the kind of node
        if read is None:
            raise self._refused(node, type(node).__name__)
        value = read(node)
        self._check(value)
        return value

    def _check(self, value: Any) -> None:
        if isinstance(value, int) and abs(value) > NUMBER_LIMIT:
            raise RefusedError(f"{_short(self.text)}: a number beyond 2^63")
        if isinstance(value, str) and len(value) > STRING_LIMIT:
            raise RefusedError(f"{_short(self.text)}: a text of {len(value)} characters")
        if isinstance(value, (list, tuple, dict)):
            if len(value) > LENGTH_LIMIT:
                raise RefusedError(f"{_short(self.text)}: {len(value)} entries")
            check_weight(value)

    def _refused(self, node: ast.AST, what: str) -> RefusedError:
        part = ast.unparse(node)
        for name, reference in sorted(self.names.items(), reverse=True):
            part = part.replace(name, f"@{reference}")
        return RefusedError(f"{_short(self.text)}: {what} ({part[:120]}) is not read")

    def _read_constant(self, node: ast.Constant) -> Any:
        if not _scalar(node.value):
            raise self._refused(node, "a constant of this kind")
        if isinstance(node.value, str) and _PLACEHOLDER in node.value:
            raise self._refused(node, "a reference within a text")
        return node.value

    def _read_list(self, node: ast.List) -> list[Any]:
        return [self.value(entry) for entry in node.elts]

    def _read_tuple(self, node: ast.Tuple) -> tuple[Any, ...]:
        return tuple(self.value(entry) for entry in node.elts)

    def _read_dict(self, node: ast.Dict) -> dict[Any, Any]:
        entries: dict[Any, Any] = {}
        for key, entry in zip(node.keys, node.values, strict=True):
            if key is None:
                raise self._refused(node, "**")
            name = self.value(key)
            if not _scalar(name):
                raise self._refused(key, "a key of this kind")
            entries[name] = self.value(entry)
        return entries

    def _read_name(self, node: ast.Name) -> Any:
        if node.id in self.names:
            return self.lookup(self.names[node.id])
        raise self._refused(node, "the name")

    def _read_attribute(self, node: ast.Attribute) -> DataType | str:
        if ast.unparse(node) in _CONSTANTS:
            return _CONSTANTS[ast.unparse(node)]
        match = _DATA_TYPE.match(ast.unparse(node))
        if not match:
            raise self._refused(node, "the attribute")
        return DataType(match.group(2))

    def _read_subscript(self, node: ast.Subscript) -> Any:
        container = self.value(node.value)
        if not isinstance(container, (list, tuple, dict)):
            raise self._refused(node, "a subscript of something that is no list")
        if isinstance(node.slice, ast.Slice):
            parts = [None if part is None else self.value(part) for part in (node.slice.lower, node.slice.upper, node.slice.step)]
            return container[slice(*parts)] if not isinstance(container, dict) else self._no_slice(node)
        return container[self.value(node.slice)]

    def _no_slice(self, node: ast.AST) -> Any:
        raise self._refused(node, "a slice of a mapping")

    def _read_binop(self, node: ast.BinOp) -> Any:
        work = _ARITHMETIC.get(type(node.op))
        if work is None:
            raise self._refused(node, f"the operator {type(node.op).__name__}")
        left, right = self.value(node.left), self.value(node.right)
        if isinstance(node.op, ast.Add) and any(isinstance(left, kind) and isinstance(right, kind) for kind in (str, list, tuple)):
            return left + right
        if isinstance(node.op, ast.Mult):
            for sequence, count in ((left, right), (right, left)):
                if isinstance(sequence, (str, list, tuple)) and isinstance(count, int):
                    if len(sequence) * max(count, 0) > LENGTH_LIMIT:
                        raise self._refused(node, f"a repetition to {len(sequence) * count} entries")
                    return sequence * count
        if not (_number(left) and _number(right)):
            raise self._refused(node, "arithmetic on something that is no number")
        return work(left, right)

    def _read_unaryop(self, node: ast.UnaryOp) -> Any:
        work = _UNARY.get(type(node.op))
        value = self.value(node.operand)
        if work is None or not (isinstance(node.op, ast.Not) or _number(value)):
            raise self._refused(node, f"the operator {type(node.op).__name__}")
        return work(value)

    def _read_boolop(self, node: ast.BoolOp) -> Any:
        value: Any = None
        for entry in node.values:
            value = self.value(entry)
            if bool(value) is isinstance(node.op, ast.Or):
                break
        return value

    def _read_compare(self, node: ast.Compare) -> bool:
        left = self.value(node.left)
        for kind, entry in zip(node.ops, node.comparators, strict=True):
            right = self.value(entry)
            within = isinstance(kind, (ast.In, ast.NotIn)) and isinstance(right, (list, tuple, dict, str))
            if not _scalar(left) or not (within or _scalar(right)):
                raise self._refused(node, "a comparison of something that is no number or text")
            if within and isinstance(right, (list, tuple)) and not all(_scalar(one) for one in right):
                raise self._refused(node, "a comparison of something that is no number or text")
            if not _COMPARISONS[type(kind)](left, right):
                return False
            left = right
        return True

    def _read_ifexp(self, node: ast.IfExp) -> Any:
        return self.value(node.body) if self.value(node.test) else self.value(node.orelse)

    def _read_lambda(self, node: ast.Lambda) -> GreaterThan | ChannelPriority:
        spec, body = node.args, node.body
        plain = len(spec.args) == 1 and not (spec.posonlyargs or spec.kwonlyargs or spec.vararg or spec.kwarg or spec.defaults)
        if plain and isinstance(body, ast.Compare) and isinstance(body.left, ast.Name) and body.left.id == spec.args[0].arg:
            limit = self.value(body.comparators[0])
            if len(body.ops) == 1 and isinstance(body.ops[0], ast.Gt) and _number(limit):
                return GreaterThan(float(limit))
        choices = _priorities(body, spec.args[0].arg) if plain else None
        if choices:
            return ChannelPriority(tuple(choices))
        raise self._refused(node, "a function")

    def _read_call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("to", "eval"):
            return self._read_moved(node, node.func)
        name = ast.unparse(node.func)
        if name == "torch.cuda.is_available" and not node.args and not node.keywords:
            return False  # only ever asked to choose a device, which the run settings do
        if any(isinstance(entry, ast.Starred) for entry in node.args) or any(entry.arg is None for entry in node.keywords):
            raise self._refused(node, "a call with * or **")
        if name == "torch.device":
            for entry in [*node.args, *(keyword.value for keyword in node.keywords)]:
                self.value(entry)  # read, so that what hides in it is refused
            return Device()
        if name == "copy.deepcopy" and len(node.args) == 1 and not node.keywords:
            return self.value(node.args[0])
        if name not in _FUNCTIONS or node.keywords:
            raise self._refused(node, "the call")
        return _FUNCTIONS[name](*(self.value(entry) for entry in node.args))

    def _read_moved(self, node: ast.Call, func: ast.Attribute) -> Any:
        """`@network.to(@device)` and `.eval()` are the thing itself: where it runs is a run setting."""
        if node.keywords or not isinstance(func.value, (ast.Name, ast.Call)):
            raise self._refused(node, "the call")
        values = [self.value(entry) for entry in node.args]
        if (func.attr == "eval" and values) or not all(isinstance(entry, (Device, str)) for entry in values):
            raise self._refused(node, "the call")
        return self.value(func.value)
