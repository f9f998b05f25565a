from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from skimage.exposure import match_histograms

from medseg.core.errors import InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.preprocessing.preprocess import preprocess
from medseg.preprocessing.standard_scale import NYUL_PERCENTILES, learn_landmarks, learn_quantiles

SHAPE = (16, 17, 18)


def scan(seed: int, gain: float = 1.0, offset: float = 0.0) -> Volume:
    rng = np.random.default_rng(seed)
    array = np.where(rng.random(SHAPE) < 0.6, rng.normal(60, 8, SHAPE), rng.normal(120, 15, SHAPE))
    return Volume((gain * array + offset).astype(np.float32), Geometry(SHAPE, np.eye(4)), "MR")


def test_matching_is_that_of_scikit_image() -> None:
    """They map every intensity of the scan to the reference's distribution, we 1001 quantiles of it."""
    moved, reference = scan(1, 3.0, 40), scan(2)
    found = preprocess(moved, "histogram-matching", reference_quantiles=learn_quantiles(reference, 1001))
    expected = match_histograms(moved.array, reference.array)
    assert np.abs(found.array - expected).mean() < 0.05
    assert np.quantile(np.abs(found.array - expected), 0.999) < 1.5


def test_matching_a_real_scan_to_itself_with_another_gain(ct: Volume) -> None:
    array = ct.array.astype(np.float32)
    other = ct.with_array(0.37 * array + 90)
    found = preprocess(other, "histogram-matching", reference_quantiles=learn_quantiles(ct, 501))
    assert np.abs(found.array - array).max() < 0.01


def test_it_brings_the_histogram_as_close_as_itk_does() -> None:
    moved, reference = scan(1, 3.0, 40), scan(2)
    found = preprocess(moved, "histogram-matching", reference_quantiles=learn_quantiles(reference, 21)).array
    images = [sitk.GetImageFromArray(volume.array.T) for volume in (moved, reference)]
    theirs = sitk.GetArrayFromImage(sitk.HistogramMatching(*images, 256, 19, False))
    at = np.linspace(0.01, 0.99, 50)
    wanted = np.quantile(reference.array, at)
    assert np.abs(np.quantile(found, at) - wanted).max() <= np.abs(np.quantile(theirs, at) - wanted).max() + 0.2


def test_voxels_that_do_not_count_stay() -> None:
    volume = scan(1)
    array = volume.array.copy()
    array[:5] = 0
    found = preprocess(volume.with_array(array), "histogram-matching", reference_quantiles=[1000, 1500, 2000], above=0)
    assert not found.array[:5].any()
    assert found.array[5:].min() == pytest.approx(1000)
    assert found.array.max() == pytest.approx(2000)


def test_landmarks_are_the_means_of_scaled_percentiles() -> None:
    volumes = [scan(1), scan(2, 3.0, 40), scan(3, 0.2)]
    rows = []
    for volume in volumes:
        own = np.percentile(volume.array.astype(np.float64), NYUL_PERCENTILES)
        rows.append((own - own[0]) / (own[-1] - own[0]) * 100)
    assert np.allclose(learn_landmarks(volumes), np.mean(rows, axis=0), atol=1e-4)


def test_scans_of_other_gain_and_offset_fall_together_on_the_standard_scale() -> None:
    volumes = [scan(1), scan(2, 3.0, 40), scan(3, 0.2)]
    landmarks = learn_landmarks(volumes)
    one = preprocess(scan(7), "nyul", landmarks=landmarks)
    other = preprocess(scan(7, 11.0, -300), "nyul", landmarks=landmarks)
    assert one.array.dtype == np.float32
    assert np.allclose(one.array, other.array, atol=1e-2)
    found = np.percentile(one.array, NYUL_PERCENTILES)
    assert np.allclose(found, landmarks, atol=0.05)
    assert (np.diff(one.array.ravel()[np.argsort(scan(7).array.ravel(), kind="stable")]) >= -1e-4).all()


def test_beyond_the_ends_the_outermost_slopes_go_on() -> None:
    values = np.arange(101.0)
    landmarks = [10.0 * n**1.5 for n in range(11)]
    volume = Volume(values.reshape(1, 1, 101), Geometry((1, 1, 101), np.eye(4)))
    found = preprocess(volume, "nyul", landmarks=landmarks).array.ravel()
    low, high = (landmarks[1] - landmarks[0]) / 9, (landmarks[10] - landmarks[9]) / 9
    assert found[0] == pytest.approx(landmarks[0] - low, rel=1e-4)
    assert found[100] == pytest.approx(landmarks[10] + high, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "chosen"), [("nyul", {"landmarks": list(range(11))}), ("histogram-matching", {"reference_quantiles": [2, 8]})]
)
def test_poor_scans_get_a_defined_answer(name: str, chosen: dict[str, object]) -> None:
    grid = Geometry((1, 1, 4), np.eye(4))
    flat = preprocess(Volume(np.full((1, 1, 4), 7, np.int16), grid), name, **chosen)
    assert flat.array.ravel().tolist() == [5.0] * 4
    found = preprocess(Volume(np.array([[[np.nan, 1.0, 2.0, np.inf]]]), grid), name, **chosen).array.ravel()
    assert np.isnan(found[0])
    assert np.isfinite(found[1:3]).all()
    with pytest.raises(InputError, match="no finite intensity"):
        preprocess(Volume(np.full((1, 1, 4), np.nan), grid), name, **chosen)
    with pytest.raises(InputError, match="no finite intensity above 100"):
        preprocess(Volume(np.zeros((1, 1, 4)), grid), name, above=100, **chosen)


def test_impossible_parameters_are_refused() -> None:
    flat = Volume(np.zeros((1, 1, 4)), Geometry((1, 1, 4), np.eye(4)))
    for chosen in ({}, {"landmarks": [0, 1]}, {"landmarks": [0.0] * 11}):
        with pytest.raises(ParameterError, match="nyul: "):
            preprocess(flat, "nyul", **chosen)
    for chosen in ({}, {"reference_quantiles": [1]}, {"reference_quantiles": [2, 1]}):
        with pytest.raises(ParameterError, match="histogram-matching: "):
            preprocess(flat, "histogram-matching", **chosen)
    with pytest.raises(InputError, match="scan 1 has one intensity only"):
        learn_landmarks([flat])
    with pytest.raises(InputError, match="no scan was given"):
        learn_landmarks([])
    with pytest.raises(ParameterError, match="does not rise"):
        learn_landmarks([scan(1)], scale=(1, 1))
    with pytest.raises(ParameterError, match="at least 2 quantiles"):
        learn_quantiles(scan(1), 1)
