"""Which library runs the networks."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from medseg.core.errors import DeviceError, IncompatibleModelError, MissingDependencyError  # noqa: E402
from medseg.segmentation.learned.engine.backend import with_backend  # noqa: E402
from medseg.segmentation.learned.engine.sinks import ArraySink  # noqa: E402
from medseg.segmentation.learned.engine.stream import run  # noqa: E402
from medseg.segmentation.learned.engine.windows import Windows  # noqa: E402
from medseg.segmentation.learned.trained import Request  # noqa: E402


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Conv3d(1, 4, 3, padding=1), torch.nn.Dropout3d(0.5), torch.nn.Conv3d(4, 3, 1))
    return layers.eval()


def test_torch_is_the_network_itself():
    one = network()
    assert with_backend([one], "torch", torch.device("cpu"), "float32") == [one]


def test_openvino_is_refused_on_another_device_and_with_dropout():
    with pytest.raises(DeviceError, match="--device cpu"):
        with_backend([network()], "openvino", torch.device("cuda"), "float32")
    with pytest.raises(IncompatibleModelError, match="dropout"):
        with_backend([network().train()], "openvino", torch.device("cpu"), "float32")


def test_without_openvino_the_error_names_the_extra():
    try:
        import openvino  # noqa: F401
    except ImportError:
        with pytest.raises(MissingDependencyError, match="openvino"):
            with_backend([network()], "openvino", torch.device("cpu"), "float32")
    else:
        pytest.skip("openvino is installed")


def test_the_engine_gives_the_same_outputs_through_openvino():
    pytest.importorskip("openvino")
    image = np.random.default_rng(0).normal(size=(1, 20, 17, 18)).astype(np.float32)
    outputs = []
    for backend in ("torch", "openvino"):
        sink = ArraySink()
        record = run([network()], image, Windows((16, 16, 16)), sink, Request(device="cpu", backend=backend))
        outputs.append(sink.finish())
        assert record.backend == backend
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-4, atol=1e-5)
