"""A study of tiny scans, a plan, and workers that can be told to die with a case."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml

from medseg import __version__
from medseg.batch.records.case import Case, case_id_of
from medseg.batch.records.plan import Plan
from medseg.pipeline import Pipeline

PIPELINE = {
    "schema": "medseg.pipeline/1",
    "name": "bright",
    "title": "Bright voxels",
    "segment": {"method": "threshold", "parameters": {"lower": 100, "label": "bright"}},
}
VOXEL_ML = 2 * 2 * 3 / 1000
EDGES = (4, 5, 6, 7, 8, 9)  # of the bright cube in each scan, in voxels

# run by dask in every worker process as it starts: does a case beforehand, so that the times allowed below are those of a process
# that has loaded everything, and makes a case deadly, as a fault in a library would
PRELOAD = """
import ctypes, json, os, signal, tempfile, time
from pathlib import Path
from medseg import __version__
from medseg.batch.cluster import dask_task
from medseg.batch.records.case import Case, case_id_of
from medseg.batch.records.layout import Layout
from medseg.batch.records.plan import Plan
from medseg.batch.worker.case_run import CaseRunner
from medseg.pipeline import Pipeline

orders = Path({orders!r})

def warm():
    plan = Plan(Pipeline.model_validate({pipeline!r}), __version__, formats=("nii.gz",), pictures="none")
    with tempfile.TemporaryDirectory() as output:
        case = Case(case_id_of(["warm.nii.gz"]), "NIfTI", ("warm.nii.gz",))
        done = CaseRunner(plan, Path({folder!r}), Layout(Path(output)), token="warm").run(case)
    assert done.status == "done", done

def lost(self, read):
    CaseRunner.compute = lost  # after the first such error every further call in this process gets it
    time.sleep(0.5)  # the word that the case was begun leaves before the process does
    raise RuntimeError("CUDA error: an illegal memory access was encountered")

def deadly_step(self, work, stage, step=CaseRunner.step):
    dask_task.HELD_S = 1.0
    if stage == "compute" and orders.exists():
        order = json.loads(orders.read_text()).get(work.case.case_id)
        if order == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif order == "hang":
            time.sleep(600)
        elif order == "hang in C":
            ctypes.PyDLL(None).sleep(600)  # keeps the interpreter, as a library may
        elif order == "slow":
            time.sleep(1.0)
        elif order == "lose device":
            CaseRunner.compute = lost
        elif order in ("kill once", "lose device once"):
            try:
                os.close(os.open(str(orders) + work.case.case_id, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                pass
            else:
                if order == "lose device once":
                    CaseRunner.compute = lost
                else:
                    os.kill(os.getpid(), signal.SIGKILL)
    step(self, work, stage)

if CaseRunner.step.__name__ == "step":  # dask may load this twice
    warm()
    CaseRunner.step = deadly_step
"""


@dataclass(frozen=True)
class Study:
    """Tiny scans below a folder, and what is to come out of them."""

    root: Path
    cases: tuple[Case, ...]
    volumes_ml: dict[str, float]


@pytest.fixture
def plan() -> Plan:
    """Bright voxels, without pictures."""
    return Plan(Pipeline.model_validate(PIPELINE), __version__, formats=("nii.gz",), pictures="none")


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """The same as a file."""
    path = tmp_path / "bright.yaml"
    path.write_text(yaml.safe_dump(PIPELINE))
    return path


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Six NIfTI files, each with a bright cube of known size; folder and names are as odd as they come."""
    root = tmp_path / "it's a $TUDY"
    root.mkdir()
    cases, volumes_ml = [], {}
    for number, edge in enumerate(EDGES):
        name = f"Müller {number}.nii.gz"
        _write_scan(root / name, edge)
        case = Case(case_id_of([name]), "NIfTI", (name,))
        cases.append(case)
        volumes_ml[case.case_id] = edge**3 * VOXEL_ML
    return Study(root, tuple(cases), volumes_ml)


def _write_scan(path: Path, edge: int) -> None:
    array = np.zeros((16, 14, 12), np.int16)
    array[2 : 2 + edge, 2 : 2 + edge, 2 : 2 + edge] = 500
    nibabel.save(nibabel.Nifti1Image(array, np.diag([2.0, 2.0, 3.0, 1.0])), path)


@pytest.fixture
def orders(tmp_path: Path) -> Callable[[dict[str, str]], None]:
    """Tells the workers of `local_pool` what to do with a case: {case_id: "kill" | "hang" | "slow" | ...}, the words of PRELOAD."""
    return lambda given: (tmp_path / "orders.json").write_text(json.dumps(given)) and None


LocalPool = Callable[..., AbstractContextManager[Any]]


@pytest.fixture
def local_pool(tmp_path: Path) -> LocalPool:
    """Starts a LocalCluster of dask on loopback, whose workers read `orders`; skipped where dask is not installed."""
    distributed = pytest.importorskip("distributed", reason="dask is not installed: pip install 'medseg[cluster]'")
    import dask

    preload = tmp_path / "preload.py"
    preload.write_text(PRELOAD.format(orders=str(tmp_path / "orders.json"), folder=str(tmp_path), pipeline=PIPELINE))
    _write_scan(tmp_path / "warm.nii.gz", 4)

    @contextmanager
    def start(workers: int = 2, **options: Any) -> Iterator[Any]:
        settings = {
            "n_workers": workers,
            "threads_per_worker": 1,
            "host": "127.0.0.1",
            "dashboard_address": "127.0.0.1:0",
            "memory_limit": None,
        }
        environment = {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        folder = tmp_path / "workers"
        # a LocalCluster gives up a worker that is not there 15 s after it died, though it may just have died again
        patience = dask.config.set({"distributed.deploy.lost-worker-timeout": "1h"})
        with (
            patience,
            distributed.LocalCluster(
                **settings, silence_logs=50, env=environment, preload=[str(preload)], local_directory=str(folder), **options
            ) as cluster,
        ):
            yield cluster

    return start


@pytest.fixture
def slurm() -> Path:
    """The folder of the loopback SLURM that scripts/slurm_one_node.py runs around the tests (make test-cluster)."""
    folder = os.environ.get("MEDSEG_TEST_SLURM")
    if not folder:
        reason = os.environ.get("MEDSEG_TEST_SLURM_MISSING", "make test-cluster starts one")
        pytest.skip(f"no SLURM for tests: {reason}")
    return Path(folder)
