"""`medseg review`: the contact sheet served to the browser of this machine alone, which saves every decision at once.

Who may: nobody but a program on this machine (127.0.0.1) that knows the address with its secret. A page of another site that
is open in the same browser has neither; the Host header is checked against names that point here by trickery (DNS rebinding).
Served are the sheet, the pictures it names, and the decisions; no path of a request ever names a file.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import secrets
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from medseg.batch.cohort.review_file import SCHEMA, Decision, parse_review, read_review, update_review
from medseg.batch.records.layout import Layout
from medseg.core.errors import MedsegError, OutputError, UnreadableFileError
from medseg.reporting.qc_page import FILE_MODE, SERVER_MODE

HOST = "127.0.0.1"
MOST_BYTES = 1 << 24  # of decisions sent at once: 10,000 with long comments
_TIMEOUT_S = 30
_PICTURE = re.compile(r"cases/([0-9a-f]{2})/([0-9a-f]{16})/(thumbnail\.png|report\.html)")
_TYPES = {".png": "image/png", ".html": "text/html; charset=utf-8"}
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the address is the secret
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class ReviewServer(ThreadingHTTPServer):
    """Serves the sheet of one batch on a free port, or on `port`; `address` holds the secret.

    Raises UnreadableFileError where the folder has no sheet of this version, or decisions that cannot be read; OutputError where
    the port is taken.
    """

    daemon_threads = True
    allow_reuse_address = os.name == "posix"  # a port that was just given up; elsewhere it would share one that is in use

    def __init__(self, layout: Layout, port: int = 0) -> None:
        self.layout = layout
        self.page = _served_page(layout.qc)
        self.token = secrets.token_urlsafe(24)
        self.saved = 0
        read_review(layout.review)  # said now, not at the first decision
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as err:
            raise OutputError(f"port {port} of this machine cannot be used ({err.strerror}): give another --port, or none") from err
        self.hosts = {f"{name}:{self.server_address[1]}" for name in (HOST, "localhost")}

    @property
    def address(self) -> str:
        """What to open in the browser."""
        return f"http://{HOST}:{self.server_address[1]}/{self.token}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that went away is no event."""


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: ReviewServer
    server_version = "medseg"
    sys_version = ""
    timeout = _TIMEOUT_S

    def do_GET(self) -> None:
        """The page, its pictures, and what is decided."""
        name = self._name()
        if name is None:
            return
        if name == "":
            self._send(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")
        elif name == "review.json":
            self._send_decisions()
        else:
            self._send_file(name)

    def do_POST(self) -> None:
        """Merge decisions into review.json and answer with all of them."""
        name = self._name()
        if name is None:
            return
        if name != "decisions" or not self._is_of_this_page():
            self._refuse(HTTPStatus.NOT_FOUND, "no such place")
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or len(length) > 12:
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "the length is missing")
        elif int(length) > MOST_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {MOST_BYTES >> 20} MB of decisions at once")
        else:
            self._merge(self.rfile.read(int(length)))

    def _merge(self, data: bytes) -> None:
        try:
            sent = parse_review(data, "what was sent")
            decisions = update_review(self.server.layout, sent)
        except UnreadableFileError as err:
            self._refuse(HTTPStatus.BAD_REQUEST, str(err))
        except MedsegError as err:
            self._refuse(HTTPStatus.INSUFFICIENT_STORAGE, str(err))
        else:
            self.server.saved += len(sent)
            self._send_json(decisions)

    def _send_decisions(self) -> None:
        path = self.server.layout.review
        try:
            stat = path.stat()
            mark = f'"{stat.st_mtime_ns:x}-{stat.st_size:x}-{stat.st_ino:x}"'
        except OSError:
            mark = '"none"'
        if self.headers.get("If-None-Match") == mark:
            self._send(HTTPStatus.NOT_MODIFIED, b"", "application/json", {"ETag": mark})
            return
        try:
            self._send_json(read_review(path), {"ETag": mark})
        except MedsegError as err:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, str(err))

    def _send_json(self, decisions: Mapping[str, Decision], headers: Mapping[str, str] | None = None) -> None:
        document = {"schema": SCHEMA, "decisions": {case_id: decision.to_dict() for case_id, decision in decisions.items()}}
        self._send(HTTPStatus.OK, json.dumps(document).encode(), "application/json", headers)

    def _send_file(self, name: str) -> None:
        """A picture or a report of a case, by the parts of its name: nothing else of a path is used."""
        match = _PICTURE.fullmatch(name)
        if match is None or match[1] != match[2][:2]:
            self._refuse(HTTPStatus.NOT_FOUND, "no such place")
            return
        path = self.server.layout.case(match[2]) / match[3]
        try:
            data = path.read_bytes()
        except OSError:
            self._refuse(HTTPStatus.NOT_FOUND, "the file is not there")
        else:
            self._send(HTTPStatus.OK, data, _TYPES[path.suffix], {"Content-Security-Policy": "sandbox allow-scripts"})

    def _name(self) -> str | None:
        """What is asked for below the secret; None, and refused, for who does not know it or did not mean this machine."""
        parts = self.path.split("?", 1)[0].split("/", 2)
        known = len(parts) == 3 and hmac.compare_digest(parts[1].encode(), self.server.token.encode())
        if not known or self.headers.get("Host") not in self.server.hosts:
            self._refuse(HTTPStatus.NOT_FOUND, "no such place")
            return None
        return parts[2]

    def _is_of_this_page(self) -> bool:
        origin = self.headers.get("Origin")
        is_json = self.headers.get("Content-Type", "").split(";")[0].strip() == "application/json"
        return is_json and (origin is None or origin in {f"http://{host}" for host in self.server.hosts})

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        self.close_connection = True
        self._send(status, json.dumps({"error": message}).encode(), "application/json")

    def _send(self, status: HTTPStatus, data: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, **(headers or {}), "Content-Type": kind, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """The log would hold the secret."""


def _served_page(path: Path) -> bytes:
    """The sheet as it was written, told that its decisions are saved by this program."""
    advice = "make it with `medseg report` on the folder, then review again"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as err:
        raise UnreadableFileError(f"{path.parent.name or path.parent} has no {path.name}: {advice}") from err
    except (OSError, ValueError) as err:
        raise UnreadableFileError(f"{path.name} cannot be read ({type(err).__name__}): {advice}") from err
    if text.count(FILE_MODE) != 1:
        raise UnreadableFileError(f"{path.name} is no contact sheet of this version of medseg: {advice}")
    return text.replace(FILE_MODE, SERVER_MODE).encode()
