"""The module with the true worker on real scans: what Slicer shows is what the command line measures, voxel for voxel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import vtk


@pytest.fixture
def medseg_module(load_module):
    """The module, with the worker that is installed here; it ends with the test."""
    module = load_module("MedSeg")
    yield module
    from MedSegLib.session import Session

    Session.discard()


def load_series(folder: Path) -> Any:
    """Load a DICOM series with Slicer's own reader."""
    files = vtk.vtkStringArray()
    for path in sorted(folder.iterdir()):
        files.InsertNextValue(str(path))
    node = slicer.modules.volumes.logic().AddArchetypeVolume(files.GetValue(0), "scan", 0, files)
    assert node is not None
    return node


def volumes(table: Any) -> dict[str, float]:
    """Segment name → volume_ml of a table node."""
    inside = table.GetTable()
    return {
        inside.GetColumnByName("label").GetValue(n): inside.GetColumnByName("volume_ml").GetValue(n)
        for n in range(inside.GetNumberOfRows())
    }


def test_sample_to_a_table_of_volumes(medseg_module):
    from MedSegLib import nodes, samples
    from MedSegLib.logic import MedSegLogic

    import medseg

    volume = samples.load()
    segmentation, table = MedSegLogic().process(volume, "method:multi-otsu")
    scan = medseg.read(str(Path(samples.sampleFolder()) / "torso" / "dicom"))  # the same, from the files
    mine = medseg.measure(medseg.segment(scan, "multi-otsu"), scan)
    expected = {row["label"]: row["volume_ml"] for row in mine.to_dict()["segments"]}
    assert volumes(table) == pytest.approx(expected, rel=1e-6)
    ids = nodes.segmentIDsOf(segmentation)
    assert [segmentation.GetSegmentation().GetSegment(one).GetName() for one in ids] == list(expected)


@pytest.mark.parametrize("name", ["ct_totalseg_dicom", "dicom_mr_sagittal_phantom"])
def test_dicom_statistics_equal_those_of_the_command_line(medseg_module, shared_data, name):
    from MedSegLib import nodes
    from MedSegLib.logic import MedSegLogic

    import medseg

    folder = shared_data / name / "dicom"
    node = load_series(folder)
    scan = medseg.read(str(folder))
    lower = float(np.percentile(scan.array, 90)) + 0.5
    segmentation, table = MedSegLogic().process(node, "method:threshold", {"lower": lower, "label": "bright"})
    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, nodes.segmentIDsOf(segmentation)[0], node) > 0
    assert np.array_equal(array, slicer.util.arrayFromVolume(node) >= lower)
    mine = medseg.segment(scan, "threshold", lower=lower, label="bright")
    assert int(array.sum()) == int((mine.array > 0).sum())
    measured = medseg.measure(mine, scan).to_dict()["segments"][0]
    assert volumes(table)["bright"] == pytest.approx(measured["volume_ml"], rel=1e-5)
    bounds = [0.0] * 6
    segmentation.GetRASBounds(bounds)
    places = np.argwhere(mine.array) @ scan.geometry.affine[:3, :3].T + scan.geometry.affine[:3, 3]
    atol = max(scan.geometry.spacing_mm)  # bounds reach to the edges of voxels
    assert np.allclose(bounds[::2], places.min(axis=0), atol=atol)
    assert np.allclose(bounds[1::2], places.max(axis=0), atol=atol)


@pytest.mark.parametrize("kind", ["oblique", "left-handed", "sheared", "transformed"])
def test_hard_geometry_keeps_every_voxel_and_its_volume(medseg_module, kind):
    from MedSegLib import nodes
    from MedSegLib.logic import MedSegLogic

    generator = np.random.default_rng(3)
    array = (generator.random((14, 22, 26)) > 0.6).astype(np.int16) * 100
    turn, _r = np.linalg.qr(generator.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag([0.7, 0.9, 2.5])
    matrix[:3, 3] = (12.0, -30.0, 44.0)
    if kind == "left-handed":
        matrix[:3, 0] *= -1
    node = slicer.util.addVolumeFromArray(array, slicer.util.vtkMatrixFromArray(matrix), "scan")
    factor = 1.0
    if kind in ("transformed", "sheared"):
        above = np.eye(4)
        above[:3, :3] = turn.T @ np.diag([1.0, 1.1, 0.9])
        if kind == "sheared":
            above[1, 2] += 0.4
        above[:3, 3] = (5.0, 6.0, 7.0)
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(above))
        node.SetAndObserveTransformNodeID(transform.GetID())
        factor = abs(float(np.linalg.det(above[:3, :3])))
    segmentation, table = MedSegLogic().process(node, "method:threshold", {"lower": 50.0})
    (segmentID,) = nodes.segmentIDsOf(segmentation)
    back = np.load(nodes.labelsRef(segmentation, None, node)["array"])
    extent = nodes.labelsRef(segmentation, None, node)["extent"]
    inside = array[extent[4] : extent[5] + 1, extent[2] : extent[3] + 1, extent[0] : extent[1] + 1]
    assert np.array_equal(back > 0, inside > 50)
    assert int((inside > 50).sum()) == int((array > 50).sum())
    voxel_ml = abs(float(np.linalg.det(matrix[:3, :3]))) * factor / 1000
    assert volumes(table)["threshold"] == pytest.approx(voxel_ml * float((array > 50).sum()), rel=1e-9)
    middle = np.array(segmentation.GetSegmentCenterRAS(segmentID))
    box = nodes.ijkToWorld(node) @ np.array([12.5, 10.5, 6.5, 1.0])
    assert np.linalg.norm(middle - box[:3]) < 3.0


def test_points_are_where_they_were_placed(medseg_module, sample_ct_node):
    from MedSegLib import nodes
    from MedSegLib.logic import MedSegLogic

    world = nodes.ijkToWorld(sample_ct_node) @ np.array([32, 24, 10, 1.0])
    segmentation, _table = MedSegLogic().process(sample_ct_node, "method:region-growing", {"seeds": [world[:3].tolist()], "lower": 0.0})
    (segmentID,) = nodes.segmentIDsOf(segmentation)
    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segmentID, sample_ct_node)
    assert np.array_equal(array > 0, slicer.util.arrayFromVolume(sample_ct_node) > 0)


def test_a_refusal_of_the_worker_reaches_the_script_as_its_sentence(medseg_module, sample_ct_node):
    from MedSegLib.logic import MedSegLogic
    from MedSegLib.session import JobError

    with pytest.raises(JobError, match="outside the scan"):
        MedSegLogic().process(sample_ct_node, "method:region-growing", {"seeds": [[900.0, 0.0, 0.0]], "lower": 0.0})
    with pytest.raises(JobError, match="choices"):
        MedSegLogic().process(sample_ct_node, "method:nonsense")


def test_checks_read_the_files_of_a_scan_that_dicom_knows(medseg_module, shared_data, monkeypatch):
    """Three time points in one series: Slicer's reader mixes them, the checks of the files stop before any number."""
    import pydicom
    from MedSegLib.logic import MedSegLogic
    from MedSegLib.session import JobError

    files = {}
    for path in sorted((shared_data / "dicom_mr_philips_oblique_phantom" / "dicom").iterdir()):
        files[str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)] = str(path)

    class Database:
        def fileForInstance(self, uid: str) -> str:
            return files.get(uid, "")

        def fileValue(self, path: str, tag: str) -> str:
            group, element = (int(part, 16) for part in tag.split(","))
            return str(pydicom.dcmread(path, stop_before_pixels=True)[group, element].value)

    monkeypatch.setattr(slicer, "dicomDatabase", Database(), raising=False)
    node = slicer.util.addVolumeFromArray(np.zeros((9, 20, 20), np.int16), name="mixed")
    node.SetAttribute("DICOM.instanceUIDs", " ".join(files))
    with pytest.raises(JobError, match="Stopped before any number") as caught:
        MedSegLogic().process(node, "method:otsu")
    assert "3 stacks" in str(caught.value)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def two_balls(name: str, radius: float) -> tuple[Any, Any]:
    """A scan with two bright balls, the second of this radius in voxels, and its segmentation."""
    from MedSegLib import nodes
    from MedSegLib.session import Session

    k, j, i = np.ogrid[0:30, 0:60, 0:60]
    array = np.full((30, 60, 60), -100, np.int16)
    first, second = (k - 15) ** 2 + (j - 15) ** 2 + (i - 15) ** 2 <= 64, (k - 15) ** 2 + (j - 42) ** 2 + (i - 42) ** 2 <= radius**2
    array[first | second] = 60
    volume = slicer.util.addVolumeFromArray(array, name=name)
    nodes.setModality(volume, "CT")
    mask = np.where(first, 1, np.where(second, 2, 0)).astype(np.uint8)
    ref = {
        "array": Session.instance().files.save("mask", mask),
        "extent": [0, 59, 0, 59, 0, 29],
        "shape": [30, 60, 60],
        "ijk_to_ras": np.eye(4).tolist(),
        "segments": [{"number": 1, "label": "one", "colour": [200, 0, 0]}, {"number": 2, "label": "two", "colour": [0, 200, 0]}],
    }
    segmentation = nodes.newSegmentation(volume, "lesions")
    nodes.importLabels(ref, segmentation, volume)
    return volume, segmentation


def test_measuring_lesions_and_change(medseg_module):
    from MedSegLib.logic import MedSegLogic

    logic = MedSegLogic()
    earlier, before = two_balls("earlier", 6.0)
    later, after = two_balls("later", 8.0)
    _segmentation, table = logic.process(later, "measure:measure", {"features": "shape"}, after)
    expected = {"one": float((slicer.util.arrayFromVolume(later)[:, :30] > 0).sum()) / 1000}
    assert volumes(table)["one"] == pytest.approx(expected["one"])
    assert table.GetTable().GetColumnByName("status").GetValue(0) == "measured"
    _segmentation, lesions = logic.process(later, "measure:lesions", {"plane": "axial"}, after)
    assert lesions.GetNumberOfRows() == 2
    diameters = lesions.GetTable().GetColumnByName("longest_diameter_mm")
    assert all(14 < diameters.GetValue(n) < 19 for n in range(2))
    parameters = {"days_between": 90.0, "registration": "none"}
    _segmentation, change = logic.process(later, "measure:change", parameters, after, earlierScan=earlier, earlierLabels=before)
    percent = sorted(change.GetTable().GetColumnByName("percent_change").GetValue(n) for n in range(change.GetNumberOfRows()))
    assert percent[0] == pytest.approx(0, abs=1)
    assert percent[-1] > 100


def test_a_network_without_torch_says_what_to_install(medseg_module, sample_ct_node):
    import importlib.util

    from MedSegLib.logic import MedSegLogic
    from MedSegLib.session import JobError

    if importlib.util.find_spec("torch") is not None:
        pytest.skip("torch is installed here")
    with pytest.raises(JobError, match=r"torch|learned") as caught:
        MedSegLogic().process(sample_ct_node, "model:ct-phantom")
    assert caught.value.kind == "MissingDependencyError"
