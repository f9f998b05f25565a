"""Trains the click-to-segment network `click-3d` and writes its model folder.

    python scripts/train_click_model.py -o medseg/models/click-3d --shared ../shared/data --minutes 20
    python scripts/train_click_model.py -o OUT --minutes 1 --torsos 4          # phantoms alone, a trial

Every step draws one patch (scripts/click_patches.py) of one case (scripts/click_cases.py), sets prompts as a user would,
lets the network answer up to twice, each time adding a click in the largest error, and learns from the last answer.
The weights written are the moving average. A run that was stopped goes on from its state file with the same command.
`scripts/evaluate_click_model.py` measures the model on what it never saw.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from click_cases import HELD_OUT, LICENCES, Case, training_cases
from click_patches import Patch, draw_patch, first_prompts, next_prompts
from safetensors.torch import save
from torch.nn import functional

from medseg.segmentation.learned.prompt.channels import CHANNELS, make_channels
from medseg.segmentation.learned.prompt.click_network import ClickNetwork

ARGUMENTS: dict[str, Any] = {"in_channels": len(CHANNELS), "features": [24, 48, 96], "top_features": 8}
SIZE = 64
EMA_DECAY = 0.998
WARMUP_STEPS = 40
# from which part of the run on: voxels along each side of a patch, odds of learning from the first, second, third answer
PLAN = ((0.0, 48, (0.9, 0.1, 0.0)), (0.3, 48, (0.6, 0.3, 0.1)), (0.6, 48, (0.3, 0.4, 0.3)))
FIRST_GUESS = (0.0, 0.0, 2.0, -2.0, 4.0, -4.0, 1.0, 3.0)  # weights of the channels in the sum that goes straight to the output
FIRST_BIAS = -2.0
INTENDED_USE = """Marking one structure in a CT or MR scan from clicks, boxes or a rough mask, for research; \
every mask needs a look by the person who clicked. Not a medical device."""


def main() -> None:
    """Train until the time is over and write the model folder."""
    options = _options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    cases = list(training_cases(options.shared, options.torsos))
    network = first_network().to(memory_format=torch.channels_last_3d)
    average = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(network.parameters(), lr=options.rate, weight_decay=1e-3)
    progress = {"step": 0, "seconds": 0.0, "loss": 1.0}
    state = options.output / "training_state.pt"
    if state.exists():
        _restore(state, network, average, optimiser, progress)
    train(options, cases, (network, average, optimiser), progress)
    weights = {name: tensor.detach().to(torch.float16).contiguous() for name, tensor in average.state_dict().items()}
    write_model(options.output, weights, options, progress, sorted({case.name for case in cases}))


def first_network() -> ClickNetwork:
    """Return a network that begins with what is easily reached from the clicks."""
    network = ClickNetwork(**ARGUMENTS)
    with torch.no_grad():
        network.direct.weight.copy_(torch.tensor(FIRST_GUESS).reshape(1, -1, 1, 1, 1))
        network.direct.bias.fill_(FIRST_BIAS)  # type: ignore[union-attr]
        network.output.weight.mul_(0.1)
        network.output.bias.zero_()  # type: ignore[union-attr]
    return network


def train(options: argparse.Namespace, cases: list[Case], parts: tuple[Any, Any, Any], progress: dict[str, Any]) -> None:
    """Run steps until `minutes` of training are used up, counting those of earlier runs."""
    network, average, optimiser = parts
    begun, before, saved = time.monotonic(), progress["seconds"], time.monotonic()
    state = options.output / "training_state.pt"
    state.parent.mkdir(parents=True, exist_ok=True)

    def share() -> float:
        return float(progress["seconds"] / (60 * options.minutes))

    with ThreadPoolExecutor(1) as drawing:
        coming = drawing.submit(draw_patch, cases, stage(share())[0], np.random.default_rng((options.seed, progress["step"])))
        while progress["seconds"] < 60 * options.minutes:
            step = progress["step"]
            patch = coming.result()
            size, rounds = stage(share())
            coming = drawing.submit(draw_patch, cases, size, np.random.default_rng((options.seed, step + 1)))
            for group in optimiser.param_groups:
                group["lr"] = options.rate * min(1.0, (step + 1) / WARMUP_STEPS) * (1 - share()) ** 0.9
            loss = learn(network, optimiser, patch, rounds, np.random.default_rng((options.seed, step, 1)))
            _average(average, network, min(EMA_DECAY, (step + 1) / (step + 11)))
            progress["step"] = step + 1
            progress["loss"] = 0.98 * progress["loss"] + 0.02 * loss
            progress["seconds"] = before + time.monotonic() - begun
            if step % 25 == 0:
                print(f"step {step}, {progress['seconds'] / 60:.1f} min, loss {progress['loss']:.3f}", flush=True)
            if time.monotonic() - saved > 60:
                _keep(state, network, average, optimiser, progress)
                saved = time.monotonic()
        _keep(state, network, average, optimiser, progress)


def stage(share: float) -> tuple[int, tuple[float, ...]]:
    """Return the size of patches and the odds of the answers at a part of the run."""
    size, odds = [(size, odds) for start, size, odds in PLAN if share >= start][-1]
    return size, odds


def learn(network: torch.nn.Module, optimiser: Any, patch: Patch, odds: tuple[float, ...], random: np.random.Generator) -> float:
    """Take one step: prompts, up to two answers without learning that each get a corrective click, and one with."""
    prompts = first_prompts(patch.target, random)
    for _ in range(int(random.choice(len(odds), p=odds))):
        with torch.no_grad():
            probability = _forward(network, make_channels(patch.image, prompts)).sigmoid()[0, 0].numpy()
        corrected = next_prompts(prompts, probability, patch.target, random)
        if corrected is None:
            break
        if random.random() < 0.3:  # a user may also set several clicks at once, without a mask in between
            corrected = type(corrected)(corrected.inside, corrected.outside, corrected.boxes, None)
        prompts = corrected
    target = torch.from_numpy(patch.target)[None, None].float()
    logits = _forward(network, make_channels(patch.image, prompts))
    found = logits.sigmoid()
    dice = 1 - (2 * (found * target).sum() + 1) / (found.sum() + target.sum() + 1)
    loss = dice + functional.binary_cross_entropy_with_logits(logits, target)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimiser.step()
    return float(loss.detach())


def _forward(network: torch.nn.Module, channels: Any) -> torch.Tensor:
    batch = torch.from_numpy(channels)[None].contiguous(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits: torch.Tensor = network(batch)
    return logits.float()


@torch.no_grad()
def _average(average: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    for kept, now in zip(average.parameters(), network.parameters(), strict=True):
        kept.lerp_(now, 1 - decay)


def _keep(path: Path, network: Any, average: Any, optimiser: Any, progress: dict[str, Any]) -> None:
    state = {"network": network.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict(), "progress": progress}
    torch.save(state, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def _restore(path: Path, network: Any, average: Any, optimiser: Any, progress: dict[str, Any]) -> None:
    state = torch.load(path, weights_only=True)
    network.load_state_dict(state["network"])
    average.load_state_dict(state["average"])
    optimiser.load_state_dict(state["optimiser"])
    progress.update(state["progress"])


def write_model(
    folder: Path, weights: dict[str, torch.Tensor], options: argparse.Namespace, progress: dict[str, Any], data: list[str]
) -> None:
    """Write `click.json` and the weights."""
    content = save(weights)
    (folder / "weights.safetensors").write_bytes(content)
    document = {
        "schema": "medseg.prompt-model/1",
        "kind": "click",
        "name": "click-3d",
        "version": "1.0.0",
        "title": "A click, a box or a rough mask in, the mask of one structure out (CT and MR)",
        "network": {"name": "ClickNetwork", "arguments": ARGUMENTS},
        "channels": list(CHANNELS),
        "region_voxels": SIZE,
        "weights": {"file": "weights.safetensors", "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)},
        "licence": {"code": "Apache-2.0", "weights": "Apache-2.0", "data": "; ".join(f"{k}: {v}" for k, v in LICENCES.items())},
        "intended_use": INTENDED_USE,
        "training": {
            "script": "scripts/train_click_model.py",
            "cases": data,
            "torsos": options.torsos,
            "structures_left_out": list(HELD_OUT),
            "seed": options.seed,
            "steps": progress["step"],
            "minutes": round(progress["seconds"] / 60, 1),
            "device": "cpu",
            "torch": torch.__version__.split("+")[0],
            "loss_at_the_end": round(progress["loss"], 4),
        },
    }
    (folder / "click.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="model folder to write")
    parser.add_argument("--shared", type=Path, help="folder of real scans; without it phantoms alone")
    parser.add_argument("--minutes", type=float, default=20.0, help="length of the training, earlier runs counted")
    parser.add_argument("--torsos", type=int, default=18, help="how many different phantoms")
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    return parser.parse_args()


if __name__ == "__main__":
    main()
