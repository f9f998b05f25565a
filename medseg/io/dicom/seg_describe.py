"""How a DICOM SEG describes its segments, itself and the software that made it (PS3.3, C.8.20.2 to C.8.20.4)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from medseg.core.codes import Code
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.terminology import GENERIC_TERMS
from medseg.io.dicom.seg_terms import UNSPECIFIED, code_item, lab_from_rgb

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

LONGEST_LABEL = 64  # characters of a label (LO)
LONGEST_NAME = 64

# Families of algorithms, PS3.16 CID 7162
_TRAINED = Code("DCM", "123110", "Artificial Intelligence")
_FAMILIES = {
    "model": _TRAINED,
    "threshold": Code("DCM", "123105", "Histogram Analysis"),
    "region-growing": Code("DCM", "123101", "Neighborhood Analysis"),
    "watershed": Code("DCM", "123104", "Morphological Operations"),
    "level-set": Code("DCM", "123111", "Deformable Models"),
    "manual": Code("DCM", "123109", "Manual Processing"),
}
_PROCESSING = Code("DCM", "109102", "Processing Equipment")
_BACKGROUND = Code("SCT", "309825002", "Spatial and Relational Concept"), Code("DCM", "130175", "Background")


def stored_labels(segments: Sequence[Segment]) -> list[str]:
    """Return the labels as they fit: at most 64 characters, and still all different.

    >>> [len(label) for label in stored_labels([Segment(1, "x" * 70), Segment(2, "x" * 71)])]
    [64, 62]
    """
    taken: set[str] = set()
    labels = []
    for segment in segments:
        plain = segment.label.replace("\\", "/")  # a backslash separates values
        label, repeat = plain[:LONGEST_LABEL].strip(), 2
        while label in taken:
            label, repeat = f"{plain[: LONGEST_LABEL - 6]} ({repeat})", repeat + 1
        taken.add(label)
        labels.append(label)
    return labels


def segment_items(segments: Sequence[Segment], layers: Sequence[LabelMap]) -> list[Dataset]:
    """Return the items of the Segment Sequence, numbered 1, 2, ... in the order given."""
    trained = {segment.number: layer.provenance for layer in layers for segment in layer.segments if layer.provenance is not None}
    items = []
    for number, (segment, label) in enumerate(zip(segments, stored_labels(segments), strict=True), start=1):
        provenance = trained.get(segment.number)
        model = dict(provenance.model) if provenance is not None and provenance.model else None
        version = str((model or {}).get("version") or (provenance.versions.get("medseg") if provenance is not None else "") or "")
        items.append(_segment_item(segment, number, label, model is not None, version))
    return items


def _segment_item(segment: Segment, number: int, label: str, is_trained: bool, version: str) -> Dataset:
    from pydicom.dataset import Dataset
    from pydicom.uid import generate_uid

    category, kind, _ = GENERIC_TERMS
    item = Dataset()
    item.SegmentNumber = number
    item.SegmentLabel = label
    # without the name of an algorithm nobody knows how much of the work was done by hand
    item.SegmentAlgorithmType = {"": "SEMIAUTOMATIC", "manual": "MANUAL"}.get(segment.algorithm, "AUTOMATIC")
    item.SegmentAlgorithmName = (segment.algorithm or UNSPECIFIED)[:LONGEST_NAME]
    family = _TRAINED if is_trained else _FAMILIES.get(segment.algorithm)
    if family is not None:  # the family is told only where it is known; the name stays
        identification = Dataset()
        identification.AlgorithmFamilyCodeSequence = [code_item(family)]
        identification.AlgorithmName = item.SegmentAlgorithmName
        identification.AlgorithmVersion = (version or UNSPECIFIED)[:LONGEST_NAME]
        item.SegmentationAlgorithmIdentificationSequence = [identification]
    item.SegmentedPropertyCategoryCodeSequence = [code_item(segment.category or category)]
    type_item = code_item(segment.type or kind)
    if segment.modifier is not None:
        type_item.SegmentedPropertyTypeModifierCodeSequence = [code_item(segment.modifier)]
    item.SegmentedPropertyTypeCodeSequence = [type_item]
    if segment.region is not None:
        region = code_item(segment.region)
        if segment.region_modifier is not None:
            region.AnatomicRegionModifierSequence = [code_item(segment.region_modifier)]
        item.AnatomicRegionSequence = [region]
    item.RecommendedDisplayCIELabValue = lab_from_rgb(segment.rgb)
    item.TrackingID = segment.tracking_id or label
    item.TrackingUID = segment.tracking_uid or generate_uid(prefix=None)
    return item


def background_item() -> Dataset:
    """Return the description of number 0 in a LABELMAP."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.SegmentNumber = 0
    item.SegmentLabel = "Background"
    item.SegmentAlgorithmType = "AUTOMATIC"
    item.SegmentAlgorithmName = UNSPECIFIED
    item.SegmentedPropertyCategoryCodeSequence = [code_item(_BACKGROUND[0])]
    item.SegmentedPropertyTypeCodeSequence = [code_item(_BACKGROUND[1])]
    return item


def describe_series(made: Dataset, layers: Sequence[LabelMap]) -> None:
    """Add what a SEG says of itself: series, instance, time, equipment."""
    from pydicom.dataset import Dataset
    from pydicom.uid import generate_uid

    now = datetime.now(timezone.utc).astimezone()
    version = (
        next((str(layer.provenance.versions.get("medseg", "")) for layer in layers if layer.provenance is not None), "") or UNSPECIFIED
    )
    made.SOPInstanceUID = generate_uid(prefix=None)
    made.SeriesInstanceUID = generate_uid(prefix=None)
    made.Modality = "SEG"
    made.SeriesNumber = 300
    made.InstanceNumber = 1
    made.SeriesDescription = "Segmentation (medseg)"
    made.ImageType = ["DERIVED", "PRIMARY"]
    made.ContentLabel = "SEGMENTATION"
    made.ContentDescription = "Segmentation by medseg"
    made.ContentCreatorName = ""
    made.ContentDate = made.SeriesDate = made.InstanceCreationDate = now.strftime("%Y%m%d")
    made.ContentTime = made.SeriesTime = made.InstanceCreationTime = now.strftime("%H%M%S")
    made.Manufacturer = made.ManufacturerModelName = "medseg"
    made.SoftwareVersions = version[:LONGEST_NAME]
    made.DeviceSerialNumber = "0"
    equipment = Dataset()
    equipment.Manufacturer = equipment.ManufacturerModelName = "medseg"
    equipment.SoftwareVersions = version[:LONGEST_NAME]
    equipment.ContributionDateTime = now.strftime("%Y%m%d%H%M%S")
    equipment.ContributionDescription = "Segmentation; research software, not a medical device"
    equipment.PurposeOfReferenceCodeSequence = [code_item(_PROCESSING)]
    made.ContributingEquipmentSequence = [equipment]
