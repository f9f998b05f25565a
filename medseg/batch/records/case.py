"""One unit of a batch: a scan that is to be run, or a series that was left out with the reason."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

_CASE_ID = re.compile(r"[0-9a-f]{16}")

Kind = Literal["DICOM", "NIfTI", "NRRD", "MetaImage", "archive"]


@dataclass(frozen=True)
class Case:
    """A scan that is to be run.

    `files` are paths below the folder that was searched, with "/" and in order: for DICOM the images of one series and what
    lies broken beside them, for other formats one file. `study` and `patient` are pseudonyms ("" where the files name none).
    `case_id` names the case everywhere that others may look: never a path, a UID or a name.
    """

    case_id: str
    kind: Kind
    files: tuple[str, ...]
    modality: str = ""
    series_uid: str = ""
    study: str = ""
    patient: str = ""
    slices: int = 0

    def __post_init__(self) -> None:
        if not _CASE_ID.fullmatch(self.case_id):
            raise ValueError(f"a case id has 16 hexadecimal digits, got {self.case_id!r}")
        if not self.files:
            raise ValueError(f"case {self.case_id} has no files")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; names that are no UTF-8 keep their bytes as lone surrogates."""
        return {**vars(self), "files": list(self.files)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Case:
        """Return the case of a JSON form; raises ValueError, TypeError or KeyError where it is none."""
        return cls(**{**document, "files": tuple(document["files"])})


@dataclass(frozen=True)
class LeftOut:
    """A series or file that was found and will not be run: `reason` is one of a few sentences, counted in the flow diagram."""

    reason: str
    kind: str
    files: tuple[str, ...]
    modality: str = ""
    series_uid: str = ""
    study: str = ""
    patient: str = ""
    slices: int = 0


def case_id_of(parts: Iterable[str]) -> str:
    """Return the id of what is identified by these texts (SOP instance UIDs, or a path below the folder), in any order.

    >>> case_id_of(["1.2.3", "1.2.4"]) == case_id_of(["1.2.4", "1.2.3"])
    True
    """
    text = "\n".join(sorted(parts))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def pseudonym(salt: bytes, text: str) -> str:
    """Return 12 digits that stand for a patient or study within one output folder; "" for "".

    >>> pseudonym(b"salt", "") == ""
    True
    """
    return hashlib.sha256(salt + text.encode("utf-8", "surrogateescape")).hexdigest()[:12] if text else ""
