from __future__ import annotations

import subprocess
import sys
from collections import defaultdict, deque
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from medseg.kernels.watershed import watershed


def itk_watershed(image: NDArray[Any], markers: NDArray[Any], connectivity: int, lines: bool = False) -> NDArray[Any]:
    flooded = sitk.MorphologicalWatershedFromMarkers(
        sitk.GetImageFromArray(image), sitk.GetImageFromArray(markers), markWatershedLine=lines, fullyConnected=connectivity == 26
    )
    return sitk.GetArrayFromImage(flooded)


def markers_in(rng: np.random.Generator, shape: tuple[int, ...], dtype: str = "uint8") -> NDArray[Any]:
    markers = (rng.integers(1, 9, shape) * (rng.random(shape) < 0.02)).astype(dtype)
    markers.flat[rng.integers(markers.size)] = 9
    return markers


@pytest.mark.parametrize("connectivity", [6, 26])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_equal_to_itk_on_noise_with_and_without_plateaus(
    shape: tuple[int, int, int], dtype: str, connectivity: Any, rng: np.random.Generator
) -> None:
    for height in (3, 100):
        image = rng.integers(0, height, shape).astype(dtype)
        image = image * np.float64(0.37) - 11 if np.dtype(dtype).kind == "f" else image
        image, markers = image.astype(dtype), markers_in(rng, shape)
        for lines in (False, True):
            found = watershed(image, markers, connectivity, lines=lines)
            assert np.array_equal(found, itk_watershed(image, markers, connectivity, lines))


@pytest.mark.parametrize("dtype", ["int32", "float32", "float64"])
@pytest.mark.parametrize("signed", [False, True])
def test_any_number_of_levels_is_flooded_as_itk_does(dtype: str, signed: bool, rng: np.random.Generator) -> None:
    """Nearly every voxel has a height of its own, over many powers of two; some heights are repeated."""
    image = (
        np.exp(np.clip(rng.normal(0, 4, (31, 40, 70)), -9, 9))
        * (2e5 if dtype == "int32" else 1)
        * (rng.choice([-1, 1], (31, 40, 70)) if signed else 1)
    )
    image[rng.random(image.shape) < 0.05] = 17
    image = image.astype(dtype)
    assert len(np.unique(image)) > 65_536
    markers = markers_in(rng, image.shape)
    for lines in (False, True):
        assert np.array_equal(watershed(image, markers, lines=lines), itk_watershed(image, markers, 6, lines))


def gradient_of(ct: NDArray[Any]) -> NDArray[Any]:
    smooth = sitk.DiscreteGaussian(sitk.Cast(sitk.GetImageFromArray(ct), sitk.sitkFloat32), 1.0)
    return sitk.GetArrayFromImage(sitk.GradientMagnitude(smooth))


@pytest.mark.parametrize("connectivity", [6, 26])
def test_equal_to_itk_on_the_gradient_of_a_real_ct(ct: NDArray[Any], connectivity: Any, rng: np.random.Generator) -> None:
    relief, markers = gradient_of(ct), (rng.integers(1, 250, ct.shape) * (rng.random(ct.shape) < 5e-4)).astype(np.uint8)
    assert len(np.unique(relief)) > 65_536
    for levels in (np.round(relief).astype(np.uint16), relief):
        for lines in (False, True):
            found = watershed(levels, markers, connectivity, lines=lines)
            assert np.array_equal(found, itk_watershed(levels, markers, connectivity, lines))


def test_memory_is_the_result_and_what_waits(tmp_path: Path) -> None:
    """In a process of its own: 2 or 4 bytes a voxel and what waits, the result included; ITK takes more than 4 for integers."""
    program = tmp_path / "flood.py"
    program.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from medseg.kernels.filters import gaussian\n"
        "from medseg.kernels.watershed import watershed\n"
        "def status(key):\n"
        "    lines = Path('/proc/self/status').read_text().splitlines()\n"
        "    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024\n"
        "relief = gaussian(np.random.default_rng(1).normal(500, 900, (160, 160, 160)), (2, 2, 2))\n"
        "relief -= relief.min()\n"
        "markers = np.zeros(relief.shape, np.uint8)\n"
        "markers[20::40, 20::40, 20::40] = np.arange(64).reshape(4, 4, 4) + 1\n"
        "relief = relief if sys.argv[1] == 'float' else (5 * relief).astype(np.uint16)\n"
        "watershed(relief[:9, :9, :9].copy(), markers[20:29, 20:29, 20:29].copy())\n"
        "Path('/proc/self/clear_refs').write_text('5')\n"
        "before = status('VmRSS')\n"
        "labels = watershed(relief, markers)\n"
        "print((status('VmHWM') - before) / relief.size)\n"
    )
    for kind, most in (("integer", 2.5), ("float", 6)):
        done = subprocess.run([sys.executable, str(program), kind], capture_output=True, text=True, check=True)
        assert float(done.stdout) < most, kind


def plain_watershed(image: NDArray[Any], markers: NDArray[Any], steps: list[tuple[int, ...]], mask: NDArray[Any]) -> NDArray[Any]:
    """Meyer's flooding written down simply: a queue for each level, taken from the lowest up."""
    labels = np.where(mask, markers, 0)
    queues: dict[int, deque[tuple[int, ...]]] = defaultdict(deque)
    for at in map(tuple, np.argwhere(labels)):
        queues[int(image[at])].append(at)
    while queues:
        level = min(queues)
        queue = queues[level]
        while queue:
            at = queue.popleft()
            for step in steps:
                there = tuple(a + b for a, b in zip(at, step, strict=True))
                if all(0 <= n < length for n, length in zip(there, image.shape, strict=True)) and mask[there] and not labels[there]:
                    labels[there] = labels[at]
                    queues[max(int(image[there]), level)].append(there)
        del queues[level]
    return labels


@pytest.mark.parametrize(("connectivity", "most"), [(6, 1), (18, 2), (26, 3)])
@pytest.mark.parametrize("height", [5, 5000])
def test_a_mask_and_18_neighbours(connectivity: Any, most: int, height: int, rng: np.random.Generator) -> None:
    image = rng.integers(0, height, (9, 10, 11)).astype(np.uint16)
    markers, mask = markers_in(rng, image.shape), rng.random(image.shape) < 0.7
    steps = [step for step in product((-1, 0, 1), repeat=3) if 0 < sum(map(abs, step)) <= most]
    assert np.array_equal(watershed(image, markers, connectivity, mask=mask), plain_watershed(image, markers, steps, mask))


@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_lines_part_the_basins_and_only_them(connectivity: Any, rng: np.random.Generator) -> None:
    image = ndimage.gaussian_filter(rng.normal(0, 1, (20, 21, 22)), 1.5)
    markers, _ = ndimage.label(ndimage.minimum_filter(image, 5) == image, np.ones((3, 3, 3)))
    mask = rng.random(image.shape) < 0.95
    labels = watershed(image, markers.astype(np.uint16), connectivity, mask, lines=True)
    near = ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity])
    highest = ndimage.maximum_filter(labels, footprint=near, mode="constant")
    lowest = ndimage.minimum_filter(np.where(labels == 0, 999, labels), footprint=near, mode="constant", cval=999)
    assert not ((labels > 0) & (highest != lowest)).any()  # no two basins touch
    on_line = (labels == 0) & mask
    assert on_line.sum() > 500
    flooded = watershed(image, markers.astype(np.uint16), connectivity, mask)
    reached = on_line & (flooded > 0)
    assert (highest[reached] != lowest[reached]).mean() > 0.9  # nearly every line voxel touches two basins (some are enclosed by lines)
    assert not labels[~mask].any()


def test_flooding_order_on_a_line() -> None:
    relief = np.array([[[0, 3, 9, 2, 1, 0, 5]]], np.uint8)
    markers = np.array([[[1, 0, 0, 0, 0, 2, 0]]], np.uint8)
    assert watershed(relief, markers).tolist() == [[[1, 1, 2, 2, 2, 2, 2]]]
    assert np.array_equal(watershed(relief, markers), itk_watershed(relief, markers, 6))


def test_a_mask_is_a_wall_and_markers_behind_it_do_not_count() -> None:
    relief = np.zeros((1, 1, 7), np.int16)
    markers = np.array([[[1, 0, 0, 0, 2, 0, 3]]], np.uint16)
    mask = np.array([[[1, 1, 0, 1, 0, 1, 1]]], bool)
    assert watershed(relief, markers, mask=mask).tolist() == [[[1, 1, 0, 0, 0, 3, 3]]]


def test_the_dtype_of_the_markers_is_kept() -> None:
    for dtype in (np.uint8, np.uint16, np.int32, np.int64):
        labels = watershed(np.zeros((2, 2, 2), np.uint8), np.array([[[1, 0], [0, 0]], [[0, 0], [0, 0]]], dtype))
        assert labels.dtype == dtype
        assert (labels == 1).all()


@pytest.mark.parametrize("most", [65_534, 65_535, 65_536, 2**31, 2**40])
def test_large_marker_numbers(most: int) -> None:
    markers = np.array([[[most, 0, 0, 7]]], np.int64)
    assert watershed(np.array([[[0, 1, 1, 0]]], np.uint8), markers).tolist() == [[[most, most, 7, 7]]]


def test_more_queues_than_a_chunk_holds(rng: np.random.Generator) -> None:
    """One level for all voxels and one for each: chunks are filled, given back and used again."""
    for image in (np.zeros((20, 30, 40), np.uint8), rng.permutation(24_000).reshape(20, 30, 40).astype(np.uint16)):
        markers = markers_in(rng, image.shape)
        assert np.array_equal(watershed(image, markers), itk_watershed(image, markers, 6))


def test_the_full_range_of_16_bits_and_negative_values() -> None:
    image = np.array([[[-32768, 32767, 0, -5]]], np.int16)
    markers = np.array([[[1, 0, 0, 2]]], np.uint8)
    assert watershed(image, markers).tolist() == [[[1, 1, 2, 2]]]


def test_voxels_that_are_not_finite_are_flooded_last_or_first() -> None:
    image = np.array([[[0.5, np.nan, 0.5, 2.0, 0.0]]], np.float32)
    markers = np.array([[[1, 0, 0, 0, 2]]], np.uint8)
    assert watershed(image, markers).tolist() == [[[1, 1, 2, 2, 2]]]
    assert watershed(np.full((1, 1, 3), np.nan), np.array([[[4, 0, 0]]], np.uint8)).tolist() == [[[4, 4, 4]]]


def test_zero_and_minus_zero_are_one_level() -> None:
    image = np.array([[[0.0, -0.0, 0.0, -0.0, 0.0]]])
    markers = np.array([[[1, 0, 0, 0, 2]]], np.uint8)
    assert watershed(image, markers).tolist() == itk_watershed(image, markers, 6).tolist()


def test_no_markers_leave_everything_empty() -> None:
    assert not watershed(np.ones((2, 3, 4), np.int16), np.zeros((2, 3, 4), np.uint8)).any()


def test_wrong_grids_and_numbers_raise() -> None:
    image = np.zeros((2, 2, 2), np.uint8)
    with pytest.raises(ValueError, match="markers"):
        watershed(image, np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="mask"):
        watershed(image, image, mask=np.zeros((2, 2, 3), bool))
    with pytest.raises(ValueError, match="negative"):
        watershed(image, np.full((2, 2, 2), -1))
    with pytest.raises(ValueError, match="connectivity"):
        watershed(image, image, 4)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="number them anew"):
        watershed(image, np.full((2, 2, 2), 2**50))
