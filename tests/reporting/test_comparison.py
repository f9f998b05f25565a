from __future__ import annotations

import math

import numpy as np
import pytest

from medseg.core.measurement import Measurement, MeasurementTable, SegmentRow, Status
from medseg.reporting.comparison import Case, compare_cases, comparison_context


def _table(**volumes):
    rows = []
    for number, (label, (value, interval)) in enumerate(volumes.items(), start=1):
        status = Status.MEASURED if value is not None else Status.ABSENT
        volume = Measurement(label, "volume", value, "ml", interval, status, "" if value is not None else "not there")
        rows.append(SegmentRow(number, label, status, volume.reason, {"volume": volume}, 9))
    return MeasurementTable(tuple(rows))


def test_structures_are_paired_without_words_of_modality():
    cases = [
        Case("CT", _table(GTV_Mass_CT=(50.0, None), liver=(1500.0, None), bone=(9.0, None))),
        Case("PET", _table(GTV_Mass_PET=(54.0, None), liver=(None, None))),
    ]
    rows = compare_cases(cases)
    assert [(row.structure, row.case, row.volume_ml) for row in rows] == [
        ("GTV_Mass", "CT", 50.0), ("GTV_Mass", "PET", 54.0), ("liver", "CT", 1500.0), ("liver", "PET", None),
    ]  # fmt: skip
    assert rows[1].difference_ml == pytest.approx(4.0)
    assert rows[1].difference_percent == pytest.approx(8.0)
    assert rows[1].beyond is None
    assert rows[3].difference_ml is None


def test_single_segments_are_paired_whatever_they_are_called():
    rows = compare_cases([Case("a", _table(tumour=(10.0, None))), Case("b", _table(lesion=(11.0, None)))])
    assert [row.label for row in rows] == ["tumour", "lesion"]


def test_the_interval_of_a_difference_has_its_coverage():
    """Normal errors of two scans: the interval of their difference holds the true one in 95 % of cases."""
    rng = np.random.default_rng(5)
    trials, hits = 4000, 0
    for first, second in zip(rng.normal(50, 1.0, trials), rng.normal(53, 2.0, trials), strict=True):
        a, b = (first, (first - 1.96, first + 1.96)), (second, (second - 3.92, second + 3.92))
        low, high = compare_cases([Case("a", _table(t=a)), Case("b", _table(t=b))])[1].difference_interval_ml
        hits += low <= 3.0 <= high
    assert abs(hits / trials - 0.95) < 4 * math.sqrt(0.95 * 0.05 / trials)


def test_the_drawing_shares_a_scale_and_one_scan_has_none():
    cases = [Case("a", _table(t=(50.0, (49.0, 52.0)))), Case("b", _table(t=(60.0, (58.0, 61.0))))]
    context = comparison_context(cases)
    first, second = context["rows"]
    millilitres = (second["at"] - first["at"]) / 10.0  # per cent of the drawing for one ml
    assert first["width"] == pytest.approx(3 * millilitres, abs=0.02)
    assert second["left"] - first["left"] == pytest.approx(9 * millilitres, abs=0.02)
    assert second["beyond"] == "yes"
    assert comparison_context(cases[:1]) is None
