"""Tests of the 3D Slicer extension. In the environment with slicer-core the stand-ins play the application; inside Slicer
itself (SlicerPythonTestRunner) the same files use what is really there; anywhere else the folder is skipped with a reason."""

from __future__ import annotations

import gc
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
EXTENSION = ROOT / "slicer_extension"
NEEDED = ("slicer", "vtk", "PySide6", "packaging")


def _absence() -> str:
    """Why the folder cannot run here; empty where it can."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        return f"needs the environment of the Slicer tests ({', '.join(missing)} not installed): make test-slicer"
    version = tuple(int(part) for part in importlib.metadata.version("PySide6_Essentials").split(".")[:2])
    if version >= (6, 12) and sys.version_info < (3, 12):
        return "PySide6 6.12 and later lose references of None on Python before 3.12 and abort: install with constraints-slicer.txt"
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    try:
        importlib.import_module("PySide6.QtWidgets")
    except ImportError as error:
        return (
            f"Qt cannot be loaded ({error}): on Debian and Ubuntu "
            "apt-get install libegl1 libgl1 libxkbcommon0 libdbus-1-3 libfontconfig1 libglib2.0-0"
        )
    return ""


IN_SLICER = hasattr(sys.modules.get("slicer"), "app") and "standins" not in sys.modules
ABSENCE = "" if IN_SLICER else _absence()
STAND_INS: Any = None
collect_ignore_glob = ["standins/*"]  # nothing to collect there

if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))  # helpers shared by the test files lie beside them
if not IN_SLICER and not ABSENCE:
    import standins

    STAND_INS = standins.install()
    gc.freeze()  # what is there now stays: the collection after each test looks at the test's own objects


class _Skipped(pytest.File):
    """Stands for a test file that cannot run here."""

    def collect(self) -> list[pytest.Item]:
        pytest.skip(ABSENCE)


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> Iterator[None]:
    collectors = yield
    return [_Skipped.from_parent(parent, path=file_path)] if ABSENCE and collectors else collectors


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans (MEDSEG_TEST_DATA, default ../shared/data); the test is skipped where it is absent."""
    folder = Path(os.environ.get("MEDSEG_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "MANIFEST.tsv").is_file():
        pytest.skip("no folder of real scans: set MEDSEG_TEST_DATA to run this test")
    return folder


@pytest.fixture
def scene() -> Any:
    """The scene; empty at the start of every test."""
    import slicer

    return slicer.mrmlScene


@pytest.fixture
def app() -> Any:
    """slicer.app."""
    import slicer

    return slicer.app


if STAND_INS is not None:
    from standins import dialogs as _dialogs
    from standins import errors as _errors
    from standins import packages as _packages
    from standins import qt_module as _qt_module
    from standins.effect_host import EffectHost, qSlicerSegmentEditorEffectFactory
    from standins.fake_worker import FakeWorker
    from standins.pythonqt import detach_all

    @pytest.fixture(autouse=True)
    def strict() -> Iterator[Any]:
        """An empty scene before; afterwards no error in slots, observers, VTK or Qt, no cursor, timer or dialog left."""
        import qt

        _clean()
        _errors.failures.take()
        hook, sys.excepthook = sys.excepthook, _errors._unhandled
        finders, package = list(sys.meta_path), _medseg_modules()
        yield _errors.failures
        sys.excepthook = hook
        while _hosts:
            _hosts.pop().close()
        _unload_all()
        _restore_medseg(finders, package)
        gc.collect()
        _clean()
        problems = _errors.failures.take()
        if qt.QApplication.overrideCursor() is not None:
            problems.append("an override cursor was left")
            while qt.QApplication.overrideCursor() is not None:
                qt.QApplication.restoreOverrideCursor()
        problems += _qt_module.leftovers()
        assert not problems, "\n".join(problems)

    _hosts: list[Any] = []
    _loaded: list[Any] = []

    def _clean() -> None:
        import qt

        qt.QCoreApplication.sendPostedEvents(None, qt.QEvent.DeferredDelete)
        qt.QApplication.processEvents()
        STAND_INS.core.clear()
        STAND_INS.app.layoutManager().restore()
        STAND_INS.app.userSettings().clear()
        STAND_INS.app._testing = False
        _dialogs.dialogs.clear()
        _packages.packaging.clear()

    def _medseg_modules() -> dict[str, Any]:
        return {name: module for name, module in sys.modules.items() if name == "medseg" or name.startswith("medseg.")}

    def _restore_medseg(finders: list[Any], package: dict[str, Any]) -> None:
        """A test of the installation forgets medseg; a second copy of its classes would not equal those of the test files."""
        sys.meta_path[:] = finders
        if any(sys.modules.get(name) is not module for name, module in package.items()):
            for name in _medseg_modules():
                del sys.modules[name]
            sys.modules.update(package)

    def _unload_all() -> None:
        STAND_INS.app.aboutToQuit.emit()  # each test ends as the application does
        qSlicerSegmentEditorEffectFactory.instance().forget()
        while _loaded:
            STAND_INS.app.moduleManager().unload(_loaded.pop())
        for owner in (STAND_INS.app, STAND_INS.app.moduleManager(), qSlicerSegmentEditorEffectFactory.instance()):
            detach_all(owner)
        folders = {str(path) for path in EXTENSION.glob("*/")}
        sys.path[:] = [entry for entry in sys.path if entry not in folders]

    @pytest.fixture
    def failures(strict: Any) -> Any:
        """The errors noted so far: `failures.expect("text")` takes an expected one out."""
        return strict

    @pytest.fixture
    def dialogs() -> Any:
        """The record of dialogs: `answer(...)` queues answers, `shown` and `texts` tell what was asked."""
        _dialogs.dialogs.allowed = True
        return _dialogs.dialogs

    @pytest.fixture
    def packaging() -> Any:
        """What would have been installed by slicer.packaging."""
        return _packages.packaging

    @pytest.fixture
    def load_module() -> Callable[..., Any]:
        """load_module("MedSeg") loads slicer_extension/MedSeg/MedSeg.py (or a given path) as the application does at its
        start, sends startupCompleted and returns the module; `widget=True` returns the Python widget, set up and entered."""

        def load(name: str, path: Path | None = None, *, widget: bool = False, startup: bool = True) -> Any:
            if path is None:  # an installed extension lies in one folder: every module sees the others' files
                sys.path.extend(str(entry) for entry in EXTENSION.glob("*/") if str(entry) not in sys.path)
            module = STAND_INS.app.moduleManager().load(Path(path or EXTENSION / name / f"{name}.py"))
            _loaded.append(module)
            if startup:
                STAND_INS.app.startupCompleted.emit()
            if not widget:
                return module
            module.widgetRepresentation().enter()
            return module.widgetRepresentation().self()

        return load

    @pytest.fixture
    def effect_host() -> Callable[..., Any]:
        """effect_host(volume, segmentation, segment_id=None) makes an editor with all effects registered so far."""

        def make(volume: Any, segmentation: Any, segment_id: str | None = None, **options: Any) -> Any:
            host = EffectHost(volume, segmentation, segment_id, **options)
            _hosts.append(host)
            return host

        return make

    @pytest.fixture
    def fake_worker(tmp_path: Path) -> Any:
        """A worker process that follows the test's script: .answer(do, *steps), .result(do, ...), .refuse(do, sentence),
        .never_ready(); .command and .factory start it, .jobs is what arrived."""
        return FakeWorker(tmp_path)

    @pytest.fixture(scope="session")
    def opengl() -> None:
        """Skips where nothing can be drawn."""
        from standins.pictures import why_not

        reason = why_not()
        if reason:
            pytest.skip(reason)

    @pytest.fixture
    def slice_picture(opengl: None) -> Callable[..., Any]:
        """slice_picture(volume, ras, view="Red", size=(400, 400)) → pixels as Slicer draws them, and pixel → RAS."""
        from standins import pictures

        def draw(*arguments: Any, **options: Any) -> Any:
            drawn = pictures.slice_picture(STAND_INS.core, *arguments, **options)
            _forget_missing_display()
            return drawn

        return draw

    @pytest.fixture
    def solid_picture(opengl: None) -> Callable[..., Any]:
        """solid_picture(segmentation, size=(400, 400)) → pixels of its surfaces in Slicer's 3D view, from the front."""
        from standins import pictures

        def draw(*arguments: Any, **options: Any) -> Any:
            drawn = pictures.solid_picture(STAND_INS.core, *arguments, **options)
            _forget_missing_display()
            return drawn

        return draw

    def _forget_missing_display() -> None:
        """VTK looks for an X server before it takes EGL or OSMesa, and warns that there is none."""
        for sentence in _errors.failures.take():
            if "bad X server connection" not in sentence:
                _errors.failures.add(sentence)

    @pytest.fixture(scope="session")
    def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The folder for pictures to look at: MEDSEG_TEST_PICTURES, or a temporary one."""
        folder = Path(os.environ.get("MEDSEG_TEST_PICTURES") or tmp_path_factory.mktemp("pictures"))
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @pytest.fixture
    def wait_until() -> Callable[..., None]:
        """wait_until(condition, seconds=10) runs the event loop until the condition holds; fails when it does not."""
        import time

        import qt

        def wait(condition: Callable[[], bool], seconds: float = 10.0) -> None:
            end = time.monotonic() + seconds
            while not condition():
                assert time.monotonic() < end, f"not within {seconds} s"
                qt.QApplication.processEvents()
                time.sleep(0.005)

        return wait


@pytest.fixture
def sample_ct_node(scene: Any) -> Any:
    """A small synthetic CT of a bright ball (radius 10 mm, 60 HU) in fat (-100 HU); spacing 0.8, 1.1, 2.5 mm, oblique."""
    import slicer
    import slicer.util

    matrix = np.eye(4)
    angle = np.radians(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    matrix[:3, :3] = turn @ np.diag([0.8, 1.1, 2.5])
    matrix[:3, 3] = (-20.0, -25.0, 30.0)
    shape = (20, 48, 64)  # k, j, i
    index = np.stack(np.meshgrid(*(np.arange(size) for size in shape[::-1]), indexing="ij"), axis=-1)
    ras = index @ matrix[:3, :3].T + matrix[:3, 3]
    centre = np.array([32, 24, 10]) @ matrix[:3, :3].T + matrix[:3, 3]
    ball = np.linalg.norm(ras - centre, axis=-1) <= 10.0
    array = np.where(ball, 60, -100).astype(np.int16).T
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "sample CT")
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(array))
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    node.CreateDefaultDisplayNodes()
    return node
