from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import nibabel.orientations as turning
import numpy as np
import pytest
from scipy import ndimage

from medseg.core.errors import InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.phantom.scanner import scan, truth_label_map
from medseg.phantom.torso import torso_anatomy
from medseg.segmentation.segment import segment

BARS = {"skeletal_muscle": 0.65, "subcutaneous_fat": 0.88, "torso_fat": 0.80}
# the parts of the phantom whose segments body composition has to find again
TISSUES = {
    "muscle wall": "skeletal_muscle",
    "back muscle right": "skeletal_muscle",
    "back muscle left": "skeletal_muscle",
    "psoas right": "skeletal_muscle",
    "psoas left": "skeletal_muscle",
    "subcutaneous fat": "subcutaneous_fat",
    "cavity": "torso_fat",
    "aorta": "aorta",
    "couch": "couch",
    "couch foam": "couch",
}


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


def codes(found: LabelMap) -> set[str]:
    return {finding.code for finding in found.findings}


def mask_of(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj) > 0


@pytest.fixture(scope="module")
def composed(ct: Volume) -> LabelMap:
    return segment(ct, "body-composition")


@pytest.fixture(scope="module")
def organs(shared_data: Path) -> dict[str, np.ndarray]:
    return {path.name[:-7]: mask_of(path) for path in sorted((shared_data / "ct_totalseg_organs" / "masks_fast").glob("*.nii.gz"))}


@pytest.fixture(scope="module")
def phantom() -> tuple[Volume, LabelMap]:
    """A torso with contrast medium, and the truth for its tissues."""
    anatomy = torso_anatomy(1)
    parts = [replace(part, label=TISSUES.get(part.name, part.label)) for part in anatomy.structures]
    more = [Segment(20 + n, label) for n, label in enumerate(dict.fromkeys(TISSUES.values()))]
    labelled = replace(anatomy, structures=tuple(parts), segments=(*anatomy.segments, *more))
    affine = np.diag([-2.5, -2.5, 5.0, 1.0])
    affine[:3, 3] = (210, 160, -150)
    geometry = Geometry((168, 128, 64), affine)
    return scan(anatomy, geometry, noise_hu=15, supersampling=2), truth_label_map(labelled, geometry, supersampling=2)


@pytest.fixture(scope="module")
def composed_phantom(phantom: tuple[Volume, LabelMap]) -> LabelMap:
    return segment(phantom[0], "body-composition")


# a real scan


@pytest.mark.parametrize("label", BARS)
def test_tissues_agree_with_the_reference_masks(composed: LabelMap, shared_data: Path, label: str) -> None:
    reference = mask_of(shared_data / "ct_totalseg_body_composition" / f"{label}.nii.gz")
    assert dice(composed.mask(label), reference) >= BARS[label]


def test_muscles_are_found_and_organs_of_the_same_density_are_not_muscle(composed: LabelMap, organs: dict[str, np.ndarray]) -> None:
    muscle, bone, air = (composed.mask(label) for label in ("skeletal_muscle", "bone", "air"))
    for name in ("autochthon_left", "autochthon_right"):
        assert muscle[organs[name]].mean() > 0.9, name
    for name in ("liver", "spleen", "kidney_left", "kidney_right", "pancreas", "aorta", "inferior_vena_cava"):
        # the right kidney of this patient lies against the psoas without fat between them
        assert muscle[organs[name]].mean() < (0.05 if name == "kidney_right" else 0.02), name
    for name in ("vertebrae_T12", "vertebrae_L1"):
        assert bone[organs[name]].mean() > 0.9, name
    for name in ("lung_lower_lobe_left", "lung_lower_lobe_right"):
        assert air[organs[name]].mean() > 0.85, name


def test_every_tissue_keeps_to_its_range(ct: Volume, composed: LabelMap) -> None:
    for label, (low, high) in {
        "skeletal_muscle": (-29, 150),
        "subcutaneous_fat": (-190, -30),
        "torso_fat": (-190, -30),
        "air": (-3000, -300),
    }.items():
        values = ct.array[composed.mask(label)]
        assert values.size > 1000
        assert low <= values.min() <= values.max() <= high, label


def test_the_body_is_whole_and_nothing_outside_is_labelled(ct: Volume, composed: LabelMap) -> None:
    dense, _ = ndimage.label(ct.array > -300)
    largest = dense == np.bincount(dense.ravel())[1:].argmax() + 1
    filled = np.stack([ndimage.binary_fill_holes(plane) for plane in np.moveaxis(largest, 2, 0)], axis=2)
    labelled = composed.array > 0
    assert np.count_nonzero(labelled & ~filled) < 0.001 * filled.sum()
    assert np.count_nonzero(filled & ~labelled) < 0.001 * filled.sum()


@pytest.mark.parametrize("orientation", ["LPS", "PIR", "SAL"])
def test_the_stored_orientation_does_not_matter(ct: Volume, composed: LabelMap, orientation: str) -> None:
    image = nibabel.Nifti1Image(np.asarray(ct.array), ct.geometry.affine)
    there = turning.ornt_transform(turning.io_orientation(image.affine), turning.axcodes2ornt(orientation))
    turned = image.as_reoriented(there)
    array = np.asarray(turned.dataobj)
    found = segment(Volume(array, Geometry(array.shape, turned.affine), "CT", "HU"), "body-composition")
    back = turning.ornt_transform(turning.io_orientation(turned.affine), turning.io_orientation(image.affine))
    again = np.asarray(nibabel.Nifti1Image(found.array, turned.affine).as_reoriented(back).dataobj)
    assert np.count_nonzero(again != composed.array) <= 5


def test_thin_noisy_slices_give_the_tissues_of_thick_ones(ct: Volume, composed: LabelMap) -> None:
    factors = np.array([3, 3, 2])
    fine = ndimage.zoom(np.asarray(ct.array, np.float32), factors, order=1, mode="nearest", grid_mode=True)
    fine += np.random.default_rng(0).normal(0, 25, fine.shape)
    affine = ct.geometry.affine.copy()
    affine[:3, :3] /= factors
    affine[:3, 3] += affine[:3, :3] @ ((1 - factors) / 2)
    found = segment(Volume(np.rint(fine).astype(np.int16), Geometry(fine.shape, affine), "CT", "HU"), "body-composition")
    for label, least in {"skeletal_muscle": 0.85, "subcutaneous_fat": 0.85, "torso_fat": 0.85, "air": 0.9}.items():
        thick = np.kron(composed.mask(label), np.ones(factors, bool))
        assert dice(found.mask(label), thick) > least, label


def test_short_and_single_slice_stacks_keep_their_tissues(ct: Volume, composed: LabelMap) -> None:
    for first, stop, least in ((20, 28, 0.9), (12, 13, 0.8)):
        geometry = ct.geometry.cropped((0, 0, first), (*ct.array.shape[:2], stop - first))
        found = segment(Volume(np.asarray(ct.array)[:, :, first:stop], geometry, "CT", "HU"), "body-composition")
        for label in BARS:
            assert dice(found.mask(label), composed.mask(label)[:, :, first:stop]) > least, (first, label)


def test_arms_beside_the_trunk_and_the_couch_are_left_out(shared_data: Path) -> None:
    import SimpleITK as sitk

    folder = shared_data / "ct_totalseg_dicom" / "dicom"
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    spacing, origin = np.array(image.GetSpacing()), np.array(image.GetOrigin())
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = origin * (-1, -1, 1)
    array = sitk.GetArrayFromImage(image).T
    found = segment(Volume(array, Geometry(array.shape, affine), "CT", "HU"), "body-composition").array
    reference = np.asarray(nibabel.load(shared_data / "ct_totalseg_dicom" / "labels.nii.gz").dataobj)
    assert reference.shape == found.shape
    assert not found[:60].any()  # one arm, apart from the trunk
    assert not found[490:].any()  # the other, parted from it by a gap narrower than a block of the coarse grid
    assert (found > 0).any(axis=(1, 2)).sum() > 300
    couch = ndimage.binary_erosion(array > -300) & (np.arange(512)[None, :, None] > 440)
    assert couch.sum() > 1000
    assert not found[couch].any()


# a phantom with answers known from formulas


def test_tissues_agree_with_the_formulas_of_a_phantom(phantom: tuple[Volume, LabelMap], composed_phantom: LabelMap) -> None:
    _, truth = phantom
    for label, least in {"skeletal_muscle": 0.85, "subcutaneous_fat": 0.93, "torso_fat": 0.95}.items():
        assert dice(composed_phantom.mask(label), truth.mask(label)) > least, label
    muscle, air = composed_phantom.mask("skeletal_muscle"), composed_phantom.mask("air")
    assert muscle[truth.mask("liver")].mean() < 0.01
    assert air[truth.mask("lung_left")].mean() > 0.9
    assert not composed_phantom.array[truth.mask("couch")].any()
    assert not composed_phantom.array[truth.array == 0].astype(bool).mean() > 0.01
    assert codes(composed_phantom) == set()


def test_blood_and_kidneys_full_of_contrast_medium_are_not_bone(phantom: tuple[Volume, LabelMap], composed_phantom: LabelMap) -> None:
    volume, truth = phantom
    bone = composed_phantom.mask("bone")
    for label in ("kidney_left", "kidney_right", "aorta"):
        assert volume.array[truth.mask(label)].mean() > 140
        assert bone[truth.mask(label)].mean() < 0.15, label
    assert bone[truth.mask("spine")].mean() > 0.9


def test_an_oblique_grid_gives_the_same_volumes(phantom: tuple[Volume, LabelMap], composed_phantom: LabelMap) -> None:
    tilt = np.radians(15)
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    volume = phantom[0]
    affine = volume.geometry.affine.copy()
    affine[:3] = turn @ affine[:3]
    found = segment(volume.with_array(volume.array, Geometry(volume.array.shape, affine)), "body-composition")
    assert np.count_nonzero(found.array != composed_phantom.array) < 1e-3 * found.array.size


def test_lungs_cut_open_by_the_field_of_view_stay_inside(phantom: tuple[Volume, LabelMap]) -> None:
    volume, truth = phantom
    first = int(np.flatnonzero(truth.mask("lung_right").any(axis=(1, 2))).mean())
    geometry = volume.geometry.cropped((first, 0, 0), (168 - first, 128, 64))
    found = segment(Volume(np.asarray(volume.array)[first:], geometry, "CT", "HU"), "body-composition")
    lung = truth.mask("lung_right")[first:]
    assert found.mask("air")[lung].mean() > 0.85
    (cut,) = [finding for finding in found.findings if finding.code == "BODY_CUT"]
    assert list(cut.details["share_of_side"]) == ["right"]


def test_an_arm_that_touches_the_trunk_is_told_from_it() -> None:
    x, y, _ = np.meshgrid(np.arange(160), np.arange(100), np.arange(20), indexing="ij")
    hu = np.full(x.shape, -1000, np.int16)
    trunk = ((x - 60) / 50) ** 2 + ((y - 50) / 35) ** 2 < 1
    arm = (x - 125) ** 2 + (y - 50) ** 2 < 16**2
    hu[trunk | arm] = 30
    hu[(x - 125) ** 2 + (y - 50) ** 2 < 4**2] = 600
    hu[(x == 110) & (abs(y - 50) > 3)] = -1000  # they touch over seven voxels, 21 mm
    affine = np.diag([3.0, 3.0, 5.0, 1.0])
    found = segment(Volume(hu, Geometry(hu.shape, affine), "CT", "HU"), "body-composition")
    assert "ARMS_LEFT_OUT" in codes(found)
    assert (found.array > 0)[trunk].mean() > 0.98
    assert (found.array > 0)[arm & ~trunk].mean() < 0.05


# what it refuses and what it warns of


def test_scans_that_are_not_in_hounsfield_units_are_refused(ct: Volume) -> None:
    with pytest.raises(InputError, match="MR"):
        segment(replace(ct, modality="MR", unit=""), "body-composition")
    with pytest.raises(InputError, match="Hounsfield"):
        segment(replace(ct, modality="", unit="", array=np.asarray(ct.array) + 1100), "body-composition")
    with pytest.raises(InputError, match="SUV"):
        segment(replace(ct, unit="SUV"), "body-composition")
    assert "UNIT_ASSUMED" in codes(segment(replace(ct, modality="", unit=""), "body-composition"))


def test_what_does_not_look_like_a_torso_is_said() -> None:
    geometry = Geometry((40, 40, 10), np.diag([3.0, 3.0, 3.0, 1.0]))
    empty = segment(Volume(np.full(geometry.shape, -1000, np.int16), geometry, "CT", "HU"), "body-composition")
    assert not empty.array.any()
    assert codes(empty) == {"NO_BODY"}
    ball = np.full(geometry.shape, -1000, np.int16)
    ball[10:30, 10:30] = 40
    found = segment(Volume(ball, geometry, "CT", "HU"), "body-composition")
    assert "NOT_A_TORSO" in codes(found)
    assert (found.array > 0).sum() == 4000


def test_ranges_must_rise() -> None:
    volume = Volume(np.zeros((2, 2, 2), np.int16), Geometry((2, 2, 2), np.eye(4)), "CT", "HU")
    with pytest.raises(ParameterError, match="rise"):
        segment(volume, "body-composition", fat_upper=0)


PEAK = """
import numpy as np
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.segmentation.segment import segment

def status(key):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key))

def torso(shape, spacing):
    x, y = np.meshgrid(np.linspace(-1.1, 1.1, shape[0]), np.linspace(-1.3, 1.3, shape[1]), indexing="ij")
    r = np.sqrt(x * x + y * y)
    plane = np.select([r > 1, r > 0.9, r > 0.82], [-1000, -100, 40], -90)
    plane[(abs(x) < 0.12) & (abs(y + 0.55) < 0.12)] = 400
    array = np.repeat(plane.astype(np.int16)[:, :, None], shape[2], axis=2)
    return Volume(array, Geometry(shape, np.diag([*spacing, 1.0])), "CT", "HU")

segment(torso((256, 256, 40), (1.6, 1.6, 2.0)), "body-composition")
scan = torso((512, 512, 200), (0.8, 0.8, 1.5))
before = status("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
found = segment(scan, "body-composition")
assert len(np.unique(found.array)) >= 5
print((status("VmHWM") - before) / scan.array.size)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
def test_peak_memory_stays_below_four_bytes_a_voxel() -> None:
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 4
