from __future__ import annotations

import numpy as np
import pytest
from skimage.filters import threshold_local, threshold_sauvola

from medseg.core.errors import GeometryMismatchError, InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.segmentation.segment import segment

RULES = ["mean", "gaussian", "sauvola"]


def scan(array: np.ndarray, spacing_mm: tuple[float, float, float] = (1, 1, 1)) -> Volume:
    return Volume(array, Geometry(array.shape, np.diag([*spacing_mm, 1.0])), "MR", "")


def drifting(shape: tuple[int, int, int] = (30, 32, 28)) -> tuple[np.ndarray, np.ndarray]:
    """Small bright cubes where the background rises across the scan by far more than they stand out."""
    truth = np.zeros(shape, bool)
    for n in range(3, min(shape) - 5, 8):
        truth[n : n + 3, n : n + 3, n : n + 3] = True
        truth[n : n + 3, -n - 3 : -n, n : n + 3] = True
    drift = np.linspace(100, 300, shape[0])[:, None, None] * np.ones(shape)
    noise = np.random.default_rng(0).normal(0, 4, shape)
    return (drift + 80 * truth + noise).astype(np.float32), truth


@pytest.mark.parametrize("rule", ["mean", "gaussian"])
def test_it_finds_structures_on_a_drifting_background(rule: str) -> None:
    array, truth = drifting()
    found = segment(scan(array), "local-threshold", rule=rule, window_mm=12, offset=40).array == 1
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.98
    best = max(2 * ((array > t) & truth).sum() / ((array > t).sum() + truth.sum()) for t in range(100, 400, 5))
    assert best < 0.5  # no global threshold does


def test_sauvola_is_that_of_scikit_image_for_dark_structures() -> None:
    """Inside; at the border scikit-image mirrors the scan, ours takes what is there."""
    array = np.random.default_rng(1).integers(0, 256, (20, 21, 22)).astype(np.uint8)
    limit = threshold_sauvola(array, window_size=(5, 7, 9), k=0.3, r=128)
    volume = scan(array, (1.0, 1.0, 1.0))
    found = segment(
        scan(array, (9 / 5, 9 / 7, 1.0)),
        "local-threshold",
        rule="sauvola",
        window_mm=9,
        side="below",
        weight=0.3,
        largest_std=128,
        scale_from=0,
    )
    inner = (slice(2, -2), slice(3, -3), slice(4, -4))
    assert np.array_equal(found.array[inner], (array < limit)[inner])
    assert found.geometry.shape == volume.geometry.shape


def test_the_mean_is_that_of_scikit_image_plane_by_plane() -> None:
    """scikit-image's threshold_local takes one window length for all axes."""
    array = np.random.default_rng(2).normal(100, 20, (15, 16, 17))
    limit = threshold_local(array, 5, method="mean", offset=-3)
    found = segment(scan(array), "local-threshold", rule="mean", window_mm=5, offset=3).array == 1
    inner = (slice(2, -2),) * 3
    assert np.array_equal(found[inner], (array > limit)[inner])


def test_bright_structures_are_dark_ones_of_the_negative() -> None:
    array = np.random.default_rng(3).integers(-300, 300, (12, 13, 14)).astype(np.int16)
    for rule in RULES:
        bright = segment(scan(array), "local-threshold", rule=rule, window_mm=7, offset=20 if rule != "sauvola" else 0).array
        dark = segment(scan(-array), "local-threshold", rule=rule, window_mm=7, side="below", offset=20 if rule != "sauvola" else 0).array
        assert bright.any()
        assert np.array_equal(bright, dark)


def test_sauvola_leaves_flat_surroundings_out() -> None:
    array = np.full((15, 15, 15), 50, np.int16)
    array[7, 7, 7], array[2, 2, 2] = 200, 0
    for side, place in (("above", (7, 7, 7)), ("below", (2, 2, 2))):
        found = segment(scan(array), "local-threshold", rule="sauvola", window_mm=5, side=side).array
        assert np.argwhere(found).tolist() == [list(place)]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("value", [-1024, 0.1, 1e6 + 0.3])
def test_a_flat_scan_has_nothing_that_stands_out(rule: str, value: float) -> None:
    found = segment(scan(np.full((7, 8, 9), value, np.float32)), "local-threshold", rule=rule, window_mm=3.7)
    assert not found.array.any()
    assert [finding.code for finding in found.findings] == ["SEGMENT_EMPTY"]


@pytest.mark.parametrize("rule", RULES)
def test_the_window_is_in_mm(rule: str) -> None:
    """A scan repeated three times along one axis, at a third of the spacing, has the same windows of whole voxels."""
    array = np.random.default_rng(4).integers(0, 500, (14, 12, 10)).astype(np.int16)
    # the window is 5 coarse voxels, or 15 fine ones: the middle of each three sees the same
    coarse = segment(scan(array, (3, 1, 2)), "local-threshold", rule=rule, window_mm=15, offset=30).array
    fine = segment(scan(np.repeat(array, 3, axis=0), (1, 1, 2)), "local-threshold", rule=rule, window_mm=15, offset=30).array[1::3]
    if rule == "gaussian":
        assert (coarse != fine).mean() < 0.03  # the box of three voxels widens the Gaussian a little
    else:
        assert np.array_equal(coarse, fine)


@pytest.mark.parametrize("rule", RULES)
def test_flipped_and_turned_grids_give_the_same_voxels(rule: str, affine: np.ndarray) -> None:
    array = np.random.default_rng(5).integers(0, 300, (12, 11, 10)).astype(np.int16)
    geometry = Geometry(array.shape, affine)
    found = segment(Volume(array, geometry), "local-threshold", rule=rule, window_mm=6.3, offset=11)
    turned_geometry = geometry.transformed([[0, 0, -1], [1, 0, 0], [0, -1, 0]], (11, 0, 9), (11, 10, 12))
    turned = segment(
        Volume(array.transpose(1, 2, 0)[:, ::-1, ::-1], turned_geometry), "local-threshold", rule=rule, window_mm=6.3, offset=11
    )
    assert 0 < found.array.sum() < array.size
    assert np.array_equal(turned.array, found.array.transpose(1, 2, 0)[:, ::-1, ::-1])


def test_only_the_mask_is_kept_but_all_voxels_count(ct: Volume) -> None:
    box = np.zeros(ct.array.shape, np.uint8)
    box[30:90, 20:80, 5:25] = 1
    whole = segment(ct, "local-threshold", offset=50)
    part = segment(ct, "local-threshold", offset=50, mask=LabelMap(box, ct.geometry, (Segment(1, "box"),)))
    assert np.array_equal(part.array, whole.array * box)
    other = Geometry(ct.geometry.shape, ct.geometry.affine + np.diag([0.1, 0, 0, 0]))
    with pytest.raises(GeometryMismatchError, match="mask lies on another grid"):
        segment(ct, "local-threshold", mask=LabelMap(np.zeros(other.shape, np.uint8), other, ()))


@pytest.mark.parametrize("rule", RULES)
def test_nan_is_never_inside(rule: str) -> None:
    array, _ = drifting((12, 12, 12))
    array[3, 4, 5], array[6] = np.nan, np.nan
    found = segment(scan(array), "local-threshold", rule=rule, window_mm=5)
    assert found.array.any()
    assert not found.array[np.isnan(array)].any()


def test_scans_without_a_finite_voxel_and_wrong_parameters_are_refused() -> None:
    with pytest.raises(InputError, match="no voxel of the scan is finite"):
        segment(scan(np.full((2, 2, 2), np.nan)), "local-threshold")
    with pytest.raises(InputError, match="beyond the range of float32"):
        segment(scan(np.array([[[1e300, 1.0]]])), "local-threshold")
    for wrong in ({"window_mm": 0}, {"offset": -1}, {"weight": 2}, {"rule": "median"}):
        with pytest.raises(ParameterError, match="local-threshold"):
            segment(scan(np.zeros((2, 2, 2))), "local-threshold", **wrong)
