"""Makes the shipped model `hippocampus-t1` out of a training run: codes, title and intended use, and which case each fold left out.

    medseg train ../shared/data/msd_task04_hippocampus -o RUN --name hippocampus-t1 --device cpu
    python scripts/make_hippocampus_model.py RUN -o medseg/models/hippocampus-t1

The first command is the whole training (5 folds of 3000 steps; the plan is made by its rules). The data, Task04 of the Medical
Segmentation Decathlon, are CC-BY-SA 4.0 and no part of this repository; neither is any image of them. The weights carry the same licence.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from medseg.segmentation.learned.store import find_model

TITLE = "Anterior and posterior hippocampus in T1 MR crops"
USE = (
    "Research on T1-weighted MR: volumes of the anterior and posterior hippocampus in a crop of about 35 × 50 × 35 mm around one "
    "hippocampus (left or right) at 1 mm, as in the Medical Segmentation Decathlon. Not for whole heads: outside such a crop it finds "
    "what is not there. Not a medical device; look at every result."
)
LARGEST_BYTES = 10_000_000
ANATOMY = {"scheme": "SCT", "value": "123037004", "meaning": "Anatomical Structure"}
HIPPOCAMPUS = {"scheme": "SCT", "value": "5366008", "meaning": "Hippocampus"}
PARTS = {
    "Anterior": ("hippocampus_anterior", {"scheme": "SCT", "value": "255549009", "meaning": "Anterior"}),
    "Posterior": ("hippocampus_posterior", {"scheme": "SCT", "value": "255551008", "meaning": "Posterior"}),
}


def main() -> None:
    """Write the model folder and read it back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of medseg train")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    entries = described(json.loads((given.run / "model.json").read_text()), given.run)
    given.output.mkdir(parents=True, exist_ok=True)
    for weights in entries["weights"]:
        shutil.copyfile(given.run / weights["file"], given.output / weights["file"])
    (given.output / "model.json").write_text(json.dumps(entries, indent=1) + "\n")
    (given.output / "MODEL_CARD.md").write_text(carded((given.run / "MODEL_CARD.md").read_text(), entries))
    find_model(given.output).check_weights()
    size = sum(file.stat().st_size for file in given.output.iterdir())
    if size > LARGEST_BYTES:
        raise SystemExit(f"{given.output} has {size} bytes, more than {LARGEST_BYTES}")
    print(f"{given.output}: {size / 1e6:.1f} MB, {len(entries['weights'])} folds")


def described(entries: dict[str, Any], run: Path) -> dict[str, Any]:
    """Return model.json with terms for its segments and the cases that each fold was scored on."""
    entries = dict(entries, title=TITLE, intended_use=USE)
    segments = []
    for segment in entries["segments"]:
        label, part = PARTS[segment["label"]]
        segments.append({**segment, "label": label, "category": ANATOMY, "type": HIPPOCAMPUS, "modifier": part})
    entries["segments"] = segments
    if not isinstance(entries["weights"], list) or len(entries["weights"]) != entries["training"]["folds_planned"]:
        raise SystemExit("the run has not trained all of its folds yet")
    scored = {}
    for fold in entries["training"]["folds"]:
        scores = json.loads((run / f"fold_{fold}" / "scores.json").read_text())
        scored[fold] = sorted({case["case"] for case in scores["cases"]})
    entries["training"] = {**entries["training"], "script": "scripts/make_hippocampus_model.py", "cases_left_out": scored}
    return entries


def carded(card: str, entries: dict[str, Any]) -> str:
    """Return the model card under the title and the intended use of the shipped model."""
    lines = card.splitlines()
    lines[0] = f"# {entries['title']}"
    use = lines.index("## Intended use")
    lines[use + 2] = entries["intended_use"]
    text = "\n".join(lines) + "\n"
    for before, (after, _) in PARTS.items():
        text = text.replace(f"| {before} |", f"| {after} |")
    return text


if __name__ == "__main__":
    main()
