"""What an effect would do, shown as a segmentation of its own: the segment that is edited stays as it is until Apply."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import slicer
from slicer.i18n import tr as _

PREVIEW_ROLE = "SegmentationResultPreview"  # the role Slicer's own effects use, so that only one preview is there
OWNER_PARAMETER = "SegmentationResultPreviewOwnerEffect"
FILL_OPACITY = 0.45


@dataclass(frozen=True, eq=False)
class PreviewPart:
    """A mask in the space of the segmentation with name and colour (r, g, b); for a result that is not the selected segment's,
    `segmentId` says whose it is, or `entry` what a new segment gets."""

    image: Any
    name: str
    colour: tuple[float, float, float]
    segmentId: str = ""
    entry: dict[str, Any] = field(default_factory=dict)


class Preview:
    """The preview of one effect."""

    def __init__(self, scriptedEffect):
        self.scriptedEffect = scriptedEffect
        self.parts = []

    @property
    def isShown(self):
        """Whether there is something to apply."""
        return bool(self.parts) and self.node() is not None

    def node(self):
        """Return the node that shows it, None where there is none or it belongs to another effect."""
        parameters = self.scriptedEffect.parameterSetNode()
        if parameters is None or parameters.GetAttribute(OWNER_PARAMETER) != self.scriptedEffect.name:
            return None
        return parameters.GetNodeReference(PREVIEW_ROLE)

    def show(self, parts):
        """Show parts in place of what was shown before."""
        node = self.node() or self._made()
        names = [f"preview_{number}" for number in range(len(parts))]
        segmentation = node.GetSegmentation()
        for name in [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]:
            if name not in names:
                segmentation.RemoveSegment(name)
        for name, part in zip(names, parts, strict=True):
            if segmentation.GetSegment(name) is None:
                segmentation.AddEmptySegment(name, part.name, part.colour)
            logic = slicer.vtkSlicerSegmentationsModuleLogic
            logic.SetBinaryLabelmapToSegment(part.image, node, name, logic.MODE_REPLACE)
        self.parts = list(parts)

    def clear(self):
        """Take the preview away; nothing of it is left in the scene."""
        self.parts = []
        node = self.node()
        if node is None:
            return
        self.scriptedEffect.parameterSetNode().SetNodeReferenceID(PREVIEW_ROLE, None)
        self.scriptedEffect.setCommonParameter(OWNER_PARAMETER, "")
        if node.GetScene() is not None:
            slicer.mrmlScene.RemoveNode(node)

    def _made(self):
        parameters = self.scriptedEffect.parameterSetNode()
        other = parameters.GetNodeReference(PREVIEW_ROLE)
        if other is not None:  # of another effect that was left with its preview open
            slicer.mrmlScene.RemoveNode(other)
        edited = parameters.GetSegmentationNode()
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentationNode")
        node.UnRegister(None)
        node.SetName(_("MedSeg preview"))
        node.SetSaveWithScene(False)
        node.SetHideFromEditors(True)
        node = slicer.mrmlScene.AddNode(node)
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetOpacity2DFill(FILL_OPACITY)
        node.GetDisplayNode().SetVisibility3D(False)
        node.GetDisplayNode().SetSaveWithScene(False)
        node.SetAndObserveTransformNodeID(edited.GetTransformNodeID())
        geometry = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
        node.GetSegmentation().SetConversionParameter(geometry, edited.GetSegmentation().GetConversionParameter(geometry))
        parameters.SetNodeReferenceID(PREVIEW_ROLE, node.GetID())
        self.scriptedEffect.setCommonParameter(OWNER_PARAMETER, self.scriptedEffect.name)
        return node
