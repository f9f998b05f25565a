"""Loading a DICOM series of one slice a file, uncompressed and compressed, from folder to array.

Needs imagecodecs, pylibjpeg-rle and dcm2niix (pip) beside medseg. The series are written once into the system's temporary
folder. "decoder alone" is the fastest decoder in a loop over frames that lie in memory: no file is read and nothing is checked.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import SimpleITK as sitk
from harness import Case, Run, main
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID
from rle.rle import encode_frame

from medseg.io.dicom.codecs import PixelArray
from medseg.io.dicom.find import find_series
from medseg.io.dicom.pixels import read_pixels
from medseg.io.read import read

CT_IMAGE = UID("1.2.840.10008.5.1.4.1.1.2")
PLAIN = UID("1.2.840.10008.1.2.1")
INTERCEPT = -1024

Encode = Callable[[PixelArray], bytes]
Decode = Callable[[bytes], Any]


def _rle(stored: PixelArray) -> bytes:
    return bytes(encode_frame(stored.astype("<u2").tobytes(), *stored.shape, 1, 16, "<"))


def _rle_decoder(stream: bytes) -> Any:
    return imagecodecs.dicomrle_decode(stream, dtype="<u2")


ENCODINGS: dict[str, tuple[UID, Encode, Decode]] = {
    "JPEG 2000": (
        UID("1.2.840.10008.1.2.4.90"),
        partial(imagecodecs.jpeg2k_encode, level=0, reversible=True, codecformat="j2k", bitspersample=16),
        imagecodecs.jpeg2k_decode,
    ),
    "HTJ2K": (UID("1.2.840.10008.1.2.4.201"), imagecodecs.htj2k_encode, imagecodecs.jpeg2k_decode),
    "JPEG-LS": (UID("1.2.840.10008.1.2.4.80"), imagecodecs.jpegls_encode, imagecodecs.jpegls_decode),
    "JPEG lossless": (
        UID("1.2.840.10008.1.2.4.70"),
        partial(imagecodecs.jpeg8_encode, lossless=True, predictor=1, bitspersample=16),
        imagecodecs.jpeg8_decode,
    ),
    "RLE": (UID("1.2.840.10008.1.2.5"), _rle, _rle_decoder),
}


def series_of(ct: np.ndarray, name: str) -> Path:
    """Write a CT (k, j, i) as a series, unless it lies there from before."""
    folder = Path(tempfile.gettempdir()) / "medseg-bench-loading" / f"{name.replace(' ', '_')}-{'x'.join(map(str, ct.shape))}"
    if (folder / "complete").is_file():
        return folder / "series"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "series").mkdir(parents=True)
    syntax, encode, _ = ENCODINGS.get(name, (PLAIN, None, None))
    for k, values in enumerate(ct):
        stored = (values.astype(np.int32) - INTERCEPT).clip(0, 65535).astype("<u2")
        dataset = _slice(k, stored, syntax)
        if encode is None:
            dataset.PixelData = stored.tobytes()
        else:
            dataset.PixelData = encapsulate([bytes(encode(stored))])
        dataset["PixelData"].VR = "OB" if encode else "OW"
        pydicom.dcmwrite(folder / "series" / f"{k:04d}.dcm", dataset, enforce_file_format=True)
    (folder / "complete").touch()
    return folder / "series"


def _slice(k: int, stored: PixelArray, syntax: UID) -> Dataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = CT_IMAGE, UID(f"1.2.826.0.1.1.{k + 1}"), syntax
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = CT_IMAGE, meta.MediaStorageSOPInstanceUID, "CT"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = "1.2.826.0.1.2", "1.2.826.0.1.3", "1.2.826.0.1.4"
    dataset.ImageType, dataset.PatientPosition, dataset.InstanceNumber = ["ORIGINAL", "PRIMARY", "AXIAL"], "HFS", k + 1
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [-200, -200, 1.25 * k], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.SliceThickness = [0.8, 0.8], 1.25
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, INTERCEPT, "HU"
    return dataset


def by_medseg(folder: Path) -> np.ndarray:
    return read(folder).array.T


def by_pydicom(folder: Path) -> np.ndarray:
    datasets = sorted((pydicom.dcmread(path) for path in folder.iterdir()), key=lambda dataset: dataset.ImagePositionPatient[2])
    volume = np.empty((len(datasets), datasets[0].Rows, datasets[0].Columns), np.int16)
    for k, dataset in enumerate(datasets):
        volume[k] = dataset.pixel_array + np.int32(dataset.RescaleIntercept)
    return volume


def by_simpleitk(folder: Path) -> np.ndarray:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return sitk.GetArrayFromImage(reader.Execute())


def by_dcm2niix(folder: Path) -> None:
    program = Path(sys.executable).with_name("dcm2niix")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as target:
        subprocess.run([program, "-z", "n", "-b", "n", "-f", "volume", "-o", target, folder], check=True, capture_output=True)


def agreement(ours: Any, theirs: Any) -> float | None:
    """The largest difference; dcm2niix and bare decoders give nothing to compare."""
    return None if theirs is None else float(np.abs(ours.astype(np.int32) - theirs).max())


def uncompressed(ct: np.ndarray) -> dict[str, Run]:
    folder = series_of(ct, "uncompressed")
    (series,) = find_series(folder)
    return {
        "medseg.read": lambda: by_medseg(folder),
        "medseg, pixels alone": lambda: read_pixels(series.slices)[0],
        "dcm2niix": lambda: by_dcm2niix(folder),
        "pydicom": lambda: by_pydicom(folder),
        "SimpleITK": lambda: by_simpleitk(folder),
    }


def compressed(ct: np.ndarray, name: str) -> dict[str, Run]:
    folder = series_of(ct, name)
    decode = ENCODINGS[name][2]
    frames: list[bytes] = []

    def alone() -> None:
        if not frames:
            for path in sorted(folder.iterdir()):
                frames.append(next(generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1)))
        for frame in frames:
            decode(frame)

    (series,) = find_series(folder)
    runs: dict[str, Run] = {
        "medseg.read": lambda: by_medseg(folder),
        "medseg, pixels alone": lambda: read_pixels(series.slices)[0],
        "medseg, pixels alone, one process": lambda: read_pixels(series.slices, threads=1)[0],
        "decoder alone": alone,
        "pydicom": lambda: by_pydicom(folder),
        "SimpleITK": lambda: by_simpleitk(folder),
        "dcm2niix": lambda: by_dcm2niix(folder),
    }
    if name == "HTJ2K":  # neither of the two reads it
        del runs["SimpleITK"], runs["dcm2niix"]
    if name == "JPEG lossless":
        del runs["pydicom"]  # only with a GPL package
    return runs


CASES = [
    Case("300 slices, uncompressed", uncompressed, agreement),
    *(Case(f"300 slices, {name}", partial(compressed, name=name), agreement) for name in ENCODINGS),
]

if __name__ == "__main__":
    main(CASES, __file__)
