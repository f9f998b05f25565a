"""Does the 95 % interval of a volume cover the truth? Random bodies of known volume, cell by cell of size and slice spacing.

    NUMBA_NUM_THREADS=1 python scripts/calibrate_uncertainty.py --trials 5000 --jobs 2 -o docs/pictures --page docs/uncertainty.md

writes uncertainty_coverage.csv (one row a cell) and draws uncertainty_coverage.png. With --trials 5000 it takes about an hour
on two cores; started again, it goes on where it stopped (cells with as many trials are kept). The tests repeat a few cells.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medseg.core.measurement import Measurement
from medseg.measurement.measure import measure
from medseg.phantom.bodies import KINDS, place, random_body

DIAMETERS_MM = (3.0, 5.0, 8.0, 12.0, 20.0, 35.0, 60.0)
SLICES_MM = (0.5, 1.0, 2.0, 3.0, 5.0)
PIXELS_MM = (0.5, 1.0)
NOISES = (0.0, 0.0, 0.05, 0.1, 0.15, 0.2)  # standard deviation of the noise over the contrast at the border
GROUPS = (*KINDS, "centre inside", "half inside", "no noise", "noise")
COLUMNS = ("diameter_mm", "slice_mm", "trials", "not_seen", "coverage", *(f"coverage {name}" for name in GROUPS))
WIDTHS = ("median_half_width_percent", "cv_percent")


class Trial(NamedTuple):
    """One mask: whether it has a voxel, whether the interval covers the truth, and how wide it is."""

    kind: str
    by_share: bool
    noise: float
    was_seen: bool
    is_covered: bool
    half_width: float
    log_error: float


def trials(diameter_mm: float, slice_mm: float, count: int, seed: int) -> Iterator[Trial]:
    """Yield trials of one cell: every shape, rule for border voxels, noise level, position and orientation in turn."""
    rng = np.random.default_rng([seed, round(diameter_mm * 10), round(slice_mm * 10)])
    for n in range(count):
        kind, by_share, noise = KINDS[n % 3], bool(rng.integers(2)), float(rng.choice(NOISES))
        pixel = float(rng.uniform(*PIXELS_MM))
        body = random_body(kind, diameter_mm, rng)
        label_map = place(body, (min(pixel, max(slice_mm, 0.5)),) * 2 + (slice_mm,), rng, by_share=by_share, noise=noise)
        volume: Measurement = measure(label_map)["body", "volume"]
        if volume.value is None or volume.interval is None:
            yield Trial(kind, by_share, noise, False, False, math.nan, math.nan)
            continue
        truth = body.volume_mm3 / 1000
        low, high = volume.interval
        yield Trial(kind, by_share, noise, True, low <= truth <= high, (high - low) / 2 / volume.value, math.log(volume.value / truth))


def cell(arguments: tuple[float, float, int, int]) -> dict[str, float]:
    """Return the row of one cell."""
    diameter_mm, slice_mm, count, seed = arguments
    done = list(trials(diameter_mm, slice_mm, count, seed))
    seen = [trial for trial in done if trial.was_seen]
    row: dict[str, float] = {"diameter_mm": diameter_mm, "slice_mm": slice_mm, "trials": len(done), "not_seen": len(done) - len(seen)}
    groups = {kind: [t for t in seen if t.kind == kind] for kind in KINDS}
    groups |= {"centre inside": [t for t in seen if not t.by_share], "half inside": [t for t in seen if t.by_share]}
    groups |= {"no noise": [t for t in seen if t.noise == 0], "noise": [t for t in seen if t.noise > 0]}
    row["coverage"] = _share(seen)
    row |= {f"coverage {name}": _share(group) for name, group in groups.items()}
    row["median_half_width_percent"] = 100 * float(np.median([t.half_width for t in seen]))
    row["cv_percent"] = 100 * float(np.std([math.exp(t.log_error) for t in seen]))
    return row


def _share(group: list[Trial]) -> float:
    return sum(trial.is_covered for trial in group) / len(group) if group else math.nan


def draw(rows: list[dict[str, float]], path: Path) -> None:
    """Draw coverage and width against size, one line a slice spacing."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    colours = plt.get_cmap("viridis")(np.linspace(0.05, 0.85, len(SLICES_MM)))
    for slice_mm, colour in zip(sorted({row["slice_mm"] for row in rows}), colours, strict=False):
        mine = sorted((row for row in rows if row["slice_mm"] == slice_mm), key=lambda row: row["diameter_mm"])
        sizes = [row["diameter_mm"] for row in mine]
        left.plot(sizes, [100 * row["coverage"] for row in mine], "o-", color=colour, label=f"{slice_mm:g} mm slices")
        right.plot(sizes, [row["median_half_width_percent"] for row in mine], "o-", color=colour, label=f"{slice_mm:g} mm slices")
    left.axhspan(93, 97, color="0.9", zorder=0)
    left.axhline(95, color="0.5", linewidth=1, linestyle="--", zorder=1)
    left.set(ylim=(88, 100), ylabel="truths inside the 95 % interval (%)", title="Coverage")
    right.set(yscale="log", ylabel="median half width (% of the volume)", title="Width")
    for axes in (left, right):
        axes.set(xscale="log", xlabel="diameter of a ball of the same volume (mm)")
        axes.set_xticks(DIAMETERS_MM, [f"{size:g}" for size in DIAMETERS_MM])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False)
    figure.savefig(path, dpi=120)


def read(path: Path) -> list[dict[str, float]]:
    """Return the rows that an earlier run wrote."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def write(rows: list[dict[str, float]], path: Path) -> None:
    """Write the table."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, *WIDTHS])
        writer.writeheader()
        writer.writerows(rows)


def _figures(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:.0f}"


def fill(page: Path, rows: list[dict[str, float]]) -> None:
    """Write the coverages (percent) as a table, one row a size, between the marks of a page."""
    found = {(row["diameter_mm"], row["slice_mm"]): row for row in rows}
    lines = ["| diameter (mm) | " + " | ".join(f"{slice_mm:g} mm slices" for slice_mm in SLICES_MM) + " |"]
    lines.append("|---|" + "---|" * len(SLICES_MM))
    for size in DIAMETERS_MM:
        cells = [found[size, slice_mm] for slice_mm in SLICES_MM]
        values = " | ".join(f"{100 * row['coverage']:.1f} % (± {_figures(row['median_half_width_percent'])} %)" for row in cells)
        lines.append(f"| {size:g} | {values} |")
    least, most = min(row["coverage"] for row in rows), max(row["coverage"] for row in rows)
    trials = round(min(row["trials"] for row in rows))
    lines.append("")
    lines.append(
        f"{trials:,} trials in each of {len(rows)} cells; the coverage lies between {100 * least:.1f} and {100 * most:.1f} %. In brackets"
        " the median half width of the interval in percent of the volume."
    )
    text = page.read_text(encoding="utf-8")
    head, rest = text.split("<!-- coverage -->")
    tail = rest.split("<!-- /coverage -->")[1]
    page.write_text(head + "<!-- coverage -->\n" + "\n".join(lines) + "\n<!-- /coverage -->" + tail, encoding="utf-8")


def main() -> None:
    """Run every cell and write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5000, help="per cell")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--page", type=Path, help="put the table of coverages between the marks of this page")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder")
    chosen = parser.parse_args()
    chosen.output.mkdir(parents=True, exist_ok=True)
    path = chosen.output / "uncertainty_coverage.csv"
    rows = [row for row in read(path) if row["trials"] == chosen.trials]
    known = {(row["diameter_mm"], row["slice_mm"]) for row in rows}
    # the dearest cells first, so that no job is left alone with one
    cells = sorted(((d, s) for d in DIAMETERS_MM for s in SLICES_MM), key=lambda pair: -(pair[0] ** 3) / pair[1])
    work = [(d, s, chosen.trials, chosen.seed) for d, s in cells if (d, s) not in known]
    with ProcessPoolExecutor(chosen.jobs) as pool:
        for done in as_completed([pool.submit(cell, arguments) for arguments in work]):
            row = done.result()
            rows.append({name: round(value, 4) for name, value in row.items()})
            print(f"{row['diameter_mm']:5g} mm in {row['slice_mm']:g} mm: {100 * row['coverage']:.1f} %", flush=True)
            write(sorted(rows, key=lambda row: (row["diameter_mm"], row["slice_mm"])), path)
    draw(rows, chosen.output / "uncertainty_coverage.png")
    if chosen.page is not None:
        fill(chosen.page, rows)


if __name__ == "__main__":
    main()
