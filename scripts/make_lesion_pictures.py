"""Make the pictures of docs/lesions.md: `python scripts/make_lesion_pictures.py [--data FOLDER]`.

The tumour of the sample study with its calipers; and, where the folder of real scans is there, one soft-tissue sarcoma on CT,
MR and PET side by side (STS_002 of the IBSI validation set, The Cancer Imaging Archive, CC BY 3.0).
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from PIL import Image

from medseg.io.lesion_files import read_lesion_scan
from medseg.measurement.lesions import lesions
from medseg.reporting.calipers import calipers_png

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
WIDTH = 620  # of each picture side by side


def main() -> None:
    """Draw and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    options = parser.parse_args()
    sample = ROOT / "sample_data" / "torso"
    (PICTURES / "lesion_calipers.png").write_bytes(picture(sample / "labels.nii.gz", sample / "dicom", "tumour"))
    case = options.data / "tumour_sts_002"
    if not case.is_dir():
        print(f"no {case.name}: the picture of the sarcoma stays as it is")
        return
    pages = [picture(case / "rtstruct" / f"{name}_RS.dcm", case / "dicom" / name) for name in ("CT", "MR_T1", "PET")]
    side_by_side(pages).save(PICTURES / "lesion_sarcoma.png", optimize=True)


def picture(segmentation: Path, image: Path, segment: str | None = None) -> bytes:
    """The picture of the largest lesion."""
    scan = read_lesion_scan(segmentation, image)
    table = lesions(scan.layers, scan.volume, segments=None if segment is None else [segment])
    return calipers_png(table, table.lesions[0], scan.volume)


def side_by_side(pages: list[bytes]) -> Image.Image:
    """All pictures at one width in a row."""
    opened = [Image.open(io.BytesIO(page)).convert("RGB") for page in pages]
    scaled = [image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS) for image in opened]
    row = Image.new("RGB", (WIDTH * len(scaled), max(image.height for image in scaled)), (10, 13, 18))
    for n, image in enumerate(scaled):
        row.paste(image, (n * WIDTH, 0))
    return row


if __name__ == "__main__":
    main()
