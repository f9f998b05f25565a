"""The interval of a volume: its parts against theory and simulation, and what it must never do."""

from __future__ import annotations

import math

import numpy as np
import pytest

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap, ProbabilityMap
from medseg.core.measurement import Status
from medseg.core.segment import Segment
from medseg.kernels.end_layers import end_layers
from medseg.kernels.statistics import label_statistics
from medseg.measurement.measure import measure
from medseg.measurement.uncertainty import lattice_sum
from medseg.phantom.bodies import KINDS, place, random_body

BODY = (Segment(1, "body"),)


def ball(radius_mm, spacing, shape, centre=None):
    grid = np.stack(np.meshgrid(*[np.arange(n) * s for n, s in zip(shape, spacing, strict=True)], indexing="ij"), axis=-1)
    middle = (np.array(shape) - 1) * spacing / 2 if centre is None else centre
    mask = np.square(grid - middle).sum(axis=-1) <= radius_mm**2
    return LabelMap(mask.astype(np.uint8), Geometry(mask.shape, np.diag([*spacing, 1.0])), BODY)


def test_the_lattice_sum_is_that_of_the_cubic_lattice():
    # Σ 1/|n|⁴ over Z³ without 0 is 16.532315959761... (Borwein et al., Lattice Sums Then and Now, 2013)
    assert lattice_sum(np.eye(3)) == pytest.approx(16.532316, rel=2e-3)


def test_the_lattice_sum_does_not_depend_on_how_the_grid_is_turned_or_written():
    spacing = np.diag([0.7, 0.7, 5.0])
    angle = 0.4
    turned = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]]) @ spacing
    skewed = spacing @ np.array([[1, 3, 0], [0, 1, 0], [0, 0, 1]])  # another basis of the same lattice
    assert lattice_sum(turned) == pytest.approx(lattice_sum(spacing), rel=1e-6)
    assert lattice_sum(skewed) == pytest.approx(lattice_sum(spacing), rel=2e-3)
    assert lattice_sum(spacing * [[-1], [1], [1]]) == pytest.approx(lattice_sum(spacing), rel=1e-9)


def errors_in_grid_sds(diameter_mm, spacing, count, seed):
    """Errors of counted volumes of bodies whose centres decide, in standard deviations of the grid part."""
    rng = np.random.default_rng(seed)
    found = []
    for n in range(count):
        body = random_body(KINDS[n % 3], diameter_mm * rng.uniform(0.85, 1.15), rng)
        volume = measure(place(body, spacing, rng))["body", "volume"]
        found.append(math.log(volume.value / (body.volume_mm3 / 1000)) / (volume.parts["grid"] / volume.value))
    return np.array(found)


@pytest.mark.parametrize(("diameter", "spacing"), [(12.0, (1, 1, 1)), (20.0, (0.7, 0.7, 5)), (9.0, (0.8, 0.8, 3)), (6.0, (1, 1, 1))])
def test_the_grid_part_is_the_spread_that_random_positions_show(diameter, spacing):
    found = errors_in_grid_sds(diameter, spacing, 400, seed=5)
    assert abs(found.mean()) < 0.25
    assert found.std() == pytest.approx(1.0, abs=0.15)


def test_the_reach_across_layers_tells_whether_the_errors_of_the_ends_add_up():
    """A ball across four layers of 5 mm is off at both ends by the same; across four and a half they cancel out."""

    def spread(diameter):
        rng = np.random.default_rng(7)
        tables = [measure(place(random_body("sphere", diameter, rng), (0.7, 0.7, 5.0), rng)) for _ in range(150)]
        volumes = [table["body", "volume"] for table in tables]
        counted = [volume.value for volume in volumes]
        return np.mean([volume.parts["grid"] / volume.value for volume in volumes]), np.std(counted) / np.mean(counted)

    (said_in, seen_in), (said_out, seen_out) = spread(20.0), spread(22.5)
    assert said_in == pytest.approx(seen_in, rel=0.25)
    assert seen_out < said_out < 0.6 * said_in


@pytest.mark.parametrize(("diameter", "spacing"), [(5.0, (0.8, 0.8, 1.0)), (8.0, (0.7, 0.7, 5.0)), (16.0, (0.9, 0.9, 2.0))])
@pytest.mark.parametrize("kind", KINDS)
def test_the_interval_covers_the_truth_in_about_95_percent(kind, diameter, spacing):
    """A few of the cells that scripts/calibrate_uncertainty.py checks with 5,000 trials each; so few have a wide margin."""
    rng = np.random.default_rng(11)
    covered, count = 0, 150
    for n in range(count):
        body = random_body(kind, diameter, rng)
        noise = (0.0, 0.1, 0.0)[n % 3]
        volume = measure(place(body, spacing, rng, by_share=n % 2 == 1, noise=noise))["body", "volume"]
        low, high = volume.interval
        covered += low <= body.volume_mm3 / 1000 <= high
    assert 0.89 <= covered / count <= 1.0


def test_the_interval_shrinks_with_size_and_grows_with_slices():
    def half_width(diameter, slice_mm):
        rng = np.random.default_rng(2)
        volume = measure(place(random_body("sphere", diameter, rng), (0.7, 0.7, slice_mm), rng))["body", "volume"]
        return (volume.interval[1] - volume.interval[0]) / 2 / volume.value

    assert half_width(40, 1) < half_width(20, 1) < half_width(10, 1) < half_width(10, 3) < half_width(10, 5)
    assert half_width(40, 1) < 0.002
    assert half_width(6, 5) > 0.2


def test_mirrored_turned_and_relabelled_masks_have_the_same_interval():
    rng = np.random.default_rng(3)
    label_map = place(random_body("lobulated", 15, rng), (0.8, 0.8, 2.5), rng, noise=0.1)
    expected = measure(label_map)["body", "volume"].interval
    flipped = LabelMap(label_map.array[::-1], Geometry(label_map.geometry.shape, np.diag([-0.8, 0.8, 2.5, 1])), BODY)
    swapped = LabelMap(
        label_map.array.transpose(2, 0, 1), Geometry(label_map.array.transpose(2, 0, 1).shape, np.diag([2.5, 0.8, 0.8, 1])), BODY
    )
    wide = LabelMap(label_map.array.astype(np.uint16) * 300, label_map.geometry, (Segment(300, "body"),))
    for other in (flipped, swapped, wide):
        assert measure(other)["body", "volume"].interval == pytest.approx(expected, rel=1e-9)


def test_noise_at_the_border_widens_the_interval():
    def boundary(noise):
        rng = np.random.default_rng(4)
        return measure(place(random_body("sphere", 30, rng), (1.0, 1.0, 1.0), rng, noise=noise))["body", "volume"].parts["boundary"]

    assert boundary(0.25) > 1.5 * boundary(0.0)


def test_a_cylinder_with_flat_ends_has_a_wide_interval():
    """Its ends may lie anywhere in their last layers: half a layer of 5 mm each."""
    rng = np.random.default_rng(6)
    covered = 0
    for _ in range(200):
        length, radius, at = rng.uniform(40, 60), rng.uniform(8, 12), rng.uniform(10, 15)
        x, y = np.meshgrid(np.arange(-15, 15, 0.8) + rng.uniform(), np.arange(-15, 15, 0.8) + rng.uniform(), indexing="ij")
        z = np.arange(0, 90, 5.0)
        mask = (x**2 + y**2 <= radius**2)[:, :, None] & (z >= at) & (z <= at + length)
        volume = measure(LabelMap(mask.astype(np.uint8), Geometry(mask.shape, np.diag([0.8, 0.8, 5, 1])), BODY))["body", "volume"]
        covered += volume.interval[0] <= math.pi * radius**2 * length / 1000 <= volume.interval[1]
    assert covered / 200 >= 0.93


def test_what_the_field_of_view_cuts_is_no_flat_end():
    shape = (40, 40, 24)
    inside, cut = ball(15.0, (1, 1, 1), (40, 40, 40)), ball(15.0, (1, 1, 1), shape, centre=(19.5, 19.5, 23.0))
    row = next(iter(measure(cut)))
    assert row.status is Status.CUT_BY_FIELD_OF_VIEW
    assert row.measurements["volume"].parts["grid"] < measure(inside)["body", "volume"].parts["grid"]
    assert row.to_dict()["visible_ml"] == row.measurements["volume"].value


def test_one_voxel_has_a_wide_interval_that_holds_its_volume():
    mask = np.zeros((5, 5, 5), np.uint8)
    mask[2, 2, 2] = 1
    volume = measure(LabelMap(mask, Geometry((5, 5, 5), np.eye(4)), BODY))["body", "volume"]
    low, high = volume.interval
    assert 0 < low < volume.value < high
    assert high / low > 4


def test_ways_of_counting_stand_side_by_side_and_a_difference_is_said():
    small, large = measure(ball(4.0, (1, 1, 1), (15, 15, 15))), measure(ball(40.0, (1, 1, 1), (90, 90, 90)))
    assert small["body", "mesh_ml"].value < small["body", "voxel_ml"].value
    assert small["body", "volumes_differ_percent"].value > 1
    assert "mesh" in small["body", "volumes_differ_percent"].reason
    assert large["body", "volumes_differ_percent"].value < 1
    assert large["body", "volumes_differ_percent"].reason == ""


def test_the_half_voxel_shell_is_what_a_moved_border_costs():
    found = measure(ball(20.0, (1, 1, 1), (60, 60, 60)))["body", "half_voxel_shell_ml"].value
    assert found == pytest.approx(4 / 3 * math.pi * (20.5**3 - 19.5**3) / 2 / 1000, rel=0.03)


def test_probabilities_give_a_volume_and_a_boundary_part():
    label_map = ball(10.0, (1, 1, 1), (31, 31, 31))
    places = np.stack(np.meshgrid(*[np.arange(31) - 15.0] * 3, indexing="ij"), axis=-1)
    radius = np.sqrt(np.square(places).sum(axis=-1))
    for width in (0.5, 2.0):
        share = 1 / (1 + np.exp((radius - 10.0) / width))
        soft = ProbabilityMap(share[None].astype(np.float32), label_map.geometry, BODY)
        table = measure(label_map, probabilities=soft)
        assert table["body", "probability_ml"].value == pytest.approx(share.sum() / 1000, rel=1e-5)
        # from 0.16 to 0.84 the border lies within ± ln(0.84/0.16) · width
        reach = math.log(0.84 / 0.16) * width
        expected = 4 / 3 * math.pi * ((10 + reach) ** 3 - (10 - reach) ** 3) / 2 / 1000
        assert table["body", "volume"].parts["boundary"] == pytest.approx(expected, rel=0.05)
        assert table["body", "volume"].interval[1] > measure(label_map)["body", "volume"].interval[1]


def test_replicates_give_the_model_part():
    replicates = [ball(radius, (1, 1, 1), (31, 31, 31)) for radius in (9.5, 10.0, 10.5)]
    volume = measure(replicates[1], replicates=replicates)["body", "volume"]
    assert volume.parts["model"] == pytest.approx(np.std([one.array.sum() / 1000 for one in replicates], ddof=1))
    assert "model" not in measure(replicates[1])["body", "volume"].parts
    assert volume.interval[1] - volume.interval[0] > 3.5 * volume.parts["model"]


def test_the_outermost_layers_are_counted_from_every_side():
    rng = np.random.default_rng(8)
    labels = rng.integers(0, 4, (7, 8, 9)).astype(np.uint8)
    found = label_statistics(labels)
    counted = end_layers(labels, found.numbers, found.first, found.last)
    for row, number in enumerate(found.numbers):
        box = tuple(slice(a, b + 1) for a, b in zip(found.first[row], found.last[row], strict=True))
        mask = labels[box] == number
        for axis in range(3):
            per_layer = mask.sum(axis=tuple(other for other in range(3) if other != axis))
            assert counted[row, axis].tolist() == [[*side[:3].tolist(), 0, 0][:3] for side in (per_layer, per_layer[::-1])]


@pytest.mark.parametrize("body", ["one layer", "noise"])
@pytest.mark.parametrize("slices_mm", [1.0, 5.0])
def test_no_interval_leaves_out_the_volume_that_was_counted(body, slices_mm):
    """Thin and ragged bodies, as superpixels and growing leave them: the shift of the middle would move the interval away."""
    shown = {
        "one layer": np.pad(np.ones((30, 30, 1), np.uint8), ((5, 5), (5, 5), (3, 3))),
        "noise": (np.random.default_rng(5).random((40, 40, 40)) < 0.5).astype(np.uint8),
    }[body]
    grid = Geometry(shown.shape, np.diag([1.0, 1.0, slices_mm, 1.0]))
    row = measure(LabelMap(shown, grid, (Segment(1, "body"),)))["body", "volume"]
    assert row.interval[0] <= row.value <= row.interval[1]
