"""Contours of made and of real structure sets: every kind of contour, volumes by formula, masks by other tools."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from made_structures import CLOSED, Contours, circle, rectangle, write_structures
from pydicom.dataset import Dataset

from medseg.core.errors import InputError, MedsegError, UnreadableFileError, UnsupportedFormatError
from medseg.core.finding import Severity
from medseg.core.geometry import Geometry
from medseg.io.dicom.contours import StructureSet
from medseg.io.dicom.rtstruct_read import is_rtstruct, rasterise, read_structures

LEVELS = np.arange(10) * 2.5


def _codes(structures: StructureSet) -> set[str]:
    return {finding.code for finding in structures.findings}


def _stack(ring: np.ndarray, levels: np.ndarray = LEVELS) -> Contours:
    return [(CLOSED, np.column_stack([ring[:, :2], np.full(len(ring), z)])) for z in levels]


def _read(tmp_path: Path, contours: Contours, **options: object) -> StructureSet:
    return read_structures(write_structures(tmp_path / "rs.dcm", {1: contours}, **options))  # type: ignore[arg-type]


def test_a_cylinder_has_the_volume_of_the_formula(tmp_path: Path) -> None:
    structures = _read(tmp_path, _stack(circle(20, 0)))
    assert structures["roi 1"].volume_ml == pytest.approx(np.pi * 400 * 25 / 1000, rel=1e-4)
    assert structures.step_mm == pytest.approx(2.5)
    assert structures[1].colour == (1, 20, 30)
    assert not structures.findings
    assert json.loads(json.dumps(structures.to_dict()))["rois"][0]["planes"] == 10


def test_points_are_in_ras(tmp_path: Path) -> None:
    structures = _read(tmp_path, [(CLOSED, rectangle((1, 2), (5, 9), 7)), ("POINT", np.array([[10.0, 20, 30]]))])
    assert structures[1].contours[0].points_mm[0].tolist() == [-1, -2, 7]
    assert structures[1].points_mm.tolist() == [[-10, -20, 30]]


def test_a_sphere_of_thin_slices_has_the_volume_of_the_formula(tmp_path: Path) -> None:
    levels = np.arange(-14.75, 15, 0.5)
    contours = [(CLOSED, circle(np.sqrt(15**2 - z**2), z)) for z in levels]
    assert _read(tmp_path, contours)[1].volume_ml == pytest.approx(4 / 3 * np.pi * 15**3 / 1000, rel=1e-3)


HOLE = circle(8, 0, (3, 2))
SQUARE = rectangle((-20, -15), (20, 15), 0)
KEYHOLE = np.vstack([SQUARE[:1], HOLE[::-1], HOLE[-1:], SQUARE[:1], SQUARE[1:]])


@pytest.mark.parametrize("kinds", [(CLOSED, CLOSED), ("CLOSEDPLANAR_XOR", "CLOSEDPLANAR_XOR")])
def test_a_contour_inside_another_is_a_hole(tmp_path: Path, kinds: tuple[str, str]) -> None:
    contours = [(kinds[0], ring) for _, ring in _stack(SQUARE)] + [(kinds[1], ring) for _, ring in _stack(HOLE)]
    structures = _read(tmp_path, contours)
    assert structures[1].volume_ml == pytest.approx((1200 - np.pi * 64) * 25 / 1000, rel=1e-4)
    assert not structures.findings


def test_an_island_in_a_hole_counts_again(tmp_path: Path) -> None:
    structures = _read(tmp_path, [*_stack(SQUARE), *_stack(HOLE), *_stack(circle(3, 0, (3, 2)))])
    assert structures[1].volume_ml == pytest.approx((1200 - np.pi * (64 - 9)) * 25 / 1000, rel=1e-4)


def test_a_keyhole_counts_as_a_hole_without_a_word(tmp_path: Path) -> None:
    structures = _read(tmp_path, _stack(KEYHOLE))
    assert structures[1].volume_ml == pytest.approx((1200 - np.pi * 64) * 25 / 1000, rel=1e-4)
    assert not structures.findings


def test_repeated_points_and_turns_change_nothing(tmp_path: Path) -> None:
    ring = np.vstack([np.repeat(SQUARE, 2, axis=0), SQUARE[:1]])
    assert _read(tmp_path, _stack(ring))[1].volume_ml == pytest.approx(30)
    twice = _read(tmp_path, _stack(np.vstack([SQUARE, SQUARE])))
    assert twice[1].volume_ml == pytest.approx(30)


def test_a_contour_there_twice_counts_once(tmp_path: Path) -> None:
    structures = _read(tmp_path, [*_stack(SQUARE), *_stack(np.roll(SQUARE[::-1], 1, axis=0))[:4]])
    assert structures[1].volume_ml == pytest.approx(30)
    assert [finding.details["count"] for finding in structures.findings if finding.code == "DUPLICATE_CONTOURS"] == [4]


def test_what_encloses_nothing_is_named_and_adds_nothing(tmp_path: Path) -> None:
    line, point = np.array([[0.0, 0, 0], [9, 0, 0]]), np.array([[30.0, 0, 0]])
    structures = _read(
        tmp_path, [*_stack(SQUARE), (CLOSED, line), (CLOSED, point), ("OPEN_PLANAR", circle(5, 0, (40, 0))), ("POINT", point)]
    )
    assert structures[1].volume_ml == pytest.approx(30)
    assert _codes(structures) == {"DEGENERATE_CONTOURS", "OPEN_CONTOURS", "POINT_CONTOURS"}


@pytest.mark.parametrize(
    ("contours", "reason"),
    [
        ([], "no contours"),
        ([("POINT", np.array([[1.0, 2, 3]]))], "only POINT"),
        ([("OPEN_PLANAR", circle(5, 0))], "only OPEN_PLANAR"),
        ([("SPLINE", circle(5, 0))], "only SPLINE"),
        ([(CLOSED, np.array([[1.0, 2, 3], [4, 5, 3]]))], "one or two points"),
        ([(CLOSED, np.array([[1.0, 2, 3], [2, 3, 3], [3, 4, 3], [2, 3, 3.0]]))], "lines"),
        ([(CLOSED, circle(5, 0))], "one plane"),
    ],
)
def test_no_volume_has_a_reason(tmp_path: Path, contours: Contours, reason: str) -> None:
    roi = _read(tmp_path, contours)[1]
    assert roi.volume_ml is None
    assert reason in roi.no_volume


def test_one_plane_is_as_thick_as_the_slices_of_the_others(tmp_path: Path) -> None:
    path = write_structures(tmp_path / "rs.dcm", {1: _stack(SQUARE), 2: [(CLOSED, rectangle((0, 0), (4, 5), 2.5))]})
    structures = read_structures(path)
    assert structures[2].volume_ml == pytest.approx(4 * 5 * 2.5 / 1000)
    assert "SINGLE_PLANE" in _codes(structures)


@pytest.mark.parametrize(
    ("levels", "length"),
    [
        ([0, 2, 4, 6, 8], 10),
        ([0, 2, 4, 6, 10, 14, 18], 1 + 18 + 2),  # slices at uneven distances: to the middle of both gaps
        ([0, 2, 4, 40, 42, 44], 12),  # two parts
        ([0, 2, 40], 6),
        ([44, 40, 2, 0, 42, 4], 12),
    ],
)
def test_widths_of_planes(tmp_path: Path, levels: list[float], length: float) -> None:
    assert _read(tmp_path, _stack(SQUARE, np.array(levels, float)))[1].volume_ml == pytest.approx(1200 * length / 1000)


def test_gaps_are_priced(tmp_path: Path) -> None:
    path = write_structures(tmp_path / "rs.dcm", {1: _stack(SQUARE), 2: _stack(SQUARE, LEVELS[[0, 1, 2, 5, 6, 7, 8, 9]])})
    (finding,) = read_structures(path).findings
    assert (finding.code, finding.severity) == ("CONTOUR_GAPS", Severity.WARNING)
    assert finding.details["missing_planes"] == 2
    assert finding.details["drawn_ml"] == pytest.approx(24)
    assert finding.details["filled_ml"] == pytest.approx(30)
    assert finding.details["after_mm"] == [5.0]


def test_contours_that_overlap_in_part_are_priced(tmp_path: Path) -> None:
    structures = _read(tmp_path, [*_stack(SQUARE), *_stack(SQUARE + np.array([10, 0, 0]))])
    (finding,) = structures.findings
    assert finding.code == "OVERLAPPING_CONTOURS"
    assert structures[1].volume_ml == pytest.approx((2400 - 2 * 900) * 25 / 1000)
    assert finding.details["volume_ml"] == pytest.approx(900 * 25 / 1000)


def test_a_contour_that_crosses_itself_is_named(tmp_path: Path) -> None:
    bow_tie = np.array([[0.0, 0, 0], [20, 20, 0], [20, 0, 0], [0, 20, 0]])
    structures = _read(tmp_path, _stack(bow_tie))
    assert structures[1].volume_ml == pytest.approx(200 * 25 / 1000)
    assert _codes(structures) == {"SELF_CROSSING_CONTOURS"}


def _turned(contours: Contours, turn: np.ndarray) -> Contours:
    return [(kind, points @ turn.T + (12.0, -30, 400)) for kind, points in contours]


@pytest.mark.parametrize("way", ["sagittal", "coronal", "oblique", "nearly axial"])
def test_planes_may_face_any_way(tmp_path: Path, way: str) -> None:
    tilt = np.radians(0.2 if way == "nearly axial" else 23)
    turn = {"sagittal": np.eye(3)[[2, 0, 1]], "coronal": np.eye(3)[[0, 2, 1]]}.get(way)
    if turn is None:
        turn = np.array([[np.cos(tilt), 0, np.sin(tilt)], [0, 1, 0], [-np.sin(tilt), 0, np.cos(tilt)]])
    contours = _turned([*_stack(SQUARE), *_stack(HOLE)], turn)
    structures = _read(tmp_path, contours)
    assert structures[1].volume_ml == pytest.approx((1200 - np.pi * 64) * 25 / 1000, rel=1e-3)
    assert structures.step_mm == pytest.approx(2.5, abs=1e-3)
    assert not structures.findings


def test_a_tilted_stack_has_no_more_volume_than_an_upright_one(tmp_path: Path) -> None:
    contours = [(CLOSED, ring + np.array([0.4 * ring[0, 2], 0, 0])) for _, ring in _stack(SQUARE)]
    assert _read(tmp_path, contours)[1].volume_ml == pytest.approx(30)


def test_noise_across_the_planes_changes_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    contours = [(CLOSED, ring + rng.normal(0, 0.003, ring.shape) * (0, 0, 1)) for _, ring in _stack(circle(20, 0))]
    structures = _read(tmp_path, contours)
    assert structures[1].volume_ml == pytest.approx(np.pi * 400 * 25 / 1000, rel=1e-3)
    assert structures[1].to_dict()["planes"] == 10
    assert not structures.findings


def test_contours_in_planes_of_different_directions_give_no_volume(tmp_path: Path) -> None:
    across = [(CLOSED, ring[:, [2, 0, 1]]) for _, ring in _stack(circle(20, 0))]
    structures = read_structures(write_structures(tmp_path / "rs.dcm", {1: [*_stack(SQUARE), *across], 2: _stack(SQUARE)}))
    assert structures[1].volume_ml is None
    assert structures[2].volume_ml == pytest.approx(30)
    assert [(note.code, note.severity) for note in structures.findings] == [("CONTOURS_NOT_PARALLEL", Severity.ERROR)]


def test_names_types_and_codes(tmp_path: Path) -> None:
    def describe(dataset: Dataset) -> None:
        code, side, observation = Dataset(), Dataset(), Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "64033007", "SCT", "Kidney"
        side.CodeValue, side.CodingSchemeDesignator, side.CodeMeaning = "7771000", "SCT", "Left"
        code.SegmentedPropertyTypeModifierCodeSequence = [side]
        observation.ObservationNumber, observation.ReferencedROINumber, observation.RTROIInterpretedType = 1, 1, "ORGAN"
        observation.RTROIIdentificationCodeSequence = [code]
        dataset.RTROIObservationsSequence = [observation]
        dataset.SpecificCharacterSet, dataset.ApprovalStatus = "ISO_IR 100", "APPROVED"
        dataset.StructureSetROISequence[1].ROIName = "Niere\nlinks Ü"

    names = {1: "Kidney L", 2: "-", 3: "Kidney L", 4: ""}
    rois = dict.fromkeys(names, _stack(SQUARE))
    structures = read_structures(write_structures(tmp_path / "rs.dcm", rois, names, edit=describe))
    assert [roi.name for roi in structures.rois] == ["Kidney L", "Niere links Ü", "Kidney L (2)", "roi_4"]
    first = structures[1]
    assert (first.interpreted_type, first.generation, structures.approval) == ("ORGAN", "MANUAL", "APPROVED")
    assert first.type is not None
    assert first.modifier is not None
    assert (first.type.meaning, first.modifier.meaning) == ("Kidney", "Left")


def test_an_roi_without_a_contour_item_is_kept(tmp_path: Path) -> None:
    def drop(dataset: Dataset) -> None:
        del dataset.ROIContourSequence[1]
        orphan = Dataset()
        orphan.ReferencedROINumber = 77
        dataset.ROIContourSequence.append(orphan)

    rois = {1: _stack(SQUARE), 2: _stack(SQUARE)}
    structures = read_structures(write_structures(tmp_path / "rs.dcm", rois, edit=drop))
    assert [roi.volume_ml for roi in structures.rois] == [pytest.approx(30), None]
    assert _codes(structures) == {"EMPTY_ROI", "ORPHAN_CONTOURS"}


def test_explicit_vr_and_other_numbers_of_points(tmp_path: Path) -> None:
    def lie(dataset: Dataset) -> None:
        dataset.ROIContourSequence[0].ContourSequence[0].NumberOfContourPoints = 99
        del dataset.ROIContourSequence[0].ContourSequence[1].ContourGeometricType

    structures = _read(tmp_path, _stack(SQUARE), explicit=True, edit=lie)
    assert structures[1].volume_ml == pytest.approx(30)
    assert _codes(structures) == {"POINT_COUNT", "UNKNOWN_CONTOUR_KIND"}


@pytest.mark.parametrize("data", [["1", "2"], ["1", "2", "nan"], ["1", "2", "x"], ["1", "2", "1e9"]])
def test_points_that_are_none_are_an_error(tmp_path: Path, data: list[str]) -> None:
    from pydicom.config import disable_value_validation
    from pydicom.dataelem import DataElement

    def spoil(dataset: Dataset) -> None:
        contour = dataset.ROIContourSequence[0].ContourSequence[0]
        contour[0x30060050] = DataElement(0x30060050, "LT", "\\".join(data))

    with disable_value_validation():
        path = write_structures(tmp_path / "rs.dcm", {1: _stack(SQUARE)}, edit=spoil)
    with pytest.raises(UnreadableFileError, match=r"ROI 1 'roi 1', contour 1"):
        read_structures(path)


def test_two_rois_of_one_number_are_an_error(tmp_path: Path) -> None:
    def repeat(dataset: Dataset) -> None:
        dataset.StructureSetROISequence.append(dataset.StructureSetROISequence[0])

    with pytest.raises(UnreadableFileError, match="same number"):
        _read(tmp_path, _stack(SQUARE), edit=repeat)


def test_other_files_and_folders(tmp_path: Path, shared_data: Path) -> None:
    assert is_rtstruct(shared_data / "rtstruct_breast_tps" / "rtss.dcm")
    assert not is_rtstruct(shared_data / "rtstruct_breast_tps" / "ct" / "ct.0.dcm")
    assert not is_rtstruct(tmp_path)
    with pytest.raises(UnsupportedFormatError, match="not a DICOM structure set"):
        read_structures(shared_data / "rtstruct_breast_tps" / "ct" / "ct.0.dcm")
    with pytest.raises(UnreadableFileError, match="no such file"):
        read_structures(tmp_path / "none.dcm")
    with pytest.raises(InputError, match="there are 0"):
        read_structures(tmp_path)
    with pytest.raises(InputError, match="there are 3"):
        read_structures(shared_data / "tumour_sts_002" / "rtstruct")
    (tmp_path / "text.dcm").write_text("no DICOM")
    with pytest.raises(UnreadableFileError):
        read_structures(tmp_path / "text.dcm")


def test_damaged_files_give_named_errors_that_hold_no_patient(tmp_path: Path) -> None:
    whole = write_structures(tmp_path / "rs.dcm", {1: _stack(circle(20, 0, points=12)), 2: _stack(SQUARE)}, explicit=True).read_bytes()
    rng = np.random.default_rng(5)
    path = tmp_path / "mutant.dcm"
    grid = Geometry((60, 60, 12), np.array([[-1.0, 0, 0, 30], [0, -1, 0, 30], [0, 0, 2.5, 0], [0, 0, 0, 1]]))
    messages = []
    for n in range(250):
        data = bytearray(whole)
        if n % 3 == 0:
            del data[int(rng.integers(1, len(data))) :]
        else:
            for at in rng.integers(0, len(data), 1 + n % 5):
                data[at] = int(rng.integers(0, 256))
        path.write_bytes(data)
        try:
            structures = read_structures(path)
            rasterise(structures, grid, interpolate=n % 2 == 0)
            rasterise(structures)
        except MedsegError as err:
            messages.append(str(err))
    assert len(messages) > 80
    assert not [text for text in messages if "ZZCANARY" in text]


def test_a_file_cut_short_anywhere_is_an_error(tmp_path: Path) -> None:
    whole = write_structures(tmp_path / "rs.dcm", {1: _stack(SQUARE)}).read_bytes()
    path = tmp_path / "short.dcm"
    for size in range(200, len(whole) - 1, 97):
        path.write_bytes(whole[:size])
        with pytest.raises(MedsegError):
            read_structures(path)


def test_the_planning_system_s_structure_set(shared_data: Path) -> None:
    case = shared_data / "rtstruct_breast_tps"
    expected = json.loads((case / "expected.json").read_text())["rois"]
    structures = read_structures(case / "rtss.dcm")
    assert [(roi.number, roi.name, len(roi.contours)) for roi in structures.rois] == [
        (e["number"], e["name"], e["contours"]) for e in expected
    ]
    for roi, row in zip(structures.rois, expected, strict=True):
        if row["volume_ml_even_odd"] is None:
            assert roi.volume_ml is None
        else:
            assert roi.volume_ml == pytest.approx(row["volume_ml_even_odd"], rel=1e-3)
    assert structures["Heart"].volume_ml == pytest.approx(440.231, rel=0.005)  # published, counted on a 2.5 mm grid
    assert structures["BODY"].interpreted_type == "EXTERNAL"
    assert structures.step_mm == pytest.approx(3)
    assert len(structures.referenced_series_uids) == 1
    assert _codes(structures) == {"EMPTY_ROI"}


@pytest.mark.parametrize("case", ["tumour_sts_002", "tumour_sts_019", "tumour_sts_025"])
@pytest.mark.parametrize("image", ["CT", "MR_T1", "PET"])
def test_tumours_have_the_volume_of_their_contours(shared_data: Path, case: str, image: str) -> None:
    (roi,) = read_structures(shared_data / case / "rtstruct" / f"{image}_RS.dcm").rois
    mask = nibabel.load(shared_data / case / "reference" / f"{image}_mask.nii.gz")
    volume = np.count_nonzero(np.asarray(mask.dataobj)) * abs(np.linalg.det(mask.affine[:3, :3])) / 1000
    assert roi.volume_ml == pytest.approx(volume, rel=0.02)
    assert (roi.interpreted_type, roi.name) == ("GTV", f"GTV_Mass_{image}")
