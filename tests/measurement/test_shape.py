from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

from medseg.core.errors import GeometryMismatchError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.measurement import Measurement, Status
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.measurement import spatial
from medseg.measurement.shape import SHAPE_FEATURES, shape_features


def one(array: NDArray[Any], affine: NDArray[Any] | None = None) -> LabelMap:
    """A label map of the segments that the array (i,j,k) holds."""
    grid = Geometry(array.shape, np.eye(4) if affine is None else affine)
    return LabelMap(array, grid, tuple(Segment(int(n), f"segment {n}") for n in np.unique(array[array > 0])))


def ellipsoid(affine: NDArray[Any], semi_mm: tuple[float, float, float]) -> LabelMap:
    """A solid ellipsoid along the patient axes, in the middle of a grid that holds it."""
    shape = np.full(3, 10) + (2 * max(semi_mm) / np.linalg.norm(affine[:3, :3], axis=0) * 1.4).astype(int)
    grid = Geometry(tuple(shape), affine)
    index = np.moveaxis(np.indices(tuple(shape)), 0, -1)
    away = grid.index_to_world(index) - grid.index_to_world((shape - 1) / 2 + 0.13)
    return one((((away / semi_mm) ** 2).sum(axis=-1) < 1).astype(np.uint8), affine)


def values(features: dict[str, Measurement]) -> dict[str, float]:
    assert all(measurement.value is not None for measurement in features.values())
    return {name: float(measurement.value) for name, measurement in features.items() if measurement.value is not None}


def test_an_ellipsoid_on_every_kind_of_grid(affine: NDArray[Any]) -> None:
    a, b, c = 21.0, 16.0, 12.0
    found = values(shape_features(ellipsoid(affine, (a, b, c)))[1])
    volume = 4 / 3 * math.pi * a * b * c
    assert found["mesh_volume_ml"] == pytest.approx(volume / 1000, rel=0.01)
    assert found["voxel_volume_ml"] == pytest.approx(volume / 1000, rel=0.01)
    # the standard deviation along an axis of a solid ellipsoid is the semi-axis / sqrt(5)
    axes = [found["major_axis_mm"], found["minor_axis_mm"], found["least_axis_mm"]]
    assert axes == pytest.approx([4 * semi / math.sqrt(5) for semi in (a, b, c)], rel=0.01)
    assert found["maximum_3d_diameter_mm"] == pytest.approx(2 * a, abs=1.3)  # half a voxel at either end
    # the hull bridges the steps of the voxels: it reaches at most half the longest one beyond
    assert volume < 1000 * found["convex_hull_volume_ml"] < 4 / 3 * math.pi * math.prod(semi + 1.25 for semi in (a, b, c))
    assert found["elongation"] == pytest.approx(b / a, rel=0.01)
    assert found["flatness"] == pytest.approx(c / a, rel=0.01)
    # the ellipsoid of 4 standard deviations has semi-axes of 2 / sqrt(5) of the solid's
    assert found["volume_density_ellipsoid"] == pytest.approx((math.sqrt(5) / 2) ** 3, rel=0.01)


def test_the_mesh_of_any_grid_by_brute_force(affine: NDArray[Any], rng_mask: NDArray[Any]) -> None:
    """Hull, diameters and axes from all mesh vertices and voxels in patient mm."""
    label_map = one(rng_mask, affine)
    found = values(shape_features(label_map)[1])
    padded = np.pad(rng_mask.astype(int), 1)
    middles = []
    for axis in range(3):
        edge = np.argwhere(np.diff(padded, axis=axis)).astype(float) - 1
        edge[:, axis] += 0.5
        middles.append(edge)
    vertices = label_map.geometry.index_to_world(np.concatenate(middles))
    hull = ConvexHull(vertices)
    assert found["maximum_3d_diameter_mm"] == pytest.approx(pdist(vertices).max(), rel=1e-12)
    assert found["convex_hull_volume_ml"] == pytest.approx(hull.volume / 1000, rel=1e-9)
    assert found["area_density_convex_hull"] == pytest.approx(found["surface_area_mm2"] / hull.area, rel=1e-9)
    centres = label_map.geometry.index_to_world(np.argwhere(rng_mask))
    lengths = 4 * np.sqrt(np.linalg.eigvalsh(np.cov(centres.T)))[::-1]
    assert [found["major_axis_mm"], found["minor_axis_mm"], found["least_axis_mm"]] == pytest.approx(lengths, rel=1e-9)
    edges = np.ptp(np.argwhere(rng_mask), axis=0) + 1
    box = abs(np.linalg.det(affine[:3, :3])) * edges.prod() / 1000
    assert found["volume_density_bounding_box"] == pytest.approx(found["mesh_volume_ml"] / box, rel=1e-12)


@pytest.fixture
def rng_mask() -> NDArray[Any]:
    rng = np.random.default_rng(3)
    mask = rng.random((9, 8, 7)) < 0.3
    mask[3:6, 2:6, 2:5] = True
    mask[[0, -1]] = mask[:, [0, -1]] = mask[:, :, [0, -1]] = False
    return mask.astype(np.uint8)


def test_turning_and_mirroring_the_patient_changes_nothing(rng_mask: NDArray[Any]) -> None:
    straight = values(shape_features(one(rng_mask, np.diag([0.7, 1.1, 3.0, 1])))[1])
    turn = np.eye(4)
    turn[:3, :3] = [[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]]
    for world in (turn, turn @ np.diag([-1.0, 1, 1, 1])):
        turned = values(shape_features(one(rng_mask, world @ np.diag([0.7, 1.1, 3.0, 1])))[1])
        assert turned == pytest.approx(straight, rel=1e-9)


def test_storing_the_axes_in_another_order_keeps_volume_and_extent(rng_mask: NDArray[Any]) -> None:
    affine = np.diag([0.7, 1.1, 3.0, 1])
    straight = values(shape_features(one(rng_mask, affine))[1])
    stored = values(shape_features(one(np.moveaxis(rng_mask, 2, 0)[:, ::-1], affine[:, [2, 0, 1, 3]] * [1, -1, 1, 1]))[1])
    for name in ("mesh_volume_ml", "maximum_3d_diameter_mm", "major_axis_mm", "least_axis_mm", "convex_hull_volume_ml"):
        assert stored[name] == pytest.approx(straight[name], rel=1e-9)
    # 24 configurations have two surfaces of one area on cubes, and of different ones on uneven voxels
    assert stored["surface_area_mm2"] == pytest.approx(straight["surface_area_mm2"], rel=0.005)


def test_the_two_conventions_of_the_axes(rng_mask: NDArray[Any]) -> None:
    ibsi, pyradiomics = (values(shape_features(one(rng_mask), axes=axes)[1]) for axes in ("ibsi", "pyradiomics"))
    count = int(rng_mask.sum())
    assert pyradiomics["major_axis_mm"] == pytest.approx(ibsi["major_axis_mm"] * math.sqrt((count - 1) / count), rel=1e-12)
    assert pyradiomics["elongation"] == pytest.approx(ibsi["elongation"], rel=1e-12)
    with pytest.raises(ParameterError, match="ibsi, pyradiomics"):
        shape_features(one(rng_mask), axes="mirp")  # type: ignore[arg-type]


def test_a_single_voxel() -> None:
    array = np.zeros((3, 3, 3), np.uint8)
    array[1, 1, 1] = 1
    found = shape_features(one(array))[1]
    undefined = {name for name, measurement in found.items() if measurement.value is None}
    axes = {"major_axis_mm", "minor_axis_mm", "least_axis_mm", "elongation", "flatness"}
    assert undefined == axes | {"volume_density_ellipsoid", "area_density_ellipsoid"}
    assert {found[name].reason for name in undefined} == {"a single voxel has no spread"}
    # an octahedron with half-diagonals of half a voxel
    assert found["mesh_volume_ml"].value == pytest.approx(1 / 6000)
    assert found["surface_area_mm2"].value == pytest.approx(math.sqrt(3))
    assert found["maximum_3d_diameter_mm"].value == pytest.approx(1)
    assert found["volume_density_convex_hull"].value == pytest.approx(1)


@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 5, 3), (30, 40, 1)], ids=["line", "plane", "large plane"])
def test_flat_segments(shape: tuple[int, int, int]) -> None:
    array = np.zeros(np.array(shape) + 2, np.uint8)
    array[1:-1, 1:-1, 1:-1] = 1
    found = shape_features(one(array))[1]
    assert found["least_axis_mm"].value == 0
    assert found["flatness"].value == 0
    assert found["major_axis_mm"].value == pytest.approx(4 * np.std(np.arange(max(shape)), ddof=0) * _bessel(shape))
    assert found["volume_density_ellipsoid"].value is None
    assert "plane" in found["volume_density_ellipsoid"].reason
    assert found["convex_hull_volume_ml"].value is not None


def _bessel(shape: tuple[int, int, int]) -> float:
    count = math.prod(shape)
    return math.sqrt(count / (count - 1))


def test_a_segment_without_voxels_and_a_map_without_any() -> None:
    grid = Geometry((2, 2, 2), np.eye(4))
    found = shape_features(LabelMap(np.zeros((2, 2, 2), np.uint8), grid, (Segment(5, "gone"),)), Volume(np.ones((2, 2, 2)), grid))[5]
    assert set(found) == {*SHAPE_FEATURES, "centre_of_mass_shift_mm", "integrated_intensity"}
    assert {measurement.status for measurement in found.values()} == {Status.ABSENT}
    assert all(measurement.value is None for measurement in found.values())
    assert shape_features(LabelMap(np.zeros((2, 2, 2), np.uint8), grid, ())) == {}


def test_a_segment_at_the_border_says_so() -> None:
    array = np.zeros((5, 5, 5), np.uint8)
    array[:2, 2, 2] = 1
    array[3, 2, 2] = 2
    found = shape_features(one(array))
    assert found[1]["mesh_volume_ml"].status is Status.CUT_BY_FIELD_OF_VIEW
    assert "left" in found[1]["mesh_volume_ml"].reason
    assert found[2]["mesh_volume_ml"].status is Status.MEASURED


def test_neighbours_do_not_change_a_segment(rng_mask: NDArray[Any]) -> None:
    alone = shape_features(one(rng_mask))[1]
    among = rng_mask + np.uint8(2) * (rng_mask == 0).astype(np.uint8)
    assert values(shape_features(one(among))[1]) == pytest.approx(values(alone), rel=1e-12)


def test_thousands_of_segments_are_measured_each_alone() -> None:
    labels = np.arange(1, 2001, dtype=np.uint32).reshape(10, 10, 20).repeat(2, axis=0).repeat(3, axis=1).repeat(2, axis=2)
    found = shape_features(one(np.pad(labels, 1)))
    assert len(found) == 2000
    inner = [values(features) for features in found.values()]
    assert all(features == pytest.approx(inner[0], rel=1e-9) for features in inner)


@pytest.mark.parametrize("with_nan", [False, True])
def test_autocorrelation_against_all_pairs(affine: NDArray[Any], rng_mask: NDArray[Any], with_nan: bool) -> None:
    label_map = one(rng_mask, affine)
    image = np.random.default_rng(1).gamma(2, 3, rng_mask.shape)
    if with_nan:
        image[4, 3, 3] = np.nan
    found = shape_features(label_map, Volume(image, label_map.geometry), autocorrelation=True)[1]
    at = np.argwhere((rng_mask > 0) & np.isfinite(image))
    centres, held = label_map.geometry.index_to_world(at), image[tuple(at.T)]
    weights = squareform(1 / pdist(centres))
    centred = held - held.mean()
    variance = (centred**2).sum()
    moran = len(held) / weights.sum() * (weights * np.outer(centred, centred)).sum() / variance
    geary = (len(held) - 1) / (2 * weights.sum()) * (weights * np.subtract.outer(held, held) ** 2).sum() / variance
    assert found["moran_i"].value == pytest.approx(moran, rel=1e-9, abs=1e-12)
    assert found["geary_c"].value == pytest.approx(geary, rel=1e-9)
    whole = label_map.geometry.index_to_world(np.argwhere(rng_mask)).mean(axis=0)
    shift = np.linalg.norm(held @ centres / held.sum() - whole)
    assert found["centre_of_mass_shift_mm"].value == pytest.approx(shift, rel=1e-9)
    mesh_mm3 = 1000 * values({"v": found["mesh_volume_ml"]})["v"]
    assert found["integrated_intensity"].value == pytest.approx(held.mean() * mesh_mm3, rel=1e-12)


def test_where_intensities_leave_a_feature_undefined(rng_mask: NDArray[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    label_map = one(rng_mask)

    def spatially(image: NDArray[Any]) -> dict[str, Measurement]:
        return shape_features(label_map, Volume(image, label_map.geometry), autocorrelation=True)[1]

    constant = spatially(np.full(rng_mask.shape, 3.0))
    assert constant["moran_i"].reason == "all voxels have one intensity"
    assert constant["centre_of_mass_shift_mm"].value == pytest.approx(0, abs=1e-12)
    assert "add up to 0" in spatially(np.zeros(rng_mask.shape))["centre_of_mass_shift_mm"].reason
    nothing = spatially(np.full(rng_mask.shape, np.nan))
    assert nothing["integrated_intensity"].value is None
    assert "finite" in nothing["integrated_intensity"].reason
    monkeypatch.setattr(spatial, "MOST_LAGS", 10)
    large = spatially(np.random.default_rng(0).random(rng_mask.shape))
    assert "too large" in large["geary_c"].reason


def test_another_grid_is_refused(rng_mask: NDArray[Any]) -> None:
    label_map = one(rng_mask)
    other = Volume(np.zeros((3, 3, 3)), Geometry((3, 3, 3), np.eye(4)))
    with pytest.raises(GeometryMismatchError, match="not on one grid"):
        shape_features(label_map, other)
