from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import maximum_flow

from medseg.core.errors import ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.segmentation.segment import segment


def noisy_ball(affine: np.ndarray, noise: float = 25) -> tuple[Volume, np.ndarray, tuple[float, ...]]:
    """A ball of 9 mm in strong noise, drawn in mm; its centre."""
    geometry = Geometry((44, 36, 18), affine)
    centre = geometry.index_to_world((21, 18, 9))
    away = np.linalg.norm(geometry.index_to_world(np.stack(np.indices(geometry.shape), axis=-1)) - centre, axis=-1)
    array = 100 * (away < 9) + np.random.default_rng(3).normal(0, noise, geometry.shape)
    return Volume(array.astype(np.int16), geometry, "MR"), away < 9, tuple(float(v) for v in centre)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.mark.parametrize("model", ["histogram", "gaussian"])
def test_a_ball_in_noise_is_found_on_every_grid(affine: np.ndarray, model: str) -> None:
    volume, truth, centre = noisy_ball(affine)
    found = segment(volume, "graph-cut", seeds=[centre], seed_radius_mm=4.0, reach_mm=10.0, model=model, contrast=60, sigma_mm=0)
    assert dice(found.array > 0, truth) > 0.96
    assert [(item.number, item.label, item.algorithm) for item in found.segments] == [(1, "region", "graph-cut")]


def test_it_is_the_best_of_all_cuts_by_scipy() -> None:
    """The energy written down again, its minimum by scipy's flow, on a grid with unequal spacing."""
    rng = np.random.default_rng(1)
    spacing = (0.7, 1.3, 3.1)
    image = rng.integers(0, 5, (7, 6, 5)).astype(np.float32)
    volume = Volume(image, Geometry(image.shape, np.diag([*spacing, 1.0])))
    planes = np.zeros(image.shape, np.uint8)
    planes[0], planes[6] = 1, 2
    markers = LabelMap(planes, volume.geometry, (Segment(1, "one"), Segment(2, "background")))
    given = {"model": "none", "smoothness_mm": 4.0, "contrast": 2.0, "sigma_mm": 0, "connected": False}
    found = segment(volume, "graph-cut", markers=markers, **given)
    number = np.arange(image.size).reshape(image.shape)
    source, sink = image.size, image.size + 1
    rows, columns = [source] * 30 + number[6].ravel().tolist(), number[0].ravel().tolist() + [sink] * 30
    capacities = [1 << 25] * 60
    for axis in range(3):
        for place in np.argwhere(number >= 0):
            beside = place + np.eye(3, dtype=int)[axis]
            if (beside < image.shape).all():
                one, other = tuple(place), tuple(beside)
                cost = 1000 * 4.0 / spacing[axis] * np.exp(-0.5 * ((image[one] - image[other]) / 2.0) ** 2)
                rows += [number[one], number[other]]
                columns += [number[other], number[one]]
                capacities += [round(float(cost))] * 2
    graph = coo_matrix((capacities, (rows, columns)), (sink + 1, sink + 1)).tocsr().astype(np.int32)
    flow = int(maximum_flow(graph, source, sink).flow_value)
    mask = found.array > 0
    cut = 0
    for row, column, capacity in zip(rows[60:], columns[60:], capacities[60:], strict=True):
        cut += capacity if mask.ravel()[row] and not mask.ravel()[column] else 0
    assert 30 < mask.sum() < 180
    assert abs(cut - flow) <= 30  # float32 in one, float64 in the other: each of the 30 or more edges may be rounded the other way


def test_more_smoothness_gives_less_surface() -> None:
    volume, _, centre = noisy_ball(np.diag([0.8, 1.1, 2.5, 1.0]), noise=60)
    areas = []
    for smoothness_mm in (0.0, 1.0, 5.0):
        mask = (
            segment(volume, "graph-cut", seeds=[centre], seed_radius_mm=3.0, reach_mm=12.0, sigma_mm=0, smoothness_mm=smoothness_mm).array
            > 0
        )
        areas.append(sum(int((np.diff(mask, axis=axis)).sum()) for axis in range(3)))
    assert areas[0] > areas[1] > areas[2] > 0


def test_marks_are_kept_whatever_the_intensities_say() -> None:
    volume, _, _ = noisy_ball(np.eye(4))
    array = np.zeros(volume.array.shape, np.uint8)
    array[2:5, 2:5, 2:5], array[21, 18, 9], array[21, 20, 9] = 3, 3, 7
    markers = LabelMap(array, volume.geometry, (Segment(3, "tumour"), Segment(7, "background")))
    found = segment(volume, "graph-cut", markers=markers)
    assert (found.array[array == 3] == 3).all()
    assert found.array[21, 20, 9] == 0
    assert [item.label for item in found.segments] == ["tumour"]


def test_what_cannot_be_cut_is_refused() -> None:
    volume, _, centre = noisy_ball(np.eye(4))
    array = np.zeros(volume.array.shape, np.uint8)
    array[0, 0, 0], array[1, 1, 1] = 1, 2
    two = LabelMap(array, volume.geometry, (Segment(1, "liver"), Segment(2, "spleen")))
    with pytest.raises(ParameterError, match="nothing is marked as background"):
        segment(volume, "graph-cut", seeds=[centre])
    with pytest.raises(ParameterError, match="the marks hold liver, spleen; use random-walker"):
        segment(volume, "graph-cut", markers=two, reach_mm=5.0)


def test_a_cut_on_the_border_of_the_reach_is_told() -> None:
    volume, ball, centre = noisy_ball(np.diag([0.8, 1.1, 2.5, 1.0]), noise=4)
    given = {"seeds": [centre], "seed_radius_mm": 2.0, "model": "none"}
    even = segment(volume.with_array(np.full_like(volume.array, 7)), "graph-cut", reach_mm=3.0, smoothness_mm=0.0, model_weight=0, **given)
    assert not even.findings  # nothing but the seeds is cheaper inside: the cut keeps off the reach
    inside = segment(volume, "graph-cut", seeds=[centre], seed_radius_mm=1.0, reach_mm=3.0, smoothness_mm=0.01)
    assert dice(inside.array > 0, ball) < 0.9
    assert [item.code for item in inside.findings] == ["CONTOUR_AT_REACH"]
    assert inside.findings[0].details["share"] > 0.5
