"""One pass of a network: its device, its precision, and whether what comes out can be used."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from medseg.core.errors import IncompatibleModelError
from medseg.segmentation.learned.dependencies import import_torch
from medseg.segmentation.learned.engine.head import find_head
from medseg.segmentation.learned.engine.kept_networks import Forms
from medseg.segmentation.learned.engine.placement import bytes_on, placed, weight_bytes
from medseg.segmentation.learned.engine.precision import computing

if TYPE_CHECKING:
    import torch

Network = Callable[["torch.Tensor"], "torch.Tensor"]

_RESIDENT_SHARE = 0.4  # all folds stay on the device where their weights need at most this share of its free memory
_HEAD_BYTES = 16 << 20  # outputs of a last layer that are held at once


class Forward:
    """The networks of a run (folds) on one device.

    A network is run in two steps: `outputs`, which may stop before its last layer, and `rows`, which ends it. Between
    them only means and mirroring are allowed. Networks that an earlier run left on the device are not moved again. With
    `compiled` their compiled forms are taken from `forms`.
    """

    def __init__(
        self, networks: Sequence[Network], device: torch.device, precision: str, *, compiled: bool = False, forms: Forms | None = None
    ) -> None:
        self.device, self.precision = device, precision
        self._plain = list(networks)
        self._swaps = device.type == "cuda" and len(networks) > 1 and weight_bytes(networks) > self._room_bytes() * _RESIDENT_SHARE
        # where they take turns, those that an earlier run left on the device would stand beside the first
        first_place = import_torch().device("cpu") if self._swaps else device
        self._plain = [placed(network, first_place) for network in networks]
        self._heads = [None if compiled else find_head(network) for network in self._plain]
        self._networks = [_compiled(network, forms) for network in self._plain] if compiled else self._plain
        self._current = -1

    def __len__(self) -> int:
        return len(self._networks)

    @property
    def compiled(self) -> bool:
        """Whether all networks ran compiled."""
        return all(isinstance(network, _Compiled) and network.works for network in self._networks)

    def outputs(self, number: int, patches: torch.Tensor) -> torch.Tensor:
        """Return the outputs of a network, or what its last layer is given, (B,C,k,j,i) float32.

        Half precision that overflows is repeated in float32. Raises IncompatibleModelError for values that are not finite
        or have other extents than the input.
        """
        torch = import_torch()
        self._use(number)
        patches = patches.contiguous(memory_format=torch.channels_last_3d) if self.device.type == "cuda" else patches.contiguous()
        for precision in dict.fromkeys((self.precision, "float32")):
            with computing(precision, self.device):
                outputs = self._until_head(number, patches).float()
                if outputs.shape[0] != patches.shape[0] or outputs.shape[2:] != patches.shape[2:]:
                    raise IncompatibleModelError(
                        f"the network turned a patch of {tuple(patches.shape)} into {tuple(outputs.shape)}: it must keep the three extents"
                    )
                if _is_finite(outputs):
                    return outputs
        raise not_finite()

    def channels(self, number: int, outputs: torch.Tensor) -> int:
        """Return how many channels `rows` gives for outputs (C,k,j,i)."""
        head = self._heads[number]
        return head.channels if head is not None else int(outputs.shape[0])

    def rows(self, number: int, outputs: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield the final outputs (C,n,j,i) of a few rows at a time, with the first of these rows."""
        head = self._heads[number]
        if head is None:
            yield 0, outputs
            return
        step = max(1, _HEAD_BYTES // (4 * head.channels * math.prod(outputs.shape[2:])))
        for first in range(0, outputs.shape[1], step):
            part = outputs[None, :, first : first + step]
            for precision in dict.fromkeys((self.precision, "float32")):
                with computing(precision, self.device):
                    found = head.layer(part)[0].float()
                if _is_finite(found):
                    break
            else:
                raise not_finite()
            yield first, found

    def _until_head(self, number: int, patches: torch.Tensor) -> torch.Tensor:
        head, network = self._heads[number], self._networks[number]
        if head is not None:
            features = head.features(network, patches)
            if features is not None:
                return features
            self._heads[number] = None
        outputs: Any = network(patches)
        # With deep supervision the first is the output at full resolution.
        return outputs[0] if isinstance(outputs, (tuple, list)) else outputs

    def _use(self, number: int) -> None:
        """Get a network ready: where not all fit on the device, it takes the place of the one before."""
        if self._swaps and number != self._current:
            if self._current >= 0:
                placed(self._plain[self._current], import_torch().device("cpu"))
            placed(self._plain[number], self.device)
        self._current = number

    def _room_bytes(self) -> int:
        """The free memory of the device, were these networks not on it: the same for the first scan and for the next ones."""
        cuda = import_torch().cuda
        idle = int(cuda.memory_reserved(self.device) - cuda.memory_allocated(self.device))  # what torch keeps for the next run
        return int(cuda.mem_get_info(self.device)[0]) + idle + bytes_on(self._plain, self.device)


class _Compiled:
    """A network through torch.compile; where that does not work on this machine, the network itself."""

    def __init__(self, network: Network) -> None:
        self._plain, self._compiled = network, import_torch().compile(network)
        self.works = True

    def __call__(self, patches: torch.Tensor) -> torch.Tensor:
        from torch._dynamo.exc import TorchDynamoException

        if self.works:
            try:
                found: torch.Tensor = self._compiled(patches)
                return found
            except TorchDynamoException:  # no compiler at hand, or a network it cannot take
                self.works = False
        return self._plain(patches)


def not_finite() -> IncompatibleModelError:
    """Return the error for outputs that are NaN or infinite."""
    return IncompatibleModelError("the network gave values that are not finite: its weights or its normalisation are broken")


def _is_finite(values: torch.Tensor) -> bool:
    # A sum is finite only where all values are; one that overflowed by itself is looked at voxel by voxel.
    torch = import_torch()
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())


def _compiled(network: Network, forms: Forms | None) -> _Compiled:
    return _Compiled(network) if forms is None else forms.get(network, "compiled", lambda: _Compiled(network))
