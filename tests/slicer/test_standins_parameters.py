"""The stand-in of parameterNodeWrapper keeps typed values as Slicer does, in the node and in the widgets."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import ctk
import pytest
import qt
import slicer
from slicer import vtkMRMLScalarVolumeNode
from slicer.parameterNodeWrapper import Choice, Decimals, Default, Maximum, Minimum, WithinRange, parameterNodeWrapper


class Way(enum.Enum):
    SMALL = "light"
    ALL = "full"


@parameterNodeWrapper
class Parameters:
    scan: vtkMRMLScalarVolumeNode
    radius_mm: Annotated[float, WithinRange(0, 30), Decimals(1)] = 5.0
    count: Annotated[int, Minimum(1), Maximum(9)] = 2
    fast: bool = True
    way: Way = Way.ALL
    planes: Annotated[str, Choice(["axial", "coronal"]), Default("coronal")]
    text: str
    folder: Path
    names: list[str]


@pytest.fixture
def node(scene):
    return scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "parameters")


@pytest.fixture
def parameters(node):
    return Parameters(node)


def test_defaults_are_written_into_the_node(parameters, node):
    assert (parameters.radius_mm, parameters.count, parameters.fast, parameters.way) == (5.0, 2, True, Way.ALL)
    assert (parameters.planes, parameters.text, parameters.folder, list(parameters.names)) == ("coronal", "", Path(), [])
    assert parameters.scan is None
    texts = {name: node.GetParameter(name) for name in node.GetParameterNames()}
    assert texts["radius_mm"] == "5.0"
    assert texts["fast"] == "True"
    assert texts["names.len"] == "0"
    assert Parameters(node).radius_mm == 5.0


def test_values_are_kept_in_the_node(parameters, node, sample_ct_node):
    parameters.radius_mm, parameters.way, parameters.scan, parameters.names = 7.5, Way.SMALL, sample_ct_node, ["a", "b"]
    parameters.names.append("c")
    again = Parameters(node)
    assert (again.radius_mm, again.way, again.scan, list(again.names)) == (7.5, Way.SMALL, sample_ct_node, ["a", "b", "c"])
    assert node.GetNodeReferenceID("scan") == sample_ct_node.GetID()
    parameters.scan = None
    assert again.scan is None


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("radius_mm", 31, ValueError),
        ("radius_mm", None, ValueError),
        ("radius_mm", "5", TypeError),
        ("count", 0, ValueError),
        ("count", 2.5, TypeError),
        ("fast", "yes", TypeError),
        ("way", "ALL", TypeError),
        ("planes", "oblique", ValueError),
        ("text", None, ValueError),
        ("folder", "/a", TypeError),
        ("names", [1], TypeError),
    ],
)
def test_wrong_values_raise_and_change_nothing(parameters, name, value, error):
    before = getattr(parameters, name)
    with pytest.raises(error):
        setattr(parameters, name, value)
    assert getattr(parameters, name) == before


def test_a_node_of_another_class_raises(parameters, scene):
    with pytest.raises(TypeError):
        parameters.scan = scene.AddNewNodeByClass("vtkMRMLModelNode")


def test_unknown_types_and_names_raise(parameters):
    with pytest.raises(TypeError, match="dict"):

        @parameterNodeWrapper
        class Unknown:
            table: dict[str, Any]

    with pytest.raises(ValueError, match="nowhere"):
        parameters.getValue("nowhere")
    with pytest.raises(AssertionError):
        Parameters(None)


def widgets(scene):
    made = {
        "scan": slicer.qMRMLNodeComboBox(),
        "radius_mm": ctk.ctkSliderWidget(),
        "count": qt.QSpinBox(),
        "fast": qt.QCheckBox(),
        "way": qt.QComboBox(),
        "planes": qt.QComboBox(),
        "text": qt.QLineEdit(),
        "folder": ctk.ctkPathLineEdit(),
    }
    made["scan"].noneEnabled = True
    made["scan"].setMRMLScene(scene)
    for name, widget in made.items():
        widget.setProperty("SlicerParameterName", name)
    return type("Ui", (), {})(), made


def test_what_is_joined_by_a_panel_gives_no_tag_to_part_it(parameters, scene):
    """Slicer's connectGui forgets to return the tag of connectParametersToGui."""
    ui, made = widgets(scene)
    vars(ui).update(made)
    tag = parameters.connectGui(ui)
    assert tag is None
    parameters.disconnectGui(tag)
    made["radius_mm"].value = 20
    assert parameters.radius_mm == 20.0


def test_widgets_and_node_follow_each_other(parameters, scene, sample_ct_node):
    _ui, made = widgets(scene)
    tag = parameters.connectParametersToGui(made)
    assert made["scan"].nodeTypes == ("vtkMRMLScalarVolumeNode",)
    assert (made["radius_mm"].value, made["radius_mm"].maximum, made["radius_mm"].decimals) == (5.0, 30.0, 1)
    assert (made["count"].minimum, made["count"].maximum, made["way"].currentText) == (1, 9, "ALL")
    made["scan"].setCurrentNode(sample_ct_node)
    made["radius_mm"].value = 12
    made["fast"].click()
    made["way"].currentIndex = 0
    made["planes"].currentIndex = 0
    made["text"].text = "a note"
    made["folder"].currentPath = "/a/b"
    assert parameters.scan is sample_ct_node
    assert (parameters.radius_mm, parameters.fast, parameters.way, parameters.planes) == (12.0, False, Way.SMALL, "axial")
    assert (parameters.text, parameters.folder) == ("a note", Path("/a/b"))
    parameters.radius_mm, parameters.count, parameters.way, parameters.scan = 3.0, 4, Way.ALL, None
    assert (made["radius_mm"].value, made["count"].value, made["way"].currentText) == (3.0, 4, "ALL")
    assert made["scan"].currentNode() is None
    parameters.disconnectGui(tag)
    made["radius_mm"].value = 20
    assert parameters.radius_mm == 3.0
    parameters.radius_mm = 1.0
    assert made["radius_mm"].value == 20.0


@pytest.mark.parametrize(("widget", "name"), [("QLabel", "fast"), ("QSlider", "radius_mm"), ("QComboBox", "text"), ("QCheckBox", "text")])
def test_a_widget_that_cannot_show_the_type_raises(parameters, widget, name):
    with pytest.raises(RuntimeError):
        parameters.connectParametersToGui({name: getattr(qt, widget)()})


def test_observers_are_told_once_for_one_change(parameters):
    import vtk

    calls = []
    tag = parameters.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_arguments: calls.append(1))
    with slicer.util.NodeModify(parameters):
        parameters.radius_mm = 6.0
        parameters.count = 3
    assert len(calls) == 1
    parameters.RemoveObserver(tag)
