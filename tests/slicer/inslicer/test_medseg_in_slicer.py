"""The extension in short, through fixtures that are the stand-ins here and Slicer itself there."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import slicer.util
import vtk

EFFECTS = ["MedSegClickLesion", "MedSegGrow", "MedSegSplit", "MedSegSmooth", "MedSegModel"]


@pytest.fixture
def segmentation(scene, sample_ct_node):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(sample_ct_node)
    node.GetSegmentation().AddEmptySegment("lesion", "lesion")
    return node


@pytest.fixture
def editor(load_module, effect_host, sample_ct_node, segmentation):
    load_module("SegmentEditorMedSeg")
    sample_ct_node.SetAttribute("MedSeg.Modality", "CT")
    yield effect_host(sample_ct_node, segmentation, "lesion")
    from MedSegLib.session import Session

    Session.discard()


def centre(volume):
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return matrix.MultiplyPoint((32, 24, 10, 1.0))[:3]


def test_all_effects_are_in_the_editor_with_icon_and_help(editor):
    assert [name for name in editor.effects if name.startswith("MedSeg")] == EFFECTS
    for name in EFFECTS:
        effect = editor.effects[name]
        assert not effect.icon().isNull()
        assert effect.helpText()
        assert effect.title


def test_a_click_apply_and_undo(editor, sample_ct_node, segmentation):
    effect = editor.activate("MedSegClickLesion")
    editor.click(centre(sample_ct_node))
    effect.applyButton.click()
    found = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "lesion", sample_ct_node) > 0
    ball = slicer.util.arrayFromVolume(sample_ct_node) == 60
    assert 2 * (found & ball).sum() / (found.sum() + ball.sum()) > 0.9
    editor.undo()
    assert not np.any(slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, "lesion", sample_ct_node))


def test_the_panel_opens_and_says_why_it_waits(load_module):
    widget = load_module("MedSeg", widget=True)
    assert not widget.ui.applyButton.enabled
    assert widget.ui.applyButton.toolTip
