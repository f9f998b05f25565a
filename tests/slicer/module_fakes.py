"""A worker whose answers the test writes, the description of a few methods as the true one gives it, and hands for the panel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

DESCRIPTION: dict[str, Any] = {
    "methods": [
        {
            "name": "ball",
            "stage": "segment",
            "summary": "Keep a ball.",
            "description": "Keep a ball.\n>>> not searched",
            "several_volumes": False,
            "parameters": [
                {
                    "name": "radius_mm",
                    "kind": "number",
                    "description": "Radius",
                    "unit": "mm",
                    "required": False,
                    "default": 12.5,
                    "is_list": False,
                    "choices": [],
                    "limits": {"gt": 0.0, "le": 100.0},
                },
                {
                    "name": "seeds",
                    "kind": "point",
                    "description": "Inside",
                    "unit": "mm RAS",
                    "required": True,
                    "default": None,
                    "is_list": True,
                    "choices": [],
                    "limits": {},
                },
                {
                    "name": "background_seeds",
                    "kind": "point",
                    "description": "Beside",
                    "unit": "mm RAS",
                    "required": False,
                    "default": [],
                    "is_list": True,
                    "choices": [],
                    "limits": {},
                },
                {
                    "name": "lower",
                    "kind": "number",
                    "description": "Lowest intensity",
                    "unit": "image",
                    "required": False,
                    "default": None,
                    "is_list": False,
                    "choices": [],
                    "limits": {},
                },
                {
                    "name": "rounds",
                    "kind": "integer",
                    "description": "Rounds",
                    "unit": "",
                    "required": False,
                    "default": 3,
                    "is_list": False,
                    "choices": [],
                    "limits": {"ge": 1.0},
                },
                {
                    "name": "fill",
                    "kind": "boolean",
                    "description": "Fill holes",
                    "unit": "",
                    "required": False,
                    "default": True,
                    "is_list": False,
                    "choices": [],
                    "limits": {},
                },
                {
                    "name": "connectivity",
                    "kind": "choice",
                    "description": "Neighbours",
                    "unit": "",
                    "required": False,
                    "default": 6,
                    "is_list": False,
                    "choices": [6, 18, 26],
                    "limits": {},
                },
                {
                    "name": "sigmas_mm",
                    "kind": "number",
                    "description": "Scales",
                    "unit": "mm",
                    "required": False,
                    "default": [1.0, 2.0],
                    "is_list": True,
                    "choices": [],
                    "limits": {},
                },
                {
                    "name": "mask",
                    "kind": "label-map",
                    "description": "Where",
                    "unit": "",
                    "required": False,
                    "default": None,
                    "is_list": False,
                    "choices": [],
                    "limits": {},
                },
                {
                    "name": "label",
                    "kind": "text",
                    "description": "Name",
                    "unit": "",
                    "required": False,
                    "default": "ball",
                    "is_list": False,
                    "choices": [],
                    "limits": {},
                },
            ],
        },
        {
            "name": "plain",
            "stage": "segment",
            "summary": "Needs nothing.",
            "description": "Needs nothing.",
            "several_volumes": False,
            "parameters": [],
        },
        {
            "name": "tidy",
            "stage": "postprocess",
            "summary": "Tidies up.",
            "description": "Tidies up.",
            "several_volumes": False,
            "parameters": [],
        },
        {
            "name": "resample",
            "stage": "preprocess",
            "summary": "A scan, no segments.",
            "description": "",
            "several_volumes": False,
            "parameters": [],
        },
        {
            "name": "model",
            "stage": "segment",
            "summary": "A network.",
            "description": "",
            "several_volumes": False,
            "parameters": [
                {
                    "name": "model",
                    "kind": "text",
                    "description": "",
                    "unit": "",
                    "required": True,
                    "default": None,
                    "is_list": False,
                    "choices": [],
                    "limits": {},
                }
            ],
        },
    ],
    "models": [
        {
            "name": "torso",
            "kind": "medseg",
            "title": "Organs of the torso",
            "modality": "CT",
            "segments": [{"label": "kidney_left"}, {"label": "liver"}],
            "intended_use": "Research.",
        }
    ],
    "pipelines": [{"name": "ct-torso", "title": "Torso", "description": "Organs and their volumes.", "modality": "CT"}],
}


class FakeWorker:
    """Answers jobs with what the test gave for their kind: a list of events, or a function of the job that returns one."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.jobs: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.is_alive = False
        self.cancelled = 0
        self.started = 0
        self.closed = 0

    def start(self) -> None:
        self.is_alive = True
        self.started += 1

    def send(self, job: dict[str, Any]) -> str:
        self.jobs.append(job)
        answer = self.answers.get(
            job["do"], [{"event": "error", "kind": "Unexpected", "message": f"no answer for {job['do']}", "exit_code": 1}]
        )
        for event in answer(job) if callable(answer) else answer:
            self.events.append({"id": job["id"], **event})
        return str(job["id"])

    def poll(self) -> list[dict[str, Any]]:
        events, self.events = self.events, []
        return events

    def cancel(self, id: str | None = None) -> None:
        self.cancelled += 1
        self.is_alive = False

    def close(self) -> None:
        self.closed += 1
        self.is_alive = False

    def die(self, sentence: str = "the worker was killed (signal 9)") -> None:
        """End without a word to the jobs, as the true client reports it."""
        for job in self.jobs[-1:]:
            self.events.append({"id": job["id"], "event": "error", "kind": "WorkerDied", "message": sentence, "exit_code": 1})
        self.is_alive = False

    def did(self) -> list[str]:
        """The kinds of the jobs so far."""
        return [job["do"] for job in self.jobs]


def result(**values: Any) -> list[dict[str, Any]]:
    """One result."""
    return [{"event": "started"}, {"event": "result", **values}]


def error(message: str, kind: str = "InputError", exit_code: int = 3) -> list[dict[str, Any]]:
    """One error."""
    return [{"event": "started"}, {"event": "error", "kind": kind, "message": message, "exit_code": exit_code}]


def labelled(label: str = "ball") -> Callable[[dict[str, Any]], list[dict[str, Any]]]:
    """An answer to `segment`: every voxel above 0, written as the worker writes it."""

    def answer(job: dict[str, Any]) -> list[dict[str, Any]]:
        scan = np.load(job["scan"]["array"])
        mask = (scan > 0).astype(np.uint8)
        k, j, i = (np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
        extent = [int(i[0]), int(i[-1]), int(j[0]), int(j[-1]), int(k[0]), int(k[-1])]
        path = Path(job["out"]) / f"{job['id']}-labels.npy"
        np.save(path, mask[extent[4] : extent[5] + 1, extent[2] : extent[3] + 1, extent[0] : extent[1] + 1])
        labels = {
            "array": str(path),
            "extent": extent,
            "shape": list(scan.shape),
            "ijk_to_ras": job["scan"]["ijk_to_ras"],
            "parent_to_world": job["scan"]["parent_to_world"],
            "segments": [{"number": 1, "label": label, "colour": [200, 40, 40]}],
        }
        return [
            {"event": "started"},
            {"event": "progress", "text": "working", "done": 1, "total": 2},
            {"event": "log", "text": "a line"},
            {"event": "finding", "code": "TEST", "severity": "warning", "message": "edges are <blurred>", "details": {}},
            {"event": "result", "labels": labels, "findings": [], "seconds": 0.1, "provenance": {}, "values": {}},
        ]

    return answer


def measured(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    """An answer to `measure`."""
    given = rows or ({"number": 1, "label": "ball", "volume_ml": 4.25, "volume_interval_ml": [4.0, 4.5], "status": "measured"},)
    return result(document={"schema": "medseg.measure/1", "intensity_unit": "HU", "segments": list(given), "findings": [], "reading": {}})


def answers(**more: Any) -> dict[str, Any]:
    """Answers under which every press of Apply works."""
    usable = result(usable=True, reason="", findings=[], geometry={})
    return {
        "describe": result(**DESCRIPTION),
        "audit": usable,
        "segment": labelled(),
        "measure": measured(),
        "forget": result(forgotten=0),
        **more,
    }


def choose(widget: Any, words: str) -> Any:
    widget.ui.searchEdit.setText(words)
    widget.ui.choiceList.setCurrentRow(0)
    return widget.chooser.choice


def run(widget: Any, wait_until: Any) -> None:
    widget.ui.applyButton.click()
    wait_until(lambda: widget.run is None)


def place(widget: Any, name: str, *points: tuple[float, float, float]) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    for point in points:
        node.AddControlPointWorld(*point)
    widget.panel._fields[name].setValue(node.GetID())
    return node


def segmented(volume: Any) -> Any:
    """A segmentation of what is above 0."""
    from MedSegLib import nodes
    from MedSegLib.session import Session

    mask = (slicer.util.arrayFromVolume(volume) > 0).astype(np.uint8)
    k, j, i = mask.shape
    ref = {
        "array": Session.instance().files.save("mask", mask),
        "extent": [0, i - 1, 0, j - 1, 0, k - 1],
        "shape": [k, j, i],
        "ijk_to_ras": nodes.ijkToRas(volume).tolist(),
        "segments": [{"number": 1, "label": "ball", "colour": [200, 40, 40]}],
    }
    node = nodes.newSegmentation(volume, "ball")
    nodes.importLabels(ref, node, volume)
    return node


def sequence(frames: int) -> Any:
    """A volume that shows the frames of a sequence, and its browser."""
    scene = slicer.mrmlScene
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    scans = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "frames")
    scans.SetIndexName("time")
    scans.SetIndexUnit("s")
    for n in range(frames):
        node = slicer.vtkMRMLScalarVolumeNode()
        array = np.zeros((6, 8, 10), np.int16)
        array[1:3, 2:4, 1 : 3 + n] = 100
        slicer.util.updateVolumeFromArray(node, array)
        scans.SetDataNodeAtValue(node, str(n * 10))
    browser.AddSynchronizedSequenceNode(scans)
    logic = slicer.modules.sequences.logic()
    logic.UpdateProxyNodesFromSequences(browser)
    return browser.GetProxyNode(scans), browser


def reaching_out(volume: Any) -> Any:
    """A segmentation with a few voxels beyond the edge of its scan."""
    mine = segmented(volume)
    name = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    image = mine.GetSegmentation().GetSegment("ball").GetRepresentation(name)
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    whole = slicer.util.arrayFromVTKMatrix(matrix)
    whole[:3, 3] -= 5 * whole[:3, 0]  # five voxels along i
    image.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(whole))
    array = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    array[5, 5, :8] = 1
    vtk_to_numpy(image.GetPointData().GetScalars())[:] = array.reshape(-1)
    return mine
