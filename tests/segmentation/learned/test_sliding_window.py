from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data.utils import compute_importance_map
from monai.inferers.utils import sliding_window_inference
from monai.networks.nets import BasicUNet

from medseg.core.errors import IncompatibleModelError, OutOfMemoryError
from medseg.segmentation.learned.sliding_window import Windows, gaussian_weights, predict, window_starts

CPU = torch.device("cpu")


def image_of(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(1, *shape)).astype(np.float32)


class Recorder(torch.nn.Module):
    """A network that can be told to run out of memory, and remembers what it was given."""

    def __init__(self, largest: float = np.inf, error: BaseException | None = None) -> None:
        super().__init__()
        self.largest = largest
        self.error = error or torch.OutOfMemoryError("CUDA out of memory")
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(tuple(x.shape))
        if x.numel() > self.largest:
            raise self.error
        return torch.cat([x, 2 * x], dim=1)


@pytest.mark.parametrize("patch", [(8, 8, 8), (9, 16, 5)])
def test_weights_are_monais(patch: tuple[int, int, int]) -> None:
    expected = compute_importance_map(patch, mode="gaussian", sigma_scale=0.125).numpy()
    np.testing.assert_allclose(gaussian_weights(patch), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
def test_windows_cover_everything_and_stay_inside(overlap: float) -> None:
    shape, patch = (37, 16, 20), (16, 16, 8)
    covered = np.zeros(shape, int)
    for k, j, i in window_starts(shape, patch, overlap):
        assert k + 16 <= 37
        assert j + 16 <= 16
        assert i + 8 <= 20
        covered[k : k + 16, j : j + 16, i : i + 8] += 1
    assert covered.min() >= 1


@pytest.mark.parametrize("shape", [(40, 33, 47), (16, 16, 16), (100, 16, 17)])
@pytest.mark.parametrize("overlap", [0.25, 0.5])
def test_equals_monais_sliding_window(shape: tuple[int, int, int], overlap: float) -> None:
    torch.manual_seed(0)
    network = BasicUNet(3, 1, 3, (2, 2, 4, 4, 4, 2), norm="batch").eval()
    image = image_of(*shape)
    with torch.inference_mode():
        expected = sliding_window_inference(torch.from_numpy(image)[None], (16, 16, 16), 3, network, overlap=overlap, mode="gaussian")[0]
    got = predict(network, image, Windows((16, 16, 16), overlap, batch_size=3, multiple=16), CPU).logits
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_padding_equals_monais_with_a_background_of_zero() -> None:
    torch.manual_seed(0)
    network = BasicUNet(3, 1, 3, (2, 2, 4, 4, 4, 2), norm="batch").eval()
    image = image_of(9, 16, 11)
    with torch.inference_mode():
        expected = sliding_window_inference(torch.from_numpy(image)[None], (16, 16, 16), 1, network, overlap=0.5, mode="gaussian")[0]
    got = predict(network, image, Windows((16, 16, 16), 0.5, multiple=16), CPU).logits
    assert got.shape == (3, 9, 16, 11)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_a_small_image_is_surrounded_by_the_background_value() -> None:
    seen = []

    class Watch(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.clone())
            return x

    predict(Watch(), np.ones((1, 3, 16, 16), np.float32), Windows((16, 16, 16), multiple=16), CPU, background=-5.0)
    patch = seen[0][0, 0]
    assert (patch[6:9] == 1).all()
    assert (patch[:6] == -5).all()
    assert (patch[9:] == -5).all()


def test_patchwise_equals_whole_where_the_network_looks_at_one_voxel() -> None:
    torch.manual_seed(1)
    network = torch.nn.Conv3d(1, 4, 1)
    image = image_of(30, 25, 41)
    with torch.inference_mode():
        whole = network(torch.from_numpy(image)[None])[0]
    got = predict(network, image, Windows((16, 8, 12), 0.3, batch_size=2), CPU).logits
    torch.testing.assert_close(got, whole, rtol=1e-5, atol=1e-6)


def test_mirroring_is_the_mean_of_all_mirrored_passes() -> None:
    torch.manual_seed(2)
    network = torch.nn.Conv3d(1, 2, 3, padding=1)
    image = image_of(8, 8, 8)
    tensor = torch.from_numpy(image)[None]
    with torch.inference_mode():
        passes = [network(tensor.flip(axes)).flip(axes) for axes in ([], [2], [4], [2, 4])]
    got = predict(network, image, Windows((8, 8, 8), mirror_axes=(0, 2)), CPU).logits
    torch.testing.assert_close(got, sum(passes)[0] / 4)


def test_repeated_runs_are_equal_bit_for_bit_and_progress_ends_at_all() -> None:
    torch.manual_seed(0)
    network = BasicUNet(3, 1, 3, (2, 2, 4, 4, 4, 2), norm="batch").eval()
    steps: list[tuple[str, int, int]] = []
    windows = Windows((16, 16, 16), 0.5, multiple=16)
    first = predict(network, image_of(30, 20, 40), windows, CPU, progress=lambda *step: steps.append(step)).logits
    second = predict(network, image_of(30, 20, 40), windows, CPU).logits
    assert torch.equal(first, second)
    assert steps[-1][1] == steps[-1][2] == len(steps)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError()]
)
def test_out_of_memory_halves_the_batch_then_shrinks_the_patch(error: BaseException) -> None:
    network = Recorder(largest=48**3, error=error)
    image = image_of(70, 70, 70)
    got = predict(network, image, Windows((64, 64, 64), 0.5, batch_size=4, multiple=16), CPU)
    assert got.windows.batch_size == 1
    assert got.windows.patch_size == (48, 48, 48)
    assert [shape[0] for shape in network.seen[:3]] == [4, 2, 1]
    assert len(got.notes) == 3
    assert "64×64×64" in got.notes[0]
    torch.testing.assert_close(got.logits[1], 2 * torch.from_numpy(image[0]))


def test_out_of_memory_at_the_smallest_patch_is_an_error_of_ours() -> None:
    with pytest.raises(OutOfMemoryError, match="smallest there is"):
        predict(Recorder(largest=10), image_of(64, 64, 64), Windows((64, 64, 64), multiple=16), CPU)


def test_out_of_memory_on_another_device_goes_on_with_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """`meta` stands for a device without memory: the first attempts fail there, the last one runs on the CPU."""
    from medseg.segmentation.learned import sliding_window

    once = sliding_window._predict_once
    tried = []

    def fails_elsewhere(network: Any, image: Any, windows: Windows, device: torch.device, *rest: Any) -> Any:
        tried.append((device.type, windows.patch_size))
        if device.type != "cpu":
            raise torch.OutOfMemoryError("none left")
        return once(network, image, windows, device, *rest)

    monkeypatch.setattr(sliding_window, "_predict_once", fails_elsewhere)
    got = predict(Recorder(), image_of(48, 48, 48), Windows((48, 48, 48), multiple=16), torch.device("meta"), fall_back_to_cpu=True)
    assert tried == [("meta", (48, 48, 48)), ("meta", (32, 32, 32)), ("cpu", (48, 48, 48))]
    assert got.device == "cpu"
    assert got.notes[-1].endswith("on cpu")
    with pytest.raises(OutOfMemoryError):
        predict(Recorder(), image_of(48, 48, 48), Windows((48, 48, 48), multiple=16), torch.device("meta"))


def test_other_errors_of_the_network_are_not_taken_for_a_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="some other fault"):
        predict(Recorder(largest=1, error=RuntimeError("some other fault")), image_of(8, 8, 8), Windows((8, 8, 8)), CPU)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_outputs_that_are_not_finite_are_refused(value: float) -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * value

    with pytest.raises(IncompatibleModelError, match="not finite"):
        predict(Broken(), image_of(8, 8, 8), Windows((8, 8, 8)), CPU)


def test_a_network_that_changes_the_extents_is_refused() -> None:
    with pytest.raises(IncompatibleModelError, match="keep the three extents"):
        predict(torch.nn.Conv3d(1, 2, 3), image_of(8, 8, 8), Windows((8, 8, 8)), CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_labels_of_the_cpu() -> None:
    torch.manual_seed(0)
    network = BasicUNet(3, 1, 3, (2, 2, 4, 4, 4, 2), norm="batch").eval()
    image, windows = image_of(40, 40, 40), Windows((32, 32, 32), 0.5, batch_size=2, multiple=16)
    on_cpu = predict(network, image, windows, CPU).logits
    on_cuda = predict(network, image, windows, torch.device("cuda")).logits.cpu()
    torch.testing.assert_close(on_cuda, on_cpu, rtol=0.02, atol=0.02)
    assert (on_cuda.argmax(0) == on_cpu.argmax(0)).float().mean() > 0.99
