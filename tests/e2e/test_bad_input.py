"""Bad input ends in one clear line and the right exit code, and leaves nothing behind."""

from __future__ import annotations

import gzip
import json

import nibabel
import numpy as np
import pytest

GOOD = np.zeros((8, 9, 10), np.int16)
GOOD[2:5, 2:5, 2:5] = 100


def save(path, array=GOOD, affine=None):
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def raw(tmp_path):
    return save(tmp_path / "good.nii").read_bytes()


def truncated(tmp_path):
    (tmp_path / "bad.nii").write_bytes(raw(tmp_path)[:-200])
    return "bad.nii"


def truncated_gzip(tmp_path):
    (tmp_path / "bad.nii.gz").write_bytes(gzip.compress(raw(tmp_path))[:-20])
    return "bad.nii.gz"


def flipped_byte(tmp_path):
    data = bytearray(gzip.compress(np.random.default_rng(0).integers(0, 255, 4000, np.uint8).tobytes().join([raw(tmp_path), b""])))
    data[-5] ^= 0x55
    (tmp_path / "bad.nii.gz").write_bytes(bytes(data))
    return "bad.nii.gz"


def four_dimensional(tmp_path):
    save(tmp_path / "bad.nii", np.zeros((4, 4, 4, 5), np.int16))
    return "bad.nii"


def zero_spacing(tmp_path):
    data = bytearray(raw(tmp_path))
    data[80:92] = bytes(12)  # pixdim 1 to 3
    data[252:256] = bytes(4)  # qform and sform codes
    (tmp_path / "bad.nii").write_bytes(bytes(data))
    return "bad.nii"


def no_image(tmp_path):
    (tmp_path / "bad.nii").write_text("these are words")
    return "bad.nii"


def empty_file(tmp_path):
    (tmp_path / "bad.nii.gz").write_bytes(b"")
    return "bad.nii.gz"


def empty_folder(tmp_path):
    (tmp_path / "bad").mkdir()
    return "bad"


def folder_of_text(tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "notes.txt").write_text("hello")
    return "bad"


def missing(tmp_path):
    return "missing.nii.gz"


UNUSABLE = [
    truncated,
    truncated_gzip,
    flipped_byte,
    four_dimensional,
    zero_spacing,
    no_image,
    empty_file,
    empty_folder,
    folder_of_text,
    missing,
]


@pytest.mark.parametrize("make", UNUSABLE)
def test_unusable_input_is_exit_3_and_one_line(medseg, tmp_path, make):
    name = make(tmp_path)
    done = medseg("segment", "threshold", name, "-o", "out/found.nii.gz", "--lower", 50)
    assert done.code == 3, done.err
    assert done.err.startswith("medseg: ")
    assert done.err.count("\n") == 1
    assert not list(tmp_path.glob("*out*"))
    assert not list(tmp_path.glob("*tmp*"))


@pytest.mark.parametrize("make", [truncated_gzip, missing])
def test_an_error_is_a_json_document_too(medseg, tmp_path, make):
    done = medseg("measure", make(tmp_path), "--json")
    error = json.loads(done.out)["error"]
    assert (done.code, error["exit_code"]) == (3, 3)
    assert error["message"] in done.err


def test_nan_is_named_not_measured_as_a_number(medseg, tmp_path):
    array = GOOD.astype(np.float32)
    array[3, 3, 3] = np.nan
    save(tmp_path / "nan.nii.gz", array)
    done = medseg("inspect", "nan.nii.gz", "--json")
    assert "NON_FINITE_VOXELS" in [finding["code"] for finding in done.document["volumes"][0]["findings"]]
    done = medseg("segment", "threshold", "nan.nii.gz", "-o", "o.nii.gz", "--lower", 50, "--json")
    assert done.document["segments"][0]["voxel_count"] == 26


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["segment", "treshold", "good.nii", "-o", "o.nii"], 2, "threshold"),
        (["segment", "region-growing", "good.nii", "-o", "o.nii"], 2, "seed"),
        (["segment", "region-growing", "good.nii", "-o", "o.nii", "--seed", "1,2", "--lower", "1"], 2, "seed"),
        (["segment", "region-growing", "good.nii", "-o", "o.nii", "--seed", "500,2,2", "--lower", "1"], 2, "500"),
        (["segment", "threshold", "good.nii", "-o", "o.nii", "--lower", "x"], 2, "lower"),
        (["segment", "threshold", "good.nii", "-o", "o.xyz", "--lower", "1"], 5, "xyz"),
        (["segment", "threshold", "good.nii", "-o", "file/below/o.nii", "--lower", "1"], 5, "file"),
        (["segment", "threshold", "good.nii", "-o", "good.nii", "--lower", "1"], 5, "overwriting"),
        (["segment", "threshold", "good.nii", "-o", "good.nii", "--lower", "1", "--overwrite"], 2, "the scan itself"),
        (["segment", "threshold", "good.nii", "-o", "o.dcm", "--lower", "1"], 5, "DICOM"),
        (["segment", "model", "good.nii", "-o", "o.nii", "--model", "nowhere"], 4, "nowhere"),
        (["run", "nothing", "good.nii", "-o", "out"], 4, "ct-phantom"),
        (["run", "ct-phantom"], 2, "needs"),
        (["frobnicate"], 2, "frobnicate"),
        (["measure", "good.nii", "--image", "other.nii"], 3, "grid"),
        (["evaluate", "good.nii", "other.nii"], 3, "grid"),
        (["measure", "good.nii", "-o", "t.txt"], 3, "csv"),
        (["phantom", "cube", "-o", "x"], 2, "torso"),
    ],
)
def test_each_fault_has_its_exit_code_and_leaves_nothing(medseg, tmp_path, arguments, code, says):
    save(tmp_path / "good.nii")
    save(tmp_path / "other.nii", np.pad(GOOD, ((0, 1), (0, 0), (0, 0))), np.diag([1, 1, 1.2, 1.0]))
    (tmp_path / "file").write_text("in the way")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    done = medseg(*arguments)
    assert (done.code, says in done.err) == (code, True), done.err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_non_image_dicom_is_named(medseg, tmp_path):
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    report = Dataset()
    report.file_meta = FileMetaDataset()
    report.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
    report.SOPInstanceUID = report.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    report.SeriesInstanceUID, report.StudyInstanceUID, report.Modality = generate_uid(), generate_uid(), "SR"
    report.PatientName, report.PatientID = "ZZCANARY^NAME", "ZZCANARY-ID"
    (tmp_path / "sr").mkdir()
    report.save_as(tmp_path / "sr" / "a.dcm", enforce_file_format=True)
    done = medseg("convert", "sr", "out.nii.gz")
    assert done.code == 3
    assert "SR" in done.err
    assert "ZZCANARY" not in done.err + done.out
    assert not (tmp_path / "out.nii.gz").exists()
