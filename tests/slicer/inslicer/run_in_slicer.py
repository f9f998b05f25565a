"""Runs the tests of this folder inside Slicer, with its main window:

Slicer --testing --additional-module-paths slicer_extension/MedSeg slicer_extension/SegmentEditorMedSeg \\
       --python-script tests/slicer/inslicer/run_in_slicer.py

pytest is needed in Slicer's Python once: PythonSlicer -m pip install pytest. The exit code is pytest's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import slicer

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Runs pytest on this folder and gives its exit code."""
    return int(pytest.main(["--import-mode=importlib", "-p", "no:cacheprovider", "-v", str(HERE)]))


if __name__ == "__main__":
    code = main()
    slicer.util.exit(code)
    sys.exit(code)
