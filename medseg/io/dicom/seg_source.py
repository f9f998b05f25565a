"""The scan that a DICOM SEG is written for: patient and study to copy, and which image, or frame of it, lies on which plane."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.core.errors import InputError, OutputError
from medseg.core.geometry import Geometry
from medseg.core.volume import Source, Volume
from medseg.io.dicom.elements import HeaderError, NotDicomError
from medseg.io.dicom.header import NotAnImageError, SliceHeader, read_headers
from medseg.io.dicom.sort import LPS_TO_RAS, is_sound_orientation, is_sound_position, is_sound_spacing

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

ON_PLANE_SHARE = 0.05  # an image further than this share of a voxel from a plane of the grid is not the source of that plane

_DATE = re.compile(r"(\d{8})?")
_TIME = re.compile(r"(\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?)?")

# What belongs to the patient and the study, not to the series (PS3.3, C.7.1.1, C.7.1.3, C.7.2.1 to C.7.2.3); first those that
# must be there, if only empty
_MUST = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID",
    "AccessionNumber",
)  # fmt: skip
_MAY = (
    "IssuerOfPatientID", "TypeOfPatientID", "IssuerOfPatientIDQualifiersSequence", "OtherPatientIDs", "OtherPatientIDsSequence",
    "OtherPatientNames", "PatientBirthTime", "PatientAlternativeCalendar", "QualityControlSubject", "EthnicGroup", "PatientComments",
    "PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription", "PatientBreedCodeSequence",
    "ResponsiblePerson", "ResponsiblePersonRole", "ResponsibleOrganization", "PatientIdentityRemoved", "DeidentificationMethod",
    "DeidentificationMethodCodeSequence", "LongitudinalTemporalInformationModified",
    "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID", "ClinicalTrialProtocolEthicsCommitteeName",
    "ClinicalTrialTimePointID", "ClinicalTrialTimePointDescription", "ConsentForClinicalTrialUseSequence",
    "StudyDescription", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy", "RequestingService", "ReferencedStudySequence",
    "ProcedureCodeSequence", "ReasonForPerformedProcedureCodeSequence", "IssuerOfAccessionNumberSequence",
    "AdmittingDiagnosesDescription", "AdmittingDiagnosesCodeSequence", "PatientAge", "PatientSize", "PatientWeight",
    "PatientBodyMassIndex", "MedicalAlerts", "Allergies", "SmokingStatus", "PregnancyStatus", "LastMenstrualDate",
    "PatientSexNeutered", "Occupation", "AdditionalPatientHistory", "AdmissionID", "ServiceEpisodeID", "PatientState",
)  # fmt: skip
_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")


@dataclass(frozen=True)
class SourceImage:
    """An image on a plane of the grid; `frame` counts from 1, None for a file of one image."""

    sop_class_uid: str
    sop_instance_uid: str
    frame: int | None = None


@dataclass(frozen=True, eq=False)
class SourceSeries:
    """The scan: its first header, its instances (class and instance UID) in the order of k, and the image on each plane."""

    header: Dataset
    series_uid: str
    instances: tuple[tuple[str, str], ...]
    planes: dict[int, SourceImage]


def source_series(source: Volume) -> SourceSeries:
    """Read the headers of a scan's files again; call inside `quiet()`.

    A plane without an image of its own (interpolated, or resampled) has none in `planes`. Raises InputError where the scan
    is no DICOM series with UIDs, or its files are gone or others than those that were read.
    """
    origin = source.source
    if origin is None or not origin.files or not origin.series_uid or not all(origin.sop_instance_uids):
        raise InputError(
            "a DICOM SEG refers to the images of a DICOM series with UIDs, and this scan has none: give the scan read from such a"
            " series as source, or write .seg.nrrd or NIfTI"
        )
    headers = _headers(origin)
    instances = tuple(dict.fromkeys((header.sop_class_uid, header.sop_instance_uid) for header in headers))
    return SourceSeries(_first_dataset(origin), origin.series_uid, instances, _planes(headers, source.geometry))


def _headers(origin: Source) -> list[SliceHeader]:
    """Return the headers of all slices in the files, file by file in the order of k."""
    expected = dict(zip(origin.files, origin.sop_instance_uids, strict=False))
    try:
        headers = [(file, header) for file in expected for header in read_headers(file)]
    except (OSError, HeaderError, NotDicomError, NotAnImageError) as err:
        raise InputError(f"{origin.path}: a file of the source series cannot be read any more ({type(err).__name__})") from None
    if any(header.sop_instance_uid != expected[file] for file, header in headers):
        raise InputError(f"{origin.path}: the files of the source series have changed since they were read; read them again")
    return [header for _, header in headers]


def _planes(headers: list[SliceHeader], geometry: Geometry) -> dict[int, SourceImage]:
    """Return the image on each plane; planes on which several lie (4D in one file) have none that could be told apart."""
    to_index = np.linalg.inv(geometry.affine) @ LPS_TO_RAS
    planes: dict[int, SourceImage | None] = {}
    for header in headers:
        k = _plane_of(header, to_index, geometry)
        if k is None:
            continue
        image = SourceImage(header.sop_class_uid, header.sop_instance_uid, header.frame + 1 if header.frame_count > 1 else None)
        planes[k] = None if k in planes else image
    return {k: image for k, image in planes.items() if image is not None}


def _plane_of(header: SliceHeader, to_index: np.ndarray, geometry: Geometry) -> int | None:
    orientation, spacing, position = header.orientation, header.pixel_spacing, header.position
    if orientation is None or spacing is None or position is None:
        return None
    if not (is_sound_orientation(orientation) and is_sound_spacing(spacing) and is_sound_position(position)):
        return None
    row = to_index[:3, :3] @ (np.asarray(orientation[:3]) * spacing[1])
    column = to_index[:3, :3] @ (np.asarray(orientation[3:]) * spacing[0])
    start = to_index[:3, :3] @ np.asarray(position) + to_index[:3, 3]
    k = round(float(start[2]))
    fits = (
        (header.columns, header.rows) == geometry.shape[:2]
        and 0 <= k < geometry.shape[2]
        and np.abs(start - (0, 0, k)).max() <= ON_PLANE_SHARE
        and np.abs(row - (1, 0, 0)).max() * header.columns <= ON_PLANE_SHARE
        and np.abs(column - (0, 1, 0)).max() * header.rows <= ON_PLANE_SHARE
    )
    return k if fits else None


def _first_dataset(origin: Source) -> Dataset:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        return dcmread(origin.files[0], stop_before_pixels=True, force=True)
    except (InvalidDicomError, AttributeError, LookupError, TypeError, ValueError, OSError, NotImplementedError) as err:
        raise InputError(f"{origin.path}: a file of the source series cannot be read any more ({type(err).__name__})") from None


def empty_bad_dates(dataset: Dataset) -> None:
    """Empty dates and times that are none: de-identified files hold words there."""
    for keyword, is_valid in (("PatientBirthDate", _DATE), ("StudyDate", _DATE), ("StudyTime", _TIME)):
        if not is_valid.fullmatch(str(dataset.get(keyword) or "")):
            setattr(dataset, keyword, "")


def with_patient_and_study(made: Dataset, header: Dataset, path: Path) -> Dataset:
    """Copy patient, study and frame of reference from the scan, as a picture archive needs them to file the result.

    De-identified files hold words where dates belong, and empty character sets; those are left empty or out. Raises
    OutputError where study or frame of reference have no UID.
    """
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        if not str(header.get(keyword, "") or ""):
            raise OutputError(f"{path}: the source files lack what a DICOM SEG needs ({keyword}); write .seg.nrrd or NIfTI instead")
        made[keyword] = header[keyword]
    if header.get("SpecificCharacterSet"):
        made["SpecificCharacterSet"] = header["SpecificCharacterSet"]
    for keyword in (*_MUST, *_MAY):
        if keyword in header:
            made[keyword] = header[keyword]
        elif keyword in _MUST:
            setattr(made, keyword, "")
    empty_bad_dates(made)
    made.PositionReferenceIndicator = header.get("PositionReferenceIndicator") or ""
    made.LossyImageCompression = "00"
    if str(header.get("LossyImageCompression", "")) == "01":
        for keyword in _LOSSY:
            if keyword in header:
                made[keyword] = header[keyword]
    return made
