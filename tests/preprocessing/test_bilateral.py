from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import ParameterError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.preprocessing.preprocess import preprocess


def test_with_a_wide_range_a_point_becomes_a_round_gaussian_on_every_grid(affine: np.ndarray) -> None:
    shape, sigma_mm = (27, 25, 15), 2.0
    geometry = Geometry(shape, affine)
    array = np.zeros(shape)
    array[13, 12, 7] = 1000
    found = preprocess(Volume(array, geometry), "bilateral", sigma_mm=sigma_mm, sigma_intensity=1e8).array
    away = np.linalg.norm(geometry.index_to_world(np.stack(np.indices(shape), -1)) - geometry.index_to_world((13, 12, 7)), axis=-1)
    expected = np.where(away <= 2 * sigma_mm * (1 + 1e-9), np.exp(-0.5 * (away / sigma_mm) ** 2), 0)
    assert np.allclose(found, 1000 * expected / expected.sum(), atol=1e-3)


@pytest.mark.parametrize("chosen", [{"sigma_mm": 0}, {"sigma_intensity": 0}, {"sigma": 1}])
def test_impossible_parameters_are_refused(chosen: dict[str, float]) -> None:
    with pytest.raises(ParameterError, match="bilateral: "):
        preprocess(Volume(np.zeros((4, 4, 4)), Geometry((4, 4, 4), np.eye(4))), "bilateral", **chosen)
