"""Installation in the background: steps, cancelling, a true environment, and the buttons of the panel."""

from __future__ import annotations

import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import slicer

pytest_plugins = ["module_fixtures"]

ROOT = Path(__file__).resolve().parents[2]
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def installation(load_module, tmp_path):
    """An installation whose environment would be made in an empty folder."""
    load_module("MedSeg")
    from MedSegLib.install import Installation

    made = Installation()
    made.folder = str(tmp_path / "environment")
    yield made
    from MedSegLib import finder

    finder.leaveEnvironment()


def test_steps_run_one_after_another_and_stop_at_the_first_failure(installation, wait_until):
    from MedSegLib.steps import Step, Steps

    lines: list[str] = []
    ended: list[tuple[bool, str]] = []
    python = sys.executable
    steps = [
        Step("first", (python, "-c", "print('hello')")),
        Step("second", (python, "-c", "import sys; print('ERROR: No matching distribution found for medseg'); sys.exit(3)")),
        Step("third", (python, "-c", "print('never')")),
    ]
    runner = Steps(steps, lines.append, lambda done, sentence: ended.append((done, sentence)))
    runner.start()
    wait_until(lambda: bool(ended))
    assert lines[:3] == ["Step 1 of 3: first", "hello", "Step 2 of 3: second"]
    assert "never" not in lines
    assert ended == [(False, ended[0][1])]
    assert "medseg bundle" in ended[0][1]


def test_steps_can_be_cancelled_with_everything_they_started(installation, wait_until, tmp_path):
    from MedSegLib.steps import Step, Steps

    ended: list[tuple[bool, str]] = []
    pid = tmp_path / "pid"
    child = "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    code = f"import subprocess, sys, time; {child}; open({str(pid)!r}, 'w').write(str(p.pid)); time.sleep(60)"
    runner = Steps([Step("long", (sys.executable, "-c", code))], lambda line: None, lambda done, sentence: ended.append((done, sentence)))
    runner.start()
    wait_until(lambda: pid.exists() and pid.read_text() != "")
    runner.cancel()
    assert ended[0][0] is False
    assert "Cancelled" in ended[0][1]

    def gone() -> bool:
        path = Path(f"/proc/{pid.read_text()}/stat")
        return not path.exists() or path.read_text().split()[2] == "Z"

    wait_until(gone, 60)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("PermissionError: [Errno 13]", "cannot be written"),
        ("boom", "log says why"),
    ],
)
def test_failures_are_told_by_what_to_do(installation, line, word):
    from MedSegLib.steps import whyFailed

    assert word in whyFailed("Install", ["before", line, "after"])


def test_a_missing_program_is_a_sentence(installation):
    from MedSegLib.steps import Step, Steps

    ended: list[tuple[bool, str]] = []
    Steps([Step("Make", ("/nowhere/python", "-V"))], lambda line: None, lambda done, sentence: ended.append((done, sentence))).start()
    assert ended[0][0] is False
    assert "could not be started" in ended[0][1]


def test_a_python_of_this_machine_is_found(installation):
    from MedSegLib import install

    python = install.findPython()
    assert install.pythonVersion(python, install.cleanEnvironment()) >= (3, 10)
    assert install.pythonVersion("/nowhere/python") == (0, 0)


def test_a_true_environment_can_be_made(installation, wait_until, monkeypatch):
    """The steps with a stand-in for pip's download: an environment, and the marker that the new Python itself writes last."""
    from MedSegLib import install
    from MedSegLib.steps import Step, Steps

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(1e12, 0, 1e12))
    steps = installation.fullSteps(install.findPython())
    link = "import site,sys; open(site.getsitepackages()[0]+'/medseg.pth','w').write(sys.argv[1])"
    steps[0] = Step(steps[0].title, (*steps[0].command, "--without-pip"), steps[0].environment)
    steps[1] = Step(steps[1].title, (steps[1].command[0], "-c", link, str(ROOT)), steps[1].environment)
    del steps[2]  # needs numba
    ended: list[Any] = []
    Steps(steps, lambda line: None, lambda done, sentence: ended.append((done, sentence))).start()
    wait_until(lambda: bool(ended), 60)
    assert ended == [(True, "")]
    installation.fullDone()
    assert installation.state().ready


def test_the_panel_shows_the_state_and_installs_what_is_chosen(load_module, packaging, monkeypatch):
    load_module("MedSeg")
    monkeypatch.setattr("MedSegLib.finder.isImportable", lambda *names: "slicer.packaging" in names)
    slicer.modules.medseg.widgetRepresentation().enter()
    widget = slicer.modules.medseg.widgetRepresentation().self()
    ui = widget.ui
    assert not ui.noticeArea.isHidden()
    assert "not installed yet" in ui.noticeLabel.text
    assert "not installed yet" in ui.applyButton.toolTip
    ui.noticeButton.click()
    assert not ui.setupSection.collapsed
    ui.installButton.click()
    assert "Choose Light, Full or Remote" in ui.setupLabel.text
    ui.remoteRadio.checked = True
    assert ui.installButton.text == "Use"
    ui.addressBox.setEditText("https://server:8042")
    ui.installButton.click()
    assert "later version" in ui.setupLabel.text
    ui.fullRadio.checked = True
    ui.folderEdit.setCurrentPath("/proc/medseg")
    ui.installButton.click()
    assert "cannot be written" in ui.setupLabel.text
    ui.doctorButton.click()
    assert "later version" in ui.doctorLabel.text
    ui.lightRadio.checked = True
    monkeypatch.undo()
    ui.installButton.click()
    assert widget.setupPanel.installation.kind == "light"
    assert ui.noticeArea.isHidden()


def test_the_doctor_asks_the_worker(load_module, monkeypatch, wait_until):
    import module_fakes as fakes

    load_module("MedSeg")
    checks = [{"name": "disk", "status": "warning", "sentence": "3 GB are free <here>", "advice": "Remove files."}]
    worker = fakes.FakeWorker(fakes.answers(doctor=fakes.result(checks=checks)))
    monkeypatch.setattr("MedSegLib.session._installedWorker", lambda session: worker)
    widget = slicer.modules.medseg.widgetRepresentation().self()
    widget.ui.doctorButton.click()
    wait_until(lambda: "3 GB" in widget.ui.doctorLabel.text)
    assert "&lt;here&gt; <i>Remove files.</i>" in widget.ui.doctorLabel.text
    worker.answers["doctor"] = fakes.error("the worker cannot be started")
    widget.ui.doctorButton.click()
    wait_until(lambda: "cannot be started" in widget.ui.doctorLabel.text)
    widget.ui.filesButton.click()
    assert worker.closed


@pytest.mark.parametrize("do", ["audit", "segment"])
@pytest.mark.parametrize("button", ["installButton", "removeButton", "updateButton", "filesButton"])
def test_what_runs_hears_that_it_was_cancelled(load_module, packaging, dialogs, monkeypatch, button, do):
    """Installing, updating and removing end the worker; a run must not wait for an answer that never comes."""
    import module_fakes as fakes
    import qt

    load_module("MedSeg")
    from MedSegLib.session import Session

    worker = fakes.FakeWorker({do: []})
    monkeypatch.setattr("MedSegLib.session._installedWorker", lambda session: worker)
    setup = slicer.modules.medseg.widgetRepresentation().self().setupPanel
    setup.installation.kind = "light"
    setup.ui.lightRadio.checked = True
    setup.update()
    heard: list[dict[str, Any]] = []
    Session.instance().submit({"do": do}, heard.append)
    if button == "removeButton":
        dialogs.answer(qt.QMessageBox.Ok)
    getattr(setup.ui, button).click()
    if (button, do) == ("filesButton", "segment"):  # refused: the run goes on
        assert heard == []
        assert "A run is going on" in setup.ui.setupLabel.text
        Session.discard()
        return
    assert [event["kind"] for event in heard] == ["Cancelled"]
    assert worker.cancelled or worker.closed


def test_light_on_an_old_slicer_ends_no_run(load_module, monkeypatch):
    import module_fakes as fakes

    load_module("MedSeg")
    from MedSegLib.session import Session

    worker = fakes.FakeWorker({"segment": []})
    monkeypatch.setattr("MedSegLib.session._installedWorker", lambda session: worker)
    monkeypatch.setattr("MedSegLib.install.slicerVersion", lambda: (5, 10))
    ui = slicer.modules.medseg.widgetRepresentation().self().ui
    ui.lightRadio.checked = True
    heard: list[dict[str, Any]] = []
    Session.instance().submit({"do": "segment"}, heard.append)
    ui.installButton.click()
    assert heard == []
    assert "choose Full" in ui.setupLabel.text or "Choose Full" in ui.setupLabel.text
    Session.discard()


def test_the_doctor_sees_disk_folder_and_python_before_anything_is_installed(load_module, monkeypatch):
    load_module("MedSeg")
    monkeypatch.setattr("MedSegLib.finder.isImportable", lambda *names: False)
    widget = slicer.modules.medseg.widgetRepresentation().self()
    label = widget.ui.doctorLabel
    widget.setupPanel.installation.folder = "/proc/medseg/environment"
    widget.ui.doctorButton.click()
    assert "not installed yet" in label.text
    assert "/proc/medseg/environment cannot be written" in label.text
    assert "A Python that can make the full installation" in label.text
    assert "GB are free for Slicer" in label.text
    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage(1e12, 0, 2.5e9))
    monkeypatch.setattr("MedSegLib.install.pythonVersion", lambda python, environment=None: (0, 0))
    widget.ui.doctorButton.click()
    assert "2.5 GB are free for Slicer" in label.text
    assert "<i>Free some space" in label.text
    assert "No Python from 3.10 on was found" in label.text


@pytest.mark.parametrize("button", ["filesButton", "installButton"])
@pytest.mark.parametrize("stage", ["audit", "segment"])
def test_the_panel_does_not_wait_for_a_run_whose_worker_was_ended(panel, worker, packaging, sample_ct_node, wait_until, stage, button):
    import module_fakes as fakes

    panel._parameterNode.inputVolume = sample_ct_node
    fakes.choose(panel, "needs nothing")
    worker.answers[stage] = []
    panel.ui.applyButton.click()
    wait_until(lambda: stage in worker.did())
    assert panel.run is not None
    panel.ui.lightRadio.checked = True
    getattr(panel.ui, button).click()
    if (button, stage) == ("filesButton", "segment"):
        assert panel.run is not None
        panel.ui.applyButton.click()
    assert panel.run is None
    assert panel.ui.applyButton.text == "Apply"
    assert "Cancelled" in panel.ui.statusLabel.text
