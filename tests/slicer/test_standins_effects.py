"""The host of Segment Editor effects: the protocol of Slicer's C++ around the real logic; masks and undo equal to numpy."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import qt
import slicer
import slicer.util
import vtk

PACKAGE = "SegmentEditorProbeLib"
EFFECT = """
import qt, slicer, vtk
from SegmentEditorEffects import *
from vtk.util.numpy_support import vtk_to_numpy

class {name}Effect(AbstractScriptedSegmentEditorEffect):
    def __init__(self, scriptedEffect):
        scriptedEffect.name = "{name}"
        scriptedEffect.title = "A {name}"
        scriptedEffect.perSegment = True
        AbstractScriptedSegmentEditorEffect.__init__(self, scriptedEffect)
        self.calls = []

    def clone(self):
        import qSlicerSegmentationsEditorEffectsPythonQt as effects
        made = effects.qSlicerSegmentEditorScriptedEffect(None)
        made.setPythonSource(__file__.replace("\\\\", "/"))
        return made

    def activate(self):
        self.calls.append("activate")

    def deactivate(self):
        self.calls.append("deactivate")

    def setMRMLDefaults(self):
        self.scriptedEffect.setParameterDefault("HalfWidth", 2)
        self.scriptedEffect.setParameterDefault("Share", 0.25)

    def setupOptionsFrame(self):
        self.width = qt.QSpinBox()
        self.width.connect("valueChanged(int)", self.updateMRMLFromGUI)
        self.scriptedEffect.addLabeledOptionsWidget("Half width:", self.width)

    def updateGUIFromMRML(self):
        self.calls.append("gui")
        blocked = self.width.blockSignals(True)
        self.width.value = self.scriptedEffect.integerParameter("HalfWidth")
        self.width.blockSignals(blocked)

    def updateMRMLFromGUI(self):
        self.scriptedEffect.setParameter("HalfWidth", self.width.value)

    def sourceVolumeNodeChanged(self):
        self.calls.append("source")

    def processInteractionEvents(self, interactor, event, view):
        if event == vtk.vtkCommand.RightButtonPressEvent:
            return None
        if event != vtk.vtkCommand.LeftButtonPressEvent:
            return False
        if self.scriptedEffect.confirmCurrentSegmentVisible() == self.scriptedEffect.NotConfirmed:
            return True
        i, j, k = self.xyToIjk(interactor.GetEventPosition(), view, self.scriptedEffect.sourceVolumeImageData())
        self.calls.append((i, j, k, bool(interactor.GetShiftKey())))
        self.paint(i, j, k)
        return True

    def paint(self, i, j, k, *rest):
        labelmap = self.scriptedEffect.defaultModifierLabelmap()
        half = self.scriptedEffect.integerParameter("HalfWidth")
        array = vtk_to_numpy(labelmap.GetPointData().GetScalars()).reshape(labelmap.GetDimensions()[::-1])
        array[k - half : k + half + 1, j - half : j + half + 1, i - half : i + half + 1] = 1
        labelmap.Modified()
        self.scriptedEffect.saveStateForUndo()
        self.scriptedEffect.modifySelectedSegmentByLabelmap(labelmap, slicer.qSlicerSegmentEditorAbstractEffect.ModificationModeAdd, *rest)
"""


@pytest.fixture
def probe(tmp_path, monkeypatch):
    """Registers two effects of one package, as an extension does."""
    import qSlicerSegmentationsEditorEffectsPythonQt as effects

    folder = tmp_path / PACKAGE
    folder.mkdir()
    for name in ("Probe", "Other"):
        (folder / f"{name}Effect.py").write_text(EFFECT.format(name=name), encoding="utf-8")
    imports = "\n".join(f"from {PACKAGE}.{name}Effect import {name}Effect" for name in ("Probe", "Other"))
    (folder / "__init__.py").write_text(imports, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    __import__(PACKAGE)
    for name in ("Probe", "Other"):
        effect = effects.qSlicerSegmentEditorScriptedEffect(None)
        assert effect.setPythonSource(str(folder / f"{name}Effect.py"))
        effect.self().register()
    yield folder
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]
    if hasattr(slicer, PACKAGE):
        delattr(slicer, PACKAGE)


@pytest.fixture
def editor(probe, sample_ct_node, scene, effect_host):
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(sample_ct_node)
    for name in ("one", "two"):
        segmentation.GetSegmentation().AddEmptySegment(name, name)
    return effect_host(sample_ct_node, segmentation, "one")


def mask(editor, segment="one"):
    return slicer.util.arrayFromSegmentBinaryLabelmap(editor.node.GetSegmentationNode(), segment, editor.node.GetSourceVolumeNode()) > 0


def cube(i, j, k, half=2):
    wanted = np.zeros((20, 48, 64), bool)
    wanted[k - half : k + half + 1, j - half : j + half + 1, i - half : i + half + 1] = True
    return wanted


def place(editor, *index):
    matrix = vtk.vtkMatrix4x4()
    editor.node.GetSourceVolumeNode().GetIJKToRASMatrix(matrix)
    return matrix.MultiplyPoint((*index, 1.0))[:3]


def test_the_editor_has_copies_of_the_registered_effects(editor):
    registered = {effect.name: effect for effect in slicer.qSlicerSegmentEditorEffectFactory.instance().registeredEffects()}
    assert list(editor.effects) == ["Probe", "Other"] == list(registered)
    assert editor.effects["Probe"] is not registered["Probe"]
    assert editor.effects["Probe"].title == "A Probe"
    assert editor.effects["Other"].parameter("HalfWidth") == "2"
    assert editor.node.GetAttribute("Probe.Share") == "0.25"
    with pytest.raises(KeyError, match="Probe"):
        editor.activate("Nothing")


def test_a_file_whose_package_lacks_the_class_is_loaded_under_the_folders_name(probe):
    """What C++ does: the second file would replace the package, so a package must import all its effects."""
    import qSlicerSegmentationsEditorEffectsPythonQt as effects

    (probe / "LateEffect.py").write_text(EFFECT.format(name="Late"), encoding="utf-8")
    effect = effects.qSlicerSegmentEditorScriptedEffect(None)
    assert effect.setPythonSource(str(probe / "LateEffect.py"))
    assert Path(sys.modules[PACKAGE].__file__).name == "LateEffect.py"
    (probe / "NoEffect.py").write_text("", encoding="utf-8")
    with pytest.raises(RuntimeError, match="NoEffect was not found"):
        effect.setPythonSource(str(probe / "NoEffect.py"))
    assert effect.setPythonSource("effect.txt") is False


def test_one_effect_is_active_at_a_time(editor):
    first = editor.activate("Probe")
    assert first.calls == ["gui", "activate"]
    assert editor.frame("Probe").isVisibleTo(None) or not editor.frame("Probe").isHidden()
    second = editor.activate("Other")
    assert first.calls[-1] == "deactivate"
    assert second.calls == ["gui", "activate"]
    editor.effects["Other"].selectEffect("")
    assert (editor.active, second.calls[-1]) == (None, "deactivate")


def test_without_a_source_volume_no_effect_starts(probe, scene, effect_host):
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S")
    segmentation.GetSegmentation().AddEmptySegment("one")
    editor = effect_host(None, segmentation, "one")
    assert editor.activate("Probe").calls == []
    assert editor.active is None


def test_a_click_reaches_the_voxel_and_undo_takes_it_back(editor):
    effect = editor.activate("Probe")
    for view in ("Red", "Yellow", "Green"):
        editor.click(place(editor, 32, 24, 10), view, shift=view == "Green")
        assert effect.calls[-1] == (32, 24, 10, view == "Green")
    assert np.array_equal(mask(editor), cube(32, 24, 10))
    editor.click(place(editor, 40, 24, 10))
    editor.undo()
    assert np.array_equal(mask(editor), cube(32, 24, 10))
    editor.redo()
    assert np.array_equal(mask(editor), cube(32, 24, 10) | cube(40, 24, 10))
    editor.deactivate()
    before = len(effect.calls)
    editor.click(place(editor, 20, 24, 10))
    assert len(effect.calls) == before


def test_a_moved_scan_is_clicked_where_it_is(editor, scene):
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "T")
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 40.0)
    transform.SetMatrixTransformToParent(matrix)
    for node in (editor.node.GetSourceVolumeNode(), editor.node.GetSegmentationNode()):
        node.SetAndObserveTransformNodeID(transform.GetID())
    effect = editor.activate("Probe")
    ras = place(editor, 32, 24, 10)
    view = slicer.app.layoutManager().sliceWidget("Red")
    editor.send("press", (ras[0] + 40, ras[1], ras[2]))
    found = effect.xyToIjk(view.sliceView().interactor().GetEventPosition(), view, effect.scriptedEffect.sourceVolumeImageData(), transform)
    assert found == [32, 24, 10]


def test_masks_equal_numpy(editor):
    effect = editor.activate("Probe")
    effect.paint(32, 24, 10)
    editor.select_segment("two")
    node = editor.node
    node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedOutsideAllSegments)
    effect.paint(34, 24, 10)
    assert np.array_equal(mask(editor, "two"), cube(34, 24, 10) & ~cube(32, 24, 10))
    node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere)
    node.SetOverwriteMode(node.OverwriteNone)
    effect.paint(34, 24, 10)
    assert np.array_equal(mask(editor, "one"), cube(32, 24, 10))
    node.SetOverwriteMode(node.OverwriteAllSegments)
    effect.paint(34, 24, 10)
    assert np.array_equal(mask(editor, "one"), cube(32, 24, 10) & ~cube(34, 24, 10))
    node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
    node.SetMaskSegmentID("two")
    editor.select_segment("one")
    effect.paint(36, 24, 10)
    assert np.array_equal(mask(editor, "one"), (cube(32, 24, 10) & ~cube(34, 24, 10)) | (cube(36, 24, 10) & cube(34, 24, 10)))


def test_an_intensity_mask_limits_and_bypassing_is_only_for_segments(editor):
    effect = editor.activate("Probe")
    editor.node.SetSourceVolumeIntensityMaskRange(0, 100)
    editor.node.SetSourceVolumeIntensityMask(True)
    effect.paint(44, 24, 10)
    image = slicer.util.arrayFromVolume(editor.node.GetSourceVolumeNode())
    assert np.array_equal(mask(editor), cube(44, 24, 10) & (image == 60))
    assert 0 < mask(editor).sum() < cube(44, 24, 10).sum()


def test_arguments_of_modify_are_those_of_cpp(editor, failures):
    effect = editor.activate("Probe")
    effect.paint(32, 24, 10, [0, 63, 0, 47, 0, 19], True)
    effect.paint(32, 24, 10, False)
    with pytest.raises(ValueError, match="wrong arguments"):
        effect.paint(32, 24, 10, [0, 63, 0, 47, 0, 19], 1)
    effect.paint(32, 24, 10, [0, 63])
    failures.expect("6 int values")
    with pytest.raises(ValueError, match="vtkOrientedImageData"):
        effect.scriptedEffect.modifySelectedSegmentByLabelmap(vtk.vtkImageData(), 0)


def test_parameters_live_in_the_node_and_the_options_follow(editor, failures):
    effect = editor.activate("Probe")
    effect.width.value = 7
    assert editor.node.GetAttribute("Probe.HalfWidth") == "7"
    effect.scriptedEffect.setParameter("HalfWidth", 5)
    assert effect.width.value == 5
    assert effect.scriptedEffect.doubleParameter("Share") == 0.25
    effect.scriptedEffect.setCommonParameter("Shared", "both")
    assert editor.effects["Other"].parameter("Shared") == "both"
    assert not effect.scriptedEffect.parameterDefined("Shared")
    assert effect.scriptedEffect.parameter("Nowhere") == ""
    failures.expect("Nowhere cannot be found")
    assert effect.scriptedEffect.integerParameter("Share") == 0
    failures.expect("cannot be converted to integer")
    with pytest.raises(ValueError, match="text, an int or a float"):
        effect.scriptedEffect.setParameter("HalfWidth", True)
    effect.scriptedEffect.setNodeReference("Scan", editor.node.GetSourceVolumeNode())
    assert effect.scriptedEffect.nodeReference("Scan") is editor.node.GetSourceVolumeNode()


def test_a_hidden_segment_is_asked_about(editor, dialogs):
    effect = editor.activate("Probe")
    display = editor.node.GetSegmentationNode().GetDisplayNode()
    display.SetSegmentVisibility("one", False)
    dialogs.answer(qt.QMessageBox.Cancel, qt.QMessageBox.Yes)
    editor.click(place(editor, 32, 24, 10))
    assert not mask(editor).any()
    editor.click(place(editor, 32, 24, 10))
    assert mask(editor).any()
    assert display.GetSegmentVisibility("one")
    assert len(dialogs.shown) == 2
    assert effect.scriptedEffect.confirmCurrentSegmentVisible() == effect.scriptedEffect.ConfirmedWithoutDialog


def test_an_answer_that_is_no_boolean_is_noted(editor, failures):
    editor.activate("Probe")
    editor.send("right", place(editor, 32, 24, 10))
    failures.expect("expected to return a boolean")


def test_another_source_volume_is_told(editor, scene):
    effect = editor.activate("Probe")
    editor.set_source_volume(slicer.util.addVolumeFromArray(np.zeros((4, 4, 4), np.int16)))
    assert "source" in effect.calls
