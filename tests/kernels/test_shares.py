from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.kernels.shares import share_counts


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), kind=st.sampled_from([np.uint8, np.int16, np.int32, np.float32, np.float64]))
def test_counts_are_those_of_numpy(seed: int, kind: type) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 200, rng.integers(1, 9, 3)).astype(kind)
    if image.dtype.kind == "f":
        image[rng.random(image.shape) < 0.2] = rng.choice([np.nan, np.inf, -np.inf])
    mask = rng.random(image.shape) < 0.5
    finite = np.isfinite(image)
    with np.errstate(invalid="ignore"):
        bright = finite & (image >= 100)
    expected = tuple(int(np.count_nonzero(part)) for part in (finite, finite & mask, bright, bright & mask))
    assert share_counts(image, mask, 100) == expected
    assert share_counts(image, mask.astype(np.uint8), 100) == expected


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        share_counts(np.zeros((2, 2, 2)), np.zeros((2, 2, 3), np.uint8), 0)
