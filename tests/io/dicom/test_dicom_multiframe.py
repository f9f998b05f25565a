from __future__ import annotations

import itertools
import time
import tracemalloc
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
from made_multiframe import SHARED, make_enhanced
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medseg.core.errors import UnreadableFileError
from medseg.io.dicom.elements import HeaderError, NotDicomError
from medseg.io.dicom.find import find_series
from medseg.io.dicom.header import NotAnImageError, SliceHeader, read_headers
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.sort import measure_stack, stack_affine


def _frames(positions: list[float], **values: object) -> list[dict[str, object]]:
    return [{"ImagePositionPatient": [-10, -20, z], **values} for z in positions]


def _sorted(slices: tuple[SliceHeader, ...]) -> list[SliceHeader]:
    return [slices[i] for i in measure_stack(slices).order]


REFERENCES = [
    ("dicom_enhanced_legacy_ct/enhanced.dcm", "dicom_enhanced_legacy_ct/reference_image.nii.gz"),
    ("dicom_enhanced_mr_headers/philips/enhanced.dcm", "dicom_enhanced_mr_headers/philips/reference.nii.gz"),
    ("dicom_enhanced_mr_headers/siemens/enhanced.dcm", "dicom_enhanced_mr_headers/siemens/reference.nii.gz"),
    ("dicom_enhanced_mr_philips_asl/enhanced.dcm", "dicom_enhanced_mr_philips_asl/reference/asl.nii.gz"),
]


@pytest.mark.parametrize(("name", "reference"), REFERENCES)
def test_every_voxel_of_real_files_lies_where_other_converters_put_it(shared_data: Path, name: str, reference: str) -> None:
    dataset = pydicom.dcmread(shared_data / name)
    slices = _sorted(read_headers(str(shared_data / name)))
    stored = dataset.pixel_array
    pixels = np.stack([stored[one.frame] * (one.slope or 0.0) + (one.intercept or 0.0) for one in slices])
    image = nibabel.load(shared_data / reference)
    values = np.asarray(image.dataobj)
    values = values[..., 0] if values.ndim == 4 else values
    k, j, i = np.indices(pixels.shape)
    points = nibabel.affines.apply_affine(stack_affine(slices), np.stack([i, j, k], axis=-1))
    index = nibabel.affines.apply_affine(np.linalg.inv(image.affine), points)
    nearest = np.rint(index).astype(int)
    assert np.abs(index - nearest).max() < 2e-4  # positions in these headers have 6 digits
    assert nearest.min() >= 0
    np.testing.assert_allclose(values[tuple(np.moveaxis(nearest, -1, 0))], pixels, rtol=1e-6, atol=1e-4)


def test_the_two_frames_of_the_nema_sample(shared_data: Path) -> None:
    slices = read_headers(str(shared_data / "dicom_enhanced_ct_nema" / "enhanced_ct.dcm"))
    assert [one.position for one in slices] == [(99.5, -301.5, -159.0), (99.5, -301.5, -149.0)]
    assert [one.frame for one in slices] == [0, 1]
    assert {(one.slope, one.intercept, one.pixel_spacing, one.frame_count) for one in slices} == {(1.0, -1024.0, (0.388672, 0.388672), 2)}


def test_a_converted_file_gives_the_slices_it_was_made_of(shared_data: Path) -> None:
    case = shared_data / "dicom_seg_dcmqi_small"
    classic = {one.position: one for file in (case / "image").iterdir() for one in read_headers(str(file))}
    frames = read_headers(str(case / "multiframe" / "mf.dcm"))
    assert {one.position for one in frames} == set(classic)
    for frame in frames:
        source = classic[frame.position]
        assert (frame.orientation, frame.pixel_spacing, frame.rows, frame.columns) == (
            source.orientation,
            source.pixel_spacing,
            source.rows,
            source.columns,
        )


def test_a_file_without_functional_groups_says_that_it_cannot_be_placed(shared_data: Path) -> None:
    (whole,) = read_headers(str(shared_data / "dicom_enhanced_mr_no_geometry" / "emri_small.dcm"))
    assert whole.frame_count == 10
    assert whole.position is None
    assert "10 frame(s) but does not say where any of them lies" in whole.unusable
    assert "export it again" in whole.unusable


def test_positions_come_from_the_frames_whatever_their_order_and_spacing_tags(tmp_path: Path) -> None:
    places = [7.5, 0.0, 12.5, 2.5, 5.0, 11.0]  # shuffled and uneven
    shared = {**SHARED, "SpacingBetweenSlices": -99}
    slices = read_headers(str(make_enhanced(tmp_path / "x.dcm", _frames(places), shared, SpacingBetweenSlices=3)))
    assert [one.position for one in slices] == [(-10.0, -20.0, z) for z in places]
    assert [one.frame for one in slices] == list(range(6))
    assert [one.position[2] for one in _sorted(slices) if one.position] == sorted(places)
    assert {one.pixel_spacing for one in slices} == {(0.9, 0.7)}
    assert {(one.path, one.pixels, one.frame_count, one.sop_instance_uid) for one in slices} == {
        (str(tmp_path / "x.dcm"), slices[0].pixels, 6, slices[0].sop_instance_uid)
    }


def test_each_frame_has_its_own_rescale(tmp_path: Path) -> None:
    frames = [{**frame, "RescaleSlope": 1 + n, "RescaleIntercept": -n} for n, frame in enumerate(_frames([0, 1, 2]))]
    slices = read_headers(str(make_enhanced(tmp_path / "x.dcm", frames)))
    assert [(one.slope, one.intercept) for one in slices] == [(1, 0), (2, -1), (3, -2)]


def test_a_real_world_mapping_counts_only_where_there_is_no_other_rescale(tmp_path: Path) -> None:
    mapping = {"RealWorldValueSlope": 5.0, "RealWorldValueIntercept": 6.0}
    without = {keyword: value for keyword, value in SHARED.items() if "Rescale" not in keyword}
    (alone,) = read_headers(str(make_enhanced(tmp_path / "a.dcm", _frames([0]), {**without, **mapping})))
    assert (alone.slope, alone.intercept) == (5.0, 6.0)
    (both,) = read_headers(str(make_enhanced(tmp_path / "b.dcm", _frames([0]), {**SHARED, **mapping})))
    assert (both.slope, both.intercept) == (1.0, -1024.0)
    (neither,) = read_headers(str(make_enhanced(tmp_path / "c.dcm", _frames([0]), without)))
    assert (neither.slope, neither.intercept) == (None, None)


SPLITTING = [
    ({"StackID": "A"}, {"StackID": "B"}, "stack_id", ("A", "B")),
    ({"TemporalPositionIndex": 1}, {"TemporalPositionIndex": 2}, "temporal_position", ("1", "2")),
    ({"TemporalPositionTimeOffset": 0.5}, {"TemporalPositionTimeOffset": 2.25}, "temporal_position", ("0.5", "2.25")),
    ({"EffectiveEchoTime": 2.46}, {"EffectiveEchoTime": 4.92}, "echo_time", ("2.46", "4.92")),
    ({"DiffusionBValue": 0.0}, {"DiffusionBValue": 1000.0}, "b_value", ("0", "1000")),
    ({"DiffusionGradientOrientation": [1, 0, 0]}, {"DiffusionGradientOrientation": [0, 0.6, 0.8]}, "gradient", ("1\\0\\0", "0\\0.6\\0.8")),
    ({"NominalCardiacTriggerDelayTime": 10.0}, {"NominalCardiacTriggerDelayTime": 520.5}, "trigger_time", ("10", "520.5")),
    ({"ConvolutionKernel": "B30"}, {"ConvolutionKernel": "B80"}, "kernel", ("B30", "B80")),
    ({"FrameAcquisitionNumber": 3}, {"FrameAcquisitionNumber": 4}, "acquisition_number", ("3", "4")),
    ({"AcquisitionNumber": 3}, {"AcquisitionNumber": 4}, "acquisition_number", ("3", "4")),
    (
        {"FrameAcquisitionDateTime": "20200131101112.5"},
        {"FrameAcquisitionDateTime": "20200131101113"},
        "acquisition_time",
        ("101112.5", "101113"),
    ),
    (
        {"FrameType": ["ORIGINAL", "PRIMARY", "M"], "ComplexImageComponent": "MAGNITUDE"},
        {"FrameType": ["ORIGINAL", "PRIMARY", "M"], "ComplexImageComponent": "PHASE"},
        "frame_type",
        ("ORIGINAL\\PRIMARY\\M\\MAGNITUDE", "ORIGINAL\\PRIMARY\\M\\PHASE"),
    ),
]


@pytest.mark.parametrize(("first", "second", "name", "texts"), SPLITTING)
def test_what_tells_frames_of_one_place_apart(tmp_path: Path, first, second, name: str, texts: tuple[str, str]) -> None:
    frames = [{**frame, **own} for own in (first, second) for frame in _frames([0, 1, 2])]
    slices = read_headers(str(make_enhanced(tmp_path / "x.dcm", frames)))
    assert [one.texts[name] for one in slices] == [texts[0]] * 3 + [texts[1]] * 3


def test_dimensions_that_are_no_places_tell_frames_apart(tmp_path: Path) -> None:
    dimensions = ["StackID", "TemporalPositionIndex", "InStackPositionNumber", "EffectiveEchoTime"]
    frames = [
        {**frame, "DimensionIndexValues": [1, t, k + 1, e]}
        for t, e in itertools.product((1, 2), (1, 2))
        for k, frame in enumerate(_frames([0, 1]))
    ]
    slices = read_headers(str(make_enhanced(tmp_path / "x.dcm", frames, dimensions=dimensions)))
    assert [one.texts["dimension"] for one in slices] == ["1/1", "1/1", "1/2", "1/2", "2/1", "2/1", "2/2", "2/2"]


def test_frames_are_numbered_by_themselves_not_by_their_file(tmp_path: Path) -> None:
    slices = read_headers(str(make_enhanced(tmp_path / "x.dcm", _frames([0, 1]), InstanceNumber=7)))
    assert [one.instance_number for one in slices] == [1, 2]
    frames = [{**frame, "InstanceNumber": 9 - k} for k, frame in enumerate(_frames([0, 1]))]
    assert [one.instance_number for one in read_headers(str(make_enhanced(tmp_path / "y.dcm", frames)))] == [9, 8]


def test_a_frames_own_group_takes_the_place_of_the_shared_one(tmp_path: Path) -> None:
    frames = _frames([0, 1])
    frames[1] |= {"PixelSpacing": [2, 2]}
    slices = read_headers(str(make_enhanced(tmp_path / "x.dcm", frames)))
    assert [one.pixel_spacing for one in slices] == [(0.9, 0.7), (2.0, 2.0)]
    assert [one.numbers["slice_thickness"] for one in slices] == [2.5, None]


def test_one_position_for_the_file_is_no_position_of_its_frames(tmp_path: Path) -> None:
    frames: list[dict[str, object]] = [{"StackID": "1"}, {"StackID": "1"}]
    slices = read_headers(str(make_enhanced(tmp_path / "x.dcm", frames, ImagePositionPatient=[1, 2, 3])))
    assert [one.position for one in slices] == [None, None]


def _undefined_lengths(dataset: Dataset) -> None:
    for element in dataset:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
                _undefined_lengths(item)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("is_undefined", [False, True])
def test_every_encoding_says_the_same(tmp_path: Path, syntax: str, is_undefined: bool) -> None:
    frames = [{**frame, "DiffusionBValue": 50.0 * n, "DimensionIndexValues": [n + 1]} for n, frame in enumerate(_frames([4, 2, 0]))]
    plain = make_enhanced(tmp_path / "plain.dcm", frames, dimensions=["DiffusionBValue"])
    path = make_enhanced(tmp_path / "x.dcm", frames, dimensions=["DiffusionBValue"], syntax=syntax)
    if is_undefined:
        dataset = pydicom.dcmread(path)
        _undefined_lengths(dataset)
        dataset.save_as(path)
    found, expected = read_headers(str(path)), read_headers(str(plain))
    assert [one.texts["b_value"] for one in found] == ["0", "50", "100"]
    for one, other in zip(found, expected, strict=True):
        assert (one.position, one.orientation, one.pixel_spacing, one.slope, one.intercept, one.numbers) == (
            other.position,
            other.orientation,
            other.pixel_spacing,
            other.slope,
            other.intercept,
            other.numbers,
        )
        assert {**one.texts, "frame_of_reference_uid": ""} == {**other.texts, "frame_of_reference_uid": ""}


@pytest.mark.parametrize("count", [2, 4, 100_000])
def test_frames_and_their_descriptions_must_match(tmp_path: Path, count: int) -> None:
    path = make_enhanced(tmp_path / "x.dcm", _frames([0, 1, 2]), NumberOfFrames=count)
    with pytest.raises(HeaderError, match=f"announces {count} frames but describes 3"):
        read_headers(str(path))
    with pytest.raises(UnreadableFileError, match="which frame lies where is unknown"):
        find_series(path)


@pytest.mark.parametrize(("value", "message"), [("-3", "no whole number"), ("2.5", "no whole number"), ("99999999", "more than any")])
def test_an_impossible_number_of_frames_is_named(tmp_path: Path, value: str, message: str) -> None:
    path = make_enhanced(tmp_path / "x.dcm", _frames([0, 1, 2]), NumberOfFrames=12345678)
    path.write_bytes(path.read_bytes().replace(b"12345678", value.encode().ljust(8)))
    with pytest.raises(HeaderError, match=message):
        read_headers(str(path))


def test_many_frames_of_a_tiny_file_are_refused_before_memory_is_taken(make_series) -> None:
    file = next(make_series(edit=lambda dataset, k: setattr(dataset, "NumberOfFrames", 100_000)).glob("*"))
    tracemalloc.start()
    try:
        with pytest.raises(HeaderError, match="announces 100000 frames, which take 7000000 bytes, but holds 70"):
            read_headers(str(file))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_spoiled_functional_groups_never_escape_as_foreign_errors(tmp_path: Path) -> None:
    frames = [{**frame, "DiffusionGradientOrientation": [1, 0, 0]} for frame in _frames([0, 1, 2])]
    path = make_enhanced(tmp_path / "x.dcm", frames, dimensions=["StackID"])
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    start = path.read_bytes().index(b"\x20\x00\x22\x92")  # the dimensions, then the functional groups
    random = np.random.default_rng(1)
    outcomes = set()
    for _ in range(400):
        spoiled = whole.copy()
        spoiled[random.integers(start, whole.size - 80, 4)] = random.integers(0, 256, 4)
        path.write_bytes(spoiled.tobytes())
        try:
            outcomes.add(len(read_headers(str(path))))
        except (HeaderError, NotDicomError, NotAnImageError) as err:
            outcomes.add(type(err).__name__)
    assert {3, "HeaderError"} <= outcomes


def test_a_thousand_frames_take_a_moment(tmp_path: Path) -> None:
    frames = [
        {"ImagePositionPatient": [0, 0, k], "StackID": "1", "TemporalPositionIndex": 1, "EffectiveEchoTime": 2.0} for k in range(1000)
    ]
    path = str(make_enhanced(tmp_path / "x.dcm", frames))
    read_headers(path)
    start = time.process_time()
    assert len(read_headers(path)) == 1000
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(("modality", "kind"), [("CT", "CT"), ("MR", "MR"), ("PT", "PET")])
def test_slices_converted_by_highdicom_are_the_slices_they_were(shared_data: Path, tmp_path: Path, modality: str, kind: str) -> None:
    series = next(one for one in find_series(shared_data / "tumour_sts_002") if one.modality == modality)
    classic = {one.position: one for one in series.slices[::5]}
    with quiet():
        convert = getattr(highdicom.legacy, f"LegacyConvertedEnhanced{kind}Image")
        datasets = [pydicom.dcmread(one.path) for one in classic.values()]
        enhanced = convert(datasets, highdicom.UID(), 1, highdicom.UID(), 1)
        enhanced.save_as(tmp_path / "x.dcm")
    frames = read_headers(str(tmp_path / "x.dcm"))
    assert {one.position for one in frames} == set(classic)
    stored = enhanced.pixel_array
    for frame in frames:
        source = classic[frame.position]
        assert (frame.slope, frame.intercept) == (source.slope or 1.0, source.intercept or 0.0)
        for name in ("orientation", "pixel_spacing", "rows", "columns", "is_signed", "frame_of_reference_uid"):
            assert getattr(frame, name) == getattr(source, name), name
        for name in ("echo_time", "kernel", "acquisition_number", "acquisition_time", "b_value", "temporal_position"):
            assert frame.texts[name] == source.texts[name], name
        np.testing.assert_array_equal(stored[frame.frame], pydicom.dcmread(source.path).pixel_array)
