"""Memory that runs out and devices that fail."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medseg.core.errors import DeviceError, OutOfMemoryError
from medseg.segmentation.learned.engine import stream
from medseg.segmentation.learned.engine.ladder import Rung, climb_down
from medseg.segmentation.learned.engine.sinks import ArraySink
from medseg.segmentation.learned.engine.stream import EngineRecord, run
from medseg.segmentation.learned.engine.windows import Windows
from medseg.segmentation.learned.trained import Request

CPU = Request(device="cpu")


def image_of(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)


class Recorder(torch.nn.Module):
    """A network that runs out of memory on large inputs, and remembers what it was given."""

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


def outputs_of(network: torch.nn.Module, image: np.ndarray, windows: Windows, request: Request = CPU) -> tuple[np.ndarray, EngineRecord]:
    sink = ArraySink()
    record = run([network], image, windows, sink, request)
    return sink.finish(), record


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError()]
)
def test_out_of_memory_halves_the_batch_then_shrinks_the_patch(error: BaseException) -> None:
    network = Recorder(largest=48**3, error=error)
    image = image_of(70, 70, 70)
    got, record = outputs_of(network, image, Windows((64, 64, 64), batch_size=4, multiple=16))
    assert record.batch_size == 1
    assert record.patch_size == (48, 48, 48)
    assert [shape[0] for shape in network.seen[:3]] == [4, 2, 1]
    assert len(record.notes) == 3
    assert "64×64×64" in record.notes[0]
    np.testing.assert_allclose(got[1], 2 * image[0], rtol=1e-5)


def test_the_patch_of_other_origins_stays_because_labels_would_change() -> None:
    network = Recorder(largest=10)
    with pytest.raises(OutOfMemoryError, match="smallest there is"):
        outputs_of(network, image_of(64, 64, 64), Windows.nnunet((64, 64, 64)))
    assert set(network.seen) == {(1, 1, 64, 64, 64)}


def test_memory_in_the_middle_of_a_run_starts_it_anew() -> None:
    class Once(Recorder):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(self.seen) == 5:
                self.seen.append(())
                raise MemoryError
            return super().forward(x)

    image = image_of(40, 20, 20)
    got, record = outputs_of(Once(), image, Windows((16, 16, 16), batch_size=2))
    assert len(record.notes) == 1
    np.testing.assert_allclose(got[1], 2 * image[0], rtol=1e-5)


def test_out_of_memory_on_another_device_goes_on_with_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """`meta` stands for a device without memory: the first attempts fail there, the last one runs on the CPU."""
    monkeypatch.setattr(stream, "resolve_device", lambda _: torch.device("meta"))
    course, tried = stream._Course, []

    def fails_elsewhere(networks: object, image: object, rung: Rung, *rest: object) -> object:
        tried.append((rung.device.type, rung.windows.patch_size, rung.sums_on_cpu))
        if rung.device.type != "cpu":
            raise torch.OutOfMemoryError("none left")
        return course(networks, image, rung, *rest)

    monkeypatch.setattr(stream, "_Course", fails_elsewhere)
    windows = Windows((48, 48, 48), multiple=16)
    _, record = outputs_of(Recorder(), image_of(48, 48, 48), windows, Request(device="auto"))
    assert tried == [
        ("meta", (48, 48, 48), False),
        ("meta", (48, 48, 48), True),
        ("meta", (32, 32, 32), True),
        ("cpu", (48, 48, 48), False),
    ]
    assert record.device == "cpu"
    assert record.notes[-1].endswith("on cpu")
    with pytest.raises(OutOfMemoryError):
        outputs_of(Recorder(), image_of(48, 48, 48), windows, Request(device="cuda"))


def test_a_failed_cuda_device_is_left_for_the_cpu_once() -> None:
    first = Rung(torch.device("cuda", 0), Windows((16, 16, 16), batch_size=4))

    def attempt(rung: Rung) -> str:
        if rung.device.type == "cuda":
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return rung.device.type

    found, rung, notes = climb_down(attempt, first, may_use_cpu=True)
    assert found == rung.device.type == "cpu"
    assert "failed while it computed" in notes[0]
    with pytest.raises(DeviceError, match="use --device cpu"):
        climb_down(attempt, first, may_use_cpu=False)


def test_other_errors_of_the_network_are_not_taken_for_a_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="some other fault"):
        outputs_of(Recorder(largest=1, error=RuntimeError("some other fault")), image_of(8, 8, 8), Windows((8, 8, 8)))


def test_a_memory_limit_turns_the_slab_and_says_so_or_refuses() -> None:
    """32 rows of 64 x 300 are too much, 32 rows of 64 x 64 along the long axis are not."""
    image = image_of(64, 64, 300)
    windows = Windows.nnunet((32, 32, 32))
    got, record = outputs_of(Recorder(), image, windows, Request(device="cpu", memory_mb=1))
    assert record.slab_axis == 2
    assert "smallest slab" in record.notes[-1]
    inner = (slice(16, -16),) * 3  # in the corners nnU-Net's weights are next to nothing in half precision
    np.testing.assert_allclose(got[1][inner], 2 * image[0][inner], rtol=0.01, atol=0.01)
    with pytest.raises(OutOfMemoryError):
        outputs_of(Recorder(), image, windows, Request(device="cpu", memory_mb=0))
