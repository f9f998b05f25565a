from __future__ import annotations

import csv
import json
import re
import shutil

import numpy as np
import pytest

from medseg.core.errors import GeometryMismatchError, OutputError, OutputExistsError, UnreadableFileError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.io.read import read_label_map
from medseg.io.write import write
from medseg.measurement.measure import measure
from medseg.outputs.case_folder import read_case
from medseg.outputs.report_folder import Given, ReportOptions, report_of_folders, report_of_segmentations
from medseg.reporting.number_check import ReportNumberError


@pytest.fixture(scope="module")
def made(case, tmp_path_factory):
    """The folder of a report of one given segmentation with its lesions; drawn once, for drawing takes long."""
    folder = tmp_path_factory.mktemp("made") / "out"
    done = report_of_segmentations([Given(*case)], folder, options=ReportOptions(lesions=True))
    return folder, done


@pytest.fixture
def folder(made, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(made[0], tmp_path / "out")


def test_a_given_segmentation_leaves_the_folder_of_a_run(case, folder):
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"segmentation.seg.nrrd", "measurements.csv", "measurements.json", "provenance.json", "report.html"} <= names
    assert {"pictures/segment_1.png", "pictures/segment_2.png", "pictures/three_planes.png", "pictures/rendering_3d.png"} <= names
    document = json.loads((folder / "measurements.json").read_text())
    expected = measure(read_label_map(case[0]))["liver", "volume"]
    assert document["segments"][0]["volume_ml"] == expected.value
    record = json.loads((folder / "provenance.json").read_text())
    assert {entry["role"] for entry in record["inputs"]} == {"scan", "segmentation"}
    assert all(len(entry["sha256"]) == 64 for entry in record["inputs"])
    for path in folder.rglob("*.json"):
        assert str(folder.parent) not in path.read_text()


def test_the_report_is_rebuilt_from_the_folder_alone(folder):
    """Without the scan: the same numbers and the folder's own pictures, byte by byte; nothing else changes."""
    first = (folder / "report.html").read_text()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.name != "report.html" and path.is_file()}
    done = report_of_folders([folder])
    again = (folder / "report.html").read_text()
    pictures = re.compile(r'src="(data:[^"]+)"')
    assert pictures.findall(again) == pictures.findall(first)
    numbers = re.compile(r'<td class="number[^>]*>(.*?)</td>')
    assert numbers.findall(again) == numbers.findall(first)
    assert {path: path.read_bytes() for path in before} == before
    assert [finding.code for finding in done.contents[0].findings] == ["VOLUMES_DIFFER"]  # a small ball: voxels and mesh disagree


def test_with_the_scan_pictures_are_drawn_anew(case, folder):
    shutil.rmtree(folder / "pictures")
    surfaces = report_of_folders([folder]).contents[0].pictures
    assert {picture.name for picture in surfaces} == {"rendering_3d", "segment_1", "segment_2"}
    fresh = report_of_folders([folder], image=case[1]).contents[0]
    assert {"three_planes", "axial_slices", "segment_1"} <= {picture.name for picture in fresh.pictures}
    assert fresh.volume is not None


def test_a_scan_of_another_grid_is_refused(case, folder, tmp_path):
    label_map = read_label_map(case[0])
    moved = Geometry(label_map.geometry.shape, np.diag([-1.5, -1.6, 3.0, 1.0]))
    other = write(Volume(label_map.array, moved), tmp_path / "other.nii.gz")
    with pytest.raises(GeometryMismatchError):
        report_of_folders([folder], image=other)


def test_an_edited_segmentation_is_said_before_its_old_volumes(folder):
    label_map = read_label_map(folder / "segmentation.seg.nrrd")
    edited = np.array(label_map.array)
    edited[edited == 2] = 1
    write(label_map.with_array(edited), folder / "segmentation.seg.nrrd", overwrite=True)
    finding = read_case(folder).findings[-1]
    assert finding.code == "SEGMENTATION_CHANGED"
    assert finding.severity.value == "error"
    report_of_folders([folder])
    html = (folder / "report.html").read_text()
    assert "must not be reported" in html
    assert html.index("SEGMENTATION_CHANGED") < html.index('class="amount"')


@pytest.mark.parametrize("file", ["measurements.csv", "measurements.json"])
def test_a_changed_number_stops_the_report_and_is_named(folder, file):
    """A volume edited in one table, by hand or by a fault: the error names it, and the old report stays."""
    report = (folder / "report.html").read_bytes()
    volume = json.loads((folder / "measurements.json").read_text())["segments"][1]["volume_ml"]
    text = (folder / file).read_text()
    assert str(volume) in text
    (folder / file).write_text(text.replace(str(volume), "33.25", 1 if file.endswith("csv") else -1))
    with pytest.raises(ReportNumberError, match=r"33\.25.*tumour|tumour.*33\.25"):
        report_of_folders([folder])
    assert (folder / "report.html").read_bytes() == report


@pytest.mark.slow
def test_several_scans_are_compared(case, tmp_path):
    """Two segmentations of one structure: a folder each, one report, the difference with its interval."""
    label_map = read_label_map(case[0])
    grown = np.array(label_map.array)
    grown[np.roll(grown == 2, 1, axis=0) | np.roll(grown == 2, -1, axis=0)] = 2
    write(label_map.with_array(grown), tmp_path / "scan" / "second.seg.nrrd")
    given = [Given(*case, "CT"), Given(tmp_path / "scan" / "second.seg.nrrd", case[1], "PET")]
    done = report_of_segmentations(given, tmp_path / "both", options=ReportOptions(title="Two scans", parquet=True, methods_text=True))
    assert {
        "report.html",
        "CT/report.html",
        "PET/report.html",
        "comparison.json",
        "cases.json",
        "methods.md",
        "CT/measurements.parquet",
    } <= set(done.files)
    document = json.loads((tmp_path / "both" / "comparison.json").read_text())
    rows = {(row["structure"], row["case"]): row for row in document["structures"]}
    before, after = rows["tumour", "CT"], rows["tumour", "PET"]
    assert after["difference_ml"] == pytest.approx(after["volume_ml"] - before["volume_ml"])
    low, high = after["difference_interval_ml"]
    assert low < after["difference_ml"] < high
    again = report_of_folders([tmp_path / "both"])
    assert [content.title for content in again.contents] == ["CT", "PET"]
    with pytest.raises(OutputError, match="-o FOLDER"):
        report_of_folders([tmp_path / "both" / "CT", tmp_path / "both" / "PET"])


def test_methods_text_names_what_ran(folder):
    done = report_of_folders([folder], options=ReportOptions(methods_text=True))
    text = done.files["methods.md"].read_text()
    assert "medseg" in text
    assert "tumour: " in text
    assert "Apache-2.0" in text
    keys = set(re.findall(r"@([a-z0-9]+)", text))
    assert keys == set(re.findall(r"@\w+\{(\w+),", done.files["references.bib"].read_text()))
    assert "torch" not in text  # no network ran
    with pytest.raises(OutputExistsError):  # methods.md may have been edited since
        report_of_folders([folder], options=ReportOptions(methods_text=True))
    (folder / "provenance.json").unlink()
    with pytest.raises(UnreadableFileError, match="provenance"):
        report_of_folders([folder], options=ReportOptions(methods_text=True, overwrite=True))


def test_nothing_that_is_not_ours_is_replaced(case, folder):
    (folder / "report.html").write_text("<p>mine</p>")
    with pytest.raises(OutputExistsError):
        report_of_folders([folder])
    assert (folder / "report.html").read_text() == "<p>mine</p>"
    report_of_folders([folder], options=ReportOptions(overwrite=True))
    with pytest.raises(OutputExistsError):
        report_of_segmentations([Given(*case)], folder)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"schema": "medseg.evaluate/1"}'])
def test_a_folder_without_a_result_is_refused_in_words(tmp_path, content):
    folder = tmp_path / "empty"
    folder.mkdir()
    if content is not None:
        (folder / "measurements.json").write_bytes(content)
    with pytest.raises(UnreadableFileError, match=r"measure|medseg"):
        report_of_folders([folder])


def test_lesions_come_with_their_calipers(made):
    folder, done = made
    html = (folder / "report.html").read_text()
    (section,) = done.contents[0].sections
    assert [row[0] for row in section.rows] == ["tumour-1"]
    assert 'id="extra1">Lesions' in html
    with (folder / "lesions.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["longest_diameter_mm"]) == pytest.approx(16, abs=2.2)  # a ball of 8 mm radius in voxels of 1.5 mm
    again = read_case(folder)
    assert again.sections[0].rows == section.rows
    assert len(again.sections[0].pictures) == 1
