"""Measures a model on torso phantoms it has never seen: other seeds, noise, blur and spacing; Dice and volume error.

    python benchmarks/evaluate_phantom_model.py [--model ct-phantom] [--count 12] [--first-seed 0]

Volumes are compared with the formulas of the anatomy, Dice with the label that fills most of each voxel. Case n is drawn
from its seed alone: 1.2 to 3 mm in the slice, 1 to 5 mm between slices, noise of 0 to 40 HU, blur of 0 to 2 mm, in one of
six orientations. The first row is the preset "sample".
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np

from medseg.core.geometry import Geometry
from medseg.method.settings import RunSettings
from medseg.phantom import Phantom, make_torso
from medseg.phantom.catalog import TORSO_FIELD_MM, TORSO_MIDDLE_MM, TORSO_ORGANS, centred_geometry
from medseg.preprocessing.orientation import turn_between
from medseg.segmentation.learned.model import ModelParams, model

NOISE_HU = (0.0, 40.0, 20.0, 10.0, 30.0)
ORIENTATIONS = ("LPS", "RAS", "LAS", "PSR", "ASL", "LIP")


def draw_case(seed: int) -> Phantom:
    """Return the phantom of a seed, on a grid and with a noise and blur drawn from that seed."""
    random = np.random.default_rng((seed, 77))
    spacing = (*[float(random.uniform(1.2, 3.0))] * 2, float(random.uniform(1.0, 5.0)))
    noise, blur = NOISE_HU[seed % len(NOISE_HU)], float(random.uniform(0, 2))
    plain = centred_geometry(spacing, TORSO_FIELD_MM, (*TORSO_MIDDLE_MM, 30.0))
    turn = turn_between(plain.orientation, str(random.choice(ORIENTATIONS)))
    return make_torso(seed, geometry=_around_organs(seed, turn.geometry(plain)), noise_hu=noise, blur_mm=blur)


def _around_organs(seed: int, geometry: Geometry) -> Geometry:
    from medseg.phantom.torso import torso_anatomy

    low, high = torso_anatomy(seed).box_mm(TORSO_ORGANS)
    affine = geometry.affine.copy()
    middle = geometry.index_to_world((np.array(geometry.shape) - 1) / 2)
    affine[:3, 3] += np.array([0, 0, (low[2] + high[2]) / 2 - middle[2]])
    return Geometry(geometry.shape, affine)


def measure(phantom: Phantom, model_name: str, device: str) -> dict[str, Any]:
    """Return Dice and volume error of each segment, and the seconds the model took."""
    started = time.perf_counter()
    found = model(phantom.volume, ModelParams(model=model_name), settings=RunSettings(device=device))
    seconds = time.perf_counter() - started
    rows = {}
    for entry in phantom.truth["segments"]:
        truth, got = phantom.label_map.array == entry["number"], found.array == entry["number"]
        count = np.count_nonzero(got)
        volume_ml = count * phantom.volume.geometry.voxel_volume_mm3 / 1000
        true_ml = entry["volume_ml"] or np.count_nonzero(truth) * phantom.volume.geometry.voxel_volume_mm3 / 1000
        rows[entry["label"]] = {
            "dice": 2 * np.count_nonzero(truth & got) / (count + np.count_nonzero(truth)),
            "error": volume_ml / true_ml - 1,
        }
    return {"segments": rows, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ct-phantom")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.count)
    cases = [("sample 7", make_torso(7, preset="sample")), *((f"seed {seed}", draw_case(seed)) for seed in seeds)]
    results = {}
    for name, phantom in cases:
        results[name] = measure(phantom, options.model, options.device)
        grid, noise = phantom.volume.geometry, phantom.parameters["noise_hu"]
        spacing = "×".join(f"{step:.1f}" for step in grid.spacing_mm)
        row = "  ".join(f"{v['dice']:.3f} {100 * v['error']:+5.1f}%" for v in results[name]["segments"].values())
        print(f"{name:9} {spacing} mm {grid.orientation} {noise:4.0f} HU {results[name]['seconds']:5.1f} s | {row}", flush=True)
    labels = list(next(iter(results.values()))["segments"])
    print("segment        Dice mean  least   volume error mean  mean |.|  largest")
    for label in labels:
        dice = [result["segments"][label]["dice"] for result in results.values()]
        error = 100 * np.array([result["segments"][label]["error"] for result in results.values()])
        print(
            f"{label:14} {np.mean(dice):.4f}    {np.min(dice):.4f}  {error.mean():+.2f} %"
            f"            {np.abs(error).mean():.2f} %    {error[np.abs(error).argmax()]:+.2f} %"
        )
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
