"""RTSTRUCT files as written: read back by scikit-image and matplotlib, judged by dicom3tools, on every kind of grid."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Polygon
from skimage.draw import polygon2mask

from medseg.core.errors import GeometryMismatchError, InputError, OutputExistsError, OutputVerificationError, SegmentError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.io.dicom import rtstruct
from medseg.io.dicom.contour_trace import Outline
from medseg.io.dicom.rtstruct import interpreted_type, write_rtstruct
from medseg.io.dicom.rtstruct_read import rasterise, read_structures
from medseg.io.dicom.volume import read_series
from medseg.io.options import ReadOptions

SHAPE = (44, 38, 12)
SEGMENTS = (Segment(1, "liver", colour=(200, 100, 0)), Segment(3, "kidney_left"), Segment(7, "tumor"), Segment(9, "Galle Ü \\ leer"))
MakeSeries = Callable[..., Path]


@pytest.fixture
def scan(make_series: MakeSeries, affine: np.ndarray) -> Volume:
    """A series on each kind of grid, read from its files."""
    values = np.random.default_rng(3).integers(-500, 500, SHAPE).astype(np.int16)
    return read_series(make_series(Volume(values, Geometry(SHAPE, affine), modality="CT")))


@pytest.fixture
def axial(make_series: MakeSeries) -> Volume:
    affine = np.diag([-0.8, -1.1, 2.5, 1.0])
    affine[:3, 3] = (21.5, 12.25, -40)
    values = np.random.default_rng(3).integers(-500, 500, SHAPE).astype(np.int16)
    return read_series(make_series(Volume(values, Geometry(SHAPE, affine), modality="CT")))


def _organs(geometry: Geometry) -> tuple[LabelMap, LabelMap]:
    i, j, k = np.indices(geometry.shape)
    array = np.zeros(geometry.shape, np.uint8)
    ball = ((i - 20) / 15) ** 2 + ((j - 18) / 13) ** 2 + ((k - 6) / 5.5) ** 2 < 1
    array[ball & (np.hypot(i - 17, j - 17) > 4) & (np.hypot(i - 25, j - 22) > 2.5)] = 1
    array[38:42, 30:37, 2:5] = 3
    array[40, 3, 8] = array[0, 0, 0] = array[43, 37, 11] = 7
    target = np.zeros(geometry.shape, np.uint8)
    target[np.hypot(i - 22, j - 20) < 9] = 12
    return LabelMap(array, geometry, SEGMENTS), LabelMap(target, geometry, (Segment(12, "PTV boost", algorithm="medseg x"),))


def _rois(path: Path) -> dict[int, pydicom.Dataset]:
    return {int(item.ReferencedROINumber): item for item in pydicom.dcmread(path).ROIContourSequence}


def _pixels(points: np.ndarray, header: pydicom.Dataset) -> np.ndarray:
    """LPS mm as (column, row, mm off the image), by the image's own header."""
    row, column = np.array(header.ImageOrientationPatient[:3]), np.array(header.ImageOrientationPatient[3:])
    away = points - np.array(header.ImagePositionPatient)
    return np.column_stack([away @ row / header.PixelSpacing[1], away @ column / header.PixelSpacing[0], away @ np.cross(row, column)])


def _decoded(item: pydicom.Dataset, headers: dict[str, pydicom.Dataset], fill: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    """Masks (row, column) by SOP instance, each contour filled on its own and joined, as the simplest reader does it."""
    masks: dict[str, np.ndarray] = {}
    for contour in item.get("ContourSequence", []):
        (image,) = contour.ContourImageSequence
        pixels = _pixels(np.array(contour.ContourData, float).reshape(-1, 3), headers[image.ReferencedSOPInstanceUID])
        assert np.abs(pixels[:, 2]).max() < 2e-3
        assert contour.NumberOfContourPoints == len(pixels)
        uid = str(image.ReferencedSOPInstanceUID)
        masks[uid] = masks.get(uid, False) | fill(pixels[:, :2])
    return masks


def _by_scikit_image(pixels: np.ndarray) -> np.ndarray:
    return polygon2mask((SHAPE[1], SHAPE[0]), pixels[:, ::-1])


def _by_matplotlib(pixels: np.ndarray) -> np.ndarray:
    centres = np.stack(np.meshgrid(np.arange(SHAPE[0]), np.arange(SHAPE[1])), axis=-1).reshape(-1, 2)
    return Polygon(np.vstack([pixels, pixels[:1]])).contains_points(centres).reshape(SHAPE[1], SHAPE[0])


@pytest.mark.parametrize("fill", [_by_scikit_image, _by_matplotlib])
def test_simple_readers_get_the_voxels_back(scan: Volume, tmp_path: Path, fill: Callable[[np.ndarray], np.ndarray]) -> None:
    layers = _organs(scan.geometry)
    path = write_rtstruct(layers, tmp_path / "rs.dcm", scan)
    assert scan.source is not None
    headers = {header.SOPInstanceUID: header for header in map(pydicom.dcmread, scan.source.files)}
    rois = _rois(path)
    assert sorted(rois) == [1, 3, 7, 9, 12]
    for layer in layers:
        for segment in layer.segments:
            masks = _decoded(rois[segment.number], headers, fill)
            for k, uid in enumerate(scan.source.sop_instance_uids):
                expected = np.equal(layer.array[:, :, k].T, segment.number)
                assert np.array_equal(masks.get(uid, np.zeros_like(expected)), expected), (segment.label, k)


def test_our_reader_gets_the_voxels_volumes_and_names_back(scan: Volume, tmp_path: Path) -> None:
    layers = _organs(scan.geometry)
    structures = read_structures(write_rtstruct(layers, tmp_path / "rs.dcm", scan))
    back = rasterise(structures, scan.geometry)
    assert [np.array_equal(one.array, other.array) for one, other in zip(back, layers, strict=True)] == [True, True]
    assert [roi.name for roi in structures.rois] == ["liver", "kidney_left", "tumor", "Galle Ü leer", "PTV boost"]
    assert [roi.interpreted_type for roi in structures.rois] == ["ORGAN", "ORGAN", "GTV", "", "PTV"]
    assert [roi.generation for roi in structures.rois] == ["SEMIAUTOMATIC"] * 4 + ["AUTOMATIC"]
    kidney = structures[3]
    assert kidney.modifier is not None
    assert kidney.modifier.meaning == "Left"
    assert structures[1].colour == (200, 100, 0)
    assert structures.approval == "UNAPPROVED"
    for number, layer in ((1, layers[0]), (3, layers[0]), (12, layers[1])):
        voxels = np.count_nonzero(layer.array == number)
        assert structures[number].volume_ml == pytest.approx(voxels * scan.geometry.voxel_volume_mm3 / 1000, rel=1e-3)
    assert structures.frame_of_reference_uid == scan.geometry.frame_of_reference_uid


def test_contours_lie_on_the_patient_s_own_side(axial: Volume, tmp_path: Path) -> None:
    structures = read_structures(write_rtstruct(_organs(axial.geometry), tmp_path / "rs.dcm", axial))
    stack = structures["kidney_left"].stack
    assert stack is not None
    expected = axial.geometry.index_to_world(np.argwhere(_organs(axial.geometry)[0].array == 3)).mean(axis=0)
    assert stack.centroid_mm == pytest.approx(expected, abs=0.02)


def test_contours_are_smoother_than_voxels(axial: Volume, tmp_path: Path) -> None:
    i, j, _ = np.indices(SHAPE)
    disc = np.hypot((i - 21.3) * 0.8, (j - 18.8) * 1.1) < 13
    organ = LabelMap(disc.astype(np.uint8), axial.geometry, (Segment(1, "disc"),))
    item = _rois(write_rtstruct(organ, tmp_path / "rs.dcm", axial))[1]
    points = np.array(item.ContourSequence[0].ContourData, float).reshape(-1, 3)
    centre = axial.geometry.index_to_world((21.3, 18.8, 0)) * (-1, -1, 1)
    off = np.hypot(*(points - centre)[:, :2].T) - 13
    assert np.abs(off).max() < 0.5
    assert np.sqrt((off**2).mean()) < 0.2  # the corners of its voxels: 0.4


@pytest.mark.parametrize("seed", range(3))
def test_masks_of_noise_come_back_to_the_voxel(axial: Volume, tmp_path: Path, seed: int) -> None:
    array = np.random.default_rng(seed).integers(0, 3, SHAPE).astype(np.uint8)
    organ = LabelMap(array, axial.geometry, (Segment(1, "a"), Segment(2, "b")))
    (back,) = rasterise(read_structures(write_rtstruct(organ, tmp_path / "rs.dcm", axial)), axial.geometry)
    assert np.array_equal(back.array, array)


def _errors(path: Path) -> set[str]:
    verdict = subprocess.run(["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False)
    assert verdict.stderr
    return {line for line in verdict.stderr.splitlines() if line.startswith("Error")}


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools are not installed")
def test_dicom3tools_find_nothing(scan: Volume, tmp_path: Path) -> None:
    path = write_rtstruct(_organs(scan.geometry), tmp_path / "rs.dcm", scan)
    assert scan.source is not None
    assert _errors(path) == set()
    together = subprocess.run(["dcentvfy", str(path), *scan.source.files], capture_output=True, text=True, check=False)
    assert (together.stdout + together.stderr).strip() == ""


def test_patient_study_and_references(make_series: MakeSeries, tmp_path: Path) -> None:
    def spoil(dataset: pydicom.Dataset, _: int) -> None:
        dataset.SpecificCharacterSet, dataset.PatientName = "ISO_IR 100", "Müller^Änne"
        dataset.PatientBirthDate, dataset.StudyDescription = "19500101", "Becken"

    scan = read_series(make_series(edit=spoil))
    organ = LabelMap(np.ones(scan.geometry.shape, np.uint8), scan.geometry, (Segment(1, "body"),))
    made = pydicom.dcmread(write_rtstruct(organ, tmp_path / "rs.dcm", scan))
    assert scan.source is not None
    header = pydicom.dcmread(scan.source.files[0])
    assert str(made.PatientName) == "Müller^Änne"
    for keyword in ("PatientID", "PatientBirthDate", "StudyInstanceUID", "StudyDescription", "FrameOfReferenceUID"):
        assert made[keyword].value == header[keyword].value
    assert made.SeriesInstanceUID != header.SeriesInstanceUID
    (frame,) = made.ReferencedFrameOfReferenceSequence
    (series,) = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
    assert series.SeriesInstanceUID == header.SeriesInstanceUID
    assert [image.ReferencedSOPInstanceUID for image in series.ContourImageSequence] == list(scan.source.sop_instance_uids)
    assert made.RTROIObservationsSequence[0].RTROIInterpretedType == "EXTERNAL"


def test_words_where_dates_belong_are_left_out(make_series: MakeSeries, tmp_path: Path) -> None:
    def spoil(dataset: pydicom.Dataset, _: int) -> None:
        dataset.PatientBirthDate = dataset.StudyDate = "ANONYM"

    with pydicom.config.disable_value_validation():
        folder = make_series(edit=spoil)
    scan = read_series(folder)
    organ = LabelMap(np.ones(scan.geometry.shape, np.uint8), scan.geometry, (Segment(1, "a"),))
    made = pydicom.dcmread(write_rtstruct(organ, tmp_path / "rs.dcm", scan))
    assert (made.PatientBirthDate, made.StudyDate) == ("", "")


@pytest.mark.parametrize(
    ("case", "options", "frames"),
    [
        ("tumour_sts_002/dicom/PET", ReadOptions(), False),
        ("dicom_ct_gantry_tilt_phantom", ReadOptions(), False),
        ("dicom_mr_sagittal_phantom", ReadOptions(), False),
        ("dicom_mr_prone", ReadOptions(), False),
        ("dicom_enhanced_ct_nema", ReadOptions(), True),
        ("dicom_enhanced_legacy_ct", ReadOptions(), True),
        (
            "dicom_mr_mosaic_orientations",
            ReadOptions(series="1.3.12.2.1107.5.2.32.35131.2014031012523712371987217.0.0.0", select="1"),
            False,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_real_series_of_every_kind(shared_data: Path, tmp_path: Path, case: str, options: ReadOptions, frames: bool) -> None:
    scan = read_series(shared_data / case, options)
    i, j, k = (np.indices(scan.geometry.shape).T / np.array(scan.geometry.shape) - 0.5).T
    ball = (i**2 + j**2 + k**2 < 0.15).astype(np.uint8)
    organ = LabelMap(ball, scan.geometry, (Segment(1, "ball"),))
    path = write_rtstruct(organ, tmp_path / "rs.dcm", scan)
    structures = read_structures(path)
    (back,) = rasterise(structures, scan.geometry)
    assert np.array_equal(back.array, ball)
    if ball.any(axis=(0, 1)).sum() > 1:  # two slices hold one plane of it
        assert structures[1].volume_ml == pytest.approx(ball.sum() * scan.geometry.voxel_volume_mm3 / 1000, rel=0.01)
    for contour in _rois(path)[1].ContourSequence:
        (image,) = contour.ContourImageSequence
        assert (image.get("ReferencedFrameNumber") is not None) == frames
    if shutil.which("dciodvfy") is not None:
        assert scan.source is not None
        assert _errors(path) - _errors(Path(scan.source.files[0])) == set()  # patient and study are copied with their faults


def test_planes_of_a_resampled_scan_refer_to_slices_only_where_there_are_some(shared_data: Path, tmp_path: Path) -> None:
    scan = read_series(shared_data / "dicom_ct_gantry_tilt_uneven_ge")
    array = np.zeros(scan.geometry.shape, np.uint8)
    array[200:260, 200:250, 5:90] = 1
    path = write_rtstruct(LabelMap(array, scan.geometry, (Segment(1, "box"),)), tmp_path / "rs.dcm", scan)
    referred = [len(contour.get("ContourImageSequence", [])) for contour in _rois(path)[1].ContourSequence]
    assert len(referred) == 85
    assert 5 < sum(referred) < 85
    (back,) = rasterise(read_structures(path), scan.geometry)
    assert np.array_equal(back.array, array)


def test_refusals(axial: Volume, tmp_path: Path) -> None:
    organs = _organs(axial.geometry)
    moved = Geometry(SHAPE, axial.geometry.affine + np.diag([0.1, 0, 0, 0]))
    with pytest.raises(GeometryMismatchError, match="grid of the scan"):
        write_rtstruct(LabelMap(organs[0].array, moved, SEGMENTS), tmp_path / "rs.dcm", axial)
    with pytest.raises(InputError, match="DICOM series"):
        write_rtstruct(organs, tmp_path / "rs.dcm", Volume(axial.array, axial.geometry))
    with pytest.raises(InputError, match="no segment"):
        write_rtstruct(LabelMap(np.zeros(SHAPE, np.uint8), axial.geometry, ()), tmp_path / "rs.dcm", axial)
    with pytest.raises(SegmentError, match="two layers"):
        write_rtstruct((organs[0], organs[0]), tmp_path / "rs.dcm", axial)
    assert list(tmp_path.glob("*.dcm")) == []
    path = write_rtstruct(organs, tmp_path / "rs.dcm", axial)
    with pytest.raises(OutputExistsError):
        write_rtstruct(organs, path, axial)
    assert write_rtstruct(organs, path, axial, overwrite=True) == path


def test_a_series_that_changed_is_refused(axial: Volume, tmp_path: Path) -> None:
    assert axial.source is not None
    Path(axial.source.files[2]).unlink()
    with pytest.raises(InputError, match="cannot be read any more"):
        write_rtstruct(_organs(axial.geometry), tmp_path / "rs.dcm", axial)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda points: points * (-1, 1, 1),  # left and right
        lambda points: points * (-1, -1, 1),  # another convention
        lambda points: points + np.array([0.9, 0, 0]),
        lambda points: points + np.array([0, 0, 2.5]),
        lambda points: points[: len(points) // 2],
    ],
)
def test_contours_that_came_out_wrong_do_not_get_their_name(
    axial: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[np.ndarray], np.ndarray]
) -> None:
    trace = rtstruct.trace_segments

    def wrong(label_map: LabelMap) -> dict[int, list[Outline]]:
        return {number: [Outline(one.k, spoil(one.points_mm)) for one in found] for number, found in trace(label_map).items()}

    monkeypatch.setattr(rtstruct, "trace_segments", wrong)
    with pytest.raises(OutputVerificationError):
        write_rtstruct(_organs(axial.geometry), tmp_path / "rs.dcm", axial)
    assert list(tmp_path.iterdir()) == [tmp_path / "series"]


def test_no_claim_is_made_about_unknown_regions() -> None:
    assert interpreted_type(Segment(1, "structure 7")) == ""
