from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.core.errors import GeometryError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.preprocessing.orientation import reoriented
from medseg.preprocessing.plan import antialias_sigma_voxels, plan_preparation, reversed_axes


def rotation(axis: str, degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = {"x": (1, 2), "y": (0, 2), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix


def grid(shape: tuple[int, int, int], columns: np.ndarray, origin: tuple[float, float, float] = (10.0, -20.0, 30.0)) -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = columns
    affine[:3, 3] = origin
    return Geometry(shape, affine, "1.2.3")


SHEAR = np.array([[1.0, 0, 0], [0, 1.0, 0.36], [0, 0, 1.0]])
GRIDS = {
    "plain": grid((30, 24, 12), np.diag([1.5, 1.5, 4.0])),
    "LPS": grid((30, 24, 12), np.diag([-1.5, -1.5, 4.0])),
    "left-handed": grid((30, 24, 12), np.diag([-1.5, 1.5, 4.0])),
    "sagittal": grid((24, 30, 12), np.array([[0.0, 0, 4.0], [-1.5, 0, 0], [0, 1.5, 0]])),
    "oblique": grid((30, 24, 12), rotation("x", 20) @ rotation("z", 10) @ np.diag([1.5, 1.5, 4.0])),
    "sheared": grid((30, 24, 12), np.diag([-1.5, -1.5, 1.0]) @ SHEAR @ np.diag([1.0, 1.0, 4.0])),
}


def linear_scan(geometry: Geometry) -> Volume:
    """Intensities that are a linear function of the place in the patient: linear interpolation keeps them exactly."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij"), axis=-1)
    return Volume(field(geometry.index_to_world(index)).astype(np.float32), geometry, modality="CT")


def field(points_mm: np.ndarray) -> np.ndarray:
    return points_mm @ [1.0, -2.0, 0.5] + 7


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "SAR"])
@pytest.mark.parametrize("alignment", ["patient", "grid"])
@pytest.mark.parametrize("name", GRIDS)
def test_the_target_covers_the_scan_in_the_wanted_orientation(name: str, alignment: str, orientation: str) -> None:
    source = GRIDS[name]
    plan = plan_preparation(source, (2.0, 2.5, 3.0), orientation, alignment)  # type: ignore[arg-type]
    target = plan.target
    assert target.orientation == orientation
    np.testing.assert_allclose(target.spacing_mm, (2.0, 2.5, 3.0), rtol=1e-9)
    assert not target.is_sheared
    assert target.frame_of_reference_uid == "1.2.3"
    assert target.is_oblique == (alignment == "grid" and source.is_oblique)
    corners = np.stack(np.meshgrid(*([-0.5, n - 0.5] for n in source.shape)), axis=-1).reshape(-1, 3)
    places = target.world_to_index(source.index_to_world(corners))
    assert (places >= -0.5 - 1e-6).all()
    assert (places <= np.array(target.shape) - 0.5 + 1e-6).all()
    assert (places.max(axis=0) - places.min(axis=0) > np.array(target.shape) - 1).all(), "not a voxel more than needed"


@pytest.mark.parametrize("alignment", ["patient", "grid"])
@pytest.mark.parametrize("name", GRIDS)
def test_both_index_maps_agree_with_the_affines(name: str, alignment: str) -> None:
    plan = plan_preparation(GRIDS[name], (2.0, 2.5, 3.0), "RAS", alignment)  # type: ignore[arg-type]
    index = np.array([[0, 0, 0, 1], [5, 3, 2, 1], [7, 11, 4, 1]])
    there = index @ plan.source_to_target().T
    np.testing.assert_allclose(plan.target.index_to_world(there), plan.source.index_to_world(index[:, :3]), atol=1e-9)
    back = np.hstack([there, np.ones((3, 1))]) @ plan.target_to_source().T
    np.testing.assert_allclose(back, index[:, :3], atol=1e-9)
    turned = index[:, [2, 1, 0, 3]] @ reversed_axes(plan.source_to_target()).T
    np.testing.assert_allclose(turned[:, ::-1], there, atol=1e-12)


@pytest.mark.parametrize("alignment", ["patient", "grid"])
@pytest.mark.parametrize("name", GRIDS)
def test_a_linear_scan_keeps_its_values_in_the_patient(name: str, alignment: str) -> None:
    scan = linear_scan(GRIDS[name])
    plan = plan_preparation(scan.geometry, (1.4, 1.4, 3.5), "RAS", alignment)  # type: ignore[arg-type]
    prepared = plan.prepare(scan, -1e6)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in plan.target.shape), indexing="ij"), axis=-1)
    points = plan.target.index_to_world(index)
    at = scan.geometry.world_to_index(points)
    reach = np.ceil(4 * np.array(antialias_sigma_voxels(scan.geometry, plan.target)))  # the blur is not linear at the border
    inside = ((at >= reach) & (at <= np.array(scan.geometry.shape) - 1 - reach)).all(axis=-1)
    outside = ((at < -0.51) | (at > np.array(scan.geometry.shape) - 0.49)).any(axis=-1)
    assert inside.sum() > 1000
    np.testing.assert_allclose(prepared.array[inside], field(points)[inside], atol=1e-3)
    assert (prepared.array[outside] == -1e6).all()


@pytest.mark.parametrize("name", ["plain", "LPS", "left-handed", "sagittal"])
def test_the_own_spacing_moves_voxels_without_changing_them(name: str) -> None:
    array = np.random.default_rng(0).integers(-1000, 1000, GRIDS[name].shape).astype(np.int16)
    scan = Volume(array, GRIDS[name], modality="CT")
    turned = reoriented(scan, "RAS")
    plan = plan_preparation(scan.geometry, turned.geometry.spacing_mm, "RAS")
    assert plan.target.matches(turned.geometry, 1e-6)
    np.testing.assert_array_equal(plan.prepare(scan, 0.0).array, turned.array)


def test_equals_simpleitks_resampling_on_an_oblique_grid() -> None:
    source = GRIDS["oblique"]
    array = np.random.default_rng(1).normal(size=source.shape).astype(np.float32)
    plan = plan_preparation(source, (1.3, 1.3, 1.4), "RAS")
    assert antialias_sigma_voxels(source, plan.target) == (0.0, 0.0, 0.0)

    def itk_image(values: np.ndarray, geometry: Geometry) -> sitk.Image:
        image = sitk.GetImageFromArray(values.T)
        image.SetSpacing(geometry.spacing_mm)
        image.SetDirection((np.diag([-1, -1, 1]) @ geometry.direction).ravel())
        image.SetOrigin(np.diag([-1, -1, 1]) @ np.array(geometry.origin_mm))
        return image

    expected = sitk.Resample(
        itk_image(array, source), itk_image(np.zeros(plan.target.shape, np.float32), plan.target), sitk.Transform(), sitk.sitkLinear, -9.0
    )
    got = plan.prepare(Volume(array, source), -9.0).array
    same = np.abs(got - sitk.GetArrayFromImage(expected).T) < 1e-4
    assert same.mean() > 0.999, "points within rounding of the outermost border may differ"


def test_blur_before_coarser_voxels_averages_noise_but_keeps_the_mean() -> None:
    source = grid((60, 60, 60), np.eye(3))
    scan = Volume(np.random.default_rng(2).normal(100, 40, source.shape).astype(np.float32), source)
    plan = plan_preparation(source, (4.0, 4.0, 4.0))
    prepared = plan.prepare(scan, 0.0).array
    assert abs(prepared.mean() - 100) < 1
    assert prepared.std() < 40 / 4


def test_impossible_requests_are_refused() -> None:
    plain = GRIDS["plain"]
    with pytest.raises(GeometryError, match="three positive numbers"):
        plan_preparation(plain, (1.0, 0.0, 1.0))
    with pytest.raises(GeometryError, match="would have"):
        plan_preparation(grid((100, 100, 100), np.eye(3) * 1000), (1.0, 1.0, 1.0))
    with pytest.raises(GeometryError, match="another grid"):
        plan_preparation(plain, (2.0, 2.0, 2.0)).prepare(Volume(np.zeros((3, 3, 3)), grid((3, 3, 3), np.eye(3))), 0.0)


def test_one_slice_becomes_as_many_voxels_as_its_thickness() -> None:
    plan = plan_preparation(grid((10, 10, 1), np.diag([1.0, 1.0, 5.0])), (2.0, 2.0, 2.0))
    assert plan.target.shape == (5, 5, 3)
