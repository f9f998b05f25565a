"""Make the pictures of the docs from the sample study: `python scripts/make_pictures.py`.

Runs both built-in pipelines on sample_data/torso and copies their pictures to docs/pictures. Where a chromium is installed, the
report of the demo is photographed too.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from medseg.cli.run import read_truth
from medseg.outputs import run

ROOT = Path(__file__).resolve().parents[1]
STUDY = ROOT / "sample_data" / "torso"
PICTURES = ROOT / "docs" / "pictures"


def main() -> None:
    """Run both pipelines and copy what the docs show."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run("ct-phantom", STUDY / "dicom", folder / "demo", truth=read_truth(str(STUDY / "truth.json")))
        run("ct-body-composition", STUDY / "dicom", folder / "body")
        for source, target in (
            ("demo/pictures/three_planes.png", "demo_three_planes.png"),
            ("demo/pictures/rendering_3d.png", "demo_rendering_3d.png"),
            ("body/pictures/three_planes.png", "body_composition.png"),
        ):
            shutil.copy(folder / source, PICTURES / target)
        photograph(folder / "demo" / "report.html", PICTURES / "demo_report.png")


def photograph(page: Path, target: Path) -> None:
    """Take a picture of the top of a page, where a browser is there to do it."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("no chromium: the picture of the report stays as it is")
        return
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1000,1350"]
    subprocess.run([browser, *options, f"--screenshot={target}", page.as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    main()
