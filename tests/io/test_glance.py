"""One look at how an image file begins: format, extents and labels are what other readers find in it."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from medseg.io.glance import ImageGlance, glance_at_image, promised_kind


def test_real_nifti_files_have_the_extents_that_nibabel_reads(shared_data: Path) -> None:
    paths = sorted(shared_data.glob("nifti_variants/**/*.nii*")) + sorted(shared_data.glob("*totalseg*/*.nii.gz"))
    for path in paths:
        image = nibabel.load(path)
        found = glance_at_image(path)
        assert found is not None
        assert (found.kind, found.sizes, found.problem) == ("NIfTI", image.shape[:3], ""), path
        assert found.has_one_byte == (image.header.get_data_dtype().itemsize == 1), path
    assert len(paths) > 5


def test_real_nrrd_files_have_the_extents_that_simpleitk_reads(shared_data: Path) -> None:
    paths = [
        path
        for folder in ("nrrd_variants", "nrrd_slicer_ctchest", "tumour_pyradiomics_brain1")
        for path in shared_data.glob(f"{folder}/**/*.n*rd")
    ]
    for path in sorted(paths):
        found = glance_at_image(path)
        assert found is not None
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        assert (found.kind, found.sizes) == ("NRRD", reader.GetSize()[:3]), path
        assert found.holds_labels == path.name.endswith(".seg.nrrd"), path
        assert [file.suffix for file in found.data_files] == ([".raw"] if path.suffix == ".nhdr" else []), path
    assert len(paths) > 5


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
@pytest.mark.parametrize(("dtype", "is_one_byte"), [(np.uint8, True), (np.int8, True), (np.int16, False), (np.float32, False)])
def test_files_of_simpleitk(tmp_path: Path, suffix: str, dtype: type, is_one_byte: bool) -> None:
    path = tmp_path / f"x{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((7, 5, 6), dtype)), str(path))
    found = glance_at_image(path)
    assert found is not None
    assert (found.sizes, found.has_one_byte, found.holds_labels) == ((6, 5, 7), is_one_byte, False)
    assert [file.name for file in found.data_files] == (["x.raw"] if suffix == ".mhd" else [])


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_a_label_intent_and_a_pair_of_files(tmp_path: Path, kind: type) -> None:
    image = kind(np.zeros((6, 5, 7), np.int16), np.eye(4))
    image.header.set_intent("label")
    nibabel.save(image, tmp_path / "labels.nii")
    found = glance_at_image(tmp_path / "labels.nii")
    assert found == ImageGlance("NIfTI", (6, 5, 7), holds_labels=True)
    pair = nibabel.Nifti1Pair if kind is nibabel.Nifti1Image else nibabel.Nifti2Pair
    nibabel.save(pair(np.zeros((6, 5, 7), np.int16), np.eye(4)), tmp_path / "pair.hdr")
    found = glance_at_image(tmp_path / "pair.hdr")
    assert found == ImageGlance("NIfTI", (6, 5, 7), data_files=(tmp_path / "pair.img",))


def test_big_endian_and_names_beside(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((6, 5, 7), np.int16), np.eye(4), nibabel.Nifti1Header(endianness=">"))
    nibabel.save(image, tmp_path / "big.nii")
    assert glance_at_image(tmp_path / "big.nii") == ImageGlance("NIfTI", (6, 5, 7))
    (tmp_path / "big.labels.csv").write_text("anything")
    assert glance_at_image(tmp_path / "big.nii") == ImageGlance("NIfTI", (6, 5, 7), holds_labels=True)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.nii", b"", "NIfTI"), ("a.NII.GZ", b"\x1f\x8b\x08", "NIfTI"), ("a.nrrd", b"NRRD0004\nsizes: x\n\n", "NRRD"),
        ("a.mha", b"x" * 900, "MetaImage"),
        ("a.mhd", b"ObjectType = Image\nNDims = 3\nElementDataFile = ../../etc/passwd\n", "MetaImage"),
        ("a.nhdr", b"NRRD0004\ntype: short\ndimension: 3\nsizes: 2 2 2\ndata file: gone.raw\n\n", "NRRD"),
        ("a.dcm", b"x" * 900, "DICOM"), ("a.dcm.gz", gzip.compress(bytes(128) + b"DICM" + bytes(80), mtime=0), "DICOM"),
        ("a.zip", b"no", "archive"),
    ],
)  # fmt: skip
def test_what_only_looks_like_an_image_has_a_problem(tmp_path: Path, name: str, content: bytes, kind: str) -> None:
    (tmp_path / name).write_bytes(content)
    found = glance_at_image(tmp_path / name)
    assert found is not None
    assert found.kind == kind
    assert found.problem


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "noname", "nii", "a.nii.txt", "a.gz"])
def test_what_does_not_look_like_one_is_none(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"anything else " * 100)
    assert glance_at_image(tmp_path / name) is None
    assert promised_kind(name) == ""


@pytest.mark.parametrize("dims", [(3, 6, 5, 0), (3, 6, -5, 7), (0, 6, 5, 7), (9, 6, 5, 7), (-1, 1, 1, 1)])
def test_impossible_extents_are_a_problem_and_no_thin_scan(tmp_path: Path, dims: tuple[int, ...]) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((6, 5, 7), np.int16), np.eye(4)), tmp_path / "x.nii")
    content = bytearray((tmp_path / "x.nii").read_bytes())
    content[40:48] = np.array(dims, "<i2").tobytes()
    (tmp_path / "x.nii").write_bytes(content)
    found = glance_at_image(tmp_path / "x.nii")
    assert found is not None
    assert (found.kind, found.sizes) == ("NIfTI", ())
    assert found.problem
