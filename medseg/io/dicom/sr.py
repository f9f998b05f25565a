"""Measurements as a DICOM structured report (PS3.16, TID 1500) that refers to a DICOM SEG and its scan."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.core.codes import MORPHOLOGICALLY_ABNORMAL_STRUCTURE, Code
from medseg.core.errors import InputError, OutputError
from medseg.core.label_map import LabelMap
from medseg.core.measurement import Measurement, MeasurementTable, SegmentRow, Status
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.io.atomic import write_verified
from medseg.io.dicom.quiet import quiet
from medseg.io.dicom.seg_read import is_seg, read_seg_layers
from medseg.io.dicom.seg_source import empty_bad_dates
from medseg.io.dicom.sr_read import check_report

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

NOTICE = "Research software, not a medical device"

# Quantity → its concept; where a derivation is given the concept is that of the intensity (see `_intensity_concept`)
VOLUME = Code("SCT", "118565006", "Volume")
_ATTENUATION = Code("DCM", "112031", "Attenuation Coefficient")
_IBSI = {
    "mean": Code("IBSI", "Q4LE", "Mean intensity"),
    "median": Code("IBSI", "Y12H", "Median intensity"),
    "min": Code("IBSI", "1GSF", "Minimum intensity"),
    "max": Code("IBSI", "84IY", "Maximum intensity"),
}
_DERIVATIONS = {
    "mean": Code("SCT", "373098007", "Mean"),
    "std": Code("SCT", "386136009", "Standard Deviation"),
    "min": Code("SCT", "255605001", "Minimum"),
    "max": Code("SCT", "56851009", "Maximum"),
    "median": Code("SCT", "373099004", "Median"),
}
_UNITS = {
    "ml": Code("UCUM", "mL", "milliliter"),
    "HU": Code("UCUM", "[hnsf'U]", "Hounsfield unit"),
    "Bq/ml": Code("UCUM", "Bq/ml", "Becquerels per milliliter"),
    "g/ml": Code("UCUM", "g/ml", "grams per milliliter"),
}
_NO_UNIT = Code("UCUM", "1", "no units")
_STATUS = Code("99MEDSEG", "status", "Measurement status")
_STATUSES = {
    Status.CUT_BY_FIELD_OF_VIEW: Code("99MEDSEG", "cut", "Cut by the field of view: volume of the visible part"),
    Status.NOT_ATTEMPTED: Code("99MEDSEG", "not_attempted", "Not attempted"),
    Status.FAILED: Code("99MEDSEG", "failed", "Failed"),
}
# Procedure reported, CID 100 by modality
_PROCEDURES = {
    "CT": Code("LN", "25045-6", "CT unspecified body region"),
    "MR": Code("LN", "25056-3", "MRI unspecified body region"),
    "PT": Code("LN", "44136-0", "PET unspecified body region"),
}
_OTHER_PROCEDURE = Code("SCT", "363679005", "Imaging procedure")


def write_sr(
    table: MeasurementTable, path: str | os.PathLike[str], *, source: Volume, segmentation: str | os.PathLike[str], overwrite: bool = False
) -> Path:
    """Write measurements as a Comprehensive 3D SR (TID 1500) that points to the segments of a DICOM SEG and to their scan.

    One measurement group a segment, found in the SEG by its label: volume with its interval, intensities, the codes and
    side of the segment, its status where it is not plainly "measured"; a segment without voxels has no group. Patient
    and study are copied from the scan, as an archive needs it; the report is unverified. What is written is decoded again
    by a reader of its own and compared before the file gets its name. Raises InputError where the segmentation is no DICOM
    SEG, lacks a segment or the scan is no DICOM series, OutputExistsError, OutputError, OutputVerificationError.
    """
    file = Path(segmentation)
    if not (file.is_file() and is_seg(file)):
        raise InputError(f"{file}: a DICOM report points to the segments of a DICOM SEG: write the segmentation as .dcm first")
    if source.source is None or not source.source.files or not source.source.series_uid:
        raise InputError("a DICOM report refers to a DICOM series with UIDs: give the scan read from one as the image")
    layers = read_seg_layers(file)
    segments = {segment.label: segment for layer in layers for segment in layer.segments}
    rows = [row for row in table if row.status is not Status.ABSENT]
    unknown = [row.label for row in rows if row.label not in segments]
    if unknown or not rows:
        raise InputError(f"{file}: " + (f"no segment called {unknown[0]!r}" if unknown else "no segment has voxels to report"))
    with quiet():
        report = _report(rows, table, segments, layers, source, file)

        def write(temporary: Path) -> None:
            report.save_as(temporary, enforce_file_format=True)

        def verify(temporary: Path) -> None:
            check_report(temporary, rows, {label: segment.number for label, segment in segments.items()})

        return write_verified(Path(path), write, verify, overwrite)


def _report(
    rows: Sequence[SegmentRow],
    table: MeasurementTable,
    segments: dict[str, Segment],
    layers: Sequence[LabelMap],
    source: Volume,
    file: Path,
) -> Dataset:
    from highdicom import UID, sr

    from medseg import __version__

    evidence = _evidence(source, file)
    tracking = _tracking(evidence[-1])
    try:
        observer = sr.ObserverContext(
            observer_type=_concept(Code("DCM", "121007", "Device")),
            observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
                uid=UID(), name="medseg", manufacturer_name="medseg", model_name=NOTICE, serial_number=__version__
            ),
        )
        groups = [_group(row, table, segments[row.label], evidence[-1], source, tracking) for row in rows]
        content = sr.MeasurementReport(
            observation_context=sr.ObservationContext(observer_device_context=observer),
            procedure_reported=_concept(_PROCEDURES.get(source.modality, _OTHER_PROCEDURE)),
            imaging_measurements=groups,
            title=_concept(Code("DCM", "126000", "Imaging Measurement Report")),
            referenced_images=evidence[:-1],
        )
        report: Dataset = sr.Comprehensive3DSR(
            evidence=evidence,
            content=content[0],
            series_instance_uid=UID(),
            series_number=301,
            sop_instance_uid=UID(),
            instance_number=1,
            manufacturer="medseg",
            is_complete=True,
            is_final=False,
            is_verified=False,
            software_versions=__version__,
        )
    except (AttributeError, ValueError, TypeError, LookupError, OSError) as err:
        # the text of these errors may quote the patient's header, so it is not passed on
        raise OutputError(f"no DICOM report can be made of this scan ({type(err).__name__}); write .csv or .json") from None
    report.SeriesDescription = f"Measurements (medseg). {NOTICE}"
    return report


def _evidence(source: Volume, file: Path) -> list[Dataset]:
    """Return the headers of the scan's files, each once, and last that of the SEG."""
    origin = source.source
    files = tuple(dict.fromkeys(origin.files)) if origin is not None else ()
    try:
        headers = [_header(name) for name in files]
        segmentation = _header(os.fspath(file))
    except (OSError, ValueError, AttributeError, LookupError, TypeError):
        raise InputError("a file of the scan or the SEG cannot be read any more: read the scan again") from None
    series = {str(item.SeriesInstanceUID) for item in segmentation.get("ReferencedSeriesSequence") or ()}
    if segmentation.StudyInstanceUID != headers[0].StudyInstanceUID or (series and origin and origin.series_uid not in series):
        raise InputError(f"{file}: the segmentation belongs to another scan than the image")
    return [*headers, segmentation]


def _header(file: str) -> Dataset:
    """Return a file's attributes without the oddities that highdicom stops at: empty character sets, words for dates."""
    from pydicom import dcmread

    header = dcmread(file, stop_before_pixels=True)
    if not header.get("SpecificCharacterSet", "?"):
        del header.SpecificCharacterSet
    empty_bad_dates(header)
    return header


def _tracking(segmentation: Dataset) -> dict[int, tuple[str | None, str | None]]:
    """Return tracking UID and identifier by segment number."""
    items = segmentation.SegmentSequence
    return {int(item.SegmentNumber): (item.get("TrackingUID"), item.get("TrackingID")) for item in items if int(item.SegmentNumber)}


def _group(
    row: SegmentRow,
    table: MeasurementTable,
    segment: Segment,
    segmentation: Dataset,
    source: Volume,
    tracking: dict[int, tuple[str | None, str | None]],
) -> Any:
    from highdicom import UID, sr

    from medseg import __version__

    origin = source.source
    uid, identifier = tracking.get(segment.number, (None, None))
    # a lesion's type says what it is, not where: only its region is a site
    is_anatomy = segment.category is None or segment.category.value != MORPHOLOGICALLY_ABNORMAL_STRUCTURE.value
    site = segment.region or (segment.type if is_anatomy else None)
    side = segment.region_modifier if segment.region else segment.modifier
    finding = segment.type or Code("SCT", "123037004", "Anatomical Structure")
    status = _STATUSES.get(row.status)
    return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=uid or UID(), identifier=identifier or segment.label),
        referenced_segment=sr.ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=segment.number,
            source_series=sr.SourceSeriesForSegmentation(origin.series_uid if origin else ""),
        ),
        finding_category=_concept(segment.category) if segment.category else None,
        finding_type=_concept(finding),
        algorithm_id=sr.AlgorithmIdentification(name=segment.algorithm or "medseg", version=__version__),
        finding_sites=[sr.FindingSite(_concept(site), laterality=_concept(side) if side else None)] if site else None,
        measurements=[
            _measurement(name, one, table.modality or source.modality) for name, one in row.measurements.items() if _is_reported(name, one)
        ],
        qualitative_evaluations=[sr.QualitativeEvaluation(_concept(_STATUS), _concept(status))] if status else None,
    )


def _is_reported(name: str, measurement: Measurement) -> bool:
    return measurement.value is not None and (name == "volume" or name in _DERIVATIONS)


def _measurement(name: str, measurement: Measurement, modality: str) -> Any:
    from highdicom import sr

    concept, derivation = (VOLUME, None) if name == "volume" else _intensity_concept(name, modality)
    interval = measurement.interval
    value = float(measurement.value or 0.0)
    properties = None
    if interval is not None:
        properties = sr.MeasurementProperties(
            upper_measurement_uncertainty=float(interval[1] - value), lower_measurement_uncertainty=float(value - interval[0])
        )
    return sr.Measurement(
        name=_concept(concept),
        value=value,
        unit=_concept(_UNITS.get(measurement.unit, _NO_UNIT)),
        derivation=_concept(derivation) if derivation else None,
        properties=properties,
    )


def _intensity_concept(name: str, modality: str) -> tuple[Code, Code | None]:
    """Return concept and derivation of an intensity: attenuation for CT, as readers expect it; IBSI's own codes otherwise."""
    if modality == "CT":
        return _ATTENUATION, _DERIVATIONS[name]
    return (_IBSI[name], None) if name in _IBSI else (_IBSI["mean"], _DERIVATIONS[name])


def _concept(code: Code) -> Any:
    from highdicom.sr import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning[:64])
