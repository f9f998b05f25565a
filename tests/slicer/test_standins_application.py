"""The stand-ins of the application: scene, subject hierarchy, modules, selectors of nodes, files, dialogs, packages."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
import qt
import slicer
import slicer.util
import vtk

MODULE = """
import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import *

class Small(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Small")
        parent.categories = ["Tests"]
        self.events = []
        slicer.app.connect("startupCompleted()", lambda: self.events.append("startup"))

class SmallWidget(ScriptedLoadableModuleWidget):
    def setup(self):
        self.events = ["setup"]
    def enter(self):
        self.events.append("enter")
    def exit(self):
        self.events.append("exit")
    def cleanup(self):
        self.events.append("cleanup")

class SmallLogic(ScriptedLoadableModuleLogic):
    pass
"""


@pytest.fixture
def small_module(tmp_path, load_module):
    folder = tmp_path / "Small"
    folder.mkdir()
    (folder / "Small.py").write_text(MODULE, encoding="utf-8")
    return lambda **options: load_module("Small", folder / "Small.py", **options)


def hierarchy():
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)


def test_the_scene_is_the_applications(scene, app):
    assert slicer.mrmlScene is scene
    assert app.mrmlScene() is scene
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0
    assert slicer.modules.segmentations.logic().GetMRMLScene() is scene
    assert slicer.util.getModuleLogic("Volumes").IsA("vtkSlicerVolumesLogic")
    with pytest.raises(AttributeError, match="dicom"):
        _ = slicer.modules.dicom
    with pytest.raises(RuntimeError, match="Could not find module"):
        slicer.util.getModule("Nowhere")


def test_data_nodes_get_an_item_in_the_hierarchy(scene, sample_ct_node, failures):
    item = hierarchy().GetItemByDataNode(sample_ct_node)
    assert hierarchy().GetItemName(item) == "sample CT"
    hidden = scene.CreateNodeByClass("vtkMRMLScalarVolumeNode")
    hidden.UnRegister(None)
    hidden.SetHideFromEditors(True)
    assert not hierarchy().GetItemByDataNode(scene.AddNode(hidden))
    assert not hierarchy().GetItemByDataNode(sample_ct_node.GetDisplayNode())
    scene.RemoveNode(sample_ct_node)
    assert not hierarchy().GetItemName(item)
    failures.expect("Failed to find subject hierarchy item")


def test_closing_the_scene_tells_and_keeps_singletons_only(scene, sample_ct_node):
    events = []
    tags = [
        scene.AddObserver(event, lambda *_arguments, event=event: events.append(event))
        for event in (scene.EndCloseEvent, scene.StartCloseEvent)
    ]
    scene.Clear(0)
    assert events == [scene.StartCloseEvent, scene.EndCloseEvent]
    assert scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode") is None
    for tag in tags:
        scene.RemoveObserver(tag)


def test_a_module_is_loaded_entered_and_unloaded(small_module, app):
    module = small_module()
    assert (module.title, module.name, module.categories) == ("Small", "Small", ("Tests",))
    assert slicer.modules.SmallInstance.events == ["startup"]
    assert slicer.util.modulePath("Small").endswith("Small.py")
    slicer.util.selectModule("Small")
    widget = slicer.util.getModuleWidget("Small")
    assert widget.parent.isEntered
    slicer.util.selectModule("Volumes")
    assert widget.events == ["setup", "enter", "exit"]
    assert widget.parent.mrmlScene() is slicer.mrmlScene
    app.moduleManager().moduleAboutToBeUnloaded.emit("Other")
    app.moduleManager().moduleAboutToBeUnloaded.emit("Small")
    app.moduleManager().moduleAboutToBeUnloaded.emit("Small")
    assert widget.events[3:] == ["cleanup"]


def test_the_parameter_node_is_one_for_the_scene(small_module, scene):
    small_module()
    import Small

    first = Small.SmallLogic().getParameterNode()
    assert Small.SmallLogic().getParameterNode() is first
    assert first.GetAttribute("ModuleName") == "Small"
    scene.Clear(0)
    assert Small.SmallLogic().getParameterNode().GetAttribute("ModuleName") == "Small"


def test_node_selector_follows_the_scene(scene):
    selector, seen = slicer.qMRMLNodeComboBox(), []
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.noneEnabled = True
    assert not selector.enabled  # until it has a scene
    selector.setMRMLScene(scene)
    selector.connect("currentNodeChanged(vtkMRMLNode*)", seen.append)
    validity = []
    selector.connect("currentNodeChanged(bool)", validity.append)
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "a")
    labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "other")
    assert (selector.nodeCount(), selector.currentNode(), seen) == (2, None, [])  # nothing is selected by itself
    selector.setCurrentNode(volume)
    selector.setCurrentNodeID(labels.GetID())
    scene.RemoveNode(labels)
    assert seen[:2] == [volume, labels]
    assert selector.currentNode() is volume  # Qt goes to the row above
    selector.setCurrentNode(None)
    assert validity == [True, True, True, False]
    selector.showChildNodeTypes = False
    assert selector.nodeCount() == 1
    for wrong in ("a text is an ID", 3):
        if isinstance(wrong, str):
            selector.setCurrentNode(wrong)
            assert selector.currentNode() is None
        else:
            with pytest.raises(ValueError, match="vtkMRMLNode"):
                selector.setCurrentNode(wrong)
    scene.Clear(0)
    assert selector.nodeCount() == 0


def test_node_selector_makes_nodes_and_looks_at_attributes(scene):
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLSegmentationNode"]
    selector.baseName = "Organs"
    selector.setMRMLScene(scene)
    made = selector.addNode()
    assert selector.currentNode() is made
    assert made.GetName().startswith("Organs")
    selector.addAttribute("vtkMRMLSegmentationNode", "MedSeg")
    assert selector.nodeCount() == 0
    made.SetAttribute("MedSeg", "1")
    selector.removeAttribute("vtkMRMLSegmentationNode", "MedSeg")
    assert selector.nodeCount() == 1


def test_volumes_and_segmentations_are_written_and_read(sample_ct_node, scene, tmp_path):
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(sample_ct_node)
    segment = segmentation.GetSegmentation().AddEmptySegment("a", "liver")
    mask = (slicer.util.arrayFromVolume(sample_ct_node) > 0).astype(np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, segment, sample_ct_node)
    assert slicer.util.saveNode(sample_ct_node, str(tmp_path / "ct.nrrd"), {})
    assert slicer.util.exportNode(segmentation, str(tmp_path / "s.seg.nrrd"), {})
    ct = slicer.util.loadVolume(str(tmp_path / "ct.nrrd"), {})
    again = slicer.util.loadSegmentation(str(tmp_path / "s.seg.nrrd"), {})
    assert np.array_equal(slicer.util.arrayFromVolume(ct), slicer.util.arrayFromVolume(sample_ct_node))
    assert np.array_equal(slicer.util.arrayFromSegmentBinaryLabelmap(again, "a", ct), mask)
    assert again.GetSegmentation().GetSegment("a").GetName() == "liver"
    assert slicer.util.saveScene(str(tmp_path / "all.mrml"), {})


def test_an_unreadable_file_raises(tmp_path, failures):
    (tmp_path / "no.seg.nrrd").write_bytes(b"nothing")
    with pytest.raises(RuntimeError, match="Failed to load"):
        slicer.util.loadSegmentation(str(tmp_path / "no.seg.nrrd"), {})
    failures.take()


def test_dialogs_are_written_down_and_answered(dialogs):
    dialogs.answer(qt.QMessageBox.Cancel, qt.QMessageBox.No)
    assert not slicer.util.confirmOkCancelDisplay("Remove the environment?")
    assert not slicer.util.confirmYesNoDisplay("Every frame?", windowTitle="Sequence")
    assert slicer.util.confirmYesNoDisplay("Again?") is False  # closed with OK, which is not Yes
    slicer.util.errorDisplay("It failed.", detailedText="why")
    assert dialogs.texts == ["Remove the environment?", "Every frame?", "Again?", "It failed. why"]
    assert dialogs.shown[1].title == "Sequence"
    dialog = qt.QDialog()
    dialogs.answer(lambda item: item is dialog)
    assert dialog.exec_() == qt.QDialog.Accepted.value


def test_testing_mode_answers_by_itself(app, dialogs):
    app._testing = True
    slicer.util.confirmOkCancelDisplay("Sure?")
    slicer.util.errorDisplay("It failed.")
    assert dialogs.shown == []


def test_packages_are_asked_for_and_written_down(dialogs, packaging, tmp_path):
    file = tmp_path / "requirements.txt"
    file.write_text("numpy>=1.0\nmedseg-nowhere>=0.1,<0.2  # ours\n", encoding="utf-8")
    wanted = slicer.packaging.load_requirements(file)
    assert slicer.packaging.pip_check(wanted[0])
    assert not slicer.packaging.pip_check(wanted)
    dialogs.answer(qt.QMessageBox.Cancel)
    with pytest.raises(RuntimeError, match="declined"):
        slicer.packaging.pip_ensure(wanted, requester="MedSeg")
    assert packaging.installed == []
    packaging.fail = True
    with pytest.raises(subprocess.CalledProcessError):
        slicer.packaging.pip_ensure(wanted, requester="MedSeg")
    slicer.packaging.pip_ensure(wanted, requester="MedSeg")
    assert packaging.installed == ["medseg-nowhere<0.2,>=0.1"]
    assert slicer.packaging.pip_check(wanted)
    with pytest.raises(TypeError):
        slicer.packaging.pip_ensure(wanted, requestor="MedSeg")


def test_settings_begin_empty_and_keep_what_is_set(app):
    assert app.userSettings().value("MedSeg/Way") is None
    app.userSettings().setValue("MedSeg/Way", "light")
    assert slicer.util.settingsValue("MedSeg/Way", "", settings=app.userSettings()) == "light"


def test_slice_views_show_where_a_place_is(app, sample_ct_node):
    widget = app.layoutManager().sliceWidget("Yellow")
    node = widget.mrmlSliceNode()
    assert node.GetOrientation() == "Sagittal"
    node.JumpSliceByCentering(10.0, -20.0, 30.0)
    centre = node.GetXYToRAS().MultiplyPoint((200.0, 200.0, 0.0, 1.0))[:3]
    assert np.allclose(centre, (10.0, -20.0, 30.0), atol=1.0)
    assert app.layoutManager().sliceWidget("Blue") is None


def test_the_sample_ct_is_what_it_says(sample_ct_node):
    array = slicer.util.arrayFromVolume(sample_ct_node)
    matrix = vtk.vtkMatrix4x4()
    sample_ct_node.GetIJKToRASMatrix(matrix)
    affine = slicer.util.arrayFromVTKMatrix(matrix)
    assert array.shape == (20, 48, 64)
    assert abs(affine[0, 1]) > 0.1  # oblique
    ball_mm3 = (array == 60).sum() * abs(np.linalg.det(affine[:3, :3]))
    assert ball_mm3 == pytest.approx(4 / 3 * np.pi * 10**3, rel=0.02)
