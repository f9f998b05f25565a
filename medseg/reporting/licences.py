"""The licences of what ran: medseg, the libraries it computed with, and the network's weights, as each states them itself."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medseg.core.provenance import Provenance

_ALWAYS = ("python", "medseg", "numpy", "scipy", "numba")
_LEARNED = ("torch", "monai", "safetensors")
_BY_FORMAT = {
    "dicom": ("pydicom", "highdicom"),
    "nifti": ("nibabel",),
    "rtstruct": ("pydicom", "highdicom"),
    "(seg)": ("pydicom", "highdicom"),
}
_OURS = {"medseg": "Apache-2.0", "python": "PSF-2.0"}
_LONGEST_NAME = 60  # some packages put the whole licence text where its name belongs
_KNOWN_TEXTS = {
    "MIT License": "MIT",
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache": "Apache-2.0",
}
# Their classifiers say only BSD; their licence files are these
_BSD = {"scipy": "BSD-3-Clause", "numba": "BSD-2-Clause"}


@dataclass(frozen=True)
class Licence:
    """What something that ran is called, its version, and its licence ("not stated" where its metadata gives none)."""

    name: str
    version: str
    kind: str
    licence: str

    def to_dict(self) -> dict[str, str]:
        """Return the JSON form."""
        return dict(vars(self))


def licences_of(provenance: Provenance) -> tuple[Licence, ...]:
    """Return the licences of what a run used: medseg, the libraries that shaped its numbers, and its network.

    Networks' libraries count only where a network ran, those of a file format only where such a file was read. Versions are
    those of the run; licences are what the installed packages state.

    >>> [entry.licence for entry in licences_of(Provenance({"medseg": "0.1.0"}))]
    ['Apache-2.0']
    """
    found = [Licence(name, provenance.versions[name], "library", licence_of(name)) for name in used_packages(provenance)]
    model = provenance.model
    if model:
        name = str(model.get("name") or "network")
        found.append(Licence(name, str(model.get("version") or ""), "network (code and weights)", _of_model(model)))
    return tuple(found)


def used_packages(provenance: Provenance) -> tuple[str, ...]:
    """Return the recorded packages that a run computed with, in the order of the record."""
    wanted = set(_ALWAYS)
    if provenance.model:
        wanted |= set(_LEARNED)
    formats = " ".join(record.format.lower() for record in provenance.inputs)
    for name, packages in _BY_FORMAT.items():
        if name in formats:
            wanted |= set(packages)
    return tuple(name for name in provenance.versions if name in wanted)


def licence_of(package: str) -> str:
    """Return the licence an installed package states: its SPDX expression, else its classifier, else its licence field."""
    if package in _OURS:
        return _OURS[package]
    try:
        stated: Any = importlib.metadata.metadata(package)  # a message, whose type does not tell of get
    except importlib.metadata.PackageNotFoundError:
        return "not installed here"
    classifiers = [entry.rpartition(" :: ")[2] for entry in stated.get_all("Classifier") or () if entry.startswith("License ::")]
    candidates = [stated.get("License-Expression"), *classifiers, _first_line(stated.get("License"))]
    name = next((text for text in candidates if text and text != "OSI Approved"), "")
    if name in ("BSD", "BSD License"):
        return _BSD.get(package, "BSD")
    return _KNOWN_TEXTS.get(name, name) or "not stated"


def _first_line(text: str | None) -> str:
    line = next((line.strip() for line in (text or "").splitlines() if line.strip()), "")
    return line if len(line) <= _LONGEST_NAME and not re.match(r"(?i)copyright", line) else ""


def _of_model(model: Mapping[str, Any]) -> str:
    stated = model.get("licence") or model.get("license")
    if isinstance(stated, Mapping):
        return ", ".join(f"{part} {value}" for part, value in stated.items() if value) or "not stated"
    return str(stated or "not stated: ask its author before you use it")
