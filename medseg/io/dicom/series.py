"""A volume as a classic DICOM series: one CT or MR Image Storage file a slice (PS3.3, A.3 and A.4)."""

from __future__ import annotations

import math
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryError, InputError, MedsegError, OutputError, OutputExistsError, OutputVerificationError
from medseg.core.volume import Volume
from medseg.io.atomic import TEMPORARY_PREFIX
from medseg.io.dicom.sort import LPS_TO_RAS

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

CT_INTERCEPT = -1024.0  # stored 0 is air, as scanners write it
STEPS_OF_INT16 = 32767  # real-valued MR intensities are spread over this many whole numbers
RIGHT_ANGLE_TOLERANCE = 1e-4  # rows and columns of an image must be at a right angle within this cosine

_CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
_MR_STORAGE = "1.2.840.10008.5.1.4.1.1.4"
_JPEG_LS_LOSSLESS = "1.2.840.10008.1.2.4.80"
_EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
_DATE, _TIME = "20000101", "120000"  # synthetic, so that a seed gives the same bytes every day


@dataclass(frozen=True)
class SyntheticPatient:
    """Whom the files name: nobody real."""

    name: str = "PHANTOM^MEDSEG"
    identifier: str = "MEDSEG-PHANTOM"
    sex: str = "O"


@dataclass(frozen=True)
class _Stored:
    """Whole numbers (k,j,i) and how they become intensities."""

    values: npt.NDArray[np.int16]
    slope: float
    intercept: float


def write_series(
    volume: Volume,
    folder: str | os.PathLike[str],
    *,
    seed: str | None = None,
    series_description: str = "",
    compressed: bool = False,
    patient: SyntheticPatient | None = None,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Write a CT or MR volume as a DICOM series of a synthetic patient and return its files in the order of the k axis.

    The same `seed` gives the same UIDs and, not compressed, the same bytes; without one they are new each time. CT is
    rounded to whole HU and stored as int16 with intercept -1024; MR of whole numbers is stored as it is, other MR with a
    slope. `compressed` means JPEG-LS without loss. Oblique, left-handed and tilted grids keep their place. Everything is
    read back and compared before the folder appears. Raises GeometryError where rows and columns are not at right
    angles, InputError for values or modalities that such a series cannot hold, OutputExistsError, OutputError.
    """
    target = Path(folder)
    _check_target(target, overwrite)
    stored = _stored(volume)
    parts = _datasets(volume, stored, _Identity(seed), patient or SyntheticPatient())
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")
    try:
        try:
            temporary.mkdir(parents=True)
            for number, dataset in enumerate(parts, start=1):
                dataset.SeriesDescription = series_description
                _save(dataset, temporary / _file_name(number), compressed)
        except OSError as err:
            raise OutputError(f"{target}: the series cannot be written ({err.strerror or err}): check the folder and the disk") from err
        _verify(temporary, volume, stored, target)
        _move(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return tuple(target / _file_name(number) for number in range(1, volume.geometry.shape[2] + 1))


class _Identity:
    """UIDs that follow from a seed, or are new."""

    def __init__(self, seed: str | None) -> None:
        self._seed = seed if seed is not None else uuid.uuid4().hex

    def uid(self, *what: str) -> str:
        from pydicom.uid import generate_uid

        return str(generate_uid(entropy_srcs=["medseg", self._seed, *what]))


def _stored(volume: Volume) -> _Stored:
    values = volume.array.T  # (k,j,i)
    if volume.modality not in ("CT", "MR"):
        raise InputError(f"a series is written for CT and MR, not for modality {volume.modality!r}: set the volume's modality")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError("the volume holds NaN or infinity, which DICOM cannot store: replace them first")
    lowest, highest = float(values.min()), float(values.max())
    if volume.modality == "CT":
        slope, intercept = 1.0, CT_INTERCEPT
    elif (values.dtype.kind != "f" or bool((values == np.rint(values)).all())) and lowest >= -32768 and highest <= 32767:
        slope, intercept = 1.0, 0.0
    else:
        slope, intercept = float(f"{max((highest - lowest) / STEPS_OF_INT16, 1e-12):.9g}"), float(f"{lowest:.9g}")
    numbers = np.rint((values.astype(np.float64) - intercept) / slope)
    if numbers.min() < -32768 or numbers.max() > 32767:
        raise InputError(f"intensities from {lowest:g} to {highest:g} do not fit 16 bits with intercept {intercept:g}")
    return _Stored(numbers.astype(np.int16), slope, intercept)


def _datasets(volume: Volume, stored: _Stored, identity: _Identity, patient: SyntheticPatient) -> Sequence[Dataset]:
    affine = LPS_TO_RAS @ volume.geometry.affine  # the flip is its own inverse: RAS → LPS
    frame = volume.geometry.frame_of_reference_uid or identity.uid("frame of reference")
    shared = {**_study(volume, identity, patient), **_plane(affine, volume.modality), **_pixels(volume, stored)}
    shared["FrameOfReferenceUID"] = frame
    made = []
    for k, plane in enumerate(stored.values):
        dataset = _dataset(shared)
        dataset.SOPInstanceUID = identity.uid("instance", str(k))
        dataset.InstanceNumber = k + 1
        dataset.ImagePositionPatient = [_decimal(x) for x in affine[:3, 3] + k * affine[:3, 2]]
        dataset.PixelData = plane.astype("<i2").tobytes()
        dataset["PixelData"].VR = "OW"
        made.append(dataset)
    return made


def _dataset(attributes: dict[str, Any]) -> Dataset:
    from pydicom.dataset import Dataset

    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def _study(volume: Volume, identity: _Identity, patient: SyntheticPatient) -> dict[str, Any]:
    is_ct = volume.modality == "CT"
    return {
        "SpecificCharacterSet": "ISO_IR 192",
        "SOPClassUID": _CT_STORAGE if is_ct else _MR_STORAGE,
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"] if is_ct else ["ORIGINAL", "PRIMARY", "OTHER"],
        "PatientName": patient.name,
        "PatientID": patient.identifier,
        "PatientBirthDate": "",
        "PatientSex": patient.sex,
        "StudyInstanceUID": identity.uid("study"),
        "SeriesInstanceUID": identity.uid("series"),
        "StudyDate": _DATE,
        "StudyTime": _TIME,
        "SeriesDate": _DATE,
        "SeriesTime": _TIME,
        "ContentDate": _DATE,
        "ContentTime": _TIME,
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
        "StudyID": "1",
        "SeriesNumber": 1,
        "AcquisitionNumber": 1,
        "Modality": volume.modality,
        "Manufacturer": "medseg",
        "ManufacturerModelName": "phantom",
        "PatientPosition": "HFS",
        "PositionReferenceIndicator": "",
        "Laterality": "",
        **(
            {"KVP": None}
            if is_ct
            else {
                "ScanningSequence": "RM",
                "SequenceVariant": "NONE",
                "ScanOptions": "",
                "MRAcquisitionType": "",
                "RepetitionTime": None,
                "EchoTime": None,
                "EchoTrainLength": None,
            }
        ),
    }


def _plane(affine: npt.NDArray[np.float64], modality: str) -> dict[str, Any]:
    along_row, down_column, step = affine[:3, 0], affine[:3, 1], affine[:3, 2]
    spacing = float(np.linalg.norm(along_row)), float(np.linalg.norm(down_column))
    row, column = along_row / spacing[0], down_column / spacing[1]
    if abs(float(row @ column)) > RIGHT_ANGLE_TOLERANCE:
        raise GeometryError("the axes i and j are not at a right angle: no DICOM image holds that; resample the volume first")
    normal = np.cross(row, column)
    distance = abs(float(step @ normal))
    attributes: dict[str, Any] = {
        "ImageOrientationPatient": [_decimal(x) for x in (*row, *column)],
        "PixelSpacing": [_decimal(spacing[1]), _decimal(spacing[0])],  # (row spacing, column spacing)
        "SliceThickness": _decimal(distance),
    }
    if modality == "MR":
        attributes["SpacingBetweenSlices"] = _decimal(distance)
    tilt = math.degrees(math.acos(min(distance / float(np.linalg.norm(step)), 1.0)))
    if modality == "CT" and tilt > 0.01:
        attributes["GantryDetectorTilt"] = _decimal(round(tilt, 4))
    return attributes


def _pixels(volume: Volume, stored: _Stored) -> dict[str, Any]:
    columns, rows, _ = volume.geometry.shape
    attributes: dict[str, Any] = {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": rows,
        "Columns": columns,
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
    }
    if volume.modality == "CT":
        attributes |= {"WindowCenter": "40", "WindowWidth": "400", "RescaleType": "HU"}
    if volume.modality == "CT" or (stored.slope, stored.intercept) != (1.0, 0.0):
        attributes |= {"RescaleIntercept": _decimal(stored.intercept), "RescaleSlope": _decimal(stored.slope)}
    return attributes


def _decimal(value: float) -> Any:
    """A decimal string of at most 16 characters with all the digits that fit."""
    from pydicom.valuerep import DSfloat

    return DSfloat(float(value) + 0.0, auto_format=True)  # + 0.0 turns -0.0 into 0.0


def _save(dataset: Dataset, path: Path, compressed: bool) -> None:
    from pydicom import dcmwrite
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = UID(_EXPLICIT_LITTLE)
    if compressed:
        dataset.compress(UID(_JPEG_LS_LOSSLESS), encoding_plugin="pyjpegls", generate_instance_uid=False)
    with open(path, "wb") as stream:
        dcmwrite(stream, dataset, enforce_file_format=True)
        stream.flush()
        os.fsync(stream.fileno())


def _verify(folder: Path, volume: Volume, stored: _Stored, target: Path) -> None:
    """Read every file back and compare each slice, at its position in the patient, with what was asked for."""
    from medseg.io.dicom.find import find_series
    from medseg.io.dicom.pixels import read_pixels
    from medseg.io.dicom.sort import stack_affine

    try:
        headers = sorted(find_series(folder)[0].slices, key=lambda header: header.path)
        values, _ = read_pixels(headers)
    except MedsegError as err:
        raise OutputVerificationError(f"{target}: the series cannot be read back ({err}): check the disk and try again") from err
    written = stored.values * np.float64(stored.slope) + stored.intercept
    # float32 is what rescaled intensities are read as
    if values.shape != written.shape or not np.array_equal(values, written.astype(values.dtype)):
        raise OutputVerificationError(f"{target}: the intensities read back are not those written: check the disk and try again")
    if len(headers) > 1 and np.abs(stack_affine(headers) - volume.geometry.affine).max() > 1e-6:
        raise OutputVerificationError(f"{target}: the positions read back are not those written")


def _file_name(number: int) -> str:
    return f"slice_{number:04d}.dcm"


def _check_target(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise OutputExistsError(f"{target} is a file: give a new folder for the series")
    others = [entry.name for entry in target.iterdir() if not (overwrite and _is_ours(entry.name))]
    if others:
        advice = "it holds other files too; choose an empty folder" if overwrite else "choose another folder or allow overwriting"
        raise OutputExistsError(f"{target} is not empty: {advice}")


def _is_ours(name: str) -> bool:
    return name.startswith("slice_") and name.endswith(".dcm")


def _move(temporary: Path, target: Path) -> None:
    try:
        if target.exists():
            for entry in target.iterdir():
                entry.unlink()
            target.rmdir()
        os.replace(temporary, target)
    except OSError as err:
        raise OutputError(f"{target}: the series cannot be put in place ({err.strerror or err})") from err
