"""Runs the tests of this folder inside Slicer, with its main window:

Slicer --testing --additional-module-paths slicer_extension/MedSeg slicer_extension/SegmentEditorMedSeg \\
       --python-script tests/slicer/inslicer/run_in_slicer.py

pytest is needed in Slicer's Python once: PythonSlicer -m pip install pytest; and medseg by the panel's Light or Full, for the
effects. The exit code is pytest's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import slicer

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Runs pytest on this folder and gives its exit code."""
    # without the project's own settings and fixtures: they need packages that Slicer lacks
    alone = ["-c", os.devnull, "--rootdir", str(HERE.parents[2]), "--confcutdir", str(HERE.parent), "--import-mode=importlib"]
    return int(pytest.main([*alone, "-p", "no:cacheprovider", "-v", str(HERE)]))


if __name__ == "__main__":
    slicer.util.exit(main())
