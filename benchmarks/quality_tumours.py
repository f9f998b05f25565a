"""Tumours from one click: click-lesion beside SimpleITK's ConfidenceConnected, against the experts' contours.

    python benchmarks/quality_tumours.py [--data FOLDER] [--phantoms N] [--pictures docs/pictures] [--out FILE.json]

The click is the centroid of the reference eroded to half its depth (or the deepest voxel), the same for both. Prints the tables
of docs/click_lesion.md: every tumour, clicks off the middle, the choice of the defaults with each patient left out in turn,
lesions with known borders, and times.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from inputs import load_ct
from tumour_cases import Tumour, made_lesions, real_tumours, torso_tumours

from medseg.core.errors import MedsegError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.segmentation.classical.click_lesion import ClickLesionParams, click_lesion, find_lesion
from medseg.segmentation.classical.click_surface import RULES, Rules
from medseg.segmentation.segment import segment

THEIR_SETTINGS = list(itertools.product((0, 1, 2, 4), (1.5, 2.0, 2.5, 3.0)))  # iterations, multiplier
EDGES, PULLS, STIFFNESSES = (0.5, 0.7, 1.0, 1.4), (0.5, 1.0), (1.0,)  # tried when the defaults were chosen
CLICKS = 8


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / max(int(one.sum()) + int(other.sum()), 1))


def ours(tumour: Tumour, index: np.ndarray) -> np.ndarray:
    """What click-lesion finds with its defaults; nothing where it refuses."""
    try:
        found = segment(tumour.volume, "click-lesion", seeds=[tuple(tumour.volume.geometry.index_to_world(index))])
    except MedsegError:
        return np.zeros_like(tumour.truth)
    return np.asarray(found.array > 0)


def theirs(tumour: Tumour, index: np.ndarray, iterations: int = 4, multiplier: float = 2.5) -> np.ndarray:
    image = sitk.GetImageFromArray(tumour.volume.array.T)
    found = sitk.ConfidenceConnected(image, [index.tolist()], iterations, multiplier, 1, 1)
    return np.asarray(sitk.GetArrayFromImage(found).T > 0)


def table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    names = list(header)
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return "\n".join([*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)])


def per_tumour(tumours: list[Tumour]) -> list[dict[str, Any]]:
    rows = []
    for tumour in tumours:
        index = tumour.click()
        rows.append(
            {
                "tumour": tumour.name,
                "volume_ml": tumour.truth.sum() * tumour.volume.geometry.voxel_volume_mm3 / 1000,
                "ours": dice(ours(tumour, index), tumour.truth),
                "theirs": dice(theirs(tumour, index), tumour.truth),
                "theirs_best": max(dice(theirs(tumour, index, *setting), tumour.truth) for setting in THEIR_SETTINGS),
            }
        )
    return rows


def off_centre(tumours: Iterable[Tumour]) -> dict[str, tuple[float, float]]:
    """Mean Dice of ours and theirs over clicks off the middle."""
    scores = {}
    for tumour in tumours:
        clicks = tumour.clicks_off_centre(CLICKS)
        pairs = [(dice(ours(tumour, index), tumour.truth), dice(theirs(tumour, index), tumour.truth)) for index in clicks]
        scores[tumour.name] = (float(np.mean([pair[0] for pair in pairs])), float(np.mean([pair[1] for pair in pairs])))
    return scores


def with_settings(tumour: Tumour, edge: float, pull: float, stiffness: float) -> float:
    volume = tumour.volume
    rules = replace(RULES.get(volume.modality, Rules()), edge=edge, pull=pull)
    params = ClickLesionParams(seeds=[tuple(volume.geometry.index_to_world(tumour.click()))], stiffness=stiffness)
    _, found = find_lesion(volume, params, volume.modality, rules)
    mask = np.zeros(volume.array.T.shape, bool)
    mask[found.slices] = found.mask > 0
    return dice(mask.T, tumour.truth)


def leave_one_patient_out(tumours: list[Tumour]) -> list[tuple[str, tuple[float, ...], float, float]]:
    """For each patient: the settings that are best on all others, the Dice they give on it, and what the defaults give."""
    settings = list(itertools.product(EDGES, PULLS, STIFFNESSES))
    scores = np.array([[with_settings(tumour, *setting) for tumour in tumours] for setting in settings])
    patients = np.array([tumour.patient for tumour in tumours])
    default = settings.index((1.0, 1.0, 1.0))
    rows = []
    for patient in dict.fromkeys(patients):
        left_out = patients == patient
        best = int(scores[:, ~left_out].mean(axis=1).argmax())
        rows.append((str(patient), settings[best], scores[best, left_out].mean(), scores[default, left_out].mean()))
        for_all = scores[best, left_out].sum()
        print(f"left out {patient}: {settings[best]} -> {for_all / left_out.sum():.3f}", flush=True)
    return rows


def known_borders(count: int) -> dict[str, list[tuple[float, float]]]:
    """Dice of ours and theirs on lesions made by formulas, one random click off the middle each."""
    scores: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for tumour in itertools.chain(torso_tumours(count), made_lesions(count)):
        index = tumour.clicks_off_centre(1)[0]
        scores[tumour.patient].append((dice(ours(tumour, index), tumour.truth), dice(theirs(tumour, index), tumour.truth)))
    return scores


def seconds(data: Path, rounds: int = 9) -> dict[str, float]:
    """Median and least time of one click in the liver of a real CT at 512 x 512 x 300, once loaded and compiled."""
    array = load_ct(data, (300, 512, 512)).T
    volume = Volume(np.asfortranarray(array), Geometry(array.shape, np.diag([0.7, 0.7, 1.0, 1.0])), "CT", "HU")
    rng = np.random.default_rng(0)
    body = np.argwhere(np.asarray(array[128:384:8, 128:384:8, 60:240:8]) > 0) * 8 + (128, 128, 60)
    times = []
    for index in [body[0], *body[rng.integers(len(body), size=rounds)]]:
        params = ClickLesionParams(seeds=[tuple(volume.geometry.index_to_world(index))])
        start = time.perf_counter(), time.process_time()
        click_lesion(volume, params)
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    wall, cpu = np.array(times[1:]).T
    return {"median_s": float(np.median(wall)), "least_s": float(wall.min()), "median_cpu_s": float(np.median(cpu))}


def report_tumours(tumours: list[Tumour]) -> dict[str, Any]:
    rows, moved = per_tumour(tumours), off_centre(tumours)
    cells = [
        (r["tumour"], f"{r['volume_ml']:.3g}", *(f"{r[key]:.3f}" for key in ("ours", "theirs", "theirs_best")),
         f"{moved[r['tumour']][0]:.3f}", f"{moved[r['tumour']][1]:.3f}")
        for r in rows
    ]  # fmt: skip
    means = [np.mean([r[key] for r in rows]) for key in ("ours", "theirs", "theirs_best")]
    means += list(np.mean(list(moved.values()), axis=0))
    cells.append(("**mean**", "", *(f"**{mean:.3f}**" for mean in means)))
    header = ("tumour", "ml", "click-lesion", "ConfidenceConnected", "its best of 16 settings", "click-lesion, off centre",
              "ConfidenceConnected, off centre")  # fmt: skip
    print(table(header, cells), flush=True)
    return {"tumours": rows, "off_centre": moved}


def pictures(tumours: list[Tumour], folder: Path) -> None:
    """One slice of each tumour: the expert's contour in red, ours in yellow, the click as a cross."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 4, figsize=(13.2, 9.6), facecolor="#0a0d12")
    for axis in axes.flat:
        axis.axis("off")
    for axis, tumour in zip(axes.T.flat, tumours, strict=False):
        index, volume = tumour.click(), tumour.volume
        k = index[2]
        plane, truth, found = (array[:, :, k].T for array in (volume.array, tumour.truth, ours(tumour, index)))
        low, high = (-120, 180) if volume.modality == "CT" else np.percentile(plane, (1, 99.5))
        aspect = volume.geometry.spacing_mm[1] / volume.geometry.spacing_mm[0]
        axis.imshow(plane, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="bilinear")
        for mask, colour in ((truth, "#ff5050"), (found, "#ffd84d")):
            if mask.any():
                axis.contour(mask, [0.5], colors=colour, linewidths=1.3)
        axis.plot(index[0], index[1], "+", color="#40c8ff", markersize=9)
        reach = 45 / np.array(volume.geometry.spacing_mm)
        if tumour.name == "breast1":
            reach = reach / 2
        axis.set_xlim(max(index[0] - reach[0], 0), min(index[0] + reach[0], plane.shape[1] - 1))
        axis.set_ylim(min(index[1] + reach[1], plane.shape[0] - 1), max(index[1] - reach[1], 0))
        score = dice(ours(tumour, index), tumour.truth)
        axis.set_title(f"{tumour.name.replace('_', ' ')}   Dice {score:.2f}", color="white", fontsize=11)
    figure.tight_layout()
    figure.savefig(folder / "click_lesion.png", dpi=75)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--phantoms", type=int, default=10, help="lesions of each kind with a known border; 0: none")
    parser.add_argument("--leave-out", action="store_true", help="choose the defaults again with each patient left out")
    parser.add_argument("--pictures", type=Path, help="folder for click_lesion.png")
    parser.add_argument("--no-time", action="store_true")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    tumours = list(real_tumours(options.data))
    document = report_tumours(tumours)
    if options.pictures:
        pictures(tumours, options.pictures)
    if options.phantoms:
        scores = known_borders(options.phantoms)
        means = {kind: np.mean(pairs, axis=0) for kind, pairs in scores.items()}
        lowest = {kind: min(pair[0] for pair in pairs) for kind, pairs in scores.items()}
        rows = [(kind, len(scores[kind]), f"{mean[0]:.3f}", f"{lowest[kind]:.3f}", f"{mean[1]:.3f}") for kind, mean in means.items()]
        print(table(("kind", "lesions", "click-lesion", "lowest", "ConfidenceConnected"), rows), flush=True)
        document["known_borders"] = {kind: [list(pair) for pair in pairs] for kind, pairs in scores.items()}
    if options.leave_out:
        chosen = leave_one_patient_out(tumours)
        rows = [(patient, *setting, f"{left:.3f}", f"{default:.3f}") for patient, setting, left, default in chosen]
        print(table(("left out", "edge", "pull", "stiffness", "Dice with these", "with the defaults"), rows), flush=True)
    if not options.no_time:
        document["seconds"] = seconds(options.data)
        print(document["seconds"])
    if options.out:
        options.out.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
