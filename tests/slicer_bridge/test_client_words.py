"""How a dead worker is told of: its exit code or signal, and its last words without anyone's folders."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath

import pytest

from medseg.slicer_bridge.client import death_sentence, last_words


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], ""),
        (["first", "", "ValueError: no"], "ValueError: no"),
        (["Fatal Python error: Aborted", "Current thread 0x0"], "Fatal Python error: Aborted"),
        (["error in C:\\Users\\jane\\y.dll"], "error in y.dll"),
        (["cannot open '/opt/secret/lib.so.1'"], "cannot open 'lib.so.1'"),
    ],
)
def test_last_words_hold_no_folders(lines: list[str], words: str) -> None:
    assert last_words(lines) == words


def test_a_home_folder_with_a_space_in_its_name_is_left_out_too() -> None:
    for home, line in (
        (PurePosixPath("/home/jane doe"), "/home/jane doe/x/y.py: gone"),
        (PureWindowsPath(r"C:\Users\jane doe"), r"C:\Users\jane doe\x\y.py: gone"),
    ):
        assert last_words([line], home) == "y.py: gone"  # type: ignore[arg-type]


def test_death_sentences() -> None:
    assert "exit code 3" in death_sentence(3, ["boom"])
    assert "saying: boom" in death_sentence(3, ["boom"])
    assert "SIGSEGV" in death_sentence(-11, [])
    assert "signal 250" in death_sentence(-250, [])
    assert "unknown" in death_sentence(None, [])
