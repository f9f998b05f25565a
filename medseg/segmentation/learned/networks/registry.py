"""Builds a network from its name and its arguments, both taken as data from a stranger."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from medseg.core.errors import IncompatibleModelError
from medseg.segmentation.learned.dependencies import import_networks, import_torch
from medseg.segmentation.learned.networks.table import MOST_PARAMETERS, NETWORKS, Triple, check_arguments, rules_of

if TYPE_CHECKING:
    import torch


def network_names() -> tuple[str, ...]:
    """Return the names `build` knows: networks of MONAI, and nnU-Net's two.

    >>> "SwinUNETR" in network_names() and "PlainConvUNet" in network_names()
    True
    """
    return tuple(NETWORKS)


def build(name: str, arguments: Mapping[str, Any], *, device: str = "meta") -> torch.nn.Module:
    """Return a network in evaluation mode; its forward takes (N, C, K, J, I) and gives one tensor of logits.

    On the meta device (the default) it has shapes but no memory and no weights: fill it with
    `load_state_dict(weights, strict=True, assign=True)`. On any other device it has random weights, for training.
    Its size is measured on the meta device before a byte of it is allocated.

    Raises IncompatibleModelError where the name is unknown, an argument is not allowed or out of bounds, or the
    network would have more than 1e9 parameters.

    >>> network = build("UNet", {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]})
    >>> next(network.parameters()).device.type
    'meta'
    """
    checked = check_arguments(name, arguments)
    network = _construct(name, checked, "meta")
    count = sum(tensor.numel() for tensor in (*network.parameters(), *network.buffers()))
    if count > MOST_PARAMETERS:
        raise IncompatibleModelError(f"{name} with these arguments has {count:.2g} parameters, more than the {MOST_PARAMETERS:.0g} allowed")
    if device != "meta":
        network = _construct(name, checked, device)
    network.register_forward_hook(_one_tensor)
    return network.eval()


def patch_multiple(name: str, arguments: Mapping[str, Any]) -> Triple:
    """Return what the sides of a patch must be multiples of, in the axis order of the network's input.

    Raises IncompatibleModelError where the arguments do not tell.

    >>> patch_multiple("UNet", {"channels": [4, 8, 16], "strides": [2, [1, 2, 2]]})
    (2, 4, 4)
    """
    rules, checked = rules_of(name), check_arguments(name, arguments)
    try:
        return rules.multiple(checked)
    except (KeyError, TypeError, ValueError) as err:
        raise IncompatibleModelError(f"{name} does not take these arguments: sizes and strides do not fit") from err


def fixed_patch(name: str, arguments: Mapping[str, Any]) -> Triple | None:
    """Return the only patch size a network takes (UNETR's `img_size`), or None where it takes every multiple."""
    return patch_multiple(name, arguments) if rules_of(name).fixed_patch else None


def channels_of(name: str, arguments: Mapping[str, Any]) -> tuple[int, int]:
    """Return the input and output channels a network is given; raises IncompatibleModelError where they are missing."""
    rules = rules_of(name)
    found = arguments.get(rules.in_channels), arguments.get(rules.out_channels)
    if not all(isinstance(value, int) and value > 0 for value in found):
        raise IncompatibleModelError(
            f"{name} needs {rules.in_channels} and {rules.out_channels}, got {found[0]!r:.20} and {found[1]!r:.20}"
        )
    return int(found[0] or 0), int(found[1] or 0)


def output_shape(network: torch.nn.Module, channels: int, patch: Triple) -> tuple[int, ...]:
    """Return the shape (1, classes, K, J, I) of what a network on the meta device gives for one patch, without computing it.

    Raises IncompatibleModelError where the network cannot take a patch of this size.
    """
    torch = import_torch()
    try:
        with torch.inference_mode(), _meta_parameters():
            output = network(torch.empty((1, channels, *patch), device="meta"))
    except Exception as err:  # whatever a network does with a size it was not made for
        size = "×".join(str(side) for side in patch)
        raise IncompatibleModelError(f"{type(network).__name__} cannot take patches of {size} voxels with {channels} channel(s)") from err
    return tuple(output.shape)


def _construct(name: str, arguments: Mapping[str, Any], device: str) -> torch.nn.Module:
    torch = import_torch()
    place = _meta_parameters() if device == "meta" else torch.device(device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MONAI's advice to its own callers
            with place:
                return _constructor(name)(arguments)
    except IncompatibleModelError as err:
        raise IncompatibleModelError(f"{name} does not take these arguments: {err}") from err
    except Exception as err:  # constructors of MONAI raise whatever comes first for values they do not expect
        reason = " ".join(str(err).split())[:200]
        raise IncompatibleModelError(f"{name} does not take these arguments: {reason}") from err


def _constructor(name: str) -> Callable[[Mapping[str, Any]], torch.nn.Module]:
    if name == "PlainConvUNet":
        from medseg.segmentation.learned.networks.plain_conv_unet import PlainConvUNet

        return PlainConvUNet
    if name == "ResidualEncoderUNet":
        from medseg.segmentation.learned.networks.residual_encoder_unet import ResidualEncoderUNet

        return ResidualEncoderUNet
    monai_class = getattr(import_networks(), name)
    return lambda arguments: monai_class(**arguments)  # type: ignore[no-any-return]


def _meta_parameters() -> AbstractContextManager[object]:
    from medseg.segmentation.learned.networks.meta import MetaParameters

    return MetaParameters()


def _one_tensor(network: torch.nn.Module, _inputs: object, output: Any) -> Any:
    """Keep the finest output where a network trained with deep supervision gives several; in training all are wanted."""
    return output[0] if isinstance(output, list | tuple) and not network.training else output
