"""Run as a program: the extra peak memory of kernels in bytes a voxel, as JSON. Called by test_memory.py in a process of its own."""

from __future__ import annotations

import gc
import json
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from medseg.kernels.block_mean import block_mean
from medseg.kernels.boxes import erode_box
from medseg.kernels.cheapest_paths import grow
from medseg.kernels.compact_watershed import compact_watershed
from medseg.kernels.competition import compete
from medseg.kernels.components import fill_holes, keep_largest, label_components, remove_small
from medseg.kernels.diffusion import perona_malik
from medseg.kernels.distance import dilate, distance_mm
from medseg.kernels.edges import gradient, gradient_maxima, laplacian, magnitude, sobel
from medseg.kernels.equalise import equalise
from medseg.kernels.filters import gaussian, gradient_magnitude
from medseg.kernels.flood import flood
from medseg.kernels.graph_regions import graph_regions
from medseg.kernels.histogram import histogram, threshold
from medseg.kernels.hysteresis import hysteresis
from medseg.kernels.levels import join_levels
from medseg.kernels.median import median
from medseg.kernels.octree import split
from medseg.kernels.overlap import overlap_counts
from medseg.kernels.random_walk import probabilities
from medseg.kernels.reconstruction import fill_shallow, minima
from medseg.kernels.resample import resample_labels, resample_linear, resample_nearest
from medseg.kernels.running import beyond_window_mean, window_mean
from medseg.kernels.running_gaussian import gaussian_mean
from medseg.kernels.shares import share_counts
from medseg.kernels.statistics import label_statistics
from medseg.kernels.superpixels import superpixels
from medseg.kernels.watershed import watershed


def scene(edge: int) -> dict[str, Any]:
    """A noisy ball in noise, its mask, seeds, labels and a relief."""
    rng = np.random.default_rng(0)
    k, j, i = np.ogrid[:edge, :edge, :edge]
    ball = (k - edge / 2) ** 2 + (j - edge / 2) ** 2 + (i - edge / 2) ** 2 < (0.35 * edge) ** 2
    image = (rng.normal(0, 20, (edge, edge, edge)) + 200 * ball).astype(np.int16)
    markers = np.zeros(image.shape, np.uint8)
    markers[edge // 2, edge // 2, edge // 2], markers[2, 2, 2] = 1, 2
    relief = np.round(gradient_magnitude(gaussian(image, (1, 1, 1)), (1, 1, 1))).astype(np.uint16)
    labels = (np.arange(edge) // 8 % 5 + 1).astype(np.uint8) * np.ones(image.shape, np.uint8)
    return {"image": image, "mask": ball.astype(np.uint8), "markers": markers, "relief": relief, "labels": labels}


def calls(edge: int) -> dict[str, Callable[[], Any]]:
    """Every kernel by name, on a scan of that edge."""
    made = scene(edge)
    image, mask, markers, relief, labels = (made[name] for name in ("image", "mask", "markers", "relief", "labels"))
    eye, seed = np.eye(3), np.array([[edge // 2] * 3])
    single = image.astype(np.float32)
    half, double = [edge // 2] * 3, np.eye(3) * 2
    return {
        "block_mean": lambda: block_mean(image, (0, 0, 0), image.shape, (2, 2, 2)),
        "erode_box": lambda: erode_box(mask, (1, 1, 1)),
        "grow": lambda: grow(single, markers, eye),
        "compact_watershed": lambda: compact_watershed(relief, markers, 0.1, np.eye(3)),
        "compete": lambda: compete(image, markers),
        "label_components": lambda: label_components(mask, 26),
        "keep_largest": lambda: keep_largest(mask),
        "remove_small": lambda: remove_small(mask, 100),
        "fill_holes": lambda: fill_holes(mask),
        "perona_malik": lambda: perona_malik(image, (1, 1, 1), 30.0, 0.3),
        "distance_mm": lambda: distance_mm(mask, (1.25, 0.8, 0.8)),
        "dilate": lambda: dilate(mask, 3, (1, 1, 1)),
        "gradient": lambda: gradient(image, eye),
        "magnitude": lambda: magnitude(image, eye),
        "gradient_maxima": lambda: gradient_maxima(single, eye),
        "sobel": lambda: sobel(image, eye),
        "laplacian": lambda: laplacian(image, eye),
        "equalise": lambda: equalise(image, (2, 2, 2), (-100.0, 300.0), 3.0, 64),
        "gaussian": lambda: gaussian(image, (1.5, 1.5, 1.5)),
        "gradient_magnitude": lambda: gradient_magnitude(image, (1, 1, 1)),
        "flood": lambda: flood(image, seed, 100, 400, 6),
        "graph_regions": lambda: graph_regions(single[None], np.eye(3), 100.0),
        "histogram": lambda: histogram(image),
        "threshold": lambda: threshold(image, 100, 300),
        "hysteresis": lambda: hysteresis(image, (100, 400), (200, 400)),
        "join_levels": lambda: join_levels(np.abs(single - 200), seed),
        "median": lambda: median(image),
        "split": lambda: split(image, (1, 1, 1), 60.0),
        "overlap_counts": lambda: overlap_counts(labels, labels),
        "probabilities": lambda: deque(probabilities(single, markers, eye, 1e-4), maxlen=0),
        "fill_shallow": lambda: fill_shallow(relief, 5.0),
        "minima": lambda: minima(relief),
        "resample_linear": lambda: resample_linear(image, double, np.zeros(3), half),
        "resample_nearest": lambda: resample_nearest(image, double, np.zeros(3), half),
        "resample_labels": lambda: resample_labels(labels, double, np.zeros(3), half),
        "window_mean": lambda: window_mean(image, (3, 3, 3)),
        "beyond_window_mean": lambda: beyond_window_mean(image, (3, 3, 3), 1, 5.0),
        "gaussian_mean": lambda: gaussian_mean(image, (4.0, 4.0, 4.0)),
        "label_statistics": lambda: label_statistics(labels, image),
        "share_counts": lambda: share_counts(image, mask, 100),
        "superpixels": lambda: superpixels(single[None], np.eye(3), 12.0, 10.0, rounds=2),
        "watershed": lambda: watershed(relief, markers),
    }


def status_kb(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1])


def peak_bytes(call: Callable[[], Any]) -> int:
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark back
    before = status_kb("VmRSS")
    result = call()
    peak = status_kb("VmHWM") - before
    del result
    return peak * 1024


def main(edge: int) -> None:
    for call in calls(24).values():  # compiled, and threads started
        call()
    found = {name: peak_bytes(call) / edge**3 for name, call in calls(edge).items()}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]))
