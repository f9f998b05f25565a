"""Registration against transforms that are known: phantoms, a real CT, and a tumour drawn on CT and MR of one patient."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medseg.core.errors import InputError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.phantom import make_torso
from medseg.preprocessing.registration import Registration, already_aligned, refuse_failed, register
from medseg.preprocessing.registration_search import about, euler


@pytest.fixture(scope="module")
def torso() -> Volume:
    """A torso of 4 mm voxels: small enough to be registered several times."""
    return make_torso(3, preset="coarse", spacing_mm=(4.0, 4.0, 4.0)).volume


def motion(volume: Volume, degrees, shift) -> np.ndarray:
    return about(volume.geometry.index_to_world((np.asarray(volume.geometry.shape) - 1) / 2), euler(degrees), np.asarray(shift, float))


def seen_from(volume: Volume, matrix: np.ndarray, grid: Geometry, noise: float = 0.0) -> Volume:
    """The same patient moved by `matrix` and scanned on another grid, by scipy's interpolation (not ours)."""
    step = np.linalg.inv(volume.geometry.affine) @ np.linalg.inv(matrix) @ grid.affine
    array = ndimage.affine_transform(
        volume.array.astype(np.float32), step[:3, :3], step[:3, 3], output_shape=grid.shape, order=1, cval=-1024.0
    )
    array = array + np.random.default_rng(5).normal(0, noise, grid.shape) if noise else array
    return Volume(np.asfortranarray(np.rint(array).astype(np.int16)), grid, volume.modality, volume.unit)


def centred(middle_mm, shape, spacing) -> Geometry:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = np.asarray(middle_mm) - np.asarray(spacing) * (np.asarray(shape) - 1) / 2
    return Geometry(shape, affine)


def error_mm(found: Registration, matrix: np.ndarray, volume: Volume) -> np.ndarray:
    """How far points of the body land from where they should."""
    points = volume.geometry.index_to_world(np.argwhere(volume.array > -300)[::211])
    return np.linalg.norm(found.to_moving(points) - (points @ matrix[:3, :3].T + matrix[:3, 3]), axis=1)


@pytest.mark.parametrize(
    ("degrees", "shift"), [((15, -15, 15), (80, -60, 120)), pytest.param((0, 0, -15), (300, 0, -200), marks=pytest.mark.slow)]
)
def test_a_large_shift_and_turns_of_15_degrees_are_found(torso, degrees, shift):
    """Another grid, another field of view (the lower part is missing), noise: half a voxel at most, everywhere in the body."""
    matrix = motion(torso, degrees, shift)
    middle = (matrix @ [*torso.geometry.index_to_world((np.asarray(torso.geometry.shape) - 1) / 2), 1.0])[:3] + np.array([0.0, 0.0, 40.0])
    moving = seen_from(torso, matrix, centred(middle, (110, 100, 60), (4.0, 3.5, 5.0)), noise=20.0)
    found = register(torso, moving)
    assert not found.failed, found.findings
    assert error_mm(found, matrix, torso).max() < 2.0
    assert found.quality["metric_after"] > found.quality["metric_before"]
    assert found.quality["body_overlap_after"] > 0.9
    assert found.quality["consistency_mm"] < 1.0


def test_the_way_back_undoes_the_way_there(torso):
    points = torso.geometry.corners_mm()
    rigid = Registration("rigid", motion(torso, (10, 5, -7), (20, 30, 40)))
    assert rigid.to_fixed(rigid.to_moving(points)) == pytest.approx(points, abs=1e-9)
    assert rigid.rotation_degrees == pytest.approx(np.degrees(Rotation.from_euler("xyz", (10, 5, -7), degrees=True).magnitude()))


def test_the_same_input_gives_the_same_result(torso):
    small = torso.with_array(torso.array[::2, ::2, ::2], torso.geometry.transformed(np.diag([2, 2, 2]), (0, 0, 0), (48, 36, 43)))
    moving = small.with_array(small.array, Geometry(small.geometry.shape, motion(small, (4, 6, -5), (9, 12, -7)) @ small.geometry.affine))
    first, second = register(small, moving), register(small, moving)
    assert np.array_equal(first.matrix, second.matrix)
    assert first.quality == second.quality


def test_a_real_ct_is_found_to_half_a_voxel(ct):
    """A real abdominal CT of 3 mm, moved by a known matrix and scanned on a grid of 4 mm."""
    matrix = motion(ct, (10, -12, 15), (40, -30, 60))
    middle = (matrix @ [*ct.geometry.index_to_world((np.asarray(ct.geometry.shape) - 1) / 2), 1.0])[:3]
    found = register(ct, seen_from(ct, matrix, centred(middle, (90, 80, 60), (4.0, 4.0, 4.0))))
    assert not found.failed
    assert error_mm(found, matrix, ct).max() < 1.5


def test_ct_and_mr_of_one_patient_put_the_tumour_on_itself(shared_data):
    """Contours of one tumour on CT and on T1 MR: after the MR was shifted and turned, registration brings them together again."""
    case = shared_data / "tumour_sts_002" / "reference"
    volumes, masks = {}, {}
    for name in ("CT", "MR_T1"):
        image, mask = nibabel.load(case / f"{name}_image.nii.gz"), nibabel.load(case / f"{name}_mask.nii.gz")
        array = np.asarray(image.dataobj).astype(np.float32)
        volumes[name] = Volume(array, Geometry(array.shape, image.affine), "CT" if name == "CT" else "MR", "HU" if name == "CT" else "")
        masks[name] = (np.asarray(mask.dataobj) > 0, mask.affine)
    matrix = motion(volumes["MR_T1"], (6, -5, 8), (35, -20, 15))
    moved = volumes["MR_T1"].with_array(
        volumes["MR_T1"].array, Geometry(volumes["MR_T1"].geometry.shape, matrix @ volumes["MR_T1"].geometry.affine)
    )
    found = register(volumes["CT"], moved)
    assert not found.failed, found.findings
    tumour = nibabel.affines.apply_affine(masks["CT"][1], np.argwhere(masks["CT"][0]))
    index = np.rint(nibabel.affines.apply_affine(np.linalg.inv(matrix @ masks["MR_T1"][1]), found.to_moving(tumour))).astype(int)
    inside = ((index >= 0) & (index < masks["MR_T1"][0].shape)).all(axis=1)
    share = masks["MR_T1"][0][tuple(index[inside].T)].sum() / len(tumour)
    assert share > 0.8  # it was drawn 3.27 mm apart in slices and moved by 43 mm
    centre = nibabel.affines.apply_affine(matrix @ masks["MR_T1"][1], np.argwhere(masks["MR_T1"][0])).mean(axis=0)
    assert np.linalg.norm(found.to_moving(tumour).mean(axis=0) - centre) < 6.0


def test_scans_that_do_not_belong_together_are_refused(torso):
    """Noise has a body of its own, but no place where it fits: the result says so and cannot be used by accident."""
    random = np.random.default_rng(3)
    blobs = ndimage.gaussian_filter(random.normal(size=(48, 40, 44)), 4)
    noise = Volume(
        np.asfortranarray((blobs > 0.01) * 1000 - 1000).astype(np.int16), centred((0, 0, 0), (48, 40, 44), (6.0,) * 3), "CT", "HU"
    )
    found = register(torso, noise)
    assert found.failed
    assert [finding.code for finding in found.findings] == ["REGISTRATION_FAILED"]
    assert "--registration none" in found.findings[0].message
    with pytest.raises(InputError, match="could not be registered"):
        refuse_failed([Registration(), found])


@pytest.mark.parametrize(
    ("array", "words"),
    [(np.zeros((20, 20, 20), np.int16), "same intensity|no body"), (np.zeros((20, 20, 2), np.int16), "2 voxels along one axis")],
)
def test_nothing_to_register_is_said(torso, array, words):
    with pytest.raises(InputError, match=words):
        register(torso, Volume(array, Geometry(array.shape, np.eye(4)), "MR"))


@pytest.mark.slow
def test_a_known_deformation_is_followed():
    """A body that bends by up to 9 mm: the deformable registration follows to a fraction of what the rigid one leaves."""
    torso = make_torso(5, preset="coarse", spacing_mm=(6.0, 6.0, 6.0)).volume
    shape = torso.geometry.shape
    index = np.stack(np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij"))
    wave = 9.0 / 6.0 * np.sin(2 * np.pi * index[2] / shape[2])
    bent = ndimage.map_coordinates(torso.array.astype(np.float32), [index[0], index[1] + wave, index[2]], order=1, mode="nearest")
    moving = torso.with_array(np.asfortranarray(bent.astype(np.int16)))
    found = register(torso, moving, deformable=True)
    assert found.kind == "deformable", found.findings
    # judged where there is something to see: inside an organ of one value nothing tells where a point went
    edges = ndimage.gaussian_gradient_magnitude(torso.array.astype(np.float32), 1.0) > 60
    inside = np.argwhere((torso.array > -300) & edges)[::97]
    inside = inside[(inside[:, 1] > 3) & (inside[:, 1] < shape[1] - 5)]
    # a voxel j of the bent scan shows voxel j + wave: the place of j in it is about j - wave
    expected = inside.astype(float)
    expected[:, 1] -= wave[tuple(inside.T)]
    expected_mm = torso.geometry.index_to_world(expected)
    points = torso.geometry.index_to_world(inside)
    left = np.linalg.norm(found.to_moving(points) - expected_mm, axis=1).mean()
    rigid = np.linalg.norm(Registration("rigid", found.matrix).to_moving(points) - expected_mm, axis=1).mean()
    assert left < 0.5 * rigid
    assert found.quality["folded_share"] == 0.0
    assert found.to_fixed(found.to_moving(points)) == pytest.approx(points, abs=0.05)


def test_one_frame_of_reference_needs_no_registration():
    one, other = (Geometry((2, 2, 2), np.eye(4), uid) for uid in ("1.2.3", "1.2.4"))
    assert already_aligned(one, one)
    assert not already_aligned(one, other)
    assert not already_aligned(Geometry((2, 2, 2), np.eye(4)), Geometry((2, 2, 2), np.eye(4)))


def test_a_tilted_gantry_is_registered_on_right_angles(torso):
    """A sheared grid: SimpleITK knows no shear, so the scan is brought onto right angles first, and stays where it is."""
    from medseg.preprocessing.registration_images import _right_angled

    sheared = torso.geometry.affine.copy()
    sheared[:3, 2] += sheared[:3, 1] * 0.3
    grid = Geometry((60, 60, 30), sheared)
    tilted = seen_from(torso, np.eye(4), grid)
    straight = _right_angled(tilted)
    assert not straight.geometry.is_sheared
    point = grid.index_to_world([30, 30, 15])
    here = np.rint(straight.geometry.world_to_index(point)).astype(int)
    assert np.linalg.norm(straight.geometry.index_to_world(here) - point) < 4.0
    assert abs(int(straight.array[tuple(here)]) - int(tilted.array[30, 30, 15])) < 120
