from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from medseg.core.errors import InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.phantom import make_torso
from medseg.segmentation.segment import segment

CENTRE_MM = np.array([4.0, -6.0, 170.0])


def points_of(geometry: Geometry) -> np.ndarray:
    return geometry.index_to_world(np.stack(np.indices(geometry.shape), axis=-1))


def scan_of(
    geometry: Geometry, inside: np.ndarray, values: tuple[float, float] = (60, -20), noise: float = 8, modality: str = "CT"
) -> Volume:
    rng = np.random.default_rng(7)
    array = np.where(inside, *values) + rng.normal(0, noise, geometry.shape)
    return Volume(ndimage.gaussian_filter(array, 0.6).astype(np.float32), geometry, modality, "HU" if modality == "CT" else "")


def around(affine: np.ndarray, shape: tuple[int, int, int] = (64, 52, 28)) -> Geometry:
    """A grid with CENTRE_MM in its middle."""
    moved = affine.copy()
    moved[:3, 3] += CENTRE_MM - (affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3])
    return Geometry(shape, moved)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def ellipsoid(geometry: Geometry, axes_mm: tuple[float, float, float] = (12, 9, 10)) -> np.ndarray:
    return np.asarray((((points_of(geometry) - CENTRE_MM) / axes_mm) ** 2).sum(axis=-1) <= 1)


def test_an_ellipsoid_is_found_on_every_grid_from_a_click_off_its_middle(affine: np.ndarray) -> None:
    geometry = around(affine)
    truth = ellipsoid(geometry)
    found = segment(scan_of(geometry, truth), "click-lesion", seeds=[tuple(CENTRE_MM + np.array([4, -3, 2]))])
    assert dice(found.array > 0, truth) > 0.93
    assert found.findings[-1].code == "CLICK_LESION"
    assert found.findings[-1].details["volume_ml"] == pytest.approx(4 / 3 * np.pi * 12 * 9 * 10 / 1000, rel=0.1)
    assert found.findings[-1].details["volume_ml"] == pytest.approx((found.array > 0).sum() * geometry.voxel_volume_mm3 / 1000)


def test_a_flipped_array_with_a_flipped_affine_is_the_same_lesion() -> None:
    geometry = around(np.diag([0.8, 1.1, 2.5, 1.0]))
    scan = scan_of(geometry, ellipsoid(geometry))
    click = [tuple(CENTRE_MM + 1)]
    flip = np.diag([-1.0, 1.0, 1.0])
    flipped = Volume(scan.array[::-1], geometry.transformed(flip, (geometry.shape[0] - 1, 0, 0), geometry.shape), "CT", "HU")
    one, other = segment(scan, "click-lesion", seeds=click), segment(flipped, "click-lesion", seeds=click)
    assert dice(one.array > 0, other.array[::-1] > 0) > 0.995


@pytest.mark.parametrize("values", [(60, -20), (20, 100)])
def test_a_vessel_of_the_same_intensity_does_not_leak(values: tuple[float, float]) -> None:
    geometry = around(np.diag([1.0, 1.0, 1.5, 1.0]), (60, 60, 40))
    truth = ellipsoid(geometry)
    away = points_of(geometry) - CENTRE_MM
    vessel = np.hypot(away[..., 1], away[..., 2]) < 3
    scan = scan_of(geometry, truth | vessel, values, noise=4)
    found = segment(scan, "click-lesion", seeds=[tuple(CENTRE_MM)])
    leaked = segment(scan, "confidence-connected", seeds=[tuple(CENTRE_MM)])
    assert dice(found.array > 0, truth) > 0.88
    assert (found.array[[0, -1]] == 0).all()
    assert (leaked.array[[0, -1]] > 0).any()


def test_a_side_without_an_edge_is_closed_by_the_shape() -> None:
    geometry = around(np.diag([1.0, 1.0, 1.5, 1.0]), (60, 60, 40))
    truth = ellipsoid(geometry, (12, 12, 12))
    muscle = (points_of(geometry) - CENTRE_MM)[..., 0] > 8  # looks like the lesion, and touches it
    scan = scan_of(geometry, truth | muscle)
    found = segment(scan, "click-lesion", seeds=[tuple(CENTRE_MM - (2, 0, 0))])
    assert dice(found.array > 0, truth) > 0.85


def test_in_pet_a_cold_core_belongs_to_the_hot_lesion() -> None:
    geometry = around(np.diag([4.0, 4.0, 3.3, 1.0]), (30, 30, 32))
    truth = ellipsoid(geometry, (22, 20, 22))
    uptake = np.where(truth, 9.0, 1.0) - 6.0 * ellipsoid(geometry, (8, 8, 8))
    scan = Volume(ndimage.gaussian_filter(uptake, 0.7), geometry, "PT")
    found = segment(scan, "click-lesion", seeds=[tuple(CENTRE_MM)])
    assert dice(found.array > 0, truth) > 0.85
    by_hand = segment(scan.with_array(scan.array, modality=""), "click-lesion", seeds=[tuple(CENTRE_MM)], modality="PT")
    assert np.array_equal(found.array, by_hand.array)


def test_a_nodule_in_the_lung_ends_at_the_half_way_intensity() -> None:
    geometry = around(np.diag([0.7, 0.7, 1.0, 1.0]), (60, 60, 44))
    truth = ellipsoid(geometry, (7, 6, 6))
    found = segment(scan_of(geometry, truth, (30, -850), noise=20), "click-lesion", seeds=[tuple(CENTRE_MM)])
    assert dice(found.array > 0, truth) > 0.94


def test_clicks_beside_the_lesion_and_more_clicks_inside_are_followed() -> None:
    geometry = around(np.diag([1.0, 1.0, 1.5, 1.0]), (60, 60, 40))
    one = ellipsoid(geometry, (9, 9, 9))
    away = points_of(geometry) - CENTRE_MM - (14, 0, 0)
    both = one | (np.linalg.norm(away, axis=-1) < 9)
    scan = scan_of(geometry, both)
    beside = tuple(CENTRE_MM + np.array([11, 0, 0]))
    kept = segment(scan, "click-lesion", seeds=[tuple(CENTRE_MM)], background_seeds=[beside])
    assert dice(kept.array > 0, one) > 0.8
    assert "CLICK_NOT_FOLLOWED" not in {finding.code for finding in kept.findings}
    joined = segment(scan, "click-lesion", seeds=[tuple(CENTRE_MM), tuple(CENTRE_MM + np.array([14, 0, 0]))])
    assert dice(joined.array > 0, both) > 0.8


def test_a_border_that_is_a_guess_is_said_to_be_one() -> None:
    geometry = around(np.eye(4), (40, 40, 40))
    scan = scan_of(geometry, np.zeros(geometry.shape, bool), noise=20)
    codes = {finding.code for finding in segment(scan, "click-lesion", seeds=[tuple(CENTRE_MM)]).findings}
    assert "LESION_EDGE_WEAK" in codes


def test_what_cannot_be_done_is_refused_with_a_reason() -> None:
    geometry = Geometry((12, 12, 12), np.eye(4))
    even = Volume(np.full((12, 12, 12), 7, np.int16), geometry)
    with pytest.raises(InputError, match="same intensity"):
        segment(even, "click-lesion", seeds=[(5, 5, 5)])
    array = np.random.default_rng(0).normal(0, 1, (12, 12, 12))
    array[5, 5, 5] = np.nan
    with pytest.raises(InputError, match="under a click"):
        segment(Volume(array, geometry), "click-lesion", seeds=[(5, 5, 5)])
    with pytest.raises(ParameterError, match="outside the scan"):
        segment(even, "click-lesion", seeds=[(50, 5, 5)])
    with pytest.raises(ParameterError, match="background_seeds"):
        segment(even, "click-lesion", seeds=[(5, 5, 5)], background_seeds=[(50, 5, 5)])


def test_voxels_without_an_intensity_are_never_inside() -> None:
    geometry = around(np.eye(4), (44, 44, 44))
    scan = scan_of(geometry, ellipsoid(geometry))
    array = scan.array.copy()
    array[::3, ::3, ::3] = np.nan
    array[22, 22, 22] = 60
    found = segment(scan.with_array(array), "click-lesion", seeds=[tuple(geometry.index_to_world((22, 22, 22)))])
    assert not found.array[np.isnan(array)].any()
    assert dice(found.array > 0, ellipsoid(geometry) & np.isfinite(array)) > 0.85


def sarcoma(folder, name: str) -> tuple[Volume, np.ndarray]:  # type: ignore[no-untyped-def]
    image, mask = (sitk.ReadImage(str(folder / "reference" / f"{name}_{part}.nii.gz")) for part in ("image", "mask"))
    lps = np.eye(4)
    lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    lps[:3, 3] = image.GetOrigin()
    array = sitk.GetArrayFromImage(image).T
    modality = {"CT": "CT", "MR_T1": "MR", "PET": "PT"}[name]
    return Volume(array, Geometry(array.shape, np.diag([-1.0, -1, 1, 1]) @ lps), modality), sitk.GetArrayFromImage(mask).T > 0


@pytest.mark.parametrize("name", ["CT", "MR_T1", "PET"])
def test_a_sarcoma_from_one_click_is_nearer_to_the_expert_than_confidence_connected(shared_data, name: str) -> None:  # type: ignore[no-untyped-def]
    volume, truth = sarcoma(shared_data / "tumour_sts_002", name)
    depth = ndimage.distance_transform_edt(truth, sampling=volume.geometry.spacing_mm)
    index = np.rint(np.argwhere(depth > depth.max() / 2).mean(axis=0)).astype(int)
    click = tuple(volume.geometry.index_to_world(index))
    found: LabelMap = segment(volume, "click-lesion", seeds=[click])
    image = sitk.GetImageFromArray(volume.array.T)
    theirs = sitk.GetArrayFromImage(sitk.ConfidenceConnected(image, [index.tolist()], 4, 2.5, 1, 1)).T > 0
    assert dice(found.array > 0, truth) > 0.75
    assert dice(found.array > 0, truth) > dice(theirs, truth) + 0.15


def test_a_glioma_of_several_arms_is_grown_level_by_level(shared_data) -> None:  # type: ignore[no-untyped-def]
    folder = shared_data / "tumour_pyradiomics_brain1"
    image, mask = (sitk.ReadImage(str(folder / f"brain1_{part}.nrrd")) for part in ("image", "label"))
    volume = Volume(sitk.GetArrayFromImage(image).T, Geometry(image.GetSize(), np.diag([*image.GetSpacing(), 1])), "MR")
    truth = sitk.GetArrayFromImage(mask).T > 0
    found = segment(volume, "click-lesion", seeds=[tuple(volume.geometry.index_to_world((184, 101, 15)))])
    assert found.findings[-1].details["from"] == "levels"
    assert dice(found.array > 0, truth) > 0.65


def test_the_tumour_of_the_phantom_is_found() -> None:
    phantom = make_torso(seed=3, preset="sample", tumour_diameter_mm=30.0)
    truth = phantom.label_map.mask("tumour")
    click = phantom.volume.geometry.index_to_world(np.argwhere(truth).mean(axis=0)) + np.array([4, -4, 3])
    found = segment(phantom.volume, "click-lesion", seeds=[tuple(click)])
    assert dice(found.array > 0, truth) > 0.8
