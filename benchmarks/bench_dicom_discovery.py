"""Finding the series in a folder of 3,000 DICOM files: ours beside pydicom and SimpleITK's series scan.

The files are written into a temporary folder: 10 CT series of 300 slices with headers as scanners write them (about 120
elements, nested sequences of both kinds, private blocks) and small pictures. Every contender must name the same series with
the same number of files.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk
from harness import Case, Run, as_markdown, measure
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medseg.io.dicom.find import find_series


def _code(meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "T-D1100", "SRT", meaning
    return item


def _reference() -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, generate_uid()
    item.PurposeOfReferenceCodeSequence = Sequence([_code("Localizer")])
    return item


def scanner_header() -> Dataset:
    """A header as a CT scanner writes it."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.SpecificCharacterSet, data.ImageType, data.Modality = "ISO_IR 100", ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"], "CT"
    for keyword in ("InstanceCreationDate", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        setattr(data, keyword, "20200101")
    for keyword in ("InstanceCreationTime", "StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime"):
        setattr(data, keyword, "101112.131415")
    data.Manufacturer, data.ManufacturerModelName, data.StationName = "MAKER", "Model 64", "CT0001"
    data.StudyDescription, data.SeriesDescription, data.ProtocolName = "Abdomen", "Abdomen 1.0 B31f", "Abdomen routine"
    data.PatientName, data.PatientID, data.PatientSex, data.PatientAge = "PHANTOM", "0", "O", "050Y"
    data.ScanOptions, data.BodyPartExamined, data.PatientPosition = "HELICAL MODE", "ABDOMEN", "HFS"
    data.SliceThickness, data.KVP, data.DataCollectionDiameter, data.ReconstructionDiameter = 1, 120, 500, 380
    data.SoftwareVersions, data.DistanceSourceToDetector, data.DistanceSourceToPatient = "syngo", 1085.6, 595
    data.GantryDetectorTilt, data.TableHeight, data.RotationDirection, data.ExposureTime = 0, 150.5, "CW", 500
    data.XRayTubeCurrent, data.Exposure, data.FilterType, data.GeneratorPower = 210, 105, "WEDGE_3", 25
    data.FocalSpots, data.ConvolutionKernel, data.SingleCollimationWidth = 1.2, "B31f", 0.6
    data.TotalCollimationWidth, data.TableSpeed, data.SpiralPitchFactor, data.CTDIvol = 19.2, 38.4, 1.0, 7.1
    data.ReferencedImageSequence = Sequence([_reference(), _reference()])
    data.SourceImageSequence = Sequence([_reference()])
    data.AnatomicRegionSequence = Sequence([_code("Abdomen")])
    data.AnatomicRegionSequence.is_undefined_length = True
    data.ProcedureCodeSequence = Sequence([_code("CT")])
    data.ProcedureCodeSequence[0].is_undefined_length_sequence_item = True
    data["ProcedureCodeSequence"].is_undefined_length = True
    for group, name in ((0x0019, "SIEMENS CT VA0  COAD"), (0x0021, "SIEMENS MED"), (0x0029, "SIEMENS CSA HEADER")):
        block = data.private_block(group, name, create=True)
        for number in range(10):
            block.add_new(number, "LO", f"value {number}")
    data.private_block(0x0029, "SIEMENS CSA HEADER").add_new(0x20, "OB", bytes(3000))
    data.StudyID, data.SeriesNumber, data.AcquisitionNumber, data.PositionReferenceIndicator = "1", 2, 1, ""
    data.ImageOrientationPatient, data.PixelSpacing = [1, 0, 0, 0, 1, 0], [0.742, 0.742]
    data.SamplesPerPixel, data.PhotometricInterpretation, data.Rows, data.Columns = 1, "MONOCHROME2", 32, 32
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.WindowCenter, data.WindowWidth, data.RescaleIntercept, data.RescaleSlope = [40, 400], [300, 2000], -1024, 1
    data.RequestedProcedureDescription, data.RequestingPhysician = "Abdomen", ""
    data.PerformedProcedureStepStartDate, data.PerformedProcedureStepID = "20200101", "1"
    data.PixelData = np.zeros((32, 32), np.uint16).tobytes()
    return data


def write_files(folder: Path, series: int, slices: int) -> None:
    data = scanner_header()
    data.StudyInstanceUID = generate_uid()
    for number in range(series):
        data.SeriesInstanceUID, data.FrameOfReferenceUID = generate_uid(), generate_uid()
        for k in range(slices):
            data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            data.InstanceNumber, data.SliceLocation = k + 1, float(k)
            data.ImagePositionPatient = [-190.0, -190.0, float(k)]
            data.save_as(folder / f"{number:02d}_{k:04d}.dcm", enforce_file_format=True)


def contenders(folder: Path) -> dict[str, Run]:
    def ours() -> dict[str, int]:
        return {series.series_uid: len(series.files) for series in find_series(folder)}

    def by_pydicom() -> dict[str, int]:
        found: dict[str, int] = {}
        for entry in os.scandir(folder):
            uid = str(pydicom.dcmread(entry.path, stop_before_pixels=True).SeriesInstanceUID)
            found[uid] = found.get(uid, 0) + 1
        return found

    def by_simpleitk() -> dict[str, int]:
        reader = sitk.ImageSeriesReader
        return {uid: len(reader.GetGDCMSeriesFileNames(str(folder), uid)) for uid in reader.GetGDCMSeriesIDs(str(folder))}

    return {"medseg": ours, "pydicom, all headers": by_pydicom, "SimpleITK series scan": by_simpleitk}


def same(first: Any, second: Any) -> float:
    return float(first == second)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="300 files, to try the benchmark itself")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    series, slices = (10, 30) if options.small else (10, 300)
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), series, slices)
        case = Case(f"find {series} series of {slices} files", lambda _: contenders(Path(folder)), same)
        rows = measure(case, np.empty(0), options.rounds, lambda *_: None)
    print(as_markdown(rows))
    if options.out:
        options.out.write_text(json.dumps({"rounds": options.rounds, "rows": [vars(row) for row in rows]}, indent=1))


if __name__ == "__main__":
    main()
