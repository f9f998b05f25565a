"""The folder through which arrays pass between Slicer and the worker, as files that both map into memory."""

from __future__ import annotations

import contextlib
import os
import shutil

import slicer
from slicer.i18n import tr as _

KEPT_SCANS = 2  # as many as the worker keeps; a third one replaces the oldest


class HandoverFolder:
    """A folder of this Slicer process: scans are written once, results are read from it, all goes at the end."""

    def __init__(self, parent=None):
        from medseg.core.errors import MedsegError
        from medseg.slicer_bridge.paths import make_job_folder
        from MedSegLib.session import JobError

        try:
            self.path = str(make_job_folder(parent or os.path.join(slicer.app.temporaryPath, "medseg")))
        except MedsegError as err:
            raise JobError(str(err), "DiskFull", err.exit_code) from err
        self._scans = {}
        self._number = 0

    def newName(self, stem, suffix=".npy"):
        """Return a path in the folder that no file has yet."""
        self._number += 1
        return os.path.join(self.path, f"{stem}-{self._number}{suffix}")

    def newFolder(self, stem):
        """Return a new folder inside, for what one job writes; raises JobError where none can be made."""
        from MedSegLib.session import JobError

        path = self.newName(stem, "")
        try:
            os.makedirs(path)
        except OSError as err:
            raise JobError(
                _(
                    "No folder can be made in Slicer's temporary folder: its disk is full, or it cannot be written. "
                    "Free some space, or choose another folder in Edit / Application Settings / Modules."
                ),
                "DiskFull",
                5,
            ) from err
        return path

    def scanFile(self, key, array):
        """Return the file of a scan's voxels, written on the first call for this key; raises JobError where the disk is full."""
        if key in self._scans and os.path.isfile(self._scans[key]):
            self._scans[key] = self._scans.pop(key)  # now the newest
            return self._scans[key]
        while len(self._scans) >= KEPT_SCANS:
            _removed(self._scans.pop(next(iter(self._scans))))
        self._scans[key] = self.save("scan", array)
        return self._scans[key]

    def save(self, stem, array):
        """Write an array as .npy and return its path; raises JobError where it does not fit."""
        from medseg.core.errors import OutputError
        from medseg.slicer_bridge.array_files import write_array
        from MedSegLib.session import JobError

        path = self.newName(stem)
        try:
            write_array(path, array)
        except (OSError, OutputError) as err:
            _removed(path)
            raise JobError(
                _(
                    "The scan does not fit on the disk of Slicer's temporary folder: {0:.0f} MB are needed, {1:.0f} MB are free. "
                    "Remove files there, or choose another folder in Edit / Application Settings / Modules."
                ).format(array.nbytes / 1e6, self._freeMb()),
                "DiskFull",
                5,
            ) from err
        return path

    def _freeMb(self):
        try:
            return shutil.disk_usage(self.path).free / 1e6
        except OSError:  # the folder itself is gone
            return 0.0

    def done(self, folder):
        """Remove what a job has written, once it is in the scene."""
        shutil.rmtree(folder, ignore_errors=True)

    def remove(self):
        """Remove everything."""
        self._scans.clear()
        shutil.rmtree(self.path, ignore_errors=True)


def _removed(path):
    with contextlib.suppress(OSError):  # still mapped by the worker (Windows): it goes with the folder
        os.remove(path)
