"""What the numbers on show were measured on, and whether it is still as it was then."""

from __future__ import annotations

import json
import uuid
import zlib
from dataclasses import dataclass
from datetime import datetime

import slicer
from slicer.i18n import tr as _

from MedSegLib import nodes
from MedSegLib.session import JobError

_PROCESS = uuid.uuid4().hex  # times of change mean nothing in another process: a loaded scene begins anew


@dataclass(frozen=True)
class Origin:
    """What was measured. `parts` holds the rows as segments where the measured segments do not; `frame` is a sentence of a sequence."""

    volumeNode: object
    segmentationNode: object
    parts: object = None
    frame: str = ""
    marks: str = ""


def marks(volumeNode, segmentationNode):
    """Return a text that is another one after voxels, segments or their place were changed."""
    found = [_placed(volumeNode), volumeNode.GetImageData().GetMTime() if volumeNode.GetImageData() is not None else 0]
    if segmentationNode is not None:
        name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
        found.append(segmentationNode.GetTransformNodeID() or "")
        for segmentID in nodes.segmentIDsOf(segmentationNode):
            image = segmentationNode.GetSegmentation().GetSegment(segmentID).GetRepresentation(name)
            found.append(f"{segmentID} {image.GetMTime() if image is not None else 0}")
    return f"{zlib.crc32(json.dumps(found).encode()):08x}"


def _placed(volumeNode):
    try:
        return nodes.ijkToWorld(volumeNode).tolist()
    except JobError:  # under a transform that bends it
        return volumeNode.GetTransformNodeID()


def write(state, origin):
    """Keep what was measured, and when, in the parameter node."""
    state.measuredVolume, state.measuredSegmentation, state.measuredParts = origin.volumeNode, origin.segmentationNode, origin.parts
    told = {"at": datetime.now().isoformat(timespec="seconds"), "frame": origin.frame, "marks": origin.marks, "process": _PROCESS}
    state.origin = json.dumps(told)


def clear(state):
    """Forget the numbers: those of a run before do not stand beside the result of another."""
    with slicer.util.NodeModify(state):
        state.document = state.findings = state.origin = ""
        state.resultTable = state.measuredVolume = state.measuredSegmentation = state.measuredParts = None


def sentence(state):
    """Return whose numbers are on show, and whether they are out of date; a change that was seen stays noted in the scene."""
    try:
        told = json.loads(state.origin or "{}")
    except ValueError:
        told = {}
    volume, segmentation = state.measuredVolume, state.measuredSegmentation
    parts = [_("of {0}").format(volume.GetName()) if volume is not None else _("of a scan that is no longer in the scene")]
    parts += [text for text in (told.get("frame", ""), _time(told.get("at", ""))) if text]
    doubts = []
    if volume is not None and state.inputVolume is not volume:
        doubts.append(_("no longer the chosen scan"))
    if segmentation is None:
        doubts.append(_("its segmentation is no longer in the scene"))
    elif state.segmentation is not segmentation:
        doubts.append(_("no longer the chosen segmentation"))
    if _changed(state, told, volume, segmentation):
        doubts.append(_("the scan or its segments were changed since: measure again"))
    return ", ".join(parts) + "".join(f"; {doubt}" for doubt in doubts), bool(doubts)


def _changed(state, told, volume, segmentation):
    if told.get("changed"):
        return True
    if volume is None or segmentation is None or not told.get("marks"):
        return False
    now = marks(volume, segmentation)
    if told.get("process") != _PROCESS:  # the scene was loaded: what comes after is seen
        state.origin = json.dumps({**told, "marks": now, "process": _PROCESS})
        return False
    if now == told["marks"]:
        return False
    state.origin = json.dumps({**told, "changed": True})
    return True


def _time(text):
    """Return the time of day, with the date where it was another day."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return ""
    return at.strftime("%H:%M" if at.date() == datetime.now().date() else "%Y-%m-%d %H:%M")
