"""Surface nets against the voxels they enclose: closed, consistent between labels, at the volume of the voxels, and VTK's own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from medseg.kernels.surface_nets import SPECIAL, surface_nets
from medseg.kernels.surface_smoothing import smooth_net
from medseg.kernels.surface_split import label_meshes
from medseg.kernels.surface_tables import EDGE_CORNERS, FACE_CORNERS, surface_tables

shapes = st.tuples(*[st.integers(1, 7)] * 3)
label_arrays = shapes.flatmap(lambda shape: hnp.arrays(np.uint8, shape, elements=st.integers(0, 3)))
noise = st.tuples(shapes, st.integers(0, 2**32 - 1), st.floats(0.05, 0.95)).map(
    lambda drawn: (np.random.default_rng(drawn[1]).random(drawn[0]) < drawn[2]).astype(np.uint8)
)


def meshes(labels, steps=0):
    numbers = [int(number) for number in np.unique(labels) if number]
    return dict(zip(numbers, label_meshes(smooth_net(surface_nets(labels), steps), labels, numbers), strict=True))


def volume(vertices, triangles) -> float:
    a, b, c = (vertices[triangles[:, n]].astype(np.float64) for n in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def assert_closed_manifold(triangles):
    """Every edge once in each direction, and the triangles at each vertex one fan."""
    count = len(triangles)
    corners = np.arange(3 * count).reshape(count, 3)
    edges = np.concatenate([triangles[:, [n, (n + 1) % 3]] for n in range(3)]).astype(np.int64)
    ends = np.concatenate([corners[:, [n, (n + 1) % 3]] for n in range(3)])
    size = int(triangles.max()) + 1
    forth, back = edges[:, 0] * size + edges[:, 1], edges[:, 1] * size + edges[:, 0]
    assert len(np.unique(forth)) == len(forth)
    np.testing.assert_array_equal(np.sort(forth), np.sort(back))
    partner = np.argsort(back)[np.searchsorted(np.sort(back), forth)]
    same = np.concatenate([np.c_[ends[:, 0], ends[partner, 1]], np.c_[ends[:, 1], ends[partner, 0]]])
    fans, _ = connected_components(coo_matrix((np.ones(len(same)), same.T), (3 * count, 3 * count)), directed=False)
    assert fans == size


@given(st.one_of(label_arrays, noise))
@settings(max_examples=120, deadline=None)
def test_every_label_is_a_closed_manifold_around_its_voxels(labels):
    for number, (vertices, triangles) in meshes(labels).items():
        assert_closed_manifold(triangles)
        assert len(np.unique(vertices, axis=0)) == len(vertices)  # still so for readers that merge equal points
        # sheets that touch were moved apart by a hundredth of a voxel
        assert volume(vertices, triangles) == pytest.approx((labels == number).sum(), rel=0.04)


@given(st.one_of(label_arrays, noise), st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_smoothing_keeps_surfaces_closed_and_points_in_their_cells(labels, steps):
    net = surface_nets(labels)
    smooth = smooth_net(net, steps)
    assert np.abs(smooth.points - net.points).max(initial=0) < 0.4901
    numbers = [int(number) for number in np.unique(labels) if number]
    for vertices, triangles in label_meshes(smooth, labels, numbers):
        assert_closed_manifold(triangles)
        assert len(np.unique(vertices, axis=0)) == len(vertices)


def test_all_256_cells_have_as_many_sheets_as_cycles():
    """Checked by hand on the classes of marching cubes: one corner, an edge, a face, diagonals, the checkerboard."""
    tables = surface_tables()
    expected = {0b1: 1, 0b11: 1, 0b1111: 1, 0b1001: 2, 0b10000001: 2, 0b01101001: 4, 0b01111110: 2, 0b11111110: 1, 0: 0, 255: 0}
    assert {mask: int(tables.sheets[mask]) for mask in expected} == expected
    for mask in range(256):
        crossed = [(mask >> a & 1) != (mask >> b & 1) for a, b in EDGE_CORNERS]
        np.testing.assert_array_equal(tables.sheet[mask] >= 0, crossed)
        passed = [0 < sum(mask >> corner & 1 for corner in corners) < 4 for corners in FACE_CORNERS]
        assert [bool(tables.faces[mask] >> face & 1) for face in range(6)] == passed


def test_an_unsmoothed_net_is_made_of_voxel_faces():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (6, 7, 8)).astype(np.uint16)
    net = surface_nets(labels)
    padded = np.pad(labels, 1).astype(int)
    assert len(net.quads) == sum(np.count_nonzero(np.diff(padded, axis=axis)) for axis in range(3))
    for quad, (first, second), direction in zip(net.quads, net.sides, net.directions, strict=True):
        middle = net.points[quad].mean(axis=0)
        step = np.eye(3)[direction] / 2
        before, after = (np.rint(middle + side * step).astype(int) for side in (-1, 1))
        assert padded[tuple(before[::-1] + 1)] == first
        assert padded[tuple(after[::-1] + 1)] == second


def test_neighbours_share_their_boundary():
    """Every triangle between two labels belongs to both, the other way round."""
    labels = np.zeros((12, 13, 14), np.uint8)
    k, j, i = np.indices(labels.shape)
    labels[(k - 6) ** 2 + (j - 6) ** 2 + (i - 7) ** 2 < 26] = 1
    labels[(labels == 1) & (i + 0.4 * j > 9)] = 2
    net = smooth_net(surface_nets(labels), 16)
    assert not (net.bits & SPECIAL).any()
    sets = []
    for vertices, triangles in label_meshes(net, labels, [1, 2]):
        corners = [tuple(sorted(map(tuple, vertices[triangle].tolist()))) for triangle in triangles]
        sets.append(set(corners))
    between = (net.sides > 0).all(axis=1).sum()
    assert len(sets[0] & sets[1]) == 2 * between > 100


@pytest.mark.parametrize("steps", [2, 8, 16, 32])
def test_volumes_are_kept(steps):
    labels = np.zeros((40, 44, 48), np.uint8)
    k, j, i = np.indices(labels.shape)
    labels[(k - 20) ** 2 + (j - 20) ** 2 + (i - 20) ** 2 < 18**2] = 1
    labels[(k - 20) ** 2 + (j - 20) ** 2 + (i - 20) ** 2 < 6**2] = 2
    labels[(k > 10) & (k < 13) & (j > 4) & (j < 40) & (i > 42)] = 3  # a plate two voxels thick, cut by the border
    for number, mesh in meshes(labels, steps).items():
        assert volume(*mesh) == pytest.approx((labels == number).sum(), rel=3e-3)


@pytest.mark.parametrize("radius", [3.0, 10.0, 25.0])
def test_a_smoothed_sphere_is_near_to_the_sphere(radius):
    centre = np.array([radius + 3.2, radius + 3.0, radius + 3.4])
    k, j, i = np.indices([int(2 * radius + 8)] * 3)
    labels = (np.linalg.norm(np.stack([i, j, k], -1) - centre, axis=-1) < radius).astype(np.uint8)
    ((vertices, triangles),) = meshes(labels, 16).values()
    distance = np.linalg.norm(vertices - centre, axis=1) - radius
    assert distance.std() < 0.12  # voxel corners: 0.43
    a, b, c = (vertices[triangles[:, n]] for n in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2
    assert area / (4 * np.pi * radius**2) == pytest.approx(1, abs=0.05 if radius < 5 else 0.012)  # voxel faces: 1.5


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 24), (5, 1, 16), (2, 3, 17)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_full_arrays_and_every_width(shape, dtype):
    labels = np.full(shape, np.iinfo(dtype).max, dtype)
    ((vertices, triangles),) = meshes(labels).values()
    assert_closed_manifold(triangles)
    assert volume(vertices, triangles) == pytest.approx(labels.size)


def test_empty_labels_and_numbers_that_are_not_there():
    labels = np.zeros((4, 5, 6), np.uint8)
    net = smooth_net(surface_nets(labels), 16)
    assert net.points.shape == (0, 3)
    ((vertices, triangles),) = label_meshes(net, labels, [7])
    assert (len(vertices), len(triangles)) == (0, 0)


def test_many_labels_at_once():
    labels = np.arange(1, 30**3 + 1, dtype=np.uint16).reshape(30, 30, 30)
    numbers = [1, 500, 27_000]
    for vertices, triangles in label_meshes(smooth_net(surface_nets(labels), 4), labels, numbers):
        assert_closed_manifold(triangles)
        assert volume(vertices, triangles) == pytest.approx(1, abs=0.3)


def test_poor_arrays_are_refused():
    for poor, error in ((np.zeros((2, 2)), ValueError), (np.zeros((2, 2, 2)), TypeError), (np.full((2, 2, 2), -1), ValueError)):
        with pytest.raises(error):
            surface_nets(poor)
    with pytest.raises(ValueError, match="steps"):
        smooth_net(surface_nets(np.ones((1, 1, 1), np.uint8)), -1)


def test_threads_do_not_change_the_result():
    rng = np.random.default_rng(5)
    labels = np.kron(rng.integers(0, 5, (9, 6, 6)), np.ones((4, 4, 4))).astype(np.uint8)
    one, two = (smooth_net(surface_nets(labels), 8) for _ in range(2))
    np.testing.assert_array_equal(one.points, two.points)
    np.testing.assert_array_equal(one.quads, two.quads)


def test_the_net_is_that_of_vtk():
    vtk = pytest.importorskip("vtk")
    from vtkmodules.util import numpy_support

    rng = np.random.default_rng(2)
    labels = np.pad(np.kron(rng.integers(0, 4, (5, 6, 7)), np.ones((3, 3, 3))).astype(np.uint8), 2)
    image = vtk.vtkImageData()
    image.SetDimensions(*labels.shape[::-1])
    image.GetPointData().SetScalars(numpy_support.numpy_to_vtk(labels.ravel(), deep=True))
    nets = vtk.vtkSurfaceNets3D()
    for number in (1, 2, 3):
        nets.SetValue(number - 1, number)
    nets.SmoothingOff()
    nets.SetOutputMeshTypeToQuads()
    nets.SetInputData(image)
    nets.Update()
    theirs = nets.GetOutput()
    ours = surface_nets(labels)
    points = numpy_support.vtk_to_numpy(theirs.GetPoints().GetData())
    assert theirs.GetNumberOfPolys() == len(ours.quads)
    np.testing.assert_array_equal(np.unique(points, axis=0), np.unique(ours.points, axis=0))  # VTK 9.7 gives some points twice
