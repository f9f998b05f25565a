"""What Slicer hands over: full disks are sentences, and what is left out of a segmentation is told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from mrml_nodes import affine_of, empty_segmentation, volume_node

from medseg.core.errors import OutputError


@pytest.fixture
def files(load_module: Any) -> Iterator[Any]:
    """The folder of a session that has no worker."""
    load_module("MedSeg")
    from MedSegLib.session import Session

    yield Session.instance().files
    Session.discard()


def test_a_disk_that_fills_while_it_is_written_is_a_sentence(files: Any) -> None:
    resource = pytest.importorskip("resource")
    from MedSegLib.session import JobError

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(JobError, match="does not fit on the disk") as caught:
            files.save("scan", np.zeros((4, 200, 200), np.int16))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (caught.value.kind, caught.value.exitCode) == ("DiskFull", 5)
    assert os.listdir(files.path) == []


def test_a_disk_that_fills_at_the_last_flush_is_a_sentence(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """numpy.save does not see it; the writer of medseg does, and says so by its own error."""
    from MedSegLib.session import JobError

    def full(path: str, _array: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OutputError("the disk of the job folder is full: free some space and start again")

    monkeypatch.setattr("medseg.slicer_bridge.array_files.write_array", full)
    with pytest.raises(JobError, match=r"0 MB are needed, \d+ MB are free") as caught:
        files.save("scan", np.zeros((2, 2, 2), np.int16))
    assert caught.value.kind == "DiskFull"
    assert os.listdir(files.path) == []


def test_what_is_saved_is_read_as_it_was(files: Any) -> None:
    array = np.arange(24, dtype=np.int16).reshape(4, 3, 2).T
    found = np.load(files.save("scan", array), mmap_mode="r")
    assert np.array_equal(found, array)
    del found


def test_a_folder_that_cannot_be_made_is_a_sentence(files: Any, tmp_path: Path) -> None:
    from MedSegLib.session import JobError

    path, files.path = files.path, str(tmp_path / "file")
    Path(files.path).write_bytes(b"")
    try:
        with pytest.raises(JobError, match="Free some space") as caught:
            files.newFolder("effect")
    finally:
        files.path = path
    assert (caught.value.kind, caught.value.exitCode) == ("DiskFull", 5)


def test_voxels_outside_the_scan_are_told(files: Any) -> None:
    from MedSegLib import nodes

    segmentation = empty_segmentation(volume_node(np.zeros((6, 8, 10), np.int16), affine_of("oblique")))
    segmentation.GetSegmentation().AddEmptySegment("box", "box")
    mask = np.zeros((6, 8, 10), np.uint8)
    mask[1:5, 2:6, 3:9] = 1
    whole = segmentation.GetNodeReference(slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole())
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, "box", whole)
    smaller = volume_node(np.zeros((6, 8, 7), np.int16), affine_of("oblique"))
    told: list[dict[str, Any]] = []
    ref = nodes.labelsRef(segmentation, None, smaller, onFinding=told.append)
    assert "findings" not in ref
    (finding,) = told
    assert finding["code"] == "LABELS_OUTSIDE_GRID"
    assert finding["details"]["voxels"] == mask[:, :, 7:].sum()
    told.clear()
    nodes.labelsRef(segmentation, None, whole, onFinding=told.append)
    assert told == []
    nodes.labelsRef(segmentation, None, smaller)  # nobody listens


def test_worker_timer_and_files_end_with_the_application(load_module: Any, app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import module_fakes as fakes

    load_module("MedSeg")
    from MedSegLib.session import Session

    worker = fakes.FakeWorker({"segment": []})
    monkeypatch.setattr("MedSegLib.session._installedWorker", lambda session: worker)
    session = Session.instance()
    folder = Path(session.files.path)
    session.submit({"do": "segment"}, lambda event: None)
    assert session._timer.active
    app.aboutToQuit.emit()
    assert worker.closed
    assert not session._timer.active
    assert not folder.exists()
    assert Session._instance is None
