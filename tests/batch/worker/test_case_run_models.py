"""A worker's trained model: got ready once for all of its cases, whatever wrote it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("monai")

from builds import count_builds
from sound_models import SOUND

from medseg import __version__
from medseg.batch.records.layout import Layout
from medseg.batch.records.plan import Plan
from medseg.batch.worker.case_run import CaseRunner
from medseg.batch.worker.models import models_of
from medseg.method.settings import RunSettings
from medseg.pipeline import Pipeline, parse_pipeline

CPU = RunSettings(device="cpu")


def _pipeline(folder: Path) -> Pipeline:
    text = f"schema: medseg.pipeline/1\nname: n\nmodality: CT\nsegment:\n  method: model\n  parameters: {{model: {str(folder)!r}}}\n"
    return parse_pipeline(text, "n")


@pytest.mark.parametrize("kind", SOUND)
def test_three_cases_build_one_network(
    kind: str, tiny_batch: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each has the segmentation, to the byte, that a worker of its own would write."""
    pipeline = _pipeline(SOUND[kind](tmp_path / "models"))
    batch = tiny_batch(3)
    plan = Plan(pipeline, __version__, pictures="none", models=models_of(pipeline))
    alone = []
    for number, case in enumerate(batch.cases):
        own = CaseRunner(plan, batch.root, Layout(tmp_path / f"alone{number}"), settings=CPU, token="t")
        alone.append(own.run(case).outputs["segmentation.nii.gz"].sha256)
    counts = count_builds(monkeypatch)
    runner = CaseRunner(plan, batch.root, batch.layout, settings=CPU, token="t")
    once: dict[str, int] = {}
    for case, digest in zip(batch.cases, alone, strict=True):
        result = runner.run(case)
        assert (result.status, result.code) == ("done", "")
        file = batch.layout.case(case.case_id) / "segmentation.nii.gz"
        assert hashlib.sha256(file.read_bytes()).hexdigest() == digest
        once = once or dict(counts)
        assert dict(counts) == once
    assert (once["read"], once["filled"]) == (1, 1)
