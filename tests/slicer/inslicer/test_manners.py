"""What the stand-ins take for granted about PythonQt, Slicer's widgets and its editor: run here against them, inside Slicer
against the real things. A test that fails there names a stand-in to be corrected."""

from __future__ import annotations

import ctk
import numpy as np
import pytest
import qt
import slicer
import slicer.util
import vtk


def test_properties_are_attributes():
    label = qt.QLabel("one")
    label.text = "two"
    label.name = "label"
    assert (label.text, label.objectName, label.className()) == ("two", "label", "QLabel")
    with pytest.raises(AttributeError):
        _ = label.txt
    with pytest.raises(TypeError):
        label.text()


def test_slots_get_as_many_arguments_as_they_take():
    box, seen = qt.QCheckBox(), []
    box.connect("toggled(bool)", lambda: seen.append("none"))
    box.connect("toggled(bool)", seen.append)
    box.toggled.connect(seen.append)
    box.click()
    assert sorted(map(str, seen)) == ["True", "True", "none"]


def test_connections_hold_their_receiver():
    calls = []

    class Listener:
        def called(self):
            calls.append(1)

    button = qt.QPushButton()
    button.connect("clicked()", Listener().called)
    button.click()
    assert calls == [1]
    assert button.disconnect("clicked()")
    button.click()
    assert calls == [1]


def test_slider_is_bounded_and_tells_once():
    slider, seen = ctk.ctkSliderWidget(), []
    slider.maximum = 20
    slider.connect("valueChanged(double)", seen.append)
    slider.value = 5
    slider.value = 5
    slider.value = 50
    assert seen == [5.0, 20.0]


def test_collapsible_button_is_checked_when_open():
    button, seen = ctk.ctkCollapsibleButton(), []
    button.connect("contentsCollapsed(bool)", seen.append)
    button.collapsed = True
    assert (button.checked, seen) == (False, [True])


def test_folder_button_begins_at_the_working_folder():
    assert ctk.ctkDirectoryButton().directory == "."


def test_node_selector_selects_nothing_by_itself(scene):
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    assert not selector.enabled
    selector.setMRMLScene(scene)
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "a")
    assert selector.nodeTypes == ("vtkMRMLScalarVolumeNode",)
    assert selector.currentNode() is None
    selector.setCurrentNode(volume)
    assert selector.currentNodeID == volume.GetID()
    selector.setCurrentNode(None)
    assert selector.currentNode() is None


def test_a_removed_node_gives_way_to_the_row_above(scene):
    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.noneEnabled = True
    selector.setMRMLScene(scene)
    first, second = (scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name) for name in "ab")
    selector.setCurrentNode(second)
    scene.RemoveNode(second)
    assert selector.currentNode() is first


def test_data_nodes_get_an_item_in_the_hierarchy(scene, sample_ct_node):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    assert hierarchy.GetItemName(hierarchy.GetItemByDataNode(sample_ct_node)) == "sample CT"
    assert not hierarchy.GetItemByDataNode(sample_ct_node.GetDisplayNode())


def test_parameters_are_kept_as_the_stand_in_keeps_them(scene):
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    @parameterNodeWrapper
    class Kept:
        size_mm: float = 2.5
        on: bool = True
        names: list[str]

    node = scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    kept = Kept(node)
    kept.names = ["a", "b"]
    texts = {name: node.GetParameter(name) for name in node.GetParameterNames()}
    assert texts == {"size_mm": "2.5", "on": "True", "names.len": "2", "names.0": "a", "names.1": "b"}
    with pytest.raises(TypeError):
        kept.on = "yes"


def test_parameters_of_effects_are_texts_with_six_digits(sample_ct_node, scene, load_module, effect_host):
    load_module("SegmentEditorMedSeg")
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S")
    segmentation.GetSegmentation().AddEmptySegment("one", "one")
    host = effect_host(sample_ct_node, segmentation, "one")
    effect = host.effects["MedSegGrow"]
    effect.setParameter("Probe", 0.123456789)
    assert host.node.GetAttribute(f"{effect.name}.Probe") == "0.123457"


def test_the_sample_is_where_it_was_put(sample_ct_node):
    matrix = vtk.vtkMatrix4x4()
    sample_ct_node.GetIJKToRASMatrix(matrix)
    assert np.allclose(slicer.util.arrayFromVTKMatrix(matrix)[:3, 3], (-20.0, -25.0, 30.0))
