"""Runs that could harm or mislead: sequences, scenes that change meanwhile, faults, and what the checks look at."""

from __future__ import annotations

from typing import Any

import module_fakes as fakes
import numpy as np
import pytest
import slicer
import vtk
from module_fakes import choose, place, reaching_out, run, segmented, sequence

pytest_plugins = ["module_fixtures"]


def names(node: Any) -> list[str]:
    segmentation = node.GetSegmentation()
    return [segmentation.GetNthSegment(n).GetName() for n in range(segmentation.GetNumberOfSegments())]


def waiting(panel: Any, worker: Any, volume: Any, wait_until: Any) -> dict[str, Any]:
    """A run whose job is with the worker: the job."""
    worker.answers["segment"] = []
    panel._parameterNode.inputVolume = volume
    choose(panel, "needs nothing")
    panel.ui.applyButton.click()
    wait_until(lambda: "segment" in worker.did())
    return worker.jobs[-1]


def answered(panel: Any, worker: Any, job: dict[str, Any], events: list[dict[str, Any]], wait_until: Any) -> None:
    worker.events += [{"id": job["id"], **event} for event in events]
    wait_until(lambda: panel.run is None)


# Sequences


@pytest.mark.parametrize("create", [True, False])
def test_all_frames_leave_the_chosen_segmentation_as_it_is(panel, worker, wait_until, dialogs, create):
    import qt

    volume, browser = sequence(3)
    mine = segmented(volume)
    before = slicer.util.arrayFromSegmentBinaryLabelmap(mine, "ball", volume).copy()
    panel._parameterNode.inputVolume, panel._parameterNode.segmentation = volume, mine
    panel.ui.createNewCheck.checked = create
    choose(panel, "needs nothing")
    dialogs.answer(qt.QMessageBox.Yes)
    run(panel, wait_until)
    assert worker.did().count("segment") == 3
    assert names(mine) == ["ball"]
    assert np.array_equal(slicer.util.arrayFromSegmentBinaryLabelmap(mine, "ball", volume), before)
    assert panel._parameterNode.segmentation is not mine
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 2
    assert "frame 3 of 3 (the table node has all frames)" in panel.ui.originLabel.text
    for frame in (2, 0, 1):
        browser.SetSelectedItemNumber(frame)
        extent = panel._parameterNode.segmentation.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap").GetExtent()
        assert extent[1] - extent[0] + 1 == 2 + frame  # it follows the scan


def test_a_frame_question_can_be_cancelled(panel, worker, wait_until, dialogs):
    import qt

    volume, _browser = sequence(3)
    panel._parameterNode.inputVolume = volume
    choose(panel, "needs nothing")
    offered: list[Any] = []

    def cancel(box: Any) -> Any:
        offered.append(box.standardButtons)
        return qt.QMessageBox.Cancel

    dialogs.answer(cancel)
    panel.ui.applyButton.click()
    assert offered == [qt.QMessageBox.Yes | qt.QMessageBox.No | qt.QMessageBox.Cancel]
    assert panel.run is None
    assert worker.did() == ["describe"]


def test_what_changes_segments_is_refused_for_all_frames(panel, worker):
    from MedSegLib.run import Listener, Request, Run
    from MedSegLib.session import JobError

    volume, _browser = sequence(2)
    choice = choose(panel, "tidies")
    with pytest.raises(JobError, match="segments of one frame"):
        Run(Request(choice, volume, segmented(volume), allFrames=True), Listener()).start()
    assert worker.did() == ["describe"]


# Scenes that change while the worker works


@pytest.mark.parametrize("how", ["voxels", "matrix", "transform"])
def test_a_scan_changed_while_running_drops_the_result(panel, worker, sample_ct_node, wait_until, how):
    job = waiting(panel, worker, sample_ct_node, wait_until)
    events = fakes.labelled()(job)
    if how == "voxels":
        slicer.util.arrayFromVolume(sample_ct_node)[:] += 1
        slicer.util.arrayFromVolumeModified(sample_ct_node)
    elif how == "matrix":
        sample_ct_node.SetOrigin(50.0, 0.0, 0.0)
    else:
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        matrix = np.eye(4)
        matrix[0, 3] = 30.0
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
        sample_ct_node.SetAndObserveTransformNodeID(transform.GetID())
    answered(panel, worker, job, events, wait_until)
    assert panel.ui.statusLabel.text == "The scan was changed while MedSeg worked on it; the result was dropped. Run it again."
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    assert "measure" not in worker.did()


def test_a_segmentation_removed_while_running_gets_nothing(panel, worker, sample_ct_node, wait_until):
    mine = segmented(sample_ct_node)
    panel._parameterNode.segmentation = mine
    panel.ui.createNewCheck.checked = False
    job = waiting(panel, worker, sample_ct_node, wait_until)
    slicer.mrmlScene.RemoveNode(mine)
    answered(panel, worker, job, fakes.labelled()(job), wait_until)
    assert "segmentation was removed from the scene" in panel.ui.statusLabel.text
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


# Faults


@pytest.mark.parametrize("place", ["MedSegLib.run.Run.start", "MedSegLib.run.Run.__init__"])
def test_a_fault_leaves_no_cancel_behind(panel, sample_ct_node, monkeypatch, place):
    def fault(*_arguments: Any, **_more: Any) -> None:
        raise RuntimeError("a fault")

    panel._parameterNode.inputVolume = sample_ct_node
    choose(panel, "needs nothing")
    monkeypatch.setattr(place, fault)
    with pytest.raises(RuntimeError, match="a fault"):
        panel.onApply()
    assert panel.run is None
    assert panel.ui.applyButton.text == "Apply"
    assert "fault of its own" in panel.ui.statusLabel.text


def test_a_model_that_is_not_there_is_a_sentence_of_the_true_worker(load_module, sample_ct_node, wait_until):
    load_module("MedSeg")
    slicer.modules.medseg.widgetRepresentation().enter()
    panel = slicer.modules.medseg.widgetRepresentation().self()
    wait_until(lambda: panel.described, 30)
    from MedSegLib.choices import Choice
    from MedSegLib.session import Session

    gone = Choice("model:gone", "model", "model", "Gone", fixed={"model": "no-such-network"}, words="gone")
    panel.chooser.setChoices([gone])
    panel._parameterNode.inputVolume = sample_ct_node
    assert choose(panel, "gone") is gone
    panel.ui.applyButton.click()
    wait_until(lambda: panel.run is None, 30)
    assert "no-such-network" in panel.ui.statusLabel.text
    assert "Traceback" not in panel.ui.statusLabel.text
    assert panel.ui.applyButton.text == "Apply"
    Session.discard()


# What is checked, and what is told


def test_both_scans_of_a_comparison_are_checked(panel, worker, sample_ct_node, wait_until):
    earlier = slicer.util.addVolumeFromArray(np.full((20, 48, 64), 5, np.int16), name="earlier")
    slicer.util.arrayFromVolume(earlier)[8:12, 20:28, 30:36] = 40
    finding = {"code": "MISSING_SLICES", "severity": "error", "message": "3 slices are missing"}

    def audit(job: dict[str, Any]) -> Any:
        isEarlier = job["scan"]["name"] == earlier.GetID()
        return fakes.result(usable=not isEarlier, reason="", findings=[finding] if isEarlier else [], geometry={})

    worker.answers["audit"] = audit
    panel._parameterNode.inputVolume = sample_ct_node
    panel._parameterNode.segmentation = segmented(sample_ct_node)
    choose(panel, "two time points")
    panel.panel._fields["earlier_scan"].setValue(earlier.GetID())
    panel.panel._fields["earlier_labels"].setValue(segmented(earlier).GetID())
    run(panel, wait_until)
    assert worker.did() == ["describe", "audit", "audit"]
    assert "earlier scan: 3 slices are missing" in panel.ui.statusLabel.text
    assert "earlier scan: 3 slices are missing" in panel.ui.findingsLabel.text


def test_segments_beyond_the_scan_are_told_above_the_numbers(panel, worker, sample_ct_node, wait_until):
    mine = reaching_out(sample_ct_node)
    panel._parameterNode.inputVolume, panel._parameterNode.segmentation = sample_ct_node, mine
    choose(panel, "measure volumes")
    run(panel, wait_until)
    assert panel.ui.statusLabel.text == ""
    assert panel.ui.resultTable.rowCount == 1
    assert [finding["code"] for finding in panel.results._findings] == ["LABELS_OUTSIDE_GRID"]
    assert not panel.ui.findingsLabel.isHidden()


def test_a_segmentation_given_as_a_value_is_told_too(panel, worker, sample_ct_node, wait_until):
    panel._parameterNode.inputVolume = sample_ct_node
    choose(panel, "keep a ball")
    place(panel, "seeds", (1.0, 2.0, 3.0))
    panel.panel._fields["mask"].setValue(reaching_out(sample_ct_node).GetID())
    run(panel, wait_until)
    assert "mask" in next(job for job in worker.jobs if job["do"] == "segment")["parameters"]
    assert [finding["code"] for finding in panel.results._findings] == ["LABELS_OUTSIDE_GRID", "TEST"]


# The scene and the list


def test_a_label_map_is_never_chosen_as_the_first_scan(worker, scene):
    array = np.ones((4, 5, 6), np.int16)
    slicer.util.addVolumeFromArray(array, name="labels", nodeClassName="vtkMRMLLabelMapVolumeNode")
    widget = slicer.modules.medseg.widgetRepresentation().self()
    assert widget._parameterNode.inputVolume is None
    scan = slicer.util.addVolumeFromArray(array, name="scan")
    widget.initializeParameterNode()
    assert widget._parameterNode.inputVolume is scan


def test_networks_of_clicks_are_not_listed_and_several_channels_say_so(worker):
    from MedSegLib.choices import choicesOf

    cards = [
        {"name": "lesion-click", "kind": "click", "channels": ["CT"]},
        {"name": "vista", "kind": "vista3d", "channels": ["CT"]},
        {"name": "organs", "kind": "nnunet", "channels": ["CT"]},
        {"name": "tumour", "kind": "nnunet", "title": "Tumour", "channels": ["T1", "T1c", "T2", "FLAIR"]},
    ]
    models = {choice.name + choice.fixed["model"]: choice for choice in choicesOf({**fakes.DESCRIPTION, "models": cards}) if choice.fixed}
    assert set(models) == {"modelorgans", "modeltumour"}
    assert models["modelorgans"].whyNot(False) == ""
    assert '"Tumour" needs 4 scans of one patient at once (T1, T1c, T2, FLAIR)' in models["modeltumour"].whyNot(True)


def test_the_panel_lets_go_of_the_parameter_node(panel):
    state = panel._parameterNode
    for _again in range(3):
        panel.parent.exit()
        panel.parent.enter()
    assert panel.logic.getParameterNode() is panel.logic.getParameterNode()
    panel.parent.exit()
    before = state.createNew
    panel.ui.createNewCheck.checked = not before
    assert state.createNew is before
    panel.parent.enter()
    assert panel.ui.createNewCheck.checked is before
    panel.ui.createNewCheck.checked = not before
    assert panel._parameterNode.createNew is not before


def test_two_time_points_on_different_grids_are_compared_by_the_true_worker(load_module, sample_ct_node, wait_until):
    load_module("MedSeg")
    slicer.modules.medseg.widgetRepresentation().enter()
    panel = slicer.modules.medseg.widgetRepresentation().self()
    wait_until(lambda: panel.described, 30)
    from MedSegLib.session import Session

    array = slicer.util.arrayFromVolume(sample_ct_node)[:, 4:-6, 2:-8].copy()
    k, j, i = (place[:10].tolist() for place in np.nonzero(array > 0))
    array[k, j, i] = -100  # ten voxels less, so the lesion grew since
    earlier = slicer.util.addVolumeFromArray(array, name="earlier")
    earlier.CopyOrientation(sample_ct_node)
    corner = [0.0] * 4
    matrix = vtk.vtkMatrix4x4()
    sample_ct_node.GetIJKToRASMatrix(matrix)
    matrix.MultiplyPoint((2.0, 4.0, 0.0, 1.0), corner)
    earlier.SetOrigin(*corner[:3])
    panel._parameterNode.inputVolume, panel._parameterNode.segmentation = sample_ct_node, segmented(sample_ct_node)
    choose(panel, "two time points")
    fields = panel.panel._fields
    fields["earlier_scan"].setValue(earlier.GetID())
    fields["earlier_labels"].setValue(segmented(earlier).GetID())
    fields["registration"].setValue("none")
    fields["days_between"].setValue(90.0)
    panel.ui.applyButton.click()
    wait_until(lambda: panel.run is None, 60)
    assert panel.ui.statusLabel.text == ""
    table = panel._parameterNode.resultTable.GetTable()
    volumes = [table.GetColumnByName(name).GetValue(0) for name in ("base_volume_ml", "volume_ml")]
    before, after = int((array > 0).sum()), int((slicer.util.arrayFromVolume(sample_ct_node) > 0).sum())
    assert after - before == 10
    assert np.array(volumes) == pytest.approx(np.array([before, after]) * 0.8 * 1.1 * 2.5 / 1000)
    Session.discard()
