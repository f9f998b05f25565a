"""Texts that lie in a PNG beside its pixels: what colour stands for which segment, say."""

from __future__ import annotations

import struct

MAGIC = b"\x89PNG\r\n\x1a\n"
COLOURS = "medseg colours"  # keyword: label → #rrggbb as JSON


def text_of_png(data: bytes) -> dict[str, str]:
    """Return the texts by keyword that stand before the pixels of a PNG; nothing where it has none or is no PNG."""
    found: dict[str, str] = {}
    at = len(MAGIC)
    while data.startswith(MAGIC) and at + 12 <= len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        if name == b"IDAT" or at + 12 + length > len(data):
            break
        if name == b"tEXt":
            keyword, _, content = data[at + 8 : at + 8 + length].partition(b"\0")
            found[keyword.decode("latin-1")] = content.decode("latin-1")
        at += 12 + length
    return found
