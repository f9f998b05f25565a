"""Patient and study of a scan, copied to an object that is made from it, so that an archive files both together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Patient, Clinical Trial Subject, General Study, Patient Study and Clinical Trial Study modules (PS3.3, C.7.1 and C.7.2)
_COPIED = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientComments", "EthnicGroup",
    "PatientIdentityRemoved", "DeidentificationMethod", "PatientSpeciesDescription", "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName", "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID", "StudyInstanceUID", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID",
    "AccessionNumber", "StudyDescription", "PatientAge", "PatientSize", "PatientWeight", "ClinicalTrialTimePointID",
)  # fmt: skip
# Sequences of those modules that say how the patient was made anonymous
_COPIED_SEQUENCES = ("DeidentificationMethodCodeSequence",)
# Must be there, if empty
_REQUIRED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID",
    "AccessionNumber",
)  # fmt: skip

_FORMS = {
    "PatientBirthDate": re.compile(r"\d{8}"),
    "StudyDate": re.compile(r"\d{8}"),
    "StudyTime": re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?"),
    "PatientSex": re.compile(r"[MFO]"),
    "PatientAge": re.compile(r"\d{3}[DWMY]"),
    "PatientSize": re.compile(r"[\d.eE+-]{1,16}"),
    "PatientWeight": re.compile(r"[\d.eE+-]{1,16}"),
    "PatientIdentityRemoved": re.compile(r"YES|NO"),
}


def copy_patient_and_study(file: str, made: Dataset) -> None:
    """Copy the patient and study of an image file into a dataset, as UTF-8 text.

    Values that the standard forbids (de-identified files hold words where dates belong) are left empty.
    """
    from pydicom import dcmread

    header = dcmread(file, stop_before_pixels=True, force=True)
    made.SpecificCharacterSet = "ISO_IR 192"
    for keyword in _COPIED:
        value = header.get(keyword)
        form = _FORMS.get(keyword)
        is_sound = value is not None and (form is None or form.fullmatch(str(value)) is not None)
        if is_sound:
            setattr(made, keyword, [str(one) for one in value] if _is_list(value) else str(value))
        elif keyword in _REQUIRED:
            setattr(made, keyword, "")
    for keyword in _COPIED_SEQUENCES:
        if header.get(keyword):
            setattr(made, keyword, header.get(keyword))


def _is_list(value: object) -> bool:
    from pydicom.multival import MultiValue

    return isinstance(value, MultiValue)
