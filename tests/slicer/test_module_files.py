"""Results to files, samples, pipeline files, and terms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import module_fakes as fakes
import numpy as np
import pytest
import slicer
from module_fakes import choose, segmented

pytest_plugins = ["module_fixtures"]


def test_exports_say_what_they_need(worker, sample_ct_node):
    from MedSegLib import export

    assert "no segmentation" in export.whyNot("csv", sample_ct_node, None)
    node = segmented(sample_ct_node)
    assert export.whyNot("csv", sample_ct_node, node) == ""
    for kind in ("dicom-seg", "sr"):
        assert "not loaded from Slicer's DICOM database" in export.whyNot(kind, sample_ct_node, node)
    assert [kind for kind, _title in export.formats()] == ["csv", "report", "dicom-seg", "sr", "seg.nrrd", "nii.gz"]
    assert export.withSuffix("/x/a", "seg.nrrd") == "/x/a.seg.nrrd"
    assert export.withSuffix("/x/a.SEG.NRRD", "seg.nrrd") == "/x/a.SEG.NRRD"


def test_dicom_formats_are_written_from_the_files_of_the_scan(worker, sample_ct_node, monkeypatch):
    from MedSegLib import export

    class Database:
        def fileForInstance(self, uid: str) -> str:
            return f"/study/series/{uid}.dcm"

        def fileValue(self, path: str, tag: str) -> str:
            return "1.2.3"

    monkeypatch.setattr(slicer, "dicomDatabase", Database(), raising=False)
    sample_ct_node.SetAttribute("DICOM.instanceUIDs", "a b")
    job = export.job("dicom-seg", sample_ct_node, segmented(sample_ct_node), "/out/organs", "/jobs")
    assert job["scan"] == {"path": "/study/series", "series": "1.2.3"}
    assert job["path"] == "/out/organs.dcm"


def test_export_button_writes_and_tells_where(worker, sample_ct_node, wait_until, dialogs):
    worker.answers["export"] = lambda job: fakes.result(files=[job["path"]])
    slicer.modules.medseg.widgetRepresentation().enter()
    panel = slicer.modules.medseg.widgetRepresentation().self()
    panel._parameterNode.inputVolume = sample_ct_node
    assert not panel.ui.exportButton.enabled
    panel._parameterNode.segmentation = segmented(sample_ct_node)
    assert panel.ui.exportButton.enabled
    dialogs.answer("/out/volumes")
    panel.ui.exportButton.click()
    wait_until(lambda: panel.ui.statusLabel.text.startswith("Written:"))
    assert panel.ui.statusLabel.text == "Written: /out/volumes.csv"
    dialogs.answer("")
    count = len(worker.jobs)
    panel.ui.exportButton.click()
    assert len(worker.jobs) == count


def test_a_file_that_is_there_is_replaced_only_after_asking(panel, worker, sample_ct_node, wait_until, dialogs, tmp_path):
    import qt

    worker.answers["export"] = lambda job: fakes.result(files=[job["path"]])
    panel._parameterNode.inputVolume = sample_ct_node
    panel._parameterNode.segmentation = segmented(sample_ct_node)
    (tmp_path / "volumes.csv").write_text("mine")
    dialogs.answer(str(tmp_path / "volumes"), qt.QMessageBox.Cancel)
    panel.ui.exportButton.click()
    assert "volumes.csv is there already" in dialogs.texts[-1]
    assert "export" not in worker.did()
    dialogs.answer(str(tmp_path / "volumes"), qt.QMessageBox.Ok)
    panel.ui.exportButton.click()
    wait_until(lambda: panel.ui.statusLabel.text.startswith("Written:"))
    panel.ui.exportBox.setCurrentIndex(1)
    dialogs.answer(str(tmp_path))
    panel.ui.exportButton.click()
    wait_until(lambda: worker.did().count("export") == 2)
    assert worker.jobs[-1]["path"] == str(tmp_path / "medseg_report")


def test_batch_button_writes_a_pipeline_file(panel, sample_ct_node, dialogs, tmp_path):
    panel._parameterNode.inputVolume = sample_ct_node
    choose(panel, "needs nothing")
    dialogs.answer(str(tmp_path / "mine"))
    panel.ui.batchButton.click()
    assert json.loads((tmp_path / "mine.yaml").read_text())["segment"] == {"method": "plain", "parameters": {}}
    assert "medseg run" in panel.ui.statusLabel.text
    dialogs.answer("/nowhere/mine.yaml")
    panel.ui.batchButton.click()
    assert "could not be written" in panel.ui.statusLabel.text


def test_true_export_is_read_back(load_module, sample_ct_node, tmp_path):
    load_module("MedSeg")
    from MedSegLib import export
    from MedSegLib.session import Session

    node = segmented(sample_ct_node)
    folder = Session.instance().files.newFolder("export")
    result = Session.instance().runBlocking(export.job("seg.nrrd", sample_ct_node, node, str(tmp_path / "ball"), folder))
    assert result["files"]
    loaded = slicer.util.loadSegmentation(str(tmp_path / "ball.seg.nrrd"), {})
    array = slicer.util.arrayFromSegmentBinaryLabelmap(loaded, loaded.GetSegmentation().GetNthSegmentID(0), sample_ct_node)
    assert np.array_equal(array > 0, slicer.util.arrayFromVolume(sample_ct_node) > 0)
    Session.discard()


def test_a_pipeline_file_gives_the_same_labels(load_module, sample_ct_node, tmp_path):
    load_module("MedSeg")
    from MedSegLib import batch, nodes
    from MedSegLib.logic import MedSegLogic
    from MedSegLib.session import Session

    choice = next(one for one in MedSegLogic().choices() if one.key == "method:threshold")
    path = tmp_path / "mine.yaml"
    path.write_text(batch.pipelineText(choice, {"lower": 10.0, "label": "ball"}), encoding="utf-8")
    job = {"do": "run", "pipeline": str(path), "scan": nodes.scanRef(sample_ct_node), "out": Session.instance().files.newFolder("run")}
    result = Session.instance().runBlocking(job, 60)
    assert np.load(result["labels"]["array"]).sum() == (slicer.util.arrayFromVolume(sample_ct_node) >= 10).sum()
    Session.discard()


def test_batch_refuses_what_belongs_to_one_scan(worker):
    from MedSegLib import batch
    from MedSegLib.choices import choicesOf
    from MedSegLib.session import JobError

    choices = {choice.key: choice for choice in choicesOf(fakes.DESCRIPTION)}
    with pytest.raises(JobError, match="belong to this one scan"):
        batch.pipelineText(choices["method:ball"], {"seeds": [[1.0, 2.0, 3.0]]})
    with pytest.raises(JobError, match="belong to this one scan"):
        batch.pipelineText(choices["method:ball"], {"mask": {"array": "x"}})
    with pytest.raises(JobError, match="a pipeline already"):
        batch.pipelineText(choices["pipeline:ct-torso"], {})
    with pytest.raises(JobError, match="Only what segments"):
        batch.pipelineText(choices["measure:measure"], {})
    assert json.loads(batch.pipelineText(choices["model:torso"], {"model": "torso"}))["modality"] == "CT"


def test_samples_are_checked_and_registered(load_module, monkeypatch, tmp_path):
    import sys
    import types

    registered: list[dict[str, Any]] = []
    logic = types.SimpleNamespace(registerCustomSampleDataSource=lambda **values: registered.append(values))
    monkeypatch.setitem(sys.modules, "SampleData", types.SimpleNamespace(SampleDataLogic=logic))
    load_module("MedSeg")
    from MedSegLib import samples
    from MedSegLib.session import JobError

    assert Path(registered[0]["thumbnailFileName"]).is_file()
    (node,) = registered[0]["customDownloader"](None)
    assert node.GetImageData().GetNumberOfPoints() > 1e5
    (tmp_path / "torso").mkdir()
    (tmp_path / "torso" / "one.dcm").write_bytes(b"damaged")
    (tmp_path / "MANIFEST.tsv").write_text(f"sha256\tbytes\tfile\n{'0' * 64}\t7\ttorso/one.dcm\n")
    with pytest.raises(JobError, match="damaged"):
        samples.checkedFiles(str(tmp_path))
    monkeypatch.setattr(samples, "sampleFolder", lambda: "")
    with pytest.raises(JobError, match="Install it first"):
        samples.load()


def test_our_terms_are_there_when_slicer_has_started(load_module):
    load_module("MedSeg")
    logic = slicer.modules.terminologies.logic()
    found: list[str] = []
    logic.GetLoadedTerminologyNames(found)
    assert "medseg" in found
