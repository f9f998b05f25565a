"""What would pass unseen in Slicer fails a test here; and where slicer-core is absent the folder is skipped with a reason."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
# what a test does → what the fixture says about it
CASES = {
    "slot": ("button = qt.QPushButton(); button.connect('clicked()', lambda: 1 / 0); button.click()", "ZeroDivisionError"),
    "native_slot": ("button = qt.QPushButton(); button.clicked.connect(lambda: 1 / 0); button.click()", "ZeroDivisionError"),
    "observer": (
        "tag = scene.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: 1 / 0); scene.Modified(); scene.RemoveObserver(tag)",
        "ZeroDivisionError",
    ),
    "timer_slot": ("qt.QTimer.singleShot(0, lambda: 1 / 0); wait_until(lambda: failures.seen)", "ZeroDivisionError"),
    "vtk_error": ("vtk.vtkImageReslice().Update()", "VTK error"),
    "vtk_warning": ("vtk.vtkOutputWindow.GetInstance().DisplayWarningText('a warning')", "VTK warning"),
    "qt_warning": ("widget = qt.QWidget(); qt.QVBoxLayout(widget); qt.QVBoxLayout(widget)", "already has a layout"),
    "cursor": ("qt.QApplication.setOverrideCursor(qt.Qt.WaitCursor)", "an override cursor was left"),
    "timer": ("timer = qt.QTimer(); timer.start(1000); kept.append(timer)", "a timer of 1000 ms still runs"),
    "single_shot": ("qt.QTimer.singleShot(60000, print)", "a timer of 60000 ms still runs"),
    "process": (
        "process = qt.QProcess(); process.start(sys.executable, ['-c', 'input()']); process.waitForStarted(); kept.append(process)",
        "a process still runs",
    ),
    "dialog": ("qt.QMessageBox.warning(None, 'title', 'a question')", "a dialog nobody expected was opened"),
    "error_dialog": ("slicer.util.errorDisplay('a message')", "a dialog nobody expected was opened"),
}
HEAD = "import sys, pytest, qt, slicer, slicer.util, vtk, medseg.core.segment as segments\nkept = []\n"
CLEAN = """
def test_clean(scene):
    qt.QPushButton().click()

def test_forgets_medseg(scene):
    for name in [name for name in sys.modules if name.partition(".")[0] == "medseg"]:
        del sys.modules[name]

def test_has_the_same_medseg(scene):
    from medseg.core.segment import Segment
    assert Segment is segments.Segment
"""


def run(arguments, **environment):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", *arguments]
    variables = {**os.environ, "PYTHONPATH": str(HERE), "QT_QPA_PLATFORM": "offscreen", **environment}
    return subprocess.run(command, capture_output=True, text=True, env=variables, cwd=HERE, timeout=120, check=False).stdout


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """All cases run once in a pytest of their own, with this folder's conftest as a plug-in: test → what its teardown said."""
    folder = tmp_path_factory.mktemp("strict")
    tests = [f"def test_{name}(scene, wait_until, failures):\n    {code}\n\n" for name, (code, _) in CASES.items()]
    tests.append(CLEAN)
    (folder / "test_cases.py").write_text(HEAD + "\n".join(tests), encoding="utf-8")
    report = folder / "report.xml"
    output = run(["-p", "conftest", f"--junitxml={report}", "-c", os.devnull, "--rootdir", str(folder), str(folder / "test_cases.py")])
    assert report.exists(), output[-3000:]
    return {
        entry.get("name"): [(part.tag, part.get("message", "")) for part in entry if part.tag in ("failure", "error")]
        for entry in ET.parse(report).iter("testcase")
    }


@pytest.mark.parametrize("case", CASES)
def test_what_happens_unseen_fails_the_test(outcomes, case):
    kinds = outcomes[f"test_{case}"]
    assert [kind for kind, _ in kinds] == ["error"]  # the test itself goes through; the fixture fails it afterwards
    assert CASES[case][1] in kinds[0][1]


@pytest.mark.parametrize("name", ["clean", "forgets_medseg", "has_the_same_medseg"])
def test_a_clean_test_after_all_of_them_passes(outcomes, name):
    assert outcomes[f"test_{name}"] == []


def test_the_folder_is_skipped_with_a_reason_where_slicer_core_is_absent(tmp_path):
    (tmp_path / "absent.py").write_text(
        "import importlib.util\nfind = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *more: None if name == 'slicer' else find(name, *more)\n",
        encoding="utf-8",
    )
    output = run(
        ["-p", "absent", "-rs", "-c", os.devnull, "--rootdir", str(HERE.parents[1]), "--doctest-modules", str(HERE)],
        PYTHONPATH=f"{tmp_path}{os.pathsep}{HERE.parents[1]}",
    )
    assert "make test-slicer" in output, output[-3000:]
    assert "passed" not in output
    assert "error" not in output.lower(), output[-3000:]
