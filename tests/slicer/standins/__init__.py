"""Stand-ins for the parts of 3D Slicer that its Python package slicer-core lacks: Qt and ctk by PySide6, the application,
scripted modules, parameter nodes and the host of Segment Editor effects. Written for the tests; anything unknown raises."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class StandIns:
    """What the fixtures use."""

    core: Any
    app: Any
    folder: Path


_installed: list[StandIns] = []


def install() -> StandIns:
    """Installs everything once, in the one order that works, and returns it."""
    if _installed:
        return _installed[0]
    from standins import dialogs, errors, pythonqt, qt_module

    errors.install()
    pythonqt.install()
    qt = qt_module.install()
    if qt.QApplication.instance() is None:
        _keep.append(qt.QApplication(["Slicer"]))
    dialogs.install()
    from standins import ctk_module

    ctk_module.install()
    from standins import scene, terminologies

    folder = Path(tempfile.mkdtemp(prefix="slicer-stand-in-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    terminologies.write(folder / "terminologies")
    core = scene.install(folder / "terminologies")
    from standins import application, effect_host, parameter_node, sample_data, scripted_module, widgets_mrml

    widgets_mrml.install()
    scripted_module.install()
    app = application.install(core, folder)
    parameter_node.install()
    sample_data.install()
    effect_host.install()
    qt_module.CUSTOM_WIDGETS.update(ctk_module.WIDGETS, **widgets_mrml.WIDGETS)
    _installed.append(StandIns(core, app, folder))
    return _installed[0]


_keep: list[Any] = []
