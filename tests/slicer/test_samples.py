"""The sample in the module Sample Data: registered as Slicer takes it, and never in the way of what else is done at the start."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import slicer


def terminology_names() -> list[str]:
    found: list[str] = []
    slicer.modules.terminologies.logic().GetLoadedTerminologyNames(found)
    return found


def test_the_sample_is_registered_under_slicers_rule_of_lengths(load_module: Any) -> None:
    load_module("MedSeg")
    (source,) = slicer.modules.sampleDataSources["MedSeg"]
    assert (source.sampleName, source.nodeNames, source.uris) == ("MedSegTorso", ["MedSeg CT torso phantom"], [""])
    assert Path(source.thumbnailFileName).is_file()
    (node,) = source.customDownloader(source)
    assert node.GetImageData().GetNumberOfPoints() > 1e5


def test_slicer_fails_without_an_address_and_with_lists_of_other_lengths() -> None:
    import SampleData

    register = SampleData.SampleDataLogic.registerCustomSampleDataSource
    with pytest.raises(TypeError):
        register(sampleName="a", nodeNames="a")
    with pytest.raises(ValueError, match="same length"):
        register(sampleName="a", uris=["x", "y"], fileNames=["x", "y"], nodeNames=["a"])
    register(sampleName="a", uris=["x.zip", "y"], fileNames=["x.zip", "y.mrb"])
    assert slicer.modules.sampleDataSources.pop("Custom")[0].loadFileType == ["ZipFile", "SceneFile"]


@pytest.mark.parametrize("error", [TypeError, ValueError, AttributeError])
def test_a_sample_that_is_refused_stops_nothing_else(load_module: Any, monkeypatch: Any, caplog: Any, error: Any) -> None:
    import SampleData

    def refuse(**_values: Any) -> None:
        raise error("said otherwise")

    monkeypatch.setattr(SampleData.SampleDataLogic, "registerCustomSampleDataSource", refuse)
    with caplog.at_level(logging.WARNING):
        load_module("MedSeg")
    assert "medseg" in terminology_names()
    assert "Sample Data" in caplog.text
