from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.preprocessing.preprocess import preprocess


def test_faint_contrast_in_a_wide_range_becomes_visible(affine: np.ndarray) -> None:
    """A faint ball in tissue of one brightness, while two corners span the range: its contrast grows nearly by the limit."""
    shape = (40, 36, 24)
    geometry = Geometry(shape, affine)
    points = geometry.index_to_world(np.stack(np.indices(shape), -1)) - geometry.index_to_world((20, 18, 12))
    ball = np.linalg.norm(points, axis=-1) < 5
    array = 500 + 30 * ball + np.random.default_rng(0).normal(0, 15, shape)
    array[0, 0, 0], array[-1, -1, -1] = 0, 1000
    scan = Volume(array, geometry, "MR")
    contrasts = []
    for name, chosen in (("equalise", {"tile_mm": 15, "contrast_limit": 4}), ("normalise", {"kind": "minmax"})):
        scaled = preprocess(scan, name, **chosen).array
        contrasts.append(scaled[ball].mean() - scaled[~ball].mean())
    assert 3 < contrasts[0] / contrasts[1] < 4


def test_it_commutes_with_a_flip(ct: Volume) -> None:
    """Tiles of unequal size lie mirrored only where the extent is a multiple of theirs, so the box is chosen so."""
    part = Volume(ct.array[:32, :32, :16], ct.geometry.cropped((0, 0, 0), (32, 32, 16)), "CT", "HU")
    tile_mm = 8 * part.geometry.spacing_mm[0]
    found = preprocess(part, "equalise", tile_mm=tile_mm)
    assert found.array.std() > 0.1
    opposite = part.geometry.orientation.translate(str.maketrans("RLAPSI", "LRPAIS"))
    flipped = preprocess(preprocess(part, "reorient", orientation=opposite), "equalise", tile_mm=tile_mm)
    back = preprocess(flipped, "reorient", orientation=part.geometry.orientation)
    assert np.allclose(back.array, found.array, atol=1e-5)


def test_a_scan_of_one_intensity_becomes_0_and_says_so() -> None:
    flat = Volume(np.full((3, 4, 5), 7, np.int16), Geometry((3, 4, 5), np.eye(4)))
    found = preprocess(flat, "equalise")
    assert not found.array.any()
    assert [finding.code for finding in found.findings] == ["CONSTANT_INTENSITY"]


def test_what_cannot_be_done_is_refused() -> None:
    fine = Volume(np.zeros((250, 250, 60), np.uint8), Geometry((250, 250, 60), np.eye(4)))
    with pytest.raises(InputError, match="no finite intensity"):
        preprocess(Volume(np.full((2, 2, 2), np.nan), Geometry((2, 2, 2), np.eye(4))), "equalise")
    with pytest.raises(ParameterError, match="too many: choose larger tiles"):
        preprocess(fine.with_array(np.arange(fine.array.size).reshape(fine.array.shape)), "equalise", tile_mm=1)
    for chosen in ({"tile_mm": 0}, {"contrast_limit": 0.5}, {"lower": 2, "upper": 1}, {"lower": 1, "upper": 1}):
        with pytest.raises(ParameterError, match="equalise: "):
            preprocess(fine, "equalise", **chosen)
