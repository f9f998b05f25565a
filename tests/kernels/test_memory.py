"""The memory of each kernel, in bytes a voxel of the image, is what its description says (results included)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EDGE = 192
SLACK = 0.75  # bytes a voxel: what threads, planes and the allocator take on a scan this small

# result + what the description of the kernel states, in bytes a voxel of its image
STATED = {
    "block_mean": 0.5,  # 4 a block of eight voxels
    "erode_box": 2,
    "grow": 1 + 12 + 8,  # labels, cost and order, queue
    "compact_watershed": 1 + 24 + 4,  # a tenth of the voxels wait, 32 each
    "compete": 1 + 21,
    "label_components": 4,
    "keep_largest": 1,
    "remove_small": 1,
    "fill_holes": 1,
    "perona_malik": 4,
    "distance_mm": 4,
    "dilate": 1 + 4,
    "gradient": 12,
    "magnitude": 4,
    "gradient_maxima": 8,
    "sobel": 12,
    "laplacian": 4,
    "equalise": 4,
    "gaussian": 4,
    "gradient_magnitude": 4,
    "flood": 1,
    "graph_regions": 4 + 8 + 12,
    "histogram": 16 * 65_536 * 8 / EDGE**3,  # tables of counts, whatever the size of the scan
    "threshold": 1,
    "hysteresis": 1 + 1,
    "join_levels": 13 + 4,
    "median": 2,
    "split": 4,
    "overlap_counts": 0,
    "probabilities": 8 + 50,
    "fill_shallow": 4 * 2 + 2,  # half of the voxels of noise wait
    "minima": 4 + 4,
    "resample_linear": 0.25,
    "resample_nearest": 0.25,
    "resample_labels": 0.125,
    "window_mean": 4,
    "beyond_window_mean": 1,
    "gaussian_mean": 4,
    "label_statistics": 0,
    "share_counts": 0,
    "superpixels": 4 + 12 + 9,  # noise makes many pieces
    "watershed": 2 + 1,
}


@pytest.fixture(scope="module")
def measured() -> dict[str, float]:
    if not sys.platform.startswith("linux"):
        pytest.skip("peaks are read from /proc")
    program = Path(__file__).with_name("kernel_memory.py")
    # every array in pages of its own: what was freed before must not hide what is taken
    fresh = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, str(program), str(EDGE)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **fresh})
    found: dict[str, float] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(STATED))
def test_a_kernel_takes_no_more_memory_than_it_says(measured: dict[str, float], name: str) -> None:
    assert measured[name] <= STATED[name] + SLACK


@pytest.mark.slow
def test_every_measured_kernel_has_a_bound(measured: dict[str, float]) -> None:
    assert set(measured) == set(STATED)
