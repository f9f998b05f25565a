"""Measures body-composition against reference masks, and how far each anatomical length may be off.

    python benchmarks/evaluate_body_composition.py --data FOLDER [--json FILE] [--skip-performance]

FOLDER holds `ct_totalseg_organs` (a CT of 3 mm with masks of organs) and `ct_totalseg_body_composition` (reference masks
of muscle, subcutaneous and torso fat). Printed are: Dice; Dice with each length 20 % shorter and longer, one at a time,
which shows that none is fitted to this scan; what each organ was taken for; time and extra peak memory of one run on
512 x 512 x 300 voxels in a fresh process (Linux).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.method.settings import RunSettings
from medseg.segmentation.classical.body_composition import BodyCompositionParams, body_composition, composition
from medseg.segmentation.classical.body_composition_rules import Rules

BARS = {"skeletal_muscle": 0.65, "subcutaneous_fat": 0.88, "torso_fat": 0.80}
NUMBERS = {"skeletal_muscle": 2, "subcutaneous_fat": 3, "torso_fat": 4}
LABELS = ("body", "muscle", "subcut.", "torso fat", "bone", "air")
BIG_SHAPE, BIG_SPACING_MM = (512, 512, 300), (0.75, 0.75, 1.0)


def read_ct(folder: Path) -> Volume:
    image = nibabel.load(folder / "ct_totalseg_organs" / "image.nii.gz")
    array = np.asarray(image.dataobj)
    return Volume(array.astype(np.int16), Geometry(array.shape, image.affine), "CT", "HU")


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other)))


def scores(volume: Volume, references: dict[str, np.ndarray], rules: Rules) -> dict[str, float]:
    labels, _ = composition(volume, BodyCompositionParams(), rules, RunSettings())
    return {name: dice(NUMBERS[name] == labels.T, mask) for name, mask in references.items()}


def sensitivity(volume: Volume, references: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Dice under the rules as they are, then with each length 20 % off."""
    rows = [{"length": "as it is", "factor": 1.0, **scores(volume, references, Rules())}]
    for field in fields(Rules):
        for factor in (0.8, 1.2):
            rules = replace(Rules(), **{field.name: getattr(Rules(), field.name) * factor})
            rows.append({"length": field.name, "factor": factor, **scores(volume, references, rules)})
    return rows


def organ_table(folder: Path, labels: np.ndarray) -> list[dict[str, Any]]:
    """What share of each organ was taken for what."""
    rows = []
    for path in sorted((folder / "ct_totalseg_organs" / "masks_fast").glob("*.nii.gz")):
        inside = labels[np.asarray(nibabel.load(path).dataobj) > 0]
        if inside.size > 300:
            shares = np.bincount(inside, minlength=7)[1:] / inside.size
            rows.append({"organ": path.name[:-7], "voxels": int(inside.size)} | dict(zip(LABELS, shares.tolist(), strict=True)))
    return rows


def big_ct(folder: Path) -> Volume:
    """The CT repeated onto 512 x 512 x 300 voxels of a common size, with noise."""
    small = read_ct(folder).array
    index = [
        np.clip((np.arange(n) - n // 2) * step / 3 + length // 2, -1, length)
        for n, step, length in zip(BIG_SHAPE, (0.75, 0.75, 0.3), small.shape, strict=True)
    ]
    padded = np.pad(small, 1, constant_values=-1000)
    i, j, k = (np.rint(axis).astype(int) + 1 for axis in index)
    array = np.empty(BIG_SHAPE, np.int16, order="F")
    random = np.random.default_rng(0)
    for n, plane in enumerate(np.clip(k, 1, small.shape[2])):
        array[:, :, n] = padded[np.ix_(i, j, [plane])][:, :, 0] + random.normal(0, 15, BIG_SHAPE[:2])
    return Volume(array, Geometry(BIG_SHAPE, np.diag([*BIG_SPACING_MM, 1.0])), "CT", "HU")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def measure_performance(folder: Path) -> dict[str, float]:
    """Seconds and extra peak memory of one run, in this process."""
    volume = big_ct(folder)
    body_composition(read_ct(folder), BodyCompositionParams())  # compiles
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    started = time.perf_counter()
    body_composition(volume, BodyCompositionParams())
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "peak_bytes_per_voxel": (_status("VmHWM") - before) / volume.array.size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--skip-performance", action="store_true")
    parser.add_argument("--performance-only", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.performance_only:
        print(json.dumps(measure_performance(options.data)))
        return
    volume = read_ct(options.data)
    folder = options.data / "ct_totalseg_body_composition"
    references = {name: np.asarray(nibabel.load(folder / f"{name}.nii.gz").dataobj) > 0 for name in NUMBERS}
    report: dict[str, Any] = {"bars": BARS, "sensitivity": sensitivity(volume, references)}
    print(f"{'length':<16}{'factor':>7}" + "".join(f"{name:>18}" for name in NUMBERS))
    for row in report["sensitivity"]:
        marks = "".join(f"{row[name]:>17.3f}{' ' if row[name] >= BARS[name] else '!'}" for name in NUMBERS)
        print(f"{row['length']:<16}{row['factor']:>7.1f}{marks}")
    report["organs"] = organ_table(options.data, body_composition(volume, BodyCompositionParams()).array)
    print(f"\n{'organ':<32}" + "".join(f"{label:>11}" for label in LABELS))
    for row in report["organs"]:
        print(f"{row['organ']:<32}" + "".join(f"{row[label]:>11.1%}" for label in LABELS))
    if not options.skip_performance:
        command = [sys.executable, __file__, "--data", str(options.data), "--performance-only"]
        report["performance"] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print("\n512 x 512 x 300: {seconds:.1f} s, {peak_bytes_per_voxel:.2f} bytes a voxel above the scan".format(**report["performance"]))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
