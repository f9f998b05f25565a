"""Photograph the panel of the Slicer module in its main states, offscreen, with the stand-ins of the tests.

    QT_QPA_PLATFORM=offscreen python scripts/make_slicer_pictures.py --worker PYTHON [FOLDER]

Needs the environment of the Slicer tests; PYTHON is that of an environment with networks (medseg[learned]), as the full installation
makes it. The worker is the true one; the scan is the sample study.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = ("ready", "result", "running")  # the pictures of the README of the extension
WIDTH = 580


class Photographer:
    """Loads the module as the application does and takes pictures of its panel."""

    def __init__(self, folder: Path, python: str) -> None:
        sys.path.insert(0, str(ROOT / "tests" / "slicer"))
        import standins

        self.application = standins.install().app
        self.folder = folder
        module = self.application.moduleManager().load(ROOT / "slicer_extension" / "MedSeg" / "MedSeg.py")
        import MedSegLib.session

        from medseg.slicer_bridge.client import Worker
        from medseg.slicer_bridge.paths import worker_command

        MedSegLib.session._installedWorker = lambda session: Worker(worker_command(python), folder=session.files.path)
        self.view = module.widgetRepresentation()
        self.panel: Any = self.view.self()
        self._light()

    def _light(self) -> None:
        """One look on every machine."""
        from PySide6 import QtGui, QtWidgets

        application = QtWidgets.QApplication.instance()
        application.setStyle("Fusion")
        application.setFont(QtGui.QFont("DejaVu Sans", 9))

    def wait(self, condition: Callable[[], bool], seconds: float = 120) -> None:
        """Let the panel live until something is so."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise SystemExit("the panel did not come to the state that was to be photographed")
            self.application.processEvents()
            time.sleep(0.005)

    def take(self, name: str) -> None:
        """Photograph the panel as high as it needs to be."""
        self.view.setFixedWidth(WIDTH)
        for _again in range(3):  # wrapped texts settle their height after their width
            self.application.processEvents()
            self.view.adjustSize()
            self.view.resize(WIDTH, self.view.sizeHint.height())
        self.application.processEvents()
        self.view.grab().save(str(self.folder / f"{name}.png"))

    def choose(self, words: str) -> None:
        """Search and choose the first line."""
        self.panel.ui.searchEdit.setText(words)
        self.panel.ui.choiceList.setCurrentRow(0)

    def only(self, *open_: str) -> None:
        """Open these sections and close the others."""
        for name in ("scanSection", "choiceSection", "resultsSection", "advancedSection", "setupSection"):
            getattr(self.panel.ui, name).collapsed = name not in open_


def main(folder: Path, python: str) -> None:
    """Take all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    seen = Photographer(folder, python)
    panel, ui = seen.panel, seen.panel.ui
    seen.view.enter()
    seen.wait(lambda: panel.described)
    seen.take("empty")
    ui.sampleButton.click()
    seen.choose("click lesion")
    seen.take("missing")
    seen.choose("kidney")
    seen.take("ready")
    ui.applyButton.click()
    seen.wait(lambda: panel.run is None or (ui.progressBar.maximum > 0 and ui.progressBar.value > 0))
    seen.take("running")
    seen.wait(lambda: panel.run is None)
    seen.only("scanSection", "resultsSection")
    if not ui.resultTable.rowCount:
        raise SystemExit(f"no table to photograph: {ui.statusLabel.text}")
    seen.take("result")
    seen.only("scanSection", "choiceSection")
    seen.choose("click lesion")
    field = panel.panel._fields["seeds"]
    field.place()
    panel.panel.nodeOf("seeds").AddControlPointWorld(900.0, 0.0, 0.0)
    ui.applyButton.click()
    seen.wait(lambda: panel.run is None)
    seen.take("error")
    seen.only("advancedSection", "setupSection")
    ui.doctorButton.click()
    seen.wait(lambda: ui.doctorLabel.text.count("<br>") > 3)
    ui.fullRadio.checked = True
    ui.folderEdit.setCurrentPath("/home/you/MedSeg-environment")
    panel.tell("")
    seen.take("doctor")
    for name in PUBLISHED:
        shutil.copyfile(folder / f"{name}.png", ROOT / "slicer_extension" / "Screenshots" / f"{name}.png")
    panel.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Photograph the panel of the Slicer module.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs" / "pictures" / "slicer")
    parser.add_argument("--worker", required=True, metavar="PYTHON", help="the Python of an environment with networks")
    given = parser.parse_args()
    main(given.folder, given.worker)
