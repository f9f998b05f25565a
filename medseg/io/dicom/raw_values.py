"""Values of DICOM elements as Python's: what is no number becomes None or NaN, never a guess."""

from __future__ import annotations

import functools
import hashlib
import math
import re
import struct
from collections.abc import Mapping

LONGEST_TEXT = 1024  # longer values are cut: no field that is read here comes near

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf)", re.IGNORECASE | re.ASCII)
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_NO_TEXT = re.compile(r"[^ -~]")

# Elements that hold binary numbers (VR FD, FL, UL, US), by struct's letter; all others that are read here are text
_BINARY = {
    0x00189082: "d", 0x00189087: "d", 0x00189089: "d", 0x00209153: "d", 0x0020930D: "d", 0x00409224: "d", 0x00409225: "d",
    0x0019100E: "d", 0x20011003: "f", 0x00209057: "L", 0x00209128: "L", 0x00209157: "L", 0x00209156: "H", 0x00181310: "H",
}  # fmt: skip


class RawValues:
    """The values of one image; `values` are the raw bytes by tag."""

    def __init__(self, values: Mapping[int, bytes], is_big_endian: bool) -> None:
        self._values = values
        self._order = ">" if is_big_endian else "<"

    def text(self, tag: int) -> str:
        """The value as text, "" where absent; several values are parted by backslashes, control characters become "?"."""
        raw = self._values.get(tag)
        if not raw:
            return ""
        letter = _BINARY.get(tag)
        if letter is None:
            return _text(raw)
        return "\\".join(f"{number:.10g}" for number in _binary(raw, self._order, letter))

    def numbers(self, tag: int) -> tuple[float, ...] | None:
        """All values as numbers; NaN stands for a value that is none."""
        raw = self._values.get(tag)
        if not raw:
            return None
        letter = _BINARY.get(tag)
        return _numbers(raw) if letter is None else _binary(raw, self._order, letter) or None

    def number(self, tag: int) -> float | None:
        """The first value as a number."""
        found = self.numbers(tag)
        return found[0] if found else None

    def integer(self, tag: int, is_signed: bool = False) -> int | None:
        """A value of VR US or SS."""
        raw = self._values.get(tag, b"")
        if len(raw) < 2:
            return None
        return int(struct.unpack_from(self._order + ("h" if is_signed else "H"), raw)[0])

    def count(self, tag: int) -> int | None:
        """A value of VR IS that counts something; None where absent, -1 where it is no whole number."""
        found = self.number(tag)
        if found is None:
            return None
        return int(found) if math.isfinite(found) and found == int(found) else -1

    def uid(self, tag: int) -> str:
        """A UID; what is none (PS3.5, 9.1) is replaced by one made of its hash, so that it is harmless wherever it goes."""
        raw = self._values.get(tag)
        return clean_uid(raw) if raw else ""

    def has_bad_uid(self, tag: int) -> bool:
        """Whether the value is there but no UID."""
        return self.uid(tag) != self.text(tag)


def _binary(raw: bytes, order: str, letter: str) -> tuple[float, ...]:
    count = len(raw) // struct.calcsize(order + letter)
    return tuple(float(number) for number in struct.unpack_from(f"{order}{count}{letter}", raw))


# Slices of a series share most of their values, so each is worked out once; 4096 are far more than a series has
@functools.lru_cache(maxsize=4096)
def _text(raw: bytes) -> str:
    text = raw[:LONGEST_TEXT].decode("ascii", "replace").strip("\0 ")
    return text if text.isprintable() and text.isascii() else _NO_TEXT.sub("?", text)


@functools.lru_cache(maxsize=4096)
def _numbers(raw: bytes) -> tuple[float, ...] | None:
    text = _text(raw)
    if not text:
        return None
    parts = [part.strip("\0 ") for part in text.split("\\")]
    return tuple(float(part) if _NUMBER.fullmatch(part) else float("nan") for part in parts)


@functools.lru_cache(maxsize=4096)
def clean_uid(raw: bytes) -> str:
    """Return a UID as it stands, or one made of the hash of what stands in its place."""
    text = _text(raw)
    if not text or (len(text) <= 64 and _UID.fullmatch(text)):
        return text
    return f"2.25.{int.from_bytes(hashlib.sha256(raw).digest()[:16], 'big')}"
