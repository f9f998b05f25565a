"""The network in training and the same one at inference."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
nets = pytest.importorskip("monai.networks.nets")

from toy import toy_plan  # noqa: E402

from medseg.segmentation.learned.network import fill  # noqa: E402
from medseg.segmentation.learned.networks.registry import build  # noqa: E402
from medseg.training.networks import (  # noqa: E402
    build_training_network,
    deep_module,
    inference_arguments,
    inference_weights,
    outputs_of,
    unique_tensors,
)
from medseg.training.precision import training_precision  # noqa: E402
from medseg.training.schedule import average_decay, learning_rate  # noqa: E402


def image():
    return torch.randn((1, 1, 16, 16, 16), generator=torch.Generator().manual_seed(1))


def test_lower_outputs_of_dynunet_are_those_monai_enlarges():
    plan = toy_plan()
    network = build_training_network(plan, 0).train()
    outputs = deep_module(network, plan.deep_supervision)(image())
    theirs = nets.DynUNet.forward(network, image())
    assert [tuple(output.shape[2:]) for output in outputs] == [(16, 16, 16), (8, 8, 8)]
    torch.testing.assert_close(outputs[0], theirs[:, 0])
    torch.testing.assert_close(outputs[1], theirs[:, 1, :, ::2, ::2, ::2])


def test_first_weights_belong_to_seed_and_fold():
    first, again, other = (build_training_network(toy_plan(), fold).state_dict() for fold in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_inference_gets_the_trained_network_without_its_lower_outputs():
    plan = toy_plan()
    network = build_training_network(plan, 0)
    weights = inference_weights(plan, unique_tensors(network))
    assert not any("super" in name or "deep" in name for name in weights)
    assert len({tensor.data_ptr() for tensor in weights.values()}) == len(weights)
    single = fill(build(plan.network.name, inference_arguments(plan)), weights, "the fold")
    with torch.inference_mode():
        torch.testing.assert_close(single(image()), network.eval()(image()), rtol=0, atol=0)


def test_each_weight_is_held_once():
    network = build_training_network(toy_plan(), 0)
    unique = unique_tensors(network)
    assert sum(tensor.numel() for tensor in unique.values()) == sum(tensor.numel() for tensor in network.parameters())


def test_a_network_without_lower_outputs_gives_one():
    arguments = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8, 8], "strides": [2, 2], "num_res_units": 1}
    plan = toy_plan(network={"name": "UNet", "arguments": arguments}, deep_supervision=0)
    outputs = outputs_of(build_training_network(plan, 0).train(), image(), 0)
    assert [tuple(output.shape) for output in outputs] == [(1, 3, 16, 16, 16)]


def test_precision_asked_for_is_the_one_used_and_auto_is_one_the_cpu_has():
    cpu = torch.device("cpu")
    assert training_precision("float32", cpu) == "float32"
    assert training_precision("bfloat16", cpu) == "bfloat16"
    assert training_precision("auto", cpu) in ("float32", "bfloat16")


def test_rate_and_average():
    assert learning_rate(0, 0.0, 0.1, 0, 0.9) == pytest.approx(0.1)
    assert learning_rate(49, 0.5, 0.1, 50, 0.9) == pytest.approx(0.1 * 0.5**0.9)
    assert learning_rate(10**6, 1.0, 0.1, 50, 0.9) == 0
    assert learning_rate(10**6, 1.2, 0.1, 50, 0.9) == 0
    assert average_decay(1, 0.998) == pytest.approx(1 / 21)
    assert average_decay(10**6, 0.998) == 0.998
