"""Finetuning takes what fits from a model and makes an output layer for the labels of the dataset."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

from toy import toy_case, toy_plan  # noqa: E402

from medseg.core.errors import IncompatibleModelError  # noqa: E402
from medseg.core.geometry import Geometry  # noqa: E402
from medseg.core.volume import Volume  # noqa: E402
from medseg.segmentation.learned.description import ModelDescription  # noqa: E402
from medseg.segmentation.learned.loading import open_model  # noqa: E402
from medseg.segmentation.learned.prepared import prepare  # noqa: E402
from medseg.training.export import write_fold_model  # noqa: E402
from medseg.training.finetune import finetuning_plan, starting_weights, write_start  # noqa: E402
from medseg.training.finetune_source import read_source  # noqa: E402
from medseg.training.loop import LoopSettings, train_fold  # noqa: E402
from medseg.training.networks import build_training_network, outputs_of, unique_tensors  # noqa: E402

OUT = "output_block.conv.conv.weight"


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A toy model: labels ball and cube."""
    folder = tmp_path_factory.mktemp("model")
    plan = toy_plan()
    weights = {name: tensor.clone() for name, tensor in unique_tensors(build_training_network(plan, 0)).items()}
    write_fold_model(folder, plan, weights)
    return folder, weights


def test_network_grid_and_normalisation_come_from_the_model_and_the_rate_is_a_tenth(trained):
    source = read_source(trained[0])
    fresh = toy_plan(spacing_mm=[2.0, 2.0, 2.0], patch_size=[32, 32, 32], normalisation=[{"kind": "z-score", "nonzero": True}])
    plan = finetuning_plan(source, fresh)
    assert plan.spacing_mm == (1.0, 1.0, 1.0)
    assert plan.patch_size == (16, 16, 16)
    assert not plan.normalisation[0].nonzero
    assert plan.mirror_axes == (0,)
    assert plan.optimiser.learning_rate == pytest.approx(0.001)
    assert plan.network.arguments["filters"] == [4, 8, 16]
    assert plan.deep_supervision == 1


def test_the_same_labels_keep_their_output_channels_and_new_ones_begin_at_random(trained):
    folder, weights = trained
    source = read_source(folder)
    plan = finetuning_plan(source, toy_plan(labels={1: "shell", 3: "Cube", 7: "ball"}))
    start = starting_weights(source, plan)
    half = {name: tensor.half().float() for name, tensor in weights.items()}  # as it lies in the model folder
    assert start.kept_labels == ("Cube", "ball")
    assert OUT in start.adapted
    torch.testing.assert_close(start.weights[OUT][0], half[OUT][0], rtol=0, atol=0)
    torch.testing.assert_close(start.weights[OUT][2], half[OUT][2], rtol=0, atol=0)  # cube: channel 2 before and after
    torch.testing.assert_close(start.weights[OUT][3], half[OUT][1], rtol=0, atol=0)  # ball: channel 1 before, 3 now
    assert not any(torch.equal(start.weights[OUT][1], half[OUT][n]) for n in range(3))
    name = "input_block.conv1.conv.weight"
    assert name in start.taken
    assert torch.equal(start.weights[name], half[name])
    assert all("super" in name for name in start.fresh)  # the lower outputs are not part of a model folder


def test_a_finetuned_network_starts_where_the_model_ended(trained, tmp_path):
    folder, weights = trained
    source = read_source(folder)
    plan = finetuning_plan(source, toy_plan(2, optimiser={"name": "sgd", "learning_rate": 1e-12, "weight_decay": 0.0}))
    start = starting_weights(source, plan)
    settings = LoopSettings(frozen=start.encoder, frozen_steps=1)
    result = train_fold([toy_case(0)], [], plan, tmp_path, device="cpu", settings=settings, start_weights=start.weights)
    half = weights["bottleneck.conv1.conv.weight"].half().float()
    torch.testing.assert_close(result.weights["bottleneck.conv1.conv.weight"], half, rtol=0, atol=0)
    torch.testing.assert_close(result.weights[OUT], weights[OUT].half().float(), rtol=0, atol=1e-8)
    assert any(name.startswith("downsamples") for name in start.encoder)
    assert not any(name.startswith(("upsamples", "output_block")) for name in start.encoder)
    write_start(tmp_path, source, start, 1)
    assert '"kept_labels"' in (tmp_path / "finetune.json").read_text()


def test_another_number_of_channels_and_another_network_are_refused(trained):
    source = read_source(trained[0])
    two = toy_plan(channels=["T1", "T2"])
    with pytest.raises(IncompatibleModelError, match="takes 1 channel"):
        finetuning_plan(source, two)
    other = {**toy_plan().network.arguments, "filters": [6, 10, 14]}
    with pytest.raises(IncompatibleModelError, match="leave `network`"):
        starting_weights(source, toy_plan(network={"name": "DynUNet", "arguments": other}))


def parity_module(name: str):
    """The parity tests' writer of models of other origin."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "parity" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


def scan(spacing_mm, shape=(20, 24, 18)) -> Volume:
    values = np.random.default_rng(3).normal(0, 200, shape).astype(np.float32)
    return Volume(np.asfortranarray(values), Geometry(shape, np.diag([*spacing_mm, 1.0])), modality="CT")


def prepared_by_medseg(volume: Volume, plan):
    entries = {**plan.description_entries(), "weights": {"file": "weights.safetensors", "sha256": "0" * 64, "bytes": 1}}
    return prepare((volume,), ModelDescription(**entries)).image


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1)])
def test_nnunets_network_gets_the_input_it_knows(tmp_path, transpose):
    pytest.importorskip("nnunetv2")
    models = parity_module("nnunet_models")
    recipe = models.ModelRecipe(classes=3, spacing=(2.0, 3.0, 4.0), patch=(12, 20, 16), transpose=transpose, mirror=True)
    source = read_source(models.write_model(tmp_path, recipe))
    assert source.name == "PlainConvUNet"
    plan = finetuning_plan(source, toy_plan(labels={1: "new"}, modality="CT"))
    start = starting_weights(source, plan)
    assert not start.fresh
    assert {name.rsplit(".", 1)[0] for name in start.adapted} == {"decoder.seg_layers.0", "decoder.seg_layers.1"}
    along = [0.0, 0.0, 0.0]  # spacing of the scan's k, j, i that is that of the plans after the transpose
    for axis, value in zip(transpose, (2.0, 3.0, 4.0), strict=True):
        along[axis] = value
    volume = scan(tuple(reversed(along)))
    ours = prepared_by_medseg(volume, plan)
    rule = source.plan_entries["normalisation"][0]
    theirs = (np.clip(volume.array.T, rule["lower"], rule["upper"]) - rule["mean"]) / rule["std"]
    np.testing.assert_allclose(ours[0], theirs.transpose(transpose), atol=1e-5)
    assert plan.patch_size[::-1] == recipe.patch
    assert plan.spacing_mm[::-1] == recipe.spacing


def test_a_bundles_network_gets_the_input_it_knows(tmp_path):
    bundles = parity_module("bundle_models")
    folder = bundles.write_bundle(tmp_path / "spleen", bundles.spleen())
    source = read_source(folder)
    model = open_model(folder)
    plan = finetuning_plan(source, toy_plan(labels={1: source.outputs[0], 2: "new"}, modality="CT"))
    volume = scan((3.5, 3.5, 4.0))
    theirs = model.contents.preprocessing.prepare((volume,)).as_tensor().numpy()
    ours = prepared_by_medseg(volume, plan)
    np.testing.assert_allclose(np.asarray(ours), theirs, atol=2e-5)
    start = starting_weights(source, plan)
    assert not start.fresh
    assert start.kept_labels == source.outputs
    # MONAI's UNet counts labels in both axes of its last convolution: the old channels keep what they say to each other
    name = "model.2.1.conv.unit0.conv.weight"
    assert start.weights[name].shape[:2] == (3, 3)
    torch.testing.assert_close(start.weights[name][:2, :2], source.weights[name], rtol=0, atol=0)


def test_nnunets_network_has_an_output_at_every_stage():
    arguments = {
        "input_channels": 1,
        "num_classes": 3,
        "n_stages": 3,
        "features_per_stage": [4, 8, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * 3,
        "strides": [[1, 1, 1], [2, 2, 2], [1, 2, 2]],
        "n_conv_per_stage": [1, 1, 1],
        "n_conv_per_stage_decoder": [1, 1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    plan = toy_plan(network={"name": "PlainConvUNet", "arguments": arguments})
    network = build_training_network(plan, 0).train()
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, 16, 16, 16)).astype(np.float32))
    outputs = outputs_of(network, image, 1)
    assert [tuple(output.shape) for output in outputs] == [(1, 3, 16, 16, 16), (1, 3, 8, 8, 8)]
    torch.testing.assert_close(outputs[0], network(image))
