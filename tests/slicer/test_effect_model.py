"""Model: the region goes to the worker as voxels of the scan, and each structure comes back into a segment of its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from effect_scene import Scene, ball_scene, end_session, load_effects, segment_ids, segment_mask, world_matrix
from mrml_nodes import DIRECTIONS

NAME = "MedSegModel"
TURN = np.array([[0.8, -0.6, 0.0, 12.0], [0.6, 0.8, 0.0, -7.5], [0.0, 0.0, 1.0, 30.0], [0, 0, 0, 1.0]])


class Network:
    """A worker that finds a kidney and a lesion in what it is given."""

    def __init__(self, *_session: Any) -> None:
        self.jobs: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.is_alive = False

    def start(self) -> None:
        self.is_alive = True

    def send(self, job: dict[str, Any]) -> str:
        self.jobs.append(job)
        if job["do"] == "describe":
            cards = [{"name": "ct-phantom", "kind": "medseg"}, {"name": "click-3d", "kind": "click"}, {"name": "liver", "kind": "nnunet"}]
            self.events.append({"id": job["id"], "event": "result", "models": cards})
            return str(job["id"])
        self.events.append({"id": job["id"], "event": "progress", "text": "patches", "done": 3, "total": 4})
        self.events.append({"id": job["id"], "event": "result", **found(job)})
        return str(job["id"])

    def poll(self) -> list[dict[str, Any]]:
        events, self.events = self.events, []
        return events

    def cancel(self, *_job: Any) -> None:
        self.events.clear()

    def close(self) -> None:
        self.is_alive = False


def found(job: dict[str, Any]) -> dict[str, Any]:
    """A box of kidney with a lesion inside, in the middle of the region."""
    shape = np.load(job["scan"]["array"], mmap_mode="r").shape
    region = job.get("region") or [n for size in shape[::-1] for n in (0, size - 1)]
    extent = [region[at] + (2, -2)[at % 2] for at in range(6)]
    array = np.ones(tuple(extent[axis + 1] - extent[axis] + 1 for axis in (4, 2, 0)), np.uint8)
    array[1:3, 1:3, 1:4] = 2
    path = Path(job["out"]) / "labels.npy"
    np.save(path, array)
    segments = [
        {"number": 1, "label": "kidney_left", "colour": [200, 90, 80]},
        {"number": 2, "label": "lesion"},
        {"number": 3, "label": "spleen"},
    ]
    labels = {"array": str(path), "extent": extent, "shape": list(shape), "ijk_to_ras": job["scan"]["ijk_to_ras"], "segments": segments}
    warning = {"code": "MODALITY_UNKNOWN", "severity": "warning", "message": "the file does not say what kind of scan it is"}
    return {"labels": labels, "findings": [warning], "seconds": 1.0, "values": {}}


@pytest.fixture
def network(load_module: Any) -> Iterator[Network]:
    load_effects(load_module)
    from MedSegLib.session import Session

    Session.discard()
    worker = Network()
    Session._instance = Session(lambda *_session: worker)
    yield worker
    end_session()


@pytest.fixture
def editor(network: Network, effect_host: Callable[..., Any]) -> Callable[[Scene], Any]:
    return lambda scene: effect_host(scene.volume, scene.segmentation, scene.ids[0])


def roi(scene: Scene, low: tuple[int, int, int], high: tuple[int, int, int]) -> Any:
    """A box, turned as the scan is, around voxels low to high (i,j,k)."""
    matrix = world_matrix(scene.volume)
    directions = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "region")
    place = np.eye(4)
    place[:3, :3] = directions
    place[:3, 3] = scene.world((np.array(low) + high) / 2)
    node.SetAndObserveObjectToNodeMatrix(slicer.util.vtkMatrixFromArray(place))
    size = (np.array(high) - low + 0.9) * np.linalg.norm(matrix[:3, :3], axis=0)
    node.SetSize(*size)
    return node


@pytest.mark.parametrize("kind", DIRECTIONS)
def test_the_region_is_the_box_of_voxels_and_the_result_lies_in_it(kind: str, editor: Any, network: Network, wait_until: Any) -> None:
    scene = ball_scene(kind, TURN if "tilt" not in kind else None)
    effect = editor(scene).activate(NAME)
    low, high = (8, 6, 4), (30, 28, 16)
    node = roi(scene, low, high)
    effect.regionBox.setCurrentNode(node)
    effect.applyButton.click()
    assert effect.isRunning
    assert not effect.applyButton.enabled
    wait_until(lambda: not effect.isRunning)
    region = network.jobs[-1]["region"]
    if "tilt" not in kind:  # a box has right angles: on a sheared grid it takes in more
        assert region == [low[0], high[0], low[1], high[1], low[2], high[2]]
    assert region[0] <= low[0]
    assert region[1] >= high[0]
    expected = np.zeros(scene.image.shape, bool)
    i0, i1, j0, j1, k0, k1 = (n + (2, -2)[at % 2] for at, n in enumerate(region))
    expected[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1] = True
    lesion = np.zeros_like(expected)
    lesion[k0 + 1 : k0 + 3, j0 + 1 : j0 + 3, i0 + 1 : i0 + 4] = True
    segmentation = scene.segmentation.GetSegmentation()
    names = [segmentation.GetSegment(one).GetName() for one in segment_ids(scene.segmentation)]
    assert names == ["target", "other", "kidney_left", "lesion"]
    masks = [segment_mask(scene.segmentation, one, scene.image.shape) for one in segment_ids(scene.segmentation)]
    assert np.array_equal(masks[2], expected & ~lesion)
    assert np.array_equal(masks[3], lesion)
    kidney = segmentation.GetSegment(segment_ids(scene.segmentation)[2])
    assert kidney.GetTerminology().split("~")[2:4] == ["SCT^64033007^Kidney", "SCT^7771000^Left"]
    assert np.allclose(kidney.GetColor(), np.array([200, 90, 80]) / 255, atol=0.01)


def test_undo_takes_the_new_segments_away(editor: Any, network: Network, wait_until: Any) -> None:
    scene = ball_scene()
    host = editor(scene)
    effect = host.activate(NAME)
    effect.start()
    wait_until(lambda: effect.preview.isShown)
    assert segment_ids(scene.segmentation) == list(scene.ids)
    effect.applyButton.click()
    assert len(segment_ids(scene.segmentation)) == 4
    host.undo()
    assert segment_ids(scene.segmentation) == list(scene.ids)


def test_all_of_it_can_go_into_the_selected_segment(editor: Any, network: Network, wait_until: Any) -> None:
    scene = ball_scene()
    effect = editor(scene).activate(NAME)
    effect.rows.widgets["Into"].currentIndex = 1
    effect.applyButton.click()
    wait_until(lambda: not effect.isRunning)
    assert network.jobs[-1].get("region") is None
    k, j, i = scene.image.shape
    expected = np.zeros(scene.image.shape, bool)
    expected[2 : k - 2, 2 : j - 2, 2 : i - 2] = True
    assert np.array_equal(scene.mask(), expected)
    assert segment_ids(scene.segmentation) == list(scene.ids)


def test_a_second_run_goes_into_the_segments_of_the_same_names(editor: Any, network: Network, wait_until: Any) -> None:
    scene = ball_scene(names=("target", "kidney_left"))
    effect = editor(scene).activate(NAME)
    effect.applyButton.click()
    wait_until(lambda: not effect.isRunning)
    names = [scene.segmentation.GetSegmentation().GetSegment(one).GetName() for one in segment_ids(scene.segmentation)]
    assert names == ["target", "kidney_left", "lesion"]
    assert scene.mask(1).any()


def test_the_list_holds_the_models_that_find_segments_by_themselves(editor: Any, network: Network, wait_until: Any) -> None:
    scene = ball_scene()
    effect = editor(scene).activate(NAME)
    wait_until(lambda: bool(effect.models))
    assert [effect.modelBox.itemText(n) for n in range(effect.modelBox.count)] == ["ct-phantom", "liver"]
    assert effect.modelBox.currentText == "ct-phantom"
    effect.modelBox.setCurrentText("liver")
    assert effect.scriptedEffect.parameter("Model") == "liver"
    effect.applyButton.click()
    wait_until(lambda: not effect.isRunning)
    assert network.jobs[-1]["parameters"] == {"model": "liver", "force": False}


def test_a_region_beside_the_scan_and_an_empty_name_are_sentences(editor: Any, network: Network, wait_until: Any) -> None:
    scene = ball_scene()
    effect = editor(scene).activate(NAME)
    wait_until(lambda: bool(effect.models))
    effect.regionBox.setCurrentNode(roi(scene, (200, 200, 200), (220, 220, 220)))
    effect.applyButton.click()
    assert "outside the scan" in effect.message.text
    effect.regionBox.setCurrentNode(None)
    effect.modelBox.setCurrentText("")
    assert not effect.applyButton.enabled
    assert "Choose a model" in effect.applyButton.toolTip


def test_cancel_ends_a_run_and_findings_are_told(editor: Any, network: Network, wait_until: Any) -> None:
    scene = ball_scene()
    effect = editor(scene).activate(NAME)
    wait_until(lambda: bool(effect.models))
    effect.start()
    effect.cancelButton.click()
    assert not effect.isRunning
    assert not effect.preview.isShown
    effect.start()
    wait_until(lambda: effect.preview.isShown)
    assert "does not say what kind of scan" in effect.message.text
