"""Watershed split: a segment parted at its waists, along the edges of the scan, or between clicks."""

from __future__ import annotations

import numpy as np
import slicer
from MedSegLib import nodes
from MedSegLib.session import JobError
from slicer.i18n import tr as _

from SegmentEditorMedSegLib import effect_grid, effect_segments
from SegmentEditorMedSegLib.effect_base import MedSegEffect
from SegmentEditorMedSegLib.effect_options import Option
from SegmentEditorMedSegLib.effect_preview import PreviewPart
from SegmentEditorMedSegLib.effect_runner import QUICK_VOXELS, Work

BY = "By"
MOST_PARTS = 50  # more are a sign of noise, not of lesions
MARGIN_VOXELS = 2  # of scan around the segment, for its gradient at the border


class SegmentEditorMedSegSplitEffect(MedSegEffect):
    """The largest part stays the selected segment, the others become segments of their own."""

    NAME = "MedSegSplit"
    ICON = "Split"
    HAS_PREVIEW_BUTTON = True
    METHODS = ("instances", "auto-watershed", "watershed")
    USES_CLICKS = True
    BOUND_TO_SEGMENT = True

    def title(self):
        return _("Watershed split")

    def helpText(self):
        return _(
            "<html>Split the selected segment where its parts only touch.<p><ul style='margin: 0'>"
            "<li><b>At waists:</b> where it is narrower than on both sides, by its shape alone.</li>"
            "<li><b>Along edges:</b> where the intensities of the scan change most.</li>"
            "<li><b>Between clicks:</b> Shift + click once on each part: each click floods its part, up to edges of the scan.</li></ul>"
            "The first part stays the selected segment, each other one becomes a new segment.</html>"
        )

    def options(self):
        return (
            Option(
                BY,
                "choice",
                _("Split"),
                "waists",
                _("Where the parts are cut from one another."),
                choices=(("waists", _("At waists")), ("edges", _("Along edges")), ("clicks", _("Between clicks"))),
            ),
            Option(
                "LeastWaistMm",
                "number",
                _("Least waist"),
                2.0,
                _("Lumps are parted where the way between them is narrower in radius by this than the smaller lump."),
                low=0.1,
                high=20.0,
                step=0.5,
                decimals=1,
                unit="mm",
            ),
            Option(
                "KeepAtLeastMm3",
                "number",
                _("Smallest part"),
                0.0,
                _("Smaller parts stay with the selected segment."),
                low=0.0,
                high=10000.0,
                step=10.0,
                decimals=0,
                unit="mm³",
            ),
            Option(
                "SigmaMm",
                "number",
                _("Smoothing"),
                1.0,
                _("The scan is smoothed with this Gaussian before its edges are looked for."),
                low=0.0,
                high=10.0,
                step=0.5,
                decimals=1,
                unit="mm",
            ),
        )

    def missing(self):
        problem = "" if self.selectedSegment() is not None else _("Select a segment in the list above.")
        if not problem and self.rows.value(BY) != "waists":
            problem = self.sourceProblem()
        if not problem and self.rows.value(BY) == "clicks" and len(self.clicks.points()) < 2:
            problem = _("Click on each part: the first click starts, Shift + click marks each further part.")
        return problem

    def clicked(self, point, isMore=False, isOutside=False):
        if self.rows.value(BY) == "clicks":
            MedSegEffect.clicked(self, point, isMore, isOutside)

    def onOption(self, key):
        if self.rows.widgets[BY].currentIndex != 2:
            self.clicks.clear()
        MedSegEffect.onOption(self, key)

    def work(self):
        by = self.rows.value(BY)
        if by == "waists":
            labels = effect_segments.labelsOnSegmentation(self.segmentationNode(), [self.segmentId()], self.reference())
            parameters = {"least_waist_mm": self.rows.value("LeastWaistMm"), "keep_at_least_mm3": self.rows.value("KeepAtLeastMm3")}
            isQuick = effect_segments.isSmall(labels, QUICK_VOXELS)
            return Work("instances", parameters, labels=labels, isQuick=isQuick, findings=effect_segments.findingsOf(labels))
        labels = effect_segments.labelsOnScan(self.segmentationNode(), [self.segmentId()], self.volumeNode())
        common = {"isQuick": labels.array.size <= QUICK_VOXELS, "findings": effect_segments.findingsOf(labels)}
        if by == "edges":
            parameters = {"relief": "gradient", "sigma_mm": self.rows.value("SigmaMm")}
            return Work("auto-watershed", parameters, self.volumeNode(), labelParameters={"mask": labels}, **common)
        parameters = {"seeds": self.clicks.points(), "sigma_mm": self.rows.value("SigmaMm")}
        return Work("watershed", parameters, self.volumeNode(), scanPart=self._insideOf(labels), **common)

    def _insideOf(self, labels):
        """The scan around the segment, without values outside it: there nothing is flooded."""
        mask = effect_grid.croppedMask(labels.array.T)
        wider = tuple(n + (-MARGIN_VOXELS, MARGIN_VOXELS)[at % 2] for at, n in enumerate(mask.extent))
        array = slicer.util.arrayFromVolume(self.volumeNode())
        k, j, i = array.shape
        extent = effect_grid.commonExtent(wider, (0, i - 1, 0, j - 1, 0, k - 1))
        box = effect_grid.extentArray(array, (0, i - 1, 0, j - 1, 0, k - 1), extent).astype(np.float32)
        box[effect_grid.extentArray(mask.array, mask.extent, extent) == 0] = np.nan
        for number, point in enumerate(self.clicks.points(), 1):
            self._checkInside(labels, point, number)
        return box, nodes.ijkToWorld(self.volumeNode()) @ effect_grid.shifted(extent[::2])

    def _checkInside(self, labels, point, number):
        index = np.rint(labels.geometry.world_to_index(np.array(point))).astype(int)
        isInside = all(0 <= n < size for n, size in zip(index, labels.array.shape, strict=True)) and labels.array[tuple(index)]
        if not isInside:
            raise JobError(_("Click {0} lies outside the segment: press Cancel and click inside it.").format(number), "Input", 3)

    def parts(self, outcome):
        numbers = [entry["number"] for entry in outcome.segments][:MOST_PARTS]
        masks = [mask for mask in effect_segments.numberedParts(outcome, numbers) if not mask.isEmpty]
        if len(masks) < 2:
            raise JobError(
                _("No place was found to split it: the segment stays whole. Choose a smaller least waist, or mark the parts with clicks."),
                "Whole",
                3,
            )
        names = [self.selectedName()] + [f"{self.selectedName()} {number}" for number in range(2, len(masks) + 1)]
        colours = effect_segments.furtherColours(self.selectedColour(), len(masks))
        return [PreviewPart(self.placed(mask, outcome), name, colour) for mask, name, colour in zip(masks, names, colours, strict=True)]

    def write(self):
        segmentation = self.segmentationNode().GetSegmentation()
        for part in self.preview.parts[1:]:
            segmentId = segmentation.AddEmptySegment("", effect_segments.freeName(segmentation, part.name), part.colour)
            # first into the new segment: where masking says "inside the selected one", nothing could be added once it is gone
            self.modify(part.image, "add", segmentId)
            self._take(segmentId)

    def _take(self, segmentId):
        """Take what a new segment was allowed to have from the selected one, unless overwriting has done so."""
        labels = nodes.binaryImage(self.segmentationNode(), segmentId)
        value = self.segmentationNode().GetSegmentation().GetSegment(segmentId).GetLabelValue()
        given = effect_grid.croppedMask(effect_grid.imageArray(labels) == value, labels.GetExtent())
        if given.isEmpty:
            return
        own = nodes.binaryImage(self.segmentationNode(), self.segmentId())
        mine = effect_grid.imageArray(own) == self.selectedSegment().GetLabelValue()
        if not (effect_grid.extentArray(mine, own.GetExtent(), given.extent) & given.array.view(bool)).any():
            return
        self.modify(effect_grid.orientedImage(given.array, given.extent, effect_grid.imageMatrix(labels)), "remove", isMasked=False)
