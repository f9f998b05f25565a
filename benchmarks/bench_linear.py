"""Nanoseconds per voxel of the main operations on scans of 64³ to 512×512×300 voxels: the cost must grow linearly."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import time_once
from inputs import block_labels, load_ct

from medseg.kernels.components import fill_holes, label_components
from medseg.kernels.distance import distance_mm
from medseg.kernels.filters import gaussian, gradient_magnitude, median
from medseg.kernels.flood import flood
from medseg.kernels.histogram import histogram
from medseg.kernels.resample import resample_linear
from medseg.kernels.statistics import label_statistics
from medseg.kernels.watershed import watershed

SIZES = {"128³": (128, 128, 128), "256³": (256, 256, 256), "300×512×512": (300, 512, 512)}


def operations(ct: np.ndarray) -> dict[str, Callable[[], Any]]:
    mask = (ct > -300).astype(np.uint8)
    parts, _ = label_components(mask, 6)
    seed = np.argwhere(parts == 1)[:1]
    labels = block_labels(ct)
    relief = np.round(gradient_magnitude(gaussian(ct, (1, 1, 1)), (1, 1, 1))).astype(np.uint16)
    markers = np.zeros(ct.shape, np.uint8)
    rng = np.random.default_rng(1)
    for number in range(1, 61):
        markers[tuple(int(rng.integers(length)) for length in ct.shape)] = number
    half = [length // 2 for length in ct.shape]
    return {
        "region growing, body, 6 neighbours": lambda: flood(ct, seed, -300, 3000, 6),
        "components, 26 neighbours": lambda: label_components(mask, 26),
        "fill holes": lambda: fill_holes(mask, 6),
        "marker watershed": lambda: watershed(relief, markers),
        "histogram": lambda: histogram(ct),
        "statistics of 100 labels": lambda: label_statistics(labels, ct),
        "distances": lambda: distance_mm(mask, (1.25, 0.8, 0.8)),
        "Gaussian": lambda: gaussian(ct, (1.5, 1.5, 1.5)),
        "median 3³": lambda: median(ct),
        "resampling to half": lambda: resample_linear(ct, np.eye(3) * 2, np.zeros(3), half),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    for size, shape in SIZES.items():
        ct = load_ct(options.data, shape)
        for name, run in operations(ct).items():
            run()
            seconds = statistics.median(time_once(run) for _ in range(options.rounds))
            found.setdefault(name, {})[size] = seconds * 1e9 / ct.size
    rows = [{"operation": name, "ns_per_voxel": values} for name, values in found.items()]
    print("| operation | " + " | ".join(SIZES) + " |\n|---|" + "---|" * len(SIZES))
    for row in rows:
        print(f"| {row['operation']} | " + " | ".join(f"{value:.3g}" for value in row["ns_per_voxel"].values()) + " |")
    if options.out:
        machine = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
        options.out.write_text(json.dumps({"machine": machine, "rounds": options.rounds, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
