"""Clustering and classifying by texture: structures of one brightness told apart, scribbles followed, the same answer each time."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import GeometryMismatchError, InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.segmentation.classical.pixel_classifier import PixelClassifierParams, pixel_classifier
from medseg.segmentation.classical.texture_clustering import TextureClusteringParams, centres, texture_clustering
from medseg.segmentation.segment import segment as run

SHAPE = (48, 32, 16)
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def striped(affine: np.ndarray = AFFINE) -> tuple[Volume, np.ndarray]:
    """Two halves of the same mean and noise; one has stripes of 8 mm along the first axis."""
    geometry = Geometry(SHAPE, affine)
    along = np.arange(SHAPE[0]) * geometry.spacing_mm[0]
    half = np.zeros(SHAPE, bool)
    half[:, 16:] = True
    array = np.random.default_rng(0).normal(100, 4, SHAPE) + np.where(half, 25 * np.sin(2 * np.pi * along / 8)[:, None, None], 0)
    return Volume(array.astype(np.float32), geometry, "MR"), half


def agreement(one: np.ndarray, other: np.ndarray) -> float:
    """Share of voxels that agree, 5 mm away from where the halves meet: a texture is gathered over some mm."""
    clear = np.ones(SHAPE, bool)
    clear[:, 11:21] = False
    return max(float((one == other)[clear].mean()), float((one != other)[clear].mean()))


@pytest.mark.parametrize("features", [["gabor"], ["deviation"], ["pattern"], ["tensor"], ["gabor", "deviation", "pattern"]])
def test_stripes_are_told_from_noise_of_the_same_brightness(features: list[str]) -> None:
    scan, half = striped()
    found = texture_clustering(scan, TextureClusteringParams(classes=2, features=features, scale_mm=3, wavelength_mm=8))
    assert agreement(found.array == 2, half) > 0.97
    assert found.array.min() == 1


def test_classes_are_numbered_from_dark_to_bright_whatever_the_channel_order() -> None:
    array = np.zeros((30, 12, 12), np.int16)
    array[10:20], array[20:] = 200, 90
    scan = Volume(array, Geometry(array.shape, np.eye(4)))
    found = texture_clustering(scan, TextureClusteringParams(classes=3, features=["intensity"], scale_mm=0.5))
    assert found.array[[4, 14, 25], 6, 6].tolist() == [1, 3, 2]
    assert [segment.label for segment in found.segments] == ["texture_1", "texture_2", "texture_3"]


def test_channels_mask_and_limits_count() -> None:
    scan, half = striped()
    flat = scan.with_array(np.full(SHAPE, 50, np.int16))
    one = texture_clustering(scan, TextureClusteringParams(classes=2, features=["deviation"], scale_mm=3))
    two = texture_clustering((scan, flat), TextureClusteringParams(classes=2, features=["deviation"], scale_mm=3))
    assert agreement(one.array == 2, two.array == 2) > 0.999
    mask = LabelMap(half.astype(np.uint8), scan.geometry, (Segment(1, "half"),))
    inside = texture_clustering(scan, TextureClusteringParams(classes=2, features=["deviation"], mask=mask))
    assert np.array_equal(inside.array > 0, half)
    with pytest.raises(InputError, match="no voxel lies inside"):
        texture_clustering(scan, TextureClusteringParams(lower=1e6))


def test_a_constant_scan_cannot_be_parted() -> None:
    with pytest.raises(InputError, match="1 different textures"):
        texture_clustering(Volume(np.full((8, 8, 8), 20, np.int16), Geometry((8, 8, 8), np.eye(4))), TextureClusteringParams())


def test_centres_are_a_fixed_point_of_k_means() -> None:
    samples = np.concatenate([np.random.default_rng(n).normal(5 * n, 1, (200, 3)) for n in range(4)])
    found = centres(samples, 4)
    nearest = ((samples[:, None] - found[None]) ** 2).sum(axis=-1).argmin(axis=1)
    assert np.allclose([samples[nearest == n].mean(axis=0) for n in range(4)], found, atol=1e-5)
    assert np.allclose(np.sort(found[:, 0]), [0, 5, 10, 15], atol=0.4)


def scribbled(geometry: Geometry) -> LabelMap:
    marks = np.zeros(SHAPE, np.uint8)
    marks[6:40:3, 24:28, 7:9] = 4
    marks[6:40:3, 4:8, 7:9] = 2
    return LabelMap(marks, geometry, (Segment(4, "tumour", colour=(1, 2, 3)), Segment(2, "background")))


def test_the_classifier_follows_scribbles_and_keeps_their_segments() -> None:
    scan, half = striped()
    found = pixel_classifier(scan, PixelClassifierParams(scribbles=scribbled(scan.geometry), trees=20))
    assert agreement(found.array == 4, half) > 0.97
    (segment,) = found.segments
    assert (segment.number, segment.label, segment.colour, segment.algorithm) == (4, "tumour", (1, 2, 3), "pixel-classifier")
    (finding,) = [finding for finding in found.findings if finding.code == "CLASSIFIER_TRAINED"]
    assert finding.details["voxels"] == {"background": 96, "tumour": 96}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_forest_is_the_same_for_a_flipped_scan_and_on_every_run(axis: int) -> None:
    scan, _ = striped()
    scribbles = scribbled(scan.geometry)
    turned = AFFINE.copy()
    turned[:3, 3] += AFFINE[:3, axis] * (SHAPE[axis] - 1)
    turned[:3, axis] *= -1
    grid = Geometry(SHAPE, turned)
    params = {"trees": 8, "sigmas_mm": [1.0, 2.0]}
    one = pixel_classifier(scan, PixelClassifierParams(scribbles=scribbles, **params)).array
    again = pixel_classifier(scan, PixelClassifierParams(scribbles=scribbles, **params)).array
    flipped = Volume(np.flip(scan.array, axis), grid)
    other = pixel_classifier(
        flipped, PixelClassifierParams(scribbles=LabelMap(np.flip(scribbles.array, axis), grid, scribbles.segments), **params)
    ).array
    assert np.array_equal(one, again)
    assert (np.flip(other, axis) != one).mean() < 2e-3  # slopes are rounded to float32: a few voxels stand on a fence


def test_unlikely_voxels_stay_unlabelled() -> None:
    scan, _ = striped()
    values = {"scribbles": scribbled(scan.geometry), "trees": 20}
    every = pixel_classifier(scan, PixelClassifierParams(**values)).array
    sure = pixel_classifier(scan, PixelClassifierParams(**values, least_probability=0.95)).array
    assert 0 < sure.astype(bool).sum() < every.astype(bool).sum()
    assert not (sure.astype(bool) & ~every.astype(bool)).any()


def test_nan_stays_unlabelled_and_scribbles_on_it_do_not_count() -> None:
    scan, _ = striped()
    array = scan.array.copy()
    array[:, 24:28, 7:9] = np.nan
    with pytest.raises(InputError, match="only one segment has a scribble"):
        pixel_classifier(scan.with_array(array), PixelClassifierParams(scribbles=scribbled(scan.geometry)))
    array = scan.array.copy()
    array[0, :, 0] = np.nan
    found = pixel_classifier(scan.with_array(array), PixelClassifierParams(scribbles=scribbled(scan.geometry), trees=5)).array
    assert not found[0, :, 0].any()


def test_scribbles_on_another_grid_are_refused() -> None:
    scan, _ = striped()
    with pytest.raises(GeometryMismatchError):
        pixel_classifier(scan, PixelClassifierParams(scribbles=scribbled(Geometry(SHAPE, np.diag([1.0, 1, 2.1, 1])))))


@pytest.mark.parametrize("chosen", [{"seed": 2**32}, {"seed": -1}, {"sigmas_mm": [-1.0]}, {"sigmas_mm": [1.0, 101.0]}, {"sigmas_mm": []}])
def test_impossible_parameters_of_the_classifier_are_refused(chosen: dict[str, object]) -> None:
    scan, _ = striped()
    with pytest.raises(ParameterError, match="pixel-classifier: "):
        run(scan, "pixel-classifier", scribbles=scribbled(scan.geometry), **chosen)


def test_more_segments_than_a_forest_tells_apart_are_refused() -> None:
    scan, _ = striped()
    marks = np.zeros(SHAPE, np.uint16)
    marks.ravel(order="K")[:251] = np.arange(1, 252)
    scribbles = LabelMap(marks, scan.geometry, tuple(Segment(n, f"object {n}") for n in range(1, 252)))
    with pytest.raises(InputError, match="251 segments are scribbled, and a forest tells at most 250 apart"):
        pixel_classifier(scan, PixelClassifierParams(scribbles=scribbles))
