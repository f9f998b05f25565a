from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from medseg.io.dicom.csa import csa_values, protocol_slice_positions
from medseg.io.dicom.header import SliceHeader, read_headers
from medseg.io.dicom.sort import stack_affine

CASES = [
    ("dicom_mr_mosaic_orientations/axial/dicom", "dicom_mr_mosaic_orientations/axial/reference.nii"),
    ("dicom_mr_mosaic_orientations/coronal/dicom", "dicom_mr_mosaic_orientations/coronal/reference.nii"),
    ("dicom_mr_mosaic_orientations/sagittal/dicom", "dicom_mr_mosaic_orientations/sagittal/reference.nii"),
    ("dicom_mr_prone/dicom", "dicom_mr_prone/reference.nii.gz"),
    ("dicom_12bit_in_16/dicom/12bitUnsigned.dcm", "dicom_12bit_in_16/reference/12bitUnsigned.nii"),
    ("dicom_12bit_in_16/dicom/12bitSigned_0x0F0F.dcm", "dicom_12bit_in_16/reference/12bitSigned_0x0F0F.nii"),
]


def _tiles(path: Path) -> tuple[tuple[SliceHeader, ...], np.ndarray]:
    """The slices of a mosaic, and their pixels (k,j,i) cut out of what pydicom decodes."""
    slices = read_headers(str(path))
    picture = pydicom.dcmread(path).pixel_array
    assert all(header.stored_size == picture.shape for header in slices)
    cut = [
        picture[row : row + header.rows, column : column + header.columns] for header in slices for row, column in [header.tile or (-1, -1)]
    ]
    return slices, np.stack(cut)


def _values_at(image: nibabel.Nifti1Image, points_ras: np.ndarray) -> np.ndarray:
    """Values of the voxels whose centres are the given points; every point must be one."""
    index = nibabel.affines.apply_affine(np.linalg.inv(image.affine), points_ras)
    nearest = np.rint(index).astype(int)
    assert np.abs(index - nearest).max() < 2e-3
    return np.asarray(image.dataobj)[tuple(np.moveaxis(nearest, -1, 0))]


@pytest.mark.parametrize(("name", "reference"), CASES)
def test_every_voxel_lies_where_dcm2niix_puts_it(shared_data: Path, name: str, reference: str) -> None:
    place = shared_data / name
    image = nibabel.load(shared_data / reference)
    files = [place] if place.is_file() else list(place.iterdir())
    files.sort(key=lambda file: pydicom.dcmread(file, specific_tags=["InstanceNumber"]).InstanceNumber)
    for time, file in enumerate(files):
        slices, pixels = _tiles(file)
        volume = image if image.ndim == 3 else image.slicer[..., time]
        assert pixels.shape == volume.shape[::-1]
        k, j, i = np.indices(pixels.shape)
        points = nibabel.affines.apply_affine(stack_affine(slices), np.stack([i, j, k], axis=-1))
        np.testing.assert_array_equal(_values_at(volume, points), pixels)
        for header, point in zip(slices, points[:, 0, 0], strict=True):
            np.testing.assert_allclose(np.asarray(header.position) * (-1, -1, 1), point, atol=1e-6)


def test_the_encoding_of_the_pixels_and_of_the_header_does_not_matter(shared_data: Path) -> None:
    files = sorted((shared_data / "dicom_transfer_syntaxes_mr" / "dicom").iterdir())
    first, *others = [read_headers(str(file)) for file in files]
    assert len(first) == 35
    assert len({slices[0].transfer_syntax for slices in (first, *others)}) == 7
    for slices in others:
        assert [(one.position, one.tile, one.rows, one.columns) for one in slices] == [
            (one.position, one.tile, one.rows, one.columns) for one in first
        ]


@pytest.fixture
def edited(shared_data: Path, tmp_path: Path) -> Callable[..., tuple[SliceHeader, ...]]:
    """Return a function that reads a sagittal mosaic (its slices run against the picture's normal) after an edit."""
    (source, *_) = sorted((shared_data / "dicom_mr_mosaic_orientations" / "sagittal" / "dicom").iterdir())

    def read(edit: Callable[[Dataset], None]) -> tuple[SliceHeader, ...]:
        dataset = pydicom.dcmread(source)
        edit(dataset)
        dataset.save_as(tmp_path / "edited.dcm")
        return read_headers(str(tmp_path / "edited.dcm"))

    return read


def _without_group(*groups: int) -> Callable[[Dataset], None]:
    def edit(dataset: Dataset) -> None:
        for element in list(dataset):
            if element.tag.group in groups:
                del dataset[element.tag]

    return edit


def _renamed(tag: int, *names: tuple[bytes, bytes]) -> Callable[[Dataset], None]:
    def edit(dataset: Dataset) -> None:
        raw = dataset[tag].value
        for old, new in names:
            assert len(old) == len(new)
            assert old in raw
            raw = raw.replace(old, new)
        dataset[tag].value = raw

    return edit


def _in_another_block(dataset: Dataset) -> None:
    for element in list(dataset.group_dataset(0x0029)):
        if element.tag.elem == 0x10 or element.tag.elem >> 8 == 0x10:
            del dataset[element.tag]
            number = 0x12 if element.tag.elem == 0x10 else 0x1200 | element.tag.elem & 0xFF
            dataset.add_new((0x0029, number), element.VR, element.value)


IMAGE_HEADER, SERIES_HEADER = 0x00291010, 0x00291020


def test_slices_follow_the_stated_side_not_the_pictures_normal(edited) -> None:
    slices = edited(lambda dataset: None)
    way = np.subtract(slices[-1].position, slices[0].position)
    np.testing.assert_allclose(way, (35 * 3.6, 0, 0), atol=1e-4)
    orientation = np.asarray(slices[0].orientation)
    assert np.cross(orientation[:3], orientation[3:]) @ way < 0


@pytest.mark.parametrize(
    "edit",
    [
        _renamed(IMAGE_HEADER, (b"SliceNormalVector", b"SliceXormalVector")),  # the protocol alone tells the side
        _renamed(SERIES_HEADER, (b"ASCCONV BEGIN", b"ASCCONV BEXIN")),  # the normal alone
        _without_group(0x0019),  # the count stands in the CSA header too
        _renamed(IMAGE_HEADER, (b"NumberOfImagesInMosaic", b"XumberOfImagesInMosaic")),  # and in (0019,100A)
        lambda dataset: delattr(dataset, "SpacingBetweenSlices"),
        _in_another_block,
    ],
)
def test_one_of_two_sources_is_enough(edited, edit) -> None:
    expected = [one.position for one in edited(lambda dataset: None)]
    np.testing.assert_allclose([one.position for one in edited(edit)], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (_without_group(0x0019, 0x0029), "that counts them was removed"),
        (_without_group(0x0029), "to which side they follow one another was removed"),
        (lambda dataset: setattr(dataset, "SpacingBetweenSlices", 7.2), "7.2 mm apart, the scan protocol 3.6 mm"),
        (_renamed(IMAGE_HEADER, (b"\x001.00000000\x00", b"\x00-1.0000000\x00")), "opposite sides"),
        (_renamed(IMAGE_HEADER, (b"\x001.00000000\x00", b"\x000.50000000\x00")), "different orientations"),
        (_renamed(SERIES_HEADER, (b"asSlice[7].sPosition.dSag", b"asSlice[7].sPosition.xSag")), "uneven distances"),
        (_renamed(IMAGE_HEADER, (b"36      \0", b"50      \0")), "holds 50 slices, the scan protocol plans 36"),
        (_renamed(IMAGE_HEADER, (b"36      \0", b"23      \0")), "do not fit a picture of 384 × 384"),
        (lambda dataset: delattr(dataset, "ImagePositionPatient"), "no position"),
        (lambda dataset: setattr(dataset, "PixelSpacing", [0, 3]), "no orientation or pixel spacing"),
    ],
)
def test_a_mosaic_that_cannot_be_placed_says_why(edited, edit, reason: str) -> None:
    (whole,) = edited(edit)
    assert reason in whole.unusable
    assert "dcm2niix" in whole.unusable
    assert (whole.rows, whole.columns, whole.tile, whole.stored_size) == (384, 384, None, None)


def test_the_word_alone_on_an_ordinary_image_means_nothing(edited) -> None:
    def edit(dataset: Dataset) -> None:
        _without_group(0x0019, 0x0029)(dataset)
        dataset.AcquisitionMatrix = [0, 384, 384, 0]

    (plain,) = edited(edit)
    assert (plain.unusable, plain.rows, plain.tile) == ("", 384, None)


def test_a_damaged_private_header_never_raises(shared_data: Path) -> None:
    dataset = pydicom.dcmread(shared_data / "dicom_mr_prone" / "dicom" / "0001.dcm")
    random = np.random.default_rng(5)
    for tag in (IMAGE_HEADER, SERIES_HEADER):
        whole = np.frombuffer(dataset[tag].value[:6000], np.uint8)
        for _ in range(200):
            spoiled = whole.copy()
            spoiled[random.integers(0, 400, 5)] = random.integers(0, 256, 5)
            raw = spoiled.tobytes()[: int(random.integers(0, spoiled.size + 1))]
            csa_values(raw)
            protocol_slice_positions(raw)


def test_both_forms_of_the_private_header_are_read() -> None:
    def item(value: bytes, lengths: tuple[int, int, int, int]) -> bytes:
        return struct.pack("<4i", *lengths) + value + bytes(-len(value) % 4)

    def tag(name: bytes, *items: bytes) -> bytes:
        return struct.pack("<64si4siii", name, len(items), b"FD", 3, len(items), 77) + b"".join(items)

    new = b"SV10\4\3\2\1" + struct.pack("<II", 2, 77)
    new += tag(b"SliceNormalVector", *(item(value, (4, 4, 77, 4)) for value in (b"0.0\0", b"0.6\0", b"0.8\0")))
    new += tag(b"NumberOfImagesInMosaic", item(b"36\0", (3, 3, 77, 3)))
    expected = {"SliceNormalVector": ("0.0", "0.6", "0.8"), "NumberOfImagesInMosaic": ("36",)}
    assert csa_values(new) == expected
    old = struct.pack("<II", 2, 77)  # here a length is counted from the number of items of the first tag
    old += tag(b"SliceNormalVector", *(item(value, (3 + 4, 0, 0, 0)) for value in (b"0.0\0", b"0.6\0", b"0.8\0")))
    old += tag(b"NumberOfImagesInMosaic", item(b"36\0", (3 + 3, 0, 0, 0)))
    assert csa_values(old) == expected
    assert csa_values(b"") == csa_values(b"SV10") == csa_values(bytes(500)) == {}
