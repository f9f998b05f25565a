"""One description of a method: what it accepts, what it says when it does not, and how it is found."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from medseg.core.errors import DuplicateMethodError, GeometryMismatchError, MethodError, ParameterError, UnknownMethodError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.method import catalog
from medseg.method.builtin import BUILTIN_METHODS
from medseg.method.method import Stage, method
from medseg.method.param import Field, LabelMapInput, MethodParams, PointRAS
from medseg.method.schema import describe, parameters_of
from medseg.method.settings import RunSettings


class ShiftParams(MethodParams):
    seeds: list[PointRAS] = Field(description="Points inside", unit="mm RAS", min_length=1)
    offset: float = Field(1.0, description="Added to every voxel", unit="HU", ge=-10, le=10)
    connectivity: Literal[6, 18, 26] = Field(6, description="Neighbours that count as touching")
    again: bool = Field(False, description="Twice")
    markers: LabelMapInput | None = Field(None, description="Where to begin")


@method("shift", stage=Stage.PREPROCESS, reference="doi:10.0000/none")
def shift(volume: Volume, params: ShiftParams, settings: RunSettings) -> Volume:
    """Add an offset.

    More about it.
    """
    settings.progress("shift", 1, 1)
    return volume.with_array(volume.array + params.offset)


VOLUME = Volume(np.zeros((2, 2, 2)), Geometry((2, 2, 2), np.eye(4)))


def test_a_method_is_called_with_checked_parameters_and_gets_the_settings_it_names():
    calls = []
    params = shift.build({"seeds": ["-1,2.5,3"], "offset": 2})
    result = shift(VOLUME, params, settings=RunSettings(progress=lambda *call: calls.append(call)))
    assert result.array[0, 0, 0] == 2
    assert calls == [("shift", 1, 1)]
    assert params.seeds == [(-1.0, 2.5, 3.0)]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "seeds is required"),
        ({"seeds": [(1, 2, 3)], "ofset": 1}, "no parameter 'ofset'"),
        ({"seeds": [(1, 2, 3)], "offset": 11}, "offset"),
        ({"seeds": [(1, 2)]}, "seeds"),
        ({"seeds": (1, 2, 3)}, "three numbers"),
        ({"seeds": [(1, 2, float("nan"))]}, "finite"),
        ({"seeds": ["a,b,c"]}, "seeds"),
        ({"seeds": [(1, 2, 3)], "connectivity": 7}, "connectivity"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [(1, 2, 3)], "markers": "file.nii"}, "markers"),
    ],
)
def test_a_wrong_parameter_is_named_in_one_line(values, says):
    with pytest.raises(ParameterError, match="shift: ") as caught:
        shift.build(values)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_description_holds_everything_an_interface_needs():
    kinds = {info.name: (info.kind, info.is_list, info.required, info.unit) for info in parameters_of(ShiftParams)}
    assert kinds == {
        "seeds": ("point", True, True, "mm RAS"),
        "offset": ("number", False, False, "HU"),
        "connectivity": ("choice", False, False, ""),
        "again": ("boolean", False, False, ""),
        "markers": ("label-map", False, False, ""),
    }
    entry = describe(shift)
    assert entry["summary"] == "Add an offset."
    assert entry["parameters"][1]["limits"] == {"ge": -10.0, "le": 10.0}
    assert entry["parameters"][2]["choices"] == [6, 18, 26]
    assert set(entry["json_schema"]["properties"]) == set(kinds)


def test_a_function_without_a_parameter_model_is_no_method():
    with pytest.raises(MethodError):
        method("bad", stage=Stage.SEGMENT)(lambda volume, params: volume)


def test_an_unknown_name_gets_the_nearest_known_one():
    with pytest.raises(UnknownMethodError, match="region-growing"):
        catalog.find("region-growin")


def test_a_method_of_another_stage_is_not_found():
    with pytest.raises(UnknownMethodError, match="preprocess"):
        catalog.find("gaussian", Stage.SEGMENT)


def test_a_taken_name_raises():
    names = dict(BUILTIN_METHODS)
    with pytest.raises(DuplicateMethodError, match="otsu"):
        catalog.add_entry(names, "otsu", "other.package:otsu")
    catalog.add_entry(names, "mine", "other.package:mine")
    assert names["mine"] == "other.package:mine"


@pytest.mark.parametrize("target", ["medseg.nowhere:x", "medseg.core.geometry:nothing", "medseg.core.geometry:Geometry"])
def test_a_broken_registration_is_named(target):
    with pytest.raises(MethodError, match="medseg"):
        catalog.load(target)


@pytest.mark.parametrize("name", BUILTIN_METHODS)
def test_every_built_in_method_is_there_under_its_name(name):
    assert catalog.find(name).name == name


@method("mean-of-channels", stage=Stage.PREPROCESS, several=True)
def mean_of_channels(volume: Volume | tuple[Volume, ...], params: MethodParams) -> Volume:
    """Average the channels."""
    volumes = volume if isinstance(volume, tuple) else (volume,)
    return volumes[0].with_array(np.mean([one.array for one in volumes], axis=0))


def scan(value: float, shift_mm: float = 0.0) -> Volume:
    affine = np.eye(4)
    affine[0, 3] = shift_mm
    return Volume(np.full((2, 2, 2), value), Geometry((2, 2, 2), affine))


def test_channels_of_one_scan_are_handed_over_together():
    assert mean_of_channels([scan(1), scan(3)], MethodParams()).array.max() == 2
    assert mean_of_channels([scan(1)], MethodParams()).array.max() == 1
    assert describe(mean_of_channels)["several_volumes"] is True


def test_channels_on_two_grids_are_refused():
    with pytest.raises(GeometryMismatchError, match="scan 2 of 2"):
        mean_of_channels((scan(1), scan(3, shift_mm=1)), MethodParams())


def test_a_method_for_one_scan_refuses_several():
    with pytest.raises(ParameterError, match="one scan, 2 were given"):
        shift((scan(1), scan(2)), shift.build({"seeds": [(0, 0, 0)]}))
    with pytest.raises(ParameterError, match="no scan"):
        shift((), shift.build({"seeds": [(0, 0, 0)]}))
