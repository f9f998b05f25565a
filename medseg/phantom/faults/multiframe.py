"""Enhanced multi-frame files of the lab organ: functional groups, shared and per frame (PS3.3, C.7.6.16)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medseg.phantom.faults.fault import DicomFile
from medseg.phantom.faults.scene import LAB, Plane, Scene, image
from medseg.phantom.faults.series import CT, MR, MR_OFFSET, Storage, study_header, uid

ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
LEGACY_CT = "1.2.840.10008.5.1.4.1.1.2.2"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
ENHANCED_PET = "1.2.840.10008.5.1.4.1.1.130"
_STACK_ID, _IN_STACK, _TEMPORAL, _ECHO_TIME = 0x00209056, 0x00209057, 0x00209128, 0x00189082
_FRAME_CONTENT, _ECHO = 0x00209111, 0x00189114
_FRAME_TYPE_SEQUENCES = {
    ENHANCED_CT: "CTImageFrameTypeSequence",
    LEGACY_CT: "CTImageFrameTypeSequence",
    ENHANCED_MR: "MRImageFrameTypeSequence",
    ENHANCED_PET: "PETFrameTypeSequence",
}
_MODALITIES = {ENHANCED_CT: "CT", LEGACY_CT: "CT", ENHANCED_MR: "MR", ENHANCED_PET: "PT"}


@dataclass(frozen=True)
class Frame:
    """One frame: its plane, what it shows, and what its own functional groups say beyond the place."""

    plane: Plane
    scene: Scene = LAB
    stack: str = "1"
    in_stack: int = 1
    time: int = 1
    storage: Storage = CT
    echo_ms: float = 0.0  # 0 where the file says nothing about echoes


def frames_of(planes: Sequence[Plane], **same: Any) -> list[Frame]:
    """Return frames in the order of planes."""
    return [Frame(plane, in_stack=k, **same) for k, plane in enumerate(planes, start=1)]


def enhanced(
    name: str,
    frames: Sequence[Frame],
    *,
    sop_class: str = ENHANCED_CT,
    between_mm: float | None = None,
    is_shared: bool = True,
    has_places: bool = True,
    **fields: Any,
) -> DicomFile:
    """Return one multi-frame file; orientation, spacing and rescale are shared, or stand in every frame."""
    modality = _MODALITIES[sop_class]
    first = frames[0]
    measures: dict[str, Any] = {"PixelSpacing": list(first.plane.spacing_mm), "SliceThickness": 2.5}
    if between_mm is not None:
        measures["SpacingBetweenSlices"] = between_mm
    same: dict[str, Any] = {
        "PixelMeasuresSequence": [measures],
        "PlaneOrientationSequence": [{"ImageOrientationPatient": list(first.plane.orientation)}],
        _FRAME_TYPE_SEQUENCES[sop_class]: [{"FrameType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]}],
    }
    if modality != "MR" and len({frame.storage for frame in frames}) == 1:
        same["PixelValueTransformationSequence"] = [_rescale(first.storage)]
    if not has_places:
        del same["PlaneOrientationSequence"]
    per_frame = [_groups(frame, {} if is_shared else same, frames, has_places, modality) for frame in frames]
    offset = MR_OFFSET if modality == "MR" else 0
    pixels = np.stack([frame.storage.store(image(frame.plane, frame.scene, k) + offset) for k, frame in enumerate(frames)])
    header = {
        **{key: value for key, value in study_header(name, modality).items() if key != "SliceThickness"},
        "SOPClassUID": sop_class,
        "SOPInstanceUID": uid(name, "instance", "enhanced"),
        "InstanceNumber": 1,
        "ImageType": ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        "AcquisitionDateTime": "20000101120000",
        "NumberOfFrames": len(frames),
        "Rows": first.plane.size[0],
        "Columns": first.plane.size[1],
        **{key: value for key, value in first.storage.header().items() if not key.startswith("Rescale")},
        "SharedFunctionalGroupsSequence": [same if is_shared else {}],
        "PerFrameFunctionalGroupsSequence": per_frame,
        **_dimensions(name, frames),
        **fields,
    }
    return DicomFile(f"{name}.dcm", header, pixels)


def mr_storage() -> Storage:
    """Return how MR frames are stored."""
    return MR


def _rescale(storage: Storage) -> dict[str, Any]:
    return {"RescaleIntercept": storage.intercept, "RescaleSlope": storage.slope, "RescaleType": "HU"}


def _groups(frame: Frame, base: Mapping[str, Any], frames: Sequence[Frame], has_places: bool, modality: str) -> dict[str, Any]:
    times, echoes = {one.time for one in frames}, sorted({one.echo_ms for one in frames})
    content: dict[str, Any] = {
        "StackID": frame.stack,
        "InStackPositionNumber": frame.in_stack,
        "DimensionIndexValues": [int(frame.stack), frame.in_stack],
        "FrameAcquisitionDateTime": "20000101120000",
        "FrameReferenceDateTime": "20000101120000",
        "FrameAcquisitionDuration": 1.0,
    }
    if len(times) > 1:
        content["TemporalPositionIndex"] = frame.time
        content["DimensionIndexValues"] += [frame.time]
    if len(echoes) > 1:
        content["DimensionIndexValues"] += [1 + echoes.index(frame.echo_ms)]
    groups: dict[str, Any] = {**base, "FrameContentSequence": [content]}
    if has_places:
        groups["PlanePositionSequence"] = [{"ImagePositionPatient": list(frame.plane.position)}]
    if modality != "MR" and len({one.storage for one in frames}) > 1:
        groups["PixelValueTransformationSequence"] = [_rescale(frame.storage)]
    if frame.echo_ms:
        groups["MREchoSequence"] = [{"EffectiveEchoTime": frame.echo_ms}]
    return groups


def _dimensions(name: str, frames: Sequence[Frame]) -> dict[str, Any]:
    organization = uid(name, "dimensions")
    pointers = [(_STACK_ID, _FRAME_CONTENT), (_IN_STACK, _FRAME_CONTENT)]
    if len({frame.time for frame in frames}) > 1:
        pointers.append((_TEMPORAL, _FRAME_CONTENT))
    if len({frame.echo_ms for frame in frames}) > 1:
        pointers.append((_ECHO_TIME, _ECHO))
    indices = [
        {"DimensionOrganizationUID": organization, "DimensionIndexPointer": pointer, "FunctionalGroupPointer": group}
        for pointer, group in pointers
    ]
    return {"DimensionOrganizationSequence": [{"DimensionOrganizationUID": organization}], "DimensionIndexSequence": indices}
