"""Short ways to write findings of the audit."""

from __future__ import annotations

import os
from collections.abc import Iterable

from medseg.core.finding import Finding, Severity
from medseg.io.dicom.header import SliceHeader

MOST_FILES = 3  # files that a message names


def error(code: str, message: str, **details: object) -> Finding:
    """Return a finding that forbids reading."""
    return Finding(code, Severity.ERROR, message, details)


def warning(code: str, message: str, **details: object) -> Finding:
    """Return a finding that should be looked at."""
    return Finding(code, Severity.WARNING, message, details)


def info(code: str, message: str, **details: object) -> Finding:
    """Return a finding that is good to know."""
    return Finding(code, Severity.INFO, message, details)


def files_named(slices: Iterable[SliceHeader]) -> str:
    """Return the names of the first files, and how many more there are; a frame of a file is named with it."""
    names = list(dict.fromkeys(_name(header) for header in slices))
    return ", ".join(names[:MOST_FILES]) + (f" and {len(names) - MOST_FILES} more" if len(names) > MOST_FILES else "")


def _name(header: SliceHeader) -> str:
    name = os.path.basename(header.path)
    return f"{name} frame {header.frame + 1}" if header.frame_count > 1 else name
