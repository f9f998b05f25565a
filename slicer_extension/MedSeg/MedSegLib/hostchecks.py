"""What the doctor can see from Slicer alone, before anything is installed: disk, folder, Python, and Slicer's own version.

The checks of medseg itself come with it (medseg.slicer_bridge.doctor); these have the same form.
"""

from __future__ import annotations

import os
import shutil

import slicer
from slicer.i18n import tr as _

from MedSegLib import install
from MedSegLib.session import JobError

SCARCE_GB = 5.0  # a CT and its results are a few GB while they are handed over


def hostChecks(installation):
    """Return the checks as dictionaries of name, status, sentence and advice; a check that fails is one of them."""
    folder = installation.folder
    tasks = (
        ("slicer", install.checkLight, _("This Slicer can take the light installation.")),
        ("folder", lambda: install.checkWritable(folder), _("The folder for the full installation can be made, its disk has room.")),
        ("python", install.findPython, _("A Python that can make the full installation was found.")),
    )
    checks = []
    for name, look, good in tasks:
        try:
            look()
            checks.append(_check(name, "ok", good))
        except JobError as err:  # it names what to do; the other way of installing may still be open
            checks.append(_check(name, "warning", str(err)))
    return [*checks, _temporaryDisk()]


def _temporaryDisk():
    folder = slicer.app.temporaryPath
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    try:
        free = shutil.disk_usage(folder).free / 1e9
    except OSError:
        return _check("disk", "error", _("Slicer's temporary folder cannot be looked at."), _advice())
    sentence = _("{0:.1f} GB are free for Slicer's temporary files.").format(free)
    return _check("disk", "ok", sentence) if free >= SCARCE_GB else _check("disk", "warning", sentence, _advice())


def _advice():
    return _("Free some space, or choose another temporary folder in Edit / Application Settings / Modules.")


def _check(name, status, sentence, advice=""):
    return {"name": name, "status": status, "sentence": sentence, "advice": advice}
