"""The folder of a phantom: its scan, its labels and the truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medseg.io.atomic import check_folder, write_text
from medseg.io.write import write
from medseg.outputs.run_folder import as_json

if TYPE_CHECKING:
    from medseg.phantom import Phantom
    from medseg.phantom.growth import GrowthStudy


def write_phantom(made: Phantom, folder: Path, *, form: str = "both", compressed: bool = False, overwrite: bool = False) -> dict[str, Path]:
    """Write a phantom: `dicom/` and `image.nii.gz` (as `form` says), `labels.nii.gz` with its names, and `truth.json`."""
    check_folder(folder)
    files: dict[str, Path] = {}
    if form in ("both", "dicom"):
        from medseg.io.dicom.series import write_series

        seed = f"medseg.phantom {made.truth['name']} {made.truth['seed']} {made.volume.geometry.spacing_mm}"
        write_series(made.volume, folder / "dicom", seed=seed, compressed=compressed, overwrite=overwrite)
        files["dicom"] = folder / "dicom"
    if form in ("both", "nifti"):
        files["image"] = write(made.volume, folder / "image.nii.gz", overwrite=overwrite)
    files["labels"] = write(made.label_map, folder / "labels.nii.gz", overwrite=overwrite)
    files["truth"] = write_text(folder / "truth.json", as_json(made.truth), overwrite=overwrite)
    return files


def write_growth(study: GrowthStudy, folder: Path, *, overwrite: bool = False) -> dict[str, Path]:
    """Write a growth study: `image.nii.gz`, `lesions.nii.gz` and `organs.nii.gz` of each scan in `day_N/`, and one `truth.json`."""
    check_folder(folder)
    files: dict[str, Path] = {}
    for scan in study.scans:
        home = check_folder(folder / f"day_{scan.days:g}")
        for name, value in (("image", scan.volume), ("lesions", scan.label_map), ("organs", scan.organs)):
            files[f"{home.name}/{name}"] = write(value, home / f"{name}.nii.gz", overwrite=overwrite)
    files["truth"] = write_text(folder / "truth.json", as_json(study.truth), overwrite=overwrite)
    return files
