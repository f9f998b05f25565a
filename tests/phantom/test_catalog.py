"""The phantoms by name, and the truth that goes with them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from medseg.core.errors import ParameterError
from medseg.core.geometry import Geometry
from medseg.phantom import PHANTOMS, descriptions, make_ellipsoid, make_phantom, make_sphere, make_torso


@pytest.fixture(scope="module")
def torso():
    return make_torso(7, preset="coarse")


def entries(phantom):
    return {entry["label"]: entry for entry in phantom.truth["segments"]}


def test_truth_is_json_and_names_every_segment(torso):
    document = json.loads(json.dumps(torso.truth, allow_nan=False))
    assert (document["schema"], document["name"], document["seed"]) == ("medseg.truth/1", "torso", 7)
    assert [(e["number"], e["label"]) for e in document["segments"]] == [(s.number, s.label) for s in torso.label_map.segments]
    json.dumps(torso.parameters, allow_nan=False)


def test_label_map_has_the_volumes_and_centroids_of_the_truth(torso):
    geometry = torso.label_map.geometry
    for label, entry in entries(torso).items():
        if entry["status"] != "measured":
            continue
        index = np.argwhere(torso.label_map.mask(label))
        assert len(index) * geometry.voxel_volume_mm3 / 1000 == pytest.approx(entry["volume_ml"], rel=0.02), label
        np.testing.assert_allclose(geometry.index_to_world(index).mean(axis=0), entry["centroid_ras_mm"], atol=0.5)


def test_diameters_hold_for_the_voxels(torso):
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import pdist

    for label, entry in entries(torso).items():
        if entry["status"] == "measured":
            points = torso.label_map.geometry.index_to_world(np.argwhere(torso.label_map.mask(label)))
            apart = pdist(points[ConvexHull(points).vertices]).max()
            assert entry["maximum_diameter_mm"] - 5.2 < apart < entry["maximum_diameter_mm"] + 3, label


def test_liver_is_given_with_and_without_its_tumour(torso):
    liver, tumour = entries(torso)["liver"], entries(torso)["tumour"]
    assert liver["volume_with_lesions_ml"] - liver["volume_ml"] == pytest.approx(tumour["volume_ml"])
    assert tumour["volume_ml"] == pytest.approx(4 / 3 * np.pi * np.prod(torso.anatomy["tumour"].solid.semi_axes_mm) / 1000)
    assert "tumour" in liver["volume_formula"]


def test_segments_cut_by_the_field_of_view_have_no_numbers_but_a_reason(torso):
    for label in ("spine", "body"):
        entry = entries(torso)[label]
        assert entry["status"] == "cut_by_field_of_view"
        assert entry["volume_ml"] is None
        assert entry["reason"]
        mask = torso.label_map.mask(label)
        assert mask[:, :, 0].any()
        assert mask[:, :, -1].any()


def test_tissue_values(torso):
    for label in ("spleen", "liver", "tumour"):
        values = torso.volume.array[torso.label_map.mask(label)]
        assert np.median(values) == pytest.approx(torso.anatomy[label].hu, abs=12), label
    assert np.median(torso.volume.array[torso.label_map.mask("lung_left")]) < -700
    assert np.percentile(torso.volume.array[torso.label_map.mask("spine")], 90) > 250


def test_axes_point_left_back_and_up_and_the_liver_is_on_the_right(torso):
    assert torso.volume.geometry.orientation == "LPS"
    assert torso.volume.array.shape == (128, 96, 114)
    half = torso.label_map.array.shape[0] // 2
    liver, spleen = torso.label_map.mask("liver"), torso.label_map.mask("spleen")
    assert liver[:half].sum() > 5 * liver[half:].sum()  # low i is the patient's right
    assert not spleen[:half].any()
    assert torso.label_map.mask("lung_left")[:, :, 57:].sum() > torso.label_map.mask("lung_left")[:, :, :57].sum()


def test_the_torso_lies_wholly_inside_the_slices(torso):
    body = torso.label_map.array > 0
    assert not body[[0, -1]].any()
    assert not body[:, [0, -1]].any()


def test_the_same_seed_gives_the_same_phantom(torso):
    again = make_phantom("torso", seed=7, preset="coarse")
    np.testing.assert_array_equal(torso.volume.array, again.volume.array)
    np.testing.assert_array_equal(torso.label_map.array, again.label_map.array)
    assert torso.truth == again.truth


def test_shape_spacing_and_noise_may_be_chosen():
    torso = make_torso(2, spacing_mm=(4, 4, 5), shape=(100, 80, 70), noise_hu=0, blur_mm=(0, 0, 0))
    assert torso.volume.array.shape == (100, 80, 70)
    assert torso.parameters["noise_hu"] == 0
    assert entries(torso)["liver"]["volume_ml"] == entries(make_torso(2, spacing_mm=(6, 6, 6)))["liver"]["volume_ml"]


def test_any_geometry_will_do():
    matrix = np.array([[-4, 0, 0.0], [0, 4, 1.2], [0, 0, 5]])
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = np.array([0, -5, 15]) - matrix @ np.array([49.5, 44.5, 34.5])
    torso = make_torso(2, geometry=Geometry((100, 90, 70), affine))
    assert torso.volume.geometry.is_sheared
    assert torso.volume.geometry.is_left_handed
    mask = torso.label_map.mask("liver")
    assert mask.sum() * torso.volume.geometry.voxel_volume_mm3 / 1000 == pytest.approx(entries(torso)["liver"]["volume_ml"], rel=0.01)


def test_sphere_and_ellipsoid():
    sphere = make_sphere(3, diameter_mm=30.0)
    assert entries(sphere)["tumour"]["volume_ml"] == pytest.approx(np.pi / 6 * 27)
    assert entries(sphere)["tumour"]["maximum_diameter_mm"] == 30
    assert sphere.label_map.mask("tumour").sum() / 1000 == pytest.approx(np.pi / 6 * 27, rel=0.01)
    np.testing.assert_array_equal(np.unique(sphere.volume.array)[[0, -1]], [-100, 60])
    ellipsoid = make_ellipsoid(3, semi_axes_mm=(10, 15, 25), spacing_mm=(1, 1, 2), noise_hu=5)
    assert entries(ellipsoid)["tumour"]["volume_ml"] == pytest.approx(4 / 3 * np.pi * 3.75)
    assert entries(ellipsoid)["tumour"]["maximum_diameter_mm"] == 50
    for phantom in (sphere, ellipsoid):
        assert not phantom.label_map.mask("tumour")[[0, -1]].any()


def test_catalog_lists_what_can_be_made():
    assert list(PHANTOMS) == list(descriptions()) == ["torso", "sphere", "ellipsoid"]
    assert all(line and "\n" not in line for line in descriptions().values())


def test_listing_the_phantoms_imports_nothing_heavy():
    import subprocess
    import sys

    code = "import sys, medseg.phantom; sys.exit('numba' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_phantom("cube"), "torso"),
        (lambda: make_phantom("sphere", preset="sample"), "diameter_mm"),
        (lambda: make_torso(0, preset="tiny"), "standard"),
        (lambda: make_torso(0, spacing_mm=(1, 0, 1)), "positive"),
        (lambda: make_torso(0, spacing_mm=(3, 3, 3), shape=(128, 96, 40)), "field of view"),
        (lambda: make_sphere(0, diameter_mm=0), "positive"),
    ],
)
def test_wrong_parameters_raise(make, message):
    with pytest.raises(ParameterError, match=message):
        make()
