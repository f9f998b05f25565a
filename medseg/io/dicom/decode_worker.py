"""The child process that decodes compressed frames; it alone loads foreign decoders, so it alone can be taken down by a file.

It imports nothing but numpy and the one decoder that is asked for. `medseg.io.dicom.decoder` starts it and speaks to it over its
standard input and output, a `REQUEST` and a `REPLY` at a time; compressed bytes and samples lie in memory that both share.
"""

from __future__ import annotations

import contextlib
import importlib
import mmap
import os
import signal
import struct
from collections.abc import Callable
from typing import Any

GREETING = b"medseg-decoder-1"
REQUEST = struct.Struct("<BLLQQQdL")  # number of the kind, rows, columns, where the bytes lie, how many, room after, seconds, MiB
REPLY = struct.Struct("<BcBQ")  # status, "u" or "i", bytes a sample, where the samples lie
DONE, DAMAGED, MISSING, NO_MEMORY = range(4)
KINDS = ("JPEG", "JPEG lossless", "JPEG-LS", "JPEG 2000")

_LARGE_BYTES = 31 << 20  # just below the most that glibc learns from

Decode = Callable[[bytes, int, int], Any]


def main(arguments: list[str]) -> None:
    """Serve requests until the parent closes its end; the arguments name the shared memory, its size and the packages to try."""
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    memory = _shared_memory(arguments[0], int(arguments[1]))
    _silence()
    _stay_small_in_death()
    import numpy as np  # paid for once, before the first deadline runs

    np.empty(_LARGE_BYTES, np.uint8)  # freed at once: from then on glibc keeps what it is given back, each frame takes it again
    replies.write(GREETING)
    decoders: dict[int, Decode | None] = {}
    limit = _Limit()
    while len(head := requests.read(REQUEST.size) or b"") == REQUEST.size:  # a pipe gives so few bytes in one piece
        kind, rows, columns, at, size, room, seconds, mebibytes = REQUEST.unpack(head)
        if kind not in decoders:
            decoders[kind] = _find(KINDS[kind], arguments[2:])
        _alarm(seconds)
        limit.raise_to(mebibytes << 20)
        replies.write(_answer(memory, decoders[kind], (at, size, room), (rows, columns)))
        _alarm(0)
    os._exit(0)  # nothing to tidy up, and some decoders crash on the way out


def _answer(memory: mmap.mmap, decode: Decode | None, place: tuple[int, int, int], size: tuple[int, int]) -> bytes:
    """Decode the bytes at a place of the shared memory, put the samples behind them, and return the reply."""
    import numpy as np

    if decode is None:
        return REPLY.pack(MISSING, b"u", 0, 0)
    at, length, room = place
    try:
        samples = np.asarray(decode(memory[at : at + length], *size))
        after = at + length + -length % 8
        if samples.shape != size or samples.dtype.kind not in "ui" or samples.nbytes > room - 8:
            raise ValueError
        dtype = samples.dtype.newbyteorder("=")
        np.copyto(np.frombuffer(memory, dtype, samples.size, after).reshape(size), samples)
    except MemoryError:
        return REPLY.pack(NO_MEMORY, b"u", 0, 0)
    except BaseException:  # noqa: BLE001 - a panic of a codec is a BaseException; all of them mean a broken frame
        return REPLY.pack(DAMAGED, b"u", 0, 0)
    return REPLY.pack(DONE, dtype.kind.encode("ascii"), dtype.itemsize, after)


def _shared_memory(name: str, size: int) -> mmap.mmap:
    kind, _, value = name.partition("=")
    if kind == "tag":
        return mmap.mmap(-1, size, tagname=value)  # type: ignore[call-arg,unused-ignore] # Windows
    memory = mmap.mmap(int(value), size)
    os.close(int(value))
    return memory


def _silence() -> None:
    """Codecs print to the standard streams from C; that must neither reach the user nor mix with the replies."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)


def _stay_small_in_death() -> None:
    """No core file, which would hold pixels; ^C in the terminal is the parent's affair."""
    with contextlib.suppress(ValueError, OSError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _Limit:
    """The cap on what decoding may allocate beyond what the process took to start."""

    def __init__(self) -> None:
        self._bytes = 0

    def raise_to(self, allowed: int) -> None:
        if allowed <= self._bytes:
            return
        self._bytes = allowed
        # only Linux says how much address space is taken already, and only there the limit holds
        with contextlib.suppress(ImportError, ValueError, OSError, IndexError):
            import resource

            with open("/proc/self/statm", "rb") as status:
                taken = int(status.read().split()[0]) * resource.getpagesize()
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            wanted = taken + allowed
            resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _alarm(seconds: float) -> None:
    """Should the parent be gone, a decoder that hangs still ends: the signal's default action needs no Python code."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _find(kind: str, packages: list[str]) -> Decode | None:
    """Return the first decoder of a kind among the packages, None where none of them is installed."""
    for package in packages:
        maker = _MAKERS.get(package)
        with contextlib.suppress(ImportError):
            decode = importlib.import_module(package).decoder(kind) if maker is None else maker(kind)
            if decode is not None:
                return decode
    return None


def _imagecodecs(kind: str) -> Decode | None:
    import imagecodecs

    names = {"JPEG": "jpeg8_decode", "JPEG lossless": "jpeg8_decode", "JPEG-LS": "jpegls_decode", "JPEG 2000": "jpeg2k_decode"}
    decode = getattr(imagecodecs, names[kind])
    return lambda stream, _rows, _columns: decode(stream)


def _openjpeg(kind: str) -> Decode | None:
    if kind != "JPEG 2000":
        return None
    from openjpeg import decode  # type: ignore[attr-defined,unused-ignore]

    return lambda stream, _rows, _columns: decode(stream)


def _pyjpegls(kind: str) -> Decode | None:
    if kind != "JPEG-LS":
        return None
    import numpy as np
    from jpeg_ls import decode_pixel_data  # type: ignore[import-untyped,unused-ignore]

    def decode(stream: bytes, rows: int, columns: int) -> Any:
        samples, info = decode_pixel_data(stream)
        return np.frombuffer(samples, np.uint8 if info["bits_per_sample"] <= 8 else np.uint16).reshape(rows, columns)

    return decode


def _simpleitk(kind: str) -> Decode | None:
    if kind not in ("JPEG", "JPEG lossless"):
        return None
    from medseg.io.dicom.gdcm_jpeg import decode_jpeg

    return decode_jpeg


_MAKERS: dict[str, Callable[[str], Decode | None]] = {
    "imagecodecs": _imagecodecs,
    "openjpeg": _openjpeg,
    "jpeg_ls": _pyjpegls,
    "SimpleITK": _simpleitk,
}
