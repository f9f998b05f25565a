"""On real scans, loaded by Slicer's own code: what an effect writes is what `medseg segment` and `medseg postprocess` write."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from effect_scene import Scene, end_session, load_effects, segment_ids, segment_mask, world_matrix
from mrml_nodes import empty_segmentation, load_volume, volume_node, write_node

from medseg.io.read import read, read_label_map

# folder, how Slicer gets it, modality, a voxel (share of each axis i,j,k of what medseg reads) to click on
CASES = {
    "abdominal CT": ("ct_totalseg_dicom/dicom", "loaded", "CT", (0.33, 0.45, 0.5)),
    "oblique MR": ("dicom_seg_qin_prostate/adc", "loaded", "MR", (0.5, 0.5, 0.5)),
    "tilted head CT": ("dicom_ct_gantry_tilt_phantom/dicom", "handed over", "CT", (0.5, 0.5, 0.5)),
}


@pytest.fixture
def editor(load_module: Any, effect_host: Callable[..., Any]) -> Iterator[Callable[[Scene], Any]]:
    load_effects(load_module)
    yield lambda scene: effect_host(scene.volume, scene.segmentation, scene.ids[0])
    end_session()


def case_of(shared_data: Path, name: str) -> tuple[Path, Scene, list[float]]:
    """The series, the scene in which Slicer has it, and a point in it (RAS mm)."""
    folder, how, modality, share = CASES[name]
    path = shared_data / folder
    ours = read(path)
    # Slicer's DICOM module shears tilted series with a transform of its own; without it the node gets the sheared matrix
    volume = load_volume(*sorted(path.iterdir())) if how == "loaded" else volume_node(ours.array.T, np.array(ours.geometry.affine))
    volume.SetAttribute("MedSeg.Modality", modality)
    segmentation = empty_segmentation(volume)
    ids = (segmentation.GetSegmentation().AddEmptySegment("lesion", "lesion"),)
    import slicer.util

    image = slicer.util.arrayFromVolume(volume)
    index = np.rint(np.array(share) * (np.array(ours.geometry.shape) - 1))
    point = [round(float(value), 4) for value in ours.geometry.index_to_world(index)]
    return path, Scene(volume, segmentation, ids, image, np.zeros(image.shape, bool)), point


def command(*arguments: Any) -> None:
    done = subprocess.run([sys.executable, "-m", "medseg", *(str(one) for one in arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def on_node(path: Path, scene: Scene) -> np.ndarray:
    """A label map of the command at the voxels (k,j,i) of Slicer's volume: by position in the patient, nothing is resampled."""
    labels = read_label_map(path)
    index = np.argwhere(labels.array != 0)
    world = labels.geometry.index_to_world(index)
    at = (np.c_[world, np.ones(len(world))] @ np.linalg.inv(world_matrix(scene.volume)).T)[:, :3]
    assert np.abs(at - np.rint(at)).max() < 0.01
    mask = np.zeros(scene.image.shape, bool)
    i, j, k = np.rint(at).astype(int).T
    mask[k, j, i] = True
    return mask


@pytest.mark.parametrize("name", CASES)
def test_click_lesion_is_that_of_the_command(name: str, shared_data: Path, tmp_path: Path, editor: Any) -> None:
    path, scene, point = case_of(shared_data, name)
    effect = editor(scene).activate("MedSegClickLesion")
    effect.clicked(point)
    assert effect.preview.isShown, effect.message.text
    effect.applyButton.click()
    if name == "oblique MR":  # Slicer makes the axes of the series right-angled to the last digit: the command gets what Slicer has
        path = write_node(scene.volume, tmp_path / "scan.nrrd", "vtkMRMLVolumeArchetypeStorageNode")
    given = ",".join(str(value) for value in point)
    command("segment", "click-lesion", path, "-o", tmp_path / "lesion.nii.gz", f"--seed={given}", "--modality", CASES[name][2])
    expected = on_node(tmp_path / "lesion.nii.gz", scene)
    assert expected.sum() > 50
    assert np.array_equal(scene.mask(), expected)


def test_smoothing_and_splitting_an_organ_are_those_of_the_library(shared_data: Path, editor: Any, wait_until: Any) -> None:
    import medseg
    from medseg.core.label_map import LabelMap
    from medseg.core.segment import Segment
    from medseg.slicer_bridge.arrays import geometry_of

    _path, scene, _point = case_of(shared_data, "abdominal CT")
    organs = on_organs(shared_data, scene)
    scene.fill(0, organs)
    grid = geometry_of(organs.shape, world_matrix(scene.volume))
    labels = LabelMap(np.asarray(organs.T, np.uint8, order="F"), grid, (Segment(1, "lesion"),))
    host = editor(scene)
    effect = host.activate("MedSegSmooth")
    effect.applyButton.click()
    wait_until(lambda: not effect.isRunning, 60)
    smooth = medseg.postprocess(labels, "smooth", sigma_mm=1.5)
    assert np.array_equal(scene.mask(), smooth.array.T == 1)
    host.undo()
    assert np.array_equal(scene.mask(), organs)
    split = host.activate("MedSegSplit")
    split.applyButton.click()
    wait_until(lambda: not split.isRunning, 60)
    parts = medseg.postprocess(labels, "instances")
    assert len(parts.segments) > 1
    for number, segment_id in enumerate(segment_ids(scene.segmentation)[: len(parts.segments)], 1):
        assert np.array_equal(segment_mask(scene.segmentation, segment_id, organs.shape), number == parts.array.T)


def on_organs(shared_data: Path, scene: Scene) -> np.ndarray:
    """The two largest organs of the reference labels at the voxels of Slicer's volume, as one mask."""
    labels = read_label_map(shared_data / "ct_totalseg_dicom" / "labels.nii.gz")
    numbers = [segment.number for segment in labels.segments]
    counts = {number: int((labels.array == number).sum()) for number in numbers}
    largest = sorted(numbers, key=counts.__getitem__)[-2:]
    index = np.argwhere(np.isin(labels.array, largest))
    world = labels.geometry.index_to_world(index)
    at = np.rint((np.c_[world, np.ones(len(world))] @ np.linalg.inv(world_matrix(scene.volume)).T)[:, :3]).astype(int)
    mask = np.zeros(scene.image.shape, bool)
    mask[at[:, 2], at[:, 1], at[:, 0]] = True
    return mask
