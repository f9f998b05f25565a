"""The wheels of a bundle: fetched with pip, and checked to be everything that the target machine needs."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from medseg.cli.bundle_target import Target, requirements_module
from medseg.core.errors import OutputError
from medseg.method.settings import Progress, no_progress

_LONGEST_LICENCE = 80
_ROUNDS = 30  # each fetches what the wheels of the one before require


class BundleError(OutputError):
    """The wheels for a bundle cannot be had."""


@dataclass(frozen=True)
class Source:
    """Where packages come from: `indexes` besides the usual one, a `folder` of wheels in place of any, a `constraints` file."""

    indexes: tuple[str, ...] = ()
    folder: Path | None = None
    constraints: Path | None = None

    @property
    def pip_options(self) -> list[str]:
        """The options of pip that say so."""
        options = [option for index in self.indexes for option in ("--extra-index-url", index)]
        if self.folder is not None:
            options += ["--no-index", "--find-links", str(self.folder)]
        if self.constraints is not None:
            options += ["--constraint", str(self.constraints)]
        return options


@dataclass(frozen=True)
class Wheel:
    """One wheel: its file, what it calls itself, its licence, and what it requires."""

    path: Path
    name: str
    version: str
    licence: str
    requires: tuple[str, ...]


def read_wheel(path: Path) -> Wheel:
    """Return what a wheel says of itself after a look at every byte of it; raises BundleError where it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
            names = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
            header = HeaderParser().parsestr(archive.read(names[0]).decode("utf-8"))
    except (OSError, zipfile.BadZipFile, IndexError, UnicodeDecodeError) as err:
        raise BundleError(f"{path.name} is no sound wheel: remove pip's cache (pip cache purge) and try again") from err
    if broken is not None:
        raise BundleError(f"{path.name} is damaged at {broken}: remove pip's cache (pip cache purge) and try again")
    licence = header.get("License-Expression") or ""
    stated = header.get("License") or ""  # some put the whole text here
    if not licence and stated and len(stated) <= _LONGEST_LICENCE and "\n" not in stated:
        licence = stated
    if not licence:
        classifiers = [line.split(" :: ")[-1] for line in header.get_all("Classifier", []) if line.startswith("License ::")]
        licence = "; ".join(classifiers)
    return Wheel(path, normalised(header["Name"]), header["Version"], licence or "not stated", tuple(header.get_all("Requires-Dist", [])))


def normalised(name: str) -> str:
    """Return the name of a package as it is compared (PEP 503).

    >>> normalised("Dicom_Anonymizer")
    'dicom-anonymizer'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def fetch(folder: Path, own: Path, extras: Sequence[str], target: Target, source: Source, progress: Progress = no_progress) -> list[Wheel]:
    """Put every wheel that medseg with these extras needs on the target into a folder that holds its own wheel already.

    pip reads markers for the machine it runs on, so requirements are followed here and pip fetches package by package. Raises
    BundleError that names the package which cannot be had, or says that there is no network.
    """
    for _ in range(_ROUNDS):
        wheels = {wheel.name: wheel for wheel in map(read_wheel, sorted(folder.glob("*.whl")))}
        needed = _needed(wheels, read_wheel(own), extras, target)
        wanted = {name: specifiers for name, specifiers in needed.items() if not _answers(wheels.get(name), specifiers)}
        for name in (set(wheels) - set(needed)) | (set(wheels) & set(wanted)):  # of no use, or another version is needed
            wheels.pop(name).path.unlink()
        if not wanted:
            return sorted(wheels.values(), key=lambda wheel: wheel.name)
        _download(
            folder, [f"{name}{','.join(sorted(specifiers))}" for name, specifiers in sorted(wanted.items())], target, source, progress
        )
    raise BundleError(f"no set of packages was found in which all fit together ({', '.join(sorted(wanted))}): give --constraint")


def _answers(wheel: Wheel | None, specifiers: set[str]) -> bool:
    if wheel is None:
        return False
    requirement_of = requirements_module().Requirement
    return all(requirement_of(f"{wheel.name}{one}").specifier.contains(wheel.version, prereleases=True) for one in specifiers)


def _needed(wheels: dict[str, Wheel], start: Wheel, extras: Sequence[str], target: Target) -> dict[str, set[str]]:
    """Follow the requirements from medseg on, with markers read for the target: name → what is asked of its version."""
    requirement_of = requirements_module().Requirement
    todo: list[tuple[str, frozenset[str]]] = [(start.name, frozenset(extras))]
    seen: dict[str, set[str]] = {}
    needed: dict[str, set[str]] = {start.name: set()}
    while todo:
        name, chosen = todo.pop()
        known = seen.setdefault(name, set())
        asked = {"", *chosen} - known
        known |= asked
        wheel = start if name == start.name else wheels.get(name)
        for text in wheel.requires if wheel is not None and asked else ():
            need = requirement_of(text)
            if any(_holds(need, target, extra) for extra in asked):
                other = normalised(need.name)
                needed.setdefault(other, set()).update(str(one) for one in need.specifier)
                todo.append((other, frozenset(need.extras)))
    return needed


def _holds(need: Any, target: Target, extra: str) -> bool:
    return need.marker is None or bool(need.marker.evaluate(target.markers(extra)))


def _download(folder: Path, wanted: Sequence[str], target: Target, source: Source, progress: Progress) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    command += ["--dest", str(folder), *target.pip_options, *source.pip_options, *wanted]
    said: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace") as process:
        try:
            for line in process.stdout or ():
                said.append(line.strip())
                if line.startswith("Collecting "):
                    progress(f"fetching {line.split()[1]}", 0, 1)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise BundleError(refusal(said, target))


def refusal(said: Sequence[str], target: Target) -> str:
    """Return one sentence for what pip said before it gave up."""
    text = "\n".join(said)
    where = f"{target.platform}, Python {target.python}"
    if "No module named pip" in text:
        return "a bundle is fetched with pip, which this Python does not have: python -m ensurepip"
    if re.search(r"No space left|Errno 28", text):
        return "the disk is full: free some space and try again"
    if re.search(
        r"NewConnectionError|ConnectTimeout|name resolution|getaddrinfo|ProxyError|Connection (refused|aborted)|Max retries", text
    ):
        return "the package index cannot be reached: make the bundle on a machine with a network, or behind a proxy set https_proxy"
    found = re.search(r"No matching distribution found for (\S+)", text)
    if found:
        return f"no wheel of {found.group(1)} is to be had for {where}: choose another --python-version or leave an extra out"
    if "ResolutionImpossible" in text or "conflicting dependencies" in text:
        return f"the packages contradict each other for {where}: leave an extra out, or give --constraint"
    last = next((line for line in reversed(said) if line.startswith("ERROR")), "it gave no reason")
    return f"pip could not fetch the packages for {where}: {last.removeprefix('ERROR: ')}"
