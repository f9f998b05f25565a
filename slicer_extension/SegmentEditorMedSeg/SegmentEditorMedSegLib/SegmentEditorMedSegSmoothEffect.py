"""Smooth keeping volume: smoother surfaces, the same number of voxels."""

from __future__ import annotations

from slicer.i18n import tr as _

from SegmentEditorMedSegLib import effect_segments
from SegmentEditorMedSegLib.effect_base import MedSegEffect
from SegmentEditorMedSegLib.effect_options import Option
from SegmentEditorMedSegLib.effect_preview import PreviewPart
from SegmentEditorMedSegLib.effect_runner import QUICK_VOXELS, Work


class SegmentEditorMedSegSmoothEffect(MedSegEffect):
    """Smooths the selected segment, or all visible ones together so that no gap opens between them."""

    NAME = "MedSegSmooth"
    ICON = "Smooth"
    HAS_PREVIEW_BUTTON = True
    METHODS = ("smooth", "joint-smooth")
    BOUND_TO_SEGMENT = True

    def __init__(self, scriptedEffect):
        MedSegEffect.__init__(self, scriptedEffect)
        self._ids = []

    def title(self):
        return _("Smooth keeping volume")

    def helpText(self):
        return _(
            "<html>Smooth the surface of the segment and keep its volume, voxel for voxel: dents are filled with what bumps give.<p>"
            "<ul style='margin: 0'><li><b>All visible segments:</b> neighbours share one smooth surface, without gaps or overlaps.</li>"
            "<li><b>Keep the outline:</b> only the surfaces between segments move.</li></ul></html>"
        )

    def options(self):
        return (
            Option(
                "SigmaMm",
                "number",
                _("Smoothing"),
                1.5,
                _("Dents and bumps smaller than this go."),
                low=0.1,
                high=20.0,
                step=0.5,
                decimals=1,
                unit="mm",
            ),
            Option(
                "Scope",
                "choice",
                _("Segments"),
                "one",
                _("What is smoothed."),
                choices=(("one", _("The selected one")), ("all", _("All visible, together"))),
            ),
            Option("KeepOutline", "boolean", _("Keep the outline of all together"), False, _("Only the surfaces between segments move.")),
        )

    def updateGUIFromMRML(self):
        MedSegEffect.updateGUIFromMRML(self)
        if self.applyButton is not None and not self.isWriting and self.scriptedEffect.parameterSetNode() is not None:
            self.rows.setEnabled("KeepOutline", self.rows.value("Scope") == "all")

    def missing(self):
        return "" if self.selectedSegment() is not None else _("Select a segment in the list above.")

    def work(self):
        isAll = self.rows.value("Scope") == "all"
        segmentation = self.segmentationNode()
        self._ids = effect_segments.visibleSegmentIds(segmentation) if isAll else [self.segmentId()]
        labels = effect_segments.labelsOnSegmentation(segmentation, self._ids, self.reference())
        parameters = {"sigma_mm": self.rows.value("SigmaMm")}
        if isAll:
            parameters["outline"] = "kept" if self.rows.value("KeepOutline") else "smoothed"
        isQuick, found = effect_segments.isSmall(labels, QUICK_VOXELS), effect_segments.findingsOf(labels)
        return Work("joint-smooth" if isAll else "smooth", parameters, labels=labels, isQuick=isQuick, findings=found)

    def parts(self, outcome):
        segmentation = self.segmentationNode().GetSegmentation()
        masks = effect_segments.numberedParts(outcome, range(1, len(self._ids) + 1))
        found = []
        for segmentId, mask in zip(self._ids, masks, strict=True):
            segment = segmentation.GetSegment(segmentId)
            found.append(PreviewPart(self.placed(mask, outcome), segment.GetName(), tuple(segment.GetColor()), segmentId))
        return found

    def write(self):
        for part in self.preview.parts:
            self.modifyAs(part.segmentId, part.image, "set")
