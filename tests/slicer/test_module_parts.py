"""The parts of the module one by one: choices, fields, tables, files, sequences, hand-over, session."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import module_fakes as fakes
import numpy as np
import pytest
import slicer
from module_fakes import segmented, sequence

pytest_plugins = ["module_fixtures"]


# Sequences


def test_a_sequence_is_asked_about_and_every_frame_is_run(worker, wait_until, dialogs):
    import qt

    volume, browser = sequence(3)
    slicer.modules.medseg.widgetRepresentation().enter()
    panel = slicer.modules.medseg.widgetRepresentation().self()
    wait_until(lambda: panel.described)
    panel._parameterNode.inputVolume = volume
    panel.ui.searchEdit.setText("needs nothing")
    panel.ui.choiceList.setCurrentRow(0)
    browser.SetSelectedItemNumber(1)
    dialogs.answer(qt.QMessageBox.Yes)
    panel.ui.applyButton.click()
    wait_until(lambda: panel.run is None)
    assert "time sequence of 3 frames" in dialogs.texts[0]
    assert worker.did().count("segment") == 3
    segmentations = [
        node for node in slicer.util.getNodesByClass("vtkMRMLSequenceNode") if node.GetDataNodeClassName() == "vtkMRMLSegmentationNode"
    ]
    assert [segmentations[0].GetNthIndexValue(n) for n in range(3)] == ["0", "10", "20"]
    for n in range(3):
        node = segmentations[0].GetNthDataNode(n)
        image = node.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap")
        extent = image.GetExtent()
        assert extent[1] - extent[0] + 1 == 2 + n
    assert browser.GetSelectedItemNumber() == 1
    assert panel._parameterNode.resultTable.GetNumberOfRows() == 3
    frames = panel._parameterNode.resultTable.GetTable().GetColumnByName("frame")
    assert [frames.GetValue(n) for n in range(3)] == ["0", "1", "2"]


def test_no_means_the_frame_that_is_shown(worker, wait_until, dialogs):
    import qt

    volume, _browser = sequence(3)
    slicer.modules.medseg.widgetRepresentation().enter()
    panel = slicer.modules.medseg.widgetRepresentation().self()
    wait_until(lambda: panel.described)
    panel._parameterNode.inputVolume = volume
    panel.ui.searchEdit.setText("needs nothing")
    panel.ui.choiceList.setCurrentRow(0)
    dialogs.answer(qt.QMessageBox.No)
    panel.ui.applyButton.click()
    wait_until(lambda: panel.run is None)
    assert worker.did().count("segment") == 1


def test_a_plain_scan_is_not_asked_about(worker, sample_ct_node):
    from MedSegLib import sequences

    assert sequences.frameCount(sample_ct_node) == 1
    assert sequences.browserOf(None) is None


# Values


def test_a_value_with_more_digits_than_the_box_shows_is_kept(worker):
    from MedSegLib.choices import Parameter
    from MedSegLib.fields import NumberField

    field = NumberField(Parameter("share", "number", default=0.123456789, limits={"ge": 0.0, "lt": 1.0}), lambda: None)
    assert field.value() == 0.123456789
    field.widget.setValue(0.5)
    assert field.value() == 0.5
    assert field.widget.maximum < 1.0


@pytest.mark.parametrize(
    ("kind", "isList", "text", "value"),
    [
        ("number", False, "", None),
        ("number", False, " 2.5 ", 2.5),
        ("integer", False, "7", 7),
        ("number", False, "two", "two"),
        ("text", True, "liver, left kidney ,", ["liver", "left kidney"]),
        ("number", True, "1, 2", [1.0, 2.0]),
        ("text", True, "", []),
    ],
)
def test_texts_become_what_the_worker_takes(worker, kind, isList, text, value):
    from MedSegLib.choices import Parameter
    from MedSegLib.fields import TextField

    field = TextField(Parameter("any", kind, isList=isList, default=None), lambda: None)
    field.widget.setText(text)
    assert field.value() == value


def test_limits_are_checked_with_the_range_in_the_sentence(worker):
    from MedSegLib.choices import Parameter, whyRefused

    parameter = Parameter("size_mm", "number", "Size", "mm", limits={"gt": 0.0, "le": 10.0})
    assert whyRefused(parameter, 10.0) == ""
    assert whyRefused(parameter, None) == ""
    for value in (0.0, 10.5):
        sentence = whyRefused(parameter, value)
        assert f"Size is {value:g}" in sentence
        assert "above 0, at most 10 mm" in sentence


def test_broken_state_in_a_scene_is_no_error(worker):
    from MedSegLib.choices import valuesFrom

    assert valuesFrom("{") == {}
    assert valuesFrom("[1]") == {}
    assert valuesFrom("") == {}


def test_every_described_method_makes_rows_and_sends_nothing_by_itself(worker):
    """The description of every method of medseg: rows can be made, and untouched rows send no value."""
    import qt
    from MedSegLib.choices import changedValues, choicesOf
    from MedSegLib.panel import ParameterPanel
    from MedSegLib.state import MedSegParameterNode

    from medseg.method import catalog
    from medseg.method.schema import describe

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    state = MedSegParameterNode(node)
    for choice in choicesOf({"methods": [describe(method) for method in catalog.methods()]}):
        holder = qt.QWidget()
        panel = ParameterPanel(qt.QFormLayout(holder), lambda: None)
        panel.show(choice, state)
        assert set(panel.values()) == {parameter.name for parameter in choice.parameters}
        values = panel._pointed(panel.values())
        assert changedValues(choice, values) == choice.fixed, choice.key
        panel.close()


# Tables


def test_a_value_that_was_not_measured_is_nan_with_its_reason(worker):
    from MedSegLib import tables

    document = fakes.measured(
        {"number": 1, "label": "liver", "volume_ml": 1500.25, "volume_interval_ml": [1490.0, 1510.5], "status": "measured"},
        {
            "number": 2,
            "label": "spleen",
            "volume_ml": None,
            "volume_interval_ml": None,
            "status": "absent",
            "reason": "no voxel of it was found",
        },
    )[-1]["document"]
    table = tables.tableOf(document)
    node = tables.toNode(table, "volumes")
    column = node.GetTable().GetColumnByName("volume_ml")
    assert column.GetValue(0) == 1500.25
    assert math.isnan(column.GetValue(1))
    assert node.GetTable().GetColumnByName("reason").GetValue(1) == "no voxel of it was found"
    assert node.GetColumnUnitLabel("volume_ml") == "ml"
    import qt

    widget = qt.QTableWidget()
    tables.fill(widget, table, tables.shownColumns(document))
    headings = [widget.horizontalHeaderItem(n).text() for n in range(widget.columnCount)]
    assert headings == ["Segment", "Volume (ml)", "95 % interval", "Status"]
    assert [widget.item(1, n).text() for n in range(4)] == ["spleen", "–", "–", "not found"]
    assert widget.item(1, 1).toolTip() == "no voxel of it was found"
    assert widget.item(0, 2).text() == "1490 – 1510.5"


def test_a_pipelines_rows_are_those_of_measure(worker):
    from MedSegLib import tables

    document = {**fakes.measured()[-1]["document"], "schema": "medseg.run/1"}
    assert len(tables.tableOf(document)) == 1
    assert "volume_ml" in tables.shownColumns(document)


# Hand-over and session


def test_a_scan_is_written_once_per_change(worker, sample_ct_node):
    from MedSegLib import nodes

    first = nodes.scanRef(sample_ct_node)
    again = nodes.scanRef(sample_ct_node)
    assert first == again
    slicer.util.arrayFromVolume(sample_ct_node)[:] += 1
    slicer.util.arrayFromVolumeModified(sample_ct_node)
    changed = nodes.scanRef(sample_ct_node)
    assert changed["key"] != first["key"]
    assert np.array_equal(np.load(changed["array"]), slicer.util.arrayFromVolume(sample_ct_node))
    nodes.setModality(sample_ct_node, "MR")
    assert nodes.scanRef(sample_ct_node)["array"] == changed["array"]


def test_two_scans_are_kept_at_most(worker):
    from MedSegLib import nodes
    from MedSegLib.session import Session

    paths = [nodes.scanRef(slicer.util.addVolumeFromArray(np.full((3, 4, 5), n, np.int16), name=f"v{n}"))["array"] for n in range(4)]
    assert [Path(path).exists() for path in paths] == [False, False, True, True]
    folder = Session.instance().files.path
    Session.discard()
    assert not Path(folder).exists()


def test_a_full_disk_is_a_sentence_and_nothing_half_written_stays(worker, sample_ct_node, monkeypatch):
    from MedSegLib import nodes
    from MedSegLib.session import JobError, Session

    def full(path: str, array: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    files = Session.instance().files
    monkeypatch.setattr("medseg.slicer_bridge.array_files.write_array", full)
    with pytest.raises(JobError, match="does not fit on the disk") as caught:
        nodes.scanRef(sample_ct_node)
    assert caught.value.kind == "DiskFull"
    assert list(Path(files.path).iterdir()) == []


def test_segments_of_several_layers_go_and_come_back(worker, sample_ct_node):
    from MedSegLib import nodes

    node = segmented(sample_ct_node)
    node.GetSegmentation().AddEmptySegment("second", "second")
    array = (slicer.util.arrayFromVolume(sample_ct_node) > 0).astype(np.uint8)
    array[:10] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, node, "second", sample_ct_node)
    node.GetSegmentation().AddEmptySegment("empty", "empty")
    ref = nodes.labelsRef(node, None, sample_ct_node)
    assert [segment["label"] for segment in ref["segments"]] == ["ball", "second", "empty"]
    assert len(ref["layers"]) == 2
    other = nodes.newSegmentation(sample_ct_node, "copy")
    ids = nodes.importLabels(ref, other, sample_ct_node)
    for one, source in zip(ids, ("ball", "second"), strict=False):
        mine = slicer.util.arrayFromSegmentBinaryLabelmap(other, one, sample_ct_node)
        true = slicer.util.arrayFromSegmentBinaryLabelmap(node, source, sample_ct_node)
        assert np.array_equal(mine > 0, true > 0)
        assert (mine > 0).any()


def test_terms_with_their_side_go_and_come_back(worker, sample_ct_node):
    from MedSegLib import nodes

    node = segmented(sample_ct_node)
    segment = node.GetSegmentation().GetSegment("ball")
    segment.SetName("kidney_left")
    segment.SetTerminology("")
    ref = nodes.labelsRef(node, None, sample_ct_node)
    other = nodes.newSegmentation(sample_ct_node, "copy")
    (one,) = nodes.importLabels(ref, other, sample_ct_node)
    line = nodes.terminologyOf(other.GetSegmentation().GetSegment(one))
    assert "SCT^64033007^Kidney~SCT^7771000^Left" in line
    again = nodes.labelsRef(other, None, sample_ct_node)["segments"][0]
    assert again["type"]["meaning"] == "Kidney"
    assert again["modifier"]["meaning"] == "Left"


def test_an_answer_that_never_comes_is_stopped(worker):
    from MedSegLib.session import JobError, Session

    worker.answers["doctor"] = []
    with pytest.raises(JobError, match=r"no answer in 0\.1 seconds"):
        Session.instance().runBlocking({"do": "doctor"}, timeout_s=0.1)
    assert worker.cancelled == 1


def test_a_worker_that_dies_without_a_word_ends_its_jobs(worker):
    from MedSegLib.session import JobError, Session

    def dies(job: dict[str, Any]) -> list[dict[str, Any]]:
        worker.is_alive = False
        return []

    worker.answers["doctor"] = dies
    with pytest.raises(JobError, match="ended unexpectedly") as caught:
        Session.instance().runBlocking({"do": "doctor"})
    assert caught.value.kind == "WorkerDied"


def test_a_worker_that_cannot_start_says_so(load_module, monkeypatch):
    load_module("MedSeg")
    from MedSegLib.session import JobError, Session

    from medseg.slicer_bridge.client import Worker

    monkeypatch.setattr("MedSegLib.session._installedWorker", lambda session: Worker(["/nowhere/python"]))
    with pytest.raises(JobError, match="cannot be started"):
        Session.instance().runBlocking({"do": "doctor"})
    Session.discard()


def under_a_transform(volume: Any) -> Any:
    """Put a scan under a turn and a shift."""
    matrix = np.eye(4)
    matrix[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    matrix[:3, 3] = (11.0, -7.0, 3.0)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    volume.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def test_an_empty_segmentation_takes_the_transform_of_the_scan(worker, sample_ct_node):
    from MedSegLib import nodes

    ref = nodes.labelsRef(segmented(sample_ct_node), None, sample_ct_node)
    transform = under_a_transform(sample_ct_node)
    mine = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "made by the user")
    nodes.importLabels(ref, mine, sample_ct_node)
    assert mine.GetTransformNodeID() == transform.GetID()
    assert nodes.labelsRef(mine, None, sample_ct_node)["extent"] == ref["extent"]


def test_a_segmentation_keeps_its_transform_when_something_is_added(worker, sample_ct_node):
    from MedSegLib import nodes

    mine = segmented(sample_ct_node)
    ref = nodes.labelsRef(mine, None, sample_ct_node)
    under_a_transform(sample_ct_node)
    added = nodes.importLabels(ref, mine, sample_ct_node)
    assert mine.GetTransformNodeID() is None
    assert nodes.labelsRef(mine, added, sample_ct_node)["extent"] == ref["extent"]
