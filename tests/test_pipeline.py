"""A pipeline is checked before anything is read, and its label map leaves on the grid of the scan."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import InputError, PipelineError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.pipeline import apply, builtin_pipelines, load_pipeline, parse_pipeline, prepare

BRIGHT = """
schema: medseg.pipeline/1
name: bright
modality: CT
preprocess:
  - {method: reorient, parameters: {orientation: LPS}}
  - {method: resample, parameters: {spacing_mm: [1, 1, 1]}}
segment: {method: threshold, parameters: {lower: 100, label: bright}}
postprocess:
  - {method: keep-largest}
"""


def scan(modality="CT"):
    """A bright box on an oblique, anisotropic, left-handed grid."""
    turn = np.array([[np.cos(0.3), -np.sin(0.3), 0], [np.sin(0.3), np.cos(0.3), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1.0, 1.0, 2.0])
    array = np.zeros((24, 20, 12), np.int16)
    array[6:16, 5:15, 3:9] = 500
    array[1, 1, 1] = 500
    return Volume(array, Geometry(array.shape, affine), modality=modality, unit="HU" if modality == "CT" else "")


def test_the_label_map_leaves_on_the_grid_of_the_scan():
    volume = scan()
    result = apply(parse_pipeline(BRIGHT, "here"), volume)
    assert result.label_map.geometry == volume.geometry
    expected_ml = 10 * 10 * 6 * 2 / 1000
    assert result.table["bright", "volume"].value == pytest.approx(expected_ml, rel=0.03)
    assert not result.label_map.mask("bright")[1, 1, 1]


def test_what_ran_is_recorded_with_given_and_default_parameters():
    provenance = apply(parse_pipeline(BRIGHT, "here"), scan()).provenance
    assert [step.method for step in provenance.steps] == ["reorient", "resample", "threshold", "keep-largest"]
    assert provenance.steps[2].parameters["lower"] == 100
    assert "count" in provenance.steps[3].parameters
    assert {"python", "numpy", "medseg"} <= set(provenance.versions)
    assert provenance.to_dict()["steps"][0]["stage"] == "preprocess"


def test_another_modality_is_refused_and_an_unknown_one_is_noted():
    pipeline = parse_pipeline(BRIGHT, "here")
    with pytest.raises(InputError, match="MR"):
        apply(pipeline, scan("MR"))
    assert "MODALITY_UNKNOWN" in [finding.code for finding in apply(pipeline, scan("")).findings]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1, 2]", "not a pipeline"),
        ("a: [", "not YAML"),
        ("schema: medseg.pipeline/9\nname: x\nsegment: {method: otsu}", "schema"),
        ("schema: medseg.pipeline/1\nname: x", "segment"),
        ("schema: medseg.pipeline/1\nname: x\nsegment: {method: otsu}\nsegments: 3", "segments"),
        ("schema: medseg.pipeline/1\nname: x\nsegment: {method: otsu, params: {}}", "params"),
        ("? !!python/object/apply:os.system ['true']\n: 1", "not YAML"),
    ],
)
def test_a_faulty_file_is_named(text, says):
    with pytest.raises(PipelineError, match="here") as caught:
        parse_pipeline(text, "here")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ("{method: otsuu}", "otsu"),
        ("{method: gaussian}", "preprocess"),
        ("{method: threshold, parameters: {lower: x}}", "lower"),
        ("{method: threshold, parameters: {lowest: 1}}", "lowest"),
    ],
)
def test_a_faulty_step_is_named_before_anything_runs(step, says):
    pipeline = parse_pipeline(f"schema: medseg.pipeline/1\nname: x\nsegment: {step}", "here")
    with pytest.raises(PipelineError, match=says):
        prepare(pipeline)


@pytest.mark.parametrize("name", builtin_pipelines())
def test_every_built_in_pipeline_is_sound(name):
    pipeline = load_pipeline(name)
    assert pipeline.name == name
    assert prepare(pipeline)
    assert pipeline.title
    assert pipeline.description


def test_an_unknown_pipeline_lists_the_known_ones(tmp_path):
    with pytest.raises(PipelineError, match="ct-phantom"):
        load_pipeline("ct-lung")
    with pytest.raises(PipelineError, match="cannot be read"):
        load_pipeline(tmp_path / "missing.yaml")


def test_steps_and_versions_that_are_given_are_not_looked_up_again(monkeypatch):
    """Whoever runs thousands of scans looks them up once; the result is the same."""
    from medseg import pipeline as module

    pipeline = parse_pipeline(BRIGHT, "here")
    expected = apply(pipeline, scan())
    steps, versions = prepare(pipeline), module.package_versions()

    def fail(*_):
        raise AssertionError("looked up again")

    monkeypatch.setattr(module, "prepare", fail)
    monkeypatch.setattr(module, "package_versions", fail)
    result = apply(pipeline, scan(), steps=steps, versions=versions)
    np.testing.assert_array_equal(result.label_map.array, expected.label_map.array)
    assert result.provenance.versions == expected.provenance.versions
    assert result.table.to_dict() == expected.table.to_dict()
