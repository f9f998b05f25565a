"""Peak memory of a run with 105 channels, measured by the system in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import sys
import numpy as np, torch
from medseg.segmentation.learned.engine.export import AffineLabelSink, LabelSink, linear_taps
from medseg.segmentation.learned.engine.stream import run
from medseg.segmentation.learned.engine.windows import Windows
from medseg.segmentation.learned.trained import Request

def status(name):
    return next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith(name))

def segment(depth):
    low, high = (depth, 80, 80), (depth, 96, 96)
    image = np.random.default_rng(0).normal(size=(1, *low)).astype(np.float32)
    labels = np.zeros(high, np.uint8)
    if kind == "lines":
        sink = LabelSink(tuple(linear_taps(n, m) for n, m in zip(low, high)), round_to_half=True, out=labels)
        windows = Windows.nnunet((32, 32, 32), step=1.0)
    else:
        matrix = np.array([[1, 0.02, 0, -1], [0.01, 0.83, 0, 0], [0, 0, 0.83, 0]])
        sink = AffineLabelSink(matrix, high, out=labels)
        windows = Windows((32, 32, 32), 1.0)
    open("/proc/self/clear_refs", "w").write("5")  # the peak counts from here
    before = status("VmRSS")
    run([network], image, windows, sink, Request(device="cpu"))
    assert (sink.finish() > 0).any()
    return status("VmHWM") - before

kind = sys.argv[1]
torch.set_num_threads(1)
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Conv3d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(4, 105, 1)).eval()
segment(33)  # compiles
print(segment(96), segment(288))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs the peak memory that Linux keeps")
@pytest.mark.parametrize(("kind", "bytes_each"), [("lines", 2), ("any grid", 4)])
def test_peak_is_a_slab_of_sums_not_channels_times_volume(kind: str, bytes_each: int) -> None:
    done = subprocess.run([sys.executable, "-c", CHILD, kind], check=True, capture_output=True, text=True)
    short_mb, long_mb = map(int, done.stdout.split())
    slab_mb = 105 * 32 * 80 * 80 * bytes_each >> 20
    blocks_mb = 3 * 64 + 40  # finished rows, with those of the sink, and what one patch needs
    assert short_mb < slab_mb + blocks_mb
    assert long_mb < slab_mb + blocks_mb
    # The allocator may keep one block of finished rows (64 MB) more or less; 192 more rows of outputs would be 516 MB, in
    # half precision 258 MB, and as labels they are 2 MB.
    assert long_mb - short_mb < 64
