"""A whole segmentation, from the file to labels on its grid: medseg beside nnunetv2, and beside MONAI's own pipeline.

    python benchmarks/bench_engine.py --quick
    python benchmarks/bench_engine.py --rounds 3 --out engine.json
    python benchmarks/bench_engine.py --large            # medseg alone: its memory on a large CT

Same weights (random, a small network, so that what lies around it shows), same image, same threads. Each run is a process
of its own, in turn A B A B; imports and a warm-up on a small crop are not timed. Peak memory is that of the whole process.
nnunetv2 runs in one process, the calls of its `predict_from_files_sequential`. Needs nnunetv2 (development only).
Labels of a random network are noise: every voxel lies near a border, which is the worst case for agreement.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SPACING_MM = (1.5, 1.5, 1.5)
LIMITS_HU = (-1000.0, 1000.0)


@dataclass(frozen=True)
class Case:
    """An image of (k, j, i) voxels and a network of 3D U-Net kind for it."""

    name: str
    classes: int
    shape: tuple[int, int, int]
    spacing_kji_mm: tuple[float, float, float]
    patch: int
    features: int = 8
    stages: int = 6


FULL = [
    Case("25 classes, 269x404x488", 25, (269, 404, 488), (1.25, 0.75, 0.75), 128),
    Case("105 classes, 84x303x366", 105, (84, 303, 366), (2.0, 1.0, 1.0), 128),
]
LARGE = [Case("105 classes, 400x512x512", 105, (400, 512, 512), (1.25, 0.8, 0.8), 128)]
QUICK = [
    Case("25 classes, 100x150x180", 25, (100, 150, 180), (1.25, 0.75, 0.75), 64, 4, 5),
    Case("105 classes, 48x128x144", 105, (48, 128, 144), (2.0, 1.0, 1.0), 64, 4, 5),
]


def recipe(case: Case) -> Any:
    sys.path.insert(0, str(ROOT))
    from tests.parity.nnunet_models import ModelRecipe

    return ModelRecipe(
        classes=case.classes,
        spacing=SPACING_MM,
        patch=(case.patch,) * 3,
        features=case.features,
        most_features=10 * case.features,
        stages=case.stages,
    )


def prepare(case: Case, data: Path, folder: Path) -> None:
    """Write the image, a crop of it to warm up on, and the same network as an nnU-Net and as a medseg model."""
    import SimpleITK as sitk  # here, so that it is not counted among the memory of contenders that do not use it
    from inputs import load_ct

    ct = load_ct(data, case.shape)
    crop = tuple(slice(0, min(side, 64)) for side in case.shape)
    for name, voxels in (("image", ct), ("crop", ct[crop])):
        image = sitk.GetImageFromArray(voxels)
        image.SetSpacing(case.spacing_kji_mm[::-1])
        sitk.WriteImage(image, str(folder / f"{name}.nii.gz"))
    recipe(case)  # makes the tests importable
    from tests.parity.nnunet_models import plans_of, write_model

    model = write_model(folder, recipe(case))
    (folder / "nnunet").symlink_to(model)
    architecture = plans_of(recipe(case))["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    _write_medseg_model(case, {**architecture, "input_channels": 1, "num_classes": case.classes}, model, folder / "medseg")


def _write_medseg_model(case: Case, arguments: dict[str, Any], nnunet: Path, folder: Path) -> None:
    import hashlib

    import safetensors.torch
    import torch

    from medseg.segmentation.learned.networks.unet import without_duplicates

    checkpoint = torch.load(nnunet / "fold_0" / "checkpoint_final.pth", weights_only=False)
    weights = safetensors.torch.save({name: value.clone() for name, value in without_duplicates(checkpoint["network_weights"]).items()})
    folder.mkdir()
    (folder / "weights.safetensors").write_bytes(weights)
    description = {
        "schema": "medseg.model/1",
        "name": "random",
        "version": "1",
        "title": "random weights",
        "network": {"name": "PlainConvUNet", "arguments": arguments},
        "channels": ["CT"],
        "modality": "CT",
        "spacing_mm": SPACING_MM,
        "orientation": "RAS",
        "normalisation": {"kind": "clip-and-scale", "lower": LIMITS_HU[0], "upper": LIMITS_HU[1]},
        "background": LIMITS_HU[0],
        "patch_size": [case.patch] * 3,
        "overlap": 0.5,
        "segments": [{"number": number, "label": f"class{number}"} for number in range(1, case.classes)],
        "weights": {"file": "weights.safetensors", "sha256": hashlib.sha256(weights).hexdigest(), "bytes": len(weights)},
        "licence": {"code": "Apache-2.0", "weights": "CC0-1.0", "data": "CC0-1.0"},
        "intended_use": "benchmark",
    }
    (folder / "model.json").write_text(json.dumps(description))


def run_medseg(model: str) -> Callable[[Path, Path], np.ndarray]:
    """Labels (k, j, i) by medseg, of the model folder `model`."""
    import medseg
    from medseg.segmentation.learned.loading import open_model
    from medseg.segmentation.learned.trained import Request

    def run(folder: Path, image: Path) -> np.ndarray:
        outcome = open_model(folder / model).segment((medseg.read(image),), Request(device="cpu"))
        return np.asarray(outcome.labels)

    return run


def run_nnunet() -> Callable[[Path, Path], np.ndarray]:
    """Labels (k, j, i) by nnunetv2, one process for all its steps."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ.setdefault(name, tempfile.gettempdir())  # nnunetv2 asks for them while it is imported
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    def run(folder: Path, image: Path) -> np.ndarray:
        predictor = nnUNetPredictor(use_mirroring=True, device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str((folder / "nnunet").resolve()), None)
        voxels, properties = predictor.plans_manager.image_reader_writer_class().read_images([str(image)])
        return np.asarray(predictor.predict_single_npy_array(voxels, properties))

    return run


def run_monai() -> Callable[[Path, Path], np.ndarray]:
    """Labels (k, j, i) by MONAI's transforms and sliding window, as its bundles put them together."""
    from monai import transforms
    from monai.inferers import sliding_window_inference

    from medseg.segmentation.learned import store
    from medseg.segmentation.learned.network import load_network

    def run(folder: Path, image: Path) -> np.ndarray:
        model = store.read_folder(folder / "medseg")
        network = load_network(model)
        before = transforms.Compose(
            [
                transforms.LoadImaged("image", image_only=True, ensure_channel_first=True),
                transforms.Orientationd("image", axcodes="RAS", labels=None),
                transforms.Spacingd("image", pixdim=SPACING_MM, mode="bilinear"),
                transforms.ScaleIntensityRanged("image", *LIMITS_HU, -1, 1, clip=True),
            ]
        )
        after = transforms.Compose(
            [
                transforms.Invertd("pred", transform=before, orig_keys="image", nearest_interp=False),
                transforms.AsDiscreted("pred", argmax=True),
            ]
        )
        case = before({"image": str(image)})
        patch = model.description.patch_size
        case["pred"] = sliding_window_inference(case["image"][None], patch, 1, network, overlap=0.5, mode="gaussian", cval=-1.0)[0]
        return np.asarray(after(case)["pred"][0]).astype(np.uint8).T

    return run


CONTENDERS: dict[str, Callable[[], Callable[[Path, Path], np.ndarray]]] = {
    "medseg, nnU-Net model": lambda: run_medseg("nnunet"),
    "nnunetv2": run_nnunet,
    "medseg, own model": lambda: run_medseg("medseg"),
    "MONAI": run_monai,
}
PAIRS = (("medseg, nnU-Net model", "nnunetv2"), ("medseg, own model", "MONAI"))


def child(contender: str, folder: Path, threads: int) -> dict[str, float]:
    """Run one contender once in this process; its labels go to a file."""
    import torch

    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")  # the peers' advice to their own users
    with contextlib.redirect_stdout(io.StringIO()), torch.inference_mode():
        run = CONTENDERS[contender]()
        run(folder, folder / "crop.nii.gz")
        Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark back
        start, start_cpu = time.perf_counter(), time.process_time()
        labels = run(folder, folder / "image.nii.gz")
        seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    np.save(folder / f"{contender}.npy", labels)
    return {"seconds": seconds, "cpu_s": cpu, "peak_mb": peak}


def measure(case: Case, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All contenders in turn, `rounds` times, then the medians and what they say beside each other."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(case, options.data, folder)
        names = [contender for pair in PAIRS for contender in pair if not (options.no_monai and pair[1] == "MONAI")]
        names = ["medseg, nnU-Net model"] if options.large else names
        runs: dict[str, list[dict[str, float]]] = {contender: [] for contender in names}
        for _ in range(options.rounds):
            for contender in names:
                command = [sys.executable, __file__, "--child", contender, str(folder), "--threads", str(options.threads)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                runs[contender].append(json.loads(done.stdout.splitlines()[-1]))
                print(f"{case.name}: {contender}: {runs[contender][-1]}", file=sys.stderr, flush=True)
        pairs = [(name, name) for name in names] if options.large else PAIRS
        return [row for pair in pairs if pair[0] in runs for row in _rows(case, pair, runs, folder)]


def _rows(case: Case, pair: tuple[str, ...], runs: dict[str, list[dict[str, float]]], folder: Path) -> list[dict[str, Any]]:
    pair = tuple(dict.fromkeys(pair))  # one contender may stand alone
    medians = {name: {key: statistics.median(run[key] for run in runs[name]) for key in runs[name][0]} for name in pair}
    labels = [np.load(folder / f"{name}.npy") for name in pair]
    # medseg's own models average between voxels when they make a grid coarser, MONAI's pipeline picks: nothing to compare there
    differ = 100 * float((labels[0] != labels[1]).mean()) if pair[-1] == "nnunetv2" else None
    base = medians[pair[0]]
    return [
        {"case": case.name, "contender": name, **medians[name], "differ_percent": differ}
        | {f"{key}_ratio": medians[name][key] / base[key] for key in ("seconds", "cpu_s", "peak_mb")}
        for name in pair
    ]


def as_markdown(rows: list[dict[str, Any]]) -> str:
    lines = ["| case | contender | s | CPU s | peak MB | times ours: s, CPU s, MB | labels differ |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        ratios = ", ".join(f"{row[f'{key}_ratio']:.2f}" for key in ("seconds", "cpu_s", "peak_mb"))
        differ = "" if row["differ_percent"] is None else f"{row['differ_percent']:.2g} %"
        figures = f"{row['seconds']:.1f} | {row['cpu_s']:.1f} | {row['peak_mb']:.0f}"
        lines.append(f"| {row['case']} | {row['contender']} | {figures} | {ratios} | {differ} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--quick", action="store_true", help="small images and networks")
    parser.add_argument("--large", action="store_true", help="medseg alone on 512x512x400 with 105 classes")
    parser.add_argument("--only", help="cases whose name holds this text")
    parser.add_argument("--no-monai", action="store_true", help="nnunetv2 only")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--child", nargs=2, metavar=("CONTENDER", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child[0], Path(options.child[1]), options.threads)))
        return
    rows = []
    for case in LARGE if options.large else QUICK if options.quick else FULL:
        if options.only is None or options.only in case.name:
            rows += measure(case, options)
    print(as_markdown(rows))
    if options.out:
        machine = {"cores": os.cpu_count(), "threads": options.threads, "load": os.getloadavg()[0]}
        options.out.write_text(json.dumps({"machine": machine, "rounds": options.rounds, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
