"""Every bar of the classical toolbox in one table, written into docs/performance.md.

    python benchmarks/classical.py --folder FIGURES [--rounds 5] [--write]

Runs the cases that have no figures in the folder yet, one after the other, so that an interrupted run can be taken up again;
`--write` puts the table between the marks in docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "performance.md"
START, END = "<!-- classical: start -->", "<!-- classical: end -->"
# (what is said, script, case, our contender or "" for the first, [(peer, least ratio or None)])
ROWS: list[tuple[str, str, str, str, list[tuple[str, float | None]]]] = [
    (
        "region growing, body, 6 neighbours",
        "region_growing",
        "body, 6 neighbours",
        "",
        [("SimpleITK, filter alone", 20), ("threshold and cc3d", 4)],
    ),
    (
        "region growing, body, 26 neighbours",
        "region_growing",
        "body, 26 neighbours",
        "",
        [("SimpleITK, filter alone", 20), ("threshold and cc3d", 4)],
    ),
    (
        "region growing, small region",
        "region_growing",
        "tiny region, 6 neighbours",
        "",
        [("SimpleITK, filter alone", 50), ("scikit-image flood", 50)],
    ),
    (
        "confidence connected, 256³",
        "region_growing",
        "confidence connected, 256³",
        "",
        [("SimpleITK, filter alone", 30)],
    ),
    ("confidence connected", "region_growing", "confidence connected, 512×512×300", "", [("SimpleITK, filter alone", 30)]),
    (
        "marker watershed, 256³",
        "watershed",
        "watershed 256^3, all peers",
        "",
        [("SimpleITK", 8), ("scipy watershed_ift", 8), ("scikit-image", 50)],
    ),
    ("marker watershed", "watershed", "watershed 512x512x300", "", [("SimpleITK", 8)]),
    ("Otsu and mask", "thresholds", "Otsu and mask", "medseg", [("SimpleITK, 256 bins", 15), ("scikit-image", 15)]),
    (
        "multi-Otsu and labels",
        "thresholds",
        "multi-Otsu, 3 classes, and labels",
        "medseg",
        [("SimpleITK, 1024 bins", 15), ("scikit-image", 15)],
    ),
    ("components, 26 neighbours", "components", "components, 26 neighbours", "", [("cc3d", 1.5), ("SimpleITK", None)]),
    ("keep the largest", "components", "keep the largest", "", [("cc3d.largest_k", 6), ("SimpleITK", 6)]),
    ("remove small", "components", "remove small", "", [("cc3d.dust", 6), ("SimpleITK", 6)]),
    ("fill holes", "components", "fill holes", "", [("fill_voids", 6), ("SimpleITK", 6)]),
    ("statistics of 100 labels", "statistics", "statistics of 100 labels", "", [("SimpleITK LabelIntensityStatistics", 20)]),
    (
        "distances in mm, body, 256³",
        "distance",
        "distances in the body, 256^3",
        "",
        [("edt, all cores", 1), ("scipy", 6), ("SimpleITK SignedMaurer", None)],
    ),
    ("distances in mm, body", "distance", "distances in the body, 512x512x300", "", [("edt, all cores", 1), ("scipy", 6)]),
    ("intensities to 1.5 mm", "resample", "intensities to 1.5 mm", "", [("SimpleITK", 5), ("scipy", 15)]),
    ("intensities back", "resample", "intensities back to 0.8 x 0.8 x 1.25 mm", "", [("SimpleITK", 5), ("scipy", 15)]),
    ("labels to 1.5 mm, nearest", "resample", "labels to 1.5 mm, nearest", "", [("SimpleITK nearest", 5), ("scipy order 0", 15)]),
    ("labels back, nearest", "resample", "labels back, nearest", "", [("SimpleITK nearest", 5), ("scipy order 0", 15)]),
    ("Gaussian, 256³", "filters", "Gaussian 1.5 voxels, 256^3", "", [("scipy", 1.5), ("SimpleITK recursive", 2.5)]),
    ("Gaussian", "filters", "Gaussian 1.5 voxels, 512x512x300", "", [("scipy", 1.5), ("SimpleITK recursive", 2.5)]),
    ("median 3³, 256³", "filters", "median 3^3, 256^3", "", [("SimpleITK", 10), ("scipy", 10)]),
    ("median 3³", "filters", "median 3^3, 512x512x300", "", [("SimpleITK", 10), ("scipy", 10)]),
    (
        "anisotropic diffusion, 256³",
        "filters",
        "anisotropic diffusion, 5 steps, 256^3",
        "",
        [("SimpleITK gradient", 5)],
    ),
    ("anisotropic diffusion", "filters", "anisotropic diffusion, 5 steps, 512x512x300", "", [("SimpleITK gradient", 5)]),
    ("click-lesion, liver", "click_lesion", "click-lesion in the liver", "", [("SimpleITK ConfidenceConnected", None)]),
]


def place(folder: Path, script: str, case: str) -> Path:
    """The figures of one case; an older file may hold those of the whole script."""
    whole = folder / f"{script}.json"
    if any(row.get("case") == case for row in (json.loads(whole.read_text())["rows"] if whole.is_file() else [])):
        return whole
    return folder / f"{script}-{'-'.join(''.join(c if c.isalnum() else ' ' for c in case).split())}.json"


def figures(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {"rows": []}


def found(rows: list[dict[str, Any]], case: str, contender: str) -> dict[str, Any] | None:
    fitting = [row for row in rows if row["case"] == case and (not contender or row["contender"] == contender)]
    return fitting[0] if fitting else None


def megabytes(row: dict[str, Any]) -> str:
    return "" if row["peak_mb"] is None else f"; {row['peak_mb']:.0f}"


def line(folder: Path, entry: tuple[str, str, str, str, list[tuple[str, float | None]]]) -> str | None:
    title, script, case, contender, peers = entry
    rows = figures(place(folder, script, case))["rows"]
    ours = found(rows, case, contender)
    if ours is None:
        return None
    told = []
    for name, least in peers:
        theirs = found(rows, case, name)
        if theirs is None:
            continue
        ratio = theirs["median_s"] / ours["median_s"]
        bar = "" if least is None else f" (goal {least:g}{'' if ratio >= least else ', missed'})"
        equal = "" if theirs["agreement"] is None else f"{theirs['agreement']:.6g}"
        told.append((f"{name} {theirs['median_s']:.3g}{megabytes(theirs)}", f"{ratio:.3g}{bar}", equal))
    seconds = f"{ours['median_s']:.3g}{megabytes(ours)}"
    columns = ["<br>".join(one[n] for one in told) for n in range(3)]
    return "| " + " | ".join((f"{title} (`bench_{script}.py`)", seconds, *columns)) + " |"


def growth(folder: Path) -> list[str]:
    """Nanoseconds a voxel at every size, from bench_linear.py."""
    content = figures(folder / "linear.json")
    if not content["rows"]:
        return []
    sizes = list(content["rows"][0]["ns_per_voxel"])
    head = [
        "",
        f"Nanoseconds per voxel as the scan grows (`bench_linear.py`, medians of {content['rounds']}): "
        "from 256³ on it rises by at most 10 %.",
        "",
    ]
    head += ["| operation | " + " | ".join(sizes) + " |", "|---|" + "---|" * len(sizes)]
    return head + [
        f"| {row['operation']} | " + " | ".join(f"{row['ns_per_voxel'][size]:.3g}" for size in sizes) + " |" for row in content["rows"]
    ]


def page(folder: Path) -> str:
    lines = [text for text in (line(folder, entry) for entry in ROWS) if text]
    contents = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json")) if path.name != "linear.json"]
    known, rounds = [content["machine"]["load"] for content in contents], [content["rounds"] for content in contents]
    told = (
        f"Medians of {min(rounds)} alternating rounds or more on 2 shared cores, 512×512×300 int16 unless said (a real abdominal CT "
        f"made finer); load of the machine when the scripts ended: {min(known):.1f} to {max(known):.1f}. Extra peak memory of one call "
        "in a fresh process, in MB. The last column is the share of voxels in which the peer agrees within the tolerance that the script "
        "states (0.01 HU for Gaussians: ITK's are approximations), or a correlation for diffusion."
    )
    head = ["", told, "", "| operation | medseg s; MB | peer s; MB | ratio | agreement |", "|---|---|---|---|---|"]
    return "\n".join([*head, *lines, *growth(folder), ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--write", action="store_true", help="write the table into docs/performance.md")
    parser.add_argument("--no-run", action="store_true", help="only the table of what is there")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    given = ["--data", str(options.data), "--rounds", str(options.rounds)]
    for _, script, case, _, _ in () if options.no_run else ROWS:
        out = place(options.folder, script, case)
        if not out.is_file():
            subprocess.run([sys.executable, str(HERE / f"bench_{script}.py"), *given, "--case", case, "--out", str(out)], check=True)
    linear = options.folder / "linear.json"
    if not linear.is_file() and not options.no_run:
        subprocess.run([sys.executable, str(HERE / "bench_linear.py"), *given, "--out", str(linear)], check=True)
    text = page(options.folder)
    print(text)
    if options.write:
        before, _, rest = PAGE.read_text().partition(START)
        PAGE.write_text(before + START + "\n" + text + "\n" + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
