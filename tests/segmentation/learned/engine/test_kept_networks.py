"""Networks that outlive a scan: built once, lent to one run at a time, moved between devices."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from medseg.segmentation.learned.engine import forward, placement  # noqa: E402
from medseg.segmentation.learned.engine.kept_networks import Forms, KeptNetworks  # noqa: E402
from medseg.segmentation.learned.engine.placement import bytes_on, is_on_cuda, placed, weight_bytes  # noqa: E402
from medseg.segmentation.learned.engine.sinks import ArraySink  # noqa: E402
from medseg.segmentation.learned.engine.stream import run  # noqa: E402
from medseg.segmentation.learned.engine.windows import Windows  # noqa: E402
from medseg.segmentation.learned.trained import Request  # noqa: E402

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")


class Weight:
    """A tensor of 1000 bytes that says where it lies."""

    def __init__(self) -> None:
        self.device = CPU

    def numel(self) -> int:
        return 250

    def element_size(self) -> int:
        return 4


class FakeNetwork:
    """A network that can be on CUDA where there is none."""

    def __init__(self, weights: list[Weight] | None = None) -> None:
        self.weights = weights or [Weight()]
        self.moves: list[str] = []

    def to(self, *, device: torch.device, memory_format: Any = None) -> FakeNetwork:
        if any(weight.device != device for weight in self.weights):
            self.moves.append(device.type)
        for weight in self.weights:
            weight.device = device
        return self

    def parameters(self) -> list[Weight]:
        return self.weights


class FakeCuda:
    """The memory of a device on which only the given networks lie, and `held` bytes that torch keeps for the next run."""

    def __init__(self, total: int, networks: list[FakeNetwork], held: int = 0) -> None:
        self.total, self.networks, self.held = total, networks, held

    def memory_reserved(self, device: torch.device) -> int:
        return self.memory_allocated(device) + self.held

    def memory_allocated(self, device: torch.device) -> int:
        return bytes_on(self.networks, device)

    def mem_get_info(self, device: torch.device) -> tuple[int, int]:
        return self.total - self.memory_reserved(device), self.total


def small() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv3d(1, 4, 3, padding=1), torch.nn.Conv3d(4, 3, 1)).eval()


def test_each_is_built_once_and_lent_in_the_order_asked_for() -> None:
    kept, built = KeptNetworks(), []

    def build(number: int) -> Any:
        return lambda: built.append(number) or number

    with kept.lent({0: build(0), 1: build(1)}) as networks:
        assert networks == [0, 1]
    with kept.lent({1: build(1), 2: build(2), 0: build(0)}) as networks:
        assert networks == [1, 2, 0]
    assert built == [0, 1, 2]


def test_what_could_not_be_built_is_tried_again() -> None:
    kept = KeptNetworks()
    with pytest.raises(MemoryError), kept.lent({0: lambda: (_ for _ in ()).throw(MemoryError())}):
        pass
    with kept.lent({0: lambda: "network"}) as networks:
        assert networks == ["network"]


def test_two_threads_never_have_a_network_at_once() -> None:
    """A run hangs hooks into the network: the other thread waits, and builds nothing of its own."""
    kept, built, inside, most = KeptNetworks(), [], [], []
    start = threading.Barrier(4)

    def use() -> None:
        start.wait()
        for _ in range(20):
            with kept.lent({0: lambda: built.append(1) or "network"}):
                inside.append(1)
                most.append(len(inside))
                threading.Event().wait(0.0005)
                inside.pop()

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(built), max(most), len(most)) == (1, 1, 80)


def test_forms_are_made_once_for_each_network_and_kind() -> None:
    forms, made = Forms(), []
    first, second = object(), object()
    for _ in range(2):
        for network in (first, second):
            for kind in ("compiled", ("openvino", "float32")):
                assert forms.get(network, kind, lambda: made.append(1) or len(made)) in range(1, 5)
    assert len(made) == 4


def test_leaving_the_device_moves_only_what_lies_there(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[int] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
    kept, networks = KeptNetworks(), [FakeNetwork(), FakeNetwork()]
    with kept.lent({0: lambda: networks[0], 1: lambda: networks[1]}):
        placed(networks[1], CUDA)
    assert kept.leave_device()
    assert not kept.leave_device()
    assert ([one.moves for one in networks], emptied) == ([[], ["cuda", "cpu"]], [1])


def test_weights_that_networks_share_count_once() -> None:
    shared = [Weight()]
    networks = [FakeNetwork(shared), FakeNetwork(shared), FakeNetwork()]
    assert weight_bytes(networks) == 2000
    assert (bytes_on(networks, CPU), bytes_on(networks, CUDA), is_on_cuda(networks[0])) == (2000, 0, False)


def test_folds_that_fit_stay_on_the_device_for_the_next_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three folds of 1000 bytes on 8000: they fit on the empty device, and so they do where they are already."""
    networks = [FakeNetwork() for _ in range(3)]
    monkeypatch.setattr(torch, "cuda", FakeCuda(8000, networks, held=1500))
    monkeypatch.setattr(forward, "find_head", lambda network: None)
    for _ in range(3):
        one = forward.Forward(networks, CUDA, "float16")
        for number in (0, 1, 2, 0):
            one._use(number)
    assert [network.moves for network in networks] == [["cuda"]] * 3


def test_folds_that_do_not_fit_take_turns_from_the_first_scan_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """On 7000 bytes they do not fit: never is more than one there, not even when the next scan begins."""
    networks = [FakeNetwork() for _ in range(3)]
    monkeypatch.setattr(torch, "cuda", FakeCuda(7000, networks))
    monkeypatch.setattr(forward, "find_head", lambda network: None)
    for _ in range(2):
        one = forward.Forward(networks, CUDA, "float16")
        for number in (0, 1, 2):
            one._use(number)
            assert bytes_on(networks, CUDA) == 1000
            assert is_on_cuda(networks[number])


def test_a_network_that_comes_back_from_cuda_computes_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """There its weights lie in another order of memory."""
    torch.manual_seed(0)
    network, patches = torch.nn.Conv3d(3, 4, 3, padding=1).eval(), torch.randn(1, 3, 12, 12, 12)
    with torch.inference_mode():
        before = network(patches)
        network.to(memory_format=torch.channels_last_3d)
        assert not all(weight.is_contiguous() for weight in network.parameters())
        monkeypatch.setattr(placement, "is_on_cuda", lambda _: True)
        placed(network, CPU)
        assert all(weight.is_contiguous() for weight in network.parameters())
        assert torch.equal(network(patches), before)


def test_a_compiled_network_is_compiled_once_for_all_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler is torch's; here it is counted, and runs the network as it is."""
    compiled: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda network: compiled.append(network) or network)
    kept, image = KeptNetworks(), np.random.default_rng(0).normal(size=(1, 20, 17, 18)).astype(np.float32)
    outputs = []
    for _ in range(3):
        with kept.lent({0: small}) as networks:
            sink = ArraySink()
            record = run(networks, image, Windows((16, 16, 16)), sink, Request(device="cpu", compile=True), forms=kept.forms)
            outputs.append(sink.finish())
            assert record.compiled
    assert len(compiled) == 1
    np.testing.assert_array_equal(outputs[0], outputs[2])


def test_openvino_compiles_once_for_all_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    from medseg.segmentation.learned.networks.openvino_backend import OpenVinoNetwork

    compiled: list[Any] = []
    compile_ = OpenVinoNetwork._compile
    monkeypatch.setattr(OpenVinoNetwork, "_compile", lambda self, shape: compiled.append(shape) or compile_(self, shape))
    kept, image = KeptNetworks(), np.random.default_rng(0).normal(size=(1, 20, 17, 18)).astype(np.float32)
    outputs = []
    for _ in range(3):
        with kept.lent({0: small}) as networks:
            sink = ArraySink()
            run(networks, image, Windows((16, 16, 16)), sink, Request(device="cpu", backend="openvino"), forms=kept.forms)
            outputs.append(sink.finish())
    assert compiled == [(1, 16, 16, 16)]
    np.testing.assert_array_equal(outputs[0], outputs[2])
