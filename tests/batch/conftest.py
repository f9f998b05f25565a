"""A folder of tiny scans whose volumes are known from their making, and the plan that finds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medseg import __version__
from medseg.batch.records.case import Case, case_id_of
from medseg.batch.records.layout import Layout
from medseg.batch.records.plan import Plan
from medseg.pipeline import parse_pipeline

TINY_PIPELINE = """\
schema: medseg.pipeline/1
name: tiny
modality: CT
segment:
  method: threshold
  parameters: {lower: 0}
"""


@dataclass(frozen=True)
class TinyBatch:
    """Scans `a0.nii.gz`, `a1.nii.gz`, ... below `root`; of number n the cube has 4·(n+1) layers of 16 mm2: 0.128·(n+1) ml."""

    root: Path
    layout: Layout
    plan: Plan
    cases: tuple[Case, ...]

    @staticmethod
    def volume_ml(number: int) -> float:
        """The volume of the cube, from its making: 4 × 4 mm in the plane, (n+1) × 4 layers of 2 mm."""
        return 4 * 4 * (number + 1) * 4 * 2 / 1000


@pytest.fixture
def tiny_batch(tmp_path: Path) -> Callable[..., TinyBatch]:
    """Make a batch of so many tiny scans."""

    def make(count: int = 1, **plan: object) -> TinyBatch:
        root = tmp_path / "scans"
        root.mkdir(exist_ok=True)
        cases = []
        for number in range(count):
            array = np.full((12, 12, 4 * (number + 1) + 4), -1000, np.int16)
            array[4:8, 4:8, 2:-2] = 60
            name = f"a{number}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(array, np.diag([1.0, 1.0, 2.0, 1.0])), root / name)
            cases.append(Case(case_id_of([name]), "NIfTI", (name,)))
        made = Plan(parse_pipeline(TINY_PIPELINE, "tiny"), __version__, **{"pictures": "none", **plan})
        return TinyBatch(root, Layout(tmp_path / "out"), made, tuple(cases))

    return make
