"""How a dead worker is told of: its exit code or signal, and its last words."""

from __future__ import annotations

from medseg.slicer_bridge.client import death_sentence


def test_death_sentences() -> None:
    assert "exit code 3" in death_sentence(3, ["boom"])
    assert "saying: boom" in death_sentence(3, ["boom"])
    assert "SIGSEGV" in death_sentence(-11, [])
    assert "signal 250" in death_sentence(-250, [])
    assert "unknown" in death_sentence(None, [])
