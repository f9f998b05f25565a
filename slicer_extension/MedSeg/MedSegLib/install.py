"""Three explicit ways to have medseg: light, full, remote. Nothing is installed unless the user chooses it.

light: the classical methods in Slicer's own Python, by `slicer.packaging.pip_ensure`; what Slicer ships is never replaced.
full: everything, networks included, in an environment of its own; torch cannot reach Slicer's Python.
remote: the address of another machine, kept for a version that can use it.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass

import slicer
from slicer.i18n import tr as _

from MedSegLib import finder
from MedSegLib.session import JobError
from MedSegLib.steps import Step

REQUIREMENT = "medseg>=0.1,<0.2"
FULL_REQUIREMENT = "medseg[learned,classical,codecs,report]>=0.1,<0.2"
OLDEST, NEXT = (0, 1), (0, 2)  # medseg versions this extension works with: from, up to but not including
FULL_SIZE_GB = 8.0  # torch with its libraries, and room for pip to unpack it
LIGHT, FULL, REMOTE = "light", "full", "remote"
MARKER = "medseg-environment.json"  # written last: an environment without it was not finished
LIGHT_SLICER = (5, 12)  # older ones ship pydicom 2, which medseg would have to replace
HELD = ("numpy", "scipy", "SimpleITK", "vtk", "requests", "pydicom")  # what Slicer itself uses: pip keeps their versions
LIGHT_NEEDS = ("medseg", "numba", "pydantic", "scipy")
ADDRESSES_KEPT = 5
_PYTHONS = ("python3.12", "python3.11", "python3.13", "python3.10", "python3", "python")
_LOOK = "import sys,venv,ensurepip;print('%d.%d'%sys.version_info[:2])"


@dataclass(frozen=True)
class State:
    """Whether medseg can work here, and the sentence for the panel."""

    kind: str
    ready: bool
    sentence: str
    version: str = ""


class Installation:
    """What the user chose, kept in Slicer's settings, and how it is made, updated and removed."""

    def __init__(self, settings=None):
        self.settings = settings or slicer.app.userSettings()

    # What was chosen

    @property
    def kind(self):
        """light, full, remote, or "" where nothing was chosen."""
        return str(self.settings.value("MedSeg/Install") or "")

    @kind.setter
    def kind(self, value):
        self.settings.setValue("MedSeg/Install", value)

    @property
    def folder(self):
        """The folder of the environment for the full installation."""
        stored = self.settings.value("MedSeg/EnvironmentFolder")
        return str(stored) if stored else os.path.join(os.path.dirname(self.settings.fileName()), "MedSeg-environment")

    @folder.setter
    def folder(self, path):
        self.settings.setValue("MedSeg/EnvironmentFolder", path)

    @property
    def addresses(self):
        """Addresses of other machines, the last one first."""
        return [line for line in str(self.settings.value("MedSeg/Addresses") or "").splitlines() if line]

    def useRemote(self, address):
        """Keep the address of another machine and choose it; raises JobError where it is none."""
        address = address.strip()
        host = address.split("://")[-1]
        if not host or any(c.isspace() for c in address) or ("://" in address and not address.startswith(("http://", "https://"))):
            raise JobError(_("This is no address of a machine. Write it like https://server:8042"), "Remote", 2)
        kept = [address, *(one for one in self.addresses if one != address)][:ADDRESSES_KEPT]
        self.settings.setValue("MedSeg/Addresses", "\n".join(kept))
        self.kind = REMOTE

    # What is there

    def state(self):
        """Return whether medseg can be used now, with the sentence that says so or what to do."""
        if self.kind == REMOTE:
            return State(REMOTE, False, _remoteSentence(self.addresses))
        if self.kind == FULL:
            return self._fullState()
        finder.leaveEnvironment()
        if not finder.isImportable(*LIGHT_NEEDS):
            return State(self.kind, False, _("medseg is not installed yet. Choose Light or Full below, then press Install."))
        return _checked(LIGHT, _lightVersion(), _("Light: classical methods in Slicer's Python."))

    def pythonCommand(self):
        """Return the Python that the worker runs in; raises JobError with the sentence where nothing is ready."""
        state = self.state()
        if not state.ready:
            raise JobError(state.sentence, "NotInstalled", 4)
        if state.kind == FULL:
            finder.useEnvironment(self.folder)
            return environmentPython(self.folder)
        return shutil.which("PythonSlicer") or sys.executable

    def worker(self, folder=None):
        """Return the worker, not started; it runs in the chosen Python, and in a folder where no file can pass for a package."""
        python = self.pythonCommand()
        from medseg.slicer_bridge.client import Worker
        from medseg.slicer_bridge.paths import worker_command

        limit = float(self.settings.value("MedSeg/MemoryGB") or 0)
        command = worker_command(python, memory_gb=limit if limit > 0 else None)
        if self.kind == FULL:
            return Worker(command, environment=cleanEnvironment(), folder=folder)
        # Slicer's own Python finds its packages by variables that Slicer sets, which -I would hide from it
        return Worker([part for part in command if part != "-I"], folder=folder)

    # Making and removing

    def installLight(self, requirementsFile):
        """Install the classical methods into Slicer's Python, after Slicer has asked; raises JobError with the sentence."""
        checkLight()
        try:
            with tempfile.TemporaryDirectory(prefix="medseg-") as folder:
                _ensured(requirementsFile, writeConstraints(os.path.join(folder, "constraints.txt")))
        except RuntimeError as err:  # what Slicer raises where the user declines
            raise JobError(_("Nothing was installed, as you chose. The methods need it to run."), "Declined", 2) from err
        except (OSError, subprocess.CalledProcessError) as err:
            raise JobError(
                _(
                    "Installing into Slicer's Python failed; its log says why. Where Slicer's folder cannot be written, or a package does "
                    "not go together with those that Slicer ships, choose Full: it is made in a folder of your own."
                ),
                "Install",
                5,
            ) from err
        finder.leaveEnvironment()
        finder.forgetPackage()
        self.kind = LIGHT

    def fullSteps(self, python, bundleFolder=""):
        """Return the steps that make the environment; raises JobError where folder, disk or Python do not allow it."""
        checkWritable(self.folder)
        checkBundle(bundleFolder)
        if os.path.isdir(self.folder) and os.listdir(self.folder) and not isEnvironment(self.folder):
            raise JobError(_("The folder for the environment holds other files. Choose an empty folder."), "Install", 5)
        _removeFile(os.path.join(self.folder, MARKER))
        environment, inside = cleanEnvironment(), environmentPython(self.folder)
        wanted = [FULL_REQUIREMENT]
        if bundleFolder:  # every wheel is checked by the hash that was written when the bundle was made
            wheels, listed = os.path.join(bundleFolder, "wheels"), os.path.join(bundleFolder, "requirements.txt")
            wanted = ["--no-index", "--find-links", wheels, "--require-hashes", "-r", listed]
        pip = [inside, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--only-binary", ":all:", "--upgrade"]
        # an update keeps the environment; one of another Python is made anew, since packages of two versions would mix
        kept = os.path.isfile(inside) and pythonVersion(inside, environment) == pythonVersion(python, environment)
        make = [] if kept else [Step(_("Make an environment of its own"), (python, "-m", "venv", "--clear", self.folder), environment)]
        return [
            *make,
            Step(_("Install medseg and its packages"), (*pip, *wanted), environment),
            Step(_("Prepare the methods, once (some minutes)"), (inside, "-m", "medseg", "warm", "--quiet"), environment),
            Step(_("Check that it runs"), (inside, "-c", _WRITE_MARKER, os.path.join(self.folder, MARKER)), environment),
        ]

    def fullDone(self):
        """Choose the environment that was just made."""
        self.kind = FULL
        finder.forgetPackage()
        finder.useEnvironment(self.folder)

    def remove(self):
        """Remove the environment, and only where it is one of ours; forget the choice. Slicer's own Python is left as it is."""
        if self.kind == FULL and os.path.isdir(self.folder):
            if not isEnvironment(self.folder):
                raise JobError(_("The folder is no environment of MedSeg; nothing was removed."), "Install", 5)
            finder.leaveEnvironment()
            shutil.rmtree(self.folder, ignore_errors=True)
            if os.path.isdir(self.folder):
                raise JobError(_("Some files are still in use. Restart Slicer, then press Remove again."), "Install", 5)
            finder.forgetPackage()
        self.kind = ""

    def _fullState(self):
        if not os.path.isfile(os.path.join(self.folder, MARKER)):
            return State(FULL, False, _("The installation was not finished. Press Install to go on with it."))
        try:
            with open(os.path.join(self.folder, MARKER), encoding="utf-8") as file:
                version = str(json.load(file)["medseg"])
        except (OSError, ValueError, KeyError):
            return State(FULL, False, _("The installation is damaged. Press Remove, then Install."))
        if not os.path.isfile(environmentPython(self.folder)):
            return State(FULL, False, _("The Python of the environment is gone. Press Remove, then Install."))
        state = _checked(FULL, version, _("Full: all methods and networks, in an environment of their own."))
        if state.ready:
            finder.useEnvironment(self.folder)
        return state


# The marker is written by the new Python itself, last: what cannot import medseg leaves no marker
_WRITE_MARKER = "import json,sys,medseg;json.dump({'medseg':medseg.__version__,'python':sys.version.split()[0]},open(sys.argv[1],'w'))"


def environmentPython(folder):
    """Return the Python of a virtual environment."""
    return os.path.join(folder, "Scripts", "python.exe") if os.name == "nt" else os.path.join(folder, "bin", "python")


def isEnvironment(folder):
    """Whether a folder is a virtual environment."""
    return os.path.isfile(os.path.join(folder, "pyvenv.cfg"))


def cleanEnvironment():
    """Return the environment as it was before Slicer started: none of Slicer's libraries or packages leak into another Python."""
    return {name: value for name, value in slicer.util.startupEnvironment().items() if not name.startswith("PYTHON")}


def findPython():
    """Return a Python from 3.10 on that can make environments: one of the machine, else the one inside Slicer.

    Raises JobError that says what to install where there is none.
    """
    environment = cleanEnvironment()
    found = [shutil.which(name, path=environment.get("PATH")) for name in _PYTHONS]
    for python in [*found, shutil.which("PythonSlicer")]:
        if python and pythonVersion(python, environment) >= (3, 10):
            return python
    raise JobError(_("No Python from 3.10 on was found. Install one from python.org, or choose its program below."), "Install", 4)


def pythonVersion(python, environment=None):
    """Return the version of a Python that can make environments, (0, 0) where it cannot."""
    try:
        done = subprocess.run([python, "-c", _LOOK], env=environment, capture_output=True, text=True, timeout=20, check=True)
        major, minor = done.stdout.split(".")
        return int(major), int(minor)
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0, 0


def checkWritable(folder):
    """Raise JobError where a folder cannot be made or written, or its disk is too small."""
    parent = folder
    while not os.path.isdir(parent) and os.path.dirname(parent) != parent:
        parent = os.path.dirname(parent)
    probe = os.path.join(parent, f".medseg-{os.getpid()}")
    try:
        with open(probe, "w", encoding="utf-8"):
            pass
        os.remove(probe)
    except OSError as err:
        raise JobError(
            _("The folder {0} cannot be written. Choose a folder of your own, or ask the one who looks after this computer.").format(
                folder
            ),
            "ReadOnly",
            5,
        ) from err
    free = shutil.disk_usage(parent).free / 1e9
    if free < FULL_SIZE_GB:
        raise JobError(
            _("A full installation needs about {0:.0f} GB, {1:.1f} GB are free there. Choose a folder on another disk, or Light.").format(
                FULL_SIZE_GB, free
            ),
            "DiskFull",
            5,
        )


def slicerVersion():
    """Return the version of Slicer as (major, minor)."""
    return int(slicer.app.majorVersion), int(slicer.app.minorVersion)


def checkLight():
    """Raise JobError where this Slicer's packages are too old for medseg to stand beside them."""
    if slicerVersion() < LIGHT_SLICER:
        raise JobError(
            _(
                "Light needs Slicer {0}.{1} or newer: packages that this version of Slicer uses itself would be replaced. "
                "Choose Full: it is made in a folder of its own."
            ).format(*LIGHT_SLICER),
            "OldSlicer",
            4,
        )


def writeConstraints(path):
    """Write the versions that Slicer has of what it uses itself, as pip's constraints, and return the path."""
    with open(path, "w", encoding="utf-8") as file:
        for name in HELD:
            try:
                file.write(f"{name}=={importlib.metadata.version(name)}\n")
            except importlib.metadata.PackageNotFoundError:  # built in without pip's knowledge: pip cannot replace it
                continue
    return path


def checkBundle(folder):
    """Raise JobError where the folder for an installation without internet holds no medseg wheel."""
    if not folder:
        return
    hasWheel = any(name.startswith("medseg-") and name.endswith(".whl") for name in _listed(os.path.join(folder, "wheels")))
    if not hasWheel or "requirements.txt" not in _listed(folder):
        raise JobError(_("This folder holds no medseg package. Choose the folder that `medseg bundle` made."), "Install", 3)


def _listed(folder):
    return os.listdir(folder) if os.path.isdir(folder) else []


def _checked(kind, version, sentence):
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if not OLDEST <= numbers < NEXT:
        return State(
            kind, False, _("medseg {0} does not fit this extension, which needs {1}. Press Update.").format(version, REQUIREMENT), version
        )
    return State(kind, True, f"{sentence} medseg {version}.", version)


def _lightVersion():
    try:
        return importlib.metadata.version("medseg")
    except importlib.metadata.PackageNotFoundError:  # run from its source folder
        import medseg

        return medseg.__version__


def _ensured(requirementsFile, constraints):
    """Install what the file lists, by Slicer's own tool where it has one; medseg comes without dependencies.

    What Slicer ships (numpy, SimpleITK, vtk) is held at its version by the constraints file.
    """
    packaging = _packaging()
    if packaging is not None:
        packaging.pip_ensure(packaging.load_requirements(requirementsFile), constraints=constraints, requester="MedSeg")
        packaging.pip_install(["--no-deps", "--upgrade", REQUIREMENT])
        return
    question = _("MedSeg will install packages into Slicer's Python; the list is in {0}. Go on?").format(os.path.basename(requirementsFile))
    if not slicer.util.confirmOkCancelDisplay(question, windowTitle="MedSeg"):
        raise RuntimeError(question)
    slicer.util.pip_install(["-r", requirementsFile, "-c", constraints])
    slicer.util.pip_install(["--no-deps", "--upgrade", REQUIREMENT])


def _packaging():
    """Return `slicer.packaging` where it is there and takes constraints, else None."""
    if not hasattr(slicer, "packaging") and not finder.isImportable("slicer.packaging"):
        return None
    from slicer import packaging

    return packaging if "constraints" in inspect.signature(packaging.pip_ensure).parameters else None


def _remoteSentence(addresses):
    if not addresses:
        return _("No address is kept. Choose Light or Full below, then press Install.")
    return _("{0} is kept for a later version that can work on another machine. Choose Light or Full to work here now.").format(
        addresses[0]
    )


def _removeFile(path):
    if os.path.isfile(path):
        os.remove(path)
