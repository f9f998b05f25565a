"""Two files on one grid without a voxel changed, and folders in which nothing gets lost."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from made_series import numbered_volume
from made_structures import CLOSED, rectangle, write_structures

from medseg.core.errors import GeometryMismatchError, InputError, SegmentError, UnreadableFileError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.evaluation.overlap import evaluate
from medseg.io.dicom.series import write_series
from medseg.io.evaluated import read_pair
from medseg.io.evaluated_folders import pair_folders
from medseg.io.read import read, read_layers
from medseg.io.write import write
from medseg.preprocessing.orientation import reoriented

AFFINE = np.array([[-0.8, 0, 0, 30], [0, -1.1, 0, 20], [0, 0, 2.5, -7], [0, 0, 0, 1]])


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def blocks(seed: int = 0) -> np.ndarray:
    array = np.zeros((16, 14, 12), np.uint8)
    array[4 + seed : 10 + seed, 3:9, 2:8] = 1
    array[11:14, 10:13, 8:11] = 2
    return array


def counts(pair) -> list[tuple[int, int, int]]:
    found = evaluate(pair.reference, pair.prediction, surfaces=False).scores
    return [(score.reference_voxels, score.prediction_voxels, score.common_voxels) for score in found]


def test_another_order_of_axes_changes_nothing(tmp_path):
    save(tmp_path / "a.nii", blocks())
    (label_map,) = read_layers(save(tmp_path / "b.nii", blocks(1)))
    for code in ("RAS", "SPL", "AIR"):
        write(reoriented(label_map, code), tmp_path / f"{code}.nrrd")
        assert counts(read_pair(tmp_path / "a.nii", tmp_path / f"{code}.nrrd")) == counts(read_pair(tmp_path / "a.nii", tmp_path / "b.nii"))


@pytest.mark.parametrize("side", ["reference", "prediction", "both"])
def test_cropped_files_meet_on_a_grid_that_holds_both(tmp_path, side):
    """Either file may be cropped, and each may reach where the other does not: no voxel of either is lost."""
    whole = Geometry((16, 14, 12), AFFINE)
    parts = {"reference": (slice(3, 15), slice(2, 14), slice(1, 12)), "prediction": (slice(2, 16), slice(0, 13), slice(0, 11))}
    arrays = {"reference": blocks(), "prediction": blocks(2)}
    for name, array in arrays.items():
        part = parts[name] if side in (name, "both") else (slice(0, 16), slice(0, 14), slice(0, 12))
        grid = whole.cropped([one.start for one in part], array[part].shape)
        save(tmp_path / f"{name}.nii.gz", array[part], grid.affine)
    pair = read_pair(tmp_path / "reference.nii.gz", tmp_path / "prediction.nii.gz")
    a, b = arrays.values()
    assert counts(pair) == [(int((a == n).sum()), int((b == n).sum()), int(((a == n) & (b == n)).sum())) for n in (1, 2)]
    assert pair.findings == ()


def test_another_grid_is_refused_and_resampled_on_request(tmp_path):
    save(tmp_path / "a.nii", blocks())
    coarse = AFFINE @ np.diag([2, 2, 1, 1])
    save(tmp_path / "b.nii", blocks()[::2, ::2].copy(), coarse)
    pair = read_pair(tmp_path / "a.nii", tmp_path / "b.nii")
    with pytest.raises(GeometryMismatchError, match="--resample"):
        evaluate(pair.reference, pair.prediction)
    resampled = read_pair(tmp_path / "a.nii", tmp_path / "b.nii", resample=True)
    (finding,) = [one for one in resampled.findings if one.code == "PREDICTION_RESAMPLED"]
    voxel_ml = 0.8 * 1.1 * 2.5 / 1000
    before = [4 * voxel_ml * int((blocks()[::2, ::2] == n).sum()) for n in (1, 2)]
    assert [one["before_ml"] for one in finding.details["volumes"]] == pytest.approx(before)
    after = [voxel_ml * score[1] for score in counts(resampled)]
    assert [one["after_ml"] for one in finding.details["volumes"]] == pytest.approx(after)
    assert "segment_1" in finding.message


def test_frames_of_reference_that_differ_are_never_resampled(tmp_path):
    """Two DICOM SEGs on one lattice whose frames of reference differ: nobody knows whether they lie in one place."""
    for n in range(2):
        scan = numbered_volume()
        files = write_series(scan, tmp_path / f"series{n}", seed=f"patient {n}")
        ct = read(tmp_path / f"series{n}")
        assert files
        array = np.zeros(ct.geometry.shape, np.uint8)
        array[2:5, 1:4, 1:5] = 1
        write(LabelMap(array, ct.geometry, (Segment(1, "a"),)), tmp_path / f"{n}.dcm", source=ct)
    pair = read_pair(tmp_path / "0.dcm", tmp_path / "1.dcm")
    with pytest.raises(GeometryMismatchError, match="frames of reference differ"):
        evaluate(pair.reference, pair.prediction)
    with pytest.raises(GeometryMismatchError, match="register"):
        read_pair(tmp_path / "0.dcm", tmp_path / "1.dcm", resample=True)
    assert counts(read_pair(tmp_path / "0.dcm", tmp_path / "0.dcm")) == [(36, 36, 36)]


def test_floats_are_labels_within_a_thousandth(tmp_path):
    save(tmp_path / "a.nii", blocks())
    near = blocks().astype(np.float32)
    near[near > 0] += np.float32(9e-4)
    assert counts(read_pair(tmp_path / "a.nii", save(tmp_path / "near.nii", near))) == counts(
        read_pair(tmp_path / "a.nii", tmp_path / "a.nii")
    )
    far = blocks().astype(np.float32)
    far[5, 5, 5] = 1.01
    with pytest.raises(SegmentError, match=r"far\.nii"):
        read_pair(tmp_path / "a.nii", save(tmp_path / "far.nii", far))


def contours(path: Path, low: tuple[float, float], high: tuple[float, float], heights: range) -> Path:
    return write_structures(path, {1: [(CLOSED, rectangle(low, high, float(z))) for z in heights]}, {1: "GTV"})


@pytest.mark.parametrize("turned", [False, True])
def test_contours_on_either_side(tmp_path, turned):
    """Rectangles of 10 × 8 mm on 6 slices, against the mask of the same box (LPS: x and y change sign)."""
    structures = contours(tmp_path / "s.dcm", (-5, -4), (5, 4), range(6))
    array = np.zeros((20, 20, 12), np.uint8)
    array[5:15, 6:14, 3:9] = 1
    mask = save(tmp_path / "m.nii", array, np.array([[1.0, 0, 0, -9.5], [0, 1, 0, -9.5], [0, 0, 1, -3], [0, 0, 0, 1]]))
    files = (mask, structures) if turned else (structures, mask)
    assert counts(read_pair(*files)) == [(480, 480, 480)]


def test_contours_beyond_the_grid_are_false_voxels_not_forgotten_ones(tmp_path):
    """Half of the contours lies outside the reference's grid: that half is the prediction's error."""
    array = np.zeros((20, 20, 12), np.uint8)
    array[5:15, 6:14, 3:9] = 1
    mask = save(tmp_path / "m.nii", array[:10], np.array([[1.0, 0, 0, -9.5], [0, 1, 0, -9.5], [0, 0, 1, -3], [0, 0, 0, 1]]))
    structures = contours(tmp_path / "s.dcm", (-5, -4), (5, 4), range(6))
    assert counts(read_pair(mask, structures)) == [(240, 480, 240)]


def test_two_structure_sets_are_filled_on_one_grid(tmp_path):
    one = contours(tmp_path / "a.dcm", (-5, -4), (5, 4), range(6))
    other = contours(tmp_path / "b.dcm", (-5, -4), (9, 4), range(2, 9))
    ((ours, theirs, both),) = counts(read_pair(one, other))
    assert theirs / ours == pytest.approx(14 * 7 / (10 * 6), rel=0.02)
    assert both / ours == pytest.approx(4 / 6, rel=0.02)
    assert counts(read_pair(one, one))[0][0] == counts(read_pair(one, one))[0][2]


def test_real_contours_are_the_masks_made_of_them(shared_data):
    case = shared_data / "tumour_sts_019"
    pair = read_pair(case / "reference" / "CT_mask.nii.gz", case / "rtstruct" / "CT_RS.dcm")
    (score,) = evaluate(pair.reference, pair.prediction, surfaces=False).scores
    assert score.dice > 0.999


def test_overlapping_segments_come_in_layers(shared_data):
    case = shared_data / "nrrd_slicer_ctchest"
    pair = read_pair(case / "SegmentationOverlapping.seg.nrrd", case / "Segmentation.seg.nrrd")
    assert "OVERLAPPING_SEGMENTS" in {finding.code for finding in pair.findings}
    scores = evaluate(pair.reference, pair.prediction, surfaces=False)
    assert scores["ribs"].dice == 1
    assert scores["overlapping sphere"].outcome.value == "missed"


def folder(root: Path, names: list[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        save(root / f"{name}.nii.gz", blocks())
    return root


def test_names_are_compared_without_their_endings(tmp_path):
    ours, theirs = folder(tmp_path / "a", ["x.1", "y", "sub/z", "lost"]), folder(tmp_path / "b", ["extra"])
    (label_map,) = read_layers(ours / "y.nii.gz")
    (theirs / "sub").mkdir()
    for name in ("x.1.seg.nrrd", "y.nrrd", "sub/z.nii"):
        write(label_map, theirs / name)
    (ours / "y.labels.csv").write_text("LabelValue,Name\n1,liver\n")
    (ours / "readme.txt").write_text("text")
    (ours / ".hidden.nii").write_bytes(b"")
    found = pair_folders(ours, theirs)
    assert {case.case: case.prediction and case.prediction.name for case in found.cases} == {
        "x.1": "x.1.seg.nrrd",
        "y": "y.nrrd",
        "sub/z": "z.nii",
        "lost": None,
    }
    assert found.surplus == ("extra.nii.gz",)
    assert found.ignored == ("readme.txt",)


def test_a_damaged_file_stays_in_the_list(tmp_path):
    ours, theirs = folder(tmp_path / "a", ["x", "y"]), folder(tmp_path / "b", ["x"])
    (theirs / "y.nii.gz").write_bytes(b"garbage")
    (theirs / "z.dcm").write_bytes(b"\0" * 10)
    found = pair_folders(ours, theirs)
    assert [case.prediction is not None for case in found.cases] == [True, True]
    assert found.surplus == ("z.dcm",)


def test_dicom_images_beside_a_segmentation_are_no_cases(shared_data, tmp_path):
    case = shared_data / "tumour_sts_002"
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        for source in (case / "rtstruct" / "CT_RS.dcm", sorted((case / "dicom" / "CT").iterdir())[0]):
            (tmp_path / side / source.name).write_bytes(source.read_bytes())
    found = pair_folders(tmp_path / "a", tmp_path / "b")
    assert [one.case for one in found.cases] == ["CT_RS"]
    assert len(found.ignored) == 2


def test_two_files_of_one_name_are_nobodys_choice(tmp_path):
    ours, theirs = folder(tmp_path / "a", ["x", "y"]), folder(tmp_path / "b", ["x", "y"])
    (label_map,) = read_layers(ours / "x.nii.gz")
    write(label_map, theirs / "x.nrrd")
    write(label_map, ours / "y.nrrd")
    cases = {case.case: case for case in pair_folders(ours, theirs).cases}
    assert "2 files of this name" in cases["x"].problem
    assert cases["x"].reference is not None
    assert cases["y"].reference is None


def test_folders_without_a_common_name_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"p1_gt.*p1_pred"):
        pair_folders(folder(tmp_path / "a", ["p1_gt"]), folder(tmp_path / "b", ["p1_pred"]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no segmentation"):
        pair_folders(tmp_path / "empty", tmp_path / "b")
    with pytest.raises(UnreadableFileError):
        pair_folders(tmp_path / "absent", tmp_path / "b")
