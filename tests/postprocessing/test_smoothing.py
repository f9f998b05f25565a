from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from medseg.core.errors import ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.postprocessing.postprocess import postprocess
from medseg.preprocessing.orientation import reoriented


def surface_faces(mask: np.ndarray) -> int:
    """Faces between inside and outside: the roughness of a surface at a given volume."""
    padded = np.pad(mask, 1).astype(np.int8)
    return int(sum(np.abs(np.diff(padded, axis=axis)).sum() for axis in range(3)))


def rough_ball(affine: np.ndarray, shape: tuple[int, int, int] = (44, 36, 22)) -> LabelMap:
    """A ball of 12 mm whose surface is eaten at random."""
    geometry = Geometry(shape, affine)
    points = geometry.index_to_world(np.stack(np.indices(shape), axis=-1))
    distance = np.linalg.norm(points - geometry.index_to_world((22, 18, 11)), axis=-1)
    rng = np.random.default_rng(7)
    array = (distance + rng.normal(0, 1.0, shape) < 12).astype(np.uint8)
    return LabelMap(array, geometry, (Segment(1, "lesion"),))


@pytest.mark.parametrize("sigma_mm", [0.5, 1.5, 4.0])
def test_the_volume_stays_and_the_surface_gets_smoother(affine: np.ndarray, sigma_mm: float) -> None:
    lesion = rough_ball(affine)
    found = postprocess(lesion, "smooth", sigma_mm=sigma_mm)
    assert abs(int(found.array.sum()) - int(lesion.array.sum())) <= 1
    finding, *more = found.findings
    assert finding.code == "SMOOTHED"
    assert [one.code for one in more] == ["SMOOTHING_TOO_FINE"] * (sigma_mm < 1)
    voxel_ml = lesion.geometry.voxel_volume_mm3 / 1000
    assert finding.details["volumes_ml"]["lesion"] == pytest.approx([lesion.array.sum() * voxel_ml, found.array.sum() * voxel_ml])
    assert finding.details["moved_ml"] == pytest.approx((found.array != lesion.array).sum() * voxel_ml)
    if sigma_mm > 1:
        assert surface_faces(found.array) < 0.8 * surface_faces(lesion.array)


def test_it_is_the_level_set_of_scipys_gaussian_that_keeps_the_volume(right_angled: np.ndarray) -> None:
    lesion = rough_ball(right_angled)
    blurred = scipy.ndimage.gaussian_filter(
        lesion.array.astype(np.float64), 1.5 / np.array(lesion.geometry.spacing_mm), mode="nearest", truncate=4
    )
    count = int(lesion.array.sum())
    level = np.sort(blurred.ravel())[-count]
    clear = np.abs(blurred - level) > 1e-5
    found = postprocess(lesion, "smooth", sigma_mm=1.5)
    assert clear.mean() > 0.99
    assert np.array_equal(found.array[clear], (blurred > level)[clear])


def test_a_smooth_ball_nearly_stays_what_it_is(affine: np.ndarray) -> None:
    shape = (44, 36, 22)
    geometry = Geometry(shape, affine)
    points = geometry.index_to_world(np.stack(np.indices(shape), axis=-1))
    distance = np.linalg.norm(points - geometry.index_to_world((22, 18, 11)), axis=-1)
    ball = LabelMap((distance < 12).astype(np.uint8), geometry, (Segment(1, "ball"),))
    found = postprocess(ball, "smooth", sigma_mm=2.0)
    changed = found.array != ball.array
    assert np.abs(distance[changed] - 12).max(initial=0) < 2.5 / 2


def test_touching_segments_keep_their_volumes_and_stay_in_touch(affine: np.ndarray) -> None:
    """Two rough halves of a ball and a core: no gap opens between them."""
    shape = (44, 36, 22)
    geometry = Geometry(shape, affine)
    points = geometry.index_to_world(np.stack(np.indices(shape), axis=-1)) - geometry.index_to_world((22, 18, 11))
    rng = np.random.default_rng(3)
    distance = np.linalg.norm(points, axis=-1) + rng.normal(0, 0.7, shape)
    array = np.where(distance < 13, np.where(points[..., 0] + rng.normal(0, 1, shape) < 0, 2, 9), 0).astype(np.uint16)
    array[distance < 5] = 400
    organs = LabelMap(array, geometry, (Segment(2, "left"), Segment(9, "right"), Segment(400, "core")))
    found = postprocess(organs, "smooth", sigma_mm=1.2)
    for item in organs.segments:
        before, after = int(organs.mask(item.label).sum()), int(found.mask(item.label).sum())
        assert abs(after - before) <= 2
        assert surface_faces(found.mask(item.label)) < 0.8 * surface_faces(organs.mask(item.label))
    whole = found.array != 0
    assert np.array_equal(scipy.ndimage.binary_fill_holes(whole), whole)
    inner = np.linalg.norm(points, axis=-1) < 10
    assert whole[inner].all()


def test_segments_that_are_not_selected_keep_every_voxel(organs: LabelMap) -> None:
    sizes = np.bincount(organs.array.ravel())
    largest = f"organ_{int(sizes[1:].argmax()) + 1}"
    found = postprocess(organs, "smooth", segments=[largest], sigma_mm=4.0)
    assert abs(int(found.mask(largest).sum()) - int(organs.mask(largest).sum())) <= 2
    for item in organs.segments:
        if item.label != largest:
            assert np.array_equal(found.mask(item.label), organs.mask(item.label))
    assert (found.array != organs.array).any()


def test_the_volumes_of_all_organs_of_a_real_scan_hold(organs: LabelMap) -> None:
    found = postprocess(organs, "smooth", sigma_mm=3.0)
    before, after = (np.bincount(result.array.ravel(), minlength=256) for result in (organs, found))
    told = {finding.details["segment"] for finding in found.findings if finding.code == "VOLUME_CHANGED"}
    rougher = 0
    for item in organs.segments:
        if item.label not in told:
            assert abs(int(after[item.number]) - int(before[item.number])) <= max(1, 0.01 * before[item.number])
        rougher += surface_faces(found.mask(item.label)) > surface_faces(organs.mask(item.label))
    assert len(told) <= len(organs.segments) // 20
    assert rougher <= len(organs.segments) // 20


def test_a_change_of_axes_changes_nothing_but_voxels_of_equal_value(affine: np.ndarray) -> None:
    lesion = rough_ball(affine)
    one = reoriented(postprocess(lesion, "smooth"), "SRP")
    other = postprocess(reoriented(lesion, "SRP"), "smooth")
    assert int((one.array != other.array).sum()) <= 2
    assert abs(int(one.array.sum()) - int(other.array.sum())) <= 1


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 6), (3, 1, 2)])
def test_tiny_maps_keep_their_volume(shape: tuple[int, int, int]) -> None:
    full = LabelMap(np.ones(shape, np.uint8), Geometry(shape, np.eye(4)), (Segment(1, "a"),))
    assert postprocess(full, "smooth", sigma_mm=3).array.all()
    empty = LabelMap(np.zeros(shape, np.uint8), Geometry(shape, np.eye(4)), (Segment(1, "a"),))
    assert not postprocess(empty, "smooth").array.any()


def test_one_voxel_stays_one_voxel() -> None:
    array = np.zeros((7, 7, 7), np.uint8)
    array[3, 3, 3] = 1
    dot = LabelMap(array, Geometry(array.shape, np.diag([1.0, 1, 3, 1])), (Segment(1, "dot"),))
    assert np.array_equal(postprocess(dot, "smooth", sigma_mm=2).array, array)


def test_impossible_widths_are_refused() -> None:
    for sigma in (0, -1, float("inf")):
        with pytest.raises(ParameterError, match="smooth: "):
            postprocess(rough_ball(np.eye(4)), "smooth", sigma_mm=sigma)


@pytest.mark.parametrize("name", ["smooth", "joint-smooth"])
def test_a_sigma_too_small_for_the_spacing_is_told_with_one_that_is_not(name: str) -> None:
    ball = rough_ball(np.diag([3.0, 3.0, 3.0, 1.0]), (20, 20, 20))
    told = {one.code: one for one in postprocess(ball, name).findings}
    assert told["SMOOTHING_TOO_FINE"].severity == "warning"
    assert "--sigma-mm 3" in told["SMOOTHING_TOO_FINE"].message
    assert told["SMOOTHING_TOO_FINE"].details == {"sigma_mm": 1.5, "spacing_mm": 3.0}
    assert "SMOOTHING_TOO_FINE" not in [one.code for one in postprocess(ball, name, sigma_mm=3).findings]
