"""Enhanced multi-frame files made frame by frame, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

ROWS, COLUMNS = 3, 4

# Keyword → the functional group that holds it
GROUPS = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
    "StackID": "FrameContentSequence",
    "InStackPositionNumber": "FrameContentSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "DimensionIndexValues": "FrameContentSequence",
    "FrameAcquisitionNumber": "FrameContentSequence",
    "FrameAcquisitionDateTime": "FrameContentSequence",
    "TemporalPositionTimeOffset": "TemporalPositionSequence",
    "EffectiveEchoTime": "MREchoSequence",
    "DiffusionBValue": "MRDiffusionSequence",
    "DiffusionGradientOrientation": "MRDiffusionSequence",
    "NominalCardiacTriggerDelayTime": "CardiacSynchronizationSequence",
    "FrameType": "MRImageFrameTypeSequence",
    "ComplexImageComponent": "MRImageFrameTypeSequence",
    "ConvolutionKernel": "CTReconstructionSequence",
    "RealWorldValueSlope": "RealWorldValueMappingSequence",
    "RealWorldValueIntercept": "RealWorldValueMappingSequence",
    "AcquisitionNumber": "UnassignedPerFrameConvertedAttributesSequence",
    "InstanceNumber": "UnassignedPerFrameConvertedAttributesSequence",
}
SHARED = {
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "PixelSpacing": [0.9, 0.7],
    "SliceThickness": 2.5,
    "RescaleSlope": 1,
    "RescaleIntercept": -1024,
    "RescaleType": "HU",
}


def _item(values: Mapping[str, Any]) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        group = GROUPS[keyword]
        if group not in item:
            setattr(item, group, Items([Dataset()]))
        place = item[group].value[0]
        if keyword == "DiffusionGradientOrientation":
            place.DiffusionGradientDirectionSequence = Items([Dataset()])
            place = place.DiffusionGradientDirectionSequence[0]
        setattr(place, keyword, value)
    return item


def make_enhanced(
    path: Path,
    frames: Sequence[Mapping[str, Any]],
    shared: Mapping[str, Any] = SHARED,
    dimensions: Sequence[str] = (),
    syntax: str = ExplicitVRLittleEndian,
    **changes: Any,
) -> Path:
    """Write an enhanced CT whose frames have the given attributes; frame n holds the value n everywhere."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = (generate_uid() for _ in range(3))
    data.Modality, data.ImageType, data.InstanceNumber = "CT", ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], 7
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns, data.NumberOfFrames = ROWS, COLUMNS, len(frames)
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    if dimensions:
        data.DimensionIndexSequence = Items([_pointer(keyword) for keyword in dimensions])
    data.SharedFunctionalGroupsSequence = Items([_item(shared)])
    data.PerFrameFunctionalGroupsSequence = Items([_item(frame) for frame in frames])
    for keyword, value in changes.items():
        setattr(data, keyword, value)
    values = np.repeat(np.arange(len(frames), dtype=np.uint16), ROWS * COLUMNS)
    data.PixelData = (values.byteswap() if syntax == pydicom.uid.ExplicitVRBigEndian else values).tobytes()
    data["PixelData"].VR = "OW"
    data.save_as(path, enforce_file_format=True)
    return path


def _pointer(keyword: str) -> Dataset:
    item = Dataset()
    item.DimensionIndexPointer = pydicom.datadict.tag_for_keyword(keyword)
    item.DimensionOrganizationUID = "1.2.3"
    return item
