from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import felzenszwalb as skimage_felzenszwalb

from medseg.kernels.graph_regions import graph_regions

SHEARED = np.array([[0.9, 0.0, 0.4], [0.0, 1.6, 0.2], [0.1, 0.0, 2.1]])


def plain(image: NDArray[Any], world: NDArray[Any], scale: float, small: int, most: int) -> NDArray[Any]:
    """The paper written down simply: sorted edges, sets of voxels."""
    steps = [step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0) and sum(map(abs, step)) <= most]
    edges = []
    for at in np.ndindex(*image.shape):
        for step in steps:
            there = tuple(a + b for a, b in zip(at, step, strict=True))
            if all(0 <= n < length for n, length in zip(there, image.shape, strict=True)):
                edges.append((abs(float(image[at]) - float(image[there])) / np.linalg.norm(world @ step), at, there))
    edges.sort(key=lambda edge: edge[0])
    region = {at: (at,) for at in np.ndindex(*image.shape)}
    inner = {(at,): 0.0 for at in region}
    volume = abs(np.linalg.det(world))

    def join(one: Any, other: Any, change: float) -> None:
        both = one + other
        inner[both] = change
        for at in both:
            region[at] = both

    for change, at, there in edges:
        one, other = region[at], region[there]
        if one is not other and change <= min(inner[g] + scale / (len(g) * volume) for g in (one, other)):
            join(one, other, change)
    for change, at, there in edges:
        one, other = region[at], region[there]
        if one is not other and min(len(one), len(other)) < small:
            join(one, other, change)
    numbers = {key: n for n, key in enumerate(dict.fromkeys(region[at] for at in np.ndindex(*image.shape)), 1)}
    return np.array([numbers[region[at]] for at in np.ndindex(*image.shape)]).reshape(image.shape)


@pytest.mark.parametrize(("connectivity", "most"), [(6, 1), (18, 2), (26, 3)])
@pytest.mark.parametrize("world", [np.eye(3), np.diag([2.5, 1.1, 0.8]), SHEARED])
def test_equal_to_the_paper_written_down_simply(world: NDArray[Any], connectivity: Any, most: int, rng: np.random.Generator) -> None:
    """Smooth noise: weights of all sizes. Those so close that their order is not kept would show as other regions."""
    image = (ndimage.gaussian_filter(rng.normal(0, 1, (6, 9, 11)), 1) * 100).astype(np.float32)
    for scale, small in ((5.0, 0), (40.0, 0), (10.0, 12)):
        labels, count = graph_regions(image[None], world, scale, small, connectivity)
        expected = plain(image, world, scale, small, most)
        agree = ndimage.mean(labels == expected)
        assert count == expected.max()
        assert agree == 1.0
        assert 1 < count < 0.7 * image.size


@pytest.mark.parametrize("scale", [0.5, 3.0, 20.0])
def test_equal_to_scikit_image_on_a_line(scale: float, rng: np.random.Generator) -> None:
    """scikit-image does planes with 8 neighbours whose diagonals count as one step: on a line both have the same graph."""
    line = np.cumsum(rng.normal(0, 1, 400)) + 10 * (np.arange(400) > 200)
    expected = skimage_felzenszwalb(line[None], scale=scale * 255, sigma=0, min_size=0, channel_axis=None)
    labels, count = graph_regions(line[None, None, None], np.eye(3), scale)
    borders = np.diff(expected[0]) != 0
    assert count == borders.sum() + 1
    assert np.array_equal(np.diff(labels[0, 0].astype(int)) != 0, borders)


def test_channels_count_together() -> None:
    """Each channel alone shows one border, both together two."""
    one, other = np.zeros((1, 4, 12)), np.zeros((1, 4, 12))
    one[..., 4:] = 30
    other[..., 8:] = 40
    counts = [graph_regions(np.stack(channels), np.eye(3), 5.0)[1] for channels in ([one], [other], [one, other])]
    assert counts == [2, 2, 3]


def test_regions_are_connected_and_nothing_crosses_a_wall_of_nan(rng: np.random.Generator) -> None:
    image = ndimage.gaussian_filter(rng.normal(0, 1, (12, 20, 22)), 1.2).astype(np.float32)
    image[:, 9] = np.nan
    labels, count = graph_regions(image[None], np.eye(3), 0.3, 20)
    assert not labels[:, 9].any()
    assert sorted(np.unique(labels)) == list(range(count + 1))
    for number in range(1, count + 1):
        assert ndimage.label(labels == number)[1] == 1
        assert (labels == number).sum() >= 20
    assert not set(np.unique(labels[:, :9])) & set(np.unique(labels[:, 10:])) - {0}


def test_a_constant_image_is_one_region_and_wrong_numbers_raise() -> None:
    assert graph_regions(np.zeros((1, 3, 4, 5)), np.eye(3), 0)[1] == 1
    assert graph_regions(np.full((1, 2, 2, 2), np.nan), np.eye(3), 1)[1] == 0
    with pytest.raises(ValueError, match="scale"):
        graph_regions(np.zeros((1, 3, 4, 5)), np.eye(3), -1)
    with pytest.raises(ValueError, match="channels"):
        graph_regions(np.zeros((3, 4, 5)), np.eye(3), 1)
