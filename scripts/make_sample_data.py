"""Make sample_data/ anew and write its MANIFEST.tsv: `python scripts/make_sample_data.py [FOLDER]`."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from medseg.cli.main import run

COMMAND = "medseg phantom torso --preset sample --seed 16 --format dicom --compressed -o {folder}/torso"
ORIGIN = "made by medseg.phantom; Apache-2.0; no patient"


def make(folder: Path) -> None:
    """Write the study and the manifest."""
    words = COMMAND.format(folder=folder).split()[1:]
    if run([*words, "--overwrite", "--quiet"]) != 0:
        raise SystemExit("the phantom could not be written")
    rows = [f"# {COMMAND.format(folder='sample_data')}", f"# {ORIGIN}", "sha256\tbytes\tfile"]
    for path in sorted(path for path in (folder / "torso").rglob("*") if path.is_file()):
        data = path.read_bytes()
        rows.append(f"{hashlib.sha256(data).hexdigest()}\t{len(data)}\t{path.relative_to(folder).as_posix()}")
    (folder / "MANIFEST.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1] / "sample_data")
