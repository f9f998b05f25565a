from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from medseg.core.errors import GeometryMismatchError, MissingDependencyError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.reporting.figures import axial_montage_png, segment_gallery_png, three_planes_png
from medseg.reporting.overlay import CT_LUNG, CT_SOFT_TISSUE, automatic_window
from medseg.reporting.places import find_places, outer_numbers, point_of_interest

RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)


@pytest.mark.parametrize("name", ["RAS", "LPS", "PIR", "left_handed_SAR"])
def test_three_planes_show_the_patient_from_the_feet(grids, name, make_scene, decode, pixels_of):
    """In the axial pane (upper left of the page) the right-sided organ lies left of the left-sided one."""
    volume, label_map = make_scene(grids[name])
    at = [round(n) for n in grids[name].world_to_index((0, 0, 0))]
    page = decode(three_planes_png(volume, label_map, at=at))
    assert 600 <= page.shape[1] <= 1400
    pane = page[: page.shape[0] // 2, : page.shape[1] // 2]
    red, green, blue = (pixels_of(pane, colour) for colour in (RED, GREEN, BLUE))
    assert red[:, 1].mean() < blue[:, 1].mean() < green[:, 1].mean()
    assert blue[:, 0].mean() < red[:, 0].mean()


def test_pictures_are_the_same_however_the_grid_is_stored(make_scene, decode):
    """Reversing and permuting the axes of an array together with its affine changes no pixel of the panes."""
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = (-59, -49, -45)
    volume, label_map = make_scene(Geometry((60, 50, 31), affine))
    turned = np.eye(3)[[2, 0, 1]].T * (1, -1, 1)  # new axes are k, -i, j
    shape = (31, 60, 50)
    geometry = volume.geometry.transformed(turned, (59, 0, 0), shape)
    array = lambda a: a.transpose(2, 0, 1)[:, ::-1, :]  # noqa: E731
    again = Volume(array(volume.array), geometry, "CT", "HU"), LabelMap(array(label_map.array), geometry, label_map.segments)
    assert geometry.is_left_handed != volume.geometry.is_left_handed
    one = decode(three_planes_png(volume, label_map, at=(30, 25, 15)))
    two = decode(three_planes_png(*again, at=(15, 29, 25)))
    assert one.shape == two.shape
    assert np.abs(one - two).max() <= 1


def test_the_largest_lesion_is_shown_even_where_it_is_hollow():
    """The default point lies on a voxel of the lesion, not in the hole at its centroid."""
    grid = Geometry((40, 40, 20), np.diag([1.0, 1.0, 2.0, 1.0]))
    i, j, k = np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")
    radius = np.hypot(i - 20, j - 20)
    labels = np.where(abs(k - 10) < 8, 1, 0).astype(np.uint8)
    labels[(radius > 6) & (radius < 9) & (abs(k - 6) < 3)] = 2
    label_map = LabelMap(labels, grid, (Segment(1, "liver"), Segment(2, "liver_tumour")))
    point = point_of_interest(label_map, find_places(label_map))
    assert labels[point] == 2
    assert point[2] == 6


def test_a_body_outline_is_recognised(grids, make_scene):
    balls = (("everything", (0.0, 0.0, 0.0), 45.0, RED), ("liver", (20.0, 0.0, 0.0), 12.0, GREEN))
    _, label_map = make_scene(grids["RAS"], balls)
    assert outer_numbers(find_places(label_map)) == {1}
    _, organs = make_scene(grids["RAS"])
    assert outer_numbers(find_places(organs)) == frozenset()


def test_windows_follow_the_modality(grids):
    zeros = np.zeros(grids["RAS"].shape, np.int16)
    assert automatic_window(Volume(zeros, grids["RAS"], "CT", "HU")) == CT_SOFT_TISSUE
    assert automatic_window(Volume(zeros, grids["RAS"], "CT", "HU"), (Segment(1, "lung_left"),)) == CT_LUNG
    ramp = np.linspace(0, 1000, zeros.size).reshape(zeros.shape)
    ramp[0, 0, 0] = np.nan
    centre, width = automatic_window(Volume(ramp, grids["RAS"], "MR"))
    assert centre - width / 2 == pytest.approx(10, abs=2)
    assert centre + width / 2 == pytest.approx(995, abs=2)


def test_odd_scans_are_drawn(decode):
    """Empty label maps, NaN, one voxel, constant scans, signs without a glyph and 70 segments make pictures, not warnings."""
    tiny = Geometry((1, 1, 1), np.eye(4))
    empty = LabelMap(np.zeros((1, 1, 1), np.uint8), tiny, ())
    nothing = Volume(np.full((1, 1, 1), np.nan, np.float32), tiny, "MR")
    for draw in (three_planes_png, axial_montage_png, segment_gallery_png):
        assert decode(draw(nothing, empty)).size
    wide = Geometry((80, 16, 3), np.diag([0.5, 0.5, 4.0, 1.0]))
    labels = np.zeros(wide.shape, np.uint8)
    for n in range(70):
        labels[n + 5, 4:12, 1:] = n + 1
    names = ["$x_1$ 肝臓 \t\n\x07", "a" * 300, *(f"structure {n}" for n in range(68))]
    many = LabelMap(labels, wide, tuple(Segment(n + 1, name) for n, name in enumerate(names)))
    volume = Volume(np.full(wide.shape, 7, np.int16), wide, "MR")
    for draw in (three_planes_png, axial_montage_png, segment_gallery_png):
        page = decode(draw(volume, many))
        assert page.shape[0] <= 1800
        assert page.shape[1] <= 1400


@pytest.mark.parametrize("name", ["LPS", "PIR", "left_handed_SAR"])
def test_montage_runs_from_head_to_feet(grids, name, make_scene, decode, pixels_of):
    """The superior ball stands in the first row of tiles, the inferior one in the last."""
    balls = (("head", (0.0, 0.0, 35.0), 12.0, YELLOW), ("foot", (0.0, 0.0, -35.0), 12.0, BLUE))
    page = decode(axial_montage_png(*make_scene(grids[name], balls), count=12))
    assert pixels_of(page, YELLOW)[:, 0].max() < pixels_of(page, BLUE)[:, 0].min()


def test_impossible_requests_are_refused(grids, make_scene):
    volume, label_map = make_scene(grids["RAS"])
    _, other = make_scene(grids["LPS"])
    with pytest.raises(GeometryMismatchError, match="not on one grid"):
        three_planes_png(volume, other)
    with pytest.raises(ParameterError, match="not an index"):
        three_planes_png(volume, label_map, at=(500, 0, 0))
    with pytest.raises(ParameterError, match="count=0"):
        axial_montage_png(volume, label_map, count=0)


def test_without_matplotlib_the_extra_is_named(grids, make_scene, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"medseg\[report\]"):
        three_planes_png(*make_scene(grids["RAS"]))


def test_no_global_figure_is_left(grids, make_scene):
    """Drawing touches neither pyplot nor its list of figures."""
    pyplot_before = sys.modules.get("matplotlib.pyplot")
    three_planes_png(*make_scene(grids["RAS"]))
    assert sys.modules.get("matplotlib.pyplot") is pyplot_before
    assert pyplot_before is None or not pyplot_before.get_fignums()


@pytest.mark.parametrize(
    ("folder", "labels", "right", "left"),
    [
        ("ct_totalseg_organs", "labels_fast", "liver", "spleen"),
        ("mr_totalseg_organs", "labels", "liver", "spleen"),
    ],
)
def test_real_liver_lies_on_the_left_of_the_picture(shared_data, decode, pixels_of, folder, labels, right, left):
    """On a CT stored RAS and an MR stored LPS the liver is drawn left of the spleen in the axial pane."""
    import nibabel as nib

    known = json.loads((shared_data / folder / "expected.json").read_text())[labels]["labels"]
    image, mask = (nib.load(shared_data / folder / name) for name in ("image.nii.gz", f"{labels}.nii.gz"))
    grid = Geometry(image.shape, image.affine)
    colours = {right: RED, left: GREEN}
    array = np.asarray(mask.dataobj).astype(np.uint8)
    segments = tuple(
        Segment(int(n), entry["name"], colour=colours[entry["name"]]) for n, entry in known.items() if entry["name"] in colours
    )
    array[~np.isin(array, [segment.number for segment in segments])] = 0
    label_map = LabelMap(array, grid, segments)
    page = decode(three_planes_png(Volume(np.asarray(image.dataobj), grid, "CT" if folder.startswith("ct") else "MR"), label_map))
    pane = page[:500, : page.shape[1] // 2]
    assert pixels_of(pane, RED)[:, 1].mean() + 150 < pixels_of(pane, GREEN)[:, 1].mean()
