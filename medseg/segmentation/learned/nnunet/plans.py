"""What nnU-Net's `plans.json` says, as checked values; orders are those of the transposed array axes (0, 1, 2)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from medseg.core.errors import IncompatibleModelError, ModelNotFoundError

READERS = ("SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient")
NETWORKS = ("PlainConvUNet", "ResidualEncoderUNet")
MOST_CHANNELS = 64
MOST_PATCH_VOXELS = 1 << 27  # 512³: a patch beyond this is no patch but an attack on the memory
_MOST_BYTES = 64 << 20  # plans are some 20 kB, a dataset.json with thousands of cases some MB
_PREPROCESSORS = ("DefaultPreprocessor",)
_MOST_ANCESTORS = 16

Normalisation = Literal["CTNormalization", "ZScoreNormalization", "NoNormalization", "RescaleTo01Normalization", "RGBTo01Normalization"]
Size = Annotated[int, Field(ge=1, le=2048)]
Positive = Annotated[float, Field(gt=0, le=1e4, allow_inf_nan=False)]
Scalar = Annotated[float, Field(allow_inf_nan=False)]


class Entry(BaseModel):
    """A part of a JSON file of nnU-Net: frozen, unknown keys left out."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Intensities(Entry):
    """Intensities of the training set's foreground in one channel."""

    mean: Scalar
    std: Scalar
    percentile_00_5: Scalar
    percentile_99_5: Scalar


class Resampling(Entry):
    """How arrays change their shape: `kind` "spline" (skimage's resize), "torch" (trilinear) or "none".

    `order` within the plane and `order_z` along a coarse axis that is treated apart, `separate` whether it is (None:
    where the spacing is more than `threshold` times as coarse).
    """

    kind: Literal["spline", "torch", "none"] = "spline"
    order: Annotated[int, Field(ge=0, le=5)] = 3
    order_z: Annotated[int, Field(ge=0, le=5)] = 0
    separate: bool | None = None
    threshold: Positive = 3.0


class Architecture(Entry):
    """A network by the name of its class, and its arguments as data."""

    name: str
    arguments: dict[str, Any]


class Configuration(Entry):
    """One way to train on a data set: "3d_fullres", "3d_lowres" or "3d_cascade_fullres"."""

    name: str
    spacing_mm: tuple[Positive, Positive, Positive]
    patch_size: tuple[Size, Size, Size]
    normalisations: tuple[Normalisation, ...] = Field(min_length=1, max_length=MOST_CHANNELS)
    use_mask: tuple[bool, ...]
    image_resampling: Resampling
    logit_resampling: Resampling
    label_resampling: Resampling
    architecture: Architecture
    previous_stage: str | None = None


class Plans(Entry):
    """The plans of a model; `configurations` are its raw entries, of which `configuration` reads one."""

    dataset_name: str = ""
    plans_name: str = ""
    reader: str = Field(alias="image_reader_writer")
    transpose_forward: tuple[int, int, int] = (0, 1, 2)
    transpose_backward: tuple[int, int, int] = (0, 1, 2)
    intensities: dict[str, Intensities]
    configurations: dict[str, dict[str, Any]]

    def configuration(self, name: str) -> Configuration:
        """Return a configuration with what it inherits; raises IncompatibleModelError where it is impossible."""
        return _configuration(name, _resolved(self.configurations, name))


def read_json(path: Path) -> Any:
    """Return the value of a JSON file; raises ModelNotFoundError, IncompatibleModelError."""
    try:
        with path.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except OSError as err:
        raise ModelNotFoundError(f"{path} cannot be read ({err.strerror}): copy the whole model folder again") from err
    if len(content) > _MOST_BYTES:
        raise IncompatibleModelError(f"{path} is larger than {_MOST_BYTES >> 20} MB: that is no description of a model")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as err:
        raise IncompatibleModelError(f"{path} is not valid JSON: copy the model folder again") from err


def parse_plans(entries: Any, where: str = "plans.json") -> Plans:
    """Return the checked plans of a JSON value; raises IncompatibleModelError."""
    if not isinstance(entries, dict):
        raise IncompatibleModelError(f"{where} is no JSON object: it is not a plans.json of nnU-Net v2")
    if "configurations" not in entries:
        raise IncompatibleModelError(f"{where} has no `configurations`: it is not a plans.json of nnU-Net v2 (models of v1 cannot be used)")
    intensities = entries.get("foreground_intensity_properties_per_channel", entries.get("foreground_intensity_properties_by_modality", {}))
    plans: Plans = checked(Plans, {**entries, "intensities": intensities}, where)
    if plans.reader not in READERS:
        raise IncompatibleModelError(f"{where} names reader {plans.reader!r}; medseg can act as {', '.join(READERS)}")
    forward, backward = plans.transpose_forward, plans.transpose_backward
    if sorted(forward) != [0, 1, 2] or [forward[axis] for axis in backward] != [0, 1, 2]:
        raise IncompatibleModelError(f"{where}: transpose_forward {forward} and transpose_backward {backward} do not undo each other")
    if entries.get("label_manager", "LabelManager") != "LabelManager":
        raise IncompatibleModelError(f"{where} names label manager {entries['label_manager']!r}; medseg knows LabelManager only")
    return plans


def checked(kind: type[Any], values: dict[str, Any], where: str) -> Any:
    """Return values as one of the entries above; raises IncompatibleModelError with the first five faults."""
    try:
        return kind(**values)
    except pydantic.ValidationError as err:
        faults = [f"{'.'.join(str(part) for part in fault['loc']) or 'entry'}: {fault['msg']}" for fault in err.errors()[:5]]
        raise IncompatibleModelError(f"{where} is no description of nnU-Net v2 that medseg can use: {'; '.join(faults)}") from err


def _resolved(configurations: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """A raw configuration on top of those it inherits from."""
    chain: list[dict[str, Any]] = []
    visited: list[str] = []
    current: Any = name
    while current is not None:
        if current not in configurations:
            raise IncompatibleModelError(f"plans.json has no configuration {current!r}; it has {', '.join(map(str, configurations))}")
        if current in visited or len(visited) >= _MOST_ANCESTORS:
            raise IncompatibleModelError(f"plans.json: configuration {name!r} inherits from itself ({' → '.join([*visited, current])})")
        visited.append(current)
        chain.append(configurations[current])
        current = configurations[current].get("inherits_from")
    merged: dict[str, Any] = {}
    for entries in reversed(chain):
        merged.update(entries)
    return merged


def _configuration(name: str, entries: dict[str, Any]) -> Configuration:
    where = f"plans.json, configuration {name!r}"
    patch = entries.get("patch_size")
    if isinstance(patch, list) and len(patch) == 2:
        raise IncompatibleModelError(f"{where} works slice by slice (2D); medseg runs 3D models: choose 3d_fullres or 3d_lowres")
    preprocessor = entries.get("preprocessor_name", "DefaultPreprocessor")
    if preprocessor not in _PREPROCESSORS:
        raise IncompatibleModelError(f"{where} names preprocessor {preprocessor!r}; medseg knows {', '.join(_PREPROCESSORS)}")
    configuration: Configuration = checked(
        Configuration,
        {
            "name": name,
            "spacing_mm": entries.get("spacing"),
            "patch_size": patch,
            "normalisations": entries.get("normalization_schemes"),
            "use_mask": entries.get("use_mask_for_norm"),
            "image_resampling": _resampling(entries, "data", where),
            "logit_resampling": _resampling(entries, "probabilities", where),
            "label_resampling": _resampling(entries, "seg", where),
            "architecture": _architecture(entries, where),
            "previous_stage": entries.get("previous_stage") or None,
        },
        where,
    )
    if len(configuration.use_mask) != len(configuration.normalisations):
        raise IncompatibleModelError(f"{where}: normalization_schemes and use_mask_for_norm differ in length")
    if math.prod(configuration.patch_size) > MOST_PATCH_VOXELS:
        raise IncompatibleModelError(f"{where}: a patch of {configuration.patch_size} voxels fits into no memory")
    return configuration


def _resampling(entries: dict[str, Any], what: str, where: str) -> dict[str, Any]:
    """What one of nnU-Net's resampling functions does with its arguments, and with its own defaults where they are missing.

    Where no function is named, what nnU-Net's planner always writes.
    """
    if f"resampling_fn_{what}" not in entries:
        return {"order": 3 if what == "data" else 1}
    function = entries[f"resampling_fn_{what}"]
    arguments = entries.get(f"resampling_fn_{what}_kwargs") or {}
    if not isinstance(arguments, dict):
        raise IncompatibleModelError(f"{where}: resampling_fn_{what}_kwargs is no JSON object")
    threshold = arguments.get("separate_z_anisotropy_threshold", 3.0)
    if function == "no_resampling_hack":
        return {"kind": "none"}
    if function == "resample_torch_fornnunet":
        if arguments.get("mode", "linear") != "linear" or arguments.get("aniso_axis_mode", "nearest-exact") != "nearest-exact":
            raise IncompatibleModelError(f"{where}: resample_torch_fornnunet is known with its default modes only")
        return {"kind": "torch", "order": 1, "separate": arguments.get("force_separate_z"), "threshold": threshold}
    if function != "resample_data_or_seg_to_shape":
        raise IncompatibleModelError(
            f"{where} names resampling function {function!r}; medseg knows resample_data_or_seg_to_shape and resample_torch_fornnunet"
        )
    return {
        "kind": "spline",
        "order": arguments.get("order", 3),
        "order_z": arguments.get("order_z", 0),
        "separate": arguments.get("force_separate_z", False),
        "threshold": threshold,
    }


def _architecture(entries: dict[str, Any], where: str) -> dict[str, Any]:
    found = entries.get("architecture")
    if found is None:
        return _old_architecture(entries, where)
    if not isinstance(found, dict) or not isinstance(found.get("arch_kwargs"), dict):
        raise IncompatibleModelError(f"{where}: `architecture` has no arch_kwargs")
    name = str(found.get("network_class_name", "")).rsplit(".", 1)[-1]
    _check_network(name, where)
    return {"name": name, "arguments": found["arch_kwargs"]}


def _old_architecture(entries: dict[str, Any], where: str) -> dict[str, Any]:
    """The network of plans from before `architecture`, as nnU-Net rebuilds it."""
    name = str(entries.get("UNet_class_name", ""))
    _check_network(name, where)
    try:
        convolutions = entries["n_conv_per_stage_encoder"]
        stages = len(convolutions)
        widths = [min(entries["UNet_base_num_features"] * 2**stage, entries["unet_max_num_features"]) for stage in range(min(stages, 64))]
        arguments = {
            "n_stages": stages,
            "features_per_stage": widths,
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": entries["conv_kernel_sizes"],
            "strides": entries["pool_op_kernel_sizes"],
            "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage": convolutions,
            "n_conv_per_stage_decoder": entries["n_conv_per_stage_decoder"],
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        }
    except (KeyError, TypeError) as err:
        raise IncompatibleModelError(f"{where} is in the old form of plans, but lacks or garbles part of the network: {err}") from err
    return {"name": name, "arguments": arguments}


def _check_network(name: str, where: str) -> None:
    if name not in NETWORKS:
        raise IncompatibleModelError(f"{where} names network {name!r}; medseg builds {', '.join(NETWORKS)}")
