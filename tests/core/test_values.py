"""Volumes, label maps, segments and measurements are right once built."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from medseg.core.errors import GeometryError, InputError, ParameterError, SegmentError, UnknownSegmentError
from medseg.core.finding import Finding, Severity, errors_in
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap, ProbabilityMap, present_numbers, smallest_unsigned
from medseg.core.measurement import Measurement, MeasurementTable, SegmentRow, Status
from medseg.core.segment import Segment, default_colour, segment_from_dict
from medseg.core.volume import Volume

GRID = Geometry((3, 4, 5), np.diag([1.0, 2, 3, 1]))


def test_a_volume_is_stored_with_i_fastest_and_cannot_be_changed():
    volume = Volume(np.arange(60, dtype=">i2").reshape(3, 4, 5), GRID)
    assert volume.array.T.flags.c_contiguous
    assert volume.array.dtype == np.dtype("int16")
    assert volume.array[2, 3, 4] == 59
    with pytest.raises(ValueError, match="read-only"):
        volume.array[0, 0, 0] = 1


def test_a_fortran_array_is_not_copied():
    array = np.zeros((3, 4, 5), np.int16, order="F")
    assert np.shares_memory(Volume(array, GRID).array, array)


def test_array_and_grid_must_agree():
    with pytest.raises(GeometryError):
        Volume(np.zeros((3, 4, 6)), GRID)
    with pytest.raises(InputError):
        Volume(np.zeros((3, 4, 5), complex), GRID)


def test_a_voxel_value_needs_a_segment():
    array = np.zeros((3, 4, 5), np.uint8)
    array[0, 0, 0] = 3
    with pytest.raises(SegmentError, match="3"):
        LabelMap(array, GRID, (Segment(1, "liver"),))
    assert LabelMap(array, GRID, (Segment(3, "liver"),)).mask("liver").sum() == 1


def test_numbers_and_labels_are_unique():
    array = np.zeros((3, 4, 5), np.uint8)
    for segments in ((Segment(1, "a"), Segment(1, "b")), (Segment(1, "a"), Segment(2, "a"))):
        with pytest.raises(SegmentError):
            LabelMap(array, GRID, segments)


def test_a_label_map_holds_unsigned_integers():
    with pytest.raises(SegmentError):
        LabelMap(np.zeros((3, 4, 5), np.int16), GRID, ())
    assert LabelMap(np.ones((3, 4, 5), bool), GRID, (Segment(1, "a"),)).array.dtype == np.uint8


def test_an_unknown_segment_names_the_known_ones():
    with pytest.raises(UnknownSegmentError, match="liver"):
        LabelMap(np.zeros((3, 4, 5), np.uint8), GRID, (Segment(1, "liver"),))["spleen"]


def test_an_unknown_segment_of_many_names_the_nearest():
    many = (*(Segment(n, f"vertebra {n}") for n in range(1, 117)), Segment(117, "Liver"))
    with pytest.raises(UnknownSegmentError, match="nearest of its 117: Liver, ") as caught:
        LabelMap(np.zeros((3, 4, 5), np.uint8), GRID, many)["livr"]
    assert str(caught.value).count(",") == 4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_present_numbers_in_any_layout(dtype):
    array = np.zeros((30, 20, 10), dtype)
    array[3, 4, 5], array[29, 19, 9] = 7, 200
    assert present_numbers(array) == present_numbers(np.asfortranarray(array)) == present_numbers(array[::-1, :, ::-1]) == [7, 200]


def test_probabilities_give_way_to_background():
    array = np.zeros((2, 3, 4, 5), np.float32)
    array[0, 0, 0, 0], array[1, 0, 0, 0] = 0.4, 0.55
    array[0, 1, 1, 1] = 0.3
    labels = ProbabilityMap(array, GRID, (Segment(4, "a"), Segment(9, "b"))).to_label_map()
    assert labels.array[0, 0, 0] == 9
    assert labels.array[1, 1, 1] == 0


def test_smallest_unsigned_at_the_limits():
    assert [smallest_unsigned(n).itemsize for n in (0, 255, 256, 65535, 65536)] == [1, 1, 2, 2, 4]


def test_a_segment_survives_its_json_form():
    segment = Segment(2, "left kidney", colour=(10, 20, 30))
    assert segment_from_dict(segment.to_dict()) == segment
    with pytest.raises(SegmentError):
        segment_from_dict({"number": 1, "label": "x", "size": 3})


def test_impossible_segments_are_refused():
    for values in ({"number": 0, "label": "x"}, {"number": 1, "label": " "}, {"number": 1, "label": "x", "colour": (0, 0, 300)}):
        with pytest.raises(SegmentError):
            Segment(**values)


def test_neighbouring_default_colours_differ():
    colours = [np.array(default_colour(n)) for n in range(1, 40)]
    assert min(np.abs(a - b).max() for a, b in itertools.pairwise(colours)) > 60


def test_a_measurement_is_never_nan_and_never_silently_empty():
    for value in (np.nan, np.inf):
        with pytest.raises(ParameterError):
            Measurement("liver", "volume", value, "ml")
    with pytest.raises(ParameterError):
        Measurement("liver", "volume", None, "ml")
    assert "no image" in str(Measurement("liver", "mean", None, "HU", status=Status.NOT_ATTEMPTED, reason="no image"))


def test_a_table_gives_one_measurement_by_segment_and_quantity():
    volume = Measurement("liver", "volume", 1.5, "ml")
    table = MeasurementTable((SegmentRow(1, "liver", Status.MEASURED, "", {"volume": volume}, 10),))
    assert table["liver", "volume"] is volume
    for key in (("spleen", "volume"), ("liver", "mean")):
        with pytest.raises(UnknownSegmentError):
            table[key]


def test_findings_are_graded():
    findings = [Finding("A", "info", "x"), Finding("B", Severity.ERROR, "y", {"gap_mm": 3.0})]
    assert [f.code for f in errors_in(findings)] == ["B"]
    assert findings[1].to_dict() == {"code": "B", "severity": "error", "message": "y", "details": {"gap_mm": 3.0}}
