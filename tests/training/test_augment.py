"""Patches: what they hold, where they come from, and that they depend on seed, fold and step alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

from toy import ToyCase, toy_case, toy_plan  # noqa: E402

from medseg.training.augment import PatchRecipe, change_intensities, draw_patch, extract, random_matrix  # noqa: E402
from medseg.training.batches import BatchSource, prefetched  # noqa: E402
from medseg.training.plan import Augmentation  # noqa: E402
from medseg.training.sampling import IGNORE, cases_of_step, foreground_places, generator, patch_centre  # noqa: E402

NONE = Augmentation(rotation=0, scaling=0, noise=0, smoothing=0, brightness=0, contrast=0, low_resolution=0, gamma=0)
INTENSITY = ("noise", "smoothing", "brightness", "contrast", "low_resolution", "gamma")


def smooth_case(shape=(30, 26, 34), channels=2) -> ToyCase:
    rng = np.random.default_rng(0)
    image = np.stack([ndimage.gaussian_filter(rng.normal(size=shape), 2) for _ in range(channels)]).astype(np.float32)
    labels = (image[0] > 0.05).astype(np.uint8)
    return ToyCase("smooth", image, labels, np.array([-7.0, 3.0], np.float32)[:channels])


def test_a_patch_is_what_scipy_reads_through_the_same_map():
    case = smooth_case()
    recipe = PatchRecipe((16, 12, 14), (1.0, 1.0, 2.0), (0, 2), 0.5, Augmentation(rotation=1, scaling=1))
    for seed in range(4):
        rng = generator(seed, 0, "patch", 0)
        matrix = random_matrix(recipe, rng)
        centre = np.array([15.0, 12.5, 17.0])
        image, labels = extract(case, centre, matrix, recipe.size)
        offset = centre - matrix @ ((np.array(recipe.size) - 1) / 2)
        for channel in range(2):
            expected = ndimage.affine_transform(
                case.image[channel].astype(np.float64), matrix, offset, recipe.size, order=1, mode="constant", cval=np.nan
            )
            inside = np.isfinite(expected)
            assert inside.mean() > 0.5
            np.testing.assert_allclose(image[channel][inside], expected[inside], atol=1e-5)
        nearest = ndimage.affine_transform(case.labels, matrix, offset, recipe.size, order=0, mode="constant", cval=0)
        assert np.mean(nearest != labels) < 1e-3  # ties at half a voxel


def test_rotation_and_scaling_are_in_mm_and_mirroring_is_a_flip():
    recipe = PatchRecipe((16, 16, 16), (4.0, 1.0, 2.0), (), 0.5, Augmentation(rotation=1, scaling=0))
    spacing = np.diag([4.0, 1.0, 2.0])
    turn = spacing @ random_matrix(recipe, generator(1, 0, "patch", 0)) @ np.linalg.inv(spacing)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert abs(turn - np.eye(3)).max() > 0.05
    angle = np.degrees(np.arccos((np.trace(turn) - 1) / 2))
    assert angle < 20 * np.sqrt(3) + 1e-6
    flips = {
        tuple(np.diag(random_matrix(replace(recipe, mirror_axes=(0, 2), augmentation=NONE), generator(s, 0, "patch", 0))))
        for s in range(40)
    }
    assert flips == {(a, 1.0, c) for a in (1.0, -1.0) for c in (1.0, -1.0)}
    scales = [
        np.diag(random_matrix(replace(recipe, augmentation=NONE.model_copy(update={"scaling": 1.0})), generator(s, 0, "patch", 0)))
        for s in range(60)
    ]
    assert 0.8 - 1e-9 <= np.min(scales) < 0.85
    assert 1.2 < np.max(scales) <= 1.25 + 1e-9


def test_a_flat_patch_is_turned_within_its_plane_only():
    recipe = PatchRecipe((4, 32, 32), (5.0, 1.0, 1.0), (), 0.5, Augmentation(rotation=1, scaling=0))
    matrix = random_matrix(recipe, generator(0, 0, "patch", 0))
    np.testing.assert_allclose(matrix[0], [1, 0, 0], atol=1e-12)
    assert abs(matrix[1, 2]) > 0.01


def test_without_changes_a_patch_is_a_crop_and_outside_is_background():
    case = smooth_case((10, 40, 40))
    recipe = PatchRecipe((16, 16, 16), (1.0, 1.0, 1.0), (), 0.0, None)
    image, labels = draw_patch(case, {}, recipe, generator(0, 0, "patch", 0))
    rows = [n for n in range(16) if not bool((image[0, n] == -7).all())]
    assert len(rows) == 10
    assert bool((image[1, [n for n in range(16) if n not in rows]] == 3).all())
    found = [
        (j, i) for j in range(25) for i in range(25) if np.array_equal(case.image[:, :, j : j + 16, i : i + 16], image[:, rows].numpy())
    ]
    assert len(found) == 1
    j, i = found[0]
    np.testing.assert_array_equal(labels[rows].numpy(), case.labels[:, j : j + 16, i : i + 16])
    assert image.dtype == torch.float32
    assert labels.dtype == torch.uint8


def test_every_label_is_equally_often_in_the_middle_however_small():
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[5:25, 5:25, 5:25] = 1
    labels[33, 33, 33] = 2
    labels[0, 0, 0] = IGNORE
    places = foreground_places(labels)
    assert sorted(places) == [1, 2]
    rng = np.random.default_rng(0)
    starts = [np.asarray(patch_centre(labels.shape, (8, 8, 8), places, 1.0, rng) - 3.5, int) for _ in range(300)]
    holds = [{*np.unique(labels[s[0] : s[0] + 8, s[1] : s[1] + 8, s[2] : s[2] + 8])} for s in starts]
    assert all({1, 2} & numbers for numbers in holds)
    assert 100 < sum(2 in numbers for numbers in holds) < 200
    free = [patch_centre(labels.shape, (8, 8, 8), places, 0.0, rng) - 3.5 for _ in range(300)]
    assert np.min(free) == 0
    assert np.max(free) == 32


def test_places_are_those_of_the_labels_and_many_labels_keep_fewer():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 101, (40, 60, 70)).astype(np.uint8)
    labels[0] = IGNORE
    places = foreground_places(labels)
    assert sorted(places) == list(range(1, 101))
    assert all(len(found) == 1000 for found in places.values())
    assert all((labels[tuple(found.T)] == number).all() for number, found in places.items())
    few = np.where(labels == 3, labels, 0).astype(np.uint8)
    np.testing.assert_array_equal(foreground_places(few)[3], np.argwhere(few))
    assert foreground_places(np.zeros((3, 3, 3), np.uint8)) == {}


@pytest.mark.parametrize("name", INTENSITY)
def test_each_change_of_intensities_changes_the_image_and_is_repeatable(name):
    image = torch.from_numpy(smooth_case().image * 5)
    augmentation = NONE.model_copy(update={name: 1.0})
    first = change_intensities(image.clone(), augmentation, generator(0, 0, "patch", 1))
    again = change_intensities(image.clone(), augmentation, generator(0, 0, "patch", 1))
    other = change_intensities(image.clone(), augmentation, generator(0, 0, "patch", 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert type(first) is torch.Tensor
    assert bool(torch.isfinite(first).all())
    correlation = float(torch.corrcoef(torch.stack([first.flatten(), image.flatten()]))[0, 1])
    assert 0.5 < correlation < 1 + 1e-6


def test_batches_do_not_depend_on_when_or_by_whom_they_are_made():
    cases = [toy_case(n) for n in range(3)]
    source = BatchSource.of_cases(cases, PatchRecipe.of_plan(toy_plan()), 2, seed=4, fold=1)
    expected = {step: source.batch(step) for step in (4, 3, 2, 1, 0)}
    for threads in (1, 3):
        for step, (images, labels) in enumerate(prefetched(source, (1, 5), threads), 1):
            assert torch.equal(images, expected[step][0])
            assert torch.equal(labels, expected[step][1])
    other = BatchSource.of_cases(cases, PatchRecipe.of_plan(toy_plan()), 2, seed=4, fold=2)
    assert not torch.equal(other.batch(0)[0], expected[0][0])


def test_processes_share_a_batch_between_them():
    cases = [toy_case(n) for n in range(3)]
    recipe = PatchRecipe.of_plan(toy_plan())
    whole = BatchSource.of_cases(cases, recipe, 2, seed=0, fold=0).batch(5)[0]
    parts = [BatchSource.of_cases(cases, recipe, 1, seed=0, fold=0, place=(rank, 2)).batch(5)[0] for rank in (0, 1)]
    assert torch.equal(torch.cat(parts), whole)


def test_every_case_comes_once_before_any_comes_again():
    seen = [case for step in range(7) for case in cases_of_step(7, 3, step, seed=0, fold=0)]
    assert [sorted(seen[n : n + 7]) for n in (0, 7, 14)] == [list(range(7))] * 3
    assert seen[:7] != seen[7:14]
