"""Finds the package `medseg`, and only it, in the environment of its own: nothing else from there can reach Slicer's Python.

Slicer imports the few modules of medseg that need numpy alone; whatever needs more runs in the worker.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys

PACKAGE = "medseg"


class EnvironmentFinder(importlib.abc.MetaPathFinder):
    """Answers for the package of this one name, from one folder; for every other name it has no answer."""

    isMedSegEnvironment = True  # tells it from others even after this module was reloaded, when its class is another one

    def __init__(self, sitePackages):
        self.sitePackages = sitePackages

    def find_spec(self, fullname, path=None, target=None):
        """Return where `medseg` is; None for all else, its own modules included (the package's own path finds them)."""
        if fullname != PACKAGE:
            return None
        return importlib.machinery.PathFinder.find_spec(fullname, [self.sitePackages], target)


def sitePackagesOf(environmentFolder):
    """Return the folder of packages of a virtual environment, "" where there is none."""
    candidates = [os.path.join(environmentFolder, "Lib", "site-packages")]
    library = os.path.join(environmentFolder, "lib")
    if os.path.isdir(library):
        candidates += [os.path.join(library, name, "site-packages") for name in sorted(os.listdir(library)) if name.startswith("python")]
    return next((folder for folder in candidates if os.path.isdir(folder)), "")


def useEnvironment(environmentFolder):
    """Let `import medseg` find the environment's package; a package that is already imported stays."""
    leaveEnvironment()
    sitePackages = sitePackagesOf(environmentFolder)
    if sitePackages:
        sys.meta_path.insert(0, EnvironmentFinder(sitePackages))  # first: a folder named medseg somewhere must not win


def leaveEnvironment():
    """Take the finder away again, as before an update."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not getattr(finder, "isMedSegEnvironment", False)]


def forgetPackage():
    """Let the next import read the package anew, after it was updated or removed."""
    importlib.invalidate_caches()
    for name in [name for name in sys.modules if name == PACKAGE or name.startswith(PACKAGE + ".")]:
        del sys.modules[name]


def isImportable(*names):
    """Whether all of these packages are there, without importing them; a folder without code is none."""
    return all(name in sys.modules or _hasCode(name) for name in names)


def _hasCode(name):
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None
