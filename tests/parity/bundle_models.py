"""Writes MONAI bundles with random weights in the layout of the Model Zoo: small networks, the Zoo's kinds of configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

IMAGE = {"keys": "@image_key"}
DEVICE = "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')"


def _part(target: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": target, **arguments}


def _image(target: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": target, "keys": "@image_key", **arguments}


def _pred(target: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": target, "keys": "pred", **arguments}


def _invert(nearest: bool, **changes: Any) -> dict[str, Any]:
    arguments = {"transform": "@preprocessing", "orig_keys": "@image_key", "nearest_interp": nearest, "to_tensor": True}
    return _pred("Invertd", **{**arguments, **changes})


def _save() -> dict[str, Any]:
    return _pred("SaveImaged", output_dir="@output_dir", output_ext="@output_ext", output_dtype="@output_dtype", separate_folder=True)


def _compose(*transforms: dict[str, Any]) -> dict[str, Any]:
    return {"_target_": "Compose", "transforms": list(transforms)}


def _configuration(network: Any, preprocessing: Any, inferer: Any, postprocessing: Any, **entries: Any) -> dict[str, Any]:
    """The entries every bundle of the Zoo has, those inference does not need among them."""
    return {
        "imports": ["$import glob", "$import numpy", "$import os"],
        "bundle_root": ".",
        "image_key": "image",
        "output_dir": "$@bundle_root + '/eval'",
        "output_ext": ".nii.gz",
        "output_dtype": "$numpy.float32",
        "dataset_dir": "/workspace/data",
        "datalist": "$list(sorted(glob.glob(@dataset_dir + '/imagesTs/*.nii.gz')))",
        "device": DEVICE,
        **entries,
        "network_def": network,
        "network": "$@network_def.to(@device)",
        "preprocessing": preprocessing,
        "dataset": {"_target_": "Dataset", "data": "$[{'image': i} for i in @datalist]", "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
        "inferer": inferer,
        "postprocessing": postprocessing,
        "handlers": [{"_target_": "StatsHandler", "iteration_log": False}],
        "evaluator": {"_target_": "SupervisedEvaluator", "network": "@network", "inferer": "@inferer", "amp": True},
        "checkpointloader": {
            "_target_": "CheckpointLoader",
            "load_path": "$@bundle_root + '/models/model.pt'",
            "load_dict": {"model": "@network"},
        },
        "initialize": ["$monai.utils.set_determinism(seed=123)", "$@checkpointloader(@evaluator)"],
        "run": ["$@evaluator.run()"],
    }


def spleen() -> dict[str, Any]:
    """Softmax, back to the scan by linear interpolation of the probabilities, argmax there."""
    network = _part(
        "UNet", spatial_dims=3, in_channels=1, out_channels=2, channels=[4, 8, 8], strides=[2, 2], num_res_units=2, norm="batch"
    )
    preprocessing = _compose(
        _image("LoadImaged"),
        _image("EnsureChannelFirstd"),
        _image("Orientationd", axcodes="RAS"),
        _image("Spacingd", pixdim=[3.5, 3.5, 4.0], mode="bilinear"),
        _image("ScaleIntensityRanged", a_min=-57, a_max=164, b_min=0, b_max=1, clip=True),
        _image("EnsureTyped"),
    )
    inferer = _part("SlidingWindowInferer", roi_size=[32, 32, 32], sw_batch_size=4, overlap=0.5)
    post = _compose(_pred("Activationsd", softmax=True), _invert(False), _pred("AsDiscreted", argmax=True), _save())
    return _configuration(network, preprocessing, inferer, post)


def whole_body(classes: int = 105) -> dict[str, Any]:
    """105 classes, expressions that choose spacing and file, argmax first and nearest neighbour back."""
    network = _part(
        "SegResNet",
        spatial_dims=3,
        in_channels=1,
        out_channels=classes,
        init_filters=8,
        blocks_down=[1, 1, 1],
        blocks_up=[1, 1],
        dropout_prob=0.2,
    )
    preprocessing = _compose(
        _image("LoadImaged"),
        _image("EnsureTyped"),
        _image("EnsureChannelFirstd"),
        _image("Orientationd", axcodes="RAS"),
        _image("Spacingd", pixdim="@pixdim", mode="bilinear"),
        _image("NormalizeIntensityd", nonzero=True),
        _image("ScaleIntensityd", minv=-1.0, maxv=1.0),
    )
    inferer = _part(
        "SlidingWindowInferer",
        roi_size=[32, 32, 32],
        sw_batch_size="@displayable_configs#sw_batch_size",
        overlap="@displayable_configs#sw_overlap",
        padding_mode="replicate",
        mode="gaussian",
        device=DEVICE,
    )
    post = _compose(_pred("Activationsd", softmax=True), _pred("AsDiscreted", argmax=True), _invert(True), _save())
    return _configuration(
        network,
        preprocessing,
        inferer,
        post,
        displayable_configs={"highres": False, "sw_overlap": 0.25, "sw_batch_size": 1},
        pixdim="$[1.5, 1.5, 1.5] if @displayable_configs#highres else [4.0, 4.0, 4.0]",
    )


def dynunet() -> dict[str, Any]:
    """Written as YAML: a foreground crop with a margin, percentiles, padding, Gaussian weights, clean-up after the way back."""
    network = _part(
        "monai.networks.nets.DynUNet",
        spatial_dims=3,
        in_channels=1,
        out_channels=4,
        kernel_size=[3, 3, 3],
        strides=[1, 2, 2],
        upsample_kernel_size="$@network_def#strides[1:]",
        filters=[4, 8, 8],
        norm_name="INSTANCE",
        res_block=True,
    )
    preprocessing = _compose(
        _image("LoadImaged", ensure_channel_first=True),
        _image("EnsureTyped", data_type="tensor", dtype="$torch.float32", device="@device"),
        _image("Orientationd", axcodes="LPS"),
        _image("ScaleIntensityRangePercentilesd", lower=1, upper=99, b_min=0.0, b_max=1.0, clip=True),
        _image("CropForegroundd", source_key="@image_key", select_fn="$lambda x: x > 0", margin=3, k_divisible=[4, 4, 4]),
        _image("Spacingd", pixdim=[3.0, 3.0, 5.0], mode="bilinear", padding_mode="zeros", align_corners=True, dtype="$np.float32"),
        _image("SpatialPadd", spatial_size=[40, 40, -1]),
        _image("DivisiblePadd", k=4),
    )
    inferer = _part("SlidingWindowInfererAdapt", roi_size=[32, 32, 24], overlap=0.625, mode="gaussian", sigma_scale=0.2, progress=True)
    post = _compose(
        _pred("Activationsd", softmax=True),
        _invert(False),
        _pred("AsDiscreted", argmax=True),
        _pred("KeepLargestConnectedComponentd", applied_labels=[1, 2]),
        _pred("FillHolesd", applied_labels=[1]),
        _save(),
    )
    return _configuration(network, preprocessing, inferer, post)


def swin_unetr() -> dict[str, Any]:
    """An argument MONAI has dropped since (`img_size`), ITK as the reader."""
    network = _part(
        "SwinUNETR", spatial_dims=3, img_size=64, in_channels=1, out_channels=5, feature_size=12, depths=[1, 1, 1, 1], use_checkpoint=False
    )
    preprocessing = _compose(
        _image("LoadImaged"),
        _image("EnsureChannelFirstd"),
        _image("Orientationd", axcodes="RAS"),
        _image("Spacingd", pixdim=[4.0, 4.0, 4.0], mode="bilinear"),
        _image("ScaleIntensityRanged", a_min=-175, a_max=250, b_min=0.0, b_max=1.0, clip=True),
        _image("EnsureTyped"),
    )
    inferer = _part("SlidingWindowInferer", roi_size=[64, 64, 32], sw_batch_size=4, overlap=0.5)
    post = _compose(_pred("Activationsd", softmax=True), _invert(False), _pred("AsDiscreted", argmax=True), _save())
    return _configuration(network, preprocessing, inferer, post)


def short_axis() -> dict[str, Any]:
    """A 2D network along slices, no spatial preprocessing."""
    network = _part("UNet", spatial_dims=2, in_channels=1, out_channels=4, channels=[4, 8, 8], strides=[2, 2], num_res_units=2)
    preprocessing = _compose(
        _image("LoadImaged", image_only=False),
        _image("EnsureChannelFirstd"),
        _image("ScaleIntensityd"),
        _image("EnsureTyped", device="@device"),
    )
    inferer = _part("SliceInferer", roi_size=[64, 64], spatial_dim=2)
    post = _compose(
        _pred("Activationsd", softmax=True), _invert(False, meta_key_postfix="meta_dict"), _pred("AsDiscreted", argmax=True), _save()
    )
    return _configuration(network, preprocessing, inferer, post)


def tumour_regions() -> dict[str, Any]:
    """Two scans, three overlapping outputs: sigmoid, back linearly, threshold."""
    network = _part("SegResNet", blocks_down=[1, 1], blocks_up=[1], init_filters=8, in_channels=2, out_channels=3, dropout_prob=0.2)
    preprocessing = _compose(
        _image("LoadImaged", image_only=False),
        _image("Spacingd", pixdim=[2.0, 2.0, 3.0]),
        _image("NormalizeIntensityd", nonzero=True, channel_wise=True),
    )
    inferer = _part("SlidingWindowInferer", roi_size=[32, 32, 16], sw_batch_size=1, overlap=0.5)
    post = _compose(_pred("Activationsd", sigmoid=True), _invert(False), _pred("AsDiscreted", threshold=0.5), _save())
    return _configuration(network, preprocessing, inferer, post)


def whole_image() -> dict[str, Any]:
    """The whole image at once at a fixed size; the smallest objects removed before the way back."""
    network = _part("BasicUNet", spatial_dims=3, in_channels=1, out_channels=3, features=[4, 4, 8, 8, 8, 4])
    preprocessing = _compose(
        _image("LoadImaged"),
        _image("EnsureChannelFirstd"),
        _image("Orientationd", axcodes="RAS"),
        _image("Resized", spatial_size=[48, 48, 32], mode="trilinear", align_corners=False),
        _image("NormalizeIntensityd", subtrahend=10.5, divisor=100.0),
    )
    post = _compose(
        _pred("AsDiscreted", argmax=True, to_onehot=3),
        _pred("RemoveSmallObjectsd", min_size=40.5, connectivity=1),  # versions of scikit-image disagree about equal sizes
        _pred("AsDiscreted", argmax=True),
        _invert(True),
    )
    return _configuration(network, preprocessing, _part("SimpleInferer"), post)


KINDS: dict[str, Callable[[], dict[str, Any]]] = {
    "spleen": spleen,
    "whole_body": whole_body,
    "dynunet": dynunet,
    "swin_unetr": swin_unetr,
    "short_axis": short_axis,
    "tumour_regions": tumour_regions,
    "whole_image": whole_image,
}


def metadata(entries: dict[str, Any], modality: str = "CT") -> dict[str, Any]:
    network = entries["network_def"]
    outputs = int(network["out_channels"])
    regions = any(part.get("threshold") for part in entries["postprocessing"]["transforms"])
    names = [f"structure {number}" for number in range(outputs)]
    if not regions:
        names[0] = "background"
    image = {
        "modality": modality,
        "num_channels": network["in_channels"],
        "channel_def": {str(n): "image" for n in range(network["in_channels"])},
    }
    return {
        "version": "0.1.0",
        "name": "A bundle of the tests",
        "copyright": "Copyright (c) nobody",
        "intended_use": "tests",
        "network_data_format": {
            "inputs": {"image": {"type": "image", **image}},
            "outputs": {"pred": {"type": "image", "num_channels": outputs, "channel_def": {str(n): name for n, name in enumerate(names)}}},
        },
    }


def random_network(entries: dict[str, Any], seed: int = 3) -> torch.nn.Module:
    """The network of a configuration, made by MONAI, with weights that spread its outputs."""
    from monai.bundle import ConfigParser

    definition = {key: value for key, value in entries["network_def"].items() if key not in ("img_size",)}
    torch.manual_seed(seed)
    network = ConfigParser({**entries, "network_def": definition}).get_parsed_content("network_def")
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(1.5)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.1)
    return network.eval()


def write_bundle(
    folder: Path, kind: str | dict[str, Any], *, seed: int = 3, modality: str = "CT", as_yaml: bool | None = None, weights: bool = True
) -> Path:
    """Write a bundle of one of KINDS, or of given entries; returns its folder."""
    entries = KINDS[kind]() if isinstance(kind, str) else kind
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata(entries, modality)))
    if as_yaml if as_yaml is not None else kind == "dynunet":
        (folder / "configs" / "inference.yaml").write_text(yaml.safe_dump(entries, sort_keys=False))
    else:
        (folder / "configs" / "inference.json").write_text(json.dumps(entries))
    if weights:
        state = random_network(entries, seed).state_dict()
        torch.save({"model": state} if seed % 2 else state, folder / "models" / "model.pt")
    return folder
