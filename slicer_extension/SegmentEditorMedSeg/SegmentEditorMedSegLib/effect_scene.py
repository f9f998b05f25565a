"""What an effect reads from the editor - scan, segmentation, selected segment - and how a result is handed to it."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from SegmentEditorMedSegLib import effect_grid

MODES = {"set": "ModificationModeSet", "add": "ModificationModeAdd", "remove": "ModificationModeRemove"}
SHOWN_SEVERITIES = ("warning", "error")


class EditedScene:
    """The part of an effect that knows the editor; `scriptedEffect` is the editor's side of it."""

    NAME = ""
    scriptedEffect = None
    isWriting = False  # while another segment than the user's is selected for a moment

    def volumeNode(self):
        """Return the source volume of the editor."""
        return self.scriptedEffect.parameterSetNode().GetSourceVolumeNode()

    def segmentationNode(self):
        """Return the segmentation that is edited."""
        return self.scriptedEffect.parameterSetNode().GetSegmentationNode()

    def segmentId(self):
        """Return the ID of the selected segment, "" where none is."""
        return self.scriptedEffect.parameterSetNode().GetSelectedSegmentID() or ""

    def selectedSegment(self):
        """Return the selected vtkSegment, None where none is."""
        segmentation = self.segmentationNode()
        return segmentation.GetSegmentation().GetSegment(self.segmentId()) if segmentation is not None and self.segmentId() else None

    def selectedName(self):
        """Return the name of the selected segment."""
        segment = self.selectedSegment()
        return segment.GetName() if segment is not None else self.NAME

    def selectedColour(self):
        """Return the colour of the selected segment."""
        segment = self.selectedSegment()
        return tuple(segment.GetColor()) if segment is not None else (0.5, 0.9, 0.5)

    def reference(self):
        """Return the geometry of the segmentation that is edited: a vtkOrientedImageData without voxels."""
        return self.scriptedEffect.referenceGeometryImage()

    def sourceProblem(self):
        """Return the sentence that says why the editor's scan and segment cannot be worked on, "" where they can."""
        from MedSegLib.nodes import whyNotUsable

        problem = whyNotUsable(self.volumeNode())
        if not problem and self.selectedSegment() is None:
            problem = _("Select a segment in the list above, or add one.")
        return problem

    def placed(self, part, outcome):
        """Return a mask on the grid of an outcome as the editor takes it; says where some of it lies outside the segmentation's grid."""
        image, lost = effect_grid.onReference(part, outcome.toWorld, self.segmentationNode(), self.reference())
        if lost:
            outcome.findings.append({"severity": "warning", "message": _outside(lost, outcome)})
        return image

    def modify(self, image, mode, segmentId=None, isMasked=True):
        """Hand a result to the editor, which applies masking and overwrite mode: `mode` is "set", "add" or "remove".

        The mask is that of the selected segment, also where `segmentId` names another one.
        """
        segmentationNode, segmentId = self.segmentationNode(), segmentId or self.segmentId()
        if mode == "set":
            # over a smaller image the editor would clear the rest of the segment even where masking protects it
            image = effect_grid.padded(image, effect_grid.segmentExtent(segmentationNode, segmentId, self.reference()))
        value = getattr(slicer.qSlicerSegmentEditorAbstractEffect, MODES[mode])
        if segmentId == self.segmentId():
            self.scriptedEffect.modifySelectedSegmentByLabelmap(image, value, not isMasked)
        else:
            self.scriptedEffect.modifySegmentByLabelmap(segmentationNode, segmentId, image, value, not isMasked)

    def modifyAs(self, segmentId, image, mode):
        """Hand a result to the editor as if that segment were the selected one: masking and overwriting are seen from it."""
        node, selected = self.scriptedEffect.parameterSetNode(), self.segmentId()
        if segmentId == selected:
            self.modify(image, mode)
            return
        wasWriting, self.isWriting = self.isWriting, True
        try:
            node.SetSelectedSegmentID(segmentId)
            self.modify(image, mode)
        finally:
            node.SetSelectedSegmentID(selected)
            self.isWriting = wasWriting


def tellings(outcome):
    """Return the sentences of an outcome: warnings first, then the one that tells what was found."""
    warnings = [one["message"] for one in outcome.findings if one["severity"] in SHOWN_SEVERITIES]
    said = [one["message"] for one in outcome.findings if one["severity"] not in SHOWN_SEVERITIES]
    return [text[:1].upper() + text[1:].rstrip(".") + "." for text in [*warnings, *said[-1:]]]


def _outside(voxels, outcome):
    volumeMl = voxels * effect_grid.voxelMm3(outcome.toWorld) / 1000
    return _(
        "{0:.3g} ml of the result lie outside the segmentation's grid and are left out: choose this scan under 'Specify geometry'"
    ).format(volumeMl)
