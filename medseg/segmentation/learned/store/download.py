"""Fetches a model over HTTP: to a name of its own, resumed where it was cut, and never used before its hash is right."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from medseg.core.errors import ChecksumError, ModelNotFoundError, OutputError, UnsafeModelError
from medseg.method.settings import Progress, no_progress
from medseg.segmentation.learned.store.durable import sha256_of

SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 18
_AGENT = "medseg"
_OFFLINE = (
    "Without a network: fetch the file on another machine, carry it here and use `medseg models add FILE --sha256 …`. "
    "Behind a proxy: set https_proxy as for other programs"
)


@dataclass(frozen=True)
class Patience:
    """How a download deals with a poor line.

    `timeout_s` of silence end one try; `tries` are made, each going on where the last one ended, `pause_s` apart. A
    partial file that nobody wrote to for `abandoned_s` is taken over from a program that was killed.
    """

    timeout_s: float = 30.0
    tries: int = 5
    pause_s: float = 2.0
    abandoned_s: float = 60.0


def is_url(text: str) -> bool:
    """Say whether this is an address to download from."""
    return text.lower().startswith(("http://", "https://"))


def plain_url(url: str) -> str:
    """Return an address without user, password, query and fragment, which may hold secrets.

    >>> plain_url("https://me:word@example.org/a.zip?token=1")
    'https://example.org/a.zip'
    """
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    return urllib.parse.urlunsplit((parts.scheme, f"{host}:{parts.port}" if parts.port else host, parts.path, "", ""))


def download(
    url: str,
    sha256: str,
    folder: Path,
    *,
    most_bytes: int = 40 << 30,
    patience: Patience | None = None,
    progress: Progress = no_progress,
) -> Path:
    """Return the downloaded file in `folder`, its SHA-256 compared; the caller deletes it.

    Two programs may fetch the same file at a time: each has its own. What a cut left is kept and gone on with, by this
    call and by the next (HTTP Range; from the start where the server cannot). Raises ModelNotFoundError where the
    address cannot be reached or has nothing, ChecksumError where the hash differs (the file is deleted),
    UnsafeModelError for more than `most_bytes` or a step down from https, OutputError for a full disk.
    """
    if not SHA256.fullmatch(sha256):
        raise ChecksumError(f"{sha256[:80]!a} is no SHA-256: give the 64 digits that the source of the model states")
    patience = patience or Patience()
    folder.mkdir(parents=True, exist_ok=True)
    shared = folder / f"{sha256}.part"
    with _own_part(shared, patience) as own:
        found = sha256_of(own)
        if found != sha256:
            resumed = own.stat().st_size > 0
            _fetch(url, own, most_bytes, patience, progress)
            found = sha256_of(own)
            if found != sha256 and resumed:  # the earlier part may have been of another file
                own.write_bytes(b"")
                _fetch(url, own, most_bytes, patience, progress)
                found = sha256_of(own)
            if found != sha256:
                own.unlink()
                raise ChecksumError(
                    f"{plain_url(url)} has SHA-256 {found}, expected {sha256}: the file was deleted. "
                    "Compare the SHA-256 with the one its source states: the file was changed, or the number belongs to another version"
                )
        done = own.with_suffix(".done")
        os.replace(own, done)
        return done


@contextmanager
def _own_part(shared: Path, patience: Patience) -> Iterator[Path]:
    """Take the partial file of an earlier try under a name of our own, or an empty one; give it back when cut."""
    own = shared.with_name(f"{shared.stem}.{uuid.uuid4().hex}.mine")
    for left in (shared, *shared.parent.glob(f"{shared.stem}.*.mine")):
        with contextlib.suppress(OSError):  # gone, or taken by somebody quicker
            if left == shared or time.time() - left.stat().st_mtime > patience.abandoned_s:
                os.rename(left, own)
                break
    try:
        own.touch()
        yield own
    finally:
        with contextlib.suppress(OSError):
            if own.stat().st_size:
                os.replace(own, shared)
            else:
                own.unlink()


class _NoStepDown(urllib.request.HTTPRedirectHandler):
    """Follows redirections to http and https only, and never from https to http."""

    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        if not is_url(newurl) or (req.full_url.lower().startswith("https:") and not newurl.lower().startswith("https:")):
            fp.close()
            raise UnsafeModelError(f"{plain_url(req.full_url)} leads from https to another kind of address: medseg does not follow")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _fetch(url: str, own: Path, most_bytes: int, patience: Patience, progress: Progress) -> None:
    last: Exception | None = None
    for attempt in range(patience.tries):
        if attempt:
            time.sleep(patience.pause_s)
        before = own.stat().st_size
        try:
            if _fetch_once(url, own, most_bytes, patience, progress):
                return
        except urllib.error.HTTPError as err:
            err.close()
            if err.code == 416 and before:  # what is there is longer than the file of the server, or all of it
                own.write_bytes(b"")
            elif err.code < 500 and err.code not in (408, 429):
                raise ModelNotFoundError(f"{plain_url(url)} answers {err.code}: check the address. {_OFFLINE}") from err
            last = err
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as err:
            last = err
        except OSError as err:
            raise OutputError(f"{own.parent} cannot be written: {err.strerror or 'the disk refused'}") from err
    kept = own.stat().st_size
    left = f" {kept >> 20} MB are kept: the same command goes on from there." if kept else ""
    reason = f"{getattr(last, 'reason', '') or last or 'the connection was cut'}"
    raise ModelNotFoundError(f"{plain_url(url)} cannot be fetched after {patience.tries} tries ({reason}).{left} {_OFFLINE}") from last


def _fetch_once(url: str, own: Path, most_bytes: int, patience: Patience, progress: Progress) -> bool:
    """Fetch what is missing; returns whether the server sent all it announced."""
    start = own.stat().st_size
    headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity", **({"Range": f"bytes={start}-"} if start else {})}
    opener = urllib.request.build_opener(_NoStepDown)
    with opener.open(urllib.request.Request(url, headers=headers), timeout=patience.timeout_s) as answer:
        resumed = answer.status == 206 and (answer.headers.get("Content-Range") or "").startswith(f"bytes {start}-")
        start = start if resumed else 0
        announced = answer.headers.get("Content-Length")
        total = start + int(announced) if (announced or "").isdigit() else 0
        if total > most_bytes:
            raise UnsafeModelError(f"{plain_url(url)} announces {total >> 20} MB, at most {most_bytes >> 20} MB are taken")
        free = shutil.disk_usage(own.parent).free
        if total - start > free:
            raise OutputError(
                f"{own.parent} has {free >> 20} MB free, {plain_url(url)} needs {(total - start) >> 20} MB: make room or use --store"
            )
        with own.open("r+b") as file:
            file.truncate(start)
            file.seek(start)
            written = _copy(answer, file, start, total, most_bytes, progress)
            file.flush()
            os.fsync(file.fileno())
        return not total or written == total


def _copy(answer: Any, file: IO[bytes], start: int, total: int, most_bytes: int, progress: Progress) -> int:
    written = start
    while chunk := answer.read(_CHUNK):
        written += len(chunk)
        if written > most_bytes:
            raise UnsafeModelError(f"the server sends more than {most_bytes >> 20} MB: the download was stopped")
        file.write(chunk)
        progress("downloading", written >> 20, max(total, written) >> 20)
    return written
