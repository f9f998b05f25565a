"""The kernel that samples solids: order, bonds, ties and slabs."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.kernels.implicit import LATTICES, ROW, _offsets, sample_solids
from medseg.phantom.anatomy import pack
from medseg.phantom.solids import Solid

ONE = (1, 1, 1)


def run(solids, within=None, numbers=None, shape=(20, 20, 20), samples=(4, 4, 4), shift=(0.13, 0.29, 0.41), **more):
    affine = np.eye(4)
    affine[:3, 3] = -(np.array(shape[::-1]) - 1) / 2 + np.array(shift)
    count = len(solids)
    rows = np.array([pack(solid) for solid in solids]).reshape(-1, ROW)
    values = np.array([*(100.0 * (n + 1) for n in range(count)), 0.0])
    labels = np.array([*(numbers or range(1, count + 1)), 0])
    return sample_solids(rows, values, labels, np.array(within or [-1] * count, dtype=np.int64), shape, affine, samples, **more)


def ball(radius, x=0.0):
    return Solid((x, 0.0, 0.0), (radius, radius, radius))


def test_the_later_solid_wins():
    found = run([ball(8), ball(4)])
    assert found.labels[10, 10, 10] == 2
    assert found.labels[10, 10, 16] == 1
    assert found.label_voxels[2] == pytest.approx(4 / 3 * np.pi * 64, rel=5e-3)
    assert found.label_voxels[1] == pytest.approx(4 / 3 * np.pi * (512 - 64), rel=2e-3)
    assert run([ball(4), ball(8)]).label_voxels[1] == 0


def test_a_bound_solid_counts_only_inside_its_bond():
    free, bound = run([ball(6), ball(6, 4.0)]), run([ball(6), ball(6, 4.0)], within=[-1, 0])
    lens = np.pi * (4 * 6 + 4) * (2 * 6 - 4) ** 2 / 12  # two equal balls 4 apart
    assert bound.label_voxels[2] == pytest.approx(lens, rel=5e-3)
    assert free.label_voxels[2] == pytest.approx(4 / 3 * np.pi * 216, rel=3e-3)
    assert bound.label_voxels[1:3].sum() == pytest.approx(4 / 3 * np.pi * 216, rel=3e-3)


def test_a_solid_thinner_than_a_voxel_is_found():
    needle = Solid((0.0, 0.0, 0.0), (0.3, 0.3, 8.0))
    affine_free = run([needle], samples=(16, 16, 4), shift=(0, 0, 0))
    assert affine_free.label_voxels[1] == pytest.approx(4 / 3 * np.pi * 0.09 * 8, rel=0.02)


def test_a_tie_goes_to_the_centre_of_the_voxel():
    """A border through the middle of a layer of voxels would else always make one side grow."""
    slab = Solid((0.0, 0.0, 0.0), (50.0, 50.0, 3.0), profile=(1.0,))  # ±3 mm along k; layers have their centres at ±0.5, ...
    labels = run([slab], shape=(21, 6, 6), shift=(0, 0, 0)).labels  # centres at whole mm: the border cuts the layers at ±3 into halves
    assert labels[:, 3, 3].tolist() == [0] * 7 + [labels[7, 3, 3]] + [1] * 5 + [labels[13, 3, 3]] + [0] * 7
    assert labels[7, 3, 3] == 0  # |s| < 1 does not hold on the border itself
    shared = run([slab], shape=(21, 6, 6), shift=(0, 0, 0), wanted=1)
    assert shared.share[7, 3, 3] == 0.5


def test_one_number_for_several_solids_is_counted_once():
    found = run([ball(6, -3.0), ball(6, 3.0)], numbers=[5, 5])
    lens = np.pi * (4 * 6 + 6) * (2 * 6 - 6) ** 2 / 12
    assert found.label_voxels[5] == pytest.approx(2 * 4 / 3 * np.pi * 216 - lens, rel=3e-3)
    assert found.label_voxels.sum() == pytest.approx(8000)


def test_slabs_do_not_show(monkeypatch):
    """Each slab is worked on by itself; together they are the whole."""
    whole = run([ball(8), ball(5, 2.0)], within=[-1, 0])
    monkeypatch.setattr("medseg.kernels.implicit.in_slabs", lambda work, count: [work(0, count)])
    single = run([ball(8), ball(5, 2.0)], within=[-1, 0])
    np.testing.assert_array_equal(whole.values, single.values)
    np.testing.assert_array_equal(whole.labels, single.labels)
    np.testing.assert_allclose(whole.label_voxels, single.label_voxels)


def test_no_solids_and_solids_off_the_grid():
    assert run([]).values.max() == 0
    assert run([ball(4, 500.0)]).label_voxels[0] == 8000


def test_wrong_tables_raise():
    rows = np.array([pack(ball(3))])
    with pytest.raises(ValueError, match="rows"):
        sample_solids(rows[:, :-1], np.zeros(2), np.zeros(2, int), np.zeros(1, int), ONE, np.eye(4))
    with pytest.raises(ValueError, match="surroundings"):
        sample_solids(rows, np.zeros(1), np.zeros(2, int), np.zeros(1, int), ONE, np.eye(4))


@pytest.mark.parametrize("points", LATTICES)
def test_lattices_are_even(points):
    """Along each axis every layer of 1/n of the voxel holds one point, so a border along an axis is exact to 1/n."""
    places = _offsets(points, np.eye(4))
    expected = (np.arange(points) + 0.5) / points - 0.5
    np.testing.assert_allclose(np.sort(places, axis=0), np.repeat(expected[:, None], 3, axis=1))
    np.testing.assert_allclose(np.sort(places @ [1, np.pi, np.e]), np.sort(-places @ [1, np.pi, np.e]), atol=1e-12)  # symmetric
