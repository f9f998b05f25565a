"""Diameters in patient mm: against formulas, published values, and other orders of the same voxels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from medseg.core.errors import ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Source, Volume
from medseg.io.read import read_label_map
from medseg.measurement.diameters import angle_degrees, segment_diameters, slice_distance_mm, slices_of

TUMOUR = (Segment(1, "tumour"),)


def ellipsoid(rng: np.random.Generator, semi_axes_mm: tuple[float, ...], affine: np.ndarray) -> tuple[LabelMap, np.ndarray]:
    """A turned ellipsoid about the world's origin, a random part of a voxel off the grid; returns its form too."""
    turn = Rotation.random(random_state=int(rng.integers(1 << 30))).as_matrix()
    form = turn @ np.diag(1 / np.square(semi_axes_mm)) @ turn.T
    reach = np.abs(np.linalg.inv(affine)) @ np.full(3, max(semi_axes_mm))
    shape = tuple(int(n) for n in np.ceil(2 * reach) + 4)
    grid = np.eye(4)
    grid[:3, :3] = affine
    grid[:3, 3] = -affine @ ((np.array(shape) - 1) / 2 + rng.uniform(-0.5, 0.5, 3))
    geometry = Geometry(shape, grid)
    points = geometry.index_to_world(np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1))
    inside = np.einsum("...i,ij,...j", points, form, points) <= 1
    return LabelMap(inside.astype(np.uint8), geometry, TUMOUR), form


def true_diameters(form: np.ndarray, geometry: Geometry, axis: int) -> tuple[float, float]:
    """Both axes of the largest of the elliptic sections with the slices: x'Fx = 1 on each plane n·x = h."""
    first, second = (geometry.direction[:, n] for n in range(3) if n != axis)
    normal = np.cross(first, second)
    normal /= np.linalg.norm(normal)
    plane = np.linalg.qr(np.stack([first, second], axis=1))[0]
    inner, mixed = plane.T @ form @ plane, plane.T @ form @ normal
    index = np.zeros((geometry.shape[axis], 3))
    index[:, axis] = np.arange(geometry.shape[axis])
    heights = geometry.index_to_world(index) @ normal
    left = 1 - heights**2 * (normal @ form @ normal - mixed @ np.linalg.inv(inner) @ mixed)
    long, short = 2 * np.sqrt(left.max() / np.linalg.eigvalsh(inner))
    return float(long), float(short)


GRIDS = {
    "1 mm": np.diag([-1.0, -1.0, 1.0]),
    "thick slices": np.diag([-0.8, -0.8, 3.0]),
    "oblique": Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix() * (0.9, 0.7, 2.0),
    "left-handed": np.diag([0.8, -0.8, 2.0]),
    "gantry tilt": np.array([[-0.8, 0, 0], [0, -0.8, -0.9], [0, 0, 2.5]]),
}


@pytest.mark.parametrize("semi_axes_mm", [(8.0, 8.0, 8.0), (15.0, 15.0, 15.0), (8.0, 12.0, 16.0), (6.0, 6.0, 14.0)])
@pytest.mark.parametrize("grid", GRIDS)
def test_diameters_of_ellipsoids_are_those_of_the_formula(grid: str, semi_axes_mm: tuple[float, ...]) -> None:
    """The length lies within half a voxel (half its diagonal) of the truth, the mesh within one; the centres never exceed it."""
    rng = np.random.default_rng(len(grid) + int(sum(semi_axes_mm)))
    source = Source("scan", "dicom")
    for _ in range(6):
        label_map, form = ellipsoid(rng, semi_axes_mm, GRIDS[grid])
        geometry = label_map.geometry
        found = segment_diameters(LabelMap(label_map.array, geometry, TUMOUR, source))[1]
        longest, shorter = true_diameters(form, geometry, 2)
        half_pixel, half_voxel = (0.5 * float(np.linalg.norm(geometry.spacing_mm[:n])) for n in (2, 3))
        assert found.longest.least_mm <= longest + 1e-9
        assert found.longest.length_mm == pytest.approx(longest, abs=half_pixel)
        assert found.longest.mesh_mm == pytest.approx(longest, abs=2 * half_pixel)
        assert found.perpendicular.length_mm == pytest.approx(shorter, abs=2 * half_pixel)
        assert found.diameter_3d.least_mm <= 2 * max(semi_axes_mm) + 1e-9
        assert found.diameter_3d.length_mm == pytest.approx(2 * max(semi_axes_mm), abs=half_voxel)
        assert found.diameter_3d.mesh_mm == pytest.approx(2 * max(semi_axes_mm), abs=2 * half_voxel)


SPACINGS_MM = ((1.0, 1.0, 1.0), (0.8, 0.8, 2.5), (0.7, 1.4, 2.5), (0.7, 0.7, 5.0), (2.0, 2.0, 2.0))
SHAPES_MM = ((8.0, 8.0, 8.0), (15.0, 15.0, 15.0), (6.0, 8.0, 10.0), (8.0, 12.0, 16.0))


def errors(semi_axes_mm: tuple[float, ...], spacing_mm: tuple[float, ...], count: int) -> np.ndarray:
    """Errors of length (first) and mesh in half voxel diagonals [count, 2, 3]: longest, perpendicular, 3D."""
    rng = np.random.default_rng(int(100 * sum(spacing_mm) + sum(semi_axes_mm)))
    half = np.array([0.5 * np.linalg.norm(spacing_mm[:axes]) for axes in (2, 2, 3)])
    rows = []
    for _ in range(count):
        label_map, form = ellipsoid(rng, semi_axes_mm, np.diag(spacing_mm) * (-1, -1, 1))
        found = segment_diameters(LabelMap(label_map.array, label_map.geometry, TUMOUR, Source("scan", "dicom")))[1]
        three = (found.longest, found.perpendicular, found.diameter_3d)
        truth = (*true_diameters(form, label_map.geometry, 2), 2 * max(semi_axes_mm))
        rows.append([(np.array([getattr(d, name) for d in three]) - truth) / half for name in ("length_mm", "mesh_mm")])
    return np.array(rows)


def test_lengths_lie_within_half_a_voxel_of_the_truth_and_the_mesh_does_not() -> None:
    """At least 99 % of spheres and moderate ellipsoids at random places; the perpendicular of ellipsoids is unbiased, its mesh is not."""
    cases = [[errors(semi_axes_mm, spacing_mm, 12) for spacing_mm in SPACINGS_MM] for semi_axes_mm in SHAPES_MM]
    found = np.concatenate([errors for shape in cases for errors in shape])
    within = (np.abs(found) <= 1).mean(axis=0)
    assert within[0, 0] >= 0.99
    assert within[0, 1] >= 0.95
    assert within[0, 2] >= 0.99
    assert (within[1] < within[0]).all()
    length, mesh = np.concatenate([errors for shape in cases[2:] for errors in shape])[:, :, 1].mean(axis=0)
    assert abs(length) < 0.1
    assert mesh > 0.2


def test_the_ends_are_as_far_apart_as_the_length_says_on_the_chord_of_the_mesh(affine: np.ndarray) -> None:
    rng = np.random.default_rng(4)
    array = np.zeros((9, 10, 11), np.uint8)
    array[2:7, 3:8, 2:9] = rng.random((5, 5, 7)) > 0.3
    array[4, 5, 5] = 1
    for plane in ("axial", "coronal", "sagittal"):
        found = segment_diameters(LabelMap(array, Geometry(array.shape, affine), TUMOUR), plane=plane)[1]
        for diameter in (found.longest, found.perpendicular, found.diameter_3d):
            assert np.linalg.norm(np.subtract(*diameter.ends_mm)) == pytest.approx(diameter.length_mm, rel=1e-9)
            assert 0 < diameter.length_mm < diameter.mesh_mm
        assert found.perpendicular.length_mm <= found.longest.length_mm
        assert found.diameter_3d.length_mm == pytest.approx((found.diameter_3d.least_mm + found.diameter_3d.mesh_mm) / 2)
        assert angle_degrees(found.longest, found.perpendicular) == pytest.approx(90, abs=1e-4)


def test_a_rod_is_half_a_voxel_shorter_than_its_mesh_and_its_middle_stays() -> None:
    """12 × 1 voxels of 0.8 × 2.0 mm; across it one voxel less a fifth."""
    array = np.zeros((20, 10, 3), np.uint8)
    array[4:16, 3, 1] = 1
    geometry = Geometry(array.shape, np.diag([-0.8, -2.0, 5.0, 1.0]))
    found = segment_diameters(LabelMap(array, geometry, TUMOUR))[1]
    assert (found.longest.least_mm, found.longest.length_mm, found.longest.mesh_mm) == pytest.approx((8.8, 9.2, 9.6))
    assert np.mean(found.longest.ends_mm, axis=0) == pytest.approx((-0.8 * 9.5, -6.0, 5.0))
    assert (found.perpendicular.length_mm, found.perpendicular.mesh_mm) == pytest.approx((1.6, 2.0))
    assert np.subtract(*found.longest.ends_mm) == pytest.approx((9.2, 0, 0))


@pytest.mark.parametrize("side", [1, 2, 4, 7])
def test_a_perpendicular_is_never_longer_than_the_longest(side: int) -> None:
    """Of a square both chords of the mesh are equal; the shorter of the two corrections must not turn them round."""
    array = np.zeros((9, 9, 3), np.uint8)
    array[1 : 1 + side, 1 : 1 + side, 1] = 1
    found = segment_diameters(LabelMap(array, Geometry(array.shape, np.eye(4)), TUMOUR))[1]
    assert found.perpendicular.length_mm <= found.longest.length_mm
    assert np.linalg.norm(np.subtract(*found.perpendicular.ends_mm)) == pytest.approx(found.perpendicular.length_mm)


def published(folder: Path) -> dict[str, float]:
    expected = json.loads((folder / "expected.json").read_text())
    return expected["published_baseline"]["values"]


@pytest.mark.parametrize("case", ["brain1", "breast1", "lung1_mask"])
def test_published_maximum_diameters(shared_data: Path, case: str) -> None:
    """Maximum3DDiameter as it stands. Maximum2DDiameterSlice is the larger of our slices and of the planes between slices."""
    folder = shared_data / f"tumour_pyradiomics_{case}"
    label_map = read_label_map(next(folder.glob("*label.nrrd")))
    values = published(folder)
    found = segment_diameters(LabelMap((label_map.array == 1).astype(np.uint8), label_map.geometry, TUMOUR), plane="axial")[1]
    assert found.diameter_3d.mesh_mm == pytest.approx(values["shape_Maximum3DDiameter"], abs=1e-9)
    half_voxel = 0.5 * float(np.linalg.norm(label_map.geometry.spacing_mm))
    assert found.diameter_3d.length_mm == pytest.approx(values["shape_Maximum3DDiameter"], abs=half_voxel)
    between = _between_slices(label_map.array == 1, label_map.geometry)
    assert max(found.longest.mesh_mm, between) == pytest.approx(values["shape_Maximum2DDiameterSlice"], abs=1e-9)
    if case != "brain1":  # its mask is in two parts, which the published value spans midway between two slices
        half_pixel = 0.5 * float(np.linalg.norm(label_map.geometry.spacing_mm[:2]))
        assert found.longest.length_mm == pytest.approx(values["shape_Maximum2DDiameterSlice"], abs=half_voxel)
        assert found.longest.mesh_mm == pytest.approx(values["shape_Maximum2DDiameterSlice"], abs=half_pixel)


def _between_slices(mask: np.ndarray, geometry: Geometry) -> float:
    """The longest chord in planes midway between slices: their mesh vertices are the voxels that only one neighbour has."""
    steps = geometry.affine[:3, :2]
    best = 0.0
    for k in range(mask.shape[2] + 1):
        below = mask[:, :, k - 1] if k else np.zeros(mask.shape[:2], bool)
        above = mask[:, :, k] if k < mask.shape[2] else np.zeros(mask.shape[:2], bool)
        points = np.argwhere(below != above) @ steps.T
        if len(points) > 1:
            best = max(best, float(cdist(points, points).max()))
    return best


@pytest.mark.parametrize("case", ["tumour_sts_002", "tumour_sts_019", "tumour_sts_025"])
def test_diameters_that_pyradiomics_gives_for_sarcomas(shared_data: Path, case: str) -> None:
    expected = json.loads((shared_data / case / "expected.json").read_text())
    for modality in ("CT", "MR_T1", "PET"):
        values = expected[modality]["measurements"]["pyradiomics"]["values"]
        found = segment_diameters(read_label_map(shared_data / case / "reference" / f"{modality}_mask.nii.gz"), plane="axial")[1]
        assert found.diameter_3d.mesh_mm == pytest.approx(values["shape_Maximum3DDiameter"], abs=2e-6)
        assert found.longest.mesh_mm == pytest.approx(values["shape_Maximum2DDiameterSlice"], abs=2e-6)


def test_order_and_direction_of_voxels_change_nothing(affine: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    array = np.zeros((9, 10, 11), np.uint8)
    array[2:7, 3:8, 2:9] = rng.random((5, 5, 7)) > 0.3
    geometry = Geometry(array.shape, affine)
    plain = segment_diameters(LabelMap(array, geometry, TUMOUR), plane="coronal")[1]
    for axes, flips in (((2, 0, 1), (1, 1, -1)), ((1, 2, 0), (-1, 1, 1)), ((0, 2, 1), (-1, -1, -1))):
        turned = array.transpose(axes)[tuple(slice(None, None, f) for f in flips)]
        step = np.zeros((3, 3))
        start = np.zeros(3)
        for new, (old, flip) in enumerate(zip(axes, flips, strict=True)):
            step[old, new] = flip
            start[old] = array.shape[old] - 1 if flip < 0 else 0
        other = geometry.transformed(step, start, turned.shape)
        found = segment_diameters(LabelMap(turned, other, TUMOUR), plane="coronal")[1]
        for name in ("longest", "diameter_3d"):
            assert getattr(found, name).length_mm == pytest.approx(getattr(plain, name).length_mm, rel=1e-9)
            assert getattr(found, name).mesh_mm == pytest.approx(getattr(plain, name).mesh_mm, rel=1e-9)


@pytest.mark.parametrize(
    ("affine", "plane"),
    [
        (np.diag([1.0, 1.0, 5.0]), "axial"),
        (np.diag([1.0, 5.0, 1.0]), "coronal"),
        (np.diag([-5.0, 1.0, 1.0]), "sagittal"),
        (np.eye(3), "axial"),
        (np.eye(3)[:, [2, 0, 1]], "axial"),
    ],
)
def test_acquired_slices_lie_across_the_coarsest_axis(affine: np.ndarray, plane: str) -> None:
    full = np.eye(4)
    full[:3, :3] = affine
    assert slices_of(Geometry((4, 5, 6), full)).plane == plane


def test_a_dicom_series_has_its_slices_across_k_and_their_instances() -> None:
    geometry = Geometry((4, 5, 3), np.diag([3.0, 1.0, 1.0, 1.0]))
    array = np.zeros(geometry.shape, np.int16)
    source = Source("scan", "dicom", "1.2", (), ("1.2.1", "1.2.2", "1.2.3"))
    volume = Volume(array, geometry, "CT", "HU", source)
    slices = slices_of(geometry, volume)
    assert (slices.axis, slices.sop_instance_uid(1)) == (2, "1.2.2")
    across = slices_of(geometry, volume, "sagittal")
    assert across.sop_instance_uid(1) is None
    assert "plane" in across.reason
    resampled = Volume(np.zeros((4, 5, 4), np.int16), Geometry((4, 5, 4), np.eye(4)), "CT", "HU", source)
    assert slices_of(resampled.geometry, resampled).sop_instance_uids == ()


def test_slice_distance_is_along_the_normal_of_tilted_slices() -> None:
    tilted = np.eye(4)
    tilted[:3, 2] = (0.0, 1.5, 4.0)
    assert slice_distance_mm(Geometry((3, 3, 3), tilted), 2) == pytest.approx(4.0)


def test_an_unknown_plane_is_refused() -> None:
    with pytest.raises(ParameterError, match="axial"):
        slices_of(Geometry((2, 2, 2), np.eye(4)), plane="oblique")  # type: ignore[arg-type]
