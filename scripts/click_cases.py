"""Scans with known structures that the click network learns from, and those that it is measured on.

Only data whose licence lets trained weights be passed on: Apache-2.0, MIT, BSD-3 and CC-BY, and phantoms drawn by this
package. What lies under share-alike or non-commercial terms is at most measured on, never learned from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.io.read import read, read_label_map
from medseg.phantom import make_torso
from medseg.preprocessing.resample import fit_to

FIRST_TRAINING_SEED, FIRST_TEST_SEED = 200_000, 910_000
# structures of the two TotalSegmentator example scans that are never learned from
HELD_OUT = ("spleen", "kidney_left", "gallbladder", "aorta", "stomach")
LEAST_ML = 1.5
LICENCES = {
    "medseg.phantom": "Apache-2.0",
    "TotalSegmentator example CT and MR": "Apache-2.0",
    "STS soft-tissue sarcoma (TCIA, IBSI validation), patients 002 and 019": "CC-BY-3.0",
    "pyradiomics test case brain1": "BSD-3-Clause",
    "slicerio test case CTChest": "MIT",
    "sct_testing_data, T1 of the spinal cord": "MIT",
}


@dataclass(frozen=True, eq=False)
class Case:
    """A scan with its structures: `labels` (i,j,k), the numbers that count, and a name for tables."""

    name: str
    scan: Volume
    labels: npt.NDArray[Any]
    structures: dict[int, str]
    weight: float = 1.0

    @property
    def geometry(self) -> Geometry:
        """The grid of both."""
        return self.scan.geometry


def training_cases(shared: Path | None, torsos: int) -> Iterator[Case]:
    """Yield the cases to learn from; without the folder of shared data the phantoms alone."""
    for n in range(torsos):
        diameter = (None, 14.0, 22.0, 34.0)[n % 4]
        yield phantom_case(FIRST_TRAINING_SEED + n, ("coarse", "sample", "coarse")[n % 3], diameter)
    if shared is None:
        return
    organs, mr = shared / "ct_totalseg_organs", shared / "mr_totalseg_organs"
    yield _case("CT organs", organs, "image.nii.gz", "labels_full.nii.gz", 10, lambda s: s not in HELD_OUT)
    yield _case("MR organs", mr, "image.nii.gz", "labels.nii.gz", 8, lambda s: s not in HELD_OUT)
    for patient in ("002", "019"):
        for kind in ("CT", "MR_T1"):
            folder = f"tumour_sts_{patient}/reference"
            yield _case(f"sarcoma {patient} {kind}", shared, f"{folder}/{kind}_image.nii.gz", f"{folder}/{kind}_mask.nii.gz", 2)
    brain = "tumour_pyradiomics_brain1/brain1_"
    yield _case("brain tumour MR", shared, f"{brain}image.nrrd", f"{brain}label.nrrd", 1)
    yield _case("CT chest", shared, "nrrd_slicer_ctchest/CTChest4.nrrd", "nrrd_slicer_ctchest/Segmentation.seg.nrrd", 2)
    yield _case("cord MR", shared, "mr_spinal_cord_t1_t2/t1w.nii.gz", "mr_spinal_cord_t1_t2/t1w_seg-manual.nii.gz", 1)


def test_cases(shared: Path | None) -> Iterator[Case]:
    """Yield the cases to measure on: other bodies, other patients, and structures of known scans never learned from."""
    yield phantom_case(FIRST_TEST_SEED, "standard", None)
    if shared is None:
        return
    organs, mr = shared / "ct_totalseg_organs", shared / "mr_totalseg_organs"
    yield _case("CT organs held out", organs, "image.nii.gz", "labels_full.nii.gz", 1, HELD_OUT.__contains__)
    yield _case("MR organs held out", mr, "image.nii.gz", "labels.nii.gz", 1, HELD_OUT.__contains__)
    yield _case("CT of another patient", shared, "ct_totalseg_dicom/dicom", "ct_totalseg_dicom/labels.nii.gz", 1)
    for kind in ("CT", "MR_T1"):
        folder = "tumour_sts_025/reference"
        yield _case(f"sarcoma 025 {kind}", shared, f"{folder}/{kind}_image.nii.gz", f"{folder}/{kind}_mask.nii.gz", 1)
    brains = shared / "msd_task04_hippocampus"
    for file in sorted((brains / "labelsTr").glob("*.nii.gz"))[:39:13]:
        case = _case(f"hippocampus MR {file.name[:15]}", brains, f"imagesTr/{file.name}", f"labelsTr/{file.name}", 1)
        yield Case("hippocampus MR", case.scan, (case.labels > 0).astype(np.uint8), {1: "hippocampus"})


def phantom_case(seed: int, preset: str, tumour_diameter_mm: float | None) -> Case:
    """Return a torso and its structures; the whole body is none of them."""
    torso = make_torso(seed, preset=preset, tumour_diameter_mm=tumour_diameter_mm)
    structures = {s.number: s.label for s in torso.label_map.segments if s.label != "body"}
    return Case("phantom CT", torso.volume, torso.label_map.array, structures)


def _case(name: str, shared: Path, image: str, labels: str, weight: float, wanted: Callable[[str], bool] = lambda _: True) -> Case:
    scan = read(shared / image)
    label_map = read_label_map(shared / labels)
    if not label_map.geometry.matches(scan.geometry):
        label_map = fit_to(label_map, scan.geometry)
    names = _totalsegmentator_names(shared / labels) if "totalseg" in str(shared / labels) else {}
    least = LEAST_ML * 1000 / scan.geometry.voxel_volume_mm3
    structures = {}
    for segment in label_map.segments:
        label = names.get(segment.number, segment.label)
        if wanted(label) and np.count_nonzero(label_map.array == segment.number) >= least:
            structures[segment.number] = label
    return Case(name, scan, label_map.array, structures, weight)


def _totalsegmentator_names(path: Path) -> dict[int, str]:
    """Return the names of the labels as the folder's description lists them."""
    import json

    document = json.loads((path.parent / "expected.json").read_text(encoding="utf-8"))
    found: dict[int, str] = {}

    def visit(value: Any) -> None:
        if isinstance(value, dict):
            for key, entry in value.items():
                if isinstance(entry, dict) and key.isdigit() and "name" in entry:
                    found[int(key)] = entry["name"]
                visit(entry)

    visit(document.get("labels", document))
    return found
