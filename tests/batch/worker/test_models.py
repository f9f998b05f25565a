"""The hashes of models and label maps, without loading what runs them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from medseg.batch.worker.models import models_of
from medseg.core.errors import ModelNotFoundError, PipelineError
from medseg.pipeline import builtin_pipelines, parse_pipeline
from medseg.segmentation.learned.store.find import builtin_folder


def _pipeline(method: str, **parameters: object):
    text = f"schema: medseg.pipeline/1\nname: n\nsegment:\n  method: {method}\n  parameters: {parameters}\n"
    return parse_pipeline(text, "n")


def test_a_model_is_known_by_what_it_holds(tmp_path: Path) -> None:
    """A copy elsewhere has the same hash, a changed byte another."""
    found = models_of(builtin_pipelines()["ct-phantom"])
    assert list(found) == ["ct-phantom"]
    copy = tmp_path / "ct-phantom"
    shutil.copytree(builtin_folder() / "ct-phantom", copy)
    assert models_of(_pipeline("model", model=str(copy))) == found
    weights = next(copy.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert models_of(_pipeline("model", model=str(copy)))["ct-phantom"] != found["ct-phantom"]


def test_the_default_model_of_a_method_counts() -> None:
    """A pipeline that names none runs one all the same."""
    assert models_of(_pipeline("model")) == models_of(builtin_pipelines()["ct-phantom"])


def test_a_classical_pipeline_has_none() -> None:
    """Nothing to hash."""
    assert models_of(_pipeline("threshold", lower=0)) == {}


def test_a_label_map_is_part_of_it(tmp_path: Path) -> None:
    """By its content: the same file elsewhere is the same."""
    from medseg.method.catalog import methods
    from medseg.method.schema import parameters_of

    name, parameter = next((m.name, p.name) for m in methods() for p in parameters_of(m.params) if p.kind == "label-map")
    first, second = tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"
    first.write_bytes(b"labels")
    second.write_bytes(b"labels")
    base = _pipeline("threshold", lower=0)
    step = base.segment.model_copy(update={"method": name, "parameters": {parameter: str(first)}})
    found = models_of(base.model_copy(update={"segment": step}))
    assert list(found) == [f"{name}.{parameter}"]
    other = step.model_copy(update={"parameters": {parameter: str(second)}})
    assert models_of(base.model_copy(update={"segment": other})) == found
    second.write_bytes(b"other")
    assert models_of(base.model_copy(update={"segment": other})) != found
    second.unlink()
    with pytest.raises(PipelineError):
        models_of(base.model_copy(update={"segment": other}))


def test_a_missing_model_is_said(tmp_path: Path) -> None:
    """Before anything runs."""
    with pytest.raises(ModelNotFoundError):
        models_of(_pipeline("model", model="no-such-model"), [tmp_path])


def test_neither_torch_nor_kernels_are_loaded() -> None:
    """The parent of a batch asks this; it must stay light."""
    code = (
        "import sys\n"
        "from medseg.batch.worker.models import models_of\n"
        "from medseg.pipeline import builtin_pipelines\n"
        "assert models_of(builtin_pipelines()['ct-phantom'])\n"
        "import medseg.batch.records.results, medseg.batch.worker.messages\n"
        "print([name for name in ('torch', 'monai', 'SimpleITK', 'nibabel', 'pydicom') if name in sys.modules])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
