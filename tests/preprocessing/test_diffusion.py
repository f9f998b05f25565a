from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import SimpleITK as sitk

from medseg.core.errors import GeometryError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.preprocessing.preprocess import preprocess


def test_without_edges_it_is_the_gaussian_of_scipy(right_angled: np.ndarray) -> None:
    """Many small steps of linear diffusion tend to the Gaussian; sampled on so few voxels they agree to a few per cent."""
    shape = (22, 20, 18)
    array = np.random.default_rng(1).normal(0, 100, shape)
    volume = Volume(array, Geometry(shape, right_angled))
    found = preprocess(volume, "anisotropic-diffusion", sigma_mm=3, edge=1e8)
    sigma = 3 / np.asarray(volume.geometry.spacing_mm)
    expected = scipy.ndimage.gaussian_filter(array, sigma, mode="reflect")  # nothing flows out, as with mirrors
    assert np.abs(found.array - expected).std() < 0.1 * expected.std()


def test_a_real_scan_keeps_its_edges_and_loses_noise_as_with_itk(ct: Volume) -> None:
    """ITK takes conductance from the whole gradient and scales it by its mean, so the two agree in kind, not voxel for voxel."""
    volume = Volume(ct.array[20:80, 20:80, :20], ct.geometry.cropped((20, 20, 0), (60, 60, 20)), "CT", "HU")
    found = preprocess(volume, "anisotropic-diffusion", sigma_mm=3, edge=60)
    image = sitk.GetImageFromArray(volume.array.T.astype(np.float32))
    theirs = sitk.GetArrayFromImage(
        sitk.GradientAnisotropicDiffusion(image, timeStep=0.0625, conductanceParameter=1.0, numberOfIterations=5)
    ).T
    gradient = scipy.ndimage.gaussian_gradient_magnitude(volume.array.astype(float), 1)
    edges, flat = gradient > np.percentile(gradient, 97), (gradient < np.median(gradient)) & (volume.array > -200)
    assert np.abs(found.array - volume.array)[edges].mean() < 0.05 * gradient[edges].mean()
    roughness = [scipy.ndimage.laplace(array.astype(float))[flat].std() for array in (volume.array, found.array, theirs)]
    assert roughness[1] < 0.5 * roughness[0]
    assert roughness[2] < 0.5 * roughness[0]
    assert np.corrcoef(found.array.ravel(), theirs.ravel())[0, 1] > 0.995


def test_a_sheared_grid_is_refused_with_a_way_out() -> None:
    affine = np.eye(4)
    affine[1, 2] = 0.3
    with pytest.raises(GeometryError, match=r"anisotropic-diffusion: .*16\.7 degrees off a right angle .* upright grid first"):
        preprocess(Volume(np.zeros((4, 4, 4)), Geometry((4, 4, 4), affine)), "anisotropic-diffusion")


def test_too_many_steps_are_refused() -> None:
    fine = Volume(np.zeros((4, 4, 4)), Geometry((4, 4, 4), np.diag([0.01, 1, 1, 1])))
    with pytest.raises(ParameterError, match=r"takes 13336 steps at a spacing of 0\.01 mm"):
        preprocess(fine, "anisotropic-diffusion")


@pytest.mark.parametrize("chosen", [{"sigma_mm": 0}, {"edge": -1}, {"edge": 0}, {"conductance": "linear"}, {"sigma_mm": float("inf")}])
def test_impossible_parameters_are_refused(chosen: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match="anisotropic-diffusion: "):
        preprocess(Volume(np.zeros((4, 4, 4)), Geometry((4, 4, 4), np.eye(4))), "anisotropic-diffusion", **chosen)
