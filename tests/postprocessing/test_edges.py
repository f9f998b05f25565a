"""Borders that are off by less than the reach end on the edge of the scan, on every grid."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, special

from medseg.core.errors import InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.postprocessing.edges import SnapToEdgesParams, neighbour_range, snap_to_edges
from medseg.postprocessing.postprocess import postprocess

SHAPE = (56, 48, 30)


def balls(affine: np.ndarray, radius_mm: float) -> tuple[np.ndarray, np.ndarray, Geometry]:
    """Distances in mm from the centres of two balls side by side in the middle of a grid."""
    grid = Geometry(SHAPE, affine)
    points = grid.index_to_world(np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1))
    middle = grid.index_to_world((np.array(SHAPE) - 1) / 2)
    along = grid.direction[:, 0] * (radius_mm + 3.0)
    return np.linalg.norm(points - middle - along, axis=-1), np.linalg.norm(points - middle + along, axis=-1), grid


def test_borders_off_by_two_millimetres_end_on_the_edge(affine):
    one, two, grid = balls(affine, 9.0)
    rng = np.random.default_rng(5)
    scan = np.where(one < 9, 120.0, np.where(two < 9, 60.0, -100.0)) + rng.normal(0, 5, SHAPE)
    labels = np.where(one < 7, 1, np.where(two < 10.5, 2, 0)).astype(np.uint8)
    label_map = LabelMap(labels, grid, (Segment(1, "one"), Segment(2, "two")))
    found = snap_to_edges(label_map, SnapToEdgesParams(reach_mm=3.5, sigma_mm=0), volume=Volume(scan.astype(np.int16), grid))
    for label, distance in (("one", one), ("two", two)):
        truth, mask = distance < 9, found.mask(label)
        assert 2 * (truth & mask).sum() / (truth.sum() + mask.sum()) > 0.97
        assert mask.sum() == pytest.approx(truth.sum(), rel=0.03)
        before = label_map.mask(label)
        assert 2 * (truth & before).sum() / (truth.sum() + before.sum()) < 0.9


def test_what_is_thin_or_deep_stays():
    array = np.zeros((40, 20, 20), np.uint8)
    array[4:24, 4:16, 4:16] = 1
    array[30:32, 9:11, 4:16] = 2  # a vessel thinner than the reach
    grid = Geometry(array.shape, np.eye(4))
    label_map = LabelMap(array, grid, (Segment(1, "organ"), Segment(2, "vessel")))
    found = snap_to_edges(label_map, SnapToEdgesParams(reach_mm=3), volume=Volume(np.zeros(array.shape, np.int16), grid))
    assert (found.array == 2)[30:32, 9:11, 4:16].all()
    assert (found.array == 1)[9:19, 9:11, 9:11].all()


def test_the_relief_is_the_range_among_face_neighbours():
    image = np.random.default_rng(0).normal(size=(7, 8, 9)).astype(np.float32)
    cross = ndimage.generate_binary_structure(3, 1)
    expected = ndimage.grey_dilation(image, footprint=cross, mode="nearest") - ndimage.grey_erosion(image, footprint=cross, mode="nearest")
    np.testing.assert_array_equal(neighbour_range(image), expected)


def test_an_empty_map_stays_empty_and_a_scan_is_needed():
    grid = Geometry((6, 6, 6), np.eye(4))
    empty = LabelMap(np.zeros((6, 6, 6), np.uint8), grid, (Segment(1, "liver"),))
    assert not snap_to_edges(empty, SnapToEdgesParams(), volume=Volume(np.zeros((6, 6, 6)), grid)).array.any()
    with pytest.raises(ParameterError, match="--image"):
        postprocess(empty, "snap-to-edges")
    full = empty.with_array(np.ones((6, 6, 6), np.uint8))
    with pytest.raises(InputError, match="NaN"):
        snap_to_edges(full, SnapToEdgesParams(), volume=Volume(np.full((6, 6, 6), np.nan), grid))


def test_a_border_that_noise_hides_stays():
    one, _, grid = balls(np.diag([0.9, 1.1, 1.3, 1]), 9.0)
    scan = np.where(one < 9, 40.0, 0.0) + np.random.default_rng(1).normal(0, 30, SHAPE)
    labels = (one < 7).astype(np.uint8)
    label_map = LabelMap(labels, grid, (Segment(1, "one"),))
    found = snap_to_edges(label_map, SnapToEdgesParams(reach_mm=3.5), volume=Volume(scan.astype(np.int16), grid))
    np.testing.assert_array_equal(found.array, labels)


def test_more_segments_than_pairs_can_be_judged_of_are_refused() -> None:
    """70,000 segments: their places do not fit 16 bits, and all pairs of them would take gigabytes."""
    grid = Geometry((70, 100, 10), np.eye(4))
    numbers = np.arange(1, 70_001, dtype=np.uint32).reshape(grid.shape)
    many = LabelMap(numbers, grid, tuple(Segment(n, f"s{n}") for n in range(1, 70_001)))
    scan = Volume(np.zeros(grid.shape, np.int16), grid)
    for name in ("snap-to-edges", "refine-boundary"):
        with pytest.raises(InputError, match=r"the borders of 70000 segments cannot be moved at once"):
            postprocess(many, name, volume=scan)


@pytest.mark.parametrize(("labelled", "severity"), [(21, "info"), (23, "warning")])
def test_what_snapping_does_to_the_volume_is_told(labelled: int, severity: str) -> None:
    grid = Geometry((40, 9, 9), np.eye(4))
    scan, labels = np.zeros(grid.shape, np.int16), np.zeros(grid.shape, np.uint8)
    scan[:20], labels[:labelled] = 100, 1
    found = postprocess(LabelMap(labels, grid, (Segment(1, "liver"),)), "snap-to-edges", volume=Volume(scan, grid))
    (finding,) = found.findings
    assert (finding.code, finding.severity) == ("BOUNDARY_REFINED", severity)
    assert finding.details["volumes_ml"]["liver"] == pytest.approx([labelled * 81 / 1000, 20 * 81 / 1000])
    assert finding.details["moved_ml"] == pytest.approx((labelled - 20) * 81 / 1000)


def test_the_edge_of_a_blurred_ball_lies_inward_as_the_description_says() -> None:
    """The slope of a ball of radius r blurred by sigma is steepest at r - sigma² / r, to first order (r f(r) obeys the heat equation)."""
    grid = Geometry((96, 96, 96), np.diag([0.5, 0.5, 0.5, 1.0]))
    radius_mm, sigma_mm = 12.0, 2.4
    axis_mm = (np.arange(96) - 47.37) * 0.5
    away_mm = np.sqrt(sum(part**2 for part in np.meshgrid(axis_mm, axis_mm, axis_mm, indexing="ij")))
    upper, lower = (radius_mm - away_mm) / sigma_mm, (-radius_mm - away_mm) / sigma_mm
    bells = (np.exp(-(upper**2) / 2) - np.exp(-(lower**2) / 2)) / np.sqrt(2 * np.pi)
    scan = 1000 * (special.ndtr(upper) - special.ndtr(lower) - sigma_mm / away_mm * bells)  # the blurred ball, exactly
    labels = LabelMap((away_mm < radius_mm).astype(np.uint8), grid, (Segment(1, "ball"),))
    found = snap_to_edges(labels, SnapToEdgesParams(sigma_mm=0.0), volume=Volume(scan.astype(np.float32), grid))
    shown_ml = 4 / 3 * np.pi * (radius_mm - sigma_mm**2 / radius_mm) ** 3 / 1000
    assert np.count_nonzero(found.array) * grid.voxel_volume_mm3 / 1000 == pytest.approx(shown_ml, rel=0.02)
