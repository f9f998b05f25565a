"""Results to files: which formats there are, what each needs, and the job that writes it."""

from __future__ import annotations

import os

from slicer.i18n import tr as _

from MedSegLib import nodes
from MedSegLib.run import dicomRef
from MedSegLib.session import JobError

# format of the job → suffix; a report is a folder
SUFFIXES = {"dicom-seg": ".dcm", "sr": ".sr.dcm", "csv": ".csv", "report": "", "seg.nrrd": ".seg.nrrd", "nii.gz": ".nii.gz"}
NEEDS_DICOM = ("dicom-seg", "sr")


def formats():
    """Return (format, title) of everything that can be written, the most useful first."""
    return [
        ("csv", _("CSV: measurements")),
        ("report", _("Report: HTML with pictures")),
        ("dicom-seg", _("DICOM SEG (for PACS)")),
        ("sr", _("DICOM SR: measurements")),
        ("seg.nrrd", _("Segmentation (.seg.nrrd)")),
        ("nii.gz", _("Label map (.nii.gz)")),
    ]


def whyNot(kind, volumeNode, segmentationNode):
    """Return the sentence that says why a format cannot be written now, "" where it can."""
    if segmentationNode is None or not nodes.segmentIDsOf(segmentationNode):
        return _("There is no segmentation to export. Choose one, or press Apply first.")
    sentence = nodes.whyNotUsable(volumeNode)
    if sentence:
        return sentence
    if kind in NEEDS_DICOM and not nodes.dicomFiles(volumeNode):
        return _(
            "This format refers to the DICOM images of the scan, and this scan was not loaded from Slicer's DICOM database. "
            "Load it there (DICOM module), or choose another format."
        )
    drawnOn = otherScan(volumeNode, segmentationNode)
    if kind in NEEDS_DICOM and drawnOn is not None:
        return _(
            'The segments were drawn on "{0}", and the chosen scan is "{1}": the file would point at the wrong images. '
            'Choose "{0}" as the scan, or another segmentation.'
        ).format(drawnOn.GetName(), volumeNode.GetName())
    return ""


def otherScan(volumeNode, segmentationNode):
    """Return the scan the segments were drawn on where it is another one than the chosen scan, None where it is not or is not known."""
    drawnOn = nodes.referenceVolume(segmentationNode)
    return drawnOn if drawnOn is not volumeNode else None


def doubts(kind, volumeNode, segmentationNode):
    """Return findings about what is going to be written: numbers of one scan measured in the segments of another."""
    drawnOn = otherScan(volumeNode, segmentationNode)
    if kind not in ("csv", "report") or drawnOn is None:
        return []
    message = _('the segments were drawn on "{0}" and are measured in "{1}": intensities in the file are those of "{1}"')
    return [
        {
            "code": "OTHER_SCAN",
            "severity": "warning",
            "message": message.format(drawnOn.GetName(), volumeNode.GetName()),
            "advice": _('Choose "{0}" as the scan where that was not meant, and export again.').format(drawnOn.GetName()),
        }
    ]


def suggestedPath(kind, segmentationNode, folder):
    """Return a path without the patient's name: what the segmentation is called in the scene may hold it."""
    return os.path.join(
        folder, {"csv": "measurements", "sr": "measurements", "report": "report"}.get(kind, "segmentation") + SUFFIXES[kind]
    )


def withSuffix(path, kind):
    """Return the path with the suffix of its format."""
    suffix = SUFFIXES[kind]
    return path if not suffix or path.lower().endswith(suffix) else path + suffix


def job(kind, volumeNode, segmentationNode, path, folder, onFinding=None):
    """Return the job that writes a file; raises JobError where the format cannot be written. `onFinding` hears what the segments lack."""
    sentence = whyNot(kind, volumeNode, segmentationNode)
    if sentence:
        raise JobError(sentence, "Export", 2)
    scan = dicomRef(nodes.dicomFiles(volumeNode)) if kind in NEEDS_DICOM else nodes.scanRef(volumeNode)
    labels = nodes.labelsRef(segmentationNode, None, volumeNode, onFinding=onFinding)
    return {
        "do": "export",
        "format": kind,
        "scan": scan,
        "labels": labels,
        "path": withSuffix(path, kind),
        "overwrite": True,
        "out": folder,
    }
