"""The panel: what is shown, and what Apply says before it is pressed."""

from __future__ import annotations

import time

import numpy as np
import pytest
import slicer
from module_fakes import choose, place

pytest_plugins = ["module_fixtures"]


def test_set_up_waits_for_nothing(worker, sample_ct_node):
    began = time.process_time()
    slicer.modules.medseg.widgetRepresentation()
    assert time.process_time() - began < 3  # of the processor; benchmarks/bench_slicer.py measures the wait


def test_the_worker_is_not_started_before_the_module_is_opened(worker):
    slicer.modules.medseg.widgetRepresentation()
    assert worker.started == 0


def test_list_holds_everything_that_makes_segments_or_measures(panel):
    keys = [choice.key for choice in panel.chooser._all]
    assert keys == [
        "pipeline:ct-torso",
        "model:torso",
        "method:ball",
        "method:plain",
        "method:tidy",
        "measure:measure",
        "measure:lesions",
        "measure:change",
    ]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("KIDNEY", ["model:torso"]),
        ("kidney left", ["model:torso"]),
        ("ct", ["pipeline:ct-torso", "model:torso"]),
        ("tidies", ["method:tidy"]),
        ("searched", []),
        ("network liver", ["model:torso"]),
    ],
)
def test_search_is_over_names_segments_modality_and_descriptions(panel, words, found):
    panel.ui.searchEdit.setText(words)
    assert [choice.key for choice in panel.chooser._shown if choice.group != "measure"] == found


def test_no_match_says_what_to_try(panel):
    panel.ui.searchEdit.setText("zzz")
    assert "Nothing matches" in panel.ui.summaryLabel.text


def test_apply_says_everything_that_is_missing(panel):
    assert not panel.ui.applyButton.enabled
    assert panel.ui.applyButton.toolTip.splitlines() == ["Choose a scan first.", "Choose what to do from the list."]
    choose(panel, "tidies")
    assert "needs a segmentation with segments" in panel.ui.applyButton.toolTip


@pytest.mark.parametrize(
    ("shape", "sentence"), [((1, 20, 20), "single slice"), (None, "no voxels"), ((4, 5, 6, 3), "several values per voxel")]
)
def test_scans_that_cannot_be_worked_on_have_their_sentence(panel, shape, sentence):
    choose(panel, "needs nothing")
    kind = "vtkMRMLScalarVolumeNode"
    node = slicer.mrmlScene.AddNewNodeByClass(kind, "poor")
    if shape is not None:
        import vtk
        from vtk.util.numpy_support import numpy_to_vtk

        image = vtk.vtkImageData()
        image.SetDimensions(*shape[2::-1])
        array = numpy_to_vtk(np.zeros((int(np.prod(shape[:3])), *shape[3:]), np.int16), deep=True)
        image.GetPointData().SetScalars(array)
        node.SetAndObserveImageData(image)
    panel._parameterNode.inputVolume = node
    panel.update()
    assert not panel.ui.applyButton.enabled
    assert sentence in panel.ui.applyButton.toolTip


def test_a_warped_scan_is_told_to_be_hardened(panel, sample_ct_node):
    choose(panel, "needs nothing")
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    sample_ct_node.SetAndObserveTransformNodeID(transform.GetID())
    panel._parameterNode.inputVolume = sample_ct_node
    panel.update()
    if transform.IsTransformToWorldLinear():
        pytest.skip("an empty B-spline counts as linear here")
    assert "Harden" in panel.ui.applyButton.toolTip


def test_rows_are_made_from_the_description(panel):
    choose(panel, "keep a ball")
    fields = panel.panel._fields
    assert set(fields) == {
        "radius_mm",
        "seeds",
        "background_seeds",
        "lower",
        "rounds",
        "fill",
        "connectivity",
        "sigmas_mm",
        "mask",
        "label",
    }
    radius = fields["radius_mm"].widget
    assert (radius.value, radius.suffix, radius.maximum) == (12.5, " mm", 100.0)
    assert 0 < radius.minimum <= 0.01
    assert "above 0" in radius.toolTip
    assert "Default: 12.5" in radius.toolTip
    assert fields["lower"].value() is None
    assert fields["sigmas_mm"].value() == [1.0, 2.0]
    assert [fields["connectivity"].widget.itemText(n) for n in range(3)] == ["6", "18", "26"]


def test_required_points_count_as_missing_until_one_is_placed(panel, sample_ct_node):
    panel._parameterNode.inputVolume = sample_ct_node
    choose(panel, "keep a ball")
    assert "Seeds must be given." in panel.ui.applyButton.toolTip
    node = place(panel, "seeds")
    assert not panel.ui.applyButton.enabled
    node.AddControlPointWorld(1.0, 2.0, 3.0)
    assert panel.ui.applyButton.enabled
    node.RemoveAllControlPoints()
    assert not panel.ui.applyButton.enabled


def test_place_makes_a_list_in_the_colour_of_its_meaning(panel):
    choose(panel, "keep a ball")
    for name, colour in (("seeds", (0.2, 0.8, 0.3)), ("background_seeds", (0.9, 0.25, 0.2))):
        panel.panel._fields[name].placeButton.click()
        node = panel.panel.nodeOf(name)
        assert node.GetDisplayNode().GetSelectedColor() == pytest.approx(colour)
        interaction = slicer.app.applicationLogic().GetInteractionNode()
        if interaction is not None:
            assert interaction.GetCurrentInteractionMode() == interaction.Place
            interaction.SetCurrentInteractionMode(interaction.ViewTransform)
