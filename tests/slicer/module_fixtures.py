"""What the tests of the module share: the module with a worker that answers as the test says, and its panel."""

from __future__ import annotations

import module_fakes as fakes
import pytest
import slicer


@pytest.fixture
def worker(load_module, monkeypatch):
    """A worker that answers as the test says, in place of the one that is installed; the module is loaded, its panel not made."""
    load_module("MedSeg")
    from MedSegLib.session import Session

    given = fakes.FakeWorker(fakes.answers())
    monkeypatch.setattr("MedSegLib.session._installedWorker", lambda session: given)
    yield given
    Session.discard()


@pytest.fixture
def panel(worker, wait_until):
    """The panel with the list of methods in it."""
    slicer.modules.medseg.widgetRepresentation().enter()
    widget = slicer.modules.medseg.widgetRepresentation().self()
    wait_until(lambda: widget.described)
    return widget
