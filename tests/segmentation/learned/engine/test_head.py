"""A last layer with many channels runs a few rows at a time: the outputs are those of the whole network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from medseg.segmentation.learned.engine import forward
from medseg.segmentation.learned.engine.head import find_head
from medseg.segmentation.learned.engine.sinks import ArraySink
from medseg.segmentation.learned.engine.stream import run
from medseg.segmentation.learned.engine.windows import Windows
from medseg.segmentation.learned.trained import Request


def network_ending_in(*ends: torch.nn.Module, kernel: int = 1) -> torch.nn.Sequential:
    torch.manual_seed(0)
    body = [torch.nn.Conv3d(1, 4, 3, padding=1), torch.nn.LeakyReLU(), torch.nn.Conv3d(4, 12, kernel, padding=kernel // 2)]
    return torch.nn.Sequential(*body, *ends).eval()


def outputs_of(network: Any, windows: Windows, monkeypatch: pytest.MonkeyPatch | None = None) -> np.ndarray:
    image = np.random.default_rng(0).normal(size=(1, 20, 17, 24)).astype(np.float32)
    sink = ArraySink()
    if monkeypatch is not None:
        monkeypatch.setattr(forward, "_HEAD_BYTES", 1)  # one row at a time
    run([network], image, windows, sink, Request(device="cpu"))
    return np.asarray(sink.finish())


@pytest.mark.parametrize(
    "ends",
    [
        (),
        (torch.nn.ReLU(),),
        (torch.nn.ReLU(inplace=True),),
        (torch.nn.Softmax(1),),
        (torch.nn.InstanceNorm3d(12),),
        (torch.nn.Conv3d(12, 2, 3, padding=1),),
    ],
)
@pytest.mark.parametrize("windows", [Windows((12, 12, 12), mirror_axes=(0, 2)), Windows.nnunet((12, 17, 12), mirror_axes=(1,))])
def test_it_changes_nothing_whatever_comes_after_it(windows: Windows, ends: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    network = network_ending_in(*ends)
    expected = outputs_of(network.forward, windows)
    tolerance = 1e-5 if windows.accumulators == "float32" else 2e-3  # one step of half precision
    np.testing.assert_allclose(outputs_of(network, windows, monkeypatch), expected, rtol=tolerance, atol=tolerance)


def test_only_a_last_layer_that_adds_channels_is_taken_apart() -> None:
    assert find_head(network_ending_in()) is not None
    assert find_head(network_ending_in(kernel=3)) is None
    assert find_head(torch.nn.Conv3d(8, 3, 1)) is None
    assert find_head(lambda x: x) is None
    x = torch.randn((2, 1, 8, 8, 8))
    with torch.inference_mode():
        for ends, applies in (
            ((), True),
            ((torch.nn.ReLU(inplace=True),), False),
            ((torch.nn.Dropout3d(),), True),
            ((torch.nn.Softmax(1),), False),
        ):
            network = network_ending_in(*ends)
            head = find_head(network)
            assert head is not None
            features = head.features(network, x)
            assert (features is not None) == applies
            if features is not None:
                torch.testing.assert_close(head.layer(features), network(x))
            assert not head.layer._forward_hooks
            assert not head.layer._forward_pre_hooks


def test_memory_that_runs_out_in_there_is_not_taken_for_a_misfit() -> None:
    network = network_ending_in()
    head = find_head(network)
    assert head is not None
    network[1].register_forward_hook(lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("none left")))
    with pytest.raises(torch.OutOfMemoryError):
        head.features(network, torch.randn((1, 1, 8, 8, 8)))
