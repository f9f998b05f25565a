"""Decisions and corrections applied to a cohort: what is rejected leaves, what is corrected is measured again."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from cohort_builder import GRID, NAMES, SEGMENTS, build, decision, key_of

import medseg
from medseg.batch.cohort.cohort_rows import Listed, Sources
from medseg.batch.cohort.review_file import mark_of
from medseg.batch.cohort.write_cohort import write_cohort
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment


@pytest.fixture
def cohort(tmp_path):
    return build(tmp_path / "out")


def test_rejected_cases_leave(cohort):
    cohort.decide(n0=decision(0, "reject"), n1=decision(1, "accept"), n2=decision(2, "fix"), n4=decision(4, "accept", mark=mark_of("old")))
    summary = write_cohort(cohort.layout)
    assert summary.counts["review"] == {"unreviewed": 5, "accepted": 1, "rejected": 1, "to_fix": 1, "corrected": 0, "void": 1}
    assert summary.counts["analysed"] == 7
    rows = {row["case_id"]: (row["review"], row["analysed"]) for row in cohort.rows("cohort_wide.csv")}
    assert [rows[NAMES[n]] for n in (0, 1, 2, 4)] == [("rejected", "no"), ("accepted", "yes"), ("to_fix", "no"), ("void", "yes")]
    assert cohort.of(0)[0]["volume_ml"], "what was measured stays in the table"
    assert summary.segments[0]["measured"] == 7
    assert any("void" in note for note in summary.notes)


def corrected(suffix, array, geometry=GRID, segments=SEGMENTS):
    def write(cohort, n):
        folder = cohort.layout.corrections
        folder.mkdir(exist_ok=True)
        medseg.write(LabelMap(np.asfortranarray(array), geometry, segments), folder / f"{NAMES[n]}{suffix}", overwrite=True)

    return write


@pytest.mark.parametrize("suffix", [".nii.gz", ".seg.nrrd"])
def test_a_correction_replaces_the_row(cohort, suffix):
    cohort.decide(n2=decision(2, "fix"))
    array = np.zeros(GRID.shape, np.uint8)
    array[2:10, 3:9, 3:9] = 1
    corrected(suffix, array)(cohort, 2)
    for _ in range(2):  # the second time from what was kept
        summary = write_cohort(cohort.layout)
        liver, lung = cohort.of(2)
        assert float(liver["volume_ml"]) == 8 * 6 * 6 * 12 / 1000
        assert f"corrections/{NAMES[2]}{suffix}" in liver["case_message"]
        assert (liver["review"], liver["analysed"], liver["number"], liver["label"]) == ("corrected", "yes", "1", "liver")
        assert liver["mean_hu"] == ""
        assert "intensities are not measured again" in liver["reason"]
        assert (lung["volume_ml"], lung["status"]) == ("", "absent")
        assert (summary.counts["review"]["corrected"], summary.counts["analysed"]) == (1, 9)
    kept = cohort.layout.corrections / f"{NAMES[2]}.measurements.json"
    digest = hashlib.sha256((cohort.layout.corrections / f"{NAMES[2]}{suffix}").read_bytes()).hexdigest()
    assert json.loads(kept.read_text())["made_from"]["correction_sha256"] == digest
    cohort.decide(n2=decision(2, "reject", 2, mark_of(key_of(NAMES[2]), digest)))
    assert write_cohort(cohort.layout).counts["review"]["rejected"] == 1


@pytest.mark.parametrize(
    ("correction", "said"),
    [
        (corrected(".nii.gz", np.full(GRID.shape, 7, np.uint8), segments=(Segment(7, "x"),)), "holds the number 7"),
        (corrected(".seg.nrrd", np.ones(GRID.shape, np.uint8), segments=(Segment(1, "spleen"),)), "none of its segments"),
        (
            corrected(".nii.gz", np.ones(GRID.shape, np.uint8), Geometry(GRID.shape, np.diag([1.0, 1, 1, 1])), SEGMENTS[:1]),
            "cannot be used",
        ),
    ],
    ids=["number", "names", "grid"],
)
def test_a_correction_that_does_not_fit_is_not_used(cohort, correction, said):
    cohort.decide(n2=decision(2, "fix"))
    correction(cohort, 2)
    summary = write_cohort(cohort.layout)
    row = cohort.of(2)[0]
    assert (row["review"], row["analysed"]) == ("to_fix", "no")
    assert said in row["case_message"]
    assert str(cohort.layout.folder) not in row["case_message"]
    assert summary.counts["review"]["to_fix"] == 1


def test_a_correction_that_was_sent_back_stays_out(cohort):
    """Fix on the segmentation, then fix on its correction, then the same again: only a better correction comes in."""
    cohort.decide(n2=decision(2, "fix"))
    array = np.zeros(GRID.shape, np.uint8)
    array[2:10, 3:9, 3:9] = 1
    corrected(".nii.gz", array)(cohort, 2)
    digest = hashlib.sha256((cohort.layout.corrections / f"{NAMES[2]}.nii.gz").read_bytes()).hexdigest()
    cohort.decide(n2=decision(2, "fix", 2, mark_of(key_of(NAMES[2]), digest)))
    sources = Sources.of(cohort.layout)
    view = sources.view(Listed(NAMES[2]))
    assert (view.standing, view.mark) == ("to_fix", mark_of(key_of(NAMES[2]), digest))
    cohort.decide(n2=decision(2, "fix", 3, view.mark))
    assert write_cohort(cohort.layout).counts["review"]["to_fix"] == 1
    array[2:12, 3:9, 3:9] = 1
    corrected(".nii.gz", array)(cohort, 2)
    assert write_cohort(cohort.layout).counts["review"]["corrected"] == 1
    assert float(cohort.of(2)[0]["volume_ml"]) == 10 * 6 * 6 * 12 / 1000


def test_a_crop_of_the_grid_will_do(cohort):
    """3D Slicer saves the part of the grid that holds something."""
    cohort.decide(n2=decision(2, "fix"))
    array = np.zeros((10, 8, 8), np.uint8)
    array[1:9, 1:7, 1:7] = 1
    corrected(".seg.nrrd", array, GRID.cropped((1, 2, 2), (10, 8, 8)))(cohort, 2)
    assert write_cohort(cohort.layout).counts["review"]["corrected"] == 1
    liver = cohort.of(2)[0]
    assert float(liver["volume_ml"]) == 8 * 6 * 6 * 12 / 1000
    place = GRID.index_to_world((1 + 4.5, 2 + 3.5, 2 + 3.5))
    assert [float(liver[f"centroid_{axis}_mm"]) for axis in "ras"] == pytest.approx(list(place))
