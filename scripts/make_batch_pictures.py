"""Make docs/pictures/batch_review*.png: a batch over torso phantoms, its contact sheet photographed in the light and in the dark.

`python scripts/make_batch_pictures.py [FOLDER]`; needs a chromium and the extra `learned`. Of the fourteen phantoms one is cut
through the liver, one is hardly more than noise and one file is truncated, so that the sheet has something to say. FOLDER keeps
the studies and the batch.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from medseg.core.volume import Volume
from medseg.io.write import write
from medseg.phantom.catalog import make_phantom

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
COUNT = 14
SPACING_MM = (2.5, 2.5, 4.0)
CUT, NOISY, BROKEN = 3, 7, 11
SHOTS = (("batch_review.png", "1280,1000", ()), ("batch_review_dark.png", "1280,1000", ("--blink-settings=preferredColorScheme=0",)))


def main() -> None:
    """Make the studies, run the batch, photograph the sheet."""
    if len(sys.argv) > 1:
        make(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        make(Path(name))


def make(folder: Path) -> None:
    """Do it all in a folder."""
    make_studies(folder / "studies")
    command = [sys.executable, "-m", "medseg", "batch", str(folder / "studies"), "-o", str(folder / "out"), "--pipeline", "ct-phantom"]
    subprocess.run(command, check=False)  # ends with 1: a case fails on purpose
    photograph(folder / "out" / "qc.html")


def make_studies(folder: Path) -> None:
    """Write one NIfTI file a phantom."""
    for number in range(COUNT):
        noise = 260.0 if number == NOISY else 12.0
        volume = make_phantom("torso", seed=number + 40, spacing_mm=SPACING_MM, noise_hu=noise).volume
        path = folder / f"patient_{number:02}" / "ct.nii.gz"
        write(lower_half(volume) if number == CUT else volume, path, overwrite=True)
        if number == BROKEN:
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 2])


def lower_half(volume: Volume) -> Volume:
    """The lower 60 % of a scan."""
    slices = int(volume.geometry.shape[2] * 0.6)
    shape = (*volume.geometry.shape[:2], slices)
    start = (0, 0, 0) if volume.geometry.affine[2, 2] > 0 else (0, 0, volume.geometry.shape[2] - slices)
    array = np.asfortranarray(volume.array[:, :, start[2] : start[2] + slices])
    return replace(volume, array=array, geometry=volume.geometry.cropped(start, shape))


def photograph(page: Path) -> None:
    """Take the pictures of the first screen."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("no chromium: the pictures stay as they are")
        return
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name, size, more in SHOTS:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={size}", *more]
        subprocess.run([browser, *options, f"--screenshot={PICTURES / name}", page.as_uri()], check=True, capture_output=True)
        print(PICTURES / name)


if __name__ == "__main__":
    main()
