"""The table of codes, the figures of the audit, and every fault of the catalogue as the phantom makes it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from made_series import add_file, numbered_volume
from pydicom.dataset import Dataset

import medseg.io.dicom.audit
from medseg.io.dicom.fault_codes import CODES
from medseg.io.dicom.find import find_series
from medseg.io.dicom.volume import inspect_series, read_series
from medseg.io.options import ReadOptions

_OWN = (
    "audit", "checks_kind", "checks_place", "checks_positions", "choose", "duplicates", "given", "mosaic_names", "split", "split_positions",
)  # fmt: skip


def test_the_table_holds_every_code_and_no_other() -> None:
    folder = Path(medseg.io.dicom.audit.__file__).parent
    used: set[str] = set()
    for module in _OWN:
        text = (folder / f"{module}.py").read_text()
        used |= set(re.findall(r'(?:error|warning|info|Finding)\(\s*"([A-Z0-9_]{5,})"', text))
        if module in ("split", "choose"):
            used |= {code for code in re.findall(r'"([A-Z0-9]+_[A-Z0-9_]+)"', text) if code in CODES or code.startswith("MIXED")}
    leftovers = re.search(r"_LEFTOVER_CODES = \{.*?\}", (folder / "split.py").read_text(), re.DOTALL)
    used |= set(re.findall(r'"([A-Z]+_[A-Z_]+|LOCALIZER)"', leftovers[0]))
    by_pixels = {"PIXEL_PADDING", "PADDING_WRAPPED", "PADDING_AS_AIR", "PADDING_SUSPECTED"}  # what read_pixels finds
    assert used - set(CODES) == set()
    assert set(CODES) - used == by_pixels


def test_every_row_of_the_catalogue_that_gives_a_code_has_one() -> None:
    rows = {row for code in CODES.values() for row in code.rows.split()}
    without = {22, 23, 28, 29, 30, 33, 34, 36}  # these are read as they should be, and there is nothing to say
    assert rows == {str(row) for row in range(1, 37) if row not in without}
    assert all(code.meaning and not code.meaning.endswith(".") for code in CODES.values())


def test_figures_of_real_series(shared_data: Path) -> None:
    report = inspect_series(find_series(shared_data / "dicom_ct_missing_slices")[0])
    audit = report.audit
    assert (audit.slices_found, audit.slices_expected, audit.usual_gap_mm) == (44, 47, pytest.approx(3.27))
    assert [(gap.after_mm, gap.gap_mm, gap.missing) for gap in audit.gaps] == [
        (pytest.approx(394.28), pytest.approx(9.81), 2),
        (pytest.approx(459.68), pytest.approx(6.54), 1),
    ]
    assert (audit.first_mm, audit.last_mm) == (pytest.approx(364.85), pytest.approx(515.27))
    tilted = inspect_series(find_series(shared_data / "dicom_ct_gantry_tilt_phantom")[0]).audit
    assert tilted.tilt_degrees == pytest.approx(18.5, abs=0.01)
    assert tilted.obliqueness_degrees == pytest.approx(18.5, abs=0.01)
    uneven = inspect_series(find_series(shared_data / "dicom_ct_gantry_tilt_uneven_ge")[0]).audit
    assert uneven.slices_expected == uneven.slices_found == 28
    assert {round(gap.gap_mm, 1) for gap in uneven.gaps} == {1.1, 7.0}
    assert not any(gap.missing for gap in uneven.gaps)
    assert "SliceThickness" in {row.keyword for row in uneven.disagreeing_tags}
    oblique = inspect_series(find_series(shared_data / "dicom_mr_philips_oblique_phantom")[0]).audit
    assert (oblique.slices_found, len(oblique.stacks)) == (27, 3)
    assert {"TemporalPositionIdentifier", "TriggerTime"} <= {row.keyword for row in oblique.disagreeing_tags}


def test_figures_of_a_chosen_stack(shared_data: Path) -> None:
    (series,) = find_series(shared_data / "dicom_mr_ge_epi_4d")
    report = inspect_series(series, ReadOptions(volume_index=4))
    assert report.is_readable
    assert (report.audit.slices_found, report.audit.slices_expected) == (15, 15)
    assert report.audit.options_used == ("--volume 4",)
    assert report.geometry == read_series(shared_data / "dicom_mr_ge_epi_4d" / "dicom", ReadOptions(volume_index=4)).geometry
    thick = next(row for row in report.audit.disagreeing_tags if row.keyword == "SliceThickness")
    assert thick.values == ("3 mm in the header", "5 mm by the positions")


def test_duplicates_are_counted_and_left_out_stacks_listed(make_series) -> None:
    folder = make_series(numbered_volume((5, 5, 20)))
    add_file(folder / "slice_0002.dcm", folder / "copy.dcm")

    def screenshot(dataset: Dataset) -> None:
        dataset.SOPClassUID, dataset.ImageType = "1.2.840.10008.5.1.4.1.1.7", ["DERIVED", "SECONDARY"]

    add_file(folder / "slice_0002.dcm", folder / "screen.dcm", screenshot)
    audit = inspect_series(find_series(folder)[0]).audit
    assert (audit.slices_found, audit.duplicates) == (20, 1)
    assert [(row.select, row.slices) for row in audit.stacks] == [("1", 20), ("2", 1)]
    assert "left out: DERIVED_SLICES" in audit.stacks[1].differs
    json.dumps(audit.to_dict())


def test_numbers_that_begin_late_say_that_an_end_may_be_missing(make_series) -> None:
    folder = make_series(numbered_volume((5, 5, 12)))
    for k in (1, 2, 3):
        (folder / f"slice_{k:04d}.dcm").unlink()
    (finding,) = read_series(folder).findings
    assert (finding.code, finding.details["first_number"]) == ("ENDS_MAY_BE_MISSING", 4)
    assert "slice_0004.dcm" in finding.message
    assert "below" in finding.message

    def backwards(dataset: Dataset, k: int) -> None:
        dataset.InstanceNumber = 20 - k

    (finding,) = read_series(make_series(edit=backwards, name="backwards")).findings
    assert "above" in finding.message
    numbers = [3, 9, 4, 8, 5, 7]
    shuffled = make_series(edit=lambda dataset, k: setattr(dataset, "InstanceNumber", numbers[k]), name="shuffled")
    assert read_series(shuffled).findings == ()


def test_several_folders_and_a_copy_in_each(make_series, tmp_path: Path) -> None:
    first = make_series(name="both/a")
    second = tmp_path / "both" / "b"
    second.mkdir()
    for file in first.glob("*"):
        (second / file.name).write_bytes(file.read_bytes())
    volume = read_series(tmp_path / "both")
    np.testing.assert_array_equal(volume.array, numbered_volume().array)
    assert {finding.code for finding in volume.findings} == {"SEVERAL_FOLDERS", "DUPLICATE_SLICES"}


def test_every_message_says_what_to_do_or_what_it_means(shared_data: Path) -> None:
    """No finding of a real series is a bare statement: it has a consequence or a way on after a colon, a semicolon or a full stop."""
    for case in ("dicom_ct_missing_slices", "dicom_bad_series", "dicom_rgb_slices", "dicom_enhanced_mr_no_geometry", "dicom_12bit_in_16"):
        for series in find_series(shared_data / case):
            for finding in inspect_series(series).findings:
                if finding.code not in ("MIXED_ORIENTATION",):
                    assert re.search(r"[:;.] ", finding.message), finding
