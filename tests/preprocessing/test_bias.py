from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.core.errors import GeometryMismatchError, InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.preprocessing.preprocess import preprocess

SHAPE = (30, 28, 20)
QUICK = {"levels": 2, "iterations": 20, "working_spacing_mm": 7.5}  # the method as it is, but a coarse field soon found


def phantom(affine: np.ndarray) -> tuple[Volume, np.ndarray, np.ndarray]:
    """Two tissues in a ball, times a smooth field, in air; the scan, its tissues (0, 1, 2) and the field."""
    i, j, k = (np.linspace(-1, 1, n).reshape([-1 if m == axis else 1 for m in range(3)]) for axis, n in enumerate(SHAPE))
    ball = i**2 + j**2 + k**2 < 0.8
    tissue = np.where(ball, np.where((i - 0.2) ** 2 + j**2 + k**2 < 0.2, 2, 1), 0)
    field = np.exp(0.35 * i - 0.25 * j + 0.15 * k**2 + 0.1 * i * j)
    noise = np.random.default_rng(2).normal(0, 2, SHAPE)
    array = np.abs(np.choose(tissue, [0, 100, 180]) * field + noise)
    wide = affine.copy()
    wide[:3, :3] *= 3  # as large as a head
    return Volume(array.astype(np.float32), Geometry(SHAPE, wide), "MR"), tissue, field


def spread(array: np.ndarray, tissue: np.ndarray, number: int) -> float:
    inside = array[tissue == number].astype(np.float64)
    return float(inside.std() / inside.mean())


def test_tissues_become_even_on_every_grid(affine: np.ndarray) -> None:
    volume, tissue, _ = phantom(affine)
    found = preprocess(volume, "bias-field", **QUICK)
    assert found.array.dtype == np.float32
    for number in (1, 2):
        assert spread(found.array, tissue, number) < 0.4 * spread(volume.array, tissue, number)
    (finding,) = found.findings
    assert finding.code == "BIAS_FIELD"
    assert finding.details["lowest"] < 0.8
    assert finding.details["highest"] > 1.2


def test_flipping_the_scan_flips_the_result() -> None:
    volume, _, _ = phantom(np.array([[-0.8, 0, 0, 4], [0, 1.1, 0.6, 5], [0, 0, 2.5, 6], [0, 0, 0, 1]]))  # left-handed and sheared
    found = preprocess(volume, "bias-field", **QUICK)
    codes = volume.geometry.orientation
    opposite = {"R": "L", "L": "R", "A": "P", "P": "A", "S": "I", "I": "S"}[codes[0]] + codes[1:]
    flipped = preprocess(preprocess(volume, "reorient", orientation=opposite), "bias-field", **QUICK)
    back = preprocess(flipped, "reorient", orientation=codes)
    inside = volume.array > 20
    assert np.abs(back.array / found.array - 1)[inside].max() < 0.03


def test_without_shrinking_it_is_the_field_of_itk() -> None:
    """On a grid coarser than the working spacing nothing is shrunk: ITK's own filter with the same mask, up to one factor."""
    volume, tissue, _ = phantom(np.diag([2.0, 2.0, 2.5, 1.0]))
    mask = LabelMap((tissue > 0).astype(np.uint8), volume.geometry, (Segment(1, "head"),))
    found = preprocess(volume, "bias-field", mask=mask, knot_spacing_mm=500, levels=2, iterations=10)
    image = sitk.GetImageFromArray(volume.array.T)
    image.SetSpacing(volume.geometry.spacing_mm)
    search = sitk.N4BiasFieldCorrectionImageFilter()
    search.SetMaximumNumberOfIterations([10] * 2)
    inside = sitk.GetImageFromArray((tissue.T > 0).astype(np.uint8))
    inside.CopyInformation(image)
    theirs = sitk.GetArrayFromImage(search.Execute(image, inside)).T
    ratio = (found.array / theirs)[tissue > 0]
    assert ratio.std() / ratio.mean() < 1e-3


def test_nan_stays_and_does_not_disturb() -> None:
    volume, tissue, _ = phantom(np.diag([1.0, 1.0, 2.5, 1.0]))
    array = volume.array.copy()
    array[0, 0, 0], array[15, 14, 10] = np.nan, np.nan
    found = preprocess(volume.with_array(array), "bias-field", **QUICK).array
    assert np.argwhere(np.isnan(found)).tolist() == [[0, 0, 0], [15, 14, 10]]
    finite = np.isfinite(found)
    assert spread(found[finite], tissue[finite], 1) < 0.4 * spread(volume.array, tissue, 1)


def test_what_cannot_be_done_is_refused() -> None:
    volume, tissue, _ = phantom(np.eye(4))
    elsewhere = LabelMap((tissue > 0).astype(np.uint8), Geometry(SHAPE, np.eye(4)), (Segment(1, "head"),))
    with pytest.raises(GeometryMismatchError, match="bias-field: mask lies on another grid"):
        preprocess(volume, "bias-field", mask=elsewhere)
    nothing = LabelMap(np.zeros(SHAPE, np.uint8), volume.geometry, ())
    with pytest.raises(InputError, match="bias-field: only 0 voxels hold signal"):
        preprocess(volume, "bias-field", mask=nothing)
    with pytest.raises(InputError, match="one intensity only"):
        preprocess(volume.with_array(np.full(SHAPE, 5.0)), "bias-field")
    for chosen in ({"working_spacing_mm": 0}, {"levels": 0}, {"iterations": 0}, {"knot_spacing_mm": -1}):
        with pytest.raises(ParameterError, match="bias-field: "):
            preprocess(volume, "bias-field", **chosen)
