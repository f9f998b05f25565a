import numpy as np
import pytest

from medseg.core.errors import SegmentError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.model_spread import ModelSpread
from medseg.core.segment import Segment


def test_each_segment_needs_one_finite_volume_a_pass():
    for volumes in ((1.0,), (1.0, np.nan), (1.0, -2.0), (1.0, 2.0, 3.0)):
        with pytest.raises(SegmentError, match="liver"):
            ModelSpread(("fold 0", "fold 1"), {"liver": volumes})


def test_it_cannot_be_changed_afterwards():
    volumes = {"liver": (1.0, 2.0)}
    spread = ModelSpread(("fold 0", "fold 1"), volumes)
    volumes["liver"] = (9.0, 9.0)
    assert spread.volumes_ml["liver"] == (1.0, 2.0)
    with pytest.raises(TypeError):
        spread.volumes_ml["liver"] = (3.0, 4.0)


def test_a_changed_label_map_keeps_it():
    spread = ModelSpread(("a", "b"), {"liver": (1.0, 2.0)})
    array = np.ones((2, 2, 2), np.uint8)
    organs = LabelMap(array, Geometry((2, 2, 2), np.eye(4)), (Segment(1, "liver"),), model_spread=spread)
    assert organs.with_array(np.zeros_like(array)).model_spread is spread
