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
    return ""


def suggestedPath(kind, segmentationNode, folder):
    """Return a path without the patient's name: what the segmentation is called in the scene may hold it."""
    return os.path.join(
        folder, {"csv": "measurements", "sr": "measurements", "report": "report"}.get(kind, "segmentation") + SUFFIXES[kind]
    )


def withSuffix(path, kind):
    """Return the path with the suffix of its format."""
    suffix = SUFFIXES[kind]
    return path if not suffix or path.lower().endswith(suffix) else path + suffix


def job(kind, volumeNode, segmentationNode, path, folder):
    """Return the job that writes a file; raises JobError where the format cannot be written."""
    sentence = whyNot(kind, volumeNode, segmentationNode)
    if sentence:
        raise JobError(sentence, "Export", 2)
    scan = dicomRef(nodes.dicomFiles(volumeNode)) if kind in NEEDS_DICOM else nodes.scanRef(volumeNode)
    labels = nodes.labelsRef(segmentationNode, None, volumeNode)
    return {
        "do": "export",
        "format": kind,
        "scan": scan,
        "labels": labels,
        "path": withSuffix(path, kind),
        "overwrite": True,
        "out": folder,
    }
