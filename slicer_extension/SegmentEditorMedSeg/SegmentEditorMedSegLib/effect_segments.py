"""Segments of the edited segmentation as label maps, and results as new segments of it."""

from __future__ import annotations

import colorsys

import numpy as np
import slicer
from MedSegLib import nodes
from MedSegLib.session import JobError
from slicer.i18n import tr as _

from SegmentEditorMedSegLib import effect_grid

GOLDEN = 0.618033988749895  # of the circle of hues: neighbours in a list differ well


def labelsOnSegmentation(segmentationNode, segmentIds, reference):
    """Return segments as one label map on the segmentation's own grid, in the world's mm; the n-th has number n.

    Raises JobError where they overlap or have no voxel.
    """
    extent = reference.GetExtent()
    shape = tuple(extent[axis + 1] - extent[axis] + 1 for axis in (4, 2, 0))
    matrix = effect_grid.worldFromParent(segmentationNode) @ effect_grid.imageMatrix(reference)
    matrix = matrix @ effect_grid.shifted(extent[::2])
    return _labels(segmentationNode, segmentIds, shape, matrix)


def labelsOnScan(segmentationNode, segmentIds, volumeNode):
    """Return segments as one label map on the grid of a scan; raises JobError where they lie on another grid."""
    return _labels(segmentationNode, segmentIds, slicer.util.arrayFromVolume(volumeNode).shape, nodes.ijkToWorld(volumeNode))


def _labels(segmentationNode, segmentIds, shape, matrix):
    from medseg.core.errors import MedsegError
    from medseg.slicer_bridge.arrays import geometry_of, label_map_of

    try:
        layers = label_map_of([nodes.bridgeSegment(segmentationNode, one) for one in segmentIds], geometry_of(shape, matrix))
    except MedsegError as err:
        raise JobError(str(err), type(err).__name__, err.exit_code) from err
    if len(layers) > 1:
        raise JobError(
            _("Some of these segments overlap, so they cannot be smoothed together. Hide one of them, or smooth one at a time."),
            "Overlap",
            3,
        )
    if not layers[0].array.any() and layers[0].findings:
        raise JobError(_("The segment lies outside the scan: choose the scan it was drawn on as source volume."), "Outside", 3)
    if not layers[0].array.any():
        raise JobError(_("The segment is empty: draw something first."), "Empty", 3)
    return layers[0]


def findingsOf(labels):
    """Return what was found while segments became a label map, as dictionaries: voxels outside the scan are left out."""
    return tuple(finding.to_dict() for finding in labels.findings)


def isSmall(labels, mostVoxels):
    """Whether the box around all segments of a label map holds at most so many voxels."""
    from medseg.slicer_bridge.arrays import cropped

    return cropped(labels)[0].size <= mostVoxels


def visibleSegmentIds(segmentationNode):
    """Return the IDs of the segments that are shown, in the order of the list."""
    display = segmentationNode.GetDisplayNode()
    ids = nodes.segmentIDsOf(segmentationNode)
    return [one for one in ids if display is None or display.GetSegmentVisibility(one)]


def furtherColours(colour, count):
    """Return a segment's colour and colours for `count` - 1 more, far apart in hue."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*colour)
    return [tuple(colour)] + [
        colorsys.hls_to_rgb((hue + GOLDEN * number) % 1.0, min(max(lightness, 0.4), 0.7), max(saturation, 0.6))
        for number in range(1, count)
    ]


def numberedParts(outcome, numbers):
    """Return a MaskPart for each of the numbers of an outcome, cropped to its own voxels."""
    return [effect_grid.croppedMask(np.asarray(outcome.array == number), outcome.extent) for number in numbers]


def freeName(segmentation, name):
    """Return the name, with a number where a segment has it already."""
    found, number = name, 2
    while segmentation.GetSegmentIdBySegmentName(found):
        found, number = f"{name} ({number})", number + 1
    return found


def segmentNamed(segmentationNode, name, colour):
    """Return the ID of the segment of that name, which is added where there is none."""
    segmentation = segmentationNode.GetSegmentation()
    found = segmentation.GetSegmentIdBySegmentName(name)
    return found or segmentation.AddEmptySegment("", name, colour)


def colourOf(entry):
    """Return the colour (r, g, b) of a segment of a result."""
    from medseg.slicer_bridge import terminology

    return tuple(terminology.slicer_colour(terminology.segment_of(entry)))


def describe(segmentationNode, segmentId, entry):
    """Give a new segment the codes that a result has for it."""
    from medseg.slicer_bridge import terminology

    text = terminology.terminology_of(terminology.segment_of(entry))
    segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
    if text and hasattr(segment, "SetTerminology"):
        segment.SetTerminology(text)
    elif text:  # Slicer 5.8 and older keep it as a tag
        segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), text)
