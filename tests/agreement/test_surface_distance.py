"""Our surface metrics against DeepMind's surface-distance 0.1 (the definition we follow).

Equal to 1e-9 in every mask, but for three differences, each with a test:

* an empty side: surface-distance answers infinity for the distances (NaN for the means); ours are None with a reason;
* a distance of exactly tau: surface-distance compares rounded floats, so that five steps of 0.6 mm stored as float32 are
  not within 3 mm; ours allow for a millionth of tau;
* a sheared grid: surface-distance takes spacings only and cannot know the angle.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.evaluation.surface import SurfaceScore, surface_scores
from medseg.kernels.surfels import surfel_areas_mm2

surface_distance = pytest.importorskip("surface_distance", reason="pip install surface-distance to compare with it")


def label_map(array: NDArray[Any], affine: NDArray[Any]) -> LabelMap:
    return LabelMap(array.astype(np.uint8), Geometry(array.shape, affine), (Segment(1, "organ"),))


def theirs(reference: NDArray[Any], prediction: NDArray[Any], spacing_mm: tuple[float, ...], tau: float) -> dict[str, float]:
    with warnings.catch_warnings():  # it still uses names of scipy that are going away
        warnings.simplefilter("ignore", DeprecationWarning)
        found = surface_distance.compute_surface_distances(reference.astype(bool), prediction.astype(bool), spacing_mm)
    from_reference, from_prediction = surface_distance.compute_average_surface_distance(found)
    return {
        "hd_mm": surface_distance.compute_robust_hausdorff(found, 100),
        "hd95_mm": surface_distance.compute_robust_hausdorff(found, 95),
        "mean_from_reference_mm": from_reference,
        "mean_from_prediction_mm": from_prediction,
        "nsd": surface_distance.compute_surface_dice_at_tolerance(found, tau),
        "reference_area_mm2": found["surfel_areas_gt"].sum(),
        "prediction_area_mm2": found["surfel_areas_pred"].sum(),
    }


def ours(score: SurfaceScore, tau: float) -> dict[str, Any]:
    names = ("hd_mm", "hd95_mm", "mean_from_reference_mm", "mean_from_prediction_mm", "reference_area_mm2", "prediction_area_mm2")
    return {name: getattr(score, name) for name in names} | {"nsd": score.nsd[tau]}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.tuples(*[st.floats(0.2, 6)] * 3),
    st.tuples(*[st.integers(1, 12)] * 3),
    st.floats(0.1, 9),
    st.sampled_from([0.2, 0.5, 0.9]),
)
def test_equal_for_any_two_masks(seed: int, spacing_mm: tuple[float, ...], shape: tuple[int, ...], tau: float, share: float) -> None:
    """Also where they touch the border of the array, fill it, or hold a single voxel."""
    rng = np.random.default_rng(seed)
    masks = [rng.random(shape) < share for _ in range(2)]
    for mask in masks:
        mask[tuple(rng.integers(0, shape))] = True
    maps = [label_map(mask, np.diag([*spacing_mm, 1])) for mask in masks]
    score = surface_scores(maps[0], maps[1], {1: (1, 1)}, tolerances_mm=(tau,))[1]
    assert ours(score, tau) == pytest.approx(theirs(*masks, spacing_mm, tau), rel=1e-9, abs=1e-9)


def test_equal_for_real_organs(organs: LabelMap) -> None:
    moved = organs.with_array(np.roll(organs.array, (1, -2, 1), (0, 1, 2)))
    scores = surface_scores(organs, moved, tolerances_mm=(4.0,))
    for number, score in scores.items():
        expected = theirs(organs.array == number, moved.array == number, organs.geometry.spacing_mm, 4.0)
        assert ours(score, 4.0) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_every_configuration_has_the_same_area() -> None:
    """Their table lists normals of triangles; ours is made from a rule. Their bits count the corners from the other end."""
    from surface_distance.lookup_tables import create_table_neighbour_code_to_surface_area

    inverse = [sum((code >> n & 1) << (7 - n) for n in range(8)) for code in range(256)]
    for spacing_kji in ((1.0, 1.0, 1.0), (3.0, 0.7, 0.9), (0.4, 5.0, 1.1)):
        areas = surfel_areas_mm2(np.diag(spacing_kji[::-1]))
        assert areas == pytest.approx(create_table_neighbour_code_to_surface_area(spacing_kji)[inverse], rel=1e-12)


def test_where_they_round_a_distance_of_exactly_tau_away() -> None:
    step = float(np.float32(0.6))
    array = np.zeros((20, 6, 6), bool)
    array[3:9, 1:5, 1:5] = True
    moved = np.roll(array, 5, axis=0)
    affine = np.diag([step, 1, 1, 1])
    assert theirs(array, moved, (step, 1, 1), 3.0)["nsd"] < 1
    assert surface_scores(label_map(array, affine), label_map(moved, affine), tolerances_mm=(3.0,))[1].nsd[3.0] == 1


def test_where_spacings_do_not_describe_the_grid() -> None:
    """A slab on a grid with 30 degrees of gantry tilt: three slices more make it 3 cos(30) steps thicker."""
    tilt = np.radians(30)
    affine = np.eye(4)
    affine[:3, 2] = (0, 2 * np.sin(tilt), 2 * np.cos(tilt))
    array = np.zeros((40, 40, 12), bool)
    array[5:35, 5:35, 3:6] = True
    thicker = array.copy()
    thicker[:, :, 6:9] = array[:, :, 3:6]
    score = surface_scores(label_map(array, affine), label_map(thicker, affine))[1]
    assert theirs(array, thicker, (1, 1, 2), 1.0)["hd95_mm"] == 6
    assert score.hd95_mm == pytest.approx(6 * np.cos(tilt))
