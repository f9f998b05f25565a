"""What every registered method keeps to: its description, its defaults, its example, and its manners with poor inputs."""

from __future__ import annotations

import doctest
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest

from medseg.core.errors import MedsegError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap, present_numbers
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.catalog import find, methods
from medseg.method.method import Method, Stage
from medseg.method.schema import describe, parameters_of

ALL = {method.name: method for method in methods()}

# The least that each method must be given, and those by whose own intensity a voxel is inside (one without is never inside):
# in the modules arguments_*.py beside this file. A new method needs a row there.
CORNER = (3.0, -4.0, 5.0)
_MODULES = [import_module(path.stem) for path in sorted(Path(__file__).parent.glob("arguments_*.py"))]
ARGUMENTS: dict[str, dict[str, Any]] = {name: values for module in _MODULES for name, values in module.ARGUMENTS.items()}
# What postprocess methods may do that most do not: give other segments than they got, and refuse a label map.
NEW_SEGMENTS: set[str] = {name for module in _MODULES for name in getattr(module, "NEW_SEGMENTS", ())}
MAY_REFUSE: set[str] = {name for module in _MODULES for name in getattr(module, "MAY_REFUSE", ())}
BY_INTENSITY: set[str] = {name for module in _MODULES for name in getattr(module, "BY_INTENSITY", ())}


def arguments(name: str, geometry: Geometry | None = None) -> dict[str, Any]:
    """The least arguments of a method; a callable makes its label map on the grid of the scan."""
    geometry = geometry or grid((4, 3, 5))
    return {key: value(geometry) if callable(value) else value for key, value in ARGUMENTS[name].items()}


def grid(shape: tuple[int, ...], steps_mm: Any = (1.0, 1.0, 1.0)) -> Geometry:
    """A grid from its spacing, or from the steps along i, j, k as columns."""
    affine = np.eye(4)
    affine[:3, :3] = np.diag(steps_mm) if np.ndim(steps_mm) == 1 else steps_mm
    affine[:3, 3] = CORNER
    return Geometry((shape[0], shape[1], shape[2]), affine)


def some_nan() -> np.ndarray:
    array = np.random.default_rng(0).normal(40, 30, (6, 7, 5)).astype(np.float32)
    array[2, 3, 1], array[4, 4, 4], array[5, 0, 0] = np.nan, np.inf, -np.inf
    return array


def blob(shape: tuple[int, ...]) -> np.ndarray:
    """A bright ellipsoid in noise."""
    away = sum(
        ((np.arange(n) - (n - 1) / 2) / max(n / 3, 1)).reshape([-1 if a == b else 1 for b in range(3)]) ** 2 for a, n in enumerate(shape)
    )
    return (np.where(away < 1, 80, -20) + np.random.default_rng(3).normal(0, 8, shape)).astype(np.int16)


POOR_SCANS: dict[str, tuple[np.ndarray, Any]] = {
    "constant": (np.full((6, 7, 5), 20, np.int16), (1, 1, 1)),
    "one voxel": (np.full((1, 1, 1), 20, np.int16), (1, 1, 1)),
    "one line": (np.arange(9, dtype=np.float64).reshape(1, 9, 1), (1, 1, 1)),
    "all NaN": (np.full((4, 3, 5), np.nan, np.float32), (1, 1, 1)),
    "some NaN and infinity": (some_nan(), (1, 1, 1)),
    "very unequal spacing": (np.random.default_rng(1).integers(-50, 90, (5, 6, 4)).astype(np.int16), (0.2, 1.7, 9.0)),
    "tiny spacing": (np.random.default_rng(2).integers(0, 90, (5, 6, 4)).astype(np.uint8), (0.01, 0.01, 0.01)),
    "extreme intensities": (np.array([[[-(2**31), 0, 20, 2**31 - 1]]], np.int32), (1, 1, 1)),
    "tiny and huge floats": (np.array([[[1e-300, 20, 1e300, -1e300]]]), (1, 1, 1)),
    "wide integers": (np.array([[[20, 2**62, -(2**62)]]], np.int64), (1, 1, 1)),
    "booleans": (np.array([[[True, False, True]]]), (1, 1, 1)),
    "two slices": (blob((9, 8, 2)), (1, 1, 5)),
    "left-handed": (blob((10, 9, 7)), (-0.8, 1.1, 2.5)),
    "sheared": (blob((10, 9, 7)), ((0.8, 0, 0.3), (0, 1.1, 0.6), (0, 0, 2.5))),
    "half precision": (blob((6, 7, 5)).astype(np.float16), (1, 1, 1)),
    "every number of 16 bits": (np.random.default_rng(4).permutation(65536).astype(np.uint16).reshape(64, 32, 32), (1, 1, 1)),
}

# These refuse Hounsfield units at once: a poor CT would test nothing of them.
FOR_MR = {"bias-field", "skull-strip", "brain"}

ONE = (Segment(1, "liver"),)
POOR_LABEL_MAPS: dict[str, tuple[np.ndarray, tuple[Segment, ...]]] = {
    "no segment": (np.zeros((3, 4, 5), np.uint8), ()),
    "empty segment": (np.zeros((3, 4, 5), np.uint8), ONE),
    "full": (np.ones((3, 4, 5), np.uint8), ONE),
    "one voxel": (np.ones((1, 1, 1), np.uint8), ONE),
    "one of many": (np.eye(5, dtype=np.uint8)[None], ONE),
    "large numbers": (np.array([[[0, 70000, 4_000_000_000, 70000]]], np.uint32), (Segment(70000, "a"), Segment(4_000_000_000, "b"))),
    "booleans": (np.array([[[True, False, True]]]), ONE),
}


def names(*stages: Stage) -> list[str]:
    return [name for name, method in ALL.items() if method.stage in stages]


def test_every_method_has_a_row_here() -> None:
    assert set(ARGUMENTS) == set(ALL)


@pytest.mark.parametrize("name", ALL)
def test_a_method_says_what_it_does_and_where_that_comes_from(name: str) -> None:
    method = ALL[name]
    first = method.description.splitlines()[0]
    assert first[0].isupper()
    assert first.endswith(".")
    assert len(first) > 20
    assert method.reference.strip()
    assert find(name).name == name
    assert json.loads(json.dumps(describe(method)))["name"] == name


@pytest.mark.parametrize("name", ALL)
def test_every_parameter_is_described(name: str) -> None:
    kinds = {"number", "integer", "boolean", "choice", "text", "point", "label-map"}
    for info in parameters_of(ALL[name].params):
        assert len(info.description) > 10, info.name
        assert info.description[0].isupper(), info.name
        assert info.kind in kinds
        suffixes = {"mm": "mm", "mm3": "mm3", "voxels": "voxels"}
        for suffix, unit in suffixes.items():
            if info.name.endswith(f"_{suffix}"):
                assert info.unit == unit, f"{info.name} is in {info.unit!r}"


@pytest.mark.parametrize("name", ALL)
def test_every_default_passes_its_own_limits(name: str) -> None:
    params = ALL[name].params
    strict = type("Strict", (params,), {"model_config": pydantic.ConfigDict(validate_default=True), "__module__": __name__})
    assert strict(**arguments(name))


@pytest.mark.parametrize("name", ALL)
def test_parameters_are_frozen_and_unknown_ones_refused(name: str) -> None:
    method = ALL[name]
    params = method.build(arguments(name))
    for field in type(params).model_fields:
        with pytest.raises(pydantic.ValidationError):
            setattr(params, field, None)
    with pytest.raises(MedsegError, match="no parameter 'tpyo'"):
        method.build({**arguments(name), "tpyo": 1})


@pytest.mark.parametrize("name", ALL)
def test_the_example_of_a_method_runs(name: str) -> None:
    """pytest collects doctests of functions, not of methods; this runs those."""
    function = ALL[name].function
    module = sys.modules[function.__module__]
    found = doctest.DocTestFinder(recurse=False).find(function, name, module, dict(vars(module)))
    examples = [example for test in found for example in test.examples]
    assert examples or name == "model", "write an example (only `model` may go without: it needs weights)"
    results = [doctest.DocTestRunner().run(test) for test in found]
    assert sum(result.failed for result in results) == 0


@pytest.mark.parametrize("kind", POOR_SCANS)
@pytest.mark.parametrize("name", names(Stage.PREPROCESS, Stage.SEGMENT))
def test_a_poor_scan_gets_a_sensible_answer_or_a_medseg_error(name: str, kind: str) -> None:
    array, steps_mm = POOR_SCANS[kind]
    volume = Volume(array, grid(array.shape, steps_mm), *(("MR", "") if name in FOR_MR else ("CT", "HU")))
    before = volume.array.copy()
    method = ALL[name]
    try:
        result = method(volume, method.build(arguments(name, volume.geometry)))
    except MedsegError:
        return
    assert np.array_equal(volume.array, before, equal_nan=before.dtype.kind == "f")
    if method.stage is Stage.PREPROCESS:
        assert_sensible_scan(volume, result)
    else:
        assert_sensible_label_map(volume, result)


def assert_sensible_scan(volume: Volume, result: Volume) -> None:
    assert isinstance(result, Volume)
    assert result.modality == volume.modality
    assert result.array.flags.f_contiguous
    if np.isfinite(volume.array).all():
        assert np.isfinite(result.array).all()


def assert_sensible_label_map(volume: Volume, result: LabelMap) -> None:
    assert isinstance(result, LabelMap)
    assert result.geometry == volume.geometry
    assert result.array.flags.f_contiguous
    assert result.segments
    if volume.array.dtype.kind == "f" and result.segments[0].algorithm in BY_INTENSITY:
        assert not result.array[np.isnan(volume.array)].any()


@pytest.mark.parametrize("kind", POOR_LABEL_MAPS)
@pytest.mark.parametrize("name", names(Stage.POSTPROCESS))
def test_a_poor_label_map_gets_a_sensible_answer(name: str, kind: str) -> None:
    array, segments = POOR_LABEL_MAPS[kind]
    label_map = LabelMap(array, grid(array.shape, (0.7, 1.0, 3.0)), segments)
    method: Method = ALL[name]
    params = method.build(arguments(name, label_map.geometry))
    before = label_map.array.copy()
    try:
        result = method(label_map, params, volume=Volume(array.astype(np.int16), label_map.geometry))
    except MedsegError:
        assert name in MAY_REFUSE
        return
    assert isinstance(result, LabelMap)
    assert result.geometry == label_map.geometry
    assert np.array_equal(label_map.array, before)
    assert result.array.flags.f_contiguous
    if name in NEW_SEGMENTS:
        return
    assert result.segments == label_map.segments
    assert result.array.dtype == label_map.array.dtype
    assert set(present_numbers(result.array)) <= set(present_numbers(label_map.array))


def test_listing_the_methods_imports_nothing_heavy() -> None:
    code = (
        "import sys; from medseg.method.catalog import methods; from medseg.method.schema import describe\n"
        "assert len([describe(method) for method in methods()]) > 10\n"
        "heavy = {'numba', 'torch', 'monai', 'SimpleITK', 'vtkmodules', 'vtk', 'pydicom', 'nibabel', 'highdicom', 'scipy', 'skimage'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
