"""A sound DICOM series of the lab organ as records; every fault starts from it and spoils one thing."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.phantom.faults.fault import DicomFile, FaultyScan, ScanFile
from medseg.phantom.faults.scene import ABOVE_HU, LAB, Plane, Scene, image, stack

CT_STORAGE, MR_STORAGE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
MR_OFFSET = 1000  # MR signals are not negative: the phantom's HU plus this
_NAMESPACE = uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")  # OIDs, RFC 4122


@dataclass(frozen=True)
class Storage:
    """How intensities become stored numbers: value = stored · slope + intercept."""

    bits_stored: int = 12
    is_signed: bool = False
    slope: float = 1.0
    intercept: float = -1024.0
    bits_allocated: int = 16

    def store(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the stored numbers in the type that holds them."""
        numbers = np.rint((values - self.intercept) / self.slope)
        low = -(1 << (self.bits_stored - 1)) if self.is_signed else 0
        high = (1 << (self.bits_stored - int(self.is_signed))) - 1
        kind = np.dtype(f"{'i' if self.is_signed else 'u'}{self.bits_allocated // 8}")
        return np.asarray(np.clip(numbers, low, high).astype(kind))

    def header(self) -> dict[str, Any]:
        """Return the fields that describe the numbers."""
        return {
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": self.bits_allocated,
            "BitsStored": self.bits_stored,
            "HighBit": self.bits_stored - 1,
            "PixelRepresentation": int(self.is_signed),
            "RescaleIntercept": self.intercept,
            "RescaleSlope": self.slope,
            "RescaleType": "HU",
        }


CT = Storage()
SIGNED_HU = Storage(bits_stored=16, is_signed=True, intercept=0.0)
MR = Storage(intercept=0.0)


def uid(*what: object) -> str:
    """Return a UID that follows from what it names."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, ' '.join(map(str, what))).int}"


def ct_series(
    name: str,
    planes: Sequence[Plane] | None = None,
    *,
    scene: Scene = LAB,
    storage: Storage = CT,
    header: Mapping[str, Any] | None = None,
) -> list[DicomFile]:
    """Return one CT file a plane, sound in every way; `header` adds fields or replaces them."""
    return [
        _file(name, k, plane, storage.store(image(plane, scene, k)), {**_ct_header(name), **storage.header(), **(header or {})})
        for k, plane in enumerate(stack() if planes is None else planes)
    ]


def mr_series(
    name: str, planes: Sequence[Plane] | None = None, *, scene: Scene = LAB, header: Mapping[str, Any] | None = None
) -> list[DicomFile]:
    """Return one MR file a plane; the organ's signal lies above 1050."""
    fields = {**_mr_header(name), **{key: value for key, value in MR.header().items() if not key.startswith("Rescale")}}
    return [
        _file(name, k, plane, MR.store(image(plane, scene, k) + MR_OFFSET), {**fields, **(header or {})})
        for k, plane in enumerate(stack() if planes is None else planes)
    ]


def changed(file: DicomFile, *, without: Iterable[str] = (), **fields: Any) -> DicomFile:
    """Return a file with other header fields."""
    gone = set(without)
    return replace(file, header={key: value for key, value in {**file.header, **fields}.items() if key not in gone})


def renamed(files: Sequence[DicomFile], prefix: str = "IM", first: int = 1) -> list[DicomFile]:
    """Return the files numbered in the given order."""
    return [replace(file, name=f"{prefix}{number:04d}.dcm") for number, file in enumerate(files, start=first)]


def as_scan(
    files: Sequence[ScanFile],
    *,
    scenes: Sequence[Scene] = (LAB,),
    volumes_ml: Sequence[float] | None = None,
    voxel_volumes_ml: Sequence[float] = (),
    above: float = ABOVE_HU,
    has_place: bool = True,
    **more: Any,
) -> FaultyScan:
    """Return files with the truth about them; the volume is the formula's unless another is given."""
    volumes = [scene.volume_ml for scene in scenes] if volumes_ml is None else volumes_ml
    marker = scenes[0].marker_from_organ_mm if has_place else None
    return FaultyScan(tuple(files), tuple(volumes), tuple(voxel_volumes_ml), marker, above=above, **more)


def voxel_volume_ml(planes: Sequence[Plane], widths_mm: float | Sequence[float], scene: Scene = LAB) -> float:
    """Count the organ on its slices: area times slice width, ml."""
    areas = [float((image(plane, scene, 0) > ABOVE_HU).sum()) * plane.spacing_mm[0] * plane.spacing_mm[1] for plane in planes]
    return float(np.sum(np.asarray(areas) * np.asarray(widths_mm)) / 1000)


def mr_above() -> float:
    """Return the threshold of the organ in MR files."""
    return ABOVE_HU + MR_OFFSET


def _file(name: str, k: int, plane: Plane, pixels: npt.NDArray[Any], fields: Mapping[str, Any]) -> DicomFile:
    header = {
        **fields,
        "SOPInstanceUID": uid(name, "instance", k),
        "InstanceNumber": k + 1,
        "ImagePositionPatient": list(plane.position),
        "ImageOrientationPatient": list(plane.orientation),
        "PixelSpacing": list(plane.spacing_mm),
        "Rows": plane.size[0],
        "Columns": plane.size[1],
    }
    return DicomFile(f"IM{k + 1:04d}.dcm", header, pixels)


def study_header(name: str, modality: str) -> dict[str, Any]:
    """Return patient, study, series and equipment of a synthetic patient."""
    return {
        "SpecificCharacterSet": "ISO_IR 100",
        "PatientName": "PHANTOM^MEDSEG",
        "PatientID": "MEDSEG-PHANTOM",
        "PatientBirthDate": "",
        "PatientSex": "O",
        "StudyInstanceUID": uid(name, "study"),
        "SeriesInstanceUID": uid(name, "series"),
        "FrameOfReferenceUID": uid(name, "frame"),
        "StudyDate": "20000101",
        "SeriesDate": "20000101",
        "AcquisitionDate": "20000101",
        "ContentDate": "20000101",
        "StudyTime": "120000",
        "SeriesTime": "120000",
        "AcquisitionTime": "120000",
        "ContentTime": "120000",
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
        "StudyID": "1",
        "SeriesNumber": 1,
        "AcquisitionNumber": 1,
        "Modality": modality,
        "Manufacturer": "Philips",  # converters go by the maker, and do worse with one they do not know
        "ManufacturerModelName": "phantom",
        "SeriesDescription": "lab organ",
        "PatientPosition": "HFS",
        "PositionReferenceIndicator": "",
        "SliceThickness": 2.5,
    }


def _ct_header(name: str) -> dict[str, Any]:
    return {
        **study_header(name, "CT"),
        "SOPClassUID": CT_STORAGE,
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "KVP": 120,
        "ConvolutionKernel": "STANDARD",
        "WindowCenter": 40,
        "WindowWidth": 400,
    }


def _mr_header(name: str) -> dict[str, Any]:
    return {
        **study_header(name, "MR"),
        "SOPClassUID": MR_STORAGE,
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
        "ScanningSequence": "GR",
        "SequenceVariant": "NONE",
        "ScanOptions": "",
        "MRAcquisitionType": "3D",
        "RepetitionTime": 10,
        "EchoTime": 2.3,
        "EchoTrainLength": 1,
        "FlipAngle": 10,
        "MagneticFieldStrength": 3,
        "SpacingBetweenSlices": 2.5,
    }
