"""Clean-up of masks: equal to MONAI's, which needs scikit-image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from medseg.segmentation.learned.bundle import cleaning

torch = pytest.importorskip("torch")
transforms = pytest.importorskip("monai.transforms")
pytest.importorskip("skimage")


@pytest.fixture(scope="module", params=["labels", "onehot", "binary"])
def image(request: pytest.FixtureRequest) -> np.ndarray:
    rng = np.random.default_rng(0)
    fields = np.stack([gaussian_filter(rng.normal(size=(24, 22, 20)), 1.2) for _ in range(3)])
    labels = fields.argmax(0).astype(np.uint8)
    return {
        "labels": labels[None],
        "onehot": np.stack([labels == n for n in range(3)]).astype(np.uint8),
        "binary": (fields[:1] > 0.02).astype(np.uint8),
    }[request.param]


def monai(transform: Any, image: np.ndarray) -> np.ndarray:
    return np.asarray(transform(torch.as_tensor(image.copy()).float()))


@pytest.mark.parametrize(
    "arguments",
    [{}, {"applied_labels": [1]}, {"applied_labels": [1, 2], "independent": False}, {"num_components": 3, "connectivity": 1}],
)
def test_largest_component(image: np.ndarray, arguments: dict[str, Any]) -> None:
    """The same components stay."""
    if image.max() < 2 and len(arguments.get("applied_labels", [])) == 2 and image.shape[0] == 1:
        arguments = {**arguments, "applied_labels": [1]}
    expected = monai(transforms.KeepLargestConnectedComponent(**arguments), image)
    assert np.array_equal(cleaning.keep_largest(image.copy(), **arguments), expected)
    assert not np.array_equal(expected, image)


@pytest.mark.parametrize("arguments", [{}, {"applied_labels": [1]}, {"connectivity": 1}])
def test_holes(image: np.ndarray, arguments: dict[str, Any]) -> None:
    """The same holes are filled."""
    assert np.array_equal(cleaning.fill_holes(image.copy(), **arguments), monai(transforms.FillHoles(**arguments), image))


@pytest.mark.parametrize("arguments", [{}, {"connectivity": 3}, {"independent_channels": False}])
@pytest.mark.parametrize("min_size", [7.5, 900.5, 1e6])
def test_small_objects(image: np.ndarray, arguments: dict[str, Any], min_size: float) -> None:
    """The same objects go (half sizes: versions of scikit-image disagree about equal ones)."""
    expected = monai(transforms.RemoveSmallObjects(min_size=min_size, **arguments), image)
    assert np.array_equal(cleaning.remove_small(image.copy(), min_size, **arguments), expected)
