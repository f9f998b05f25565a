from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from skimage.segmentation import flood

from medseg.core.errors import GeometryMismatchError, InputError, ParameterError
from medseg.core.finding import Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.segmentation.classical.region_growing import leaked
from medseg.segmentation.segment import segment


def blob(affine: np.ndarray, dtype: type = np.int16) -> tuple[Volume, list[tuple[float, ...]]]:
    """A bright ball in noise, and two points in it."""
    rng = np.random.default_rng(11)
    i, j, k = np.indices((22, 20, 18))
    array = 100.0 * ((i - 10) ** 2 + (j - 9) ** 2 + (k - 8) ** 2 < 36) + rng.normal(0, 12, i.shape)
    volume = Volume(array.astype(dtype), Geometry(array.shape, affine))
    return volume, [tuple(volume.geometry.index_to_world(index).tolist()) for index in ((10, 9, 8), (12, 9, 7))]


def itk_seeds(volume: Volume, points: list[tuple[float, ...]]) -> list[list[int]]:
    return np.rint(volume.geometry.world_to_index(points)).astype(int).tolist()


def itk_connected(volume: Volume, points: list[tuple[float, ...]], lower: float, upper: float, full: bool) -> np.ndarray:
    connectivity = sitk.ConnectedThresholdImageFilter.FullConnectivity if full else sitk.ConnectedThresholdImageFilter.FaceConnectivity
    image = sitk.GetImageFromArray(volume.array.T)
    found = sitk.ConnectedThreshold(image, itk_seeds(volume, points), lower, upper, 1, connectivity)
    return sitk.GetArrayFromImage(found).T


# region-growing


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint8])
def test_it_is_itk_connected_threshold_on_every_grid(affine: np.ndarray, dtype: type) -> None:
    volume, points = blob(affine, dtype) if dtype != np.uint8 else blob(affine)
    if dtype == np.uint8:
        volume = volume.with_array((volume.array + 60).clip(0, 255).astype(np.uint8))
    lower = 140 if dtype == np.uint8 else 80
    for connectivity, full in ((6, False), (26, True)):
        found = segment(volume, "region-growing", seeds=points, lower=lower, upper=240, connectivity=connectivity)
        assert np.array_equal(found.array, itk_connected(volume, points, lower, 240, full))
        assert 100 < found.array.sum() < found.array.size / 4


def test_it_is_itk_and_scikit_image_on_a_real_scan(ct: Volume) -> None:
    liver = tuple(ct.geometry.index_to_world((84, 70, 15)).tolist())
    value = float(ct.array[84, 70, 15])
    lower, upper = value - 60, value + 60
    expected = {
        6: itk_connected(ct, [liver], lower, upper, full=False),
        18: flood(np.where((ct.array >= lower) & (ct.array <= upper), 1, 0), (84, 70, 15), connectivity=2),
        26: itk_connected(ct, [liver], lower, upper, full=True),
    }
    counts = []
    for connectivity, mask in expected.items():
        found = segment(ct, "region-growing", seeds=[liver], lower=lower, upper=upper, connectivity=connectivity, label="liver")
        assert np.array_equal(found.mask("liver"), mask.astype(bool))
        counts.append(int(found.array.sum()))
    assert counts == sorted(counts)
    assert counts[0] < counts[2]


def test_seeds_come_as_numbers_or_text() -> None:
    volume, points = blob(np.eye(4))
    text = [",".join(str(value) for value in point) for point in points]
    assert np.array_equal(
        segment(volume, "region-growing", seeds=text, lower=80).array, segment(volume, "region-growing", seeds=points, lower=80).array
    )


def test_a_seed_outside_the_scan_is_named_in_mm(affine: np.ndarray) -> None:
    volume, points = blob(affine)
    for shift in (0.49, 0.51):
        outside = tuple(volume.geometry.index_to_world((21 + shift, 3, 4)).tolist())
        if shift < 0.5:
            segment(volume, "region-growing", seeds=[*points, outside], lower=80)
            continue
        with pytest.raises(ParameterError) as caught:
            segment(volume, "region-growing", seeds=[*points, outside], lower=80)
        corners = volume.geometry.corners_mm()
        assert ", ".join(f"{value:.1f}" for value in outside) in str(caught.value)
        assert f"S {corners[:, 2].min():.1f} to {corners[:, 2].max():.1f}" in str(caught.value)


def test_a_seed_outside_the_limits_grows_nothing_and_says_so() -> None:
    volume = Volume(np.array([[[50, 0, 50, 50]]], np.int16), Geometry((1, 1, 4), np.eye(4)))
    found = segment(volume, "region-growing", seeds=[(0, 0, 0), (0, 0, 1)], lower=40)
    assert found.array.ravel().tolist() == [1, 0, 0, 0]
    (finding,) = found.findings
    assert (finding.code, finding.severity) == ("SEED_OUTSIDE_LIMITS", Severity.WARNING)
    assert finding.details["point_mm"] == [0, 0, 1]
    assert finding.details["intensity"] == 0
    with pytest.raises(ParameterError, match=r"no seed has an intensity between the limits.*\(0\.0, 0\.0, 1\.0\)"):
        segment(volume, "region-growing", seeds=[(0, 0, 1)], lower=40)


def test_nan_is_outside_and_a_float_limit_keeps_the_voxel_written_so() -> None:
    volume = Volume(np.array([[[0.1, 0.1, np.nan, 0.1]]], np.float32), Geometry((1, 1, 4), np.eye(4)))
    assert segment(volume, "region-growing", seeds=[(0, 0, 0)], upper=0.1, lower=0).array.ravel().tolist() == [1, 1, 0, 0]
    with pytest.raises(ParameterError, match="intensity nan"):
        segment(volume, "region-growing", seeds=[(0, 0, 2)], lower=0)


def test_a_mask_of_seeds_is_all_its_voxels_as_points(affine: np.ndarray) -> None:
    volume, points = blob(affine)
    marked = np.zeros(volume.array.shape, np.uint16)
    for index in itk_seeds(volume, points):
        marked[tuple(index)] = 700
    seeds = LabelMap(marked, volume.geometry, (Segment(700, "scribble"),))
    expected = segment(volume, "region-growing", seeds=points, lower=80, upper=240)
    assert np.array_equal(segment(volume, "region-growing", seed_mask=seeds, lower=80, upper=240).array, expected.array)
    both = segment(volume, "region-growing", seed_mask=seeds, seeds=points[:1], lower=80, upper=240)
    assert np.array_equal(both.array, expected.array)
    assert not both.findings


def test_voxels_of_a_seed_mask_outside_the_limits_are_counted() -> None:
    volume = Volume(np.array([[[50, 0, 50, 50]]], np.int16), Geometry((1, 1, 4), np.eye(4)))
    seeds = LabelMap(np.array([[[1, 1, 0, 0]]], np.uint8), volume.geometry, (Segment(1, "s"),))
    found = segment(volume, "region-growing", seed_mask=seeds, lower=40)
    assert found.array.ravel().tolist() == [1, 0, 0, 0]
    (finding,) = found.findings
    assert (finding.code, finding.details["voxels"], finding.details["of_voxels"]) == ("SEED_OUTSIDE_LIMITS", 1, 2)
    with pytest.raises(ParameterError, match="no seed has an intensity"):
        segment(volume, "region-growing", seed_mask=seeds, lower=60)
    with pytest.raises(GeometryMismatchError, match="seed_mask lies on another grid"):
        segment(
            volume.with_array(volume.array),
            "region-growing",
            seed_mask=LabelMap(seeds.array, Geometry((1, 1, 4), np.diag([2.0, 2, 2, 1])), seeds.segments),
            lower=1,
        )
    with pytest.raises(InputError, match="seed_mask holds no voxel"):
        segment(volume, "region-growing", seed_mask=LabelMap(np.zeros((1, 1, 4), np.uint8), volume.geometry, seeds.segments), lower=1)


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"seeds": [], "lower": 1},
        {"seeds": [(1, 2)], "lower": 1},
        {"seeds": [(1, 2, 3)]},
        {"seeds": [(1, 2, 3)], "connectivity": 8, "lower": 1},
    ],
)
def test_impossible_parameters_are_refused(chosen: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match="region-growing: "):
        segment(blob(np.eye(4))[0], "region-growing", **chosen)


# confidence-connected


def itk_confidence(volume: Volume, points: list[tuple[float, ...]], iterations: int, multiplier: float, radius: int) -> np.ndarray:
    image = sitk.GetImageFromArray(volume.array.T)
    found = sitk.ConfidenceConnected(image, itk_seeds(volume, points), iterations, multiplier, radius, 1)
    return sitk.GetArrayFromImage(found).T


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize(("iterations", "multiplier", "radius"), [(0, 2.5, 1), (1, 2.0, 2), (4, 2.5, 1), (6, 1.7, 3), (3, 3.0, 0)])
def test_it_is_itk_confidence_connected(dtype: type, iterations: int, multiplier: float, radius: int) -> None:
    volume, points = blob(np.diag([-0.8, 1.1, 2.5, 1]), dtype)
    expected = itk_confidence(volume, points, iterations, multiplier, radius)
    found = segment(
        volume, "confidence-connected", seeds=points, iterations=iterations, multiplier=multiplier, initial_radius_voxels=radius
    )
    assert np.array_equal(found.array, expected)
    assert found.array.sum() > 20


@pytest.mark.parametrize("multiplier", [1.5, 2.0, 2.5])
@pytest.mark.parametrize("index", [(84, 70, 15), (30, 60, 12), (60, 30, 20), (0, 0, 0)])
def test_it_is_itk_on_a_real_scan_at_any_place(ct: Volume, index: tuple[int, int, int], multiplier: float) -> None:
    point = tuple(ct.geometry.index_to_world(index).tolist())
    expected = itk_confidence(ct, [point], 5, multiplier, 2)
    found = segment(ct, "confidence-connected", seeds=[point], iterations=5, multiplier=multiplier, initial_radius_voxels=2)
    assert np.array_equal(found.array, expected)
    assert found.array[index] == 1


def test_the_limits_it_grew_to_are_told() -> None:
    volume, points = blob(np.eye(4), np.float32)
    found = segment(volume, "confidence-connected", seeds=points)
    (finding,) = found.findings
    values = volume.array[found.array == 1]
    assert finding.code == "GROWN_LIMITS"
    assert finding.details["lower"] <= values.min()
    assert values.max() <= finding.details["upper"]


def test_a_constant_scan_is_one_region() -> None:
    volume = Volume(np.full((4, 5, 6), 3, np.int16), Geometry((4, 5, 6), np.eye(4)))
    for radius in (0, 1):
        assert segment(volume, "confidence-connected", seeds=[(1, 1, 1)], initial_radius_voxels=radius).array.all()


def test_nan_around_a_seed_is_an_error_and_elsewhere_not() -> None:
    volume, points = blob(np.eye(4), np.float32)
    array = volume.array.copy()
    array[0, 0, 0] = np.nan
    assert segment(volume.with_array(array), "confidence-connected", seeds=points).array[10, 9, 8] == 1
    array[10, 9, 9] = np.nan
    with pytest.raises(InputError, match="hold NaN or infinity"):
        segment(volume.with_array(array), "confidence-connected", seeds=points)


@pytest.mark.parametrize(("method", "chosen"), [("region-growing", {"lower": 80}), ("confidence-connected", {"connectivity": 18})])
def test_the_volume_does_not_depend_on_the_order_of_the_axes(affine: np.ndarray, method: str, chosen: dict[str, object]) -> None:
    volume, points = blob(affine)
    found = segment(volume, method, seeds=points, **chosen)
    geometry = volume.geometry.transformed([[0, 0, -1], [1, 0, 0], [0, -1, 0]], (21, 0, 17), (20, 18, 22))
    turned = segment(Volume(volume.array.transpose(1, 2, 0)[:, ::-1, ::-1], geometry), method, seeds=points, **chosen)
    assert np.array_equal(turned.array, found.array.transpose(1, 2, 0)[:, ::-1, ::-1])
    ml = [int(result.array.sum()) * result.geometry.voxel_volume_mm3 / 1000 for result in (found, turned)]
    assert ml[0] == pytest.approx(ml[1], rel=1e-12)


@pytest.mark.parametrize("name", ["confidence-connected", "neighbourhood-connected"])
def test_a_region_that_ran_over_the_scan_is_told(name: str) -> None:
    array = np.full((24, 20, 12), -1000, np.int16)
    array[2:22, 2:18, 1:11] = 40 + np.random.default_rng(0).integers(-9, 10, (20, 16, 10))
    array[4:8, 4:8, 3:7] += 200
    volume = Volume(array, Geometry(array.shape, np.eye(4)), "CT", "HU")
    limits = {"lower": 0, "upper": 100} if name == "neighbourhood-connected" else {}
    leaks = segment(volume, name, seeds=[(15, 12, 6)], **limits)
    told = [item for item in leaks.findings if item.code == "REGION_LEAKED"]
    assert len(told) == 1
    assert told[0].severity is Severity.WARNING
    assert "leak-guarded-growing" in told[0].message
    limits = {"lower": 200, "upper": 300} if name == "neighbourhood-connected" else {}
    held = segment(volume, name, seeds=[(6, 6, 5)], **limits)
    assert 8 <= (held.array > 0).sum() <= 64
    assert "REGION_LEAKED" not in [item.code for item in held.findings]


def test_the_share_of_a_leak_is_of_what_is_not_air() -> None:
    array = np.full((20, 10, 10), -1000, np.int16)
    array[:12] = 30
    volume = Volume(array, Geometry(array.shape, np.eye(4)), "CT", "HU")
    mask = np.zeros((10, 10, 20), np.uint8)
    mask[..., :6] = 1  # 30 % of the scan, half of the body
    assert [item.details["share"] for item in leaked(volume, mask)] == [0.5]
    assert not leaked(Volume(array, volume.geometry, "MR"), mask)
