"""Several structures divided by a random walker: each voxel goes to the mark that the walker most likely meets first."""

from __future__ import annotations

import numpy as np

from medseg.core.errors import InputError
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, Number
from medseg.segmentation.classical.marks import MarkParams, everything_taken, mark
from medseg.segmentation.classical.result import label_map_on

_TOLERANCE = 1e-4  # probabilities are right to about 0.01: who wins changes only where nobody clearly does

MOST_STRUCTURES = 200


class RandomWalkerParams(MarkParams):
    """Parameters of `random-walker`."""

    beta: Number = Field(
        0.5, description="How much edges hold the walker: a step over a difference d weighs exp(-beta · (d / contrast)²)", ge=0, le=1e4
    )
    contrast: Number | None = Field(
        None,
        description="Difference of intensity that counts as one; empty: the mean absolute difference of neighbours in the smoothed scan",
        unit="image",
        gt=0,
    )


@method("random-walker", stage=Stage.SEGMENT, reference="doi:10.1109/TPAMI.2006.233")
def random_walker(volume: Volume, params: RandomWalkerParams) -> LabelMap:
    """Give each voxel to the mark that a random walker from it most likely meets first; edges hold the walker back.

    Weak and broken edges are closed by the shortest bridge. Where there are no edges the walk is the same in all directions
    in mm, on any grid (unequal spacing, oblique, sheared). At equal probability the lower number wins. What background
    marks win is background; without any every voxel belongs to a structure (one alone gives the finding EVERYTHING_TAKEN).
    NaN and infinity belong to nothing and no way leads through them. Markers keep their segments; where seeds and markers
    share a voxel the seed counts. Raises ParameterError for a point outside the scan or seeds on one voxel, InputError
    where no mark is left or more than 200 structures are marked, GeometryMismatchError where the markers lie on another
    grid.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[0, 1, 0, 9, 9, 8, 9]]], np.int16), Geometry((1, 1, 7), np.eye(4)))
    >>> chosen = RandomWalkerParams(seeds=[(0, 0, 0)], background_seeds=[(0, 0, 6)], sigma_mm=0)
    >>> random_walker(scan, chosen).array.ravel().tolist()
    [1, 1, 1, 0, 0, 0, 0]
    """
    from medseg.kernels.random_walk import probabilities

    marks = mark(volume, params, "random-walker")
    count = len(marks.segments)
    if count > MOST_STRUCTURES:
        raise InputError(
            f"random-walker: {count} structures are marked, each is a solution over the whole scan; {MOST_STRUCTURES} are possible: use "
            "grow-from-seeds or watershed, which take all of them at once, or fewer marks"
        )
    step, box = marks.step(params.contrast), marks.box()
    finite = None if marks.finite is None else marks.finite[box]
    beta = params.beta / step**2 if step else 0.0
    axes_mm = volume.geometry.affine[:3, :3].T[::-1]
    most = np.zeros(marks.image[box].shape, np.float32)
    rest = np.ones(most.shape, np.float32)
    won = np.zeros(most.shape, marks.array.dtype)
    for number, likely in probabilities(marks.image[box], marks.array[box], axes_mm, beta, finite, _TOLERANCE, marks.background):
        won[likely > most] = number
        np.maximum(most, likely, out=most)
        rest -= likely
    if marks.background:
        won[rest > most] = 0
    labels = np.zeros_like(marks.array)
    labels[box] = won
    return label_map_on(volume, labels, marks.segments, everything_taken(marks.segments, marks.background, "random-walker"))
