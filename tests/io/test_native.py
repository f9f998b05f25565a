"""Segmentations drawn on the slices of a broken stack, in every form that tools leave behind, priced and measured.

A ball of 20 mm (33.51 ml) on 41 slices, 2 mm apart, of which five in a row are missing: what M1 of the field's readers do with it
is known (25.2 ml where the slices are spread evenly).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from made_segs import by_highdicom
from made_structures import CLOSED, circle, write_structures

from medseg.core.errors import GeometryMismatchError, InconsistentSeriesError
from medseg.core.finding import Severity
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.io.dicom.series import write_series
from medseg.io.dicom.volume import native_stack
from medseg.io.measure_options import MeasureOptions
from medseg.io.measured import measure_file
from medseg.io.native import native_labels, price_segmentation, slice_stack
from medseg.io.options import ReadOptions

SHAPE = (52, 50, 41)
MISSING = (15, 16, 17, 18, 19)
KEPT = np.delete(np.arange(41), MISSING)
TILT = math.radians(20)
LEANS = {
    "upright": np.eye(3),
    "oblique": np.array([[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, 1.0]]) @ np.array([[1, 0, 0], [0, 0.6, -0.8], [0, 0.8, 0.6]]),
    "left-handed": np.diag([-1.0, 1, 1]),
    "tilted": np.array([[1, 0, 0], [0, 1, math.sin(TILT)], [0, 0, math.cos(TILT)]]),
}


class Scene:
    """A scan with a ball in it as a DICOM folder without the slices that are missing, and the ball's voxels."""

    def __init__(self, folder: Path, lean: str, missing: tuple[int, ...] = MISSING) -> None:
        affine = np.eye(4)
        affine[:3, :3] = LEANS[lean] * (1.0, 1.05, 2.0 / (math.cos(TILT) if lean == "tilted" else 1.0))
        affine[:3, 3] = (11.5, -22.25, 31.125)
        self.full = Geometry(SHAPE, affine)
        centre = self.full.index_to_world((np.array(SHAPE) - 1) / 2)
        off = self.full.index_to_world(np.moveaxis(np.indices(SHAPE), 0, -1)) - centre
        self.ball = (off**2).sum(axis=-1) <= 20**2
        values = np.where(self.ball, 60, -1000).astype(np.int16)
        files = write_series(Volume(values, self.full, "CT", "HU"), folder / "dicom", seed="ball")
        self.folder = folder / "dicom"
        for k in missing:
            files[k].unlink()
        self.kept = np.delete(np.arange(41), missing)
        self.native = self.ball[:, :, self.kept].astype(np.uint8)
        self.full_ml = self.ball.sum() * self.full.voxel_volume_mm3 / 1000

    @property
    def affine(self) -> np.ndarray:
        return self.full.affine.copy()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Scene]:
    made: dict[str, Scene] = {}

    def scene(lean: str) -> Scene:
        if lean not in made:
            made[lean] = Scene(tmp_path_factory.mktemp(lean), lean)
        return made[lean]

    return scene


def save(array: np.ndarray, affine: np.ndarray, path: Path) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def seg_of(scene: Scene, folder: Path) -> Path:
    """A SEG of the ball on the slices of the scan."""
    labels = np.stack([pydicom.dcmread(header.path).pixel_array for header in native_stack(scene.folder).slices])
    return by_highdicom(scene.folder, (labels == labels.max()).astype(np.uint8), folder / "seg.dcm")


def stretched(scene: Scene) -> np.ndarray:
    """The affine of a tool that spreads the slices evenly from first to last."""
    affine = scene.affine
    affine[:3, 2] *= 40 / 35
    return affine


def turned(array: np.ndarray, affine: np.ndarray, axes: tuple[int, ...], flips: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The same voxels in another order of axes and direction."""
    for axis in flips:
        step = np.eye(4)
        step[axis, axis], step[axis, 3] = -1, array.shape[axis] - 1
        array, affine = np.flip(array, axis), affine @ step
    return array.transpose(axes), affine[:, [*axes, 3]]


@pytest.mark.parametrize("lean", list(LEANS))
def test_the_full_ball_is_right(scenes, lean):
    """The scene itself: 33.51 ml by the formula."""
    assert scenes(lean).full_ml == pytest.approx(33.51, rel=5e-3)


@pytest.mark.parametrize("lean", list(LEANS))
@pytest.mark.parametrize(
    ("axes", "flips"), [((0, 1, 2), ()), ((0, 1, 2), (2,)), ((0, 1, 2), (0, 1)), ((2, 0, 1), (1,)), ((1, 2, 0), (0, 1, 2))]
)
def test_a_native_mask_in_any_layout(scenes, tmp_path, lean, axes, flips):
    scene = scenes(lean)
    array, affine = turned(scene.native, stretched(scene), axes, flips)
    path = save(array, affine, tmp_path / "mask.nii.gz")
    stack = native_stack(scene.folder)
    (part,) = native_labels(path, stack)
    # as the DICOM files hold it: rows and columns of pydicom, from the lowest position on
    assert np.count_nonzero(part.labels) == scene.native.sum()
    scanned = np.stack([pydicom.dcmread(header.path).pixel_array for header in stack.slices])
    np.testing.assert_array_equal(part.labels, scanned == scanned.max())

    (price,) = price_segmentation(path, stack)
    voxel = 1.05 * 2 * 40 / 35 * (1 / math.cos(TILT) * math.cos(TILT) if lean == "tilted" else 1)
    assert price.stacked_ml == pytest.approx(scene.native.sum() * voxel / 1000, rel=1e-5)
    assert price.stacked_ml / scene.full_ml == pytest.approx(25.24 / 33.23, rel=5e-3)  # what SimpleITK and MONAI measure
    areas = scene.native.sum(axis=(0, 1)) * 1.05
    assert price.true_ml == pytest.approx(np.sum(areas * np.gradient(2.0 * scene.kept)) / 1000, rel=1e-6)
    hole = 10 * (areas[14] + areas[15]) / 2 / 1000
    assert price.interpolated_ml == pytest.approx(hole, rel=1e-6)
    assert [round(gap.gap_mm, 3) for gap in price.gaps] == [12]
    assert price.touches == ()


def test_a_mask_that_lost_the_lean_of_the_scan(scenes, tmp_path):
    """dcm2niix writes tilted stacks without their shear: the slices are right, the voxels 6 % too small."""
    scene = scenes("tilted")
    affine = scene.affine
    affine[:3, 2] = (0, 0, 2)
    affine[:3, 1] = (0, 1.05 * math.cos(TILT), 1.05 * math.sin(TILT))
    folder = tmp_path / "turned"
    folder.mkdir()
    values = np.where(scene.ball, 60, -1000).astype(np.int16)
    upright = scene.affine
    upright[:3, :3] = np.array([[1, 0, 0], [0, math.cos(TILT), 0], [0, math.sin(TILT), 1]]) * (1, 1.05, 2 / math.cos(TILT))
    write_series(Volume(values, Geometry(SHAPE, upright), "CT", "HU"), folder / "dicom", seed="turned")
    path = save(scene.ball.astype(np.uint8), affine, tmp_path / "mask.nii.gz")
    (price,) = price_segmentation(path, native_stack(folder / "dicom"))
    voxels = scene.ball.sum()
    assert price.true_ml == pytest.approx(voxels * 2.1 / 1000, rel=1e-5)
    assert price.stacked_ml == pytest.approx(voxels * 2.1 * math.cos(TILT) / 1000, rel=1e-5)
    assert price.readers_ml == {"mean distance": pytest.approx(voxels * 2.1 / math.cos(TILT) / 1000, rel=1e-5)}


def test_a_complete_mask_says_what_of_it_was_never_scanned(scenes, tmp_path):
    for lean in LEANS:
        scene = scenes(lean)
        path = save(scene.ball.astype(np.uint8), scene.affine, tmp_path / f"{lean}.nii.gz")
        (price,) = price_segmentation(path, native_stack(scene.folder))
        assert price.true_ml == pytest.approx(scene.full_ml, rel=1e-5)
        assert price.interpolated_ml == pytest.approx(scene.ball[:, :, list(MISSING)].sum() * scene.full.voxel_volume_mm3 / 1000, rel=1e-5)


def test_a_dicom_seg_is_placed_by_its_frames(scenes, tmp_path):
    """highdicom leaves out empty frames, so that a SEG has other slices than the scan."""
    scene = scenes("oblique")
    seg = seg_of(scene, tmp_path)
    assert pydicom.dcmread(seg).NumberOfFrames < 36
    (price,) = price_segmentation(seg, native_stack(scene.folder))
    areas = scene.native.sum(axis=(0, 1)) * 1.05
    assert price.true_ml == pytest.approx(np.sum(areas * np.gradient(2.0 * scene.kept)) / 1000, rel=1e-5)
    assert price.stacked_ml / scene.full_ml == pytest.approx(25.24 / 33.23, rel=5e-3)


def test_contours_are_filled_on_the_complete_grid(scenes, tmp_path):
    scene = scenes("upright")
    centre = scene.full.index_to_world((np.array(SHAPE) - 1) / 2) * (-1, -1, 1)
    heights = scene.full.index_to_world(np.stack([np.zeros(41), np.zeros(41), np.arange(41)], axis=1))[:, 2]
    rings = [
        (CLOSED, circle(math.sqrt(400 - (z - centre[2]) ** 2), z, (centre[0], centre[1]))) for z in heights if abs(z - centre[2]) < 19.9
    ]
    frame = pydicom.dcmread(next(scene.folder.iterdir())).FrameOfReferenceUID

    def on_scan(dataset: pydicom.Dataset) -> None:
        dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = frame

    rtss = write_structures(tmp_path / "rtss.dcm", {1: rings}, {1: "ball"}, edit=on_scan)
    (price,) = price_segmentation(rtss, native_stack(scene.folder))
    assert price.label == "ball"
    assert price.true_ml == pytest.approx(33.51, rel=0.01)
    assert price.interpolated_ml == pytest.approx(scene.ball[:, :, list(MISSING)].sum() * 2.1 / 1000, rel=0.02)


@pytest.mark.parametrize("fault", ["cropped", "shifted", "other pixels", "turned", "elsewhere"])
def test_a_mask_of_another_scan_is_refused(scenes, tmp_path, fault):
    scene = scenes("upright")
    array, affine = scene.native, stretched(scene)
    if fault == "cropped":
        array = array[1:]
    elif fault == "shifted":
        affine[:3, 3] += affine[:3, 0] * 1.5
    elif fault == "other pixels":
        affine[:3, 0] *= 1.02
    elif fault == "turned":
        angle = math.radians(50)
        affine[:3, :3] = (
            np.array([[1, 0, 0], [0, math.cos(angle), -math.sin(angle)], [0, math.sin(angle), math.cos(angle)]]) @ affine[:3, :3]
        )
        affine[:3, :3] = (
            np.array([[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]]) @ affine[:3, :3]
        )
    else:
        array, affine = np.zeros((*SHAPE[:2], 9), np.uint8), scene.affine
        affine[2, 3] += 500
    path = save(array, affine, tmp_path / "mask.nii.gz")
    with pytest.raises(GeometryMismatchError, match="not drawn on this scan"):
        price_segmentation(path, native_stack(scene.folder))


def test_the_stack_knows_its_holes_and_nominal_distances(scenes):
    stack = slice_stack(native_stack(scenes("tilted").folder))
    assert stack.missing == ((14, 5),)
    assert stack.tilt_degrees == pytest.approx(20, abs=1e-3)
    assert stack.pixel_area_mm2 == pytest.approx(1.05)
    np.testing.assert_allclose(stack.gaps_mm[:14], 2, atol=1e-4)


@pytest.mark.parametrize("lean", list(LEANS))
def test_measuring_a_native_mask_of_a_stack_with_a_hole(scenes, tmp_path, lean):
    scene = scenes(lean)
    path = save(scene.native, stretched(scene), tmp_path / "mask.nii.gz")
    with pytest.raises(InconsistentSeriesError, match="MISSING_SLICES"):
        measure_file(path, scene.folder)
    done = measure_file(path, scene.folder, ReadOptions(allow_gaps=True), MeasureOptions(percentiles=(50,)))
    (row,) = done.table.rows
    areas = scene.native.sum(axis=(0, 1)) * 1.05
    assert row.measurements["volume"].value == pytest.approx(np.sum(areas * np.gradient(2.0 * scene.kept)) / 1000, rel=1e-5)
    assert (row.measurements["mean"].value, row.measurements["std"].value, row.measurements["median"].value) == (60, 0, 60)
    index = np.argwhere(scene.ball[:, :, scene.kept])
    weights = np.gradient(2.0 * scene.kept)[index[:, 2]]
    index[:, 2] = scene.kept[index[:, 2]]
    np.testing.assert_allclose(row.centroid_mm, np.average(scene.full.index_to_world(index), axis=0, weights=weights), atol=2e-3)
    assert {"GAPS_INTERPOLATED", "NATIVE_SLICES"} <= {finding.code for finding in done.findings}
    assert done.volume is None
    complete = measure_file(
        save(scene.ball.astype(np.uint8), scene.affine, tmp_path / "full.nii.gz"), scene.folder, ReadOptions(allow_gaps=True)
    )
    assert complete.table.rows[0].measurements["volume"].value == pytest.approx(scene.full_ml, rel=1e-5)
    assert "NATIVE_SLICES" not in {finding.code for finding in complete.findings}


def test_measuring_on_an_uneven_stack(scenes, tmp_path):
    """Every second slice of the upper half is gone: no file is missing between others there, the scan is coarser."""
    scene = Scene(tmp_path, "upright", missing=tuple(range(21, 41, 2)))
    path = save(scene.native, scene.affine, tmp_path / "mask.nii.gz")
    done = measure_file(path, scene.folder)
    (row,) = done.table.rows
    areas = scene.native.sum(axis=(0, 1)) * 1.05
    assert row.measurements["volume"].value == pytest.approx(np.sum(areas * np.gradient(2.0 * scene.kept)) / 1000, rel=1e-5)
    assert row.measurements["volume"].value == pytest.approx(33.51, rel=0.01)
    assert {"UNEVEN_SPACING", "NATIVE_SLICES"} <= {finding.code for finding in done.findings}
    (price,) = price_segmentation(path, native_stack(scene.folder))
    assert (price.interpolated_ml, price.gaps) == (0, ())


def test_a_seg_alone_says_that_frames_are_missing_between_others(tmp_path):
    """Alone it holds no more than frames on places of an even grid: 25 ml of 33.5."""
    scene = Scene(tmp_path, "upright", missing=tuple(range(21, 41, 2)))
    seg = seg_of(scene, tmp_path)
    alone, by_scan = measure_file(seg), measure_file(seg, scene.folder)
    assert by_scan.table.rows[0].measurements["volume"].value == pytest.approx(33.51, rel=0.01)
    assert "FRAMES_LEFT_OUT" not in {one.code for one in by_scan.findings}
    (finding,) = [one for one in alone.findings if one.code == "FRAMES_LEFT_OUT"]
    assert (finding.severity, finding.details["count"]) == (Severity.WARNING, 4)


def test_a_seg_on_no_even_grid_is_measured_by_its_frames(tmp_path):
    """The upper half of the scan lies 0.7 mm higher: no grid of 2 mm holds both."""
    scene = Scene(tmp_path, "upright", missing=())
    for file in scene.folder.iterdir():
        dataset = pydicom.dcmread(file)
        if dataset.ImagePositionPatient[2] > 70:
            dataset.ImagePositionPatient[2] += 0.7
            dataset.save_as(file)
    seg = seg_of(scene, tmp_path)
    alone, by_scan = measure_file(seg), measure_file(seg, scene.folder)
    finding = next(one for one in alone.findings if one.code == "NATIVE_SLICES")
    assert finding.severity is Severity.WARNING
    volumes = [done.table.rows[0].measurements["volume"].value for done in (by_scan, alone)]
    areas = scene.ball.sum(axis=(0, 1)) * 1.05
    positions = sorted(float(pydicom.dcmread(file).ImagePositionPatient[2]) for file in scene.folder.iterdir())
    assert volumes[0] == pytest.approx(np.sum(areas * np.gradient(positions)) / 1000, rel=1e-5)
    assert volumes[1] == pytest.approx(volumes[0], rel=0.01)  # the widths of the outermost frames are not known without the scan


def test_the_real_series_with_slices_left_out(shared_data, tmp_path):
    """The tumour of STS 025 (30.11 ml in the whole series) touches one of the two gaps with its end only."""
    mask = nibabel.load(shared_data / "tumour_sts_025" / "reference" / "CT_mask.nii.gz")
    whole = np.asarray(mask.dataobj).astype(np.uint8)
    native = np.delete(whole, [10, 11, 30], axis=2)
    stack = native_stack(shared_data / "dicom_ct_missing_slices" / "dicom")
    (price,) = price_segmentation(save(native, mask.affine, tmp_path / "native.nii.gz"), stack)
    pixel = 0.976562**2
    assert price.stacked_ml == pytest.approx(native.sum() * pixel * 3.27 / 1000, rel=1e-5)
    positions = 364.85 + 3.27 * np.delete(np.arange(47), [10, 11, 30])
    assert price.true_ml == pytest.approx(np.sum(native.sum(axis=(0, 1)) * pixel * np.gradient(positions)) / 1000, rel=1e-5)
    assert price.true_ml == pytest.approx(30.11, rel=4e-3)
    assert [round(gap.gap_mm, 2) for gap in price.gaps] == [6.54]
    assert price.readers_ml["mean distance"] == pytest.approx(native.sum() * pixel * (515.27 - 364.85) / 43 / 1000, rel=1e-5)
