"""Jobs that run a network: a pipeline, a model on a box of the scan, and the sentences where something is missing."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import medseg
from medseg.core.volume import Volume
from medseg.phantom.example_scans import example_scan

pytest.importorskip("torch")

NO_TORCH = "import sys\nsys.modules.update(torch=None, monai=None)\nfrom medseg.slicer_bridge.worker import main\nmain([])\n"


@pytest.fixture(scope="module")
def scan() -> Volume:
    return example_scan("ct").volume


@pytest.mark.slow
def test_run_gives_the_pipelines_labels_and_document(host: Any, scan: Volume) -> None:
    from medseg.pipeline import apply, load_pipeline

    expected = apply(load_pipeline("ct-phantom"), scan)
    result = host.result(do="run", pipeline="ct-phantom", scan=host.scan(scan), device="cpu")
    assert np.array_equal(host.array(result["labels"]), expected.label_map.array.T)
    assert result["document"]["segments"] == json.loads(json.dumps(expected.table.to_dict()))["segments"]
    assert result["document"]["pipeline"] == "ct-phantom"
    assert any(event["event"] == "progress" for event in host.events)


def test_model_on_a_region_equals_the_model_on_that_box(host: Any, scan: Volume) -> None:
    box = [8, 71, 8, 55, 4, 35]
    result = host.result(do="segment", method="model", parameters={"model": "ct-phantom"}, scan=host.scan(scan), region=box, device="cpu")
    part = scan.with_array(scan.array[8:72, 8:56, 4:36], scan.geometry.cropped((8, 8, 4), (64, 48, 32)))
    expected = np.zeros(scan.array.T.shape, np.uint32)
    expected[4:36, 8:56, 8:72] = medseg.segment(part, "model", model="ct-phantom").array.T
    assert expected.any()
    assert np.array_equal(host.array(result["labels"]), expected)
    assert result["provenance"]["model"]["name"] == "ct-phantom"


def test_model_that_is_not_installed_has_its_sentence(host: Any, scan: Volume) -> None:
    event = host.error(do="segment", method="model", parameters={"model": "no-such-model"}, scan=host.scan(scan))
    assert event["kind"] == "ModelNotFoundError"
    assert event["exit_code"] == 4
    assert "no-such-model" in event["message"]
    assert host.result(do="forget")["forgotten"] == 1  # the worker lives on


def test_worker_without_torch_says_what_to_install_and_does_the_rest(hosts: Any, scan: Volume) -> None:
    host = hosts("-c", NO_TORCH)
    ref = host.scan(scan)
    event = host.error(do="segment", method="model", parameters={"model": "ct-phantom"}, scan=ref)
    assert event["kind"] == "MissingDependencyError"
    assert "medseg[learned]" in event["message"]
    checks = {check["name"]: check for check in host.result(do="doctor")["checks"]}
    assert checks["networks"]["status"] == "warning"
    assert "torch" in checks["networks"]["sentence"]
    assert host.result(do="segment", method="otsu", parameters={}, scan=ref)["labels"]["array"]
