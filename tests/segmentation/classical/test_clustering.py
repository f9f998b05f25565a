"""k-means, fuzzy c-means, Gaussian mixtures and mean shift against scikit-learn, formulas, and known truth."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from scipy import ndimage
from sklearn.cluster import KMeans, MeanShift
from sklearn.mixture import GaussianMixture

from medseg.core.errors import GeometryMismatchError, InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.segmentation.classical import cluster_features
from medseg.segmentation.segment import segment

NAMES = ["k-means", "fuzzy-c-means", "gaussian-mixture", "mean-shift"]
TWO = {"k-means": {"classes": 2}, "fuzzy-c-means": {"classes": 2}, "gaussian-mixture": {"classes": 2}, "mean-shift": {}}


def scan(array: np.ndarray, spacing_mm: tuple[float, float, float] = (1, 1, 1)) -> Volume:
    return Volume(array, Geometry(array.shape, np.diag([*spacing_mm, 1.0])), "MR", "")


def details(found: LabelMap) -> dict[str, object]:
    (finding,) = (finding for finding in found.findings if finding.code == "CLASS_MEANS")
    return dict(finding.details)


def three_tissues(seed: int = 0, shape: tuple[int, int, int] = (20, 22, 24)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, shape, p=[0.5, 0.3, 0.2])
    return (np.array([100.0, 220.0, 400.0])[truth] + rng.normal(0, 1, shape) * np.array([15, 25, 20])[truth]), truth


def two_channels(seed: int = 0, shape: tuple[int, int, int] = (18, 20, 22)) -> tuple[Volume, Volume, np.ndarray]:
    """Three tissues that neither channel parts alone; the second counts in other units."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, shape, p=[0.4, 0.3, 0.3])
    first = np.array([100.0, 100, 300])[truth] + rng.normal(0, 15, shape)
    second = np.array([5000.0, 9000, 9000])[truth] + rng.normal(0, 400, shape)
    return scan(first.astype(np.float32)), scan(second.round().astype(np.int16)), truth


# k-means


@pytest.mark.parametrize("classes", [2, 3, 4, 6])
def test_k_means_on_a_histogram_is_as_good_as_scikit_learn_at_its_best(classes: int) -> None:
    array = np.round(three_tissues(1)[0]).astype(np.int16)
    found = segment(scan(array), "k-means", classes=classes, keep_darkest=True)
    inertia = sum(((array[found.array == n] - array[found.array == n].mean()) ** 2).sum() for n in range(1, classes + 1))
    theirs = KMeans(classes, n_init=10, random_state=0).fit(array.reshape(-1, 1).astype(float))
    assert inertia <= theirs.inertia_ * (1 + 1e-9)
    assert inertia == pytest.approx(theirs.inertia_, rel=2e-3)
    means = [array[found.array == n].mean() for n in range(1, classes + 1)]
    assert np.ravel(details(found)["means"]) == pytest.approx(means)


def test_k_means_of_one_scan_is_multi_otsu(ct: Volume) -> None:
    for classes in (2, 3, 5):
        assert np.array_equal(segment(ct, "k-means", classes=classes).array, segment(ct, "multi-otsu", classes=classes).array)
    assert np.array_equal(segment(ct.with_array(ct.array.astype(np.float32)), "k-means").array, segment(ct, "k-means").array)


def test_k_means_of_two_scans_is_that_of_scikit_learn() -> None:
    first, second, truth = two_channels()
    found = segment((first, second), "k-means", classes=3, keep_darkest=True)
    points = np.stack([first.array.ravel(), second.array.ravel()], axis=1).astype(float)
    points = (points - points.mean(axis=0)) / points.std(axis=0)
    theirs = KMeans(3, n_init=5, random_state=0).fit(points)
    order = np.argsort(theirs.cluster_centers_.mean(axis=1))
    same = np.argsort(order)[theirs.labels_].reshape(truth.shape) + 1 == found.array
    assert same.mean() > 0.9999
    assert (found.array == truth + 1).mean() > 0.999
    alone = segment(first, "k-means", classes=3, keep_darkest=True)
    assert (alone.array == found.array).mean() < 0.9


def test_position_counts_in_mm() -> None:
    """A flat scan falls into pieces by place alone: two halves of a bar, cut across its longest side in mm."""
    rng = np.random.default_rng(2)
    array = rng.normal(0, 1e-3, (10, 30, 12)).astype(np.float32)
    found = segment(scan(array, (9.0, 1.0, 1.0)), "k-means", classes=2, position_scale_mm=1.0, keep_darkest=True)
    halves = {tuple(np.unique(found.array[part])) for part in (slice(None, 5), slice(5, None))}
    assert halves == {(1,), (2,)}
    # with the spacing the other way round the cut turns
    found = segment(scan(array, (0.3, 1.0, 1.0)), "k-means", classes=2, position_scale_mm=1.0, keep_darkest=True)
    assert {tuple(np.unique(found.array[:, part])) for part in (slice(None, 15), slice(15, None))} == {(1,), (2,)}


# fuzzy c-means


def fuzzy_centres(values: np.ndarray, classes: int, fuzziness: float) -> np.ndarray:
    """By the book, one membership after the other, from quantiles."""
    centres = np.quantile(values, (np.arange(classes) + 0.5) / classes)
    for _ in range(500):
        distance = np.abs(values[:, None] - centres) + 1e-12
        degree = 1 / ((distance[:, :, None] / distance[:, None, :]) ** (2 / (fuzziness - 1))).sum(axis=2)
        centres = (degree**fuzziness * values[:, None]).sum(axis=0) / (degree**fuzziness).sum(axis=0)
    return np.sort(centres)


@pytest.mark.parametrize("fuzziness", [1.5, 2.0, 3.0])
def test_fuzzy_c_means_settles_where_the_formulas_do(fuzziness: float) -> None:
    array = np.round(three_tissues(3, (12, 13, 14))[0]).astype(np.int16)
    found = segment(scan(array), "fuzzy-c-means", classes=3, fuzziness=fuzziness, neighbour_weight=0, keep_darkest=True)
    expected = fuzzy_centres(array.ravel().astype(float), 3, fuzziness)
    assert np.ravel(details(found)["means"]) == pytest.approx(expected, abs=0.05)
    nearest = np.abs(array[..., None] - expected).argmin(axis=-1) + 1
    assert (nearest == found.array).mean() > 0.999


def test_fuzzy_c_means_with_neighbours_minimises_its_cost() -> None:
    """Every centre is the weighted mean that the paper gives for its memberships (Chen and Zhang, equations 8 and 9)."""
    array = np.round(three_tissues(4, (14, 15, 16))[0]).astype(np.float64)
    found = segment(scan(array), "fuzzy-c-means", classes=3, neighbour_weight=1.5, window_mm=3, keep_darkest=True)
    centres = np.ravel(details(found)["means"])
    ones = ndimage.uniform_filter(np.ones(array.shape), 3, mode="constant")
    around = ndimage.uniform_filter(array, 3, mode="constant") / ones
    cost = np.stack([(array - v) ** 2 + 1.5 * (around - v) ** 2 for v in centres])
    degree = (1 / cost) / (1 / cost).sum(axis=0)
    expected = (degree**2 * (array + 1.5 * around)).sum(axis=(1, 2, 3)) / (2.5 * (degree**2).sum(axis=(1, 2, 3)))
    assert centres == pytest.approx(expected, abs=0.02)
    assert np.array_equal(found.array, cost.argmin(axis=0) + 1)


@pytest.mark.parametrize(
    ("name", "extra"), [("fuzzy-c-means", {"neighbour_weight": 4.0, "window_mm": 3.0}), ("gaussian-mixture", {"smoothness_mm": 1.0})]
)
def test_neighbours_make_noisy_classes_whole(name: str, extra: dict[str, float]) -> None:
    truth = np.zeros((24, 24, 24), int)
    truth[6:18, 6:18, 6:18] = 1
    array = (100 + 60 * truth + np.random.default_rng(5).normal(0, 35, truth.shape)).astype(np.float32)
    off = {key: 0 for key in extra if key != "window_mm"}
    alone = segment(scan(array), name, classes=2, keep_darkest=True, **off)
    together = segment(scan(array), name, classes=2, keep_darkest=True, **extra)
    wrong = [(found.array != truth + 1).mean() for found in (alone, together)]
    assert wrong[0] > 0.1
    assert wrong[1] < 0.3 * wrong[0]


# Gaussian mixture


def test_a_mixture_on_a_histogram_is_that_of_scikit_learn() -> None:
    values, truth = three_tissues(6, (30, 30, 30))
    array = np.round(values).astype(np.int16)
    found = segment(scan(array), "gaussian-mixture", classes=3, keep_darkest=True)
    told = details(found)
    theirs = GaussianMixture(3, means_init=np.array([[100.0], [220], [400]]), tol=1e-8, max_iter=2000).fit(array.reshape(-1, 1))
    assert np.ravel(told["means"]) == pytest.approx(theirs.means_.ravel(), abs=0.05)
    assert np.ravel(told["standard_deviations"]) == pytest.approx(np.sqrt(theirs.covariances_.ravel()), rel=2e-3)
    assert told["shares"] == pytest.approx(theirs.weights_, abs=5e-4)
    assert (theirs.predict(array.reshape(-1, 1)).reshape(array.shape) + 1 == found.array).mean() > 0.9995
    # and both are those that the scan was made with
    assert np.ravel(told["means"]) == pytest.approx([100, 220, 400], abs=1)
    assert np.ravel(told["standard_deviations"]) == pytest.approx([15, 25, 20], rel=0.03)
    assert (found.array == truth + 1).mean() > 0.98


def test_a_mixture_of_two_scans_is_that_of_scikit_learn() -> None:
    """Elongated classes at an angle, which k-means cannot part."""
    rng = np.random.default_rng(7)
    shape = (20, 20, 20)
    truth = rng.random(shape) < 0.5
    along, across = rng.normal(0, 100, shape), rng.normal(0, 12, shape)
    first = along + across + 60 * truth
    second = along - across - 60 * truth
    found = segment((scan(first), scan(second + 4000)), "gaussian-mixture", classes=2, keep_darkest=True)
    points = np.stack([first.ravel(), second.ravel()], axis=1)
    theirs = GaussianMixture(2, n_init=3, random_state=0, tol=1e-8, max_iter=2000).fit(points)
    predicted = theirs.predict(points).reshape(shape) + 1
    agree = (predicted == found.array).mean()
    assert max(agree, 1 - agree) > 0.999
    parted = (found.array == truth + 1).mean()
    assert max(parted, 1 - parted) > 0.98


def test_the_threshold_between_two_classes_is_where_their_weighted_densities_meet() -> None:
    rng = np.random.default_rng(8)
    array = np.concatenate([rng.normal(100, 10, 30_000), rng.normal(130, 40, 30_000)]).round().astype(np.int16).reshape(30, 40, 50)
    found = segment(scan(array), "gaussian-mixture", classes=2)
    a, b = 1 / 40**2 - 1 / 10**2, -2 * (130 / 40**2 - 100 / 10**2)
    c = (130 / 40) ** 2 - (100 / 10) ** 2 + 2 * math.log(40 / 10)
    low, high = sorted(np.roots([a, b, c]))
    # the wide class lies on both sides of the narrow one
    inner = array[(found.array == 0)]
    assert inner.min() == pytest.approx(low, abs=2)
    assert inner.max() == pytest.approx(high, abs=2)


def test_smoothness_is_the_area_of_borders_in_mm_on_every_grid(affine: np.ndarray) -> None:
    """No voxel is better off in another class: evidence by volume against border by area, sheared faces included."""
    rng = np.random.default_rng(9)
    array = (100 + 80 * (rng.random((10, 11, 12)) < 0.4) + rng.normal(0, 20, (10, 11, 12))).astype(np.float32)
    volume = Volume(array, Geometry(array.shape, affine))
    found = segment(volume, "gaussian-mixture", classes=2, smoothness_mm=1.3, keep_darkest=True)
    told = details(found)
    steps = affine[:3, :3].T
    areas = [np.linalg.norm(np.cross(steps[(axis + 1) % 3], steps[(axis + 2) % 3])) for axis in range(3)]
    weights = 1.3 * np.array(areas) / abs(np.linalg.det(affine[:3, :3]))
    costs = []
    for number in (1, 2):
        mean, std = (float(np.ravel(told[key])[number - 1]) for key in ("means", "standard_deviations"))
        cost = 0.5 * ((array - mean) / std) ** 2 + math.log(std) - math.log(told["shares"][number - 1])  # type: ignore[index]
        differ = np.pad(found.array != number, 1)
        for axis, weight in enumerate(weights):
            for shift in (-1, 1):
                cost += weight * np.roll(differ, shift, axis)[1:-1, 1:-1, 1:-1]
        costs.append(cost)
    chosen = np.where(found.array == 1, costs[0], costs[1])
    assert (chosen <= np.minimum(*costs) + 1e-3).all()
    assert (found.array != segment(volume, "gaussian-mixture", classes=2, keep_darkest=True).array).any()


# mean shift


def test_mean_shift_on_a_histogram_is_that_of_scikit_learn() -> None:
    array = np.round(three_tissues(10, (12, 12, 12))[0]).astype(np.int16)
    found = segment(scan(array), "mean-shift", bandwidth=60, keep_darkest=True)
    theirs = MeanShift(bandwidth=60).fit(array.reshape(-1, 1).astype(float))
    expected = np.sort(theirs.cluster_centers_.ravel())
    assert np.ravel(details(found)["means"]) == pytest.approx(expected, abs=0.2)
    # scikit-learn then takes the nearest mode, ours the one that a voxel climbs to
    for value in np.unique(array)[::5]:
        place, before = float(value), math.inf
        while place != before:
            before, place = place, float(array[np.abs(array - place) <= 60].mean())
        reached = int(np.abs(expected - place).argmin()) + 1
        assert (found.array[array == value] == reached).all()


def test_mean_shift_of_two_scans_finds_the_three_tissues() -> None:
    first, second, truth = two_channels(11)
    found = segment((first, second), "mean-shift", keep_darkest=True)
    assert len(found.segments) == 3
    for tissue in range(3):
        inside = found.array[truth == tissue]
        assert (inside == np.bincount(inside).argmax()).mean() > 0.99
    points = np.stack([v.array.ravel() / (v.array.std() / 2) for v in (first, second)], axis=1)
    theirs = MeanShift(bandwidth=1, bin_seeding=True).fit(points[:: len(points) // 4000])
    assert len(theirs.cluster_centers_) == 3


def test_mean_shift_with_position_parts_equal_structures_that_lie_apart() -> None:
    array = np.zeros((40, 20, 20), np.float32)
    array[4:14, 5:15, 5:15] = array[26:36, 5:15, 5:15] = 100
    array += np.random.default_rng(12).normal(0, 3, array.shape).astype(np.float32)
    apart = segment(scan(array, (2, 1, 1)), "mean-shift", bandwidth=30, radius_mm=18.0, lower=50, keep_darkest=True)
    together = segment(scan(array), "mean-shift", bandwidth=30, least_share=0.01, keep_darkest=True)
    assert len(together.segments) == 2
    left, right = apart.array[4:14, 5:15, 5:15], apart.array[26:36, 5:15, 5:15]
    assert len(np.unique(left)) == len(np.unique(right)) == 1
    assert left[0, 0, 0] != right[0, 0, 0]


def test_one_class_alone_is_an_error() -> None:
    array = np.round(three_tissues(13)[0]).astype(np.int16)
    for extra in ({}, {"radius_mm": 500.0}):
        with pytest.raises(InputError, match="all voxels belong to one class"):
            segment(scan(array), "mean-shift", bandwidth=5000, **extra)


# all of them


@pytest.mark.parametrize("name", NAMES)
def test_classes_are_ordered_by_mean_and_the_darkest_is_background(name: str) -> None:
    array = np.round(three_tissues(14)[0]).astype(np.int16)
    plain = segment(scan(array), name, label="tissue")
    kept = segment(scan(array), name, label="tissue", keep_darkest=True)
    assert np.array_equal(plain.array, kept.array - 1)
    assert [item.label for item in plain.segments] == ["tissue_1", "tissue_2"]
    assert [item.label for item in kept.segments] == ["tissue_1", "tissue_2", "tissue_3"]
    means = [array[kept.array == n].mean() for n in (1, 2, 3)]
    assert means == sorted(means)
    assert {item.algorithm for item in kept.segments} == {name}


@pytest.mark.parametrize("name", NAMES)
def test_it_looks_only_where_it_is_told(name: str) -> None:
    first, second, truth = two_channels(15)
    box = np.zeros(truth.shape, np.uint8)
    box[2:15, 3:18, 4:20] = 1
    mask = LabelMap(box, first.geometry, (Segment(1, "box"),))
    for volumes in (first, (first, second)):
        found = segment(volumes, name, **TWO[name], mask=mask, lower=75, keep_darkest=True)
        assert np.array_equal(found.array > 0, (box == 1) & (first.array >= 75))


@pytest.mark.parametrize("name", NAMES)
def test_nan_in_one_scan_is_in_no_class(name: str) -> None:
    first, second, _ = two_channels(16)
    array = np.array(first.array)
    array[3, 4, 5], array[6, 7, 8], array[9] = np.nan, np.inf, np.nan
    broken = first.with_array(array)
    for volumes in (broken, (broken, second), (second, broken)):
        found = segment(volumes, name, **TWO[name], keep_darkest=True)
        assert np.array_equal(found.array > 0, np.isfinite(array))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("values", [[5, 5, 5], [np.nan, np.nan, np.nan], [np.nan, 4, 4]])
def test_too_few_intensities_are_an_error(name: str, values: list[float]) -> None:
    volume = scan(np.array(values, np.float32).reshape(1, 1, 3))
    with pytest.raises(InputError, match=name):
        segment(volume, name)
    with pytest.raises(InputError, match=name):
        segment((volume, volume), name)


@pytest.mark.parametrize("name", NAMES)
def test_grids_and_parameters_that_do_not_fit_are_refused(name: str) -> None:
    first, second, _ = two_channels(17)
    moved = Volume(second.array, Geometry(second.geometry.shape, np.diag([1.0, 1, 2, 1])))
    with pytest.raises(GeometryMismatchError, match="scan 2 of 2"):
        segment((first, moved), name)
    with pytest.raises(GeometryMismatchError, match=f"{name}: mask lies on another grid"):
        segment(first, name, mask=LabelMap(np.zeros(first.array.shape, np.uint8), moved.geometry, ()))
    with pytest.raises(ParameterError, match=name):
        segment(first, name, sample_voxels=1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["one scan", "two scans", "position"])
def test_turned_grids_give_the_same_voxels(name: str, kind: str, affine: np.ndarray) -> None:
    first, second, _ = two_channels(18, (12, 10, 8))
    extra: dict[str, object] = dict(TWO[name])
    if kind == "position":
        extra["radius_mm" if name == "mean-shift" else "position_scale_mm"] = 25.0
    if name == "gaussian-mixture":
        extra["smoothness_mm"] = 1.0
    geometry = Geometry(first.array.shape, affine)
    turned_geometry = geometry.transformed([[0, 0, -1], [1, 0, 0], [0, -1, 0]], (11, 0, 7), (10, 8, 12))
    volumes = [Volume(volume.array, geometry) for volume in (first, second)]
    turned = [Volume(volume.array.transpose(1, 2, 0)[:, ::-1, ::-1], turned_geometry) for volume in (first, second)]
    number = 2 if kind == "two scans" else 1
    expected = segment(volumes[:number], name, **extra)
    found = segment(turned[:number], name, **extra)
    assert len(np.unique(expected.array)) > 1
    assert (found.array != expected.array.transpose(1, 2, 0)[:, ::-1, ::-1]).mean() < 1e-3


def test_the_sample_is_fixed_by_the_seed() -> None:
    first, second, _ = two_channels(19)
    results = [segment((first, second), "k-means", sample_voxels=300, seed=seed) for seed in (1, 1, 2)]
    told = [details(found) for found in results]
    assert np.array_equal(results[0].array, results[1].array)
    assert told[0] == told[1] != told[2]
    assert told[0]["learned_from_voxels"] == 300
    assert (results[0].array == results[2].array).mean() > 0.99


def test_a_small_mask_in_a_large_scan_is_sampled_without_listing_the_scan() -> None:
    rng = np.random.default_rng(5)
    inside = np.zeros((60, 200, 200), np.uint8)
    places = np.sort(rng.choice(inside.size, 1100, replace=False))
    inside.reshape(-1)[places] = 1
    tracemalloc.start()
    drawn = cluster_features._draw(inside, 1000, 3)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(drawn) == 1000
    assert np.isin(drawn, places).all()
    assert (np.diff(drawn) > 0).all()
    assert most < inside.size  # 8 bytes for every voxel of the scan before, and the same again to sort them
