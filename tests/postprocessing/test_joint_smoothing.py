"""Several labels smoothed together: no gap, no overlap, the outline as asked, volumes as asked."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.postprocessing.postprocess import postprocess
from medseg.preprocessing.orientation import reoriented

SHAPE = (44, 36, 22)
THREE = (Segment(2, "left"), Segment(9, "right"), Segment(400, "core"), Segment(500, "table"))


def surface_faces(mask: np.ndarray) -> int:
    padded = np.pad(mask, 1).astype(np.int8)
    return int(sum(np.abs(np.diff(padded, axis=axis)).sum() for axis in range(3)))


def thirds(affine: np.ndarray) -> LabelMap:
    """A ragged ball of two halves and a core, with ragged borders between them, and a table below that is another segment."""
    grid = Geometry(SHAPE, affine)
    points = grid.index_to_world(np.stack(np.indices(SHAPE), axis=-1)) - grid.index_to_world((22, 18, 11))
    rng = np.random.default_rng(3)
    distance = np.linalg.norm(points, axis=-1) + rng.normal(0, 0.7, SHAPE)
    array = np.where(distance < 12, np.where(points[..., 0] + rng.normal(0, 1, SHAPE) < 0, 2, 9), 0).astype(np.uint16)
    array[distance < 5] = 400
    array[:, :4] = 500
    return LabelMap(array, grid, THREE)


def test_with_the_outline_kept_only_inner_borders_change(affine: np.ndarray) -> None:
    whole = thirds(affine)
    found = postprocess(whole, "joint-smooth", outline="kept", segments=["left", "right", "core"], sigma_mm=1.5)
    assert np.array_equal(found.array == 0, whole.array == 0)
    assert np.array_equal(found.mask("table"), whole.mask("table"))
    for label in ("left", "right", "core"):
        before, after = whole.mask(label), found.mask(label)
        assert abs(int(after.sum()) - int(before.sum())) <= 2
    inner = (
        np.linalg.norm(
            whole.geometry.index_to_world(np.stack(np.indices(SHAPE), axis=-1)) - whole.geometry.index_to_world((22, 18, 11)), axis=-1
        )
        < 9
    )
    for label in ("left", "right"):
        assert surface_faces(found.mask(label) & inner) < 0.9 * surface_faces(whole.mask(label) & inner)


def test_with_the_outline_smoothed_no_hole_opens(affine: np.ndarray) -> None:
    whole = thirds(affine)
    ball = np.isin(whole.array, (2, 9, 400))
    found = postprocess(whole, "joint-smooth", segments=["left", "right", "core"], sigma_mm=1.5)
    smooth_ball = np.isin(found.array, (2, 9, 400))
    assert surface_faces(smooth_ball) < 0.85 * surface_faces(ball)
    assert np.array_equal(ndimage.binary_fill_holes(smooth_ball), smooth_ball)
    for label in ("left", "right", "core"):
        assert abs(int(found.mask(label).sum()) - int(whole.mask(label).sum())) <= 3
    (finding,) = found.findings
    assert finding.code == "SMOOTHED"
    assert set(finding.details["volumes_ml"]) == {"left", "right", "core"}


def test_without_volumes_it_is_the_greatest_of_scipys_blurred_masks(right_angled: np.ndarray) -> None:
    whole = thirds(right_angled)
    sigma = 1.3 / np.array(whole.geometry.spacing_mm)
    numbers = [2, 9, 400, 500]
    fields = np.stack([ndimage.gaussian_filter((whole.array == n).astype(float), sigma, mode="nearest", truncate=4) for n in numbers])
    ordered = np.sort(fields, axis=0)
    clear = (whole.array != 0) & (ordered[-1] - ordered[-2] > 1e-5)
    found = postprocess(whole, "joint-smooth", outline="kept", keep_volumes=False, sigma_mm=1.3)
    assert np.array_equal(found.array[clear], np.array(numbers)[fields.argmax(axis=0)][clear])
    assert (found.array != whole.array).sum() > 100


@pytest.mark.parametrize("outline", ["kept", "smoothed"])
def test_a_change_of_axes_changes_nothing_but_voxels_of_equal_value(affine: np.ndarray, outline: str) -> None:
    whole = thirds(affine)
    one = reoriented(postprocess(whole, "joint-smooth", outline=outline), "SRP")
    other = postprocess(reoriented(whole, "SRP"), "joint-smooth", outline=outline)
    assert int((one.array != other.array).sum()) <= 8


def test_all_organs_of_a_real_scan_keep_their_places(organs: LabelMap) -> None:
    found = postprocess(organs, "joint-smooth", outline="kept", sigma_mm=4.0)
    assert np.array_equal(found.array == 0, organs.array == 0)
    before, after = (np.bincount(result.array.ravel(), minlength=256) for result in (organs, found))
    told = {finding.details["segment"] for finding in found.findings if finding.code == "VOLUME_CHANGED"}
    for item in organs.segments:
        if item.label not in told:
            assert abs(int(after[item.number]) - int(before[item.number])) <= max(1, 0.01 * before[item.number])
    assert len(told) <= len(organs.segments) // 20
    assert (found.array != organs.array).any()
