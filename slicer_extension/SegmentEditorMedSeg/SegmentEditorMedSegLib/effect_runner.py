"""Where a method runs: in Slicer's own process when it takes a moment and its packages are there, else in MedSeg's process."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import slicer
from MedSegLib import nodes
from MedSegLib.session import JobError, Session
from slicer.i18n import tr as _

from SegmentEditorMedSegLib import effect_grid
from SegmentEditorMedSegLib.nested import NestedRegion, nestedRegion

MOST_NESTED_ML = 5000.0  # regions beyond this are no organ or tumour any more; the slider ends here
QUICK_VOXELS = 4_000_000  # scans up to here are grown and smoothed in less than 0.3 s
NEEDED_IN_PROCESS = ("medseg", "numba", "scipy", "pydantic", "SimpleITK")


@dataclass(frozen=True, eq=False)
class Work:
    """A method with its parameters (points in the world's RAS mm) and what it works on.

    `volumeNode` is the scan. `labels` is the label map that a postprocess method changes, `labelParameters` are parameters
    that are label maps, `scanPart` is (voxels (k,j,i), matrix to the world) in place of the whole scan, `region` a box of it.
    `findings` are known before it runs, and are told with what it finds.
    """

    method: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    volumeNode: Any = None
    labels: Any = None
    labelParameters: Mapping[str, Any] = field(default_factory=dict)
    scanPart: tuple[np.ndarray, np.ndarray] | None = None
    region: tuple[int, ...] | None = None
    isNested: bool = False
    isQuick: bool = False
    findings: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a method found: numbers (k,j,i) at `extent` of a grid, `toWorld` that grid's matrix to RAS mm.

    `segments` and `findings` are dictionaries; `nested` holds all regions where these were asked for.
    """

    array: np.ndarray
    extent: tuple[int, ...]
    toWorld: np.ndarray
    segments: list[dict[str, Any]]
    findings: list[dict[str, Any]]
    seconds: float
    nested: NestedRegion | None = None


class Run:
    """A run on its way; `cancel` ends it, and nothing is reported afterwards. A quick one is over in a moment by itself."""

    def __init__(self, isQuick: bool = False) -> None:
        self.jobId = ""
        self.isQuick = isQuick
        self.isOver = False

    def cancel(self) -> None:
        """Stop the work."""
        if not self.isOver:
            self.isOver = True
            Session.instance().cancel(self.jobId)


def canRunInProcess() -> bool:
    """Whether Slicer's own Python holds what the classical methods need (the light installation)."""
    try:
        return all(importlib.util.find_spec(name) is not None for name in NEEDED_IN_PROCESS)
    except (ImportError, ValueError):
        return False


def start(
    work: Work, onDone: Callable[[Outcome], None], onError: Callable[[str, str], None], onProgress: Callable[[dict[str, Any]], None]
) -> Run:
    """Start a work; `onDone` gets the outcome, or `onError` the sentence and the kind of what went wrong.

    Quick work in Slicer's own process is over when this returns.
    """

    def done(outcome: Outcome) -> None:
        told = [one["message"] for one in outcome.findings]
        outcome.findings[:0] = [one for one in work.findings if one["message"] not in told]
        onDone(outcome)

    if work.isQuick and canRunInProcess():
        return _runHere(work, done, onError)
    try:
        return _runInWorker(work, done, onError, onProgress)
    except JobError as err:
        if err.kind == "NotInstalled" and canRunInProcess() and work.method != "model":
            return _runHere(work, done, onError)
        onError(str(err), err.kind)
        return _over()


def warmUp(methods: tuple[str, ...]) -> None:
    """Start MedSeg's process where the work will be done there, so that the first click does not wait for it."""
    job = {"do": "describe", "names": list(methods)}
    for wish in ({"warm": True}, {}) if methods and not canRunInProcess() else ():
        try:
            Session.instance().submit({**job, **wish}, lambda _event: None)
            return
        except JobError as err:
            if err.kind != "Job":  # nothing is installed: the first run says so
                return


def _over() -> Run:
    run = Run()
    run.isOver = True
    return run


# In Slicer's process


def _runHere(work: Work, onDone: Callable[[Outcome], None], onError: Callable[[str, str], None]) -> Run:
    from medseg.core.errors import MedsegError

    slicer.app.setOverrideCursor(_waitCursor())
    try:
        outcome, problem = computed(work), None
    except (MedsegError, JobError) as err:
        outcome, problem = None, (str(err), type(err).__name__)
    except MemoryError:
        outcome, problem = (
            None,
            (_("There is not enough memory for this. Crop the scan (module Crop Volume) and try again."), "OutOfMemory"),
        )
    finally:
        slicer.app.restoreOverrideCursor()
    if problem is None:
        onDone(outcome)
    else:
        onError(*problem)
    return _over()


def _waitCursor():
    import qt

    return qt.QCursor(qt.Qt.WaitCursor)


def computed(work: Work) -> Outcome:
    """Run a work here and now; raises MedsegError or JobError with the sentence for the user."""
    import medseg
    from medseg.slicer_bridge.arrays import cropped

    began = time.monotonic()
    parameters = {**work.parameters, **work.labelParameters}
    if work.labels is not None:
        found = medseg.postprocess(work.labels, work.method, **parameters)
        return _outcome(found, cropped(found), began)
    volume = _volume(work)
    if work.isNested:
        return _nestedHere(volume, work, parameters, began)
    found = medseg.segment(volume, work.method, **parameters)
    return _outcome(found, _whole(work, cropped(found)), began, matrixToWorld(work))


def _whole(work: Work, part: tuple[np.ndarray, tuple[int, ...]]) -> tuple[np.ndarray, tuple[int, ...]]:
    """What was found in the region of a work, with its extent in the whole scan."""
    array, extent = part
    if work.region is None or not array.size:
        return array, extent
    return array, tuple(int(n) + work.region[at // 2 * 2] for at, n in enumerate(extent))


def _volume(work: Work):
    from medseg.slicer_bridge.arrays import volume_of

    modality, unit = nodes.modalityOf(work.volumeNode)
    if work.scanPart is not None:
        array, matrix = work.scanPart
        return volume_of(array, matrix, modality=modality, unit=unit)
    nodes.checkVolume(work.volumeNode)
    array = slicer.util.arrayFromVolume(work.volumeNode)
    matrix = matrixToWorld(work)
    if work.region is not None:
        i0, i1, j0, j1, k0, k1 = work.region
        array = np.ascontiguousarray(array[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1])
        matrix = matrix @ effect_grid.shifted((i0, j0, k0))
    return volume_of(array, matrix, modality=modality, unit=unit)


def _nestedHere(volume: Any, work: Work, parameters: Mapping[str, Any], began: float) -> Outcome:
    from pathlib import Path

    from medseg.method.catalog import find
    from medseg.slicer_bridge.arrays import cropped
    from medseg.slicer_bridge.worker_nested import nested_map

    folder = Session.instance().files.newFolder("effect")
    offset = (0, 0, 0) if work.region is None else work.region[::2]
    try:
        params = find(work.method).build(parameters)
        found, values = nested_map(volume, params, {"most_ml": MOST_NESTED_ML}, Path(folder) / "nested", offset)
        nested = nestedRegion(values["nested"])
    finally:
        Session.instance().files.done(folder)
    return _outcome(found, _whole(work, cropped(found)), began, matrixToWorld(work), nested)


def matrixToWorld(work: Work) -> np.ndarray:
    """Return the matrix of the grid on which a work's outcome lies."""
    if work.labels is not None:
        return work.labels.geometry.affine
    return work.scanPart[1] if work.scanPart is not None else nodes.ijkToWorld(work.volumeNode)


def _outcome(
    found: Any,
    part: tuple[np.ndarray, tuple[int, ...]],
    began: float,
    toWorld: np.ndarray | None = None,
    nested: NestedRegion | None = None,
) -> Outcome:
    array, extent = part
    return Outcome(
        array,
        tuple(int(n) for n in extent),
        found.geometry.affine if toWorld is None else toWorld,
        [segment.to_dict() for segment in found.segments],
        [{"code": one.code, "severity": str(one.severity.value), "message": one.message} for one in found.findings],
        time.monotonic() - began,
        nested,
    )


# In MedSeg's process


def _runInWorker(
    work: Work, onDone: Callable[[Outcome], None], onError: Callable[[str, str], None], onProgress: Callable[[dict[str, Any]], None]
) -> Run:
    session = Session.instance()
    folder = session.files.newFolder("effect")
    run = Run(work.isQuick)

    def onEvent(event: dict[str, Any]) -> None:
        if run.isOver:
            return
        if event["event"] == "result":
            run.isOver = True
            try:
                outcome = _received(work, event)
            finally:
                session.files.done(folder)
            onDone(outcome)
        elif event["event"] == "error":
            run.isOver = True
            session.files.done(folder)
            onError(event.get("message", ""), event.get("kind", ""))
        else:
            onProgress(event)

    try:
        run.jobId = session.submit(jobOf(work, folder), onEvent)
    except JobError:
        session.files.done(folder)
        raise
    return run


def jobOf(work: Work, folder: str) -> dict[str, Any]:
    """Return a work as a job of MedSeg's process; arrays are written to files that it maps into memory."""
    parameters = dict(work.parameters)
    parameters.update({name: writtenLabels(labels) for name, labels in work.labelParameters.items()})
    job = {"do": "segment", "method": work.method, "parameters": parameters, "device": "auto", "out": folder}
    if work.scanPart is not None:
        array, matrix = work.scanPart
        path = Session.instance().files.save("part", array)
        modality, unit = nodes.modalityOf(work.volumeNode)
        job["scan"] = {"key": path, "array": path, "ijk_to_ras": np.asarray(matrix).tolist(), "modality": modality, "unit": unit}
    elif work.volumeNode is not None:
        job["scan"] = nodes.scanRef(work.volumeNode)
    if work.labels is not None:
        job["labels"] = writtenLabels(work.labels)
    if work.region is not None:
        job["region"] = [int(n) for n in work.region]
    if work.isNested:
        job["nested"] = {"most_ml": MOST_NESTED_ML}
    return job


def writtenLabels(labels: Any) -> dict[str, Any]:
    """Return a label map as MedSeg's process takes it, its array in a file."""
    from medseg.slicer_bridge.arrays import cropped

    array, extent = cropped(labels)
    i, j, k = labels.geometry.shape
    return {
        "array": Session.instance().files.save("labels", np.ascontiguousarray(array)) if array.size else "",
        "extent": [int(n) for n in extent],
        "shape": [k, j, i],
        "ijk_to_ras": labels.geometry.affine.tolist(),
        "segments": [segment.to_dict() for segment in labels.segments],
    }


def _received(work: Work, event: dict[str, Any]) -> Outcome:
    labels = event["labels"]
    array = np.array(np.load(labels["array"], mmap_mode="r")) if labels["array"] else np.zeros((0, 0, 0), np.uint8)
    return Outcome(
        array,
        tuple(int(n) for n in labels["extent"]),
        matrixToWorld(work),
        list(labels["segments"]),
        list(event.get("findings", [])),
        float(event.get("seconds", 0.0)),
        nestedRegion(event["values"]["nested"]) if work.isNested else None,
    )
