"""Our metrics against SimpleITK's.

Dice, IoU and the like are equal. SimpleITK's Hausdorff distance runs from every voxel of a mask to the *filled* other mask
(0 for a voxel inside it), ours from surface to surface. The two agree with `surface="voxels"` wherever the farthest border
voxel lies outside the other mask; where it lies inside (a cavity that the other mask has filled), SimpleITK does not see
it and answers less, down to 0 in that direction. SimpleITK has no HD95, and its average is over all voxels of the masks,
not over surfaces, so it is no ASSD.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.evaluation.overlap import evaluate
from medseg.evaluation.surface import surface_scores


def image(mask: NDArray[Any], spacing_mm: tuple[float, ...]) -> sitk.Image:
    found = sitk.GetImageFromArray(np.ascontiguousarray(mask.T).astype(np.uint8))
    found.SetSpacing(spacing_mm)
    return found


def theirs(reference: NDArray[Any], prediction: NDArray[Any], spacing_mm: tuple[float, ...]) -> float:
    found = sitk.HausdorffDistanceImageFilter()
    found.Execute(image(reference, spacing_mm), image(prediction, spacing_mm))
    return float(found.GetHausdorffDistance())


def ours(reference: NDArray[Any], prediction: NDArray[Any], spacing_mm: tuple[float, ...]) -> float:
    grid = Geometry(reference.shape, np.diag([*spacing_mm, 1]))
    maps = [LabelMap(mask.astype(np.uint8), grid, (Segment(1, "organ"),)) for mask in (reference, prediction)]
    hd_mm = surface_scores(maps[0], maps[1], surface="voxels")[1].hd_mm
    assert hd_mm is not None
    return hd_mm


def to_filled(reference: NDArray[Any], prediction: NDArray[Any], spacing_mm: tuple[float, ...]) -> float:
    """SimpleITK's definition, written out."""
    pair = (reference, prediction), (prediction, reference)
    return max(float(distance_transform_edt(~other, sampling=spacing_mm)[mask].max()) for mask, other in pair)


def test_equal_where_the_masks_lie_apart_or_bulge(organs: LabelMap) -> None:
    """Organs moved by several voxels: the farthest point is one that sticks out."""
    spacing_mm = organs.geometry.spacing_mm
    for number in [segment.number for segment in organs.segments][::5]:
        masks = organs.array == number, np.roll(organs.array == number, (3, -4, 2), (0, 1, 2))
        assert theirs(*masks, spacing_mm) == pytest.approx(to_filled(*masks, spacing_mm), rel=1e-6)
        if ours(*masks, spacing_mm) != pytest.approx(to_filled(*masks, spacing_mm), rel=1e-6):
            assert ours(*masks, spacing_mm) > to_filled(*masks, spacing_mm)


def test_where_a_cavity_was_filled_they_see_nothing() -> None:
    """A hollow ball against a full one: the inner surface lies 9 mm below the only surface of the full ball."""
    away = np.sqrt(((np.indices((41, 41, 41)) - 20) ** 2).sum(axis=0))
    full, hollow = away <= 18, (away <= 18) & (away > 9)
    assert theirs(full, hollow, (1, 1, 1)) == pytest.approx(to_filled(full, hollow, (1, 1, 1)))
    cavity = away <= 9
    assert ours(full, hollow, (1, 1, 1)) == pytest.approx(18 - 9, abs=1)
    # only the direction from the full ball, whose centre is far from the shell, tells them anything
    assert theirs(full, hollow, (1, 1, 1)) == pytest.approx(distance_transform_edt(cavity).max())
    sheet = np.zeros_like(full)
    sheet[20, 20, 20] = True
    assert theirs(full, full & ~sheet, (1, 1, 1)) == 1
    assert ours(full, full & ~sheet, (1, 1, 1)) > 16


def test_dice_and_iou_are_equal(organs: LabelMap) -> None:
    moved = organs.with_array(np.roll(organs.array, (1, -2, 1), (0, 1, 2)))
    found = sitk.LabelOverlapMeasuresImageFilter()
    found.Execute(*(sitk.GetImageFromArray(np.ascontiguousarray(some.array.T)) for some in (organs, moved)))
    scores = evaluate(organs, moved)
    for segment in organs.segments:
        assert scores[segment.label].dice == pytest.approx(found.GetDiceCoefficient(segment.number), rel=1e-12)
        assert scores[segment.label].iou == pytest.approx(found.GetJaccardCoefficient(segment.number), rel=1e-12)
