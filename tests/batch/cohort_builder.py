"""Cohort folders made by hand, as a batch leaves them behind: real measurements of tiny scenes, results written by hand."""

from __future__ import annotations

import csv
import hashlib
import io
import json

import numpy as np

import medseg
from medseg.batch.cases.case_files import FOUND_COLUMNS, LINKAGE_COLUMNS
from medseg.batch.cohort.review_file import Decision, mark_of, update_review
from medseg.batch.records.batch_file import write_batch
from medseg.batch.records.layout import Layout
from medseg.batch.records.plan import Plan
from medseg.batch.records.result import CaseResult, Inputs, Output
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.measurement.measure import measure
from medseg.pipeline import Pipeline

GRID = Geometry((20, 18, 12), np.diag([-2.0, -2.0, 3.0, 1.0]))
SEGMENTS = (Segment(1, "liver"), Segment(2, "left lung"))
PLAN = Plan(
    Pipeline.model_validate(
        {"schema": "medseg.pipeline/1", "name": "tiny", "segment": {"method": "threshold", "parameters": {"lower": 0}}}
    ),
    "1.0",
)
NAMES = [f"{n:016x}" for n in range(40, 60)]


def scene(size: int, unit: str = "HU") -> tuple[LabelMap, Volume]:
    """A liver of size × 6 × 6 voxels, and a left lung that the border cuts; the scan is 40 in the liver, -800 in the lung."""
    array = np.zeros(GRID.shape, np.uint8, order="F")
    array[2 : 2 + size, 3:9, 3:9] = 1
    array[12:20, 12:16, 2:9] = 2
    intensity = np.select([array == 1, array == 2], [40, -800], -1000).astype(np.int16)
    return LabelMap(array, GRID, SEGMENTS), Volume(np.asfortranarray(intensity), GRID, "CT" if unit else "", unit)


class Cohort:
    """A folder as a batch leaves it behind."""

    def __init__(self, folder):
        self.layout = Layout(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_batch(self.layout, PLAN, None, {"python": "3"})
        self.found, self.linked = [], []

    def case(self, case_id, patient="p1", study="s1"):
        self.found.append(("case", "", case_id, "DICOM", "CT", 12, 12, study, patient))
        self.linked.append(
            ("yes", "", case_id, "DICOM", "CT", 12, 12, f"in/{case_id[-2:]}", "1.2", "1.3", f"ID{case_id[-2:]}", study, patient)
        )

    def left_out(self, reason, count=1, patient="p1"):
        self.found += [("left out", reason, "", "DICOM", "CT", 3, 3, "s1", patient)] * count

    def write_found(self):
        self.layout.private.mkdir(exist_ok=True)
        for path, head, rows in ((self.layout.found, FOUND_COLUMNS, self.found), (self.layout.case_table, LINKAGE_COLUMNS, self.linked)):
            with path.open("w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows([head, *rows, *([] if rows is self.linked else [PASSED])])

    def done(self, case_id, size=6, unit="HU", components=1, findings=(), attempts=1, **result):
        label_map, volume = scene(size, unit)
        folder = self.layout.case(case_id)
        folder.mkdir(parents=True)
        document = measure(label_map, volume).to_dict() | {"findings": list(findings), "title": "Tiny"}
        medseg.write(label_map, folder / "segmentation.nii.gz")
        (folder / "measurements.json").write_text(json.dumps(document))
        data = (folder / "measurements.json").read_bytes()
        outputs = {"measurements.json": Output(len(data), hashlib.sha256(data).hexdigest())}
        checks = {"components": {"liver": components, "left lung": 1}}
        own = {"attempts": attempts, "finished": f"2026-01-01T00:00:0{attempts}Z", "seconds": {"read": 0.1 * attempts}}
        own |= {"device": "cpu" if attempts == 1 else "cuda:0", "inputs": Inputs(case_id * 2, 12, 99, ""), "modality": volume.modality}
        self.write(
            CaseResult(
                case_id, "done", PLAN.key, key_of(case_id), outputs=outputs, checks=checks, findings=tuple(findings), **own, **result
            )
        )
        return document

    def failed(self, case_id, code="MISSING_SLICES", message="2 slices are missing"):
        self.layout.case(case_id).mkdir(parents=True)
        self.write(CaseResult(case_id, "failed", PLAN.key, code=code, message=message))

    def write(self, result):
        self.layout.result(result.case_id).write_text(result.to_json())

    def decide(self, **decisions):
        update_review(self.layout, {NAMES[int(n[1:])]: decision for n, decision in decisions.items()})

    def rows(self, name="cohort.csv"):
        return list(csv.DictReader(io.StringIO((self.layout.folder / name).read_bytes().decode(), newline="")))

    def of(self, n, name="cohort.csv"):
        return [row for row in self.rows(name) if row["case_id"] == NAMES[n]]


PASSED = ("passed over", "no image", "", "", "", "", 7, "", "")


def key_of(case_id):
    return PLAN.case_key(case_id)


def decision(n, what, when=1, mark=None):
    return Decision(what, "A. Reader", f"2026-05-0{when}T10:00:00Z", result=mark_of(key_of(NAMES[n])) if mark is None else mark)


def build(folder, order=range(12), attempts=1):
    """Twelve cases: nine done, two failed, one not run; five series left out."""
    cohort = Cohort(folder)
    for n in range(12):
        cohort.case(NAMES[n], patient=f"p{n // 2}", study=f"s{n}")
    cohort.left_out("localizer", 4)
    cohort.left_out("too few slices", 1, patient="p99")
    cohort.write_found()
    for n in order:
        if n < 9:
            cohort.done(NAMES[n], size=1 if n == 8 else 5 + n % 3, components=7 if n == 3 else 1, attempts=attempts)
        elif n < 11:
            cohort.failed(NAMES[n], *(("TIMEOUT", "took too long") if n == 10 else ()))
    return cohort
