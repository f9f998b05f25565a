"""The order and direction of the axes of a grid; voxels are moved, never interpolated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams

Subject = TypeVar("Subject", Volume, LabelMap)

_AXIS_OF = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}


def _orientation_code(value: str) -> str:
    code = value.strip().upper()
    if len(code) != 3 or sorted(_AXIS_OF.get(letter, -1) for letter in code) != [0, 1, 2]:
        raise ValueError(f"{value!r} is not an orientation: give one letter each of R/L, A/P and S/I, such as RAS or LPS")
    return code


OrientationCode = Annotated[str, AfterValidator(_orientation_code)]


class ReorientParams(MethodParams):
    """Parameters of `reorient`."""

    orientation: OrientationCode = Field(
        "RAS", description="Patient direction that the axes i, j, k shall point to: one letter each of R/L, A/P and S/I"
    )


@method("reorient", stage=Stage.PREPROCESS, reference="NIfTI-1 standard (nifti1.h), 3D image orientation and location in space")
def reorient(volume: Volume, params: ReorientParams) -> Volume:
    """Put the axes of a scan into another order and direction, voxel for voxel.

    Each axis goes to the patient direction it points to most; an oblique or sheared grid stays oblique or sheared. The
    geometry follows, so every voxel keeps its place in the patient.

    >>> grid = Geometry((1, 2, 3), np.eye(4))
    >>> turned = reorient(Volume(np.arange(6).reshape(1, 2, 3), grid), ReorientParams(orientation="SLP"))
    >>> turned.geometry.orientation, turned.array.shape, int(turned.array[0, 0, 0])
    ('SLP', (3, 1, 2), 3)
    """
    return reoriented(volume, params.orientation)


def reoriented(subject: Subject, orientation: str) -> Subject:
    """Return a volume or label map with its axes in another order and direction; raises ValueError for an impossible code."""
    wanted = _orientation_code(orientation)
    if wanted == subject.geometry.orientation:
        return subject
    turn = turn_between(subject.geometry.orientation, wanted)
    return subject.with_array(turn.array(subject.array), turn.geometry(subject.geometry))


@dataclass(frozen=True)
class Turn:
    """A change of axes: new axis n is the old axis `axes[n]`, read backwards where `flips[n]`."""

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def array(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a view of an array (I,J,K) with the new axes."""
        steps = tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)
        return array.transpose(self.axes)[steps]

    def geometry(self, geometry: Geometry) -> Geometry:
        """Return the grid of the turned array."""
        matrix = np.zeros((3, 3))
        start = np.zeros(3)
        for new, (old, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            matrix[old, new] = -1 if flip else 1
            start[old] = geometry.shape[old] - 1 if flip else 0
        return geometry.transformed(matrix, start, [geometry.shape[old] for old in self.axes])


def turn_between(orientation: str, wanted: str) -> Turn:
    """Return the change of axes that leads from one orientation code to another.

    >>> turn_between("RAS", "LPS")
    Turn(axes=(0, 1, 2), flips=(True, True, False))
    """
    places = [_AXIS_OF[letter] for letter in orientation]
    i, j, k = (places.index(_AXIS_OF[letter]) for letter in wanted)
    flips = [orientation[old] != letter for old, letter in zip((i, j, k), wanted, strict=True)]
    return Turn((i, j, k), (flips[0], flips[1], flips[2]))
