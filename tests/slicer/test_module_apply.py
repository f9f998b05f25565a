"""Apply: what is run, what comes into the scene, and what is said where something goes wrong."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import module_fakes as fakes
import numpy as np
import pytest
import slicer
import vtk
from module_fakes import choose, place, run

pytest_plugins = ["module_fixtures"]


def test_values_reach_the_worker_and_only_what_differs(panel, worker, sample_ct_node, wait_until):
    panel._parameterNode.inputVolume = sample_ct_node
    choose(panel, "keep a ball")
    points = place(panel, "seeds", (1.0, 2.0, 3.5), (4.0, 5.0, 6.0))
    shift = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = np.eye(4)
    matrix[:3, 3] = (10.0, 0.0, 0.0)
    shift.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    points.SetAndObserveTransformNodeID(shift.GetID())  # points go to the worker as they lie in the world
    fields = panel.panel._fields
    fields["radius_mm"].widget.setValue(7.25)
    fields["lower"].widget.setText("-12.5")
    fields["connectivity"].widget.setCurrentIndex(2)
    fields["sigmas_mm"].widget.setText("0.5, 3")
    fields["fill"].widget.checked = False
    run(panel, wait_until)
    job = next(job for job in worker.jobs if job["do"] == "segment")
    assert job["method"] == "ball"
    assert job["parameters"] == {
        "radius_mm": 7.25,
        "seeds": [[11.0, 2.0, 3.5], [14.0, 5.0, 6.0]],
        "lower": -12.5,
        "connectivity": 26,
        "sigmas_mm": [0.5, 3.0],
        "fill": False,
    }


def test_apply_puts_the_result_beside_its_scan_and_measures_it(panel, worker, sample_ct_node, wait_until):
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(sample_ct_node), study)
    panel._parameterNode.inputVolume = sample_ct_node
    choose(panel, "needs nothing")
    run(panel, wait_until)
    assert worker.did() == ["describe", "audit", "segment", "measure"]
    node = panel._parameterNode.segmentation
    assert node.GetName() == "sample CT Plain"
    array = slicer.util.arrayFromSegmentBinaryLabelmap(node, "ball", sample_ct_node)
    assert np.array_equal(array > 0, slicer.util.arrayFromVolume(sample_ct_node) > 0)
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    assert node.GetNodeReference(role) is sample_ct_node
    parents = {
        hierarchy.GetItemParent(hierarchy.GetItemByDataNode(one)) for one in (node, sample_ct_node, panel._parameterNode.resultTable)
    }
    assert parents == {study}
    assert panel.ui.resultTable.rowCount == 1
    assert panel.ui.resultTable.item(0, 1).text() == "4.25"
    table = panel._parameterNode.resultTable.GetTable()
    assert table.GetColumnByName("volume_ml").GetValue(0) == 4.25
    assert table.GetColumnByName("volume_high_ml").GetValue(0) == 4.5


def test_findings_stand_above_the_numbers_and_are_escaped(panel, sample_ct_node, wait_until):
    panel._parameterNode.inputVolume = sample_ct_node
    choose(panel, "needs nothing")
    run(panel, wait_until)
    assert "edges are &lt;blurred&gt;" in panel.ui.findingsLabel.text
    assert not panel.ui.findingsLabel.isHidden()


def test_an_error_of_the_checks_stops_before_any_number(panel, worker, sample_ct_node, wait_until):
    finding = {"code": "MISSING_SLICES", "severity": "error", "message": "3 slices are missing", "advice": "Load the whole series."}
    worker.answers["audit"] = fakes.result(usable=False, reason="", findings=[finding], geometry=None)
    panel._parameterNode.inputVolume = sample_ct_node
    choose(panel, "needs nothing")
    run(panel, wait_until)
    assert "segment" not in worker.did()
    assert "3 slices are missing" in panel.ui.statusLabel.text
    assert "Load the whole series." in panel.ui.findingsLabel.text
    panel.ui.inSpiteCheck.checked = True
    run(panel, wait_until)
    assert "segment" in worker.did()
    assert "3 slices are missing" in panel.ui.findingsLabel.text


def test_apply_becomes_cancel_and_nothing_is_left(panel, worker, sample_ct_node, wait_until):
    worker.answers["segment"] = []
    panel._parameterNode.inputVolume = sample_ct_node
    choose(panel, "needs nothing")
    panel.ui.applyButton.click()
    wait_until(lambda: "segment" in worker.did())
    assert panel.ui.applyButton.text == "Cancel"
    panel.ui.applyButton.click()
    assert panel.run is None
    assert worker.cancelled == 1
    assert panel.ui.applyButton.text == "Apply"
    assert panel.ui.statusLabel.text == "Cancelled."
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_a_second_run_is_refused_with_a_sentence(panel, worker, sample_ct_node, wait_until):
    from MedSegLib.session import JobError, Session

    worker.answers["segment"] = []
    panel._parameterNode.inputVolume = sample_ct_node
    choose(panel, "needs nothing")
    panel.ui.applyButton.click()
    wait_until(lambda: "segment" in worker.did())
    with pytest.raises(JobError, match="still going on"):
        Session.instance().submit({"do": "segment", "method": "plain"}, print)
    with pytest.raises(JobError, match="still going on"):
        panel.logic.process(sample_ct_node, "method:plain")
    panel.ui.applyButton.click()


def test_death_of_the_worker_is_a_sentence_and_the_next_run_works(panel, worker, sample_ct_node, wait_until):
    worker.answers["segment"] = []
    panel._parameterNode.inputVolume = sample_ct_node
    choose(panel, "needs nothing")
    panel.ui.applyButton.click()
    wait_until(lambda: "segment" in worker.did())
    worker.die()
    wait_until(lambda: panel.run is None)
    assert "killed" in panel.ui.statusLabel.text
    worker.answers["segment"] = fakes.labelled()
    run(panel, wait_until)
    assert worker.started == 2
    assert panel.ui.resultTable.rowCount == 1


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("MissingDependencyError", "torch is not installed: choose Full"),
        ("ModelNotFoundError", "there is no model 'torso'"),
        ("OutputError", "the disk of the job folder is full"),
    ],
)
def test_refusals_of_the_worker_are_shown_as_they_are(panel, worker, sample_ct_node, wait_until, kind, sentence):
    worker.answers["segment"] = fakes.error(sentence, kind)
    panel._parameterNode.inputVolume = sample_ct_node
    choose(panel, "organs of the torso")
    run(panel, wait_until)
    assert panel.ui.statusLabel.text == sentence
    assert panel.ui.resultTable.rowCount == 0


def test_a_small_graphics_card_is_offered_the_processor(panel, worker, sample_ct_node, wait_until, dialogs):
    import qt

    def answer(job: dict[str, Any]) -> Any:
        return fakes.labelled()(job) if job["device"] == "cpu" else fakes.error("out of memory", "OutOfMemoryError", 4)

    worker.answers["segment"] = answer
    dialogs.answer(qt.QMessageBox.Yes)
    panel._parameterNode.inputVolume = sample_ct_node
    choose(panel, "organs of the torso")
    run(panel, wait_until)
    assert "too little memory" in dialogs.texts[0]
    assert panel.ui.resultTable.rowCount == 1


def test_closing_the_scene_cancels_a_run(panel, worker, sample_ct_node, wait_until):
    worker.answers["segment"] = []
    panel._parameterNode.inputVolume = sample_ct_node
    choose(panel, "needs nothing")
    panel.ui.applyButton.click()
    wait_until(lambda: "segment" in worker.did())
    slicer.mrmlScene.Clear(False)
    assert panel.run is None
    assert worker.cancelled == 1
    assert panel._parameterNode.inputVolume is None
    assert "Choose a scan first." in panel.ui.applyButton.toolTip


def test_a_scan_removed_while_running_drops_the_result(panel, worker, sample_ct_node, wait_until):
    worker.answers["segment"] = []
    panel._parameterNode.inputVolume = sample_ct_node
    choose(panel, "needs nothing")
    panel.ui.applyButton.click()
    wait_until(lambda: "segment" in worker.did())
    job = worker.jobs[-1]
    events = fakes.labelled()(job)
    slicer.mrmlScene.RemoveNode(sample_ct_node)
    worker.events += [{"id": job["id"], **event} for event in events]
    wait_until(lambda: panel.run is None)
    assert "removed from the scene" in panel.ui.statusLabel.text
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_state_is_saved_with_the_scene_and_comes_back(panel, worker, sample_ct_node, wait_until, tmp_path):
    panel._parameterNode.inputVolume = sample_ct_node
    choose(panel, "keep a ball")
    node = place(panel, "seeds", (1.0, 2.0, 3.0))
    panel.panel._fields["radius_mm"].widget.setValue(33.0)
    panel.ui.measureCheck.checked = True
    run(panel, wait_until)
    path = str(tmp_path / "scene.mrml")
    assert slicer.util.saveScene(path)
    slicer.mrmlScene.Clear(False)
    assert panel.ui.resultTable.rowCount == 0
    slicer.mrmlScene.SetURL(path)
    slicer.mrmlScene.Import()
    state = panel._parameterNode
    assert state.choice == "method:ball"
    assert json.loads(state.values)["method:ball"] == {"radius_mm": 33.0}
    assert panel.panel._fields["radius_mm"].widget.value == 33.0
    assert panel.panel.nodeOf("seeds").GetName() == node.GetName()
    assert panel.ui.resultTable.item(0, 1).text() == "4.25"
    assert "blurred" in panel.ui.findingsLabel.text


def test_adding_to_a_segmentation_keeps_what_is_there(panel, worker, sample_ct_node, wait_until):
    panel._parameterNode.inputVolume = sample_ct_node
    choose(panel, "needs nothing")
    run(panel, wait_until)
    first = panel._parameterNode.segmentation
    panel.ui.createNewCheck.checked = False
    run(panel, wait_until)
    assert panel._parameterNode.segmentation is first
    assert first.GetSegmentation().GetNumberOfSegments() == 2
    panel.ui.createNewCheck.checked = True
    run(panel, wait_until)
    assert panel._parameterNode.segmentation is not first


def test_what_changes_segments_makes_a_new_segmentation(panel, worker, sample_ct_node, wait_until):
    panel._parameterNode.inputVolume = sample_ct_node
    choose(panel, "needs nothing")
    run(panel, wait_until)
    first = panel._parameterNode.segmentation
    choose(panel, "tidies")
    run(panel, wait_until)
    job = worker.jobs[-2]
    assert job["labels"]["segments"][0]["label"] == "ball"
    assert np.load(job["labels"]["array"]).any()
    assert panel._parameterNode.segmentation is not first
    assert first.GetScene() is not None


def test_segments_on_another_grid_are_refused_before_any_number(panel, worker, sample_ct_node, wait_until):
    panel._parameterNode.inputVolume = sample_ct_node
    choose(panel, "needs nothing")
    run(panel, wait_until)
    other = slicer.util.addVolumeFromArray(np.zeros((20, 48, 64), np.int16), name="other")
    panel._parameterNode.inputVolume = other
    choose(panel, "measure volumes")
    count = len(worker.jobs)
    run(panel, wait_until)
    assert "another grid" in panel.ui.statusLabel.text
    assert worker.did()[count:] == ["audit"]


def test_the_kind_of_scan_is_remembered_with_it(panel, worker, sample_ct_node, wait_until):
    panel._parameterNode.inputVolume = sample_ct_node
    panel.ui.modalityBox.setCurrentIndex(1)
    panel.onModality(1)
    choose(panel, "needs nothing")
    run(panel, wait_until)
    assert (worker.jobs[-1]["scan"]["modality"], worker.jobs[-1]["scan"]["unit"]) == ("CT", "HU")


def test_a_run_goes_on_when_another_module_is_opened(panel, worker, sample_ct_node, wait_until):
    worker.answers["segment"] = []
    panel._parameterNode.inputVolume = sample_ct_node
    choose(panel, "needs nothing")
    panel.ui.applyButton.click()
    wait_until(lambda: "segment" in worker.did())
    panel.parent.exit()
    job = worker.jobs[-1]
    worker.events += [{"id": job["id"], **event} for event in fakes.labelled()(job)]
    wait_until(lambda: panel.run is None)
    panel.parent.enter()
    assert panel._parameterNode.segmentation is not None
    assert panel.ui.resultTable.rowCount == 1


def test_clicking_a_row_jumps_to_its_segment(panel, worker, sample_ct_node, wait_until, monkeypatch):
    panel._parameterNode.inputVolume = sample_ct_node
    choose(panel, "needs nothing")
    run(panel, wait_until)
    jumped = []
    markups = SimpleNamespace(JumpSlicesToLocation=lambda r, a, s, _centred: jumped.append((r, a, s)))
    monkeypatch.setattr(slicer.modules, "markups", SimpleNamespace(logic=lambda: markups))
    panel.results.jump(0, 0)
    node = panel._parameterNode.measuredSegmentation or panel._parameterNode.segmentation
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, node.GetSegmentation().GetNthSegmentID(0), sample_ct_node)
    matrix = vtk.vtkMatrix4x4()
    sample_ct_node.GetIJKToRASMatrix(matrix)
    index = np.argwhere(mask > 0)[:, ::-1]
    voxels = index @ slicer.util.arrayFromVTKMatrix(matrix)[:3, :3].T + slicer.util.arrayFromVTKMatrix(matrix)[:3, 3]
    (place,) = jumped
    assert (voxels.min(axis=0) - 1e-6 <= place).all()
    assert (place <= voxels.max(axis=0) + 1e-6).all()


def test_the_patients_name_reaches_neither_worker_nor_table(panel, worker, sample_ct_node, wait_until):
    sample_ct_node.SetName("DOE JANE 19500101")
    panel._parameterNode.inputVolume = sample_ct_node
    choose(panel, "needs nothing")
    run(panel, wait_until)
    assert "DOE" not in json.dumps(worker.jobs)
    assert "DOE" not in panel._parameterNode.document
    assert "DOE" not in panel.ui.logView.toPlainText()
