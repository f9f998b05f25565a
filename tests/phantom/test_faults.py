"""Faulty scans themselves: their truth by independent counting, one fault each, the same bytes each time."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.core import errors
from medseg.core.errors import ParameterError
from medseg.phantom.faults import FAULTS, ROWS, Action, Kind, find_faults
from medseg.phantom.faults.fault import Register
from medseg.phantom.faults.mosaic_faults import csa_header
from medseg.phantom.faults.nifti_faults import header, lps_affine, voxels
from medseg.phantom.faults.scene import ABOVE_HU, LAB, Scene, even_offsets, image, rotated, stack
from medseg.phantom.faults.score import Outcome, Verdict, error_percent, judge, measure_organ, totals
from medseg.phantom.faults.series import ct_series


def test_the_lab_organ_has_its_502_ml():
    assert pytest.approx(502.654825, abs=1e-6) == LAB.volume_ml
    assert LAB.scaled(0.9).volume_ml == pytest.approx(0.729 * LAB.volume_ml)


@pytest.mark.parametrize("turn", [np.eye(3), rotated("x", 25), rotated("z", 9) @ rotated("y", -12)], ids=["straight", "tilted", "oblique"])
def test_planes_slice_the_organ_where_it_is(turn):
    """Counted on points found from the planes' own corners, not through `image`."""
    planes = stack(row=turn[:, 0], column=turn[:, 1])
    count = 0
    for k, plane in enumerate(planes):
        rows, columns = np.indices(plane.size)
        lps = np.asarray(plane.position) + rows[..., None] * np.asarray(plane.column) + columns[..., None] * np.asarray(plane.row)
        local = (lps * (-1, -1, 1) - LAB.organ_mm) / LAB.semi_axes_mm
        inside = (local**2).sum(axis=-1) < 1
        np.testing.assert_array_equal(inside, image(plane, LAB, k) > ABOVE_HU)
        count += inside.sum()
    assert count * 2.5 / 1000 == pytest.approx(LAB.volume_ml, rel=1e-3)


def test_every_fault_says_what_it_is():
    for name, fault in FAULTS.items():
        assert fault.sentence.endswith("."), name
        assert len(fault.sentence) > 40, name
        assert fault.row in ROWS
        assert not fault.error or issubclass(getattr(errors, fault.error), errors.MedsegError)
        document = json.dumps(fault.truth(fault.build()), allow_nan=False)
        assert json.loads(document)["expected"]["action"] == fault.action.value
        assert fault.action is not Action.WARN or fault.codes, f"{name}: a warning has a name"


def test_the_same_fault_is_the_same_bytes():
    one, other = FAULTS["duplicates"].build(), FAULTS["duplicates"].build()
    for first, second in zip(one.files, other.files, strict=True):
        assert first.header == second.header
        np.testing.assert_array_equal(first.pixels, second.pixels)


def test_names_rows_and_lists_choose_faults():
    assert [fault.name for fault in find_faults("monochrome1")] == ["monochrome1"]
    assert {fault.row for fault in find_faults("n4, 24")} == {"N4", "24"}
    assert len(find_faults("all")) == len(FAULTS)
    with pytest.raises(ParameterError, match="--fault list"):
        find_faults("no such fault")


def test_a_name_is_taken_once():
    register = Register()
    register.put(FAULTS["oblique"])
    with pytest.raises(ValueError, match="two faults"):
        register.put(FAULTS["oblique"])


def test_nifti_bytes_are_what_simpleitk_reads(tmp_path):
    array = voxels(lps_affine())
    path = tmp_path / "sound.nii"
    path.write_bytes(header(lps_affine()) + array.astype("<i2").tobytes())
    read = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), array)
    np.testing.assert_allclose(read.GetOrigin(), (-63.5, -63.5, -98.75))  # LPS
    np.testing.assert_allclose(read.GetSpacing(), (1, 1, 2.5))


def test_a_csa_header_can_be_parsed_again():
    nicom = pytest.importorskip("nibabel.nicom.csareader")
    read = nicom.read(csa_header([("NumberOfImagesInMosaic", "US", ["64"]), ("SliceNormalVector", "FD", ["0.0", "0.0", "-1.0"])]))
    assert read["tags"]["NumberOfImagesInMosaic"]["items"] == [64]
    assert read["tags"]["SliceNormalVector"]["items"] == [0.0, 0.0, -1.0]
    assert struct.unpack_from("<I", csa_header([]), 8) == (0,)


def test_orders_and_offsets():
    assert even_offsets(4, 2.0).tolist() == [-3.0, -1.0, 1.0, 3.0]
    positions = np.array([file.header["ImagePositionPatient"] for file in ct_series("x")])
    np.testing.assert_allclose(np.diff(positions[:, 2]), 2.5)


def organ_of(scene: Scene = LAB, mirror: bool = False):
    affine = lps_affine()
    array = voxels(affine, scene).T
    return (array[::-1] if mirror else array), affine


def test_the_measure_finds_volume_marker_and_mirrors():
    answer = measure_organ(*organ_of(), ABOVE_HU)
    assert answer.volume_ml == pytest.approx(LAB.volume_ml, rel=1e-3)
    np.testing.assert_allclose(answer.marker_mm, LAB.marker_from_organ_mm, atol=1.3)
    mirrored = measure_organ(*organ_of(mirror=True), ABOVE_HU)
    assert mirrored.marker_mm[0] == pytest.approx(56, abs=1.3)


def test_verdicts():
    scan = FAULTS["oblique"].build()
    right = measure_organ(*organ_of(), ABOVE_HU)
    mirrored = measure_organ(*organ_of(mirror=True), ABOVE_HU)
    small = measure_organ(*organ_of(LAB.scaled(0.97)), ABOVE_HU)
    loads, refuses, asks = FAULTS["oblique"], FAULTS["slice-missing"], FAULTS["echoes"]
    assert judge(loads, scan, Outcome.LOADED, right)[0] is Verdict.RIGHT
    assert judge(loads, scan, Outcome.LOADED, mirrored)[0] is Verdict.WRONG
    assert judge(loads, scan, Outcome.LOADED, small)[:2] == (Verdict.WRONG, pytest.approx(100 * (0.97**3 - 1), abs=0.1))
    assert judge(loads, scan, Outcome.REFUSED, None)[0] is Verdict.REFUSED
    assert judge(refuses, scan, Outcome.REFUSED, None)[0] is Verdict.RIGHT
    assert judge(refuses, scan, Outcome.CRASHED, None)[0] is Verdict.REFUSED
    assert judge(refuses, scan, Outcome.LOADED, right)[::3] == (Verdict.RIGHT, "guessed")
    unsure = FAULTS["padding-wrapped-untold"]
    assert judge(unsure, scan, Outcome.LOADED, small, "all is well")[0] is Verdict.WRONG
    assert judge(unsure, scan, Outcome.LOADED, small, "warning PADDING_SUSPECTED")[0] is Verdict.RIGHT
    assert judge(asks, scan, Outcome.REFUSED, None)[::3] == (Verdict.RIGHT, "")
    assert error_percent(110, [100, 111]) == pytest.approx(-100 / 111)
    assert totals([]) == {"right": 0, "silently wrong": 0, "refused": 0, "guessed": 0}


def test_kinds_are_told_apart():
    assert {fault.row for fault in FAULTS.values() if fault.kind is not Kind.SCAN} == {"L1", "L2"}
