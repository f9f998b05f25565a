"""Every job end to end through a real child process; what it gives equals what medseg gives in process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medseg
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.io.measured import measure_file
from medseg.phantom.example_scans import example_scan
from medseg.segmentation.classical.nested_growing import nested_regions


@pytest.fixture(scope="module")
def scan() -> Volume:
    return example_scan("ct").volume


@pytest.fixture(scope="module")
def truth() -> LabelMap:
    return example_scan("ct").label_maps["truth"]


def _centre(label_map: LabelMap, name: str) -> list[float]:
    """A point well inside a segment: the voxel of it nearest to its centroid."""
    voxels = np.argwhere(label_map.mask(name))
    middle = voxels[np.abs(voxels - voxels.mean(axis=0)).sum(axis=1).argmin()]
    return (label_map.geometry.affine @ [*middle, 1])[:3].tolist()


def test_ready_comes_soon_and_names_the_protocol(hosts: Any) -> None:
    begun = time.monotonic()
    host = hosts()
    event = host.ready()
    seconds = time.monotonic() - begun
    assert (event["protocol"], event["version"]) == ("medseg.job/1", medseg.__version__)
    assert seconds < 10  # for it imports little; alone it takes 0.05 s


def test_describe_lists_what_the_command_lists(host: Any) -> None:
    result = host.result(do="describe")
    listed = subprocess.run([sys.executable, "-m", "medseg", "methods", "--json"], capture_output=True, check=True, text=True).stdout
    assert result["methods"] == json.loads(listed)["methods"]
    assert {"ct-phantom"} <= {model["name"] for model in result["models"]}
    assert {"ct-body-composition"} <= {pipeline["name"] for pipeline in result["pipelines"]}


def test_describe_of_one_method(host: Any) -> None:
    assert [method["name"] for method in host.result(do="describe", names=["watershed"])["methods"]] == ["watershed"]


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("threshold", {"lower": 20, "upper": 200, "label": "soft"}),
        ("otsu", {}),
        ("region-growing", {"lower": 0, "upper": 200, "seeds": "liver"}),
        ("click-lesion", {"points": "liver"}),
    ],
)
def test_segment_equals_medseg_voxel_for_voxel(host: Any, scan: Volume, truth: LabelMap, method: str, parameters: dict[str, Any]) -> None:
    values = {name: [_centre(truth, value)] if value == "liver" else value for name, value in parameters.items()}
    if method == "click-lesion":
        values = {_point_name(method): values["points"] if _is_list(method) else values["points"][0]}
    expected = medseg.segment(scan, method, **values)
    result = host.result(do="segment", method=method, parameters=values, scan=host.scan(scan))
    assert np.array_equal(host.array(result["labels"]), expected.array.T)
    assert expected.array.any()
    assert [one["label"] for one in result["labels"]["segments"]] == [segment.label for segment in expected.segments]
    assert {one["code"] for one in result["findings"]} >= {finding.code for finding in expected.findings}
    assert result["provenance"]["steps"][0]["method"] == method
    assert result["seconds"] >= 0


def _parameter(method: str) -> dict[str, Any]:
    from medseg.method import catalog
    from medseg.method.schema import describe

    return next(one for one in describe(catalog.find(method))["parameters"] if one["kind"] == "point")


def _point_name(method: str) -> str:
    return str(_parameter(method)["name"])


def _is_list(method: str) -> bool:
    return bool(_parameter(method)["is_list"])


def test_any_grid_gives_the_same_segments(host: Any, affine: np.ndarray) -> None:
    """Oblique, left-handed and sheared grids pass through unchanged, and points in mm find their voxels."""
    array = np.zeros((20, 18, 12), np.int16)
    array[4:12, 5:14, 3:9] = 100
    scan = Volume(array, Geometry(array.shape, affine), "CT", "HU")
    seed = (affine @ [8, 9, 6, 1])[:3].tolist()
    result = host.result(
        do="segment", method="region-growing", parameters={"lower": 50, "upper": 150, "seeds": [seed]}, scan=host.scan(scan)
    )
    assert result["labels"]["extent"] == [4, 11, 5, 13, 3, 8]
    assert result["labels"]["ijk_to_ras"] == affine.tolist()
    assert np.array_equal(host.array(result["labels"]), (array.T == 100))


def test_a_transform_above_the_scan_moves_its_points(host: Any, scan: Volume) -> None:
    """Points are in the world, the result lies in the scan's own space with the same transform above it."""
    turn = np.eye(4)
    turn[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    turn[:3, 3] = (40, -20, 7)
    ref = {**host.scan(scan), "parent_to_world": turn.tolist()}
    voxel = [40, 30, 20]
    seed = (turn @ scan.geometry.affine @ [*voxel, 1])[:3].tolist()
    value = int(scan.array[tuple(voxel)])
    parameters = {"lower": value - 1, "upper": value + 1, "seeds": [seed]}
    result = host.result(do="segment", method="region-growing", parameters=parameters, scan=ref)
    assert host.array(result["labels"])[voxel[2], voxel[1], voxel[0]] == 1
    assert result["labels"]["ijk_to_ras"] == scan.geometry.affine.tolist()
    assert result["labels"]["parent_to_world"] == turn.tolist()


def test_region_works_on_a_box_and_answers_on_the_whole_grid(host: Any, scan: Volume) -> None:
    box = [10, 50, 12, 44, 5, 30]
    result = host.result(do="segment", method="otsu", parameters={}, scan=host.scan(scan), region=box)
    part = scan.with_array(scan.array[10:51, 12:45, 5:31], scan.geometry.cropped((10, 12, 5), (41, 33, 26)))
    expected = np.zeros(scan.array.T.shape, np.uint32)
    expected[5:31, 12:45, 10:51] = medseg.segment(part, "otsu").array.T
    assert np.array_equal(host.array(result["labels"]), expected)
    assert result["labels"]["shape"] == list(scan.array.T.shape)


def test_label_map_parameters_are_handed_over_too(host: Any, scan: Volume) -> None:
    seeds = example_scan("ct").label_maps["seeds"]
    expected = medseg.segment(scan, "watershed", markers=seeds)
    result = host.result(do="segment", method="watershed", parameters={"markers": host.labels(seeds)}, scan=host.scan(scan))
    assert np.array_equal(host.array(result["labels"]), expected.array.T)
    assert len(result["labels"]["segments"]) == len(expected.segments)


def test_postprocess_changes_given_labels(host: Any, scan: Volume) -> None:
    rough = example_scan("ct").label_maps["rough"]
    expected = medseg.postprocess(rough, "keep-largest")
    result = host.result(do="segment", method="keep-largest", parameters={}, labels=host.labels(rough))
    assert np.array_equal(host.array(result["labels"]), expected.array.T)
    with_scan = host.result(do="segment", method="refine-boundary", parameters={}, labels=host.labels(rough), scan=host.scan(scan))
    assert np.array_equal(host.array(with_scan["labels"]), medseg.postprocess(rough, "refine-boundary", volume=scan).array.T)


@pytest.mark.parametrize("vary", ["tolerance", "lower", "upper"])
def test_nested_map_gives_every_region_of_the_slider(host: Any, scan: Volume, truth: LabelMap, vary: str) -> None:
    seed = _centre(truth, "liver")
    parameters = {"seeds": [seed], "vary": vary}
    result = host.result(do="segment", method="nested-growing", parameters=parameters, scan=host.scan(scan), nested={"most_ml": 3000})
    nested = result["values"]["nested"]
    found = host.array({**nested, "shape": list(scan.array.T.shape)})
    index = np.rint(np.linalg.solve(scan.geometry.affine, [*seed, 1])[:3]).astype(int)
    all_regions = nested_regions(scan, index[None], vary=vary, centre=nested["centre"])
    positions = np.unique(np.linspace(1, len(nested["limits"]), 7).astype(int))
    for n in positions:
        region = all_regions.region(nested["limits"][n - 1]).T
        assert np.array_equal((found > 0) & (found <= n), region), n
        assert nested["volumes_ml"][n - 1] == pytest.approx(region.sum() * scan.geometry.voxel_volume_mm3 / 1000)
    assert np.array_equal(host.array(result["labels"]), medseg.segment(scan, "nested-growing", **parameters).array.T)


def test_nested_in_a_box_lies_in_the_whole_scan(host: Any, scan: Volume, truth: LabelMap) -> None:
    seed = _centre(truth, "liver")
    i, j, k = np.rint(np.linalg.solve(scan.geometry.affine, [*seed, 1])[:3]).astype(int).tolist()
    box = [i - 6, i + 6, j - 5, j + 5, k - 4, k + 4]
    parameters = {"seeds": [seed], "limits": [30.0]}
    result = host.result(do="segment", method="nested-growing", parameters=parameters, scan=host.scan(scan), nested={}, region=box)
    nested = result["values"]["nested"]
    found = host.array({**nested, "shape": list(scan.array.T.shape)})
    assert np.array_equal((found > 0) & (found <= nested["start"]), host.array(result["labels"]) == 1)
    assert found[k, j, i] == 1
    assert nested["limits"][nested["start"] - 1] <= 30


PIPELINE = """
schema: medseg.pipeline/1
name: bone-of-test
modality: CT
preprocess:
  - method: gaussian
segment:
  method: threshold
  parameters: {lower: 120, label: bone}
postprocess:
  - method: keep-largest
"""


def test_run_gives_the_pipelines_labels_and_document(host: Any, scan: Volume, tmp_path: Path) -> None:
    from medseg.pipeline import apply, load_pipeline

    (tmp_path / "bone.yaml").write_text(PIPELINE)
    expected = apply(load_pipeline(tmp_path / "bone.yaml"), scan)
    result = host.result(do="run", pipeline=str(tmp_path / "bone.yaml"), scan=host.scan(scan))
    assert expected.label_map.array.any()
    assert np.array_equal(host.array(result["labels"]), expected.label_map.array.T)
    assert result["document"]["segments"] == json.loads(json.dumps(expected.table.to_dict()))["segments"]
    assert [step["method"] for step in result["provenance"]["steps"]] == ["gaussian", "threshold", "keep-largest"]
    steps = [event["text"] for event in host.events if event["event"] == "progress"]
    assert "threshold" in steps
    assert "measure" in steps
    refused = host.error(do="run", pipeline=str(tmp_path / "bone.yaml"), scan={**host.scan(scan), "modality": "MR", "unit": ""})
    assert "is for CT, this scan is MR" in refused["message"]
    assert host.error(do="run", pipeline="no-such-pipeline", scan=host.scan(scan))["kind"] == "PipelineError"


def test_measure_gives_the_document_of_the_command(host: Any, truth: LabelMap, tmp_path: Path) -> None:
    scan = example_scan("ct").volume
    medseg.write(truth, tmp_path / "truth.seg.nrrd")
    medseg.write(scan, tmp_path / "scan.nrrd")
    expected = measure_file(tmp_path / "truth.seg.nrrd", tmp_path / "scan.nrrd").table.to_dict()
    ref = {**host.scan(scan), "modality": "", "unit": ""}
    document = host.result(do="measure", scan=ref, labels=host.labels(truth))["document"]
    assert document["schema"] == expected["schema"]
    assert document["segments"] == json.loads(json.dumps(expected["segments"]))
    assert document["segments"][0]["volume_interval_ml"] is not None


def test_audit_says_what_is_wrong_before_any_number(host: Any) -> None:
    flat = Volume(np.full((8, 8, 8), 7, np.int16), Geometry((8, 8, 8), np.eye(4)), "CT", "HU")
    ref = host.scan(flat, "flat")
    result = host.result(do="audit", scan=ref)
    assert [one["code"] for one in result["findings"]] == ["CONSTANT_INTENSITY"]
    assert result["usable"]
    assert result["geometry"]["shape"] == [8, 8, 8]
    mask = LabelMap(np.ones((8, 8, 8), np.uint8), flat.geometry, (Segment(1, "all"),))
    host.events.clear()
    host.result(do="measure", scan=ref, labels=host.labels(mask))
    kinds = [event["event"] for event in host.events if event["event"] in ("finding", "result")]
    assert kinds[0] == "finding"
    assert kinds[-1] == "result"


def test_scans_are_kept_until_their_file_changes(host: Any) -> None:
    grid = Geometry((6, 6, 6), np.eye(4))
    ref = host.scan(Volume(np.zeros((6, 6, 6), np.int16), grid), "changing")
    parameters = {"lower": 50, "label": "bright"}
    assert host.result(do="segment", method="threshold", parameters=parameters, scan=ref)["labels"]["extent"] == [0, -1, 0, -1, 0, -1]
    time.sleep(0.02)
    again = host.scan(Volume(np.full((6, 6, 6), 100, np.int16), grid), "changing")
    assert again == ref
    assert host.result(do="segment", method="threshold", parameters=parameters, scan=again)["labels"]["extent"] == [0, 5, 0, 5, 0, 5]
    assert host.result(do="forget", key="changing")["forgotten"] == 1
    assert host.result(do="forget", key="changing")["forgotten"] == 0


def test_doctor_checks_the_machine(host: Any) -> None:
    checks = host.result(do="doctor", folder=str(host.folder))["checks"]
    assert {"medseg", "packages", "networks", "models", "disk", "memory"} <= {check["name"] for check in checks}
    assert all(check["status"] in ("ok", "warning", "error") and check["sentence"] for check in checks)


def test_findings_and_events_hold_no_name(host: Any) -> None:
    """The name of a node may be a patient's: no event says it."""
    scan = example_scan("ct").volume
    ref = {**host.scan(scan), "name": "DOE^JANE"}
    host.result(do="segment", method="otsu", parameters={}, scan=ref)
    host.error(do="segment", method="otsu", parameters={"nonsense": 1}, scan=ref)
    assert "DOE" not in json.dumps(host.events)
    assert "DOE" not in "".join(host.worker.stderr)
