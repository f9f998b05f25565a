"""The streamed outputs against MONAI's inferer, nnU-Net's arithmetic done in full with torch, and simple truths."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from monai.inferers.utils import sliding_window_inference
from monai.networks.nets import BasicUNet

from medseg.core.errors import IncompatibleModelError, InputError
from medseg.segmentation.learned.engine import stream
from medseg.segmentation.learned.engine.sinks import ArraySink
from medseg.segmentation.learned.engine.stream import EngineRecord, run
from medseg.segmentation.learned.engine.windows import Windows, window_starts, window_weights
from medseg.segmentation.learned.trained import Request

CPU = Request(device="cpu")


def image_of(*shape: int, seed: int = 0, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(channels, *shape)).astype(np.float32)


def outputs_of(networks: Sequence[Any], image: np.ndarray, windows: Windows, request: Request = CPU) -> tuple[np.ndarray, EngineRecord]:
    sink = ArraySink()
    record = run(networks, image, windows, sink, request)
    return sink.finish(), record


def small_networks(count: int, channels: int = 1) -> list[torch.nn.Module]:
    torch.manual_seed(5)
    return [
        torch.nn.Sequential(torch.nn.Conv3d(channels, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(4, 3, 3, padding=1)).eval()
        for _ in range(count)
    ]


def nnunets_outputs(networks: Sequence[Any], image: np.ndarray, windows: Windows) -> np.ndarray:
    """What nnU-Net computes, over the whole volume at once and in torch's own half precision."""
    tensor, weights = torch.from_numpy(image), torch.from_numpy(window_weights(windows)).half()
    mean: Any = None
    for network in networks:
        total = torch.zeros((3, *image.shape[1:]), dtype=torch.half)
        count = torch.zeros(image.shape[1:], dtype=torch.half)
        for start in itertools.product(*window_starts(image.shape[1:], windows)):
            box = tuple(slice(begin, begin + size) for begin, size in zip(start, windows.patch_size, strict=True))
            patch = tensor[(slice(None), *box)][None]
            with torch.inference_mode():
                outputs = network(patch)
                for axes in windows.mirrors()[1:]:
                    flipped = [axis + 2 for axis in axes]
                    outputs += torch.flip(network(torch.flip(patch, flipped)), flipped)
                outputs = outputs[0] / len(windows.mirrors())
                outputs *= weights
                total[(slice(None), *box)] += outputs
                count[box] += weights
        torch.div(total, count, out=total)
        mean = total if mean is None else mean.add_(total)
    if len(networks) > 1:
        mean /= len(networks)
    return np.asarray(mean.float().numpy())


@pytest.mark.parametrize("shape", [(40, 33, 47), (16, 16, 16), (100, 16, 17), (9, 16, 11), (1, 30, 30)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6])
def test_equals_monais_sliding_window(shape: tuple[int, int, int], overlap: float) -> None:
    torch.manual_seed(0)
    network = BasicUNet(3, 1, 3, (2, 2, 4, 4, 4, 2), norm="batch").eval()
    image = image_of(*shape)
    for gaussian in (True, False):
        mode = "gaussian" if gaussian else "constant"
        with torch.inference_mode():
            expected = sliding_window_inference(torch.from_numpy(image)[None], (16, 16, 16), 3, network, overlap=overlap, mode=mode)[
                0
            ].numpy()
        got, _ = outputs_of([network], image, Windows.monai((16, 16, 16), overlap=overlap, gaussian=gaussian))
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(got.argmax(0), expected.argmax(0))


@pytest.mark.parametrize("mode", ["constant", "replicate", "reflect", "circular"])
def test_padding_modes_are_monais(mode: Any) -> None:
    network = small_networks(1)[0]
    image = image_of(13, 12, 15)
    value = -2.0 if mode == "constant" else 0.0
    with torch.inference_mode():
        expected = sliding_window_inference(torch.from_numpy(image)[None], (20, 16, 16), 1, network, padding_mode=mode, cval=value)[
            0
        ].numpy()
    windows = Windows((20, 16, 16), 0.75, weights="constant", padding=mode, padding_value=(value,))
    np.testing.assert_allclose(outputs_of([network], image, windows)[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("folds", "mirror_axes"), [(1, ()), (1, (0, 2)), (3, ()), (2, (0, 1, 2))])
@pytest.mark.parametrize("patch", [(16, 24, 20), (41, 20, 37)])
def test_half_sums_are_nnunets_bit_for_bit(patch: tuple[int, int, int], folds: int, mirror_axes: tuple[int, ...]) -> None:
    networks, image = small_networks(folds, channels=2), image_of(41, 50, 37, channels=2)
    windows = Windows.nnunet(patch, mirror_axes=mirror_axes)
    got, record = outputs_of(networks, image, windows)
    np.testing.assert_array_equal(got, nnunets_outputs(networks, image, windows))
    # sums are kept along the first axis with several patches: so they are added up in nnU-Net's order
    assert record.slab_axis == next(axis for axis in range(3) if image.shape[axis + 1] > patch[axis])
    assert record.passes == folds * 2 ** len(mirror_axes)


def test_the_slab_lies_along_the_axis_with_the_smallest_one_and_changes_nothing() -> None:
    network = small_networks(1)[0]
    image = image_of(20, 60, 33)
    whole, record = outputs_of([network], image, Windows((20, 16, 16), 0.5))
    assert record.slab_axis == 1
    turned, other = outputs_of(
        [lambda x: network(x.transpose(2, 3)).transpose(2, 3)], np.ascontiguousarray(image.swapaxes(1, 2)), Windows((16, 20, 16), 0.5)
    )
    assert other.slab_axis == 0
    np.testing.assert_allclose(turned.swapaxes(1, 2), whole, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(turned.swapaxes(1, 2).argmax(0), whole.argmax(0))


def test_rows_come_in_small_blocks_with_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    network, image = small_networks(1)[0], image_of(30, 21, 25)
    whole, _ = outputs_of([network], image, Windows((12, 12, 12)))
    monkeypatch.setattr(stream, "_ROWS_BYTES", 1)
    np.testing.assert_array_equal(outputs_of([network], image, Windows((12, 12, 12)))[0], whole)


def test_a_small_image_is_surrounded_by_the_background_of_each_channel() -> None:
    seen: list[torch.Tensor] = []

    def watch(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.clone())
        return x

    outputs_of([watch], np.ones((2, 3, 16, 16), np.float32), Windows((16, 16, 16), padding_value=(-5.0, 7.0)))
    for channel, value in zip(seen[0][0], (-5, 7), strict=True):
        assert (channel[6:9] == 1).all()
        assert (channel[:6] == value).all()
        assert (channel[9:] == value).all()


def test_patchwise_equals_whole_where_the_network_looks_at_one_voxel() -> None:
    torch.manual_seed(1)
    network = torch.nn.Conv3d(1, 4, 1)
    image = image_of(30, 25, 41)
    with torch.inference_mode():
        whole = network(torch.from_numpy(image)[None])[0].numpy()
    got, _ = outputs_of([network], image, Windows((16, 8, 12), 0.7, batch_size=2))
    np.testing.assert_allclose(got, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3, 8, 16])
def test_mirrors_and_patches_share_batches_and_folds_are_averaged(batch: int) -> None:
    networks, image = small_networks(2), image_of(12, 12, 20)
    tensor = torch.from_numpy(image)[None]
    mirrors = ([], [2], [4], [2, 4])
    with torch.inference_mode():
        passes = [network(tensor.flip(axes)).flip(axes) for network in networks for axes in mirrors]
    windows = Windows((12, 12, 20), mirror_axes=(0, 2), batch_size=batch)
    np.testing.assert_allclose(outputs_of(networks, image, windows)[0], (sum(passes)[0] / 8).numpy(), rtol=0, atol=1e-5)
    small = Windows((12, 12, 8), mirror_axes=(0, 2), batch_size=batch)
    one, _ = outputs_of(networks, image, small)
    np.testing.assert_allclose(one, outputs_of(networks, image, Windows((12, 12, 8), mirror_axes=(0, 2)))[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", ["mirror", "folds"])
def test_single_passes_reach_their_own_sinks(mode: str) -> None:
    networks, image = small_networks(2), image_of(14, 12, 20)
    windows = Windows((14, 12, 20), mirror_axes=(1,))
    sinks = [ArraySink() for _ in range(4 if mode == "mirror" else 2)]
    whole = ArraySink()
    run(networks, image, windows, whole, CPU, pass_sinks=sinks)
    tensor = torch.from_numpy(image)[None]
    with torch.inference_mode():
        passes = [network(tensor.flip(axes)).flip(axes)[0].numpy() for network in networks for axes in ([], [3])]
    expected = passes if mode == "mirror" else [(passes[0] + passes[1]) / 2, (passes[2] + passes[3]) / 2]
    for sink, one in zip(sinks, expected, strict=True):
        np.testing.assert_allclose(sink.finish(), one, rtol=0, atol=1e-5)
    np.testing.assert_allclose(whole.finish(), sum(passes) / 4, rtol=0, atol=1e-5)


def test_repeated_runs_are_equal_bit_for_bit_and_progress_ends_at_all() -> None:
    torch.manual_seed(0)
    network = BasicUNet(3, 1, 3, (2, 2, 4, 4, 4, 2), norm="batch").eval()
    steps: list[tuple[str, int, int]] = []
    windows = Windows((16, 16, 16), multiple=16)
    image = image_of(30, 20, 40)
    first, _ = outputs_of([network], image, windows, Request(device="cpu", progress=lambda *step: steps.append(step)))
    second, _ = outputs_of([network], image, windows)
    np.testing.assert_array_equal(first, second)
    assert steps[-1][1] == steps[-1][2] == len(steps)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_outputs_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(IncompatibleModelError, match="not finite"):
        outputs_of([lambda x: x * value], image_of(8, 8, 8), Windows((8, 8, 8)))


def test_one_bad_voxel_is_enough_and_large_finite_values_are_not() -> None:
    def one_nan(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[0, 0, 3, 3, 3] = float("nan")
        return x

    with pytest.raises(IncompatibleModelError, match="not finite"):
        outputs_of([one_nan], image_of(8, 8, 8), Windows((8, 8, 8)))
    outputs_of([lambda x: torch.full_like(x, 3e38)], image_of(8, 8, 8), Windows((8, 8, 8), weights="constant"))


def test_sums_too_large_for_half_are_refused() -> None:
    with pytest.raises(IncompatibleModelError, match="too large for half"):
        outputs_of([lambda x: torch.full_like(x, 7000.0)], image_of(8, 8, 8), Windows.nnunet((8, 8, 8)))


def test_a_network_that_changes_the_extents_is_refused() -> None:
    with pytest.raises(IncompatibleModelError, match="keep the three extents"):
        outputs_of([torch.nn.Conv3d(1, 2, 3)], image_of(8, 8, 8), Windows((8, 8, 8)))


def test_an_image_without_voxels_is_refused() -> None:
    with pytest.raises(InputError, match="no voxels"):
        outputs_of([torch.nn.Identity()], np.zeros((1, 0, 4, 4), np.float32), Windows((8, 8, 8)))


def test_bfloat16_differs_a_little_and_is_said() -> None:
    torch.manual_seed(0)
    network, image = small_networks(1)[0], image_of(16, 16, 16)
    exact, plain = outputs_of([network], image, Windows((16, 16, 16)))
    rough, record = outputs_of([network], image, Windows((16, 16, 16)), Request(device="cpu", precision="bfloat16"))
    assert (plain.precision, record.precision) == ("float32", "bfloat16")
    assert 0 < np.abs(rough - exact).max() < 0.05


def test_deterministic_runs_put_everything_back() -> None:
    network, image = small_networks(1)[0], image_of(16, 16, 16)
    request = Request(device="cpu", deterministic=True, precision="bfloat16")
    first, record = outputs_of([network], image, Windows((8, 8, 8)), request)
    second, _ = outputs_of([network], image, Windows((8, 8, 8)), request)
    np.testing.assert_array_equal(first, second)
    assert record.deterministic
    assert record.precision == "float32"
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("works", [True, False])
def test_a_network_that_cannot_be_compiled_runs_as_it_is(works: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(network: Any) -> Any:
        def call(x: torch.Tensor) -> torch.Tensor:
            if works:
                return torch.as_tensor(network(x))
            raise torch._dynamo.exc.TorchDynamoException("no C++ compiler")

        return call

    import torch._dynamo.exc

    monkeypatch.setattr(torch, "compile", compiled)
    networks, image = small_networks(1), image_of(16, 16, 16)
    got, record = outputs_of(networks, image, Windows((8, 8, 8)), Request(device="cpu", compile=True))
    np.testing.assert_array_equal(got, outputs_of(networks, image, Windows((8, 8, 8)))[0])
    assert record.compiled == works
    assert len(record.notes) == (0 if works else 1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_outputs_of_the_cpu() -> None:
    torch.manual_seed(0)
    network = BasicUNet(3, 1, 3, (2, 2, 4, 4, 4, 2), norm="batch").eval()
    image = image_of(40, 40, 40)
    for windows in (Windows((32, 32, 32), batch_size=2), Windows.nnunet((32, 32, 32), mirror_axes=(0,))):
        on_cpu, _ = outputs_of([network], image, windows)
        on_cuda, _ = outputs_of([network], image, windows, Request(device="cuda"))
        np.testing.assert_allclose(on_cuda, on_cpu, rtol=0.02, atol=0.02)
