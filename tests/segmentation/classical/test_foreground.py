from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import InputError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.segmentation.segment import segment


def test_the_body_of_a_real_scan_has_the_volume_of_a_body(ct: Volume, organs: LabelMap) -> None:
    found = segment(ct, "foreground")
    (body,) = found.segments
    assert (body.label, body.algorithm) == ("body", "foreground")
    assert found.geometry == ct.geometry
    assert found.array[organs.array > 0].mean() > 0.995
    assert [finding.details for finding in found.findings] == [{"threshold": -300.0}]


def test_nan_is_air() -> None:
    array = np.full((9, 9, 9), 80.0)
    array[:, :, :2] = np.nan
    found = segment(Volume(array, Geometry((9, 9, 9), np.eye(4))), "foreground", threshold=10)
    assert not found.array[:, :, :2].any()
    assert found.array[:, :, 2:].all()


def test_nothing_above_the_threshold_is_an_empty_segment() -> None:
    scan = Volume(np.arange(27).reshape(3, 3, 3), Geometry((3, 3, 3), np.eye(4)))
    found = segment(scan, "foreground", threshold=100)
    assert not found.array.any()
    assert [finding.code for finding in found.findings] == ["FOREGROUND_THRESHOLD", "SEGMENT_EMPTY"]


def test_a_constant_scan_has_no_body_and_no_brain() -> None:
    flat = Volume(np.full((5, 5, 5), 3), Geometry((5, 5, 5), np.eye(4)))
    for name in ("foreground", "brain"):
        with pytest.raises(InputError, match=f"{name}: the scan has one intensity only"):
            segment(flat, name)


def head(radius_mm: float, shape: tuple[int, int, int] = (64, 64, 64)) -> Volume:
    """A ball of brain in a skull and a scalp."""
    away = 3 * np.linalg.norm(np.indices(shape).T - (np.array([64, 64, 64]) - 1) / 2, axis=-1).T
    array = np.select([away < radius_mm, away < radius_mm + 15, away < radius_mm + 25], [100, 10, 90], 0).astype(np.int16)
    return Volume(array, Geometry(shape, np.diag([3.0, 3.0, 3.0, 1.0])), "MR")


def test_a_whole_brain_is_not_doubted() -> None:
    assert segment(head(66), "brain").findings == ()


def test_a_brain_too_small_or_cut_is_doubted() -> None:
    found = segment(head(45), "brain")
    (finding,) = found.findings
    assert (finding.code, finding.severity, finding.details["cut_sides"]) == ("BRAIN_IMPLAUSIBLE", "warning", 0)
    assert finding.details["volume_ml"] == pytest.approx(found.array.sum() * 0.027)
    (finding,) = segment(head(66, (64, 34, 34)), "brain").findings
    assert finding.details["cut_sides"] == 2
    assert "2 sides of the scan cut it" in finding.message
