"""Makers of bad input: each takes an empty folder and returns the path, or paths, that a reader is given."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from made_compressed import JPEG_2000, JPEG_LS, RLE
from made_files import SHAPE, VOXELS, metaimage, nrrd, saved
from made_multiframe import make_enhanced
from made_series import Edit, edit_files, numbered_volume
from pydicom.dataset import Dataset

from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.series import write_series

Make = Callable[[Path], Any]
SPATIAL = "dimension: 3\nsizes: {}\nspace: LPS\nspace directions: (1,0,0) (0,1,0) (0,0,2)\nspace origin: (0,0,0)"
META = "NDims = 3\nDimSize = {}\nElementSpacing = 1 1 2\nTransformMatrix = 1 0 0 0 1 0 0 0 1"
FRAMES = [{"ImagePositionPatient": [0, 0, 2.5 * k]} for k in range(3)]


def series(folder: Path, edit: Edit | None = None, name: str = "series", seed: str = "bad", **options: Any) -> Path:
    """A sound CT series of six slices, changed by `edit`."""
    files = write_series(numbered_volume(**options), folder / name, seed=seed)
    if edit is not None:
        with quiet():
            edit_files(list(files), edit)
    return folder / name


def with_field(keyword: str, *values: Any) -> Make:
    """A series for each value of a field; None leaves it out; a text is stored as it is, however wrong."""

    def make(folder: Path) -> list[Path]:
        return [series(folder, _setting(keyword, value), f"series{n}") for n, value in enumerate(values)]

    return make


def _setting(keyword: str, value: Any) -> Edit:
    def edit(dataset: Dataset, _: int) -> None:
        if value is None:
            delattr(dataset, keyword)
        else:
            tag = pydicom.datadict.tag_for_keyword(keyword)
            raw = value.encode() + b" " * (len(value) % 2)
            dataset._dict[pydicom.tag.BaseTag(tag)] = pydicom.dataelem.RawDataElement(
                pydicom.tag.BaseTag(tag), "DS", len(raw), raw, 0, False, True
            )

    return edit


def with_slice(change: Callable[[bytes], bytes]) -> Make:
    """A series with the bytes of its third file changed."""

    def make(folder: Path) -> Path:
        file = series(folder) / "slice_0003.dcm"
        file.write_bytes(change(file.read_bytes()))
        return file.parent

    return make


def image_files(folder: Path) -> list[Path]:
    """One sound file of each format."""
    return [
        saved(folder / "x.nii"),
        saved(folder / "y.nii.gz"),
        nrrd(folder / "x.nrrd", SPATIAL.format("6 5 4")),
        nrrd(folder / "y.nrrd", SPATIAL.format("6 5 4"), gz=True),
        metaimage(folder / "x.mha", META.format("6 5 4")),
    ]


def truncated_files(folder: Path) -> list[Path]:
    files = image_files(folder)
    for file in files:
        file.write_bytes(file.read_bytes()[:-9])
    return files


def damaged_gzip(folder: Path) -> list[Path]:
    noise = np.random.default_rng(0).integers(-1000, 1000, SHAPE, np.int16)
    whole = saved(folder / "whole.nii.gz", noise).read_bytes()
    flipped, checksum = bytearray(whole), bytearray(whole)
    flipped[len(whole) // 2] ^= 0x10
    checksum[-6] ^= 0x55
    made = {"flipped": bytes(flipped), "checksum": bytes(checksum), "trailing": whole + b"more"}
    paths = [folder / f"{name}.nii.gz" for name in made]
    for path, data in zip(paths, made.values(), strict=True):
        path.write_bytes(data)
    return paths


def gzip_bomb(folder: Path) -> Path:
    (folder / "bomb.nii.gz").write_bytes(gzip.compress(saved(folder / "x.nii").read_bytes() + bytes(200 << 20), 1))
    return folder / "bomb.nii.gz"


def huge_headers(folder: Path) -> list[Path]:
    (folder / "x.nii.gz").write_bytes(gzip.compress(saved(folder / "x.nii", dim=(3, *[32767] * 3, 1, 1, 1, 1)).read_bytes()))
    sides = "32767 32767 32767"
    text = [nrrd(folder / "x.nrrd", SPATIAL.format(sides)), nrrd(folder / "y.nrrd", SPATIAL.format(sides), gz=True)]
    return [folder / "x.nii", folder / "x.nii.gz", *text, metaimage(folder / "x.mha", META.format(sides))]


def _rows_and_columns(dataset: Dataset, _: int) -> None:
    dataset.Rows = dataset.Columns = 65535


def huge_slices(folder: Path) -> Path:
    return series(folder, _rows_and_columns)


def wrong_codestreams(folder: Path) -> list[Path]:
    """Series in three encodings whose headers count fewer or more rows than their frames have."""
    paths = []
    for n, syntax in enumerate((RLE, JPEG_LS, JPEG_2000)):
        for rows in (24, 96):

            def edit(dataset: Dataset, _: int, syntax: str = syntax, rows: int = rows) -> None:
                dataset.compress(syntax, generate_instance_uid=False)
                dataset.Rows = rows

            paths.append(series(folder, edit, f"series{n}-{rows}", shape=(40, 48, 4)))
    return paths


def deflated_bomb(folder: Path) -> Path:
    """A slice of 0.2 MB that grows to 200 MB when its header is inflated."""
    found = series(folder)
    for file in sorted(found.iterdir()):
        dataset = pydicom.dcmread(file)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        dataset.save_as(file)
    whole = file.read_bytes()
    start = 144 + struct.unpack_from("<L", whole, 140)[0]
    packer, chunk = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS), bytes(1 << 20)
    file.write_bytes(whole[:start] + b"".join(packer.compress(chunk) for _ in range(200)) + packer.flush())
    return found


def many_frames(folder: Path) -> Path:
    return make_enhanced(folder / "x.dcm", FRAMES, NumberOfFrames=100_000)


def frames_without_description(folder: Path) -> list[Path]:
    short = make_enhanced(folder / "short.dcm", FRAMES)
    dataset = pydicom.dcmread(short)
    dataset.PixelData = dataset.PixelData[:-30]
    dataset.save_as(short)
    return [make_enhanced(folder / f"{n}.dcm", FRAMES, NumberOfFrames=n) for n in (2, 4)] + [short]


NOT_IMAGES = {
    "1.2.840.10008.5.1.4.1.1.88.33": "SR",
    "1.2.840.10008.5.1.4.1.1.11.1": "presentation state",
    "1.2.840.10008.5.1.4.1.1.88.59": "key object|KO",
    "1.2.840.10008.5.1.4.1.1.481.3": "RTSTRUCT",
    "1.2.840.10008.5.1.4.1.1.104.1": "PDF|document",
    "1.2.840.10008.5.1.4.1.1.66.4": "SEG|segmentation",
}


def not_images(folder: Path) -> list[Path]:
    paths = []
    for n, uid in enumerate(NOT_IMAGES):

        def edit(dataset: Dataset, _: int, uid: str = uid) -> None:
            dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = uid
            dataset.PatientName = "ZZCANARY^NAME"
            del dataset.PixelData

        paths.append(series(folder, edit, f"series{n}"))
    return paths


def empty_folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def two_series(folder: Path) -> Path:
    found = series(folder)
    for file in series(folder, name="other", seed="other").iterdir():
        file.rename(found / f"b{file.name}")
    return found


def two_folders(folder: Path) -> Path:
    found = series(folder)
    (found / "more").mkdir()
    (found / "slice_0006.dcm").rename(found / "more" / "x")
    return found


def conflicting_copies(folder: Path) -> Path:
    found = series(folder)
    (found / "more").mkdir()
    dataset = pydicom.dcmread(found / "slice_0003.dcm")
    dataset.PixelData = bytes(len(dataset.PixelData))
    dataset.save_as(found / "more" / "x.dcm")
    return found


def several_copies(folder: Path) -> list[Path]:
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    return [two_folders(folder / "a"), conflicting_copies(folder / "b")]


def few_slices(folder: Path) -> list[Path]:
    """One slice alone, and three."""
    paths = [series(folder, name="one"), series(folder, name="three")]
    for path, count in zip(paths, (1, 3), strict=True):
        for file in sorted(path.iterdir())[count:]:
            file.unlink()
    return paths


def misplaced(folder: Path) -> list[Path]:
    directions = ("0\\0\\0\\0\\0\\0", "2\\0\\0\\0\\2\\0", "1\\0\\0\\0.7\\0.7\\0")
    (folder / "position").mkdir()
    turned = with_field("ImageOrientationPatient", *directions)(folder)
    return [*turned, *with_field("ImagePositionPatient", "nan\\0\\0", "")(folder / "position")]


def strange_names(folder: Path) -> Path:
    found = series(folder)
    names = ("IMG 0Ä" + "x" * 240, "A.IMA", "noextension", "De\u0301coupe", "\udcff\udcfe", "C.DCM")
    for file, name in zip(sorted(found.iterdir()), names, strict=True):
        os.rename(file, os.path.join(found, name))
    return found


def junk(folder: Path) -> Path:
    """Files of no interest, a pipe, and links in a circle and out of the folder, beside a series."""
    found = series(folder)
    outside = series(folder, name="outside", seed="other")
    for name in ("Thumbs.db", ".DS_Store", "._slice", "notes.txt", "report.pdf", "view.jpg"):
        (found / name).write_bytes(b"\0\0\0\1Bud1" + bytes(200))
    (found / "loop").symlink_to(found)
    (found / "out").symlink_to(outside)
    os.mkfifo(found / "pipe")
    return found


def dicomdir(folder: Path) -> Path:
    inside = series(folder, name="disc")
    series(folder, name="secret", seed="other")
    dataset, record = Dataset(), Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.MediaStorageDirectoryStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    with quiet():
        record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", ["..", "secret", "slice_0001.dcm"]
    dataset.DirectoryRecordSequence = [record]
    dataset.save_as(inside / "DICOMDIR", enforce_file_format=True)
    return inside / "DICOMDIR"


def evil_uids(folder: Path) -> Path:
    def edit(dataset: Dataset, _: int) -> None:
        dataset.SeriesInstanceUID = "../../../tmp/evil"

    return series(folder, edit)


def evil_patient(folder: Path) -> Path:
    def edit(dataset: Dataset, _: int) -> None:
        dataset.PatientName, dataset.PatientID = "../ZZCANARY\x1b[31m^" + "N" * 300, "../../ZZCANARY\n"

    return series(folder, edit)


def without_contrast(folder: Path) -> list[Path]:
    """Much NaN, much infinity, one value everywhere."""
    paths = []
    for name, value in (("nan", np.nan), ("infinite", np.inf)):
        voxels = VOXELS.astype(np.float32)
        voxels[2:4, 1:4, 1:3] = value
        paths.append(saved(folder / f"{name}.nii", voxels))
    return [*paths, saved(folder / "constant.nii", np.full(SHAPE, -2000, np.int16))]


def without_rescale(folder: Path) -> Path:
    def edit(dataset: Dataset, _: int) -> None:
        del dataset.RescaleSlope, dataset.RescaleIntercept
        dataset.PixelRepresentation = 0

    return series(folder, edit)


def not_one_scan(folder: Path) -> list[Path]:
    four = saved(folder / "four.nii", np.zeros((*SHAPE, 3), np.int16))
    return [four, saved(folder / "rgb.nii", datatype=128, bitpix=24), saved(folder / "complex.nii", datatype=32, bitpix=64)]


def labels(*values: int, shape: tuple[int, int, int] = SHAPE, kind: type = np.int32) -> Make:
    """A label map of these numbers in its first voxels."""

    def make(folder: Path) -> Path:
        voxels = np.zeros(shape, kind)
        voxels.ravel(order="K")[: len(values)] = values
        return saved(folder / "labels.nii", voxels)

    return make
