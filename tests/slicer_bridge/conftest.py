"""A real worker as a child process, and scans handed over to it as the extension does."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.slicer_bridge import paths
from medseg.slicer_bridge.client import Worker

ROOT = Path(__file__).resolve().parents[2]
MODULE = ["-m", paths.WORKER_MODULE]


class Host:
    """What the extension does with a worker: hand over arrays, send a job, collect events until its last one."""

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        self.folder = folder
        environment = paths.clean_environment(os.environ) | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.worker = Worker([sys.executable, *arguments], environment=environment)
        self.events: list[dict[str, Any]] = []
        self._pending: list[dict[str, Any]] = []
        self.worker.start()

    def until(self, is_last: Callable[[dict[str, Any]], bool], limit_s: float = 60.0) -> dict[str, Any]:
        """Collect events up to the first that is wanted."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            self._pending += [] if self._pending else self.worker.wait(0.5)
            while self._pending:
                event = self._pending.pop(0)
                self.events.append(event)
                if is_last(event):
                    return event
        raise AssertionError(f"no such event in {limit_s} s; there were {self.events}; log {self.worker.stderr}")

    def ready(self) -> dict[str, Any]:
        return self.until(lambda event: event["event"] == "ready")

    def end(self, id: str, limit_s: float = 60.0) -> dict[str, Any]:
        """Return the last event of a job."""
        return self.until(lambda event: event.get("id") == id and event["event"] in ("result", "error"), limit_s)

    def run(self, **job: Any) -> dict[str, Any]:
        """Do a job and return its last event."""
        return self.end(self.worker.send({"out": str(self.folder), **job} if job["do"] not in _WITHOUT_FOLDER else job))

    def result(self, **job: Any) -> dict[str, Any]:
        """Do a job that must succeed."""
        event = self.run(**job)
        assert event["event"] == "result", event
        return event

    def error(self, **job: Any) -> dict[str, Any]:
        """Do a job that must be refused."""
        event = self.run(**job)
        assert event["event"] == "error", event
        return event

    def scan(self, volume: Volume, name: str = "scan") -> dict[str, Any]:
        """Hand over a scan."""
        path = self.folder / f"{name}.npy"
        np.save(path, volume.array.T)
        about = {"modality": volume.modality, "unit": volume.unit, "name": name}
        return {"key": name, "array": str(path), "ijk_to_ras": volume.geometry.affine.tolist(), **about}

    def labels(self, label_map: LabelMap, name: str = "given") -> dict[str, Any]:
        """Hand over segments, the whole grid of them."""
        path = self.folder / f"{name}.npy"
        np.save(path, label_map.array.T)
        i, j, k = label_map.geometry.shape
        return {
            "array": str(path),
            "extent": [0, i - 1, 0, j - 1, 0, k - 1],
            "shape": [k, j, i],
            "ijk_to_ras": label_map.geometry.affine.tolist(),
            "segments": [segment.to_dict() for segment in label_map.segments],
        }

    @staticmethod
    def array(ref: dict[str, Any]) -> np.ndarray:
        """Return the labels (k,j,i) of a reference on its whole grid."""
        whole = np.zeros(ref["shape"], np.uint32)
        i0, i1, j0, j1, k0, k1 = ref["extent"]
        if ref["array"]:
            whole[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1] = np.load(ref["array"])
        return whole


_WITHOUT_FOLDER = ("describe", "audit", "doctor", "forget")


@pytest.fixture
def job_folder(tmp_path: Path) -> Path:
    return paths.make_job_folder(tmp_path / "jobs")


@pytest.fixture
def hosts(job_folder: Path) -> Iterator[Callable[..., Host]]:
    """Start workers, ordinary ones or with arguments of their own; they are closed in the end."""
    started: list[Host] = []

    def start(*arguments: str) -> Host:
        started.append(Host(job_folder, list(arguments) or MODULE))
        return started[-1]

    yield start
    for host in started:
        host.worker.close()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One worker for the tests of a file that do not harm it."""
    host = Host(paths.make_job_folder(tmp_path_factory.mktemp("jobs")), MODULE)
    host.ready()
    yield host
    host.worker.close()
    assert not host.worker.is_alive
