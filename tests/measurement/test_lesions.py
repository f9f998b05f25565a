"""One row a lesion: ids, organs, borders, empty and tiny masks, layers, and what RECIST 1.1 says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from medseg.core.codes import Code
from medseg.core.errors import GeometryMismatchError, OverlappingSegmentsError, ParameterError, UnknownSegmentError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.measurement import Status
from medseg.core.segment import Segment
from medseg.core.volume import Source, Volume
from medseg.measurement.lesions import lesions
from medseg.measurement.measurable import is_lymph_node, least_mm

GRID = Geometry((40, 40, 20), np.diag([-1.0, -1.0, 3.0, 1.0]))


def boxes(*places: tuple[tuple[int, int, int], tuple[int, int, int], int], geometry: Geometry = GRID) -> np.ndarray:
    array = np.zeros(geometry.shape, np.uint8)
    for first, size, number in places:
        array[tuple(slice(a, a + n) for a, n in zip(first, size, strict=True))] = number
    return array


def labelled(array: np.ndarray, *segments: Segment, geometry: Geometry = GRID) -> LabelMap:
    return LabelMap(array, geometry, segments)


TWO = boxes(((4, 4, 4), (4, 4, 3), 1), ((20, 20, 8), (12, 9, 5), 1))
TUMOUR = Segment(1, "liver tumour")


def test_each_part_is_a_lesion_the_largest_first() -> None:
    table = lesions(labelled(TWO, TUMOUR))
    assert [lesion.id for lesion in table] == ["liver-tumour-1", "liver-tumour-2"]
    assert [lesion.row.voxel_count for lesion in table] == [540, 48]
    assert [lesion.row.label for lesion in table] == ["liver-tumour-1", "liver-tumour-2"]
    assert table.instances.array[22, 22, 9] == 1
    assert table.instances.array[5, 5, 5] == 2
    assert table["liver-tumour-2"].number == 2
    with pytest.raises(UnknownSegmentError, match="liver-tumour-1"):
        table["other"]


def test_voxel_order_and_file_precision_leave_ids_as_they_are() -> None:
    """Equal sizes in one slice are told apart from head to feet, front to back, right to left; a hair's breadth does not count."""
    places = [((4, 4, 4), (3, 3, 3), 1), ((20, 4, 4), (3, 3, 3), 1), ((4, 25, 4), (3, 3, 3), 1), ((20, 25, 12), (3, 3, 3), 1)]
    array = boxes(*places)
    expected = {lesion.id: lesion.row.centroid_mm for lesion in lesions(labelled(array, TUMOUR))}
    assert expected["liver-tumour-1"] == pytest.approx((-21, -26, 39))
    assert expected["liver-tumour-2"] == pytest.approx((-5, -5, 15))
    for axes, flip in (((2, 1, 0), 1), ((1, 0, 2), -1), ((0, 1, 2), -1)):
        step, start = np.zeros((3, 3)), np.zeros(3)
        for new, old in enumerate(axes):
            step[old, new] = flip
            start[old] = GRID.shape[old] - 1 if flip < 0 else 0
        turned = np.flip(array, (0, 1, 2)) if flip < 0 else array
        turned = turned.transpose(axes)
        geometry = GRID.transformed(step, start, turned.shape)
        nudged = Geometry(
            geometry.shape, np.asarray(geometry.affine, np.float32).astype(float) + 1e-6 * np.sin(geometry.affine) * np.eye(4)[3]
        )
        found = {lesion.id: lesion.row.centroid_mm for lesion in lesions(labelled(turned, TUMOUR, geometry=nudged), plane="axial")}
        for id, centre in expected.items():
            assert found[id] == pytest.approx(centre, abs=1e-3)


def test_a_tracked_segment_in_one_part_keeps_its_name() -> None:
    one = Segment(1, "GTV", tracking_id="Lesion 1", tracking_uid="1.2.3")
    table = lesions(labelled(boxes(((4, 4, 4), (4, 4, 3), 1)), one))
    assert table.lesions[0].id == "Lesion-1"
    assert table.instances.segments[0].tracking_uid == "1.2.3"
    two = lesions(labelled(TWO, one))
    assert [lesion.id for lesion in two] == ["GTV-1", "GTV-2"]
    assert two.instances.segments[0].tracking_uid == ""


def test_names_that_look_alike_keep_apart() -> None:
    array = boxes(((2, 2, 2), (3, 3, 3), 1), ((12, 2, 2), (3, 3, 3), 2), ((22, 2, 2), (3, 3, 3), 3))
    ids = [lesion.id for lesion in lesions(labelled(array, Segment(1, "a/b"), Segment(2, "A b"), Segment(3, "///")))]
    assert ids == ["a-b-1-1", "A-b-2-1", "segment-3-1"]


def test_an_empty_mask_gives_an_empty_table_and_says_so() -> None:
    table = lesions(labelled(np.zeros(GRID.shape, np.uint8), TUMOUR))
    assert len(table) == 0
    assert table.absent == ("liver tumour",)
    assert [finding.code for finding in table.findings] == ["NO_LESION"]
    assert not table.instances.array.any()
    json.dumps(table.to_dict(), allow_nan=False)


def test_one_voxel_is_a_lesion_of_one_step_each_way() -> None:
    lesion = lesions(labelled(boxes(((7, 8, 9), (1, 1, 1), 1)), TUMOUR)).lesions[0]
    assert (lesion.longest.least_mm, lesion.longest.length_mm, lesion.longest.mesh_mm) == pytest.approx((0.0, 0.5, 1.0))
    assert (lesion.diameter_3d.length_mm, lesion.diameter_3d.mesh_mm) == pytest.approx((1.5, 3.0))
    assert not lesion.measurable
    assert lesion.measurable_reason.startswith("longest diameter 0.5 mm is below 10.0 mm")
    json.dumps(lesion.to_dict(), allow_nan=False)


def test_small_parts_are_left_out_on_request_and_counted() -> None:
    table = lesions(labelled(TWO, TUMOUR), keep_at_least_mm3=200)
    assert len(table) == 1
    assert table.left_out == 1
    assert "SMALL_PARTS_LEFT_OUT" in [finding.code for finding in table.findings]
    assert len(lesions(labelled(TWO, TUMOUR), keep_at_least_mm3=144)) == 2  # 48 voxels of 3 mm³: exactly enough


def test_a_whole_segment_can_be_one_lesion() -> None:
    table = lesions(labelled(TWO, TUMOUR), connectivity=None)
    assert [lesion.row.voxel_count for lesion in table] == [588]
    assert table.lesions[0].diameter_3d.length_mm > 30


def test_a_lesion_at_the_border_is_cut_and_not_measurable() -> None:
    lesion = lesions(labelled(boxes(((0, 10, 5), (15, 15, 5), 1)), TUMOUR)).lesions[0]
    assert lesion.row.status is Status.CUT_BY_FIELD_OF_VIEW
    assert lesion.row.touches == ("right",)
    assert not lesion.measurable
    assert "visible part" in lesion.measurable_reason


def test_only_chosen_segments_and_never_unknown_ones() -> None:
    array = boxes(((4, 4, 4), (12, 12, 4), 1), ((20, 20, 8), (12, 9, 5), 2))
    both = labelled(array, TUMOUR, Segment(2, "liver"))
    assert [lesion.segment.label for lesion in lesions(both, segments=["liver"])] == ["liver"]
    assert [lesion.segment.label for lesion in lesions(both, segments=["1"])] == ["liver tumour"]
    assert lesions(both, segments=["liver"]).instances.array.max() == 1
    with pytest.raises(UnknownSegmentError, match="spleen"):
        lesions(both, segments=["spleen"])


def test_impossible_settings_and_other_grids_are_refused() -> None:
    with pytest.raises(ParameterError, match="connectivity"):
        lesions(labelled(TWO, TUMOUR), connectivity=8)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="keep_at_least"):
        lesions(labelled(TWO, TUMOUR), keep_at_least_mm3=float("nan"))
    other = Geometry(GRID.shape, np.diag([-1.0, -1.0, 2.0, 1.0]))
    with pytest.raises(GeometryMismatchError):
        lesions(labelled(TWO, TUMOUR), Volume(np.zeros(GRID.shape, np.int16), other))
    with pytest.raises(GeometryMismatchError):
        lesions(labelled(TWO, TUMOUR), organs=labelled(TWO, Segment(1, "liver"), geometry=other))


def test_segments_that_share_voxels_are_measured_in_their_layers() -> None:
    first = labelled(boxes(((4, 4, 4), (12, 12, 4), 1)), TUMOUR)
    second = labelled(boxes(((10, 10, 5), (12, 12, 4), 2)), Segment(2, "node"))
    table = lesions((first, second))
    assert [lesion.row.voxel_count for lesion in table] == [576, 576]
    assert [lesion.number for lesion in table] == [1, 2]
    with pytest.raises(OverlappingSegmentsError):
        table.instances


@pytest.mark.parametrize(
    ("place", "relation", "share"),
    [
        (((12, 12, 6), (4, 4, 3), 1), "inside", 1.0),
        (((6, 12, 6), (6, 6, 3), 1), "partly_inside", 1 / 3),
        (((4, 12, 6), (6, 6, 3), 1), "touching", 0.0),
        (((2, 12, 6), (4, 4, 3), 1), "near", 0.0),
    ],
)
def test_organ_of_a_lesion(place: tuple, relation: str, share: float) -> None:
    organ = labelled(boxes(((10, 5, 3), (20, 25, 12), 5), ((34, 5, 3), (4, 4, 4), 6)), Segment(5, "liver"), Segment(6, "spleen"))
    lesion = lesions(labelled(boxes(place), TUMOUR), organs=organ).lesions[0]
    assert lesion.place is not None
    assert (lesion.organ, lesion.place.relation) == ("liver", relation)
    assert lesion.organ_share == pytest.approx(share)
    assert lesion.place.distance_mm == (pytest.approx(5.0) if relation == "near" else 0.0 if relation == "touching" else None)


def test_a_lesion_cut_out_of_its_organ_is_surrounded() -> None:
    array = boxes(((5, 5, 3), (25, 25, 12), 2), ((12, 12, 6), (6, 6, 3), 0))
    lesion = lesions(labelled(boxes(((12, 12, 6), (6, 6, 3), 1)), TUMOUR), organs=labelled(array, Segment(2, "liver"))).lesions[0]
    assert lesion.place is not None
    assert (lesion.organ, lesion.place.relation, lesion.place.contact_share) == ("liver", "surrounded", 1.0)


def test_organs_without_voxels_give_no_organ_and_a_reason() -> None:
    empty = labelled(np.zeros(GRID.shape, np.uint8), Segment(2, "liver"))
    entry = lesions(labelled(TWO, TUMOUR), organs=empty).lesions[0].to_dict()
    assert entry["organ"] is None
    assert entry["organ_reason"]


def test_slices_know_their_dicom_instance() -> None:
    source = Source("scan", "dicom", "1.2", (), tuple(f"1.2.{k}" for k in range(20)))
    scan = Volume(np.zeros(GRID.shape, np.int16), GRID, "CT", "HU", source)
    table = lesions(labelled(TWO, TUMOUR), scan)
    for lesion in table:
        assert lesion.longest.sop_instance_uid == f"1.2.{lesion.longest.slice_index}"
        z = {round(end[2], 6) for end in (*lesion.longest.ends_mm, *lesion.perpendicular.ends_mm)}
        assert z == {lesion.longest.slice_index * 3.0}
    alone = lesions(labelled(TWO, TUMOUR)).lesions[0].to_dict()
    assert alone["sop_instance_uid"] is None
    assert alone["sop_instance_uid_reason"] == "no DICOM scan was given"


def test_recist_asks_for_10_mm_or_twice_thick_slices_and_15_mm_in_nodes() -> None:
    """Eisenhauer et al. 2009, sections 3.1 and 3.2."""
    assert (least_mm(False, 5.0), least_mm(False, 7.0), least_mm(True, 2.0), least_mm(True, 8.0)) == (10.0, 14.0, 15.0, 16.0)
    twelve = boxes(((5, 5, 5), (11, 3, 2), 1))
    thin = lesions(labelled(twelve, TUMOUR)).lesions[0]
    assert thin.measurable
    thick = Geometry(GRID.shape, np.diag([-1.0, -1.0, 8.0, 1.0]))
    assert not lesions(labelled(twelve, TUMOUR, geometry=thick)).lesions[0].measurable
    node = lesions(labelled(twelve, TUMOUR), nodes=["liver tumour"]).lesions[0]
    assert node.is_node
    assert not node.measurable
    assert "short axis" in node.measurable_reason


@pytest.mark.parametrize("modality", ["PT", "NM", "US"])
def test_recist_does_not_measure_on_pet_or_ultrasound(modality: str) -> None:
    scan = Volume(np.zeros(GRID.shape, np.float32), GRID, modality)
    lesion = lesions(labelled(TWO, TUMOUR), scan).lesions[0]
    assert not lesion.measurable
    assert "CT or MR" in lesion.measurable_reason


def test_lymph_nodes_are_known_by_name_or_code() -> None:
    coded = Segment(1, "GTVn", type=Code("SCT", "59441001", "Lymph node"))
    assert is_lymph_node(coded)
    assert is_lymph_node(Segment(1, "LN 7"))
    assert not is_lymph_node(Segment(1, "lung nodule"))
    assert not is_lymph_node(Segment(1, "lnc"))


def test_many_labels_are_all_measured() -> None:
    """4,096 labels in one array, in one pass."""
    array = np.zeros((64, 64, 64), np.uint16)
    array[1::4, 1::4, 1::4] = np.arange(1, 4097).reshape(16, 16, 16)
    array[2::4, 1::4, 1::4] = array[1::4, 1::4, 1::4]
    label_map = LabelMap(array, Geometry(array.shape, np.eye(4)), tuple(Segment(n, f"lesion {n}") for n in range(1, 4097)))
    table = lesions(label_map)
    assert len(table) == 4096
    assert {round(lesion.longest.length_mm, 9) for lesion in table} == {1.5}
    assert table.lesions[-1].id == "lesion-4096-1"
