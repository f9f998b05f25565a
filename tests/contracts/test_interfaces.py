"""Every method gives one answer by every road: the command line, Python and a pipeline, on its own example of the docs."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

import medseg
from medseg import pipeline as pipelines
from medseg.cli.main import cli
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.io.dicom.series import write_series
from medseg.io.read import read, read_label_map
from medseg.io.write import write
from medseg.method.builtin import BUILTIN_METHODS
from medseg.method.catalog import find, methods
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams
from medseg.method.schema import parameters_of
from medseg.phantom.example_scans import ExampleScan, example_scan
from medseg.phantom.examples import Example, examples
from medseg.preprocessing.resample import restore

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures" / "methods"
NAMES = [found.name for found in methods()]
EXAMPLES = examples()
COARSER = 1.6  # 60×45×30 voxels
FRAME_UID = "1.2.826.0.1.3680043.8.498.1"  # channels of one scan lie in one frame of reference
_SLOW = {"model", "prompt", "bias-field", "random-walker"}


class Roads:
    """The example scans as files, and as what those files hold."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scan = cache(self._scan)

    def _scan(self, name: str) -> tuple[ExampleScan, list[Path], dict[str, Path]]:
        made = example_scan(name, COARSER)
        paths = []
        for n, channel in enumerate(made.channels):
            paths.append(self.folder / f"{name}_{n}")
            placed = replace(channel, geometry=replace(channel.geometry, frame_of_reference_uid=FRAME_UID))
            write_series(placed, paths[-1], seed=f"interfaces {name} {n}")  # DICOM says which modality it is
        maps = {key: write(value, self.folder / f"{name}_{key}.nii.gz") for key, value in made.label_maps.items()}
        again = ExampleScan(tuple(read(path) for path in paths), {key: read_label_map(path) for key, path in maps.items()})
        return again, paths, maps


@pytest.fixture(scope="session")
def roads(tmp_path_factory: pytest.TempPathFactory) -> Roads:
    return Roads(tmp_path_factory.mktemp("roads"))


def test_every_method_has_an_example() -> None:
    assert set(EXAMPLES) == set(NAMES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_caption_is_one_sentence_about_what_one_sees(name: str) -> None:
    caption = EXAMPLES[name].caption.strip()
    assert caption[0].isupper()
    assert caption.endswith(".")
    assert 20 < len(caption) < 220
    assert "\n" not in caption


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_picture_was_drawn_and_is_small(name: str) -> None:
    picture = PICTURES / f"{name}.png"
    assert picture.exists(), "run scripts/make_method_pictures.py"
    assert picture.stat().st_size <= 40_000


@pytest.mark.parametrize("name", NAMES)
def test_no_parameter_takes_a_flag_that_every_command_has(name: str) -> None:
    group = cli.get_command(click.Context(cli), find(name).stage.value)
    assert isinstance(group, click.Group)
    command = group.get_command(click.Context(group), name)
    assert command is not None
    flags = [flag for option in command.params for flag in (*option.opts, *option.secondary_opts)]
    assert len(flags) == len(set(flags))


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name in _SLOW else ()) for name in NAMES])
def test_the_command_line_and_a_pipeline_give_what_python_gives(
    name: str, roads: Roads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = EXAMPLES[name]
    scan, paths, maps = roads.scan(example.scan)
    expected = in_python(example, scan)
    equal(by_command(example, paths, maps, tmp_path), expected)
    monkeypatch.setitem(BUILTIN_METHODS, "given", "given_label_map:given")
    monkeypatch.setitem(sys.modules, "given_label_map", given_label_map(scan.label_maps[example.label_map]))
    single = ExampleScan(scan.channels[:1], scan.label_maps)  # a pipeline runs on one scan
    if len(scan.channels) > 1:
        expected = in_python(example, single)
    if isinstance(expected, Volume):
        level = float(np.nanmedian(expected.array))
        expected = restore(medseg.segment(expected, "threshold", lower=level), scan.volume.geometry)
    else:
        level = 0.0
    equal(by_pipeline(example, scan.volume, maps, tmp_path, level), expected)


def in_python(example: Example, scan: ExampleScan) -> Volume | LabelMap:
    subject, values = example.subject(scan), example.values(scan)
    if isinstance(subject, LabelMap):
        return medseg.postprocess(subject, example.name, volume=scan.volume, **values)
    run: Any = medseg.preprocess if example.method.stage is Stage.PREPROCESS else medseg.segment
    return run(subject, example.name, **values)


def by_command(example: Example, paths: list[Path], maps: dict[str, Path], folder: Path) -> Volume | LabelMap:
    given = arguments(example, paths, maps, folder)
    result = CliRunner().invoke(cli, given, obj={})
    assert result.exit_code == 0, (given, result.output, result.exception)
    written = given[given.index("-o") + 1]
    return read(written) if example.method.stage is Stage.PREPROCESS else read_label_map(written)


def arguments(example: Example, paths: list[Path], maps: dict[str, Path], folder: Path) -> list[str]:
    """The words of the command line for an example."""
    stage = example.method.stage
    words = [stage.value, example.name, str(maps[example.label_map] if stage is Stage.POSTPROCESS else paths[0])]
    words += ["-o", str(folder / "out.nii.gz"), "--json"]
    if stage is Stage.POSTPROCESS:
        words += ["--image", str(paths[0])]
    elif example.method.several:
        words += [word for path in paths[1:] for word in ("--channel", str(path))]
    for info in parameters_of(example.method.params):
        value = example.parameters.get(info.name)
        if value is None:
            continue
        flag = f"--{info.name.replace('_', '-')}"
        if info.kind == "boolean":
            words.append(flag if value else f"--no-{flag[2:]}")
            continue
        is_point = info.kind == "point" and np.ndim(value) == 1
        for item in value if info.is_list and isinstance(value, list) and not is_point else [value]:
            text = ",".join(repr(float(part)) for part in item) if info.kind == "point" else str(item)
            words += [flag, str(maps[text]) if info.kind == "label-map" else text]
    return words


def by_pipeline(example: Example, volume: Volume, maps: dict[str, Path], folder: Path, level: float) -> LabelMap:
    """The label map of a pipeline that holds the method: a filter is followed by a threshold, a clean-up follows a given label map."""
    files = {name: str(maps[example.parameters[name]]) for name in example.label_map_parameters()}
    step = {"method": example.name, "parameters": {**example.parameters, **files}}
    content: dict[str, Any] = {"schema": "medseg.pipeline/1", "name": "example", "segment": step}
    if example.method.stage is Stage.PREPROCESS:
        content |= {"preprocess": [step], "segment": {"method": "threshold", "parameters": {"lower": level}}}
    elif example.method.stage is Stage.POSTPROCESS:
        content |= {"segment": {"method": "given"}, "postprocess": [step]}
    path = folder / "pipeline.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return pipelines.apply(pipelines.load_pipeline(path), volume).label_map


def equal(found: Volume | LabelMap, expected: Volume | LabelMap) -> None:
    assert type(found) is type(expected)
    assert found.geometry.matches(expected.geometry)
    assert np.array_equal(found.array, expected.array, equal_nan=found.array.dtype.kind == "f")
    if isinstance(found, LabelMap) and isinstance(expected, LabelMap):
        held = {segment.number: segment.label for segment in found.segments if (found.array == segment.number).any()}
        known = {segment.number: segment.label for segment in expected.segments}
        assert held == {number: known[number] for number in held}


class GivenParams(MethodParams):
    """No parameters."""

    unused: bool = Field(False, description="Nothing is done with this")


def given_label_map(label_map: LabelMap) -> ModuleType:
    """A module with the method `given`, which answers with a label map; a pipeline begins with a segmentation."""

    @method("given", stage=Stage.SEGMENT, reference="this test")
    def given(volume: Volume, params: GivenParams) -> LabelMap:
        """Give the label map."""
        return label_map

    module = ModuleType("given_label_map")
    module.given = given  # type: ignore[attr-defined]
    return module
