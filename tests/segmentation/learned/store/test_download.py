"""Downloads from a server of this machine that cuts, lies and refuses; nothing outside is asked."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from medseg.core.errors import ChecksumError, ModelNotFoundError, OutputError, UnsafeModelError
from medseg.segmentation.learned.store import download as module
from medseg.segmentation.learned.store.download import Patience, download, is_url, plain_url

CONTENT = os.urandom(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = Patience(timeout_s=5, tries=4, pause_s=0.01, abandoned_s=60)


class Server(ThreadingHTTPServer):
    """Serves CONTENT; what it does wrong is set by the test. `ranges` are the Range headers it saw."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str | None] = []
        self.cuts: list[int] = []  # bytes after which the next answers are cut
        self.knows_range = True
        self.announces = True
        self.content = CONTENT
        self.status: list[int] = []
        self.redirect = ""
        self.delay_s = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/models/liver.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.ranges.append(wanted)
        if server.status:
            self.send_error(server.status.pop(0))
            return
        if server.redirect:
            self.send_response(302)
            self.send_header("Location", server.redirect)
            self.end_headers()
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.knows_range else 0
        if start >= len(server.content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        if server.announces:
            self.send_header("Content-Length", str(len(server.content) - start))
        self.end_headers()
        end = min(start + server.cuts.pop(0), len(server.content)) if server.cuts else len(server.content)
        time.sleep(server.delay_s)
        self.wfile.write(server.content[start:end])


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def test_a_file_arrives_and_nothing_else_is_left(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    file = download(server.url, SHA256, tmp_path / "store", patience=QUICK, progress=lambda *step: seen.append(step))
    assert file.read_bytes() == CONTENT
    assert list((tmp_path / "store").iterdir()) == [file]
    assert seen[-1][0] == "downloading"
    assert seen[-1][1] == seen[-1][2]


def test_cut_connections_are_gone_on_with(server: Server, tmp_path: Path) -> None:
    server.cuts = [1_000_000, 500_000]
    file = download(server.url, SHA256, tmp_path, patience=QUICK)
    assert file.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_server_without_ranges_sends_all_again(server: Server, tmp_path: Path) -> None:
    server.cuts, server.knows_range = [1_000_000], False
    assert download(server.url, SHA256, tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=1000000-"]


def test_what_one_call_left_the_next_goes_on_with(server: Server, tmp_path: Path) -> None:
    server.cuts = [300_000] * 4
    with pytest.raises(ModelNotFoundError, match="1 MB are kept"):
        download(server.url, SHA256, tmp_path, patience=QUICK)
    server.ranges.clear()
    assert download(server.url, SHA256, tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1200000-"]


def test_what_a_killed_program_left_is_taken_over_when_it_is_old(server: Server, tmp_path: Path) -> None:
    left = tmp_path / f"{SHA256}.0123.mine"
    left.write_bytes(CONTENT[:2_000_000])
    assert download(server.url, SHA256, tmp_path, patience=QUICK).read_bytes() == CONTENT
    assert server.ranges == [None], "it may still be written to"
    os.utime(left, (time.time() - 1000,) * 2)
    server.ranges.clear()
    download(server.url, SHA256, tmp_path, patience=QUICK)
    assert server.ranges == ["bytes=2000000-"]


def test_a_whole_file_that_was_left_needs_no_network(tmp_path: Path) -> None:
    (tmp_path / f"{SHA256}.part").write_bytes(CONTENT)
    assert download("http://127.0.0.1:9/x.zip", SHA256, tmp_path, patience=QUICK).read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"x" * 2_000_000, b"x" * 5_000_000, CONTENT + b"x"])
def test_another_files_beginning_does_not_spoil_it(left: bytes, server: Server, tmp_path: Path) -> None:
    (tmp_path / f"{SHA256}.part").write_bytes(left)
    assert download(server.url, SHA256, tmp_path, patience=QUICK).read_bytes() == CONTENT


def test_a_wrong_hash_is_refused_and_deleted(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(ChecksumError, match="deleted"):
        download(server.url, SHA256, tmp_path, patience=QUICK)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_hash_is_no_hash(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ChecksumError, match="64 digits"):
        download(server.url, "abc", tmp_path, patience=QUICK)
    assert server.ranges == []


def test_without_a_length_the_hash_decides(server: Server, tmp_path: Path) -> None:
    server.announces = False
    assert download(server.url, SHA256, tmp_path, patience=QUICK).read_bytes() == CONTENT


@pytest.mark.parametrize("announces", [True, False])
def test_too_much_is_stopped(announces: bool, server: Server, tmp_path: Path) -> None:
    server.announces = announces
    with pytest.raises(UnsafeModelError, match="MB"):
        download(server.url, SHA256, tmp_path, most_bytes=1_000_000, patience=QUICK)


def test_a_busy_server_is_asked_again_a_missing_file_is_not(server: Server, tmp_path: Path) -> None:
    server.status = [503, 429]
    assert download(server.url, SHA256, tmp_path, patience=QUICK).read_bytes() == CONTENT
    server.status, server.ranges = [404], []
    with pytest.raises(ModelNotFoundError, match=r"404.*check the address"):
        download(server.url, SHA256, tmp_path, patience=QUICK)
    assert len(server.ranges) == 1


def test_offline_says_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/liver.zip"
        with pytest.raises(ModelNotFoundError, match=r"cannot be fetched.*carry it here.*https_proxy"):
            download(url, SHA256, tmp_path, patience=QUICK)
    assert list(tmp_path.iterdir()) == []


def test_a_silent_server_does_not_hang(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        begin = time.monotonic()
        with pytest.raises(ModelNotFoundError, match="timed out"):
            download(
                f"http://127.0.0.1:{silent.getsockname()[1]}/x.zip",
                SHA256,
                tmp_path,
                patience=Patience(timeout_s=0.2, tries=2, pause_s=0.01),
            )
        assert time.monotonic() - begin < 25


def test_redirections_leave_http_never(server: Server, tmp_path: Path) -> None:
    server.redirect = "ftp://127.0.0.1/secret"
    with pytest.raises(UnsafeModelError, match="does not follow"):
        download(server.url, SHA256, tmp_path, patience=QUICK)
    server.redirect = f"file://{tmp_path}/secret"  # urllib itself refuses
    with pytest.raises(ModelNotFoundError, match="302"):
        download(server.url, SHA256, tmp_path, patience=QUICK)
    handler = module._NoStepDown()
    request = module.urllib.request.Request("https://example.org/a")
    with pytest.raises(UnsafeModelError):
        handler.redirect_request(request, io.BytesIO(), 302, "", {}, "http://example.org/a")


def test_a_proxy_is_used_where_one_is_set(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """urllib reads the proxy by itself; here the server plays it."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.delenv("no_proxy", raising=False)
    assert download("http://models.invalid/liver.zip", SHA256, tmp_path, patience=QUICK).read_bytes() == CONTENT


def test_two_programs_fetch_the_same_file(server: Server, tmp_path: Path) -> None:
    server.delay_s = 0.2
    with ThreadPoolExecutor(3) as pool:
        files = list(pool.map(lambda _: download(server.url, SHA256, tmp_path, patience=QUICK), range(3)))
    assert len(set(files)) == 3
    assert all(file.read_bytes() == CONTENT for file in files)


def test_a_full_disk_is_no_network_fault(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        download(server.url, SHA256, tmp_path, patience=QUICK)


def test_secrets_of_an_address_are_not_shown(tmp_path: Path) -> None:
    assert plain_url("https://user:pass@host.example:8443/a/b.zip?sig=secret#x") == "https://host.example:8443/a/b.zip"
    assert is_url("HTTPS://x/y")
    assert not is_url("/http://x")
    with pytest.raises(ModelNotFoundError) as caught:
        download("http://user:word@127.0.0.1:9/x.zip?token=secret", SHA256, tmp_path, patience=Patience(tries=1))
    assert "secret" not in str(caught.value)
    assert "word" not in str(caught.value)
