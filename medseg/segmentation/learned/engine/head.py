"""The last layer of a network, taken apart from it where it has more channels than its input.

A 1×1×1 convolution from 32 features to 105 classes makes three times the memory it reads. It looks at one voxel at a
time and is linear: mirrored passes are averaged before it, and it runs over a few rows at a time, whose outputs are added
up at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from medseg.segmentation.learned.dependencies import import_torch

if TYPE_CHECKING:
    import torch


class Head:
    """The last layer of a network; found by its form, and confirmed at each pass by what comes out."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.channels = int(layer.out_channels)

    def features(self, network: Any, patches: torch.Tensor) -> torch.Tensor | None:
        """Return what the layer is given (B,F,k,j,i), or None where what it gives is not what the network gives.

        Only one row of the layer's own outputs is computed on the way, and a pattern of negative and positive numbers put
        in its place: an activation after the layer, in place or not, would change it.
        """
        torch = import_torch()
        taken: list[Any] = []

        def take(_: Any, inputs: Sequence[Any]) -> tuple[Any, ...]:
            taken.append(inputs[0])
            return (inputs[0][:, :, :1],)

        def given(_: Any, __: Any, outputs: Any) -> Any:
            pattern = torch.linspace(-3, 3, outputs.numel(), dtype=outputs.dtype, device=outputs.device).reshape(outputs.shape)
            taken.append(pattern)
            return pattern.clone()

        hooks = [self.layer.register_forward_pre_hook(take), self.layer.register_forward_hook(given)]
        try:
            outputs = network(patches)
        except (RuntimeError, ValueError, IndexError, AssertionError) as err:
            # One row did not suit what comes after the layer: it is not the last one. Memory is another matter.
            from medseg.segmentation.learned.engine.ladder import is_device_failure, is_out_of_memory

            if is_out_of_memory(err) or is_device_failure(err):
                raise
            return None
        finally:
            for hook in hooks:
                hook.remove()
        if isinstance(outputs, (tuple, list)):
            outputs = outputs[0]
        is_last = len(taken) == 2 and torch.equal(outputs.to(taken[1].dtype), taken[1])
        return taken[0] if is_last and taken[0].shape[2:] == patches.shape[2:] else None


def find_head(network: Any) -> Head | None:
    """Return the layer that is likely the last one of a network: its last 1×1×1 convolution, where it adds channels."""
    torch = import_torch()
    if not isinstance(network, torch.nn.Module):
        return None
    # A subclass may do more than a convolution.
    layers = [layer for layer in network.modules() if type(layer) is torch.nn.Conv3d and layer.kernel_size == (1, 1, 1)]
    if not layers:
        return None
    last = layers[-1]
    plain = last.stride == (1, 1, 1) and last.groups == 1 and last.padding in (0, (0, 0, 0), "same", "valid")
    return Head(last) if plain and last.out_channels > last.in_channels else None
