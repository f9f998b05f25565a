"""Trains the demonstration network `ct-phantom` on torso CTs drawn by medseg.phantom, and measures it on others.

    python scripts/train_phantom_model.py -o medseg/models/ct-phantom            # CPU: about an hour on two cores
    python scripts/train_phantom_model.py -o OUT --device cuda --minutes 8

Everything comes from seeds: training torsos from 100000 on, validation torsos from 900000 on; tests use small seeds.
Each training torso is imaged on a grid of its own (slices of 1 to 5 mm, some cropped, some tilted) with a blur of its
own; each time a piece of it is used it gets new noise and goes through `medseg.preprocessing.plan`, as a scan does.
The targets are shares (how much of a voxel each structure fills), so that borders are learned below the voxel size.
With --steps a run on one machine and one number of threads is repeatable; with --minutes its length is not.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.networks.nets import BasicUNet
from safetensors.torch import save
from torch.nn import functional

from medseg.core.errors import ParameterError
from medseg.core.geometry import Geometry
from medseg.core.terminology import described
from medseg.core.volume import Volume
from medseg.kernels.implicit import sample_solids
from medseg.method.settings import RunSettings
from medseg.phantom.anatomy import Anatomy, table
from medseg.phantom.catalog import TORSO_FIELD_MM, TORSO_MIDDLE_MM, TORSO_ORGANS
from medseg.phantom.scanner import image, sample, unit_noise
from medseg.phantom.torso import SEGMENTS, torso_anatomy
from medseg.preprocessing.plan import PreparationPlan, plan_preparation
from medseg.segmentation.learned.description import ModelDescription
from medseg.segmentation.learned.model import ModelParams, model
from medseg.segmentation.learned.network import load_network
from medseg.segmentation.learned.normalisation import normalised, normaliser
from medseg.segmentation.learned.store import DESCRIPTION_FILE, parse_description, read_folder

SPACING_MM = (3.0, 3.0, 3.0)
LOWER_HU, UPPER_HU = -1000.0, 500.0
ARGUMENTS: dict[str, Any] = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": len(SEGMENTS) + 1,
    "features": [16, 16, 32, 64, 64, 16],
    "norm": ["batch", {"affine": True}],
}
FIRST_TRAINING_SEED, FIRST_VALIDATION_SEED = 100_000, 900_000
INTENDED_USE = """Demonstration on computer-drawn torso phantoms (medseg.phantom) and tests of this software. \
It has never seen a patient: its output on a patient's scan means nothing. Not a medical device."""
DIGITS = 5  # labels whose counts fit into one 16-bit number
PATCH_SIZES = ((0.0, 64), (0.5, 80), (0.8, 96))  # from which part of the run on: voxels along each side of a training piece
BATCH = 1
FREEZE_AT = 0.3  # from this part of the run on the batch norms keep their statistics, as they will at prediction
DICE_UNTIL = 0.6  # until then a Dice term is added, which finds small structures sooner but biases volumes
COMMONNESS = (0.4, 0.03, 0.004, 0.004, 0.004, 0.02, 0.02, 0.001, 0.02, 0.5)  # rough share of each label in a scan
EMA_DECAY = 0.995
SMALL, NEAR_WEIGHT = (2, 3, 4, 7, 8), 4.0  # spleen, kidneys, tumour, spine, and how much more their surroundings count
TORSOS_AT_START, PIECES_PER_TORSO = 4, 10  # the run begins with a few torsos; one more joins after so many pieces


@dataclass(frozen=True)
class Case:
    """A noiseless scan of one torso, and the contents (2,k,j,i) of each voxel of the network's grid, see `contents_of`."""

    scan: Volume
    plan: PreparationPlan
    contents: npt.NDArray[np.uint16]


def main() -> None:
    """Train, write the model folder, measure it on held-out torsos and write the figures into it."""
    options = _options()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads or torch.get_num_threads())
    network, summary = train(options, torch.device(options.device))
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_model(options.output, weights, summary)
    if options.validation:
        scores = validate(options.output, options.validation)
        write_model(options.output, weights, {**summary, "validation": scores})
        print(json.dumps(scores, indent=1))


def train(options: argparse.Namespace, device: torch.device) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Return the trained network (the moving average of its weights) and the summary of the training."""
    network = first_network(options.start_from).to(device=device, memory_format=torch.channels_last_3d)
    average = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(network.parameters(), lr=options.rate, weight_decay=1e-4)
    started, step, losses, printed = time.monotonic(), 0, [], 0.0

    def done() -> float:
        return step / options.steps if options.steps else (time.monotonic() - started) / (60 * options.minutes)

    network.train()
    for patches, shares in batches(options, done):
        now = done()
        if now >= 1:
            break
        for group in optimiser.param_groups:
            group["lr"] = options.rate * min(1.0, (step + 1) / 30) * (0.01 + 0.495 * (1 + np.cos(np.pi * now)))
        if options.start_from or now > FREEZE_AT:
            network.eval()  # of its layers, only the batch norms differ
        losses.append(
            _step(network, optimiser, patches.to(device), shares.to(device), with_dice=now < DICE_UNTIL and not options.start_from)
        )
        step += 1
        _average(average, network, min(EMA_DECAY, step / (10 + step)))
        if time.monotonic() - printed > 30:
            printed = time.monotonic()
            print(f"step {step} ({100 * now:.0f} %), loss {np.mean(losses[-30:]):.4f}", flush=True)
    first_seed = FIRST_TRAINING_SEED + options.first_torso
    summary = {
        "script": "scripts/train_phantom_model.py",
        "data": "torso CTs drawn by medseg.phantom; no patient data",
        "seed": options.seed,
        "training_seeds": [first_seed, first_seed + options.torsos - 1],
        "steps": step,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "patch_sizes": [size for _, size in PATCH_SIZES],
        "device": device.type,
        "torch": torch.__version__.split("+")[0],
        "loss_at_the_end": round(float(np.mean(losses[-100:])), 4),
    }
    if options.start_from is not None:
        before = read_folder(options.start_from).description
        hashes = [entry.sha256 for entry in before.fold_weights]
        summary["started_from"] = {"sha256": hashes, **{k: v for k, v in before.training.items() if k != "validation"}}
    return average, summary


def first_network(start_from: Path | None) -> torch.nn.Module:
    """Return the network of a model folder, or an untrained one, its output biased to how common the segments are."""
    network = BasicUNet(**ARGUMENTS)
    if start_from is not None:
        network.load_state_dict(load_network(read_folder(start_from)).state_dict())
        return network
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.momentum = 0.05
    with torch.no_grad():  # that bias saves the first steps
        network.final_conv.bias.copy_(torch.tensor(COMMONNESS).log())
    return network


def _step(network: torch.nn.Module, optimiser: Any, patches: torch.Tensor, shares: torch.Tensor, *, with_dice: bool) -> float:
    patches = patches.contiguous(memory_format=torch.channels_last_3d)
    with torch.autocast(patches.device.type, dtype=torch.bfloat16):
        logits = network(patches)
    logs = functional.log_softmax(logits.float(), dim=1)
    # Cross-entropy against shares is least where the output equals the share: it does not favour large or small volumes.
    weights = 1 + NEAR_WEIGHT * near_small_organs(shares)
    loss = -((shares * logs).sum(1) * weights).sum() / weights.sum()
    if with_dice:
        found = logs.exp()
        both, sizes, there = (found * shares).sum((0, 2, 3, 4)), (found + shares).sum((0, 2, 3, 4)), shares.sum((0, 2, 3, 4)) > 0
        loss = loss + 1 - (2 * both / sizes)[there].mean()
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    optimiser.step()
    return float(loss.detach())


def near_small_organs(shares: torch.Tensor) -> torch.Tensor:
    """Return 1 in and within about 15 mm of the smaller structures, else 0, (N,k,j,i); both sides of a border weigh alike."""
    coarse = functional.max_pool3d(shares[:, SMALL].sum(1, keepdim=True), 4)
    return functional.interpolate((functional.max_pool3d(coarse, 3, 1, 1) > 0).float(), scale_factor=4)[:, 0]


@torch.no_grad()
def _average(average: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    for kept, now in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(now, 1 - decay)
        else:
            kept.copy_(now)


def batches(options: argparse.Namespace, done: Callable[[], float]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches for ever: patches (N,1,k,j,i) and shares (N,C,k,j,i); torsos are drawn beside the training.

    The order is fixed: batch n uses the torsos that exist by a schedule, not by chance of timing.
    """
    random = np.random.default_rng(options.seed)
    with ProcessPoolExecutor(options.workers) as processes, ThreadPoolExecutor(options.workers) as threads:
        coming = [processes.submit(make_case, FIRST_TRAINING_SEED + options.first_torso + n) for n in range(options.torsos)]
        queue: list[Future[tuple[torch.Tensor, torch.Tensor]]] = []
        drawn = 0
        try:
            while True:
                while len(queue) < 2 * options.workers:
                    known = min(options.torsos, TORSOS_AT_START + drawn // PIECES_PER_TORSO)
                    cases = [coming[int(random.integers(known))].result() for _ in range(BATCH)]
                    seeds = [int(seed) for seed in random.integers(1 << 62, size=BATCH)]
                    size = [size for start, size in PATCH_SIZES if done() >= start][-1]
                    queue.append(threads.submit(_batch, cases, seeds, size))
                    drawn += BATCH
                yield queue.pop(0).result()
        finally:
            processes.shutdown(wait=False, cancel_futures=True)


def _batch(cases: list[Case], seeds: list[int], size: int) -> tuple[torch.Tensor, torch.Tensor]:
    pieces = [make_piece(case, size, np.random.default_rng(seed)) for case, seed in zip(cases, seeds, strict=True)]
    return torch.stack([patch for patch, _ in pieces]), torch.stack([shares for _, shares in pieces])


def make_case(seed: int) -> Case:
    """Image one torso on a grid, with a crop, a tilt and a blur that its seed decides."""
    torch.set_num_threads(1)
    random = np.random.default_rng((seed, 1))
    anatomy = random_torso(seed, random)
    geometry = random_geometry(anatomy, random)
    sampled = sample(anatomy, geometry, 2)
    blur = (*[float(random.uniform(0, 2.0))] * 2, float(random.uniform(0, 0.8) * geometry.spacing_mm[2]))
    scan = image(sampled, geometry, noise_hu=0.0, blur_mm=blur)
    plan = plan_preparation(geometry, SPACING_MM)
    contents = contents_of(anatomy, plan.target)
    index = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in plan.target.shape), indexing="ij"))
    step = plan.target_to_source().astype(np.float32)[..., None, None, None]
    places = np.tensordot(step[:, :3, 0, 0, 0], index, 1) + step[:, 3]
    last = np.array(geometry.shape)[:, None, None, None] - 0.5
    contents *= ((places > -0.5) & (places < last)).all(axis=0).T  # what no slice shows counts as background
    return Case(scan, plan, contents)


def contents_of(anatomy: Anatomy, geometry: Geometry) -> npt.NDArray[np.uint16]:
    """Return how many of eight samples in each voxel each label has, as digits of base 9: labels 0 to 4, then 5 to 9.

    The kernel gives the mean of one number over a voxel: with the powers of 9 for numbers, that mean holds all counts.
    """
    rows, _, numbers, within = table(anatomy)
    codes = []
    for first in (0, DIGITS):
        powers = np.where(numbers // DIGITS == first // DIGITS, 9.0 ** (numbers % DIGITS), 0.0)
        found = sample_solids(rows, powers, numbers, within, geometry.shape[::-1], geometry.affine, (2, 2, 2))
        codes.append(np.rint(8 * found.values).astype(np.uint16))
    return np.stack(codes)


def random_torso(seed: int, random: np.random.Generator) -> Anatomy:
    """Draw a torso; half of them have a tumour of 12 to 46 mm instead of their own."""
    with contextlib.suppress(ParameterError):  # no room for that one
        return torso_anatomy(seed, float(random.uniform(12, 46)) if random.random() < 0.5 else None)
    return torso_anatomy(seed)


def random_geometry(anatomy: Anatomy, random: np.random.Generator) -> Geometry:
    """Draw a grid: 1.3 to 3 mm in the slice, 1.5 to 5 mm between slices, at times cropped at head or feet, or tilted."""
    in_slice, between = float(random.uniform(1.3, 3.0)), float(random.choice([1.5, 2.0, 2.5, 3.0, 4.0, 5.0]))
    extent = np.array(TORSO_FIELD_MM) * [random.uniform(0.97, 1.12), random.uniform(0.98, 1.12), random.uniform(0.95, 1.05)]
    if random.random() < 0.3:
        extent[2] *= random.uniform(0.4, 0.9)
    spacing = np.array([in_slice, in_slice, between])
    shape = [int(n) for n in np.maximum(8, np.round(extent / spacing))]
    direction = np.eye(3)
    if random.random() < 0.25:
        angle = np.radians(random.uniform(-20, 20))
        direction[1:, 1:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    if random.random() < 0.25:
        direction[1, 2] += np.tan(np.radians(random.uniform(-20, 20)))  # gantry tilt
    low, high = anatomy.box_mm(TORSO_ORGANS)
    rest = np.array([12.0, 12.0, max(10.0, float(high[2] - low[2] - extent[2]) / 2 + 10)])
    centre = np.array([*TORSO_MIDDLE_MM, (low[2] + high[2]) / 2]) + random.uniform(-rest, rest)
    affine = np.eye(4)
    affine[:3, :3] = direction * spacing
    affine[:3, 3] = centre - affine[:3, :3] @ (np.array(shape) - 1) / 2
    return Geometry((shape[0], shape[1], shape[2]), affine)


def make_piece(case: Case, size: int, random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut a piece (1,k,j,i) with new noise from a case, prepared as a scan is, and the shares (C,k,j,i) in its voxels."""
    target = case.plan.target
    start = np.array([random.integers(min(0, n - size), max(0, n - size) + 1) for n in target.shape])
    box = target.cropped(start, (size,) * 3)
    scan = _noisy_part(case.scan, box, random)
    scan = scan.with_array(np.clip(scan.array + np.float32(random.uniform(-5, 5)), LOWER_HU, UPPER_HU))
    prepared = PreparationPlan(scan.geometry, box).prepare(scan, LOWER_HU)
    patch = normalised(prepared.array.T, normaliser(prepared, _RULE))
    inside = case.contents[(slice(None), *(slice(max(0, s), max(0, s) + size) for s in start[::-1]))]
    before = [max(0, -int(s)) for s in start[::-1]]
    padding = [(b, size - b - n) for b, n in zip(before, inside.shape[1:], strict=True)]
    return torch.from_numpy(patch)[None], shares_of(np.pad(inside, [(0, 0), *padding]))


def shares_of(contents: npt.NDArray[np.uint16]) -> torch.Tensor:
    """Return the share (C,k,j,i) of each label in each voxel; a voxel without contents is background."""
    shares = np.stack([contents[n // DIGITS] // 9 ** (n % DIGITS) % 9 for n in range(len(SEGMENTS) + 1)]).astype(np.float32) / 8
    shares[0] += 1 - shares.sum(0)
    return torch.from_numpy(shares)


def _noisy_part(scan: Volume, box: Geometry, random: np.random.Generator) -> Volume:
    """The part of a scan that a box needs, as float32 with noise of 0 to 45 HU."""
    corners = np.stack(np.meshgrid(*([-3, n + 2] for n in box.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    places = scan.geometry.world_to_index(box.index_to_world(corners))
    low = np.clip(np.floor(places.min(axis=0)).astype(int) - 2, 0, np.array(scan.geometry.shape) - 2)
    high = np.clip(np.ceil(places.max(axis=0)).astype(int) + 3, low + 2, scan.geometry.shape)
    geometry = scan.geometry.cropped(low, high - low)
    part = scan.array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].astype(np.float32)
    noise = unit_noise(geometry, int(random.integers(1 << 31)), grain_mm=float(random.uniform(0.0, 1.2)))
    return Volume(part + np.float32(random.uniform(0, 45)) * noise.T, geometry, modality="CT", unit="HU")


def describe(weights: bytes, summary: dict[str, Any]) -> ModelDescription:
    """Return the description of the model."""
    return parse_description(
        {
            "schema": "medseg.model/1",
            "name": "ct-phantom",
            "version": "1.0.0",
            "title": "Demonstration: organs of torso phantoms in CT",
            "network": {"name": "BasicUNet", "arguments": ARGUMENTS},
            "channels": ["CT"],
            "modality": "CT",
            "spacing_mm": list(SPACING_MM),
            "orientation": "RAS",
            "alignment": "patient",
            "normalisation": {"kind": "clip-and-scale", "lower": LOWER_HU, "upper": UPPER_HU},
            "background": LOWER_HU,
            "patch_size": [128, 96, 112],
            "patch_multiple": 16,
            "overlap": 0.25,
            "segments": [described(segment).to_dict() for segment in SEGMENTS],
            "weights": {"file": "weights.safetensors", "sha256": hashlib.sha256(weights).hexdigest(), "bytes": len(weights)},
            "licence": {"code": "Apache-2.0", "weights": "Apache-2.0", "data": "Apache-2.0"},
            "intended_use": INTENDED_USE,
            "training": summary,
        }
    )


def write_model(folder: Path, weights: dict[str, torch.Tensor], summary: dict[str, Any]) -> None:
    """Write `model.json` and the weights."""
    content = save(weights)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.safetensors").write_bytes(content)
    (folder / DESCRIPTION_FILE).write_text(json.dumps(describe(content, summary).to_dict(), indent=1) + "\n", encoding="utf-8")


def validate(folder: Path, count: int) -> dict[str, Any]:
    """Segment held-out torsos with the written model and return mean and least Dice, and volume errors, per segment."""
    dice: dict[str, list[float]] = {segment.label: [] for segment in SEGMENTS}
    errors: dict[str, list[float]] = {segment.label: [] for segment in SEGMENTS}
    for seed in range(FIRST_VALIDATION_SEED, FIRST_VALIDATION_SEED + count):
        random = np.random.default_rng((seed, 1))
        geometry = random_geometry(anatomy := torso_anatomy(seed), random)
        sampled = sample(anatomy, geometry)
        noise, blur = float(random.uniform(0, 40)), float(random.uniform(0, 2))
        scan = image(sampled, geometry, noise_hu=noise, blur_mm=(blur, blur, 0.0), seed=seed)
        found = model(scan, ModelParams(model=str(folder)), settings=RunSettings(device="auto")).array.T
        for segment in SEGMENTS:
            truth, got = sampled.labels == segment.number, found == segment.number
            if sampled.label_voxels[segment.number] * geometry.voxel_volume_mm3 < 5000:
                continue  # hardly in the field of view
            dice[segment.label].append(2 * np.count_nonzero(truth & got) / (np.count_nonzero(truth) + np.count_nonzero(got)))
            errors[segment.label].append(np.count_nonzero(got) / sampled.label_voxels[segment.number] - 1)
    return {
        "seeds": [FIRST_VALIDATION_SEED, FIRST_VALIDATION_SEED + count - 1],
        "dice_mean": {label: round(float(np.mean(values)), 4) for label, values in dice.items() if values},
        "dice_least": {label: round(float(np.min(values)), 4) for label, values in dice.items() if values},
        "volume_error_mean": {label: round(float(np.mean(values)), 4) for label, values in errors.items() if values},
        "volume_error_largest": {label: round(float(np.max(np.abs(values))), 4) for label, values in errors.items() if values},
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="model folder to write")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--steps", type=int, default=0, help="length of the training (repeatable)")
    parser.add_argument("--minutes", type=float, default=40.0, help="length of the training where --steps is not given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=3e-3, help="highest learning rate")
    parser.add_argument("--first-torso", type=int, default=0, help="number of the first training torso")
    parser.add_argument("--start-from", type=Path, help="go on with the weights of this model folder (use a tenth of the rate)")
    parser.add_argument("--torsos", type=int, default=120, help="how many different torsos")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw torsos, threads that cut pieces")
    parser.add_argument("--threads", type=int, default=0, help="threads of torch (0: its own choice)")
    parser.add_argument("--validation", type=int, default=12, help="held-out torsos to measure on")
    return parser.parse_args()


_RULE = describe(b"-", {})

if __name__ == "__main__":
    main()
