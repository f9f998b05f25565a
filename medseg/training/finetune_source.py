"""What finetuning takes from a trained model of any kind: network, weights, and the grid and intensities it knows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.core.errors import IncompatibleModelError
from medseg.segmentation.learned.network import load_network
from medseg.segmentation.learned.networks.table import rules_of
from medseg.segmentation.learned.trained import ModelIdentity

if TYPE_CHECKING:
    import torch

    from medseg.segmentation.learned.bundle.model import BundleModel
    from medseg.segmentation.learned.medseg_model import MedsegModel
    from medseg.segmentation.learned.nnunet.model import NnunetModel

Triple = tuple[Any, Any, Any]


@dataclass(frozen=True)
class SourceNetwork:
    """A trained network as a place to start from.

    `outputs` are the labels of its channels 1, 2, ...; `plan_entries` are entries of a training plan that keep the grid and
    the intensities as the network knows them (sizes and axes in the order (i,j,k) of medseg), `notes` what could not be kept.
    """

    identity: ModelIdentity
    name: str
    arguments: Mapping[str, Any]
    weights: Mapping[str, torch.Tensor]
    outputs: tuple[str, ...]
    plan_entries: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def read_source(name_or_path: str | os.PathLike[str], folders: Iterable[Path] = ()) -> SourceNetwork:
    """Return the network of a model: medseg's own, an nnU-Net folder, or a MONAI bundle; of several folds the first.

    Raises what `open_model` raises, IncompatibleModelError for a model that is no network of a known name (TorchScript).
    """
    from medseg.segmentation.learned.loading import open_model
    from medseg.segmentation.learned.medseg_model import MedsegModel

    model: Any = open_model(name_or_path, folders)
    if isinstance(model, MedsegModel):
        return _of_medseg(model)
    if hasattr(model, "stages"):
        return _of_nnunet(model)
    if getattr(getattr(model, "contents", None), "network", None) is not None:
        return _of_bundle(model)
    raise IncompatibleModelError(f"{name_or_path} cannot be trained further: it is a program (TorchScript), not a network of a known name")


def without_channels(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments without those that the data decide, and without those of training."""
    rules = rules_of(name)
    dropped = {rules.in_channels, rules.out_channels, "spatial_dims", "deep_supervision", "deep_supr_num"}
    return {key: value for key, value in arguments.items() if key not in dropped}


def _of_medseg(model: MedsegModel) -> SourceNetwork:
    about = model.folder.description
    rules = about.normalisation if isinstance(about.normalisation, tuple) else (about.normalisation,)
    entries = {
        "spacing_mm": about.spacing_mm,
        "orientation": about.orientation,
        "alignment": about.alignment,
        "normalisation": [rule.model_dump() for rule in rules],
        "background": about.background,
        "patch_size": about.patch_size,
        "overlap": about.overlap,
        "mirror_axes": about.mirror_axes,
    }
    weights = dict(load_network(model.folder).state_dict())
    outputs = tuple(segment.label for segment in model.segments)
    return SourceNetwork(model.identity, about.network.name, about.network.arguments, weights, outputs, entries)


def _of_nnunet(model: NnunetModel) -> SourceNetwork:
    from medseg.segmentation.learned.nnunet.network import plain_weights

    stage = model.stages[-1]
    if stage.configuration.previous_stage is not None:
        raise IncompatibleModelError(
            f"model {model.name!r} is a cascade, whose second stage needs the first: start from its 3d_fullres or 3d_lowres"
        )
    configuration, order = stage.configuration, stage.plans.transpose_forward
    codes = [("S", "A", "R")[axis] for axis in order]  # nnU-Net's axes (k,j,i) of a scan in RAS, transposed as it asks
    rules, notes = [], []
    for channel, scheme in enumerate(configuration.normalisations):
        rule = _nnunet_rule(scheme, stage.plans.intensities.get(str(channel)), masked=configuration.use_mask[channel])
        if rule is None:
            notes.append(f"channel {channel}: {scheme} has no counterpart here, the dataset's own normalisation is used")
        else:
            rules.append(rule)
    entries = {
        "spacing_mm": configuration.spacing_mm[::-1],
        "orientation": "".join(reversed(codes)),
        "alignment": "grid",
        "patch_size": configuration.patch_size[::-1],
        "mirror_axes": tuple(sorted(2 - axis for axis in stage.mirror_axes)),
        **({"normalisation": rules} if not notes else {}),
    }
    notes.append("scans are resampled linearly here, by nnU-Net with cubic splines")
    outputs = tuple(segment.label for segment in model.segments)
    weights = plain_weights(stage.folds[0].checkpoint.weights, model.name)
    architecture = configuration.architecture
    return SourceNetwork(model.identity, architecture.name, architecture.arguments, weights, outputs, entries, tuple(notes))


def _nnunet_rule(scheme: str, intensities: Any, *, masked: bool) -> dict[str, Any] | None:
    if scheme == "ZScoreNormalization":
        return {"kind": "z-score", "nonzero": masked}
    if scheme == "CTNormalization" and intensities is not None and intensities.std > 0:
        lower, upper = intensities.percentile_00_5, intensities.percentile_99_5
        return {"kind": "clip-and-z-score", "lower": lower, "upper": upper, "mean": intensities.mean, "std": intensities.std}
    return None


def _of_bundle(model: BundleModel) -> SourceNetwork:
    contents = model.contents
    definition, inference = contents.network, contents.inference
    assert definition is not None
    if inference.slice_axis is not None:
        raise IncompatibleModelError(f"bundle {model.identity.name!r} is a network for slices: training is for 3D networks")
    transforms = list(contents.preprocessing.compose.transforms)
    codes = next((str(t.ornt_transform.axcodes) for t in transforms if type(t).__name__ == "Orientationd"), "RAS")
    # A bundle's network has the axes (i,j,k); here the last axis of the scan comes first.
    entries: dict[str, Any] = {"orientation": codes[::-1], "alignment": "grid", "mirror_axes": ()}
    notes = ["mirroring is left out: the bundle does not say along which axes it may be mirrored"]
    if contents.preprocessing.spacing_mm is not None:
        entries["spacing_mm"] = contents.preprocessing.spacing_mm[::-1]
    if all(size > 0 for size in inference.roi_size):
        entries["patch_size"] = inference.roi_size[::-1]
    rule = _bundle_rule(transforms)
    if rule is None:
        notes.append("the bundle's normalisation has no counterpart here, the dataset's own is used")
    else:
        entries["normalisation"] = [rule]
    network = model.load()
    weights = {name: tensor.detach().float() if tensor.is_floating_point() else tensor for name, tensor in network.state_dict().items()}
    outputs = tuple(segment.label for segment in model.segments)
    return SourceNetwork(model.identity, definition.name, definition.arguments, weights, outputs, entries, tuple(notes))


def _bundle_rule(transforms: Sequence[Any]) -> dict[str, Any] | None:
    """The rule of a plan that equals a bundle's scaling of intensities, None where there is none or there are several."""
    rules: list[dict[str, Any] | None] = []
    for transform in transforms:
        kind = type(transform).__name__
        if kind == "ScaleIntensityRanged":
            rules.append(_range_rule(transform.scaler))
        elif kind == "NormalizeIntensityd":
            scaler = transform.normalizer
            plain = scaler.subtrahend is None and scaler.divisor is None
            rules.append({"kind": "z-score", "nonzero": bool(scaler.nonzero)} if plain else None)
        elif "Intensity" in kind:
            rules.append(None)
    return rules[0] if len(rules) == 1 else None


def _range_rule(scaler: Any) -> dict[str, Any] | None:
    if not scaler.clip or scaler.b_min is None or scaler.b_max is None or scaler.b_max <= scaler.b_min or scaler.a_max <= scaler.a_min:
        return None
    std = (scaler.a_max - scaler.a_min) / (scaler.b_max - scaler.b_min)
    mean = scaler.a_min - scaler.b_min * std
    return {"kind": "clip-and-z-score", "lower": scaler.a_min, "upper": scaler.a_max, "mean": mean, "std": std}
