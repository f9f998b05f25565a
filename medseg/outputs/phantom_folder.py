"""The folder of a phantom: its scan, its labels and the truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medseg.io.atomic import check_folder, write_text
from medseg.io.write import write
from medseg.outputs.run_folder import as_json

if TYPE_CHECKING:
    from medseg.phantom import Phantom


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
