"""A process that serves another through its standard streams keeps foreign words out of them."""

from __future__ import annotations

import io
import subprocess
import sys
import threading

from medseg.core.served_process import LineChannel


def test_lines_from_many_threads_stay_whole() -> None:
    """One event a line, whoever speaks."""
    stream = io.BytesIO()
    channel = LineChannel(stream, lambda event: f"{event['n']:>2000}\n".encode())
    threads = [threading.Thread(target=lambda n=n: [channel.send({"n": n}) for _ in range(50)]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 200
    assert {int(line) for line in lines} == {0, 1, 2, 3}


def test_what_libraries_print_is_no_event() -> None:
    """Print, the file descriptor itself, warnings and logging go to standard error, the last two without their words."""
    code = (
        "import os, sys, logging, warnings\n"
        "from medseg.core.served_process import LineChannel, quieten, take_streams\n"
        "requests, events = take_streams()\n"
        "quieten()\n"
        "print('printed')\n"
        "os.write(1, b'written\\n')\n"
        "warnings.warn('DOE^JOHN')\n"
        "logging.getLogger('pydicom').error('DOE^JANE')\n"
        "LineChannel(events, lambda event: b'event\\n').send({'given': requests.read()})\n"
        "assert sys.stdin.read() == ''\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], input=b"request", capture_output=True, check=True)
    assert ended.stdout == b"event\n"
    said = ended.stderr.decode()
    assert "printed" in said
    assert "written" in said
    assert "UserWarning" in said
    assert "logged by pydicom" in said
    assert "DOE" not in said


def test_the_process_ends_when_nobody_listens() -> None:
    """With the exit code that was asked for."""
    code = (
        "from medseg.core.served_process import LineChannel, take_streams\n"
        "channel = LineChannel(take_streams()[1], lambda event: b'x' * 100_000, exit_code=7)\n"
        "while True: channel.send({})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(30) == 7
