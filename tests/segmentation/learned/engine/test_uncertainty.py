"""The spread of passes against volumes counted pass by pass and an entropy worked out by scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import entr, expit, softmax

from medseg.core.errors import IncompatibleModelError
from medseg.segmentation.learned.engine.export import LabelSink, linear_taps
from medseg.segmentation.learned.engine.sinks import ArraySink
from medseg.segmentation.learned.engine.stream import run
from medseg.segmentation.learned.engine.uncertainty import NullSink, PassMeter, dropout_networks
from medseg.segmentation.learned.engine.windows import Windows
from medseg.segmentation.learned.trained import Request

CPU = Request(device="cpu")
SHAPE = (14, 12, 20)
TAPS = tuple(linear_taps(n, n) for n in SHAPE)


def networks_of(count: int) -> list[torch.nn.Module]:
    torch.manual_seed(7)
    return [torch.nn.Conv3d(1, 3, 3, padding=1).eval() for _ in range(count)]


@pytest.mark.parametrize("regions", [False, True])
def test_volumes_and_entropy_are_those_of_the_passes(regions: bool) -> None:
    networks = networks_of(2)
    image = np.random.default_rng(0).normal(size=(1, *SHAPE)).astype(np.float32) * 3
    windows = Windows((8, 12, 20), mirror_axes=(1,))
    numbers = {"regions": (1, 2, 5)} if regions else {"numbers": (0, 2, 5)}
    meter = PassMeter(["a", "b", "c", "d"], lambda: LabelSink(TAPS, keep=False, **numbers), regions=regions)
    run(networks, image, windows, NullSink(), CPU, pass_sinks=meter.sinks)

    outputs = [ArraySink() for _ in range(4)]
    run(networks, image, windows, NullSink(), CPU, pass_sinks=outputs)
    values = [sink.finish() for sink in outputs]
    if regions:
        mean = np.mean([expit(one) for one in values], axis=0)
        expected = (entr(mean) + entr(1 - mean)).max(0)
        last = [int((one[2] > 0).sum()) for one in values]
    else:
        expected = entr(np.mean([softmax(one, axis=0) for one in values], axis=0)).sum(0)
        last = [int((one.argmax(0) == 2).sum()) for one in values]
    np.testing.assert_allclose(meter.entropy(), expected, atol=2e-3)
    volumes = meter.volumes_ml([2, 5, 77], 8.0)
    assert volumes[5] == tuple(count * 8.0 / 1000 for count in last)
    assert volumes[77] == (0.0,) * 4
    assert len(set(last)) > 1


def test_dropout_passes_differ_repeat_and_leave_the_network_and_the_generator_alone() -> None:
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 8, 3, padding=1), torch.nn.Dropout3d(0.5), torch.nn.Conv3d(8, 2, 1)).eval()
    x = torch.randn((1, 1, 8, 8, 8))
    state = torch.get_rng_state()
    with torch.inference_mode():
        first, second = ([one(x) for one in dropout_networks(network, 3)] for _ in range(2))
        assert not torch.equal(first[0], first[1])
        for a, b in zip(first, second, strict=True):
            assert torch.equal(a, b)
        assert torch.equal(network(x), network(x))
    assert torch.equal(state, torch.get_rng_state())
    with pytest.raises(IncompatibleModelError, match="no dropout"):
        dropout_networks(torch.nn.Conv3d(1, 2, 1))
