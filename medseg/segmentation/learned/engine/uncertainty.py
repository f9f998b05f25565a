"""How far the passes of a model differ: volumes of each pass, and the entropy of the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from medseg.core.errors import IncompatibleModelError
from medseg.segmentation.learned.dependencies import import_torch
from medseg.segmentation.learned.engine.sinks import Sink

if TYPE_CHECKING:
    import torch

    from medseg.segmentation.learned.engine.windows import Shape

DROPOUT_PASSES = 8
_SEED = 20_261_121  # of the masks of dropout: the same request gives the same passes
_AXES = "kji"


class CountingSink(Sink, Protocol):
    """A label sink that counts how often each label came (`keep=False`)."""

    counts: npt.NDArray[np.int64]


class PassMeter:
    """Sinks for the passes of one run, one per name: each counts its labels; together they give the entropy, in nats.

    With `regions` (channels that are not exclusive) the entropy is that of the least certain channel.
    """

    def __init__(self, names: Sequence[str], make_sink: Callable[[], CountingSink], *, regions: bool = False) -> None:
        self.names = tuple(names)
        self._entropy = _Entropy(len(self.names), regions)
        self.sinks = tuple(_PassSink(make_sink(), self._entropy) for _ in self.names)

    def volumes_ml(self, numbers: Sequence[int], voxel_volume_mm3: float) -> dict[int, tuple[float, ...]]:
        """Return the volume of each label in each pass, after the run."""
        counts = []
        for sink in self.sinks:
            sink.labels.finish()
            counts.append(sink.labels.counts)
        return {
            number: tuple(float(count[number] if number < len(count) else 0) * voxel_volume_mm3 / 1000 for count in counts)
            for number in numbers
        }

    def entropy(self) -> npt.NDArray[np.float32]:
        """Return the entropy (K,J,I) on the grid of the network, in nats."""
        return self._entropy.values.astype(np.float32)


class _Entropy:
    """Adds up probabilities of the passes over the same rows; stores the entropy of their mean in half precision."""

    def __init__(self, passes: int, regions: bool) -> None:
        self._passes, self._regions = passes, regions
        self.values = np.zeros((0, 0, 0), np.float16)
        self._axis, self._done, self._added = 0, 0, 0
        self._sum: Any = None

    def begin(self, shape: Shape, axis: int) -> None:
        self.values = np.zeros(shape, np.float16)
        self._axis, self._done, self._added, self._sum = axis, 0, 0, None

    def add(self, rows: torch.Tensor) -> None:
        probabilities = rows.float().sigmoid() if self._regions else rows.float().softmax(0)
        self._sum = probabilities if self._sum is None else self._sum.add_(probabilities)
        self._added += 1
        if self._added < self._passes:
            return
        torch = import_torch()
        mean = self._sum.div_(self._passes)
        entropy = torch.special.entr(mean)
        entropy = (entropy + torch.special.entr(1 - mean)).amax(0) if self._regions else entropy.sum(0)
        count = rows.shape[self._axis + 1]
        place = [slice(None)] * 3
        place[self._axis] = slice(self._done, self._done + count)
        self.values[tuple(place)] = entropy.cpu().numpy()
        self._done, self._added, self._sum = self._done + count, 0, None


class _PassSink:
    """Hands the rows of one pass to its label sink and to the entropy of all."""

    def __init__(self, labels: CountingSink, entropy: _Entropy) -> None:
        self.labels, self._entropy = labels, entropy

    def begin(self, channels: int, shape: Shape, axis: int, device: torch.device) -> None:
        self.labels.begin(channels, shape, axis, device)
        self._entropy.begin(shape, axis)

    def push(self, rows: torch.Tensor) -> None:
        self._entropy.add(rows)
        self.labels.push(rows)

    def finish(self) -> Any:
        return self.labels.finish()


class NullSink:
    """Takes rows and forgets them."""

    def begin(self, channels: int, shape: Shape, axis: int, device: torch.device) -> None:
        """Need nothing."""

    def push(self, rows: torch.Tensor) -> None:
        """Keep nothing."""

    def finish(self) -> None:
        """Return nothing."""


def mirror_name(axes: Sequence[int], letters: str = _AXES) -> str:
    """Return the name of a mirrored pass; `letters` name the array axes.

    >>> mirror_name(()), mirror_name((2,)), mirror_name((0, 2))
    ('mirror none', 'mirror i', 'mirror ki')
    """
    return "mirror " + ("".join(letters[axis] for axis in axes) or "none")


def dropout_networks(network: torch.nn.Module, passes: int = DROPOUT_PASSES) -> list[Callable[[Any], Any]]:
    """Return one callable per pass that runs a network with its dropout at work, each with masks of its own seed.

    Raises IncompatibleModelError where the network has no dropout.
    """
    torch = import_torch()
    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.modules.dropout._DropoutNd) and layer.p > 0]
    if not layers:
        raise IncompatibleModelError("this network has no dropout: ask for the uncertainty of its mirrored passes or of its folds")
    return [_DropoutPass(network, layers, _SEED + number) for number in range(passes)]


class _DropoutPass:
    """A network with dropout; the generator of torch is left as it was found."""

    def __init__(self, network: Any, layers: list[Any], seed: int) -> None:
        self._network, self._layers = network, layers
        self._seed, self._calls = seed, 0

    def to(self, **where: Any) -> _DropoutPass:
        self._network.to(**where)
        return self

    def parameters(self) -> Any:
        return self._network.parameters()

    def __call__(self, patches: torch.Tensor) -> Any:
        torch = import_torch()
        self._calls += 1
        devices = [patches.device] if patches.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self._seed * 100_003 + self._calls)
            for layer in self._layers:
                layer.train()
            try:
                return self._network(patches)
            finally:
                for layer in self._layers:
                    layer.eval()
