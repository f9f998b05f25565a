"""Structured reports: what is measured stands in them, points to its segment, and passes the validators."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

from medseg.core.codes import LEFT, RIGHT, Code
from medseg.core.errors import InputError, OutputExistsError, OutputVerificationError, UnreadableFileError
from medseg.core.label_map import LabelMap
from medseg.core.measurement import MeasurementTable
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.io.dicom.sr import write_sr
from medseg.io.dicom.sr_read import check_report, read_report
from medseg.io.dicom.volume import read_series
from medseg.io.write import write
from medseg.measurement.measure import measure

KIDNEY = Code("SCT", "64033007", "Kidney")
LIVER = Code("SCT", "10200004", "Liver")
ANATOMY = Code("SCT", "123037004", "Anatomical Structure")
LESION = Code("SCT", "49755003", "Morphologically Altered Structure")
TUMOUR = Code("SCT", "108369006", "Neoplasm")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, sample_data: Path) -> tuple[Volume, LabelMap, Path]:
    """The sample CT, three structures with sides and a site, and their SEG."""
    ct = read_series(sample_data / "torso" / "dicom")
    labels = np.zeros(ct.geometry.shape, np.uint8)
    labels[20:30, 20:30, 10:20], labels[40:52, 20:30, 10:20], labels[60:64, 40:45, 0:8] = 1, 2, 3
    segments = (
        Segment(1, "kidney right", ANATOMY, KIDNEY, RIGHT),
        Segment(2, "kidney left", ANATOMY, KIDNEY, LEFT),
        Segment(3, "tumour", LESION, TUMOUR, region=LIVER, algorithm="by hand"),
        Segment(4, "nothing"),
    )
    seg = LabelMap(labels, ct.geometry, segments)
    file = tmp_path_factory.mktemp("sr") / "seg.dcm"
    write(seg, file, source=ct)
    return ct, seg, file


@pytest.fixture(scope="module")
def report(study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    ct, seg, file = study
    return write_sr(measure(seg, ct), tmp_path_factory.mktemp("report") / "t.sr.dcm", source=ct, segmentation=file)


def test_numbers_segments_and_sides_are_in_the_report(study, report: Path) -> None:
    _, seg, file = study
    groups = read_report(report)
    assert [group.segment_number for group in groups] == [1, 2, 3]  # a segment without voxels has no group
    assert {group.segmentation_uid for group in groups} == {str(pydicom.dcmread(file).SOPInstanceUID)}
    assert [(group.site, group.laterality) for group in groups] == [
        (KIDNEY.value, RIGHT.value),
        (KIDNEY.value, LEFT.value),
        (LIVER.value, ""),
    ]
    voxel_ml = seg.geometry.voxel_volume_mm3 / 1000
    for group, voxels in zip(groups, (1000, 1200, 160), strict=True):
        value = next(number for number in group.numbers if number[0] == "118565006")
        assert value[2:] == (pytest.approx(voxels * voxel_ml, rel=1e-12), "mL")


def test_intensities_equal_numpys(study, report: Path) -> None:
    ct, seg, _ = study
    inside = ct.array[seg.array == 1].astype(np.float64)
    numbers = {derivation: value for code, derivation, value, unit in read_report(report)[0].numbers if unit == "[hnsf'U]"}
    assert numbers["373098007"] == pytest.approx(inside.mean())
    assert numbers["386136009"] == pytest.approx(inside.std(), rel=1e-2)
    assert (numbers["255605001"], numbers["56851009"]) == (inside.min(), inside.max())


def test_highdicom_reads_the_same(study, report: Path) -> None:
    """An independent reader that knows the template finds the same groups."""
    content = highdicom.sr.srread(report).content
    groups = content.get_volumetric_roi_measurement_groups()
    assert len(groups) == 3
    assert [float(group.get_measurements(name=highdicom.sr.CodedConcept("118565006", "SCT", "Volume"))[0].value) for group in groups] == [
        pytest.approx(next(number[2] for number in own.numbers if number[0] == "118565006")) for own in read_report(report)
    ]
    assert groups[2].finding_type.value == TUMOUR.value


def test_a_volume_that_was_cut_says_so(report: Path) -> None:
    text = str(pydicom.dcmread(report))
    assert text.count("Cut by the field of view: volume of the visible part") == 1  # the tumour begins at slice 0


def test_an_interval_stands_beside_its_value(study, tmp_path: Path) -> None:
    ct, seg, file = study
    table = measure(seg, ct)
    first = table.rows[0]
    value = first.measurements["volume"].value or 0.0
    volume = replace(first.measurements["volume"], interval=(value - 0.25, value + 0.5))
    changed = MeasurementTable((replace(first, measurements={"volume": volume}),), "CT", "HU")
    written = pydicom.dcmread(write_sr(changed, tmp_path / "i.sr.dcm", source=ct, segmentation=file))
    text = str(written)
    assert "R-00364" in text or "371886008" in text or "Uncertainty" in text
    found = sorted(float(line.split("'")[1]) for line in text.splitlines() if "Numeric Value" in line and "'" in line)
    assert [number for number in found if 0 < number < 1][:2] == [pytest.approx(0.25), pytest.approx(0.5)]


def test_mr_intensities_have_ibsi_codes(make_series, tmp_path: Path) -> None:
    from made_series import numbered_volume

    mr = read_series(make_series(numbered_volume(modality="MR")))
    labels = np.zeros(mr.geometry.shape, np.uint8)
    labels[2:4, 2:4, 2:4] = 1
    seg = LabelMap(labels, mr.geometry, (Segment(1, "cord"),))
    write(seg, tmp_path / "seg.dcm", source=mr)
    write_sr(measure(seg, mr), tmp_path / "t.sr.dcm", source=mr, segmentation=tmp_path / "seg.dcm")
    codes = [(code, derivation) for code, derivation, _, _ in read_report(tmp_path / "t.sr.dcm")[0].numbers]
    assert ("1GSF", "") in codes
    assert ("Q4LE", "386136009") in codes


def test_the_report_is_unverified_and_says_that_it_is_research(report: Path) -> None:
    dataset = pydicom.dcmread(report)
    assert dataset.VerificationFlag == "UNVERIFIED"
    assert "not a medical device" in dataset.SeriesDescription


def test_a_wrong_number_is_noticed_when_read_back(study, report: Path, tmp_path: Path) -> None:
    ct, seg, _ = study
    rows = [row for row in measure(seg, ct) if row.label != "nothing"]
    numbers = {"kidney right": 1, "kidney left": 2, "tumour": 3}
    check_report(report, rows, numbers)
    with pytest.raises(OutputVerificationError, match="point to"):
        check_report(report, rows, numbers | {"tumour": 2})
    dataset = pydicom.dcmread(report)

    def double(item: pydicom.Dataset) -> None:
        for value in item.get("MeasuredValueSequence") or ():
            value.NumericValue = "1"
        for child in item.get("ContentSequence") or ():
            double(child)

    double(dataset)
    dataset.save_as(tmp_path / "changed.dcm")
    with pytest.raises(OutputVerificationError, match="came back"):
        check_report(tmp_path / "changed.dcm", rows, numbers)


def test_errors_say_what_to_do(study, report: Path, tmp_path: Path) -> None:
    ct, seg, file = study
    table = measure(seg, ct)
    with pytest.raises(InputError, match=r"write the segmentation as \.dcm first"):
        write_sr(table, tmp_path / "x.dcm", source=ct, segmentation=tmp_path / "none.dcm")
    with pytest.raises(InputError, match="DICOM series with UIDs"):
        write_sr(table, tmp_path / "x.dcm", source=replace(ct, source=None), segmentation=file)
    with pytest.raises(OutputExistsError):
        write_sr(table, report, source=ct, segmentation=file)
    stranger = MeasurementTable((replace(table.rows[0], label="spleen"),))
    with pytest.raises(InputError, match="no segment called 'spleen'"):
        write_sr(stranger, tmp_path / "x.dcm", source=ct, segmentation=file)
    with pytest.raises(UnreadableFileError):
        read_report(tmp_path / "none.dcm")
    assert list(tmp_path.iterdir()) == []


def test_the_segmentation_of_another_scan_is_refused(study, make_series, tmp_path: Path) -> None:
    ct, seg, file = study
    other = read_series(make_series())
    with pytest.raises(InputError, match="another scan"):
        write_sr(measure(seg, ct), tmp_path / "x.dcm", source=other, segmentation=file)


def test_dciodvfy_finds_no_error(report: Path) -> None:
    """dicom3tools' validator of the standard's modules."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    done = subprocess.run(["dciodvfy", "-new", str(report)], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert not [line for line in done.stderr.splitlines() if line.startswith("Error")]


def test_dcentvfy_finds_one_study(study, report: Path) -> None:
    """SEG and scan agree without a word; for a report the tool's own tables put AccessionNumber elsewhere than for images."""
    if shutil.which("dcentvfy") is None:
        pytest.skip("dcentvfy is not installed (Debian: dicom3tools)")
    ct, _, file = study
    assert ct.source is not None
    silent = subprocess.run(["dcentvfy", str(file), *ct.source.files], capture_output=True, text=True, check=False)
    assert (silent.returncode, silent.stdout, silent.stderr) == (0, "", "")
    done = subprocess.run(["dcentvfy", str(report), str(file)], capture_output=True, text=True, check=False)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    assert all("Different information entities for attribute" in line and "AccessionNumber" in line for line in lines)
