"""Convex hulls of segments on every grid."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import Delaunay

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.postprocessing.postprocess import postprocess
from medseg.preprocessing.orientation import reoriented

SHAPE = (15, 12, 9)


def speckles(affine: np.ndarray) -> LabelMap:
    rng = np.random.default_rng(5)
    array = (rng.random(SHAPE) < 0.02).astype(np.uint8)
    array[7, 6, 4] = 2
    return LabelMap(array, Geometry(SHAPE, affine), (Segment(1, "lesion"), Segment(2, "clip")))


def test_it_is_the_hull_in_the_patient(affine: np.ndarray) -> None:
    """Triangulated in mm, on the tilted and sheared grid; a voxel of another segment stays."""
    lesion = speckles(affine)
    points = lesion.geometry.index_to_world(np.stack(np.indices(SHAPE), axis=-1))
    hull = Delaunay(points[lesion.mask("lesion")])
    inside = (hull.find_simplex(points.reshape(-1, 3), tol=1e-9) >= 0).reshape(SHAPE)
    found = postprocess(lesion, "convex-hull", segments=["lesion"])
    assert np.array_equal(found.mask("lesion"), inside & ~lesion.mask("clip"))
    assert np.array_equal(found.mask("clip"), lesion.mask("clip"))
    assert inside[7, 6, 4]


@pytest.mark.parametrize("within", ["volume", "axial", "sagittal"])
def test_how_the_scan_is_stored_does_not_matter(affine: np.ndarray, within: str) -> None:
    lesion = speckles(affine)
    one = reoriented(postprocess(lesion, "convex-hull", within=within), "SRP")
    other = postprocess(reoriented(lesion, "SRP"), "convex-hull", within=within)
    assert np.array_equal(one.array, other.array)
    assert one.array.sum() > lesion.array.sum()


def test_slices_have_their_own() -> None:
    array = np.zeros((5, 5, 2), np.uint8)
    array[0, 0, 0] = array[4, 0, 0] = array[0, 4, 0] = array[2, 2, 1] = 1
    spots = LabelMap(array, Geometry(array.shape, np.diag([1, 1, 5, 1])), (Segment(1, "a"),))
    found = postprocess(spots, "convex-hull", within="axial").array
    assert found[:, :, 0].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]]
    assert found[:, :, 1].sum() == 1


@pytest.mark.parametrize("name", ["convex-hull", "smooth", "joint-smooth", "fill-holes", "instances"])
def test_a_label_map_without_a_voxel_is_told_once(name: str) -> None:
    empty = LabelMap(np.zeros((3, 4, 5), np.uint8), Geometry((3, 4, 5), np.eye(4)), (Segment(1, "liver"),))
    found = postprocess(empty, name)
    assert [(finding.code, finding.severity) for finding in found.findings] == [("SEGMENT_EMPTY", "info")]
    assert postprocess(found, name).findings == found.findings
