"""Our metrics against MONAI's, with `surface="voxels"`: MONAI's surface is the border voxels, all of one weight.

Equal to 1e-5 (MONAI counts in float32): HD, HD95, ASSD (symmetric=True is the pooled mean), surface Dice, Dice. Different:

* the surface. Voxels of one weight count a slanted face for more voxels than mm2, and the surface lies half a voxel
  further in: our default (surfels) gives another HD95 on the same masks;
* percentiles: MONAI interpolates between two distances, surfels take the distance itself;
* without `spacing` MONAI counts voxels; our distances are always mm;
* an empty side: MONAI answers infinity for HD and NaN for HD95, and NaN is dropped from its means; ours are None with a reason.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.evaluation.overlap import evaluate
from medseg.evaluation.surface import surface_scores

torch = pytest.importorskip("torch", reason="MONAI needs torch")
metrics = pytest.importorskip("monai.metrics", reason="pip install monai to compare with it")

SPACING_MM = (0.8, 1.1, 2.5)


def label_map(array: NDArray[Any]) -> LabelMap:
    return LabelMap(array.astype(np.uint8), Geometry(array.shape, np.diag([*SPACING_MM, 1])), (Segment(1, "organ"),))


def channels(mask: NDArray[Any]) -> Any:
    return torch.from_numpy(np.ascontiguousarray(mask))[None, None]


def theirs(reference: NDArray[Any], prediction: NDArray[Any], tau: float, spacing: Any = SPACING_MM) -> dict[str, float]:
    pair = channels(prediction), channels(reference)
    every: dict[str, Any] = {"include_background": True, "spacing": spacing}
    with warnings.catch_warnings():  # what it says of masks that are empty
        warnings.simplefilter("ignore", UserWarning)
        return {
            "hd_mm": float(metrics.compute_hausdorff_distance(*pair, **every)),
            "hd95_mm": float(metrics.compute_hausdorff_distance(*pair, percentile=95, **every)),
            "assd_mm": float(metrics.compute_average_surface_distance(*pair, symmetric=True, **every)),
            "nsd": float(metrics.compute_surface_dice(*pair, [tau], **every)),
        }


def ours(reference: NDArray[Any], prediction: NDArray[Any], tau: float) -> dict[str, Any]:
    score = surface_scores(label_map(reference), label_map(prediction), tolerances_mm=(tau,), surface="voxels")[1]
    return {"hd_mm": score.hd_mm, "hd95_mm": score.hd95_mm, "assd_mm": score.assd_mm, "nsd": score.nsd[tau]}


@pytest.mark.parametrize("seed", range(12))
def test_equal_by_border_voxels(seed: int) -> None:
    """Ragged masks, some of which touch the border of the array."""
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(2):
        coarse = np.kron(rng.random((5, 4, 4)), np.ones((3, 3, 3)))
        masks.append(coarse + 0.2 * rng.random(coarse.shape) > 0.8)
    assert ours(*masks, 1.7) == pytest.approx(theirs(*masks, 1.7), rel=1e-5)


def test_equal_for_real_organs(organs: LabelMap) -> None:
    moved = np.roll(organs.array, (1, -2, 1), (0, 1, 2))
    for number in [segment.number for segment in organs.segments][::6]:
        masks = organs.array == number, moved == number
        assert ours(*masks, 2.0) == pytest.approx(theirs(*masks, 2.0), rel=1e-5)


def test_dice_is_equal(organs: LabelMap) -> None:
    moved = organs.with_array(np.roll(organs.array, (1, -2, 1), (0, 1, 2)))
    scores = evaluate(organs, moved)
    for segment in organs.segments[::6]:
        pair = channels(moved.array == segment.number).float(), channels(organs.array == segment.number).float()
        assert scores[segment.label].dice == pytest.approx(float(metrics.compute_dice(*pair)), rel=1e-6)


def test_where_the_surface_is_another_one() -> None:
    """The same two balls, one definition each: every number of MONAI's is met by voxels, and missed by surfels."""
    away = (
        (np.indices((41, 31, 21)) - np.array([20, 15, 10])[:, None, None, None]) ** 2 * np.array(SPACING_MM)[:, None, None, None] ** 2
    ).sum(0)
    masks = away <= 10**2, away <= 13**2
    expected = theirs(*masks, 2.5)
    assert ours(*masks, 2.5) == pytest.approx(expected, rel=1e-5)
    score = surface_scores(label_map(masks[0]), label_map(masks[1]), tolerances_mm=(2.5,))[1]
    assert abs(score.assd_mm - expected["assd_mm"]) > 0.01
    assert abs(score.nsd[2.5] - expected["nsd"]) > 0.01


def test_where_they_count_voxels_or_lose_a_missed_structure() -> None:
    array = np.zeros((30, 12, 12), bool)
    array[4:10, 3:9, 3:9] = True
    moved = np.roll(array, 5, axis=0)
    assert theirs(array, moved, 1.0, spacing=None)["hd_mm"] == 5  # voxels
    assert ours(array, moved, 1.0)["hd_mm"] == pytest.approx(5 * SPACING_MM[0])
    missed = theirs(array, array & False, 1.0)
    assert not np.isfinite(missed["hd_mm"])
    assert not np.isfinite(missed["hd95_mm"])
    assert ours(array, array & False, 1.0) == dict.fromkeys(missed)
