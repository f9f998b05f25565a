"""CPU seconds of each case where one process segments case after case with one model that is kept, as a batch worker does.

`python benchmarks/bench_kept_models.py [cases]`: 3D U-Nets of nnU-Net's form with random weights, scans of 64 × 64 × 64 voxels, on
the CPU. The first case opens the model; what the others cost beyond the network's own passes is what is repeated for each case.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import medseg
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.method.settings import RunSettings
from medseg.segmentation.learned.networks.registry import build

SIDE = 64
FEATURES = {"small (8 to 64 features)": [8, 16, 32, 64], "of nnU-Net's size (32 to 320 features)": [32, 64, 128, 256, 320]}


def architecture(features: list[int]) -> dict[str, Any]:
    """Return the arguments of a PlainConvUNet as plans.json has them."""
    count = len(features)
    return {
        "n_stages": count,
        "features_per_stage": features,
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * count,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * (count - 1),
        "n_conv_per_stage": [2] * count,
        "n_conv_per_stage_decoder": [2] * (count - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def write_model(folder: Path, features: list[int]) -> Path:
    """Write a folder of nnU-Net with one fold."""
    place = folder / "Dataset900_Made" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    (place / "fold_0").mkdir(parents=True)
    arguments = architecture(features)
    torch.manual_seed(0)
    network = build("PlainConvUNet", {**arguments, "input_channels": 1, "num_classes": 3}, device="cpu")
    checkpoint = {"network_weights": network.state_dict(), "init_args": {"configuration": "3d_fullres"}, "trainer_name": "nnUNetTrainer"}
    torch.save({**checkpoint, "inference_allowed_mirroring_axes": None}, place / "fold_0" / "checkpoint_final.pth")
    name = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    wanted = ["conv_op", "norm_op", "dropout_op", "nonlin"]
    configuration = {
        "patch_size": [SIDE] * 3,
        "spacing": [1.0] * 3,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "architecture": {"network_class_name": name, "arch_kwargs": arguments, "_kw_requires_import": wanted},
    }
    plans = {
        "dataset_name": "Dataset900_Made",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {
            "0": {"mean": 0.0, "std": 300.0, "percentile_00_5": -1000.0, "percentile_99_5": 1000.0}
        },
        "configurations": {"3d_fullres": configuration},
    }
    labels = {"background": 0, "one": 1, "two": 2}
    (place / "plans.json").write_text(json.dumps(plans))
    (place / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"}))
    return place


def main() -> None:
    """Print a line for each network."""
    cases = int(sys.argv[1]) if len(sys.argv) > 1 else 6
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    arrays = [np.asfortranarray(generator.normal(0, 300, (SIDE,) * 3).astype(np.int16)) for _ in range(3)]
    scans = [Volume(array, Geometry((SIDE,) * 3, np.eye(4)), "CT", "HU") for array in arrays]
    for name, features in FEATURES.items():
        with tempfile.TemporaryDirectory() as place:
            folder = write_model(Path(place), features)
            settings = RunSettings(device="cpu", kept={})
            seconds, digest = [], hashlib.sha256()
            for number in range(cases):
                begin = time.process_time()
                found = medseg.segment(scans[number % len(scans)], "model", model=str(folder), settings=settings)
                seconds.append(time.process_time() - begin)
                digest.update(found.array.tobytes(order="F"))
        print(
            f"{name}: first case {seconds[0]:.3f} s, then {statistics.median(seconds[1:]):.3f} s of CPU a case "
            f"({min(seconds[1:]):.3f} to {max(seconds[1:]):.3f}); labels {digest.hexdigest()[:12]}"
        )


if __name__ == "__main__":
    main()
