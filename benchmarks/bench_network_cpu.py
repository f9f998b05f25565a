"""One patch through a network of real size (nnU-Net's plain U-Net, 31 million parameters) on the CPU, every way there is.

    python benchmarks/bench_network_cpu.py --side 128 --rounds 3

The contenders take turns. CPU seconds are those of this process on all its cores: on a machine that others use too they
say more than wall-clock seconds. "labels differ" is the share of voxels with another label than float32 gives, with random
weights, where labels are noise: the worst case. OpenVINO is tried where it is installed, torch.compile with --compile.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from medseg.core.errors import MissingDependencyError
from medseg.segmentation.learned.networks.openvino_backend import OpenVinoNetwork
from medseg.segmentation.learned.networks.registry import build

REAL_SIZE = {
    "input_channels": 1,
    "num_classes": 25,
    "n_stages": 6,
    "features_per_stage": [32, 64, 128, 256, 320, 320],
    "kernel_sizes": 3,
    "strides": [1, 2, 2, 2, 2, 2],
    "n_conv_per_stage": 2,
    "n_conv_per_stage_decoder": 2,
    "conv_bias": True,
    "norm_op": "torch.nn.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
Forward = Callable[[torch.Tensor], torch.Tensor]


def contenders(network: torch.nn.Module, compiled: bool) -> dict[str, Forward]:
    """Return each way by its name, float32 as it is first."""
    last = copy.deepcopy(network).to(memory_format=torch.channels_last_3d)
    ways: dict[str, Forward] = {
        "float32": network,
        "float32, channels last": lambda patch: last(patch.to(memory_format=torch.channels_last_3d)),
        "bfloat16 (autocast)": _bfloat16(network),
        "bfloat16 (autocast), channels last": _bfloat16(lambda patch: last(patch.to(memory_format=torch.channels_last_3d))),
    }
    if compiled:
        ways["torch.compile, float32"] = torch.compile(copy.deepcopy(network))
        ways["torch.compile, bfloat16"] = _bfloat16(torch.compile(copy.deepcopy(network)))
    try:
        ways["OpenVINO, float32"] = OpenVinoNetwork(network)
        ways["OpenVINO, bfloat16"] = OpenVinoNetwork(network, "bfloat16")
    except MissingDependencyError as err:
        print(f"without OpenVINO: {err}")
    return ways


def _bfloat16(forward: Forward) -> Forward:
    def run(patch: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return forward(patch)

    return run


def measure(ways: dict[str, Forward], patch: torch.Tensor, rounds: int) -> list[dict[str, object]]:
    """Warm up and compare once, then let all ways run in turn."""
    differ: dict[str, float] = {}
    expected = ways["float32"](patch).argmax(1)
    for name, forward in ways.items():
        differ[name] = 100 * float((forward(patch).float().argmax(1) != expected).float().mean())
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, forward in ways.items():
            start, start_cpu = time.perf_counter(), time.process_time()
            forward(patch)
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - start_cpu)
    base = statistics.median(cpu["float32"])
    return [
        {
            "way": name,
            "wall_s": statistics.median(wall[name]),
            "cpu_s": statistics.median(cpu[name]),
            "faster": base / statistics.median(cpu[name]),
            "labels_differ_percent": differ[name],
        }
        for name in ways
    ]


def as_markdown(rows: list[dict[str, object]]) -> str:
    lines = ["| way | wall s | CPU s | times as fast (CPU s) | labels differ |", "|---|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row['way']} | {row['wall_s']:.2f} | {row['cpu_s']:.2f} | {row['faster']:.2f} | {row['labels_differ_percent']:.2g} % |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=128, help="voxels along each side of the patch, a multiple of 32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="try torch.compile too (needs a C++ compiler, and minutes)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    torch.manual_seed(0)
    network = build("PlainConvUNet", REAL_SIZE, device="cpu").requires_grad_(False)
    patch = torch.randn(1, 1, options.side, options.side, options.side)
    with torch.inference_mode():
        rows = measure(contenders(network, options.compile), patch, options.rounds)
    print(as_markdown(rows))
    if options.out:
        machine = {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "load": os.getloadavg()[0]}
        options.out.write_text(json.dumps({"machine": machine, "side": options.side, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
