"""Which slices belong together, from headers alone: made by changing the header of one real file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_series import numbered_volume

from medseg.core.errors import InconsistentSeriesError, InputError
from medseg.io.dicom.audit import AuditedStack, audited_stacks
from medseg.io.dicom.choose import choose_stack
from medseg.io.dicom.find import Series, find_series
from medseg.io.dicom.header import SliceHeader
from medseg.io.dicom.series import write_series
from medseg.io.dicom.volume import inspect_series
from medseg.io.options import ReadOptions

Headers = list[SliceHeader]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> SliceHeader:
    folder = tmp_path_factory.mktemp("template") / "series"
    write_series(numbered_volume((4, 4, 2), modality="MR"), folder, seed="split")
    return find_series(folder)[0].slices[0]


def _slice(template: SliceHeader, z: float, number: int, **changes: object) -> SliceHeader:
    """A slice at height z; texts and numbers of the header are changed by name, other fields as they are called."""
    texts = {**template.texts, **{name: str(value) for name, value in changes.items() if name in template.texts}}
    numbers = {**template.numbers, "instance_number": float(number)}
    numbers |= {name: value for name, value in changes.items() if name in template.numbers}  # type: ignore[misc]
    rest = {name: value for name, value in changes.items() if name not in texts and name not in numbers}
    fields = {"position": (0.0, 0.0, float(z)), "sop_instance_uid": f"1.2.{number}", "texts": texts, "numbers": numbers, **rest}
    return replace(template, **fields)  # type: ignore[arg-type]


def _series(slices: Sequence[SliceHeader], seed: int = 0) -> Series:
    shuffled = [slices[i] for i in np.random.default_rng(seed).permutation(len(slices))]
    return Series("1.2.3", slices[0].modality, tuple(shuffled), "/scan")


def _stacks(slices: Sequence[SliceHeader], options: ReadOptions | None = None) -> tuple[AuditedStack, ...]:
    return audited_stacks(_series(slices), options)


def _heights(stack: AuditedStack) -> list[float]:
    return [header.position[2] for header in stack.slices if header.position]


def _codes(stack: AuditedStack) -> set[str]:
    return {finding.code for finding in stack.findings}


def test_a_field_that_does_not_separate_slices_at_one_position_splits_nothing(template) -> None:
    """Two concatenations of a two-echo series: odd and even slices have their own acquisition number, both echoes lie everywhere."""
    slices = [_slice(template, 3 * k, 10 * k + e, acquisition_number=1 + k % 2, echo_time=5 * (1 + e)) for k in range(10) for e in range(2)]
    stacks = _stacks(slices)
    assert [stack.differs for stack in stacks] == [(("EchoTime", "5"),), (("EchoTime", "10"),)]
    assert all(_heights(stack) == [3 * k for k in range(10)] for stack in stacks)


def test_b_values_and_directions_together(template) -> None:
    """Neither b-value nor direction tells all volumes apart: two directions share b 800, one direction has two b-values."""
    kinds = [("0", ""), ("800", "1\\0\\0"), ("800", "0\\1\\0"), ("1600", "1\\0\\0")]
    slices = [_slice(template, 2 * k, 100 * n + k, b_value=b, gradient=g) for n, (b, g) in enumerate(kinds) for k in range(6)]
    stacks = _stacks(slices)
    assert [len(stack.slices) for stack in stacks] == [6] * 4
    assert {(stack.slices[0].texts["b_value"], stack.slices[0].texts["gradient"]) for stack in stacks} == set(kinds)
    assert all(len({header.texts["gradient"] for header in stack.slices}) == 1 for stack in stacks)


def test_volumes_cut_by_their_dimension_index_say_what_it_means(template) -> None:
    slices = [_slice(template, 2 * k, 100 * n + k, dimension=f"{n}", echo_time=4 * n) for n in (2, 10, 1) for k in range(5)]
    assert [stack.description for stack in _stacks(slices)] == [f"DimensionIndexValues {n}, EchoTime {4 * n}" for n in (1, 2, 10)]


def test_cardiac_phases_whose_trigger_times_drift_from_slice_to_slice(template) -> None:
    """Hearts do not beat evenly: no trigger time is shared, but their order at each position is the phase."""
    slices = [
        _slice(template, 8 * k, 100 * k + phase, trigger_time=f"{phase * (40 + k):.1f}", intercept=float(phase))
        for k in range(5)
        for phase in range(6)
    ]
    stacks = _stacks(slices)
    assert [stack.differs for stack in stacks] == [(("TimePoint", str(n)),) for n in range(1, 7)]
    assert [{header.intercept for header in stack.slices} for stack in stacks] == [{float(n)} for n in range(6)]
    assert "SPLIT_BY_ORDER" in _codes(stacks[0])


def test_times_of_day_tell_frames_apart_but_are_never_shown(template) -> None:
    slices = [_slice(template, 4 * k, 50 * t + k, acquisition_time=f"1131{t:02d}.25") for t in range(3) for k in range(6)]
    series = _series(slices)
    assert [stack.description for stack in audited_stacks(series)] == ["TimePoint 1", "TimePoint 2", "TimePoint 3"]
    report = inspect_series(series)
    assert "1131" not in repr(report.to_dict())


def test_time_points_of_which_one_is_cut_short(template) -> None:
    slices = [_slice(template, 4 * k, 50 * t + k, temporal_position=t) for t in range(1, 4) for k in range(10 if t < 3 else 2)]
    stacks = _stacks(slices)
    assert [(len(stack.slices), stack.left_out) for stack in stacks] == [(10, ""), (10, ""), (2, "SLICES_LEFT_OUT")]


def test_two_acquisitions_that_overlap_at_their_ends(template) -> None:
    slices = [_slice(template, 5 * k, 100 * a + k, acquisition_number=a) for a, ks in ((1, range(12)), (2, range(10, 25))) for k in ks]
    stacks = _stacks(slices)
    assert [(stack.description, len(stack.slices)) for stack in stacks] == [("AcquisitionNumber 1", 12), ("AcquisitionNumber 2", 15)]


def test_two_ct_scans_half_a_slice_apart_look_even_and_are_two(template) -> None:
    ct = replace(template, modality="CT")
    slices = [_slice(ct, 2.5 * k, 2 * k + (k % 2), acquisition_number=3 + k % 2) for k in range(20)]
    assert [len(stack.slices) for stack in _stacks(slices)] == [10, 10]
    # slices of an MR scan are acquired in turns, and are one scan
    slices = [_slice(template, 2.5 * k, 2 * k + (k % 2), acquisition_number=3 + k % 2) for k in range(20)]
    assert [len(stack.slices) for stack in _stacks(slices)] == [20]


@pytest.mark.parametrize("field", ["kernel", "echo_numbers", "frame_of_reference_uid", "slice_thickness"])
def test_other_fields_that_split(template, field: str) -> None:
    slices = [_slice(template, 3 * k, 40 * n + k, **{field: 2.0 + n}) for n in range(2) for k in range(5)]
    assert [len(stack.slices) for stack in _stacks(slices)] == [5, 5]


def test_fat_and_water_are_told_apart_by_the_fourth_value_of_the_image_type(template) -> None:
    slices = [
        _slice(template, 3 * k, 40 * n + k, image_type=("DERIVED", "PRIMARY", "DIXON", kind))
        for n, kind in enumerate(("WATER", "FAT"))
        for k in range(5)
    ]
    stacks = _stacks(slices)
    assert [stack.differs[0][0] for stack in stacks] == ["ImageType", "ImageType"]
    chosen, _ = choose_stack(_series(slices), stacks, ReadOptions(select="ImageType=fat"))
    assert {header.image_type[3] for header in chosen.slices} == {"FAT"}


def test_what_fills_the_holes_of_a_stack_belongs_to_it(template) -> None:
    """Three slices were sent again by the workstation, which marked them as derived: the scan is whole only with them."""
    slices = [
        _slice(template, 3 * k, k, image_type=("DERIVED" if k in (4, 5, 9) else "ORIGINAL", "PRIMARY", "AXIAL"), acquisition_number=1)
        for k in range(16)
    ]
    (stack,) = _stacks(slices)
    assert len(stack.slices) == 16
    assert "MIXED_IMAGE_TYPE" in _codes(stack)


def test_two_halves_of_different_image_types_form_one_stack(template) -> None:
    slices = [_slice(template, 3 * k, k + 1, image_type=("ORIGINAL", "PRIMARY", "AXIAL" if k < 8 else "HELICAL")) for k in range(16)]
    (stack,) = _stacks(slices)
    assert "MIXED_IMAGE_TYPE" in _codes(stack)


def test_derived_slices_beside_the_scan_are_left_out_however_many(template) -> None:
    scan = [_slice(template, 2 * k, k + 1, image_type=("ORIGINAL", "PRIMARY", "AXIAL")) for k in range(60)]
    thick = [_slice(template, 10 * k + 1, 100 + k, image_type=("DERIVED", "SECONDARY", "AXIAL")) for k in range(8)]
    stacks = _stacks([*scan, *thick])
    assert [(len(stack.slices), stack.left_out) for stack in stacks] == [(60, ""), (8, "DERIVED_SLICES")]


@pytest.mark.parametrize(
    "changes",
    [
        {"samples": 3, "photometric": "RGB"},
        {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.7", "position": None, "orientation": None, "pixel_spacing": None},
        {"burned_in": "YES", "position": None},
        {"modality": "OT", "position": None},
    ],
)
def test_a_screenshot_without_a_place_does_not_spoil_the_scan(template, changes) -> None:
    scan = [_slice(template, 2 * k, k + 1) for k in range(12)]
    stacks = _stacks([*scan, replace(_slice(template, 0, 99, **changes), sop_instance_uid="1.2.99")])
    assert [len(stack.slices) for stack in stacks] == [12, 1]
    assert stacks[0].placement is not None
    assert _codes(stacks[0]) & {"OTHER_OBJECTS", "DERIVED_SLICES"}


def test_the_larger_size_is_kept(template) -> None:
    big = [_slice(template, 2 * k, k + 1, rows=512, columns=512) for k in range(12)]
    small = [_slice(template, 2 * k + 1, 50 + k, rows=256, columns=256) for k in range(7)]
    stacks = _stacks([*small, *big])
    assert [(stack.slices[0].rows, len(stack.slices), stack.left_out) for stack in stacks] == [(512, 12, ""), (256, 7, "MIXED_SIZE")]
    chosen, notes = choose_stack(_series(big + small), stacks, ReadOptions(select="Rows=256"))
    assert (len(chosen.slices), [note.code for note in notes]) == (7, ["STACK_SELECTED"])


def _turned(degrees: float) -> tuple[float, ...]:
    angle = np.radians(degrees)
    return (1.0, 0.0, 0.0, 0.0, float(np.cos(angle)), float(np.sin(angle)))


@pytest.mark.parametrize(("degrees", "is_localizer"), [(2.0, False), (90.0, True)])
def test_a_slice_turned_a_little_is_a_fault_and_one_turned_a_lot_a_localizer(template, degrees: float, is_localizer: bool) -> None:
    scan = [_slice(template, 2 * k, k + 1) for k in range(12)]
    series = _series([*scan, _slice(template, 24, 13, orientation=_turned(degrees))])
    codes = [finding.code for finding in inspect_series(series).findings]
    assert ("LOCALIZER" in codes, "MIXED_ORIENTATION" in codes) == (is_localizer, not is_localizer)


def test_discs_of_a_spine_are_stacks_of_their_own(template) -> None:
    slices = [_slice(template, 30 * d + 4 * k, 10 * d + k, orientation=_turned(-20 + 10 * d)) for d in range(5) for k in range(5)]
    report = inspect_series(_series(slices))
    assert report.findings[0].code == "MIXED_ORIENTATION"
    assert [row.slices for row in report.audit.stacks] == [5] * 5
    assert all(row.differs.startswith("ImageOrientationPatient axial") for row in report.audit.stacks)


def test_slices_that_fan_out_are_no_stacks(template) -> None:
    (stack,) = _stacks([_slice(template, 2 * k, k, orientation=_turned(5 * k)) for k in range(9)])
    assert "MIXED_ORIENTATION" in _codes(stack)


def test_one_volume_a_file_where_nothing_else_differs(template, monkeypatch) -> None:
    """Newer scanners write one multi-frame file a time point; their frames may differ in nothing but the file."""
    monkeypatch.setattr("medseg.io.dicom.duplicates.PixelComparer.is_same", lambda *_: False)
    slices = [
        replace(_slice(template, 3 * k, t), path=f"/scan/{t}.dcm", frame=k, frame_count=6, sop_instance_uid=f"1.2.{t}")
        for t in (1, 2, 3)
        for k in range(6)
    ]
    stacks = _stacks(slices)
    assert [stack.differs for stack in stacks] == [(("File", "1"),), (("File", "2"),), (("File", "3"),)]
    assert [{header.path for header in stack.slices} for stack in stacks] == [{f"/scan/{t}.dcm"} for t in (1, 2, 3)]


def test_a_file_that_describes_too_few_frames_is_refused(template) -> None:
    (stack,) = _stacks([replace(_slice(template, 3 * k, 1), frame=k, frame_count=9) for k in range(6)])
    assert "FRAMES_INCOMPLETE" in _codes(stack)


def test_an_ambiguous_series_says_which_tags_differ(template, monkeypatch) -> None:
    monkeypatch.setattr("medseg.io.dicom.duplicates.PixelComparer.is_same", lambda *_: False)
    slices = [_slice(template, 3 * k, 10 * k + n, lossy="01" if n else "") for k in range(6) for n in range(2)]
    (stack,) = _stacks(slices)
    finding = next(finding for finding in stack.findings if finding.code == "AMBIGUOUS_SERIES")
    assert finding.details["disagreeing_tags"] == [{"tag": "(0028,2110)", "keyword": "LossyImageCompression", "values": ["none", "01"]}]
    assert "LossyImageCompression none/01" in finding.message


class TestSelect:
    @pytest.fixture
    def stacks(self, template) -> tuple[AuditedStack, ...]:
        return _stacks([_slice(template, 3 * k, 20 * n + k, echo_time=4.92 * n) for n in (1, 2) for k in range(6 + n)])

    @pytest.mark.parametrize(
        ("options", "slices"),
        [
            ({"select": "1"}, 7),
            ({"select": "2"}, 8),
            ({"select": "largest"}, 8),
            ({"select": "EchoTime=4.920"}, 7),
            ({"select": " echo_time = 9.84 "}, 8),
            ({"select": "EchoTime=9.84,Modality=mr"}, 8),
            ({"volume_index": 1}, 8),
            ({"volume_index": 1, "select": "2"}, 8),
        ],
    )
    def test_ways_to_choose(self, stacks, options, slices: int) -> None:
        chosen, notes = choose_stack(_series(stacks[0].slices), stacks, ReadOptions(**options))
        assert len(chosen.slices) == slices
        assert [note.code for note in notes] == ["STACK_SELECTED"]

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"select": "0"}, "counted from 1"),
            ({"select": "3"}, "--select 2   8 slices   EchoTime 9.84"),
            ({"select": "EchoTime=5"}, "no stack has EchoTime=5"),
            ({"select": "Modality=MR"}, "2 stacks have Modality=MR"),
            ({"select": "PatientName=X"}, "no field that tells stacks apart"),
            ({"select": "biggest"}, "a number from 1"),
            ({"volume_index": 2}, "holds 2 volume"),
            ({"volume_index": 0, "select": "2"}, "name different stacks"),
        ],
    )
    def test_choices_that_choose_nothing(self, stacks, options, text: str) -> None:
        with pytest.raises(InputError, match=text):
            choose_stack(_series(stacks[0].slices), stacks, ReadOptions(**options))

    def test_without_a_choice(self, stacks) -> None:
        with pytest.raises(InconsistentSeriesError, match="2 stacks that differ by EchoTime") as caught:
            choose_stack(_series(stacks[0].slices), stacks, ReadOptions())
        assert caught.value.findings[0].details["stacks"] == [
            {"select": "1", "slices": 7, "differs": "EchoTime 4.92"},
            {"select": "2", "slices": 8, "differs": "EchoTime 9.84"},
        ]

    def test_a_choice_is_not_needed_and_not_recorded_for_one_stack(self, template) -> None:
        slices = [_slice(template, 3 * k, k + 1) for k in range(6)]
        chosen, notes = choose_stack(_series(slices), _stacks(slices), ReadOptions(select="largest", volume_index=0))
        assert (len(chosen.slices), notes) == (6, ())


def test_a_fault_of_a_later_stack_is_reported_too(template) -> None:
    slices = [_slice(template, 3 * k, 20 * n + k, echo_time=4.92 * n) for n in (1, 2) for k in range(8) if (n, k) != (2, 5)]
    findings = {finding.code: finding for finding in inspect_series(_series(slices)).findings}
    assert findings["MISSING_SLICES"].details["stack"] == 2
    assert findings["MISSING_SLICES"].message.startswith("stack 2: 1 slice(s) are missing")


def test_slices_of_a_micro_ct_lie_micrometres_apart(template) -> None:
    fine = replace(template, pixel_spacing=(0.009, 0.009))
    slices = [_slice(fine, 0.009 * k, k + 1) for k in range(30) if k != 12]
    (stack,) = _stacks(slices)
    assert "MISSING_SLICES" in _codes(stack)
    (whole,) = _stacks([_slice(fine, 0.009 * k, k + 1) for k in range(30)])
    assert whole.placement is not None
    assert whole.placement.geometry.spacing_mm == pytest.approx((0.009, 0.009, 0.009))


def test_a_large_series_is_audited_in_little_time(template) -> None:
    from time import process_time

    slices = [_slice(template, 2 * k, 40 * t + k, acquisition_number=t) for t in range(100) for k in range(40)]
    start = process_time()
    assert len(_stacks(slices)) == 100
    assert process_time() - start < 20


def test_paths_of_a_series_are_only_named_by_their_last_part(template) -> None:
    slices = [replace(_slice(template, 3 * k, k + 1), path=str(Path("/home/DOE_JANE") / f"{k}.dcm")) for k in range(6)]
    slices[3] = replace(slices[3], position=None)
    (stack,) = _stacks(slices)
    assert not any("DOE_JANE" in finding.message for finding in stack.findings)
