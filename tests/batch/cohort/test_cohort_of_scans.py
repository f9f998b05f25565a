"""From scans to the cohort table, the whole way: volumes are those that counting voxels with nibabel gives."""

from __future__ import annotations

import csv
import subprocess
import sys

import nibabel
import numpy as np
import pytest

from medseg.batch.cases.find_cases import find_cases
from medseg.batch.cohort.write_cohort import write_cohort
from medseg.batch.records.batch_file import write_batch
from medseg.batch.records.layout import Layout
from medseg.batch.records.plan import Plan
from medseg.batch.worker.case_run import CaseRunner
from medseg.method.settings import RunSettings
from medseg.pipeline import Pipeline

PIPELINE = {"schema": "medseg.pipeline/1", "name": "tiny", "segment": {"method": "threshold", "parameters": {"lower": 0}}}


@pytest.fixture
def done(tmp_path, affine):
    """Two sound scans and a broken one, on a grid of each kind."""
    scans, layout = tmp_path / "scans", Layout(tmp_path / "out")
    scans.mkdir(), layout.folder.mkdir()
    rng = np.random.default_rng(4)
    for name, radius in (("small", 4), ("large", 6)):
        distance = np.linalg.norm(np.indices((20, 18, 16)) - np.array([9.2, 8.7, 8.1])[:, None, None, None], axis=0)
        array = np.where(distance < radius, 60, -900) + rng.integers(-5, 5, distance.shape)
        nibabel.save(nibabel.Nifti1Image(array.astype(np.int16), affine), scans / f"{name}.nii.gz")
    (scans / "broken.nii.gz").write_bytes((scans / "small.nii.gz").read_bytes()[:900])
    plan = Plan(Pipeline.model_validate(PIPELINE), "1.0", pictures="none")
    write_batch(layout, plan, None, {"python": "3"})
    with find_cases(scans, output=layout.folder, salt=b"salt") as found:
        found.save(layout)
        cases = list(found.cases())
    runner = CaseRunner(plan, scans, layout, settings=RunSettings(), token="t")
    for case in cases:
        runner.run(case)
    return scans, layout, {case.files[0]: case.case_id for case in cases}


def test_the_table_says_what_nibabel_counts(done):
    scans, layout, ids = done
    summary = write_cohort(layout, identify=True)
    counts = summary.counts
    assert (counts["found"], counts["cases"], counts["done"], counts["analysed"], counts["failed"]["total"]) == (3, 3, 2, 2, 1)
    with layout.cohort.open(newline="", encoding="utf-8") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    assert {path: row["case_id"] for path, row in rows.items()} == ids
    for name in ("small.nii.gz", "large.nii.gz"):
        image = nibabel.load(scans / name)
        expected = np.count_nonzero(np.asarray(image.dataobj) >= 0) * abs(np.linalg.det(image.affine[:3, :3])) / 1000
        assert float(rows[name]["volume_ml"]) == pytest.approx(expected, rel=1e-9)
        assert float(rows[name]["volume_low_ml"]) < expected < float(rows[name]["volume_high_ml"])
    broken = rows["broken.nii.gz"]
    assert broken["case_status"] == "failed"
    assert broken["case_code"]
    assert "broken.nii.gz" not in broken["case_message"]
    assert str(scans) not in layout.cohort.read_text().replace(broken["path"], "")


def test_counting_needs_no_heavy_package():
    """A run ends with the cohort in the program that never looks at pixels: it stays small."""
    heavy = ("torch", "monai", "numba", "SimpleITK", "pydicom", "highdicom", "nibabel", "matplotlib", "scipy")
    program = (
        "import sys; import medseg.batch.cohort.write_cohort, medseg.batch.cohort.qc, medseg.batch.cohort.lock_file; "
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.strip() == "[]"
