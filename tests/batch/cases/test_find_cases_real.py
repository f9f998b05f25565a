"""Searching real scans, and files that chance has damaged: every file is accounted for, and nothing but the files decides."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from made_studies import write_object, write_slices
from pydicom.errors import InvalidDicomError

from medseg.batch.cases.find_cases import find_cases
from medseg.batch.records.case import Case, LeftOut


def found_in(folder: Path, *select: str, modality: str = "") -> tuple[list[Case], list[LeftOut]]:
    with find_cases(folder, salt=b"test", select=select, modality=modality) as found:
        cases, left_out, counts = list(found.cases()), list(found.left_out()), found.counts
    named = {name for one in (*cases, *left_out) for name in one.files}
    assert len(named) + sum(counts["passed_over"].values()) == counts["files"]
    return cases, left_out


@pytest.fixture(scope="module")
def headers(shared_data: Path) -> dict[str, tuple[str, str]]:
    """Series and study of every real DICOM file, as pydicom reads them, by its path."""
    return {
        name: (str(data.get("SeriesInstanceUID", "")), str(data.get("StudyInstanceUID", ""))) for name, data in dicom_files(shared_data)
    }


def dicom_files(folder: Path) -> Iterator[tuple[str, pydicom.Dataset]]:
    """Every DICOM file as pydicom reads it, by its path below the folder."""
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        try:
            data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SeriesInstanceUID", "StudyInstanceUID", "Rows"])
        except InvalidDicomError:
            continue
        yield path.relative_to(folder).as_posix(), data


@pytest.mark.parametrize("modality", ["", "CT"])
def test_real_files_are_grouped_by_their_series(shared_data: Path, headers: dict[str, tuple[str, str]], modality: str) -> None:
    expected: dict[str, set[str]] = {}
    for name, (series, _) in headers.items():
        expected.setdefault(series or os.path.dirname(name), set()).add(name)
    cases, left_out = found_in(shared_data, "all", modality=modality)
    got = {frozenset(one.files) for one in (*cases, *left_out) if one.kind == "DICOM"}
    assert got == {frozenset(files) for files in expected.values()}
    assert {case.modality for case in cases if case.kind == "DICOM"} == ({modality} if modality else {"CT", "MR", "PT"})


def test_of_each_real_study_one_series_is_run(shared_data: Path, headers: dict[str, tuple[str, str]]) -> None:
    cases, _ = found_in(shared_data, modality="MR")
    studies = [headers[case.files[0]][1] for case in cases if case.kind == "DICOM" and case.study]
    assert len(studies) == len(set(studies)) > 5


def test_files_damaged_by_chance_are_all_accounted_for(tmp_path: Path) -> None:
    chance = random.Random(8)
    made = tmp_path / "made"
    sources = write_slices(made / "ct", count=2)
    sources += write_slices(made / "mosaic", "1.2.9", 1, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"], Modality="MR")
    sources += write_slices(made / "frames", "1.2.8", 1, SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1", NumberOfFrames=5)
    sources.append(write_object(made / "sr.dcm", "1.2.840.10008.5.1.4.1.1.88.33", "SR"))
    for ending in (".nii", ".nii.gz"):
        nibabel.save(nibabel.Nifti1Image(np.zeros((6, 5, 7), np.int16), np.eye(4)), made / f"x{ending}")
        sources.append(made / f"x{ending}")
    header = (
        b"NRRD0004\ntype: short\ndimension: 3\nsizes: 6 5 7\nendian: little\nencoding: raw\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n\n"
    )
    (made / "x.nrrd").write_bytes(header + bytes(420))
    sources.append(made / "x.nrrd")
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(600):
        source = sources[number % len(sources)]
        content = bytearray(source.read_bytes())
        for _ in range(chance.choice((1, 1, 4, 30))):
            content[chance.randrange(min(len(content), 1500))] = chance.randrange(256)
        cut = chance.randrange(len(content)) if chance.random() < 0.2 else len(content)
        ending = ".nii.gz" if source.name.endswith(".gz") else source.suffix
        (folder / f"{number}{ending}").write_bytes(content[:cut])
    cases, left_out = found_in(folder, "all", "Slices>=1")
    named = {name for one in (*cases, *left_out) for name in one.files}
    # an image by name is never passed over, however it looks inside
    assert named == set(os.listdir(folder))
