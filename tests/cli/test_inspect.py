"""`medseg inspect` as a user types it: exit codes, the ways on, prices, and one document."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest

from medseg.cli.main import run as run_program


def inspected(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[dict]]:
    code = run_program(["inspect", *map(str, arguments), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "medseg.inspect/1"
    return code, document["volumes"]


@pytest.mark.parametrize(
    ("case", "options", "code"),
    [
        ("dicom_ct_missing_slices/dicom", (), 3),
        ("dicom_ct_missing_slices/dicom", ("--allow-gaps",), 0),
        ("dicom_mr_ge_epi_4d/dicom", (), 3),
        ("dicom_mr_ge_epi_4d/dicom", ("--volume", 2), 0),
        ("dicom_mr_ge_epi_4d/dicom", ("--select", 3), 0),
        ("dicom_bad_series/gantry_tilt/dicom", (), 0),
        ("dicom_bad_series/two_orientations/dicom", (), 3),
        ("dicom_rgb_slices", (), 3),
        ("nifti_variants/functional.nii", (), 3),
        ("nifti_variants/functional.nii", ("--volume", 19), 0),
        ("dicom_seg_qin_prostate/seg.dcm", (), 0),
        ("rtstruct_breast_tps/rtss.dcm", (), 0),
        ("tumour_sts_025/rtstruct", (), 0),
    ],
)
def test_the_exit_code_says_whether_all_may_be_reported(shared_data, capsys, case, options, code):
    found, volumes = inspected(capsys, shared_data / case, *options)
    assert found == code
    assert all(volume["reportable"] for volume in volumes) == (code == 0)


def test_what_was_taken_is_recorded(shared_data, capsys):
    _, (volume,) = inspected(capsys, shared_data / "dicom_ct_missing_slices" / "dicom", "--allow-gaps")
    assert volume["options_used"] == ["--allow-gaps"]
    assert "GAPS_INTERPOLATED" in {finding["code"] for finding in volume["findings"]}
    assert (volume["slices_found"], volume["slices_expected"], volume["shape"]) == (44, 47, [149, 138, 47])


def test_faults_are_priced_segment_by_segment(shared_data, capsys):
    mask = shared_data / "tumour_sts_025" / "reference" / "CT_mask.nii.gz"
    code, (volume,) = inspected(capsys, shared_data / "dicom_ct_missing_slices" / "dicom", "--segmentation", mask)
    (price,) = volume["prices"]
    assert code == 3
    assert set(price) >= {"label", "stacked_ml", "true_ml", "interpolated_ml", "gaps", "touches", "readers_ml", "error_percent"}
    assert price["true_ml"] == pytest.approx(30.109, abs=1e-3)
    assert [round(gap["gap_mm"], 2) for gap in price["gaps"]] == [6.54]


def test_two_transforms_that_disagree_need_a_choice(tmp_path, capsys):
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.diag([1.0, 1, 2, 1]))
    image.set_sform(np.diag([1.0, 1, 3, 1]), 1)
    image.set_qform(np.diag([1.0, 1, 2, 1]), 1)
    image.header["pixdim"][3] = 2
    nibabel.save(image, tmp_path / "two.nii")
    code, (refused,) = inspected(capsys, tmp_path / "two.nii")
    assert code == 3
    assert any("--nifti-xform" in finding["advice"]["action"] for finding in refused["findings"])
    for name, spacing in (("sform", 3), ("qform", 2)):
        code, (volume,) = inspected(capsys, tmp_path / "two.nii", "--nifti-xform", name)
        assert (code, volume["spacing_mm"][2]) == (0, spacing)
        assert "XFORM_CHOSEN" in {finding["code"] for finding in volume["findings"]}


def test_people_get_the_same_as_programs(shared_data, capsys):
    assert run_program(["inspect", str(shared_data / "dicom_ct_missing_slices" / "dicom")]) == 3
    text = capsys.readouterr().out
    for part in ("must not be reported", "MISSING_SLICES", "44 found, 47 expected, 3 missing", "394.28", "--allow-gaps"):
        assert part in text
    assert run_program(["inspect", str(shared_data / "dicom_ct_missing_slices" / "dicom"), "--quiet"]) == 3
    assert capsys.readouterr().out == ""
