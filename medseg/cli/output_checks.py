"""Outputs that would destroy what is read: refused before anything is read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import click


def refuse_inputs(output: str, inputs: Mapping[str, Sequence[str]]) -> None:
    """Raise click.UsageError where `output` is one of the inputs, or a DICOM file in a folder that is one.

    `inputs` maps what an input is called ("the scan", "--image") to its paths; links and other spellings of a path count.
    """
    for called, paths in inputs.items():
        for path in paths:
            if _is_same(output, path):
                raise click.UsageError(
                    f"{output}: the output is {_itself(called)}; medseg never replaces what it reads: give -o another name"
                )
            if _lies_in(output, path):
                raise click.UsageError(
                    f"{output}: the output lies inside the folder given as {called}, whose files are read together: "
                    "give -o a place outside of it"
                )


def _itself(called: str) -> str:
    return f"the file given as {called}" if called.startswith("-") else f"{called} itself"


def _is_same(output: str, path: str) -> bool:
    try:
        return Path(output).resolve() == Path(path).resolve() or os.path.samefile(output, path)
    except (OSError, ValueError, RuntimeError):  # one of them is not there yet
        return False


def _lies_in(output: str, folder: str) -> bool:
    if not output.lower().endswith(".dcm"):  # other files beside a series are not read with it
        return False
    try:
        return Path(folder).is_dir() and Path(folder).resolve() in Path(output).resolve().parents
    except (OSError, ValueError, RuntimeError):
        return False
