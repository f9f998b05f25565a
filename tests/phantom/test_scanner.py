"""Partial volumes, label maps, blur and noise of the scanner."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import ParameterError
from medseg.core.geometry import Geometry
from medseg.core.segment import Segment
from medseg.phantom.anatomy import Anatomy, Structure
from medseg.phantom.catalog import TORSO_FIELD_MM, TORSO_ORGANS, centred_geometry
from medseg.phantom.draw import rows
from medseg.phantom.scanner import FWHM, label_share, sample, scan, truth_label_map, unit_noise
from medseg.phantom.solids import Solid, rotation_about
from medseg.phantom.torso import torso_anatomy

ELLIPSOID = Solid((1.3, -2.1, 0.7), (11, 16, 23), rows(rotation_about((1, 2, 3), 50)))


def single(solid=ELLIPSOID, hu=60.0, around=-100.0):
    return Anatomy("one", 0, (Structure("tumour", solid, hu, "tumour"),), (Segment(1, "tumour"),), around)


def grid(kind, spacing=(1.1, 1.3, 2.7), field=(64, 64, 64), middle=(0, 0, 0)):
    """A grid of one kind of trouble with its middle at `middle`."""
    shape = tuple(int(np.ceil(f / s)) for f, s in zip(field, spacing, strict=True))
    matrix = np.diag(spacing)
    if kind == "left-handed":
        matrix = matrix @ np.diag([-1, 1, 1])
    elif kind == "oblique":
        matrix = rotation_about((2, -1, 3), 33) @ matrix
    elif kind == "sheared":
        matrix = np.array([[1, 0, 0], [0, 1, np.tan(np.radians(22))], [0, 0, 1]]) @ matrix
    elif kind == "permuted":
        matrix = matrix[[2, 0, 1]]
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = np.array(middle) - matrix @ ((np.array(shape) - 1) / 2)
    return Geometry(shape, affine)


KINDS = ("plain", "left-handed", "oblique", "sheared", "permuted")


@pytest.mark.parametrize("kind", KINDS)
def test_shares_add_up_to_the_formula_on_every_grid(kind):
    geometry = grid(kind)
    found = sample(single(), geometry, label="tumour")
    assert found.label_voxels[1] * geometry.voxel_volume_mm3 == pytest.approx(ELLIPSOID.volume_mm3, rel=1e-3)
    assert found.share.sum(dtype=np.float64) == pytest.approx(found.label_voxels[1], rel=1e-6)
    # the mean values hold the same volume
    assert ((found.values + 100.0) / 160).sum(dtype=np.float64) == pytest.approx(found.label_voxels[1], rel=1e-5)
    assert found.label_voxels.sum() == pytest.approx(found.values.size)


@pytest.mark.parametrize("kind", ["plain", "sheared"])
def test_share_of_each_voxel_is_that_of_fine_counting(kind, is_inside):
    geometry = grid(kind, (4.0, 5.0, 6.0))
    share = label_share(single(), geometry, "tumour", 6).array
    fine = [(np.arange(12) + 0.5) / 12 - 0.5] * 3
    offsets = np.stack(np.meshgrid(*fine, indexing="ij"), axis=-1).reshape(-1, 3)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij"), axis=-1).reshape(-1, 1, 3)
    points = geometry.index_to_world((index + offsets).reshape(-1, 3))
    expected = is_inside(ELLIPSOID, points).reshape(-1, len(offsets)).mean(axis=1).reshape(geometry.shape)
    assert np.abs(share - expected).max() <= 1 / 12  # half a layer of samples, where a border runs along an axis
    assert share.mean() == pytest.approx(expected.mean(), rel=1e-3)
    np.testing.assert_array_equal(share > 0, share * expected > 0)


def test_every_structure_of_a_torso_is_where_its_definition_says(is_inside):
    """One sample a voxel must give, at every centre, the last structure that holds it, in all kinds of solids."""
    anatomy = torso_anatomy(3)
    geometry = grid("oblique", (5.1, 4.3, 6.7), (300, 230, 300), (0, 0, 15))
    found = sample(anatomy, geometry, 1)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    points = geometry.index_to_world(index)
    hu, held = np.full(len(points), anatomy.surroundings_hu), {}
    for structure in anatomy.structures:
        held[structure.name] = is_inside(structure.solid, points)
        if structure.within:
            held[structure.name] &= held[structure.within]
        hu[held[structure.name]] = structure.hu
    assert min(held[name].sum() for name in ("ribs", "vertebrae", "arches", "stomach air", "cord")) > 20
    differ = ~np.isclose(found.values.T.reshape(-1), hu, atol=1e-3)
    assert differ.mean() < 1e-5  # a centre may lie on a border to within rounding


@pytest.mark.parametrize("kind", KINDS)
def test_volumes_of_organs_do_not_depend_on_the_grid(kind):
    anatomy = torso_anatomy(5)
    low, high = anatomy.box_mm(TORSO_ORGANS)
    geometry = grid(kind, (3.1, 3.3, 3.7), (430, 430, 430), tuple((low + high) / 2))
    found = sample(anatomy, geometry)
    for segment in anatomy.segments[:7]:
        exact = anatomy[segment.label].solid.volume_mm3 - sum(s.solid.volume_mm3 for s in anatomy.lesions_of(segment.label))
        assert found.label_voxels[segment.number] * geometry.voxel_volume_mm3 == pytest.approx(exact, rel=1e-3), segment.label


def test_label_map_takes_the_majority():
    geometry = grid("oblique", (2.0, 2.5, 3.0))
    share = label_share(single(), geometry, "tumour", 5).array
    labels = truth_label_map(single(), geometry, 5)
    np.testing.assert_array_equal(labels.mask("tumour"), share > 0.5)
    assert labels.mask("tumour").sum() * geometry.voxel_volume_mm3 == pytest.approx(ELLIPSOID.volume_mm3, rel=0.01)


def test_label_volumes_approach_the_formula():
    anatomy = torso_anatomy(7)
    geometry = centred_geometry((2.5, 2.5, 2.5), TORSO_FIELD_MM, (0, -5, 15))
    labels = truth_label_map(anatomy, geometry)
    for segment in anatomy.segments[:7]:
        exact = anatomy[segment.label].solid.volume_mm3 - sum(s.solid.volume_mm3 for s in anatomy.lesions_of(segment.label))
        assert labels.mask(segment.label).sum() * geometry.voxel_volume_mm3 == pytest.approx(exact, rel=0.008), segment.label


def test_blur_adds_its_variance_along_each_axis():
    geometry = grid("plain", (1.0, 1.0, 1.0), (50, 50, 50))
    ball = single(Solid((0.0, 0.0, 0.0), (9, 9, 9)), 3000.0, 0.0)
    spreads = []
    for blur in ((0.0, 0.0, 0.0), (3.0, 5.0, 8.0)):
        array = scan(ball, geometry, noise_hu=0, blur_mm=blur).array.astype(np.float64)
        weights = [array.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
        places = np.arange(50) - 24.5
        spreads.append([(w * places**2).sum() / w.sum() for w in weights])
    np.testing.assert_allclose(np.subtract(*spreads[::-1]), (np.array([3.0, 5.0, 8.0]) / FWHM) ** 2, rtol=0.02)


@pytest.mark.parametrize(
    ("spacing", "grain"),
    [((0.7, 0.7, 5.0), 0.8), ((1.5, 1.0, 3.0), 0.8), ((3.0, 3.0, 3.0), 0.8), ((1.0, 1.0, 1.0), 0.0), ((1.0, 1.0, 2.0), 2.0)],
)
def test_noise_has_unit_spread_and_no_mean(spacing, grain):
    noise = unit_noise(grid("plain", spacing, (140 * spacing[0], 140 * spacing[1], 40 * spacing[2])), 3, grain)
    assert noise.std() == pytest.approx(1, rel=0.015)
    assert abs(noise.mean()) < 0.02


def test_noise_has_grain_in_the_slice_and_none_between_slices():
    noise = unit_noise(grid("plain", (0.7, 0.7, 2.0), (140, 140, 60)), 1)
    assert (noise[:, :, 1:] * noise[:, :, :-1]).mean() > 0.5
    assert (noise[:, 1:] * noise[:, :-1]).mean() > 0.5
    assert abs((noise[1:] * noise[:-1]).mean()) < 0.02


def test_noise_level_mean_and_seed_of_a_scan():
    solid, geometry = Solid((0, 0, 0), (28, 28, 28)), grid("plain", (1.0, 1.0, 2.0))
    volume = scan(single(solid), geometry, noise_hu=15, blur_mm=1.0, seed=4)
    deep = truth_label_map(single(Solid((0, 0, 0), (22, 22, 22))), geometry).mask("tumour")
    assert volume.array.dtype == np.int16
    assert (volume.modality, volume.unit) == ("CT", "HU")
    assert volume.array[deep].mean() == pytest.approx(60, abs=0.7)
    assert volume.array[deep].std() == pytest.approx(15, rel=0.04)
    np.testing.assert_array_equal(volume.array, scan(single(solid), geometry, noise_hu=15, blur_mm=1.0, seed=4).array)
    assert (volume.array != scan(single(solid), geometry, noise_hu=15, blur_mm=1.0, seed=5).array).mean() > 0.9


def test_values_are_clipped_to_twelve_bits():
    volume = scan(single(hu=9000.0, around=-3000.0), grid("plain"), noise_hu=0)
    assert (volume.array.min(), volume.array.max()) == (-1024, 3071)


@pytest.mark.parametrize(
    "wrong", [{"noise_hu": -1}, {"blur_mm": (1, -1, 1)}, {"supersampling": 0}, {"supersampling": (1, 2, 99)}, {"grain_mm": -0.1}]
)
def test_impossible_settings_raise(wrong):
    with pytest.raises(ParameterError):
        scan(single(), grid("plain", (8, 8, 8)), **wrong)


def test_unknown_label_raises():
    with pytest.raises(ParameterError, match="tumour"):
        sample(single(), grid("plain", (8, 8, 8)), label="liver")


def test_empty_anatomy_and_one_voxel():
    nothing = Anatomy("nothing", 0, (), (Segment(1, "tumour"),), -7.0)
    assert scan(nothing, Geometry((1, 1, 1), np.eye(4)), noise_hu=0).array.item() == -7
    whole = scan(single(), Geometry((1, 1, 1), np.eye(4)), noise_hu=0)
    assert whole.array.item() == 60
