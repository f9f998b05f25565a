"""Numbers on show: whose they are, when they are out of date, and files of another scan."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import module_fakes as fakes
import numpy as np
import pytest
import slicer
from module_fakes import choose, reaching_out, run, segmented

pytest_plugins = ["module_fixtures"]


@pytest.fixture
def measured(panel, sample_ct_node, wait_until):
    """The panel after a scan was segmented and measured."""
    panel._parameterNode.inputVolume = sample_ct_node
    choose(panel, "needs nothing")
    run(panel, wait_until)
    return panel


def again(panel: Any) -> None:
    panel.parent.exit()
    panel.parent.enter()


def edit(panel: Any, volume: Any) -> None:
    """Take a voxel out of the segment, as an effect of the Segment Editor does."""
    node = panel.state().segmentation
    array = slicer.util.arrayFromSegmentBinaryLabelmap(node, "ball", volume)
    array[10, 24, 32] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, "ball", volume)


def test_the_table_says_whose_numbers_it_holds(measured):
    import re

    assert re.fullmatch(r"of sample CT, \d\d:\d\d", measured.ui.originLabel.text)
    assert not measured.ui.originLabel.isHidden()
    again(measured)
    assert re.fullmatch(r"of sample CT, \d\d:\d\d", measured.ui.originLabel.text)


def test_a_run_without_measuring_leaves_no_numbers_of_the_run_before(measured, wait_until):
    measured.ui.measureCheck.checked = False
    run(measured, wait_until)
    again(measured)
    assert measured.ui.resultTable.rowCount == 0
    assert measured.ui.originLabel.isHidden()
    assert (measured._parameterNode.document, measured._parameterNode.resultTable) == ("", None)
    assert "blurred" in measured.ui.findingsLabel.text  # of the run that was not measured


def test_another_scan_does_not_stand_above_the_numbers_of_the_first(measured, sample_ct_node):
    other = slicer.util.addVolumeFromArray(np.zeros((20, 48, 64), np.int16), name="other")
    measured._parameterNode.inputVolume = other
    assert "of sample CT" in measured.ui.originLabel.text
    assert "no longer the chosen scan" in measured.ui.originLabel.text
    measured._parameterNode.inputVolume = sample_ct_node
    assert "no longer" not in measured.ui.originLabel.text
    measured._parameterNode.segmentation = segmented(sample_ct_node)
    assert "no longer the chosen segmentation" in measured.ui.originLabel.text


def test_a_scan_that_is_gone_is_said(measured, sample_ct_node):
    slicer.mrmlScene.RemoveNode(sample_ct_node)
    again(measured)
    assert "of a scan that is no longer in the scene" in measured.ui.originLabel.text


@pytest.mark.parametrize("what", ["segment", "scan", "place"])
def test_a_change_after_the_measurement_is_said_until_it_is_measured_again(measured, sample_ct_node, wait_until, what):
    measured.parent.exit()
    if what == "segment":
        edit(measured, sample_ct_node)
    elif what == "scan":
        slicer.util.arrayFromVolume(sample_ct_node)[:] += 1
        slicer.util.arrayFromVolumeModified(sample_ct_node)
    else:
        sample_ct_node.SetSpacing(1.0, 1.0, 1.0)
    measured.parent.enter()
    assert "changed since: measure again" in measured.ui.originLabel.text
    if what != "place":  # on another grid now
        choose(measured, "measure volumes")
        run(measured, wait_until)
        assert measured.ui.statusLabel.text == ""
        assert "changed" not in measured.ui.originLabel.text


def test_showing_a_segmentation_is_no_change(measured):
    node = measured._parameterNode.segmentation
    node.GetSegmentation().GetSegment("ball").SetColor(0.1, 0.2, 0.3)
    node.GetDisplayNode().SetSegmentVisibility("ball", False)
    node.SetName("other name")
    again(measured)
    assert "changed" not in measured.ui.originLabel.text


def test_a_loaded_scene_knows_what_was_measured(measured, sample_ct_node, tmp_path, monkeypatch):
    path = str(tmp_path / "scene.mrml")
    edit(measured, sample_ct_node)
    again(measured)  # noticed, and kept in the scene
    assert slicer.util.saveScene(path)
    slicer.mrmlScene.Clear(False)
    assert measured.ui.originLabel.isHidden()
    monkeypatch.setattr("MedSegLib.origin._PROCESS", "another")
    slicer.mrmlScene.SetURL(path)
    slicer.mrmlScene.Import()
    assert "of sample CT" in measured.ui.originLabel.text
    assert "changed since" in measured.ui.originLabel.text


def test_a_loaded_scene_that_was_up_to_date_is_so(measured, tmp_path, monkeypatch):
    path = str(tmp_path / "scene.mrml")
    assert slicer.util.saveScene(path)
    slicer.mrmlScene.Clear(False)
    monkeypatch.setattr("MedSegLib.origin._PROCESS", "another")
    slicer.mrmlScene.SetURL(path)
    slicer.mrmlScene.Import()
    assert "of sample CT" in measured.ui.originLabel.text
    assert "changed" not in measured.ui.originLabel.text
    measured._parameterNode.inputVolume.SetSpacing(1.0, 1.0, 1.0)
    again(measured)
    assert "changed since" in measured.ui.originLabel.text


def test_a_row_of_a_lesion_finds_it(panel, worker, sample_ct_node, wait_until, monkeypatch):
    def lesions(job: dict[str, Any]) -> list[dict[str, Any]]:
        labels = fakes.labelled("ball-1")(job)[-1]["labels"]
        row = {"id": "ball-1", "segment": "ball", "volume_ml": 4.25, "volume_interval_ml": [4.0, 4.5], "status": "measured"}
        return fakes.result(document={"schema": "medseg.lesions/1", "lesions": [row], "findings": []}, labels=labels)

    worker.answers["lesions"] = lesions
    mine = segmented(sample_ct_node)
    panel._parameterNode.inputVolume, panel._parameterNode.segmentation = sample_ct_node, mine
    choose(panel, "measure lesions")
    run(panel, wait_until)
    assert panel.ui.statusLabel.text == ""
    assert panel._parameterNode.segmentation is mine  # what is measured again is what was drawn
    parts = panel._parameterNode.measuredParts
    assert parts.GetSegmentation().GetNthSegment(0).GetName() == "ball-1"
    array = slicer.util.arrayFromSegmentBinaryLabelmap(parts, "ball-1", sample_ct_node)
    assert np.array_equal(array > 0, slicer.util.arrayFromVolume(sample_ct_node) > 0)
    jumped: list[tuple[float, ...]] = []
    logic = SimpleNamespace(JumpSlicesToLocation=lambda *place: jumped.append(place[:3]))
    monkeypatch.setattr(slicer.modules, "markups", SimpleNamespace(logic=lambda: logic))
    panel.results.jump(0, 0)
    middle = np.argwhere(slicer.util.arrayFromVolume(sample_ct_node) > 0).mean(axis=0)[::-1]
    from MedSegLib import nodes

    expected = nodes.ijkToRas(sample_ct_node) @ np.append(middle, 1.0)
    assert jumped[0] == pytest.approx(expected[:3], abs=3.0)


def test_lesions_without_a_lesion_make_no_segmentation(panel, worker, sample_ct_node, wait_until):
    document = {"schema": "medseg.lesions/1", "lesions": [], "findings": []}
    worker.answers["lesions"] = fakes.result(document=document, labels=None)
    panel._parameterNode.inputVolume, panel._parameterNode.segmentation = sample_ct_node, segmented(sample_ct_node)
    choose(panel, "measure lesions")
    run(panel, wait_until)
    assert panel.ui.statusLabel.text == ""
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1


# Files


def test_dicom_files_point_at_the_scan_the_segments_were_drawn_on(worker, sample_ct_node, monkeypatch):
    from MedSegLib import export
    from MedSegLib.session import JobError

    monkeypatch.setattr("MedSegLib.nodes.dicomFiles", lambda node: [f"/study/{node.GetID()}/1.dcm"])
    node = segmented(sample_ct_node)
    other = slicer.util.addVolumeFromArray(slicer.util.arrayFromVolume(sample_ct_node).copy(), name="other")
    other.CopyOrientation(sample_ct_node)
    for kind in export.NEEDS_DICOM:
        assert export.whyNot(kind, sample_ct_node, node) == ""
        assert 'Choose "sample CT" as the scan' in export.whyNot(kind, other, node)
        with pytest.raises(JobError, match="wrong images"):
            export.job(kind, other, node, "/out/a", "/jobs")
    assert export.whyNot("csv", other, node) == ""


def test_numbers_of_another_scan_are_written_with_a_warning(panel, worker, sample_ct_node, wait_until, dialogs):
    worker.answers["export"] = lambda job: fakes.result(files=[job["path"]])
    other = slicer.util.addVolumeFromArray(slicer.util.arrayFromVolume(sample_ct_node).copy(), name="other")
    other.CopyOrientation(sample_ct_node)
    panel._parameterNode.segmentation = segmented(sample_ct_node)
    for scan, wanted in ((sample_ct_node, False), (other, True)):
        panel._parameterNode.inputVolume = scan
        dialogs.answer("/out/volumes.csv")
        panel.ui.exportButton.click()
        wait_until(lambda: panel.ui.statusLabel.text.startswith("Written:"))
        assert ("are measured in &quot;other&quot;" in panel.ui.findingsLabel.text) is wanted
        assert panel.ui.findingsLabel.isHidden() is not wanted


def test_what_a_file_leaves_out_is_told(panel, worker, sample_ct_node, wait_until, dialogs):
    worker.answers["export"] = lambda job: fakes.result(files=[job["path"]])
    panel._parameterNode.inputVolume, panel._parameterNode.segmentation = sample_ct_node, reaching_out(sample_ct_node)
    dialogs.answer("/out/volumes.csv")
    panel.ui.exportButton.click()
    wait_until(lambda: panel.ui.statusLabel.text.startswith("Written:"))
    assert [finding["code"] for finding in panel.results._findings] == ["LABELS_OUTSIDE_GRID"]


def test_lesions_of_the_true_worker_come_as_segments_named_as_their_rows(load_module, sample_ct_node):
    load_module("MedSeg")
    from MedSegLib import nodes
    from MedSegLib.logic import MedSegLogic
    from MedSegLib.session import Session

    array = slicer.util.arrayFromVolume(sample_ct_node)
    array[2:4, 4:10, 4:10] = 50  # a second one
    slicer.util.arrayFromVolumeModified(sample_ct_node)
    mine = segmented(sample_ct_node)
    given, table = MedSegLogic().process(sample_ct_node, "measure:lesions", segmentationNode=mine)
    Session.discard()
    assert given is mine
    rows = [table.GetTable().GetColumnByName("id").GetValue(n) for n in range(table.GetNumberOfRows())]
    assert len(rows) == 2
    (parts,) = [node for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode") if node is not mine]
    counts = {}
    for segmentID in nodes.segmentIDsOf(parts):
        name = parts.GetSegmentation().GetSegment(segmentID).GetName()
        counts[name] = int((slicer.util.arrayFromSegmentBinaryLabelmap(parts, segmentID, sample_ct_node) > 0).sum())
    assert sorted(counts) == sorted(rows)
    assert sorted(counts.values()) == [72, int((array > 0).sum()) - 72]
