"""From one scan to many: the choice and its parameters as a pipeline file that `medseg` runs without Slicer."""

from __future__ import annotations

import json
import re

from slicer.i18n import tr as _

from MedSegLib.session import JobError

SCHEMA = "medseg.pipeline/1"


def pipelineText(choice, parameters):
    """Return the pipeline file of a choice; raises JobError where it cannot run without a look at each scan.

    JSON is YAML, so that no YAML writer is needed here.
    """
    if choice.group == "pipeline":
        raise JobError(_("This is a pipeline already. Run it over your scans with: {0}").format(commandFor(choice.name)), "Batch", 2)
    if choice.group not in ("model", "segment"):
        raise JobError(_("Only what segments a scan can be run over many scans. Choose a method, network or pipeline."), "Batch", 2)
    if any(p.kind == "point" and parameters.get(p.name) for p in choice.parameters) or any(_isReference(v) for v in parameters.values()):
        raise JobError(
            _("Points and segmentations belong to this one scan. Choose a method that needs none, then press Batch again."), "Batch", 2
        )
    name = re.sub(r"[^a-z0-9]+", "-", choice.key.casefold()).strip("-")
    pipeline = {
        "schema": SCHEMA,
        "name": name,
        "title": choice.title,
        "description": choice.summary or choice.title,
        "segment": {"method": choice.name, "parameters": parameters},
    }
    if choice.modality:
        pipeline["modality"] = choice.modality
    return json.dumps(pipeline, indent=2, ensure_ascii=False) + "\n"


def commandFor(pipeline):
    """Return the command that runs a pipeline on one scan, to be put into a loop."""
    return f"medseg run {pipeline} SCAN -o FOLDER"


def _isReference(value):
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(one, dict) for one in value))
