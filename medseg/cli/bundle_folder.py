"""The folder of a bundle: wheels, their hashes, a list that pip checks them by, and how to install it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medseg import __version__
from medseg.cli.bundle_download import Wheel
from medseg.cli.bundle_target import Target
from medseg.core.errors import OutputError, OutputExistsError, OutputVerificationError
from medseg.io.atomic import TEMPORARY_PREFIX, check_writable

WHEELS = "wheels"
SUMS = "SHA256SUMS"
DOCUMENT = "bundle.json"
_CHUNK = 1 << 20


def check_free(folder: Path, overwrite: bool) -> None:
    """Raise now what would stand against the folder later; only a bundle is ever replaced."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        if not overwrite:
            raise OutputExistsError(f"{folder} is there already; choose another folder or give --overwrite")
        if not (folder / DOCUMENT).is_file():
            raise OutputExistsError(f"{folder} is no bundle, so it is not replaced; choose another folder")
    check_writable(folder.parent)


@contextmanager
def appearing(folder: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary folder that takes its name in the end; nothing is left of it where anything goes wrong."""
    temporary = folder.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    aside = folder.parent / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
        (temporary / WHEELS).mkdir()
        yield temporary
        check_free(folder, overwrite)
        if folder.exists():
            os.replace(folder, aside)
        os.replace(temporary, folder)
    except OSError as err:
        if isinstance(err, OutputError):
            raise
        if aside.exists() and not folder.exists():
            os.replace(aside, folder)
        raise OutputError(
            f"{folder} cannot be written ({err.strerror or 'unknown reason'}); free some space or choose another folder"
        ) from err
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)


def write_description(folder: Path, wheels: Sequence[Wheel], extras: Sequence[str], target: Target) -> dict[str, Any]:
    """Write hashes, requirements, instructions and bundle.json beside the wheels, and return the last as a document."""
    files = [
        {
            "file": f"{WHEELS}/{wheel.path.name}",
            "name": wheel.name,
            "version": wheel.version,
            "bytes": wheel.path.stat().st_size,
            "sha256": hash_of(wheel.path),
            "licence": wheel.licence,
        }
        for wheel in wheels
    ]
    lines = [f"{one['name']}=={one['version']} --hash=sha256:{one['sha256']}" for one in files]
    _write(folder / "requirements.txt", "\n".join(lines) + "\n")
    _write(folder / SUMS, "".join(f"{one['sha256']}  {one['file']}\n" for one in files))
    command = install_command(target)
    document: dict[str, Any] = {
        "schema": "medseg.bundle/1",
        "medseg": __version__,
        "extras": list(extras),
        "platform": target.platform,
        "python_version": target.python,
        "command": command,
        "files": files,
    }
    _write(folder / "INSTALL.txt", _instructions(document))
    _write(folder / DOCUMENT, json.dumps(document, indent=2) + "\n")
    return document


def install_command(target: Target) -> str:
    """Return the one command that installs a bundle, run in its folder; pip compares every wheel with its hash.

    >>> install_command(Target("linux-x86_64", "3.12")).split(" && ")[0]
    'python3.12 -m venv ../medseg_env'
    """
    python, place = f"python{target.python}", "../medseg_env/bin/python"
    if target.platform.startswith("windows"):
        python, place = f"py -{target.python}", r"..\medseg_env\Scripts\python"
    install = f"{place} -m pip install --no-index --find-links {WHEELS} --require-hashes -r requirements.txt"
    return f"{python} -m venv {'..' + chr(92) if 'Scripts' in place else '../'}medseg_env && {install}"


def _instructions(document: dict[str, Any]) -> str:
    extras = f" with {', '.join(document['extras'])}" if document["extras"] else ""
    megabytes = sum(one["bytes"] for one in document["files"]) / 1e6
    check = f"sha256sum -c {SUMS}" if not document["platform"].startswith("windows") else f"certutil -hashfile {WHEELS}\\NAME.whl SHA256"
    return (
        f"medseg {document['medseg']}{extras} for {document['platform']}, Python {document['python_version']}\n"
        f"{len(document['files'])} wheels, {megabytes:.0f} MB. No network is needed.\n\n"
        "Copy this folder to the machine, open a terminal in it (Windows: the command prompt), and run\n\n"
        f"    {document['command']}\n\n"
        f"Once afterwards, so that no first click waits for a compilation (minutes): {_warm_command(document['platform'])}\n\n"
        "pip compares every file with its hash before it installs anything. To compare them yourself:\n\n"
        f"    {check}\n\n"
        "In 3D Slicer: module MedSeg, Install, From a folder, and choose this folder. Slicer's own Python is not touched.\n\n"
        "Research software, not a medical device; not for clinical use. Licences of all packages: bundle.json.\n"
    )


def _warm_command(platform: str) -> str:
    return r"..\medseg_env\Scripts\medseg warm" if platform.startswith("windows") else "../medseg_env/bin/medseg warm"


def verify(folder: Path) -> None:
    """Read every file back and compare it with its hash; OutputVerificationError where one differs, is missing or is too many."""
    listed = {}
    for line in (folder / SUMS).read_text(encoding="ascii").splitlines():
        digest, _, name = line.partition("  ")
        listed[name] = digest
    there = {f"{WHEELS}/{path.name}" for path in (folder / WHEELS).iterdir()}
    if there != set(listed):
        raise OutputVerificationError(f"the bundle holds other files than its list: {sorted(there ^ set(listed))[0]}; make it again")
    for name, digest in listed.items():
        if hash_of(folder / name) != digest:
            raise OutputVerificationError(f"{name} is not what was fetched: check the disk and make the bundle again")


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
