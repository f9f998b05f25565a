"""Balls in mm, against SimpleITK, analytic radii and brute force; margins that meet."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.distance import cdist

from medseg.core.errors import ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.postprocessing.postprocess import postprocess
from medseg.preprocessing.orientation import reoriented

SHAPE = (40, 30, 16)


def two_lumps(affine: np.ndarray, seed: int = 1) -> LabelMap:
    """Two ragged balls side by side in the middle of a grid."""
    grid = Geometry(SHAPE, affine)
    points = grid.index_to_world(np.stack(np.indices(SHAPE), axis=-1)) - grid.index_to_world((20, 15, 8))
    along = grid.direction[:, 0]
    rng = np.random.default_rng(seed)
    array = np.zeros(SHAPE, np.uint16)
    for number, shift in ((3, -7.0), (500, 7.0)):
        array[np.linalg.norm(points - shift * along, axis=-1) + rng.normal(0, 0.8, SHAPE) < 5] = number
    return LabelMap(array, grid, (Segment(3, "left"), Segment(500, "right"), Segment(9, "absent")))


@pytest.mark.parametrize("radius", [1, 2])
@pytest.mark.parametrize("name", ["closing", "opening"])
def test_they_are_those_of_simpleitk_with_the_same_ball(name: str, radius: int) -> None:
    lumps = two_lumps(np.eye(4))
    offsets = np.stack(np.meshgrid(*[np.arange(-radius, radius + 1)] * 3, indexing="ij"), axis=-1)
    ball = (np.linalg.norm(offsets, axis=-1) <= radius).astype(np.uint8)
    assert ball.sum() == {1: 7, 2: 33}[radius]
    found = postprocess(lumps, name, radius_mm=radius)
    inner = (slice(2 * radius, -2 * radius),) * 3
    for label in ("left", "right"):
        mask = np.pad(lumps.mask(label), 2 * radius)
        expected = ~dilated(~dilated(mask, ball), ball) if name == "closing" else dilated(~dilated(~mask, ball), ball)
        assert np.array_equal(found.mask(label), expected[inner])
        assert found.mask(label).sum() != lumps.mask(label).sum()


def dilated(mask: np.ndarray, ball: np.ndarray) -> np.ndarray:
    """A dilation by SimpleITK's convolution of a mask with a set of voxels."""
    image, kernel = sitk.GetImageFromArray(mask.astype(np.float32)), sitk.GetImageFromArray(ball.astype(np.float32))
    found = sitk.Convolution(image, kernel, False, sitk.ConvolutionImageFilter.ZERO_PAD)
    return sitk.GetArrayFromImage(found) > 0.5


@pytest.mark.parametrize("margin_mm", [3.0, -3.0])
def test_a_ball_gets_the_radius_it_should_have(affine: np.ndarray, margin_mm: float) -> None:
    grid = Geometry((44, 36, 22), affine)
    points = grid.index_to_world(np.stack(np.indices(grid.shape), axis=-1)) - grid.index_to_world((22, 18, 11))
    ball = LabelMap((np.linalg.norm(points, axis=-1) < 10).astype(np.uint8), grid, (Segment(1, "ball"),))
    found = postprocess(ball, "margin", margin_mm=margin_mm)
    radius = (3 * found.array.sum() * grid.voxel_volume_mm3 / (4 * np.pi)) ** (1 / 3)
    # between centres there is no step smaller than a voxel: a margin falls short by up to half a voxel, never the other way
    short = (10 + margin_mm - radius) * np.sign(margin_mm)
    assert -0.05 < short < max(grid.spacing_mm) / 2
    assert found.findings == ()


@pytest.mark.parametrize("margin_mm", [2.6, -1.5])
def test_the_margin_is_the_distance_between_centres(affine: np.ndarray, margin_mm: float) -> None:
    lumps = two_lumps(affine)
    points = lumps.geometry.index_to_world(np.stack(np.indices(SHAPE), axis=-1))
    found = postprocess(lumps, "margin", segments=["left"], margin_mm=margin_mm)
    mask = lumps.mask("left")
    if margin_mm > 0:
        near = np.zeros(SHAPE, bool)
        near[~mask] = cdist(points[~mask], points[mask]).min(axis=1) <= margin_mm
        expected = mask | (near & (lumps.array == 0))
    else:
        expected = np.zeros(SHAPE, bool)
        expected[mask] = cdist(points[mask], points[~mask]).min(axis=1) > -margin_mm
    assert np.array_equal(found.mask("left"), expected)
    assert np.array_equal(found.mask("right"), lumps.mask("right"))


def test_where_two_grow_each_voxel_goes_to_the_nearer(affine: np.ndarray) -> None:
    lumps = two_lumps(affine)
    found = postprocess(lumps, "margin", margin_mm=6.0)
    points = lumps.geometry.index_to_world(np.stack(np.indices(SHAPE), axis=-1))
    left, right = (cdist(points.reshape(-1, 3), points[lumps.mask(label)]).min(axis=1).reshape(SHAPE) for label in ("left", "right"))
    clear = np.abs(left - right) > 1e-4
    assert np.array_equal(found.mask("left")[clear], ((left <= 6) & (left < right))[clear])
    assert np.array_equal(found.mask("right")[clear], ((right <= 6) & (right < left))[clear])
    assert ((left <= 6) & (right <= 6)).any()


def test_growth_stops_at_others_unless_told(affine: np.ndarray) -> None:
    lumps = two_lumps(affine)
    kept = postprocess(lumps, "margin", segments=["left"], margin_mm=8.0)
    assert np.array_equal(kept.mask("right"), lumps.mask("right"))
    taken = postprocess(lumps, "margin", segments=["left"], margin_mm=8.0, over_others=True)
    assert taken.mask("right").sum() < lumps.mask("right").sum()
    assert (taken.mask("left") >= kept.mask("left")).all()


def test_a_margin_beyond_the_scan_is_told() -> None:
    array = np.zeros((9, 9, 9), np.uint8)
    array[4, 4, 1] = 1
    spot = LabelMap(array, Geometry((9, 9, 9), np.diag([1, 1, 3, 1])), (Segment(1, "spot"),))
    (finding,) = postprocess(spot, "margin", margin_mm=6.0).findings
    assert (finding.code, finding.details["segments"]) == ("GROWN_PAST_SCAN", ["spot"])
    assert "GROWN_PAST_SCAN" not in [one.code for one in postprocess(spot, "margin", margin_mm=4.9).findings]


def test_many_margins_beyond_the_scan_are_one_finding() -> None:
    array = np.zeros((9, 9, 9), np.uint8)
    array[4, 4, :7] = np.arange(1, 8)
    many = LabelMap(array, Geometry((9, 9, 9), np.eye(4)), tuple(Segment(n, f"rib {n}") for n in range(1, 8)))
    (finding,) = postprocess(many, "margin", margin_mm=5.0).findings
    assert len(finding.details["segments"]) == 7
    assert finding.message.startswith("rib 1, rib 2, rib 3, rib 4, rib 5 and 2 more grown by 5 mm reach beyond the scan")


def test_what_shrinks_away_is_told() -> None:
    lumps = two_lumps(np.eye(4))
    found = postprocess(lumps, "margin", margin_mm=-20)
    assert [finding.code for finding in found.findings] == ["SEGMENT_EMPTY", "SEGMENT_EMPTY"]
    assert not found.array.any()
    with pytest.raises(ParameterError, match="margin_mm is required"):
        postprocess(lumps, "margin")


@pytest.mark.parametrize(
    ("name", "given"), [("margin", {"margin_mm": 3.0}), ("closing", {"radius_mm": 2.0}), ("opening", {"radius_mm": 1.5})]
)
def test_how_the_scan_is_stored_does_not_matter(affine: np.ndarray, name: str, given: dict[str, float]) -> None:
    lumps = two_lumps(affine)
    one = reoriented(postprocess(lumps, name, **given), "SRP")
    other = postprocess(reoriented(lumps, "SRP"), name, **given)
    assert np.array_equal(one.array, other.array)
    assert not np.array_equal(one.array, reoriented(lumps, "SRP").array)


def test_growing_back_what_was_shrunk_stays_inside_a_real_organ(organs: LabelMap) -> None:
    sizes = np.bincount(organs.array.ravel())
    label = f"organ_{int(sizes[1:].argmax()) + 1}"
    inner = postprocess(organs, "margin", segments=[label], margin_mm=-6)
    back = postprocess(inner, "margin", segments=[label], margin_mm=6)
    opened = postprocess(organs, "opening", segments=[label], radius_mm=6)
    assert np.array_equal(back.mask(label) & organs.mask(label), opened.mask(label))
    assert 0 < inner.mask(label).sum() < opened.mask(label).sum() < organs.mask(label).sum()
