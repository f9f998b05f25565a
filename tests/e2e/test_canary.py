"""No name, number, birth date or accession of a patient leaves the scan: not in results, logs, errors or file names.

DICOM objects that belong to the scan (SEG, RTSTRUCT, SR) carry its patient module on purpose, as an archive needs it; they are
the one exception, and the folder of originals is another.
"""

from __future__ import annotations

import os
from pathlib import Path

import pydicom
import pytest

CANARIES = ("zzcanary", "qqgiven", "zz-id-77", "19431231", "zzacc-99", "zzother-5")
SEED = "--seed=-40,20,90"


@pytest.fixture
def scan(tmp_path: Path, sample_data: Path) -> Path:
    """The sample CT with a patient whose every identifier is a word of its own."""
    folder = tmp_path / "scan"
    folder.mkdir()
    for file in sorted((sample_data / "torso" / "dicom").iterdir()):
        dataset = pydicom.dcmread(file)
        dataset.PatientName = "ZZCANARY^QQGIVEN"
        dataset.PatientID = "ZZ-ID-77"
        dataset.PatientBirthDate = "19431231"
        dataset.AccessionNumber = "ZZACC-99"
        dataset.OtherPatientIDs = "ZZOTHER-5"
        dataset.SeriesDescription = "ZZCANARY head"
        dataset.InstitutionName = "ZZCANARY clinic"
        dataset.save_as(folder / file.name)
    return folder


def _damage(scan: Path, kind: str) -> None:
    files = sorted(scan.iterdir())
    if kind == "cut short":
        files[3].write_bytes(files[3].read_bytes()[:3000])
    elif kind == "in the header":
        files[3].write_bytes(files[3].read_bytes()[:300])
    elif kind == "slice missing":
        files[20].unlink()
    else:
        dataset = pydicom.dcmread(files[3])
        dataset.add_new(0x00280030, "LO", "ZZCANARY")  # pixel spacing that is the patient's name
        dataset.save_as(files[3])


def _canaries_in(text: str) -> list[str]:
    return [word for word in CANARIES if word in text.lower()]


def _leaks(folder: Path, original: Path) -> list[str]:
    found = []
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            found += [f"name of {name}" for _ in _canaries_in(name)]
        for name in files:
            path = Path(root) / name
            if original in path.parents or path.name.endswith(".dcm"):
                continue
            content = path.read_bytes().decode("latin-1")
            found += [f"{word} in {path.name}" for word in _canaries_in(content)]
    return found


@pytest.mark.parametrize("as_json", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_results_hold_nothing_of_the_patient(medseg, scan: Path, tmp_path: Path, as_json: bool) -> None:
    more = ["--json"] if as_json else []
    runs = [
        medseg("inspect", scan, *more),
        medseg("convert", scan, tmp_path / "ct.nii.gz", *more),
        medseg("convert", scan, tmp_path / "ct.nrrd", *more),
        medseg("segment", "threshold", scan, "-o", tmp_path / "bone.nii.gz", "--lower", "200", *more),
        medseg("convert", tmp_path / "bone.nii.gz", tmp_path / "bone.dcm", "--source", scan, "--label-map", *more),
        medseg("inspect", tmp_path / "bone.dcm", *more),
        medseg("measure", tmp_path / "bone.dcm", "--image", scan, "-o", tmp_path / "t.csv", *more),
        medseg("deid", scan, "-o", tmp_path / "deid", *more),
    ]
    if as_json:  # the whole pipeline is the slow part
        runs.append(medseg("run", "ct-phantom", scan, "-o", tmp_path / "run", *more))
    assert [done.code for done in runs if done.code] == [], [done.err for done in runs if done.code]
    assert not [_canaries_in(done.out + done.err) for done in runs if _canaries_in(done.out + done.err)]
    assert _leaks(tmp_path, scan) == []
    for file in (tmp_path / "deid").rglob("*.dcm"):
        assert not _canaries_in(file.read_bytes().decode("latin-1"))


@pytest.mark.parametrize("kind", ["cut short", "in the header", "slice missing", "wrong value"])
def test_errors_hold_nothing_of_the_patient(medseg, scan: Path, tmp_path: Path, kind: str) -> None:
    _damage(scan, kind)
    runs = [
        medseg("inspect", scan),
        medseg("inspect", scan, "--json"),
        medseg("convert", scan, tmp_path / "ct.nii.gz"),
        medseg("segment", "threshold", scan, "-o", tmp_path / "bone.nii.gz", "--lower", "200", "--json"),
        medseg("deid", scan, "-o", tmp_path / "deid"),
    ]
    assert runs[2].code == 3
    assert not [_canaries_in(done.out + done.err) for done in runs if _canaries_in(done.out + done.err)]
    assert _leaks(tmp_path, scan) == []


@pytest.mark.slow
def test_a_batch_names_the_patient_in_its_private_part_alone(medseg, scan: Path, tmp_path: Path) -> None:
    (tmp_path / "studies" / "ZZCANARY^QQGIVEN").mkdir(parents=True)
    scan.rename(tmp_path / "studies" / "ZZCANARY^QQGIVEN" / "scan")
    broken = tmp_path / "studies" / "zz-id-77 zzacc-99"
    broken.mkdir()
    (broken / "ZZCANARY.nii.gz").write_bytes(b"\x1f\x8b\x08\x00ZZCANARY")
    (tmp_path / "p.yaml").write_text(
        "schema: medseg.pipeline/1\nname: bone\nsegment: {method: threshold, parameters: {lower: 200, label: bone}}\n"
    )
    batch = ("batch", "studies", "-o", "out", "--pipeline", "p.yaml")
    runs = [
        medseg(*batch, "--dry-run"),
        medseg(*batch),
        medseg(*batch, "--json-events", "--retry-failed"),
        medseg("report", "out"),
        medseg("verify", "out"),
    ]
    assert [done.code for done in runs] == [0, 1, 1, 0, 0], [done.err for done in runs]
    assert not [_canaries_in(done.out + done.err) for done in runs if _canaries_in(done.out + done.err)]
    (tmp_path / "out" / "private").rename(tmp_path / "private")
    assert _leaks(tmp_path / "out", tmp_path / "studies") == []
    assert _leaks(tmp_path / "private", tmp_path / "studies") != []  # the test can see it where it is
