"""Make docs/report.md's pictures and table from real tumours: `python scripts/make_report_pictures.py [FOLDER OF SCANS]`.

The scans are the soft-tissue sarcomas STS_002, STS_019 and STS_025 as the Image Biomarker Standardisation Initiative prepared them
(CT, T1 MR and FDG-PET with contours): Vallières et al. 2015, The Cancer Imaging Archive, doi:10.7937/K9/TCIA.2015.7GO2GSKS,
CC BY 3.0. They lie beside the repository, not in it. Pictures need a chromium.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from medseg.outputs.report_folder import Given, ReportOptions, ReportOutput, report_of_segmentations
from medseg.reporting.comparison import Case, compare_cases
from medseg.reporting.wording import format_volume

ROOT = Path(__file__).resolve().parents[1]
SCANS = ROOT.parent / "shared" / "data"
PAGE = ROOT / "docs" / "report.md"
PICTURES = ROOT / "docs" / "pictures"
PATIENTS = ("002", "019", "025")
SERIES = (("CT", "CT"), ("MR_T1", "MR T1"), ("PET", "PET"))
SHOWN = "019"
ATTRIBUTION = (
    "Scans and contours: Vallières, M. et al. (2015), Soft-tissue-Sarcoma, The Cancer Imaging Archive, "
    "doi:10.7937/K9/TCIA.2015.7GO2GSKS, CC BY 3.0; cropped and resampled in intensity by the Image Biomarker Standardisation Initiative."
)
_TABLE = re.compile(r"(<!-- table: begin -->\n).*?(<!-- table: end -->)", re.DOTALL)


def main() -> None:
    """Report on the three patients, photograph one report, and put the volumes of all into the page."""
    scans = Path(sys.argv[1]) if len(sys.argv) > 1 else SCANS
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for patient in PATIENTS:
            folder = Path(name) / f"STS_{patient}"
            done = report(scans / f"tumour_sts_{patient}", folder, f"Soft-tissue sarcoma STS_{patient}")
            rows += table_rows(done, patient)
            if patient == SHOWN:
                photograph(folder)
    columns = ("patient", "scan", "spacing (mm)", "volume (ml)", "95 % interval (ml)", "half a voxel out or in (ml)")
    columns += ("difference (ml)", "longest diameter (mm)")
    text = "\n".join([f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *rows]) + "\n"
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_TABLE.sub(lambda match: match.group(1) + text + match.group(2), page), encoding="utf-8")
    print(text)


def report(case: Path, folder: Path, title: str) -> ReportOutput:
    """One report of the three scans of a patient."""
    given = [Given(case / "rtstruct" / f"{series}_RS.dcm", case / "dicom" / series, name) for series, name in SERIES]
    options = ReportOptions(title=title, attribution=ATTRIBUTION, pdf=True, methods_text=True, lesions=True)
    return report_of_segmentations(given, folder, options=options)


def table_rows(done: ReportOutput, patient: str) -> list[str]:
    """One line a scan."""
    compared = compare_cases([Case(content.title, content.table) for content in done.contents])
    lines = []
    for content, row in zip(done.contents, compared, strict=True):
        low, high = (format_volume(bound) for bound in row.interval_ml or (0.0, 0.0))
        shell = content.table.rows[0].measurements["half_voxel_shell_ml"].value
        spacing = " × ".join(f"{step:.2f}" for step in content.geometry.spacing_mm) if content.geometry else ""
        difference = "" if row.difference_ml is None else f"{row.difference_ml:+.3f}"
        longest = content.sections[0].document["lesions"][0]["longest_diameter_mm"]
        lines.append(
            f"| STS_{patient} | {row.case} | {spacing} | {format_volume(row.volume_ml or 0.0)} | {low} to {high} | "
            f"± {format_volume(shell or 0.0)} | {difference} | {longest:.1f} |"
        )
    return lines


def photograph(folder: Path) -> None:
    """Pictures of the report in the light and in the dark, of one scan's own report, and of the first pages of the PDF."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("no chromium: the pictures stay as they are")
        return
    PICTURES.mkdir(parents=True, exist_ok=True)
    shots = (
        (folder / "report.html", "report_comparison.png", "1000,1590", ()),
        (folder / "MR_T1" / "report.html", "report_tumour.png", "1000,1150", ()),
        (folder / "MR_T1" / "report.html", "report_tumour_dark.png", "1000,1150", ("--blink-settings=preferredColorScheme=0",)),
    )
    for page, name, size, more in shots:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={size}", *more]
        subprocess.run([browser, *options, f"--screenshot={PICTURES / name}", page.as_uri()], check=True, capture_output=True)
    pages(folder / "report.pdf", PICTURES / "report_pdf.png")


def pages(pdf: Path, target: Path, count: int = 4) -> None:
    """Put the first pages of a PDF side by side."""
    import pypdfium2
    from PIL import Image

    document = pypdfium2.PdfDocument(pdf)
    images = [document[n].render(scale=0.62).to_pil() for n in range(min(count, len(document)))]
    sheet = Image.new("RGB", (sum(image.width + 12 for image in images) + 12, images[0].height + 24), "#8b929c")
    left = 12
    for image in images:
        sheet.paste(image, (left, 12))
        left += image.width + 12
    sheet.save(target, optimize=True)


if __name__ == "__main__":
    main()
