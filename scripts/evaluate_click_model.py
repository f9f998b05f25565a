"""Measures a click model on structures and scans it never saw, with clicks set where the mask is most wrong.

    python scripts/evaluate_click_model.py medseg/models/click-3d --shared ../shared/data --output docs/prompts_scores.json

The first click is the point deepest inside the structure, each further one the point deepest inside the largest piece
that is missing or too much. The table holds the mean Dice after 1, 3 and 5 clicks, and the seconds for one answer.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from click_cases import Case, test_cases
from scipy import ndimage

from medseg.segmentation.learned.prompt.click import ClickSegmenter
from medseg.segmentation.learned.prompt.loading import find_prompt_model
from medseg.segmentation.learned.prompt.prompts import Prompts

MOST_CLICKS = 5
SHOWN = (1, 3, 5)
MOST_STRUCTURES = 4
PHANTOM_STRUCTURES = ("liver", "kidney_left", "spleen", "tumour", "lung_right")
Mask = npt.NDArray[np.bool_]


def main() -> None:
    """Measure and print the table."""
    options = _options()
    torch.set_num_threads(options.threads)
    segmenter = ClickSegmenter(find_prompt_model(options.model), torch.device("cpu"))
    rows = []
    for case in test_cases(options.shared):
        if options.only and not any(part in case.name for part in options.only):
            continue
        for number, label in _chosen(case):
            row = measure(segmenter, case, number, keep=options.keep_mask)
            rows.append({"case": case.name, "structure": label, **row})
            print(case.name, label, *(f"{value:.3f}" for value in row["dice"]), f"{row['seconds']:.1f} s", flush=True)
    print(table(rows))
    if options.output:
        options.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def measure(segmenter: ClickSegmenter, case: Case, number: int, *, keep: bool) -> dict[str, Any]:
    """Return the Dice after each click on one structure, and the mean seconds of an answer."""
    target = np.equal(case.labels.T, number)
    found = np.zeros_like(target)
    inside: list[Any] = []
    outside: list[Any] = []
    dice, seconds = [], []
    for _ in range(MOST_CLICKS):
        point, missing = next_click(target, found, np.asarray(case.geometry.spacing_mm[::-1]))
        place = case.geometry.index_to_world(point[::-1])
        (inside if missing else outside).append(place)
        previous = found.view(np.uint8) if keep and found.any() else None
        prompts = Prompts(np.array(inside).reshape(-1, 3), np.array(outside).reshape(-1, 3), previous=previous)
        begun = time.monotonic()
        found = segmenter.segment(case.scan, prompts).mask.astype(bool)
        seconds.append(time.monotonic() - begun)
        dice.append(2 * np.count_nonzero(found & target) / (np.count_nonzero(found) + np.count_nonzero(target)))
        if dice[-1] > 0.999:
            dice += [dice[-1]] * (MOST_CLICKS - len(dice))
            break
    return {"dice": [round(float(value), 4) for value in dice], "seconds": round(float(np.mean(seconds)), 2)}


def next_click(target: Mask, found: Mask, spacing_mm: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], bool]:
    """Return the voxel (k,j,i) deepest inside the largest error, and whether it is missing from the mask."""
    wrong = target != found
    ranges = [np.flatnonzero(wrong.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    box = tuple(slice(held[0], held[-1] + 1) for held in ranges)
    pieces, _ = ndimage.label(wrong[box])
    largest = pieces == np.argmax(np.bincount(pieces.ravel())[1:]) + 1
    depth = ndimage.distance_transform_edt(np.pad(largest, 1), sampling=spacing_mm)[1:-1, 1:-1, 1:-1]
    point = np.array(np.unravel_index(int(depth.argmax()), depth.shape)) + [piece.start for piece in box]
    return point, bool(target[tuple(point)])


def table(rows: list[dict[str, Any]]) -> str:
    """Return the means per group of cases as Markdown."""
    lines = ["| scans | structures | Dice after 1 click | 3 clicks | 5 clicks | seconds an answer |", "|---|---|---|---|---|---|"]
    for name in dict.fromkeys(row["case"] for row in rows):
        of = [row for row in rows if row["case"] == name]
        labels = list(dict.fromkeys(row["structure"] for row in of))
        scores = [f"{np.mean([row['dice'][n - 1] for row in of]):.3f}" for n in SHOWN]
        lines.append(f"| {name} | {', '.join(labels)} | {' | '.join(scores)} | {np.mean([row['seconds'] for row in of]):.1f} |")
    return "\n".join(lines)


def _chosen(case: Case) -> list[tuple[int, str]]:
    """The structures of a case that are measured: of the phantoms those with a name, else the largest."""
    if case.name == "phantom CT":
        return [(number, label) for number, label in case.structures.items() if label in PHANTOM_STRUCTURES]
    sizes = {number: np.count_nonzero(np.equal(case.labels, number)) for number in case.structures}
    largest = sorted(sizes, key=lambda number: -sizes[number])[:MOST_STRUCTURES]
    names = {"segment_1": "tumour"}
    return [(number, names.get(case.structures[number], case.structures[number])) for number in largest]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name or folder of the click model")
    parser.add_argument("--shared", type=Path, help="folder of real scans; without it phantoms alone")
    parser.add_argument("--output", type=Path, help="JSON file for the scores of every structure")
    parser.add_argument("--keep-mask", action="store_true", help="give each mask back as the previous mask of the next click")
    parser.add_argument("--only", nargs="*", help="only the scans whose name holds one of these")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    return parser.parse_args()


if __name__ == "__main__":
    main()
