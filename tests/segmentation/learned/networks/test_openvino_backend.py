"""The optional backend gives torch's logits, for every patch size and batch it meets."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from medseg.core.errors import IncompatibleModelError, MissingDependencyError  # noqa: E402
from medseg.segmentation.learned import dependencies  # noqa: E402
from medseg.segmentation.learned.networks.openvino_backend import OpenVinoNetwork  # noqa: E402
from medseg.segmentation.learned.networks.registry import build  # noqa: E402

ARGUMENTS: dict[str, Any] = {
    "input_channels": 2,
    "num_classes": 3,
    "n_stages": 3,
    "features_per_stage": [8, 16, 16],
    "kernel_sizes": [[1, 3, 3], 3, 3],
    "strides": [1, [1, 2, 2], 2],
    "n_conv_per_stage": 1,
    "n_conv_per_stage_decoder": 1,
    "norm_op": "torch.nn.InstanceNorm3d",
    "norm_op_kwargs": {"affine": True},
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}


@pytest.mark.parametrize("size", [(8, 16, 24), (4, 8, 12)])
def test_logits_are_torchs_up_to_rounding(size: tuple[int, ...]) -> None:
    pytest.importorskip("openvino")
    torch.manual_seed(2)
    network = build("PlainConvUNet", ARGUMENTS, device="cpu")
    fast = OpenVinoNetwork(network, threads=1)
    patches = torch.randn(3, 2, *size)
    with torch.inference_mode():
        assert torch.allclose(fast(patches), network(patches), rtol=1e-4, atol=1e-4)
        assert fast(patches[:1]).shape == (1, 3, *size)


def test_another_network_is_traced_at_its_patch_size() -> None:
    pytest.importorskip("openvino")
    torch.manual_seed(2)
    arguments = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "features": [2, 2, 4, 4, 4, 2]}
    network = build("BasicUNet", arguments, device="cpu")
    patches = torch.randn(1, 1, 32, 48, 32)
    with torch.inference_mode():
        assert torch.allclose(OpenVinoNetwork(network, threads=1)(patches), network(patches), rtol=1e-4, atol=1e-4)


def test_a_network_that_cannot_be_traced_is_refused() -> None:
    pytest.importorskip("openvino")

    class Broken(torch.nn.Module):
        def forward(self, _: Any) -> Any:
            raise ValueError("no")

    with pytest.raises(IncompatibleModelError, match="OpenVINO cannot run Broken"):
        OpenVinoNetwork(Broken())(torch.zeros(1, 1, 4, 4, 4))


def test_without_the_package_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(dependencies.importlib, "import_module", missing)
    with pytest.raises(MissingDependencyError, match="pip install 'openvino'"):
        OpenVinoNetwork(torch.nn.Identity())
