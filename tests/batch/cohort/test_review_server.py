"""`medseg review` answers this machine and nobody else, and loses no decision."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from medseg.batch.cohort.qc import QcCase, write_qc
from medseg.batch.cohort.review_file import SCHEMA, read_review
from medseg.batch.cohort.review_server import MOST_BYTES, ReviewServer
from medseg.batch.records.layout import Layout
from medseg.cli.main import run
from medseg.core.errors import OutputError, UnreadableFileError

FIRST, SECOND = "0123456789abcdef", "fedcba9876543210"
PNG = b"\x89PNG\r\n\x1a\n no pixels"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "out")
    (layout.case(FIRST)).mkdir(parents=True)
    (layout.case(FIRST) / "thumbnail.png").write_bytes(PNG)
    (layout.case(FIRST) / "segmentation.nii.gz").write_bytes(b"voxels")
    layout.private.mkdir()
    layout.case_table.write_text("path\n/home/someone/scan.dcm\n")
    write_qc(layout, [QcCase(FIRST, "done", thumbnail=f"cases/01/{FIRST}/thumbnail.png"), QcCase(SECOND, "done")])
    return layout


@pytest.fixture
def server(layout: Layout) -> Iterator[ReviewServer]:
    with ReviewServer(layout) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _ask(server: ReviewServer, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=60)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        given.setdefault("Content-Type", "application/json")
    connection.request("GET" if body is None else "POST", path, body, given)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, data, dict(answer.getheaders())


def _below(server: ReviewServer, name: str) -> str:
    return f"/{server.token}/{name}"


def _sent(**decisions: str) -> bytes:
    entries = {
        case_id.removeprefix("c"): {
            "decision": decision,
            "reviewer": "A. Reader",
            "time": "2026-05-01T10:00:00.000Z",
            "comment": "",
            "result": "",
        }
        for case_id, decision in decisions.items()
    }
    return json.dumps({"schema": SCHEMA, "decisions": entries}).encode()


def test_the_page_knows_that_it_is_served_and_the_address_works(server: ReviewServer) -> None:
    status, data, headers = _ask(server, urllib.parse.urlparse(server.address).path)
    assert status == 200
    assert b'name="medseg-mode" content="server"' in data
    assert headers["Referrer-Policy"] == "no-referrer", "the address is the secret"
    assert headers["Cache-Control"] == "no-store"


def test_pictures_come_by_case_and_nothing_else_is_a_file(server: ReviewServer) -> None:
    status, data, headers = _ask(server, _below(server, f"cases/01/{FIRST}/thumbnail.png"))
    assert (status, data, headers["Content-Type"]) == (200, PNG, "image/png")
    for name in (
        f"cases/01/{FIRST}/segmentation.nii.gz",
        f"cases/02/{FIRST}/thumbnail.png",
        f"cases/fe/{SECOND}/thumbnail.png",
        "private/cases.csv",
        "cases/../private/cases.csv",
        f"cases/01/{FIRST}/../../../private/cases.csv",
        f"cases/01/{FIRST}%2f..%2f..%2f..%2fprivate%2fcases.csv",
        "/etc/passwd",
        "qc.html",
        "batch.json",
    ):
        status, data, _ = _ask(server, _below(server, name))
        assert status == 404, name
        assert b"someone" not in data


@pytest.mark.parametrize("path", ["/", "/review.json", "//review.json", "/wrong/review.json", "/\xe9/review.json"])
def test_without_the_secret_there_is_nothing(server: ReviewServer, path: str) -> None:
    status, data, _ = _ask(server, urllib.parse.quote(path))
    assert status == 404
    assert server.token.encode() not in data


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "evil.example:{port}", ""])
def test_a_name_that_points_here_by_trickery_is_refused(server: ReviewServer, host: str) -> None:
    status, _, _ = _ask(server, _below(server, "review.json"), Host=host.format(port=server.server_address[1]))
    assert status == 404


def test_only_this_machine_can_reach_it(server: ReviewServer) -> None:
    assert server.server_address[0] == "127.0.0.1"


def test_decisions_are_saved_and_come_back(server: ReviewServer, layout: Layout) -> None:
    status, data, _ = _ask(server, _below(server, "decisions"), _sent(c0123456789abcdef="reject"))
    assert status == 200
    assert json.loads(data)["decisions"][FIRST]["decision"] == "reject"
    assert read_review(layout.review)[FIRST].reviewer == "A. Reader"
    status, data, headers = _ask(server, _below(server, "review.json"))
    assert json.loads(data)["decisions"][FIRST]["decision"] == "reject"
    assert _ask(server, _below(server, "review.json"), If_None_Match=headers["ETag"])[0] == 304
    _ask(server, _below(server, "decisions"), _sent(cfedcba9876543210="fix"))
    assert _ask(server, _below(server, "review.json"), If_None_Match=headers["ETag"])[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe",
        b"[" * 50_000,
        b'{"schema": "medseg.review/1", "decisions": {"../x": {}}}',
        _sent(c0123456789abcdef="maybe"),
    ],
)
def test_what_is_no_decision_is_refused_with_a_sentence_and_changes_nothing(server: ReviewServer, layout: Layout, body: bytes) -> None:
    status, data, _ = _ask(server, _below(server, "decisions"), body)
    assert status == 400
    assert json.loads(data)["error"]
    assert not layout.review.exists()


def test_other_pages_of_the_browser_cannot_send(server: ReviewServer, layout: Layout) -> None:
    body = _sent(c0123456789abcdef="reject")
    assert _ask(server, _below(server, "decisions"), body, Origin="https://evil.example")[0] == 404
    assert _ask(server, _below(server, "decisions"), body, Content_Type="text/plain")[0] == 404
    assert _ask(server, _below(server, "review.json"), body)[0] == 404
    assert not layout.review.exists()
    origin = f"http://127.0.0.1:{server.server_address[1]}"
    assert _ask(server, _below(server, "decisions"), body, Origin=origin)[0] == 200


def test_too_much_is_refused_before_it_is_read(server: ReviewServer) -> None:
    for length, status in ((str(MOST_BYTES + 1), b"413"), ("9" * 30, b"411"), ("-1", b"411"), ("x", b"411")):
        with socket.create_connection(("127.0.0.1", server.server_address[1]), timeout=60) as line:
            head = f"POST {_below(server, 'decisions')} HTTP/1.1\r\nHost: 127.0.0.1:{server.server_address[1]}\r\n"
            line.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n".encode())
            assert status in line.recv(200), length


def test_reviewers_who_decide_at_the_same_moment_lose_nothing(layout: Layout) -> None:
    """Two programs on one folder, ten reviewers, a hundred decisions on a hundred cases."""
    with ReviewServer(layout) as one, ReviewServer(layout) as other:
        threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}) for server in (one, other)]
        threads += [threading.Thread(target=_decide, args=((one, other)[n % 2], n)) for n in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads[2:]:
            thread.join()
        one.shutdown()
        other.shutdown()
        for thread in threads[:2]:
            thread.join()
    found = read_review(layout.review)
    assert {case_id: decision.comment for case_id, decision in found.items()} == {f"{n:016x}": f"{n}" for n in range(100)}


def _decide(server: ReviewServer, reviewer: int) -> None:
    for n in range(reviewer * 10, reviewer * 10 + 10):
        entry = {"decision": "accept", "reviewer": f"R{reviewer}", "time": "2026-05-01T10:00:00Z", "comment": f"{n}", "result": ""}
        _ask(server, _below(server, "decisions"), json.dumps({"schema": SCHEMA, "decisions": {f"{n:016x}": entry}}).encode())


def test_the_later_decision_on_a_case_stands_in_whatever_order_they_come(server: ReviewServer, layout: Layout) -> None:
    entries = [
        {"decision": decision, "reviewer": name, "time": time, "comment": "", "result": ""}
        for decision, name, time in (("reject", "late", "2026-05-01T12:00:00Z"), ("accept", "early", "2026-05-01T10:00:00Z"))
    ]
    for entry in entries:
        _ask(server, _below(server, "decisions"), json.dumps({"schema": SCHEMA, "decisions": {FIRST: entry}}).encode())
    assert read_review(layout.review)[FIRST].reviewer == "late"


def test_a_folder_that_cannot_be_written_says_so(server: ReviewServer, layout: Layout) -> None:
    layout.state.write_text("a file where the folder of the lock should be")
    status, data, _ = _ask(server, _below(server, "decisions"), _sent(c0123456789abcdef="reject"))
    assert status == 507
    assert "cannot be written" in json.loads(data)["error"]
    assert str(layout.folder) not in data.decode()


def test_decisions_that_cannot_be_read_are_never_overwritten(server: ReviewServer, layout: Layout) -> None:
    layout.review.write_text("not JSON")
    assert _ask(server, _below(server, "decisions"), _sent(c0123456789abcdef="reject"))[0] == 400
    assert layout.review.read_text() == "not JSON"
    with pytest.raises(UnreadableFileError, match="review"):
        ReviewServer(layout)


def test_a_folder_without_a_sheet_and_a_port_in_use_have_their_sentence(server: ReviewServer, tmp_path: Path, layout: Layout) -> None:
    with pytest.raises(UnreadableFileError, match="medseg report"):
        ReviewServer(Layout(tmp_path))
    (tmp_path / "qc.html").write_text("<p>another page</p>")
    with pytest.raises(UnreadableFileError, match="this version"):
        ReviewServer(Layout(tmp_path))
    with pytest.raises(OutputError, match="port"):
        ReviewServer(layout, server.server_address[1])


def test_the_command_says_the_address_saves_and_ends_with_ctrl_c(layout: Layout) -> None:
    command = [sys.executable, "-m", "medseg", "review", str(layout.folder), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        address = urllib.parse.urlparse(program.stdout.readline().strip())
        connection = http.client.HTTPConnection(address.netloc, timeout=60)
        connection.request("POST", f"{address.path}decisions", _sent(c0123456789abcdef="fix"), {"Content-Type": "application/json"})
        assert connection.getresponse().status == 200
        connection.close()
        program.send_signal(signal.SIGINT)
        try:
            out, err = program.communicate(timeout=60)
        finally:
            program.kill()
    assert program.returncode == 0, err
    assert "1 decision saved" in out
    assert not err
    assert read_review(layout.review)[FIRST].decision == "fix"


@pytest.mark.skipif(os.name != "posix", reason="a shell script stands for the browser")
def test_other_users_of_the_machine_do_not_see_the_secret(layout: Layout, tmp_path: Path) -> None:
    """The arguments of a program can be read by everyone: the browser gets a file that only this user can read."""
    said, fake = tmp_path / "said", tmp_path / "browser"
    lines = (
        "#!/bin/sh",
        'page="${1#file://}"',
        f'{{ echo "$1"; cat "$page"; ls -ld "$(dirname "$page")"; }} > {said}.new',
        f"mv {said}.new {said}",
    )
    fake.write_text("\n".join(lines) + "\n")
    fake.chmod(0o700)
    command = [sys.executable, "-m", "medseg", "review", str(layout.folder)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "BROWSER": f"{fake} %s"}
    ) as program:
        assert program.stdout is not None
        address = program.stdout.readline().strip()
        until = time.monotonic() + 20
        while not said.exists() and time.monotonic() < until:
            time.sleep(0.05)
        program.send_signal(signal.SIGTERM)
        program.communicate(timeout=60)
    argument, page, folder = said.read_text().splitlines()
    assert address.split("/")[3] not in argument
    assert f"url={address}" in page
    assert folder.startswith("drwx------")
    assert not Path(argument.removeprefix("file://")).exists(), "it is gone with the program"


def test_the_command_without_a_sheet_ends_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["review", str(tmp_path), "--no-browser"]) == 3
    assert "medseg report" in capsys.readouterr().err
