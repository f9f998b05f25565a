"""One case: what is written when it goes well, and what when it does not."""

from __future__ import annotations

import errno
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medseg.batch.records.case import Case, case_id_of
from medseg.batch.records.plan import Plan
from medseg.batch.records.result import read_result
from medseg.batch.records.results import is_done
from medseg.batch.worker import case_run
from medseg.batch.worker.case_run import CaseRunner
from medseg.core.errors import MissingDependencyError, ModelNotFoundError, OutOfMemoryError, OutputError, UnreadableFileError
from medseg.pipeline import parse_pipeline

SAMPLE = Path(__file__).parents[3] / "sample_data"
Make = Callable[..., object]


def _runner(batch, **changes: object) -> CaseRunner:
    return CaseRunner(batch.plan, batch.root, batch.layout, token="me", **changes)


def _cut_gzip(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-12])


def _garbage(file: Path) -> None:
    file.write_bytes(b"DOE^JOHN" * 100)


def _four_dimensions(file: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 3), np.int16), np.eye(4)), file)


def _no_volume(file: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4))
    content = bytearray(image.to_bytes())
    content[80:84] = np.float32(0).tobytes()  # pixdim[1]
    content[252:256] = bytes(4)  # qform_code, sform_code
    file.write_bytes(gzip.compress(bytes(content)))


def test_a_case_ends_with_the_volume_it_was_made_with(tiny_batch: Make) -> None:
    """Known from the making of the scan; the segmentation is read by nibabel and compared voxel by voxel."""
    batch = tiny_batch(2)
    for number, case in enumerate(batch.cases):
        result = _runner(batch).run(case, attempt=number + 1)
        folder = batch.layout.case(case.case_id)
        assert (result.status, result.code, result.attempts, result.modality) == ("done", "", number + 1, "CT")
        document = json.loads((folder / "measurements.json").read_text())
        assert document["segments"][0]["volume_ml"] == pytest.approx(batch.volume_ml(number), rel=1e-12)
        image, scan = nibabel.load(folder / "segmentation.nii.gz"), nibabel.load(batch.root / case.files[0])
        np.testing.assert_array_equal(np.asarray(image.dataobj) == 1, np.asarray(scan.dataobj) >= 0)
        np.testing.assert_array_equal(image.affine, scan.affine)
        assert result.checks == {"components": {"threshold": 1}}
        assert read_result(batch.layout.result(case.case_id)) == result


def test_the_same_scan_gives_the_same_bytes(tiny_batch: Make, tmp_path: Path) -> None:
    """All that the cohort is made of; only the provenance holds times."""
    from medseg.batch.records.layout import Layout

    batch = tiny_batch(1)
    first = _runner(batch).run(batch.cases[0])
    second = CaseRunner(batch.plan, batch.root, Layout(tmp_path / "again"), token="t").run(batch.cases[0])
    assert first.key == second.key
    same = {name for name in first.outputs if first.outputs[name] == second.outputs[name]}
    assert same >= {"measurements.csv", "measurements.json", "segmentation.nii.gz", "segmentation.labels.csv"}


@pytest.mark.parametrize("pictures", ["thumbnail", "report"])
def test_nothing_of_the_input_is_named_in_a_case_folder(tiny_batch: Make, pictures: str) -> None:
    """Neither the folder of the scans nor the name of a file, in any file that was written, pictures and reports included."""
    if pictures == "report":
        pytest.importorskip("matplotlib", reason="reports are drawn by the extra report")
    batch = tiny_batch(1, pictures=pictures)
    place = batch.root / "DOE^JOHN 1950-02-03"
    place.mkdir()
    (batch.root / "a0.nii.gz").rename(place / "doe_john_ct.nii")  # the suffix is wrong, which is said
    case = Case("0" * 16, "NIfTI", ("DOE^JOHN 1950-02-03/doe_john_ct.nii",))
    result = _runner(batch).run(case)
    assert result.status == "done"
    assert "WRONG_SUFFIX" in {finding["code"] for finding in result.findings}
    assert "thumbnail.png" in result.outputs
    assert ("report.html" in result.outputs) == (pictures == "report")
    for file in batch.layout.case(case.case_id).rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        content = gzip.decompress(content) if file.name.endswith(".gz") else content
        for word in (b"doe_john", b"doe^john", b"1950-02", str(batch.root).lower().encode()):
            assert word not in content.lower(), (file.name, word)


@pytest.mark.parametrize(
    ("harm", "code"),
    [
        (lambda file: file.write_bytes(b""), "UNREADABLE_FILE"),
        (_cut_gzip, "UNREADABLE_FILE"),
        (_garbage, "UNSUPPORTED_FORMAT"),
        (_four_dimensions, "SEVERAL_VOLUMES"),
        (_no_volume, "SINGULAR_AFFINE"),
    ],
)
def test_a_scan_that_cannot_be_used_is_a_failed_result(tiny_batch: Make, harm: Callable[[Path], None], code: str) -> None:
    """With its reason, its hash, and a file called by its number; the failure stands the next time."""
    batch = tiny_batch(1)
    case = batch.cases[0]
    harm(batch.root / case.files[0])
    result = _runner(batch).run(case)
    assert (result.status, result.code) == ("failed", code)
    assert "a0" not in result.message
    assert "DOE" not in result.message
    assert str(batch.root) not in result.message
    assert len(result.message) > 20
    assert result.key == batch.plan.case_key(result.inputs.sha256)
    assert [file.name for file in batch.layout.case(case.case_id).iterdir()] == ["result.json"]
    assert is_done(batch.layout, case, batch.plan, batch.root).status == "failed"


def _series(tmp_path: Path) -> tuple[Path, tuple[str, ...]]:
    root = tmp_path / "study"
    shutil.copytree(next(path for path in sorted(SAMPLE.rglob("*")) if path.is_dir() and any(path.glob("*.dcm"))), root / "DOE^JANE")
    return root, tuple(sorted(f"DOE^JANE/{file.name}" for file in (root / "DOE^JANE").glob("*.dcm")))


def test_a_series_with_a_missing_slice_fails_with_the_code_of_its_finding(tiny_batch: Make, tmp_path: Path) -> None:
    """And runs when the slice is there: the case id is that of its files, its key that of their bytes."""
    batch = tiny_batch(1)
    root, files = _series(tmp_path)
    runner = CaseRunner(batch.plan, root, batch.layout, token="me")
    whole = runner.run(Case(case_id_of(files), "DICOM", files, modality="CT"))
    assert (whole.status, whole.inputs.file_count) == ("done", len(files))
    assert "segmentation.seg.nrrd" in whole.outputs
    fewer = tuple(file for number, file in enumerate(files) if number != len(files) // 2)
    result = runner.run(Case(case_id_of(fewer), "DICOM", fewer, modality="CT"))
    assert (result.status, result.code) == ("failed", "MISSING_SLICES")
    text = result.message + json.dumps(result.findings)
    assert result.findings
    assert "DOE" not in text
    assert ".dcm" not in text
    assert f" of {len(fewer)}" in text


def test_what_changes_while_it_is_read_is_no_result(tiny_batch: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash was that of other bytes; the next run looks again."""
    batch = tiny_batch(1)
    case = batch.cases[0]
    read = case_run.read_files

    def touching(files, options):
        volume = read(files, options)
        with files[0].open("ab") as file:
            file.write(b"\0")
        return volume

    monkeypatch.setattr(case_run, "read_files", touching)
    result = _runner(batch).run(case)
    assert (result.status, result.code) == ("failed", "INPUT_CHANGED")
    assert is_done(batch.layout, case, batch.plan, batch.root).status == "missing"


@pytest.mark.parametrize("when", ["before", "while"])
def test_what_vanishes_is_gone(tiny_batch: Make, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """Before it is hashed, and between hashing and reading."""
    batch = tiny_batch(1)
    file = batch.root / batch.cases[0].files[0]
    if when == "before":
        file.unlink()
    else:
        read = case_run.read_files
        monkeypatch.setattr(case_run, "read_files", lambda files, options: (file.unlink(), read(files, options))[1])
    result = _runner(batch).run(batch.cases[0])
    assert (result.status, result.code) == ("failed", "INPUT_GONE")
    assert "file 1 of 1" in result.message


def test_a_network_share_that_stumbles_is_asked_again(tiny_batch: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice ESTALE, then the file; three times more than patience has, and it is a failure that may pass."""
    batch = tiny_batch(1)
    read, calls = case_run.read_files, []
    monkeypatch.setattr(case_run, "RETRY_AFTER_S", (0.0, 0.0, 0.0))

    def stumbling(files, options):
        calls.append(1)
        if len(calls) <= most:
            raise UnreadableFileError(f"{files[0]}: reading failed") from OSError(errno.ESTALE, "Stale file handle")
        return read(files, options)

    monkeypatch.setattr(case_run, "read_files", stumbling)
    most = 2
    assert _runner(batch).run(batch.cases[0]).status == "done"
    assert len(calls) == 3
    most = 10
    calls.clear()
    shutil.rmtree(batch.layout.folder)
    assert _runner(batch).run(batch.cases[0]).code == "IO_ERROR"
    assert len(calls) == 4


class _Panic(BaseException):
    """As pyo3's PanicException: not an Exception."""


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (_Panic("DOE^JOHN"), "UNEXPECTED"),
        (ZeroDivisionError("DOE^JOHN"), "UNEXPECTED"),
        (SystemExit(3), "UNEXPECTED"),
        (MemoryError(), "OUT_OF_MEMORY"),
        (OutOfMemoryError("cuda:0 ran out of memory"), "OUT_OF_MEMORY"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "DEVICE_LOST"),
        (RecursionError("DOE^JOHN"), "UNEXPECTED"),
    ],
)
@pytest.mark.parametrize("stage", ["read_files", "apply", "write_numbers"])
def test_whatever_is_raised_becomes_a_failed_result(
    tiny_batch: Make, monkeypatch: pytest.MonkeyPatch, stage: str, raised: BaseException, code: str
) -> None:
    """At every stage; the text of what is foreign stays out, and nothing half-written is left."""
    batch = tiny_batch(1)

    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(case_run, stage, fail)
    result = _runner(batch).run(batch.cases[0])
    assert (result.status, result.code) == ("failed", code)
    assert "DOE" not in result.message
    assert [file.name for file in batch.layout.cases.rglob("*") if file.is_file()] == ["result.json"]
    assert read_result(batch.layout.result(batch.cases[0].case_id)) == result


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), ModelNotFoundError("no model"), MissingDependencyError("no torch")])
def test_what_is_no_fault_of_the_case_leaves(tiny_batch: Make, monkeypatch: pytest.MonkeyPatch, raised: BaseException) -> None:
    """It would be so for every case; nothing is written of this one."""
    batch = tiny_batch(1)

    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(case_run, "apply", fail)
    with pytest.raises(type(raised)):
        _runner(batch).run(batch.cases[0])
    assert not batch.layout.case(batch.cases[0].case_id).exists()


def test_a_format_that_this_case_cannot_have_is_its_own_failure(tiny_batch: Make) -> None:
    """DICOM SEG of a NIfTI scan: the others of the batch may be DICOM."""
    batch = tiny_batch(1, formats=("dcm",))
    result = _runner(batch).run(batch.cases[0])
    assert (result.status, result.code) == ("failed", "OUTPUT_FORMAT")


def test_a_write_that_fails_leaves_for_the_whole_run(tiny_batch: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO of the output folder: no result, no stub, a message without the name of the case."""
    batch = tiny_batch(1)

    def fail(*_: object, **__: object) -> None:
        raise OutputError("/out/cases/x cannot be written") from OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(case_run, "write_numbers", fail)
    with pytest.raises(OutputError, match="Input/output error") as caught:
        _runner(batch).run(batch.cases[0])
    assert "cases/x" not in str(caught.value)
    assert [path for path in batch.layout.cases.rglob("*") if path.is_file() or path.name.startswith(".tmp-")] == []


def test_another_modality_is_refused_with_its_own_code(tiny_batch: Make, tmp_path: Path) -> None:
    """A pipeline for MR does not measure a CT."""
    batch = tiny_batch(1)
    root, files = _series(tmp_path)
    pipeline = batch.plan.pipeline.model_copy(update={"modality": "MR"})
    runner = CaseRunner(Plan(pipeline, "0", pictures="none"), root, batch.layout, token="me")
    assert runner.run(Case("1" * 16, "DICOM", files)).code == "WRONG_MODALITY"


def test_what_an_archive_holds_is_not_named(tiny_batch: Make) -> None:
    """Its members may bear the names of patients, which nobody outside of it knows."""
    import zipfile

    batch = tiny_batch(1)
    with zipfile.ZipFile(batch.root / "study.zip", "w") as archive:
        archive.writestr("DOE^JOHN/scan.nii", b"no image " * 50)
    result = _runner(batch).run(Case("2" * 16, "archive", ("study.zip",)))
    assert result.status == "failed"
    assert result.code in result.message
    assert "DOE" not in result.message
    assert "scan.nii" not in result.message


def test_a_thumbnail_that_cannot_be_drawn_costs_no_result(tiny_batch: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The case is done, and says why there is no picture."""
    from medseg.reporting import thumbnail

    batch = tiny_batch(1, pictures="thumbnail")

    def fail(*_: object) -> bytes:
        raise ValueError("DOE^JOHN")

    monkeypatch.setattr(thumbnail, "thumbnail_png", fail)
    result = _runner(batch).run(batch.cases[0])
    assert result.status == "done"
    assert "thumbnail.png" not in result.outputs
    assert [finding["code"] for finding in result.findings][-1] == "NO_THUMBNAIL"


def test_a_model_is_read_once_for_many_scans(tiny_batch: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are loaded for the first scan and kept; each scan gets the same labels as on its own."""
    pytest.importorskip("torch", reason="networks need the extra learned")
    from medseg.method.settings import RunSettings
    from medseg.segmentation.learned import medseg_model

    text = "schema: medseg.pipeline/1\nname: n\nmodality: CT\nsegment:\n  method: model\n  parameters: {model: ct-phantom}\n"
    batch = tiny_batch(3)
    plan = Plan(parse_pipeline(text, "n"), "0", pictures="none")
    load, loaded = medseg_model.load_network, []
    monkeypatch.setattr(medseg_model, "load_network", lambda *given: loaded.append(1) or load(*given))
    runner = CaseRunner(plan, batch.root, batch.layout, token="me", settings=RunSettings(device="cpu"))
    kept = [runner.compute(runner.read(case)).result.label_map for case in batch.cases]
    assert len(loaded) == 1
    alone = CaseRunner(plan, batch.root, batch.layout, token="me", settings=RunSettings(device="cpu"))
    fresh = alone.compute(alone.read(batch.cases[2])).result.label_map
    np.testing.assert_array_equal(kept[2].array, fresh.array)
    assert len(loaded) == 2
