"""Diameters against every pair of mesh vertices, and perpendiculars against the contours of scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist
from skimage.measure import find_contours

from medseg.kernels.diameters import mask_diameters
from medseg.kernels.instances import find_instances

STEPS = {
    "even": np.eye(3),
    "thick slices": np.diag([5.0, 0.7, 0.8]),
    "left-handed": np.diag([2.0, -0.7, 0.8]),
    "sheared slices": np.array([[2.0, 0.9, 0.3], [0.0, 0.7, 0.0], [0.0, 0.0, 0.8]]),
    "sheared rows": np.array([[3.0, 0.2, 0.1], [0.1, 0.9, 0.4], [0.2, 0.1, 1.1]]),
}


def blobs(seed: int, shape: tuple[int, int, int] = (7, 14, 15), level: float = 0.25) -> np.ndarray:
    """Ragged masks with holes, bays and islands."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.2, mode="wrap")
    return (noise > level * noise.std()).astype(np.uint8)


def vertices(mask: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The middles of all grid edges along these axes that lead out of a mask: marching-cubes vertices at 0.5."""
    padded = np.pad(mask.astype(int), 1)
    found = []
    for axis in axes:
        edge = np.argwhere(np.diff(padded, axis=axis) != 0) - 1.0
        edge[:, axis] += 0.5
        found.append(edge)
    return np.concatenate(found)


def measured(mask: np.ndarray, steps: np.ndarray, connectivity: int | None = None) -> tuple:
    found = find_instances(mask, connectivity)
    return mask_diameters(found, np.arange(mask.shape[0])[:, None] * steps[0], steps)


@pytest.mark.parametrize("kind", STEPS)
def test_longest_chords_are_those_of_all_pairs_of_mesh_vertices(kind: str) -> None:
    steps = STEPS[kind]
    for seed in range(8):
        mask = blobs(seed)
        longest, _, solid = measured(mask, steps)
        every = vertices(mask, (0, 1, 2)) @ steps
        assert solid.length_mm[0] == pytest.approx(cdist(every, every).max(), rel=1e-12)
        flat = [vertices(plane[None], (1, 2)) @ steps for plane in mask if plane.any()]
        assert longest.length_mm[0] == pytest.approx(max(cdist(points, points).max() for points in flat), rel=1e-12)
        centres = np.argwhere(mask) @ steps
        assert solid.least_mm[0] == pytest.approx(cdist(centres, centres).max(), rel=1e-12)
        inner = [np.argwhere(plane[None]) @ steps for plane in mask if plane.any()]
        assert longest.least_mm[0] == pytest.approx(max(cdist(points, points).max() for points in inner), rel=1e-12)
        for chord in (longest, solid):
            ends = chord.ends_mm[0]
            assert np.linalg.norm(ends[1] - ends[0]) == pytest.approx(chord.length_mm[0], rel=1e-12)
            assert cdist(ends, every).min(axis=1).max() < 1e-9  # both ends are vertices of the mesh


@pytest.mark.parametrize("kind", STEPS)
def test_perpendicular_is_the_widest_line_across_the_contours(kind: str) -> None:
    steps = STEPS[kind]
    for seed in range(8):
        mask = blobs(seed)
        longest, perpendicular, _ = measured(mask, steps)
        chord, across = (np.subtract(*c.ends_mm[0][::-1]) for c in (longest, perpendicular))
        assert abs(chord @ across) < 1e-9 * np.linalg.norm(chord) * np.linalg.norm(across)
        k = int(longest.slices[0])
        expected = widest_line(mask[k], steps, chord)
        assert perpendicular.length_mm[0] == pytest.approx(expected, rel=1e-9)
        assert np.linalg.norm(across) == pytest.approx(expected, rel=1e-9)
        normal = np.cross(steps[1], steps[2])
        for end in (*longest.ends_mm[0], *perpendicular.ends_mm[0]):
            assert abs((end - k * steps[0]) @ normal) < 1e-9  # in the slice


def widest_line(plane: np.ndarray, steps: np.ndarray, chord: np.ndarray) -> float:
    """The longest of the lines at right angles to a chord from the first to the last crossing of the contours of a slice."""
    along = chord / np.linalg.norm(chord)
    across = np.cross(np.cross(steps[1], steps[2]), along)
    across /= np.linalg.norm(across)
    lines = []
    for contour in find_contours(np.pad(plane, 1).astype(float), 0.5, fully_connected="high"):
        points = (contour - 1) @ steps[1:]
        t, u = points @ along, points @ across
        lines.append(np.stack([t[:-1], u[:-1], t[1:], u[1:]], axis=1))
    segments = np.concatenate(lines)
    best = 0.0
    for t in np.unique(segments[:, [0, 2]]):
        t0, u0, t1, u1 = segments[(segments[:, [0, 2]].min(axis=1) <= t + 1e-9) & (segments[:, [0, 2]].max(axis=1) >= t - 1e-9)].T
        flat = np.abs(t1 - t0) < 1e-9
        part = np.clip(np.divide(t - t0, t1 - t0, out=np.zeros_like(t0), where=~flat), 0, 1)
        ends = np.concatenate([u0 + part * (u1 - u0), u1[flat]])
        best = max(best, float(np.ptp(ends)))
    return best


def test_one_voxel_measures_one_step_each_way() -> None:
    mask = np.zeros((3, 3, 3), np.uint8)
    mask[1, 1, 1] = 1
    longest, perpendicular, solid = measured(mask, np.diag([5.0, 0.7, 0.8]))
    assert (longest.length_mm[0], perpendicular.length_mm[0], solid.length_mm[0]) == pytest.approx((0.8, 0.7, 5.0))
    assert longest.ends_mm[0].tolist() == pytest.approx(np.array([[5, 0.7, 0.4], [5, 0.7, 1.2]]))


def test_a_bar_has_its_length_and_its_width() -> None:
    """Rows 10 voxels long of 1 mm, 4 wide: the farthest vertices lie on the two long sides' ends."""
    mask = np.zeros((1, 8, 14), np.uint8)
    mask[0, 2:6, 2:12] = 1
    longest, perpendicular, _ = measured(mask, np.eye(3))
    assert longest.length_mm[0] == pytest.approx(np.hypot(10, 3))
    assert 4 <= perpendicular.length_mm[0] < 4.5


def test_each_part_is_measured_by_itself_and_some_can_be_chosen() -> None:
    mask = blobs(5, (6, 30, 31), 0.9)
    found = find_instances(mask, 26)
    assert found.voxels.size > 3
    origins, steps = np.arange(6)[:, None] * STEPS["thick slices"][0], STEPS["thick slices"]
    together = mask_diameters(found, origins, steps)
    chosen = np.arange(0, found.voxels.size, 2)
    some = mask_diameters(found, origins, steps, chosen)
    for n in range(found.voxels.size):
        alone = mask_diameters(find_instances(found.painted((np.arange(found.voxels.size) == n).astype(np.uint8)), None), origins, steps)
        for one, whole in zip(alone, together, strict=True):
            assert one.length_mm[0] == whole.length_mm[n]
            assert one.slices[0] == whole.slices[n]
    for one, whole in zip(some, together, strict=True):
        assert one.length_mm.tolist() == whole.length_mm[chosen].tolist()


def test_nothing_gives_nothing() -> None:
    for chords in measured(np.zeros((2, 3, 4), np.uint8), np.eye(3)):
        assert chords.length_mm.size == 0


def test_islands_keep_a_diameter_in_one_piece_of_a_slice() -> None:
    """A horseshoe that stands upright: two feet in the lower slice, joined above."""
    mask = np.zeros((2, 3, 20), np.uint8)
    mask[0, 1, 1:5] = mask[0, 1, 15:18] = 1
    mask[1, 1, 1:18] = 1
    found = find_instances(mask, 26)
    steps = np.diag([1.0, 1.0, 1.0])
    lower = find_instances(mask[:1], None)
    assert found.voxels.size == 1
    assert mask_diameters(lower, np.zeros((1, 3)), steps)[0].length_mm[0] == pytest.approx(17)
    assert mask_diameters(lower, np.zeros((1, 3)), steps, islands=lower.islands())[0].length_mm[0] == pytest.approx(4)
    together = mask_diameters(found, np.arange(2)[:, None] * steps[0], steps, islands=found.islands())
    assert together[0].length_mm[0] == pytest.approx(17)
    assert together[0].slices[0] == 1
