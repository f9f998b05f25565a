"""A tumour inside its organ: pieces against SimpleITK's components, places and volumes as told."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from medseg.core.errors import GeometryMismatchError, UnknownSegmentError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.postprocessing.postprocess import postprocess
from medseg.preprocessing.orientation import reoriented

SHAPE = (44, 36, 22)
GRID_SEGMENTS = (Segment(1, "liver"), Segment(2, "tumour"))


def scene(affine: np.ndarray) -> tuple[LabelMap, LabelMap, np.ndarray]:
    """A liver of 12 mm radius; a tumour inside, one bulging out, one far away. The map with both, the liver whole, distances."""
    grid = Geometry(SHAPE, affine)
    points = grid.index_to_world(np.stack(np.indices(SHAPE), axis=-1)) - grid.index_to_world((22, 18, 11))
    along = grid.direction[:, 0]
    liver = np.linalg.norm(points, axis=-1) < 10
    inner = np.linalg.norm(points - 2 * along, axis=-1) < 3.5
    bulge = np.linalg.norm(points + 10.5 * along, axis=-1) < 3
    far = np.linalg.norm(points - 15 * along, axis=-1) < 2.2
    tumour = inner | bulge | far
    both = np.where(tumour, 2, np.where(liver, 1, 0)).astype(np.uint8)
    return LabelMap(both, grid, GRID_SEGMENTS), LabelMap(liver.astype(np.uint8), grid, GRID_SEGMENTS[:1]), far


def test_in_one_map_pieces_that_do_not_touch_the_organ_go(affine: np.ndarray) -> None:
    both, _, far = scene(affine)
    found = postprocess(both, "constrain", segments=["tumour"], inside=["liver"])
    assert np.array_equal(found.mask("tumour"), both.mask("tumour") & ~far)
    assert np.array_equal(found.mask("liver"), both.mask("liver"))
    (finding,) = found.findings
    assert finding.code == "OUTSIDE_CONSTRAINT"
    assert finding.details["pieces"] == 1
    assert finding.details["volume_ml"] == pytest.approx(far.sum() * both.geometry.voxel_volume_mm3 / 1000)
    place = both.geometry.index_to_world(np.argwhere(far).mean(axis=0))
    assert ", ".join(f"{value:.1f}" for value in place) in finding.message


def test_the_share_of_a_piece_decides(affine: np.ndarray) -> None:
    """With the liver whole in its own map, the share of the bulging piece inside is counted by hand."""
    both, liver, _ = scene(affine)
    pieces, _ = ndimage.label(both.mask("tumour"), np.ones((3, 3, 3)))
    shares = {n: float(liver.mask("liver")[pieces == n].mean()) for n in range(1, pieces.max() + 1)}
    assert sorted(round(share) for share in shares.values())[-1] == 1
    for least in (0.05, 0.45, 0.95):
        found = postprocess(both, "constrain", segments=["tumour"], inside=["liver"], organs=liver, least_share=least)
        # where less than the share lies inside, the surface against the organ may still keep it
        for number, share in shares.items():
            if share >= least:
                assert found.mask("tumour")[pieces == number].all()
            if share == 0:
                assert not found.mask("tumour")[pieces == number].any()


def test_clipping_cuts_voxel_by_voxel(affine: np.ndarray) -> None:
    both, liver, _ = scene(affine)
    found = postprocess(both, "constrain", segments=["tumour"], inside=["liver"], organs=liver, outside="clip")
    assert np.array_equal(found.mask("tumour"), both.mask("tumour") & liver.mask("liver"))
    wider = postprocess(both, "constrain", segments=["tumour"], inside=["liver"], organs=liver, outside="clip", margin_mm=2)
    grown = postprocess(liver, "margin", margin_mm=2)
    assert np.array_equal(wider.mask("tumour"), both.mask("tumour") & grown.mask("liver"))


def test_the_surface_against_the_organ_is_measured_in_mm2() -> None:
    """A slab of a tumour on the organ: by area 40 % of its surface lies against it, by faces another share."""
    grid = Geometry((4, 4, 4), np.diag([1.0, 1.0, 4.0, 1.0]))
    array = np.zeros((4, 4, 4), np.uint8)
    array[:, :, 0] = 1
    array[1:3, 1:3, 1] = 2
    both = LabelMap(array, grid, GRID_SEGMENTS)
    share = 4 / (4 + 4 + 8 * 4)  # bottom and top of 4 mm², sides of eight faces of 4 mm²
    kept = postprocess(both, "constrain", segments=["tumour"], inside=["liver"], least_share=share - 0.001)
    gone = postprocess(both, "constrain", segments=["tumour"], inside=["liver"], least_share=share + 0.001)
    assert np.array_equal(kept.array, array)
    assert not gone.mask("tumour").any()
    assert [finding.code for finding in gone.findings] == ["OUTSIDE_CONSTRAINT", "SEGMENT_EMPTY"]


def test_how_the_scan_is_stored_does_not_matter(affine: np.ndarray) -> None:
    both, _, _ = scene(affine)
    chosen = {"segments": ["tumour"], "inside": ["liver"]}
    one = reoriented(postprocess(both, "constrain", **chosen), "SRP")
    other = postprocess(reoriented(both, "SRP"), "constrain", **chosen)
    assert np.array_equal(one.array, other.array)


def test_without_an_organ_nothing_goes_and_it_is_told() -> None:
    both, _, _ = scene(np.eye(4))
    none = both.with_array(np.where(both.array == 1, 0, both.array).astype(np.uint8))
    found = postprocess(none, "constrain", segments=["tumour"], inside=["liver"])
    assert np.array_equal(found.array, none.array)
    assert [finding.code for finding in found.findings] == ["CONSTRAINT_EMPTY"]
    with pytest.raises(UnknownSegmentError, match="kidney"):
        postprocess(both, "constrain", segments=["tumour"], inside=["kidney"])
    other = LabelMap(both.array, Geometry(SHAPE, np.diag([1, 1, 2, 1])), GRID_SEGMENTS)
    with pytest.raises(GeometryMismatchError, match="another grid"):
        postprocess(both, "constrain", segments=["tumour"], inside=["liver"], organs=other)
