from __future__ import annotations

import sys

import numpy as np
import pytest

from medseg.core.errors import MissingDependencyError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.reporting.places import find_places
from medseg.reporting.ray_casting import Camera, cast_rays
from medseg.reporting.rendering import nearest_letters, render_3d_png
from medseg.reporting.surfaces import smooth_field

RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
SIZE = (400, 320)


def _camera(forward, up, pixel_mm=0.5, pixels=200):
    forward, up = np.array(forward, float), np.array(up, float)
    right = np.cross(forward, up)
    return Camera(-100.0 * forward, right, up, forward, pixel_mm, pixels, pixels)


@pytest.mark.parametrize(("forward", "up"), [((0, -1, 0), (0, 0, 1)), ((-1, 0, 0), (0, 0, 1)), ((0, 0, -1), (0, 1, 0))])
def test_rays_meet_a_ball_where_the_formula_says(grid, make_scene, forward, up):
    """Depth, silhouette and normals of a ball of 25 mm agree with the analytic ones, also sheared and left-handed."""
    radius = 25.0
    _, label_map = make_scene(grid, (("ball", (0.0, 0.0, 0.0), radius, RED),))
    field = smooth_field(label_map, find_places(label_map)[0])
    camera = _camera(forward, up)
    hits = cast_rays(field.values, field.level, field.affine, camera)
    hit = np.isfinite(hits.depth_mm)
    assert hit.sum() * camera.pixel_mm**2 == pytest.approx(np.pi * radius**2, rel=0.05)
    rows, columns = np.nonzero(hit)
    x = (columns + hits.left + 0.5 - camera.width / 2) * camera.pixel_mm
    y = (camera.height / 2 - rows - hits.top - 0.5) * camera.pixel_mm
    core = np.hypot(x, y) < 0.85 * radius
    expected = np.sqrt(radius**2 - x[core] ** 2 - y[core] ** 2)
    assert np.abs(100 - expected - hits.depth_mm[hit][core]).mean() < 0.6
    analytic = np.stack([x[core], y[core], expected], axis=1) / radius
    cosines = (analytic * hits.normals[hit][core]).sum(axis=1)
    assert np.degrees(np.arccos(np.clip(cosines, -1, 1))).mean() < 5


def test_smooth_fields_keep_the_volume(grid, make_scene):
    """The inside of the surface is as large as the voxels were, for a ball and for a tube of one voxel."""
    _, label_map = make_scene(grid)
    for place in find_places(label_map):
        field = smooth_field(label_map, place)
        volume_mm3 = float((field.values >= field.level).sum()) * abs(np.linalg.det(field.affine[:3, :3]))
        assert volume_mm3 == pytest.approx(place.voxels * grid.voxel_volume_mm3, rel=0.06)
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[20, 20, 5:35] = 1
    tube = LabelMap(labels, Geometry((40, 40, 40), np.eye(4)), (Segment(1, "vessel"),))
    field = smooth_field(tube, find_places(tube)[0])
    assert (field.values.max(axis=(0, 1))[12:-12] >= field.level).all()


def test_large_segments_are_reduced():
    """However fine the grid, the field of a segment has at most 160 cells and some padding along an axis."""
    labels = np.zeros((700, 300, 60), np.uint8)
    labels[5:-5, 5:-5, 5:-5] = 1
    geometry = Geometry(labels.shape, np.diag([0.5, 0.5, 2.0, 1.0]))
    label_map = LabelMap(labels, geometry, (Segment(1, "body"),))
    field = smooth_field(label_map, find_places(label_map)[0])
    assert max(field.values.shape) < 190
    inside = np.argwhere(field.values >= field.level)
    low, high = (inside.min(axis=0) - 0.5) @ field.affine[:3, :3].T, (inside.max(axis=0) + 0.5) @ field.affine[:3, :3].T
    truth = geometry.index_to_world([[4.5, 4.5, 4.5], [694.5, 294.5, 54.5]])
    assert np.abs(np.stack([low, high]) + field.affine[:3, 3] - truth).max() < 2.5


@pytest.mark.parametrize(
    ("view", "left", "right", "top"),
    [
        ("anterior", RED, GREEN, YELLOW),
        ("posterior", GREEN, RED, YELLOW),
        ("superior", GREEN, RED, BLUE),
        ("inferior", RED, GREEN, BLUE),
    ],
)
def test_every_view_shows_the_right_side(grid, make_scene, decode, pixels_of, view, left, right, top):
    """Seen from the front (and from the feet) the patient's right is on the left of the picture, on every grid."""
    _, label_map = make_scene(grid)
    picture = decode(render_3d_png(label_map, size=SIZE, view=view))
    assert picture.shape == (SIZE[1], SIZE[0], 3)
    assert pixels_of(picture, left)[:, 1].mean() + 60 < pixels_of(picture, right)[:, 1].mean()
    assert pixels_of(picture, top)[:, 0].mean() + 30 < pixels_of(picture, left)[:, 0].mean()


def test_side_views(grids, make_scene, decode, pixels_of):
    """From the patient's left, anterior is on the left; from the right, on the right."""
    _, label_map = make_scene(grids["left_handed_SAR"])
    from_left, from_right = (pixels_of(decode(render_3d_png(label_map, size=SIZE, view=view)), BLUE) for view in ("left", "right"))
    assert from_left[:, 1].mean() < SIZE[0] / 2 - 30
    assert from_right[:, 1].mean() > SIZE[0] / 2 + 30


def test_a_lesion_is_seen_through_its_organ(grids, make_scene, decode, pixels_of):
    balls = (("liver", (0.0, 0.0, 0.0), 30.0, RED), ("liver_tumour", (5.0, 0.0, 0.0), 8.0, GREEN))
    _, label_map = make_scene(grids["RAS"], balls)
    assert len(pixels_of(decode(render_3d_png(label_map, size=SIZE)), GREEN)) > 300


def test_excluded_segments_are_left_out(grids, make_scene, decode, pixels_of):
    _, label_map = make_scene(grids["RAS"])
    picture = decode(render_3d_png(label_map, size=SIZE, exclude={"liver"}))
    assert len(pixels_of(picture, RED)) == 0
    assert len(pixels_of(picture, GREEN)) > 100


def test_rendering_needs_no_graphics_library(grids, make_scene, decode, monkeypatch):
    """The picture is made on the processor: VTK, OpenGL and a display are never asked for."""
    for module in ("vtk", "vtkmodules", "vtkmodules.all", "OpenGL"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delenv("DISPLAY", raising=False)
    assert decode(render_3d_png(make_scene(grids["LPS"])[1], size=SIZE)).std() > 5


def test_one_scene_gives_one_picture(grids, make_scene):
    """Threads do not change a pixel."""
    _, label_map = make_scene(grids["PIR"])
    assert render_3d_png(label_map, size=SIZE, view="oblique") == render_3d_png(label_map, size=SIZE, view="oblique")


def test_poor_label_maps_are_drawn(decode):
    """No voxel, one voxel, one slice and a full grid give pictures, not errors."""
    grid = Geometry((8, 8, 8), np.diag([1.0, 1.0, 4.0, 1.0]))
    boxes = [np.s_[0:0], np.s_[3:4, 3:4, 3:4], np.s_[:, :, 2:3], np.s_[:]]
    for box in boxes:
        labels = np.zeros(grid.shape, np.uint16)
        labels[box] = 500
        assert decode(render_3d_png(LabelMap(labels, grid, (Segment(500, "x"),)), size=(200, 150))).shape == (150, 200, 3)


def test_impossible_views_are_refused(grids, make_scene, monkeypatch):
    _, label_map = make_scene(grids["RAS"])
    with pytest.raises(ParameterError, match="known: anterior"):
        render_3d_png(label_map, view="front")
    with pytest.raises(ParameterError, match="64 to 4000"):
        render_3d_png(label_map, size=(10, 10))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"medseg\[report\]"):
        render_3d_png(label_map)


@pytest.mark.parametrize(("direction", "letters"), [((1, 0, 0), "R"), ((0, -1, 0), "P"), ((0.1, 0, 1), "S"), ((-0.6, 0.8, 0), "AL")])
def test_letters_of_directions(direction, letters):
    assert nearest_letters(direction) == letters
