"""Small scans to try MedSeg with: phantoms whose true volumes are known, loaded from the installed package, each file checked."""

from __future__ import annotations

import csv
import hashlib
import logging
import os

import slicer
from slicer.i18n import tr as _

from MedSegLib.session import JobError

NAME = "MedSegTorso"
TITLE = "MedSeg CT torso phantom"


def register(iconFolder):
    """Register the sample with the Sample Data module; called when Slicer has started, which nothing here may stop."""
    try:
        import SampleData
    except ImportError:  # a Slicer without that module
        return
    try:
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category="MedSeg",
            sampleName=NAME,
            uris="",  # nothing is downloaded; without a text here Slicer takes no length of it and fails
            thumbnailFileName=os.path.join(iconFolder, "MedSegSample.png"),
            nodeNames=TITLE,
            customDownloader=_loadFor,
        )
    except (TypeError, ValueError, AttributeError):  # a Slicer that wants it said otherwise
        logging.warning("The sample of MedSeg could not be added to the module Sample Data; the button Sample loads it all the same.")


def _loadFor(source):
    """Load the sample for the Sample Data module: nothing is downloaded, each file is checked by its SHA-256."""
    return [load()]


def sampleFolder():
    """Return the folder of the sample study in the installed package, "" where it is not there."""
    import importlib.util

    spec = importlib.util.find_spec("medseg")
    if spec is None or not spec.submodule_search_locations:
        return ""
    package = next(iter(spec.submodule_search_locations))
    for folder in (os.path.join(package, "sample_data"), os.path.join(os.path.dirname(package), "sample_data")):
        if os.path.isfile(os.path.join(folder, "MANIFEST.tsv")):
            return folder
    return ""


def checkedFiles(folder):
    """Return the DICOM files of the sample in order; raises JobError where one is not what its SHA-256 says."""
    files = []
    with open(os.path.join(folder, "MANIFEST.tsv"), encoding="utf-8") as manifest:
        rows = csv.DictReader((line for line in manifest if not line.startswith("#")), delimiter="\t")
        for row in rows:
            if not row["file"].endswith(".dcm"):
                continue
            path = os.path.join(folder, *row["file"].split("/"))
            with open(path, "rb") as file:
                if hashlib.sha256(file.read()).hexdigest() != row["sha256"]:
                    raise JobError(_("A file of the sample is damaged. Press Update in the installation section."), "Sample", 3)
            files.append(path)
    if not files:
        raise JobError(_("The installed medseg has no sample. Press Update in the installation section."), "Sample", 3)
    return files


def load():
    """Load the sample scan and return its volume node; raises JobError with the sentence where it is not there or damaged."""
    import vtk

    folder = sampleFolder()
    if not folder:
        raise JobError(_("The sample comes with medseg. Install it first, below."), "Sample", 4)
    names = vtk.vtkStringArray()
    for path in checkedFiles(folder):
        names.InsertNextValue(path)
    node = slicer.modules.volumes.logic().AddArchetypeVolume(names.GetValue(0), TITLE, 0, names)
    if node is None:
        raise JobError(_("The sample could not be read by Slicer."), "Sample", 3)
    from MedSegLib import nodes

    nodes.setModality(node, "CT")
    return node
