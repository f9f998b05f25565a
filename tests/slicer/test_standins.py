"""The stand-ins of `qt` and `ctk` behave as PythonQt and CTK do, and raise on anything they do not know."""

from __future__ import annotations

from pathlib import Path

import ctk
import pytest
import qt
import slicer
import slicer.util

UI = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0"><class>Panel</class>
 <widget class="qMRMLWidget" name="Panel">
  <layout class="QVBoxLayout" name="column">
   <item><widget class="{kind}" name="part">{properties}</widget></item>
   <item><widget class="QLineEdit" name="text"/></item>
  </layout>
 </widget>
 <connections>{connections}</connections>
</ui>"""


@pytest.fixture
def ui_file(tmp_path):
    def write(kind="QLabel", properties="", connections=""):
        path = tmp_path / "Panel.ui"
        path.write_text(UI.format(kind=kind, properties=properties, connections=connections), encoding="utf-8")
        return str(path)

    return write


def test_properties_are_attributes_and_setters_stay():
    button = qt.QPushButton("one")
    assert (button.text, button.enabled, button.visible, button.name) == ("one", True, False, "")
    button.text = "two"
    button.enabled = False
    button.name = "button"
    assert (button.text, button.isEnabled(), button.objectName) == ("two", False, "button")
    button.setText("three")
    assert button.text == "three"
    assert button.className() == "QPushButton"
    assert qt.QSpinBox().value == 0
    assert isinstance(qt.QVBoxLayout().spacing, int)  # a getter that is virtual in C++


def test_a_list_of_texts_comes_as_a_tuple():
    combo = slicer.qMRMLNodeComboBox()
    combo.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    assert combo.nodeTypes == ("vtkMRMLScalarVolumeNode",)


@pytest.mark.parametrize(
    ("attempt", "error"),
    [
        (lambda item: item.txt, AttributeError),
        (lambda item: setattr(item, "txt", "a"), AttributeError),
        (lambda item: setattr(item, "text", 3), TypeError),
        (lambda item: setattr(item, "text", None), ValueError),
        (lambda item: setattr(item, "height", 3), AttributeError),  # a property that cannot be written
        (lambda item: item.text(), TypeError),  # the property hides the method, as in PythonQt
        (lambda item: item.connect("clickedd(bool)", print), ValueError),
        (lambda item: item.connect("clicked", print), ValueError),
        (lambda item: item.connect("clicked(int)", print), ValueError),
        (lambda item: item.connect("clicked()", "print"), TypeError),
        (lambda item: item.disconnect("pressedd()"), ValueError),
        (lambda item: item.setTxt("a"), AttributeError),
    ],
)
def test_what_pythonqt_lacks_raises(attempt, error):
    with pytest.raises(error):
        attempt(qt.QPushButton("one"))


@pytest.mark.parametrize("name", ["QTextCodec", "Signal", "Slot", "Property", "QtCore", "pyqtSignal", "QFoo"])
def test_qt_has_only_what_slicer_shows(name):
    with pytest.raises(AttributeError, match=name):
        getattr(qt, name)


def test_a_python_class_over_qt_keeps_its_own_attributes():
    class Panel(qt.QWidget):
        def __init__(self):
            super().__init__()
            self.rows = 3
            self.windowTitle = "a title"

        def sizeHint(self):
            return qt.QSize(7, 8)

    panel = Panel()
    assert (panel.rows, panel.windowTitle, panel.sizeHint().width()) == (3, "a title", 7)


def test_slots_get_as_many_arguments_as_they_take():
    box, seen = qt.QCheckBox(), []

    class Listener:
        def nothing(self):
            seen.append("method")

        def value(self, on):
            seen.append(("method", on))

    listener = Listener()
    box.connect("toggled(bool)", lambda: seen.append("lambda"))
    box.connect("toggled(bool)", listener.nothing)
    box.connect("toggled(bool)", listener.value)
    box.connect("clicked()", lambda *values: seen.append(values))
    box.toggled.connect(lambda on: seen.append(("signal", on)))
    box.click()
    assert sorted(map(str, seen)) == sorted(map(str, ["lambda", "method", ("method", True), ("signal", True), ()]))


def test_connections_hold_the_receiver_and_end_by_disconnect():
    class Listener:
        calls = 0

        def called(self):
            Listener.calls += 1

    button = qt.QPushButton()
    button.connect("clicked()", Listener().called)  # PythonQt keeps the object alive, PySide6 alone would not
    button.click()
    assert Listener.calls == 1
    assert button.disconnect("clicked()")
    assert not button.disconnect("clicked()")
    button.click()
    assert Listener.calls == 1


def test_a_signal_may_go_to_a_slot_by_name():
    box, label = qt.QCheckBox(), qt.QLabel()
    box.connect("toggled(bool)", label, "setEnabled(bool)")
    box.setChecked(True)
    box.setChecked(False)
    assert not label.enabled


def test_ui_file_is_loaded_with_its_connections(ui_file, scene):
    chain = (
        "<connection><sender>Panel</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>"
        "<receiver>part</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection>"
    )
    settings = (
        '<property name="noneEnabled"><bool>true</bool></property>'
        '<property name="SlicerParameterName" stdset="0"><string>scan</string></property>'
    )
    widget = slicer.util.loadUI(ui_file("qMRMLNodeComboBox", settings, chain))
    ui = slicer.util.childWidgetVariables(widget)
    assert ui.part.noneEnabled
    assert ui.part.property("SlicerParameterName") == "scan"
    assert ui.part.mrmlScene() is None
    widget.setMRMLScene(scene)
    assert ui.part.mrmlScene() is scene
    assert ui.text.text == ""


@pytest.mark.parametrize(
    ("kind", "properties", "connections", "message"),
    [
        ("ctkFoo", "", "", "ctkFoo"),
        ("ctkSliderWidget", '<property name="minimun"><double>1</double></property>', "", "minimun"),
        (
            "ctkSliderWidget",
            "",
            "<connection><sender>part</sender><signal>valueChange(double)</signal><receiver>text</receiver><slot>setText(QString)</slot></connection>",
            "valueChange",
        ),
    ],
)
def test_ui_file_with_unknown_parts_raises(ui_file, kind, properties, connections, message):
    with pytest.raises((RuntimeError, ValueError), match=message):
        slicer.util.loadUI(ui_file(kind, properties, connections))


def test_ui_file_that_is_missing_raises(tmp_path):
    with pytest.raises(RuntimeError, match="not found"):
        slicer.util.loadUI(str(tmp_path / "none.ui"))


def test_slider_keeps_its_bounds_and_tells_changes_once():
    slider, seen = ctk.ctkSliderWidget(), []
    slider.maximum = 20.0
    slider.connect("valueChanged(double)", seen.append)
    slider.value = 5
    slider.value = 5
    slider.value = 50
    slider.minimum = 30  # above the value: the value follows
    assert seen[:2] == [5.0, 20.0]
    slider.setRange(-1, 1)
    assert slider.value == 1.0
    slider.spinBox().value = 0.5
    assert slider.value == 0.5
    slider.decimals = 0
    assert slider.spinBox().decimals == 0


def test_range_keeps_its_two_ends_in_order():
    widget, seen = ctk.ctkRangeWidget(), []
    widget.connect("valuesChanged(double,double)", lambda low, high: seen.append((low, high)))
    widget.setRange(-100, 300)
    widget.setValues(-5, 20)
    widget.minimumValue = 40
    assert (widget.minimumValue, widget.maximumValue) == (40.0, 40.0)
    widget.setValues(-500, 500)
    assert seen[-1] == (-100.0, 300.0)


@pytest.mark.parametrize(
    ("kind", "name"), [("ctkDoubleSlider", "decimals"), ("ctkDoubleRangeSlider", "suffix"), ("ctkDoubleSpinBox", "pageStep")]
)
def test_ctk_widgets_have_no_property_that_ctk_lacks(kind, name):
    with pytest.raises(AttributeError):
        setattr(getattr(ctk, kind)(), name, 1)


def test_collapsible_button_hides_what_it_holds():
    button, seen = ctk.ctkCollapsibleButton(), []
    layout = qt.QVBoxLayout(button)
    child, hidden = qt.QLabel("seen"), qt.QLabel("hidden by the module")
    layout.addWidget(child)
    layout.addWidget(hidden)
    hidden.setVisible(False)
    button.connect("contentsCollapsed(bool)", seen.append)
    button.show()
    button.collapsed = True
    assert (child.visible, button.checked) == (False, False)
    button.click()
    assert (button.collapsed, child.visible, hidden.visible, seen) == (False, True, False, [True, False])
    button.close()


def test_path_and_folder(dialogs, tmp_path):
    path, button, seen = ctk.ctkPathLineEdit(), ctk.ctkDirectoryButton(), []
    path.connect("currentPathChanged(QString)", seen.append)
    path.currentPath = "/a/b"
    path.filters = ctk.ctkPathLineEdit.Dirs
    dialogs.answer(str(tmp_path), None)
    path.browse()
    path.browse()  # the user gives no answer: nothing changes
    assert seen == ["/a/b", str(tmp_path)]
    assert button.directory == "."
    button.directory = "a/b"
    assert Path(button.directory) == Path("a/b").resolve()


def test_file_dialogs_give_the_path_alone(dialogs, tmp_path):
    dialogs.answer(tmp_path / "a.csv")
    assert qt.QFileDialog.getSaveFileName(None, "Save", "", "*.csv") == str(tmp_path / "a.csv")
    assert qt.QFileDialog.getOpenFileName(None, "Open") == ""
    assert [shown.title for shown in dialogs.shown] == ["Save", "Open"]


def test_timers_run_and_single_shots_too(wait_until):
    timer, seen = qt.QTimer(), []
    timer.setInterval(1)
    timer.connect("timeout()", lambda: seen.append("timer"))
    timer.start()
    qt.QTimer.singleShot(0, lambda: seen.append("shot"))
    wait_until(lambda: {"timer", "shot"} <= set(seen))
    timer.stop()


def test_a_process_is_read_and_ends(wait_until):
    import sys

    process, seen = qt.QProcess(), []
    process.connect("finished(int,QProcess::ExitStatus)", lambda code, _status: seen.append(code))
    process.start(sys.executable, ["-c", "print('ready'); raise SystemExit(3)"])
    wait_until(lambda: bool(seen))
    assert seen == [3]
    assert bytes(process.readAllStandardOutput().data()).decode().strip() == "ready"
