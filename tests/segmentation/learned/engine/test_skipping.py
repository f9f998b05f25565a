"""Patches of one intensity are computed once; the outputs are the same bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medseg.segmentation.learned.engine import stream
from medseg.segmentation.learned.engine.sinks import ArraySink
from medseg.segmentation.learned.engine.skipping import constant_value
from medseg.segmentation.learned.engine.stream import run
from medseg.segmentation.learned.engine.windows import Windows
from medseg.segmentation.learned.trained import Request


class Counting(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layers = torch.nn.Sequential(torch.nn.Conv3d(2, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(4, 3, 3, padding=1))
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += len(x)
        return self.layers(x)


def scan_in_air() -> np.ndarray:
    image = np.full((2, 40, 40, 40), -1.0, np.float32)
    image[1] = 0.5
    image[:, 14:26, 14:26, 14:26] = np.random.default_rng(0).normal(size=(2, 12, 12, 12))
    return image


@pytest.mark.parametrize(
    "windows", [Windows((8, 8, 8)), Windows((8, 8, 8), mirror_axes=(0, 2)), Windows.nnunet((8, 8, 8), mirror_axes=(1,))]
)
def test_skipped_patches_change_no_bit(windows: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = [Counting(), Counting()]
    sink = ArraySink()
    record = run(networks, scan_in_air(), windows, sink, Request(device="cpu"))
    assert record.skipped_patches > record.patches
    asked = networks[0].calls
    monkeypatch.setattr(stream.ConstantPatches, "value", lambda self, start: None)
    full = ArraySink()
    record = run(networks, scan_in_air(), windows, full, Request(device="cpu"))
    assert record.skipped_patches == 0
    assert networks[0].calls - asked == record.patches * len(windows.mirrors()) > asked
    np.testing.assert_array_equal(sink.finish(), full.finish())


def test_outputs_too_large_to_keep_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_KEPT_BYTES", 10)
    network = Counting()
    record = run([network], scan_in_air(), Windows((8, 8, 8)), ArraySink(), Request(device="cpu"))
    assert record.skipped_patches == 0
    assert network.calls == record.patches


def test_a_volume_of_one_intensity_needs_one_pass_and_no_foreground_is_an_answer() -> None:
    network = Counting()
    record = run([network], np.zeros((2, 16, 16, 16), np.float32), Windows((8, 8, 8)), ArraySink(), Request(device="cpu"))
    assert network.calls == 1
    assert record.skipped_patches == record.patches - 1


def test_only_patches_of_one_value_in_each_channel_count() -> None:
    patch = torch.ones((2, 4, 4, 4))
    patch[1] = 7
    assert constant_value(patch) == (1.0, 7.0)
    patch[1, 2, 2, 2] = 8
    assert constant_value(patch) is None
    patch[1] = float("nan")
    assert constant_value(patch) is None
