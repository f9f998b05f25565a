"""SEGs of other writers against the voxels they were made of and against highdicom's own reader."""

from __future__ import annotations

import warnings
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from made_segs import by_highdicom, edited, in_order
from made_series import numbered_volume
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from medseg.core.errors import OverlappingSegmentsError, UnknownSegmentError, UnreadableFileError, UnsupportedFormatError
from medseg.core.label_map import LabelMap
from medseg.io.dicom.seg_read import read_fractions, read_seg, read_seg_layers
from medseg.io.dicom.volume import read_series

TILTED = np.array([[-0.68, 0.13, 0, 7.125], [0.13, 0.68, 0.6, -40.5], [0, 0, 2.2, 300.0625], [0, 0, 0, 1]])
OBLIQUE = np.array([[0.6, 0, 0.8 * 3, 5], [0, -0.9, 0, 6], [-0.8, 0, 0.6 * 3, 7], [0, 0, 0, 1]])
GRIDS = {"axial": None, "tilted": TILTED, "oblique": OBLIQUE}


@pytest.fixture(params=list(GRIDS))
def folder(request: pytest.FixtureRequest, make_series) -> Path:
    return make_series(numbered_volume((9, 7, 11), GRIDS[request.param]))


def labels() -> np.ndarray:
    """Two parts (k,j,i) with slices without them between, first and last slice empty."""
    made = np.zeros((11, 7, 9), np.uint8)
    made[1:4, 1:5, 2:6] = 1
    made[6:8, 3:6, 1:8] = 2
    made[9, 0, 0] = 2
    return made


def fractions() -> np.ndarray:
    """Three parts (k,j,i,segment) that share voxels, in 255ths: half and half, one a little more, and a lone half."""
    made = np.zeros((11, 7, 9, 3))
    made[2:5, 1:5, 1:5, 0] = 0.75
    made[2:5, 3:6, 3:6, 1] = 0.8
    made[6, 2, 2] = (128 / 255, 128 / 255, 0)  # a tie: the earlier one
    made[6, 2, 3, 0] = 127 / 255  # less than half
    made[8, 6, 8, 2] = 1
    return np.rint(made * 255) / 255


@pytest.fixture
def wide_folder(make_series) -> Path:
    """Slices of more than 32 pixels a side, less than which highdicom does not encode as JPEG 2000."""
    return make_series(numbered_volume((35, 33, 11), OBLIQUE))


def widened(pixels: np.ndarray) -> np.ndarray:
    return np.pad(pixels, [(0, 0), (5, 21), (20, 6), *[(0, 0)] * (pixels.ndim - 3)])


def highdicom_volume(path: Path, number: int) -> tuple[np.ndarray, np.ndarray]:
    """A segment's voxels as RAS points (sorted) and their weights, by highdicom."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        volume = highdicom.seg.segread(path).get_volume(segment_numbers=[number], rescale_fractional=True)
    array = volume.array[..., 0]
    index = np.argwhere(array)
    affine = np.diag([-1, -1, 1, 1]) @ volume.affine
    return index @ affine[:3, :3].T + affine[:3, 3], array[array != 0]


def same_places(path: Path, found: LabelMap, numbers: list[int]) -> None:
    """Every segment lies where highdicom finds it."""
    for number in numbers:
        points, _ = highdicom_volume(path, number)
        ours = found.geometry.index_to_world(np.argwhere(found.mask(number)))
        assert len(ours) == len(points)
        np.testing.assert_allclose(ours[np.lexsort(np.round(ours, 3).T)], points[np.lexsort(np.round(points, 3).T)], atol=1e-3)


@pytest.mark.parametrize("omit", [True, False])
def test_binary(folder: Path, tmp_path: Path, omit: bool) -> None:
    scan = read_series(folder)
    path = by_highdicom(folder, labels(), tmp_path / "x.dcm", omit_empty_frames=omit)
    whole = read_seg(path, scan.geometry)
    np.testing.assert_array_equal(whole.array.T, labels())
    own = read_seg(path)
    if omit:  # from the first to the last frame stored; the empty slices between are there
        assert own.geometry.matches(scan.geometry.cropped((0, 0, 1), (9, 7, 9)), 0.01)
        np.testing.assert_array_equal(own.array.T, labels()[1:10])
    else:
        assert own.geometry.matches(scan.geometry, 0.01)
    if not scan.geometry.is_sheared:  # highdicom makes no volume of a tilted stack
        same_places(path, own, [1, 2])
    assert [segment.label for segment in own.segments] == ["part 1", "part 2"]
    assert (own["part 2"].tracking_id, own["part 2"].tracking_uid) == ("track 2", "1.2.3.2")
    assert own.findings == ()


def test_frames_in_any_order(folder: Path, tmp_path: Path) -> None:
    path = by_highdicom(folder, labels(), tmp_path / "x.dcm")
    count = int(pydicom.dcmread(path).NumberOfFrames)
    expected = read_seg(path)
    in_order(path, np.random.default_rng(3).permutation(count).tolist())
    np.testing.assert_array_equal(read_seg(path).array, expected.array)


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("large", [False, True])
def test_labelmap(wide_folder: Path, tmp_path: Path, syntax: str | None, large: bool) -> None:
    scan = read_series(wide_folder)
    pixels = widened(labels()).astype(np.uint16 if large else np.uint8)
    if large:
        pixels[pixels == 2] = 700
    options = {"transfer_syntax_uid": syntax} if syntax else {}
    path = by_highdicom(wide_folder, pixels, tmp_path / "x.dcm", "LABELMAP", **options)
    assert pydicom.dcmread(path).BitsAllocated == (16 if large else 8)
    found = read_seg(path, scan.geometry)
    np.testing.assert_array_equal(found.array.T, pixels)
    assert [segment.number for segment in found.segments] == [1, 700 if large else 2]  # the background is no segment


def test_a_labelmap_with_a_palette_has_its_colours(folder: Path, tmp_path: Path) -> None:
    scan = read_series(folder)
    table = highdicom.PaletteColorLUTTransformation.from_colors(["black", "#ff0000", "#0080ff"])
    path = by_highdicom(folder, labels(), tmp_path / "x.dcm", "LABELMAP", palette_color_lut_transformation=table)
    assert pydicom.dcmread(path).PhotometricInterpretation == "PALETTE COLOR"
    found = read_seg(path, scan.geometry)
    np.testing.assert_array_equal(found.array.T, labels())
    assert (found[1].colour, found[2].colour) == ((255, 0, 0), (0, 128, 255))


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("kind", ["PROBABILITY", "OCCUPANCY"])
def test_fractions_become_labels_at_half_and_are_there_as_they_are(
    wide_folder: Path, tmp_path: Path, kind: str, syntax: str | None
) -> None:
    scan = read_series(wide_folder)
    options = {"transfer_syntax_uid": syntax} if syntax else {}
    made = widened(fractions())
    path = by_highdicom(
        wide_folder,
        made,
        tmp_path / "x.dcm",
        "FRACTIONAL",
        fractional_type=kind,
        max_fractional_value=255,
        omit_empty_frames=False,
        **options,
    )
    stored = np.rint(made * 255)
    best = stored.argmax(axis=3)
    expected = np.where(stored.max(axis=3) * 2 >= 255, best + 1, 0)
    found = read_seg(path)
    assert found.geometry.matches(scan.geometry, 0.01)
    np.testing.assert_array_equal(found.array.T, expected)
    (finding,) = found.findings
    assert (finding.code, finding.details["fractional_type"]) == ("FRACTIONAL_THRESHOLDED", kind)
    ml = scan.geometry.voxel_volume_mm3 / 1000
    for number, row in enumerate(finding.details["segments"], start=1):
        assert row["ml_by_fractions"] == pytest.approx(made[..., number - 1].sum() * ml, rel=1e-6)
        assert row["ml_at_half"] == pytest.approx((expected == number).sum() * ml, rel=1e-6)
    for number, (segment, array, geometry) in enumerate(read_fractions(path), start=1):
        assert (segment.number, geometry) == (number, found.geometry)
        np.testing.assert_allclose(array, made[..., number - 1], atol=1e-6)
    layers = read_seg_layers(path)
    assert len(layers) == 2  # of the first two each its own half, though they share voxels
    for number in (1, 2, 3):
        home = next(layer for layer in layers if number in {segment.number for segment in layer.segments})
        np.testing.assert_array_equal(home.mask(number).T, made[..., number - 1] * 255 >= 127.5)


@pytest.mark.parametrize("largest", [1, 2, 100, 254])
def test_half_of_any_largest_value(make_series, tmp_path: Path, largest: int) -> None:
    folder = make_series(numbered_volume((9, 7, 11)))
    stored = np.zeros((11, 7, 9, 1))
    stored[3, 2, 1:8, 0] = np.arange(7) / 6
    path = by_highdicom(folder, stored, tmp_path / "x.dcm", "FRACTIONAL", max_fractional_value=largest, omit_empty_frames=False)
    dataset = pydicom.dcmread(path)
    heights = [groups.PlanePositionSequence[0].ImagePositionPatient[2] for groups in dataset.PerFrameFunctionalGroupsSequence]
    frames = dataset.pixel_array[np.argsort(heights)].astype(int)
    np.testing.assert_array_equal(read_seg(path).array.T > 0, (frames * 2 >= largest) & (frames > 0))


def overlapping() -> np.ndarray:
    """Five parts (k,j,i,segment): 1 and 2 overlap, 2 and 3 overlap, 4 meets none, 5 overlaps all in one voxel."""
    made = np.zeros((11, 7, 9, 5), np.uint8)
    made[1:4, 1:4, 1:4, 0] = 1
    made[3:6, 2:5, 3:6, 1] = 1
    made[5:8, 4:6, 5:8, 2] = 1
    made[9, 6, 0:3, 3] = 1
    made[3, 3, 3, 4] = 1
    return made


def test_segments_that_share_voxels_come_in_few_layers(folder: Path, tmp_path: Path) -> None:
    scan = read_series(folder)
    path = by_highdicom(folder, overlapping(), tmp_path / "x.dcm")
    with pytest.raises(OverlappingSegmentsError, match=r"'part 2' overlaps 'part 1' in 2 voxels.*in layers"):
        read_seg(path)
    layers = read_seg_layers(path, scan.geometry)
    assert [[segment.number for segment in layer.segments] for layer in layers] == [[1, 3, 4], [2], [5]]
    for layer in layers:
        for segment in layer.segments:
            np.testing.assert_array_equal(layer.mask(segment.number).T, overlapping()[..., segment.number - 1] > 0)
    for wanted in (2, "part 2"):
        alone = read_seg(path, scan.geometry, segment=wanted)
        assert [segment.label for segment in alone.segments] == ["part 2"]
        np.testing.assert_array_equal(alone.array.T, overlapping()[..., 1] * 2)
    with pytest.raises(UnknownSegmentError, match="1 part 1, 2 part 2"):
        read_seg(path, segment="part 9")


def test_other_dimension_organisations(folder: Path, tmp_path: Path) -> None:
    if read_series(folder).geometry.is_sheared:
        pytest.skip("highdicom writes 3D only for stacks without tilt")
    path = by_highdicom(folder, labels(), tmp_path / "x.dcm", "LABELMAP", omit_empty_frames=False, dimension_organization_type="3D")
    assert pydicom.dcmread(path).DimensionOrganizationType == "3D"
    np.testing.assert_array_equal(read_seg(path).array.T, labels())


def test_eight_bits_for_one_as_some_writers_store_it(folder: Path, tmp_path: Path) -> None:
    path = by_highdicom(folder, labels(), tmp_path / "x.dcm")
    expected = read_seg(path)

    def widen(dataset: pydicom.Dataset) -> None:
        data = (dataset.pixel_array * 255).astype(np.uint8).tobytes()
        dataset.PixelData = data + b"\0" * (len(data) % 2)
        dataset["PixelData"].VR = "OB"
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit = 7

    np.testing.assert_array_equal(read_seg(edited(path, widen)).array, expected.array)


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"], ids=["implicit", "big", "deflated"]
)
def test_every_uncompressed_syntax(folder: Path, tmp_path: Path, syntax: str) -> None:
    path = by_highdicom(folder, labels(), tmp_path / "x.dcm")
    expected = read_seg(path)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax.endswith("2.2"):
        dataset["PixelData"].VR = "OW"  # words: the bytes of a pair change places
        data = np.frombuffer(dataset.PixelData, np.uint8)
        dataset.PixelData = data.reshape(-1, 2)[:, ::-1].tobytes()
    pydicom.dcmwrite(path, dataset, implicit_vr=syntax == "1.2.840.10008.1.2", little_endian=not syntax.endswith("2.2"))
    np.testing.assert_array_equal(read_seg(path).array, expected.array)


def test_deflated_frames(folder: Path, tmp_path: Path) -> None:
    import zlib

    from pydicom.encaps import encapsulate

    path = by_highdicom(folder, labels(), tmp_path / "x.dcm")
    expected = read_seg(path)

    def deflate(dataset: pydicom.Dataset) -> None:
        streams = []
        for frame in dataset.pixel_array:
            packer = zlib.compressobj(wbits=-15)
            data = packer.compress(np.packbits(frame.reshape(-1), bitorder="little").tobytes()) + packer.flush()
            streams.append(data + b"\0" * (len(data) % 2))
        dataset.PixelData = encapsulate(streams)
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        dataset.file_meta.TransferSyntaxUID = JPEGLSLossless

    edited(path, deflate)
    raw = path.read_bytes()  # pydicom knows the syntax neither for reading nor for writing
    assert raw.count(b"1.2.840.10008.1.2.4.80") == 1
    path.write_bytes(raw.replace(b"1.2.840.10008.1.2.4.80", b"1.2.840.10008.1.2.8.1\0"))
    np.testing.assert_array_equal(read_seg(path).array, expected.array)


def test_compressed_frames_of_another_size_never_reach_a_decoder(make_series, tmp_path: Path) -> None:
    folder = make_series(numbered_volume((35, 33, 11)))
    for syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
        path = by_highdicom(folder, widened(labels()), tmp_path / "x.dcm", "LABELMAP", transfer_syntax_uid=syntax)
        edited(path, lambda dataset: setattr(dataset, "Rows", 32))
        with pytest.raises(UnreadableFileError):
            read_seg(path)


def test_a_labelmap_has_no_fractions(make_series, tmp_path: Path) -> None:
    path = by_highdicom(make_series(numbered_volume((9, 7, 11))), labels(), tmp_path / "x.dcm", "LABELMAP")
    with pytest.raises(UnsupportedFormatError, match="LABELMAP"):
        read_fractions(path)
