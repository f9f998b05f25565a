"""Where the method runs does not matter: MedSeg's own process gives the same voxels, can be cancelled, and may die."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import slicer
from effect_scene import BALL_INDEX, Scene, ball_scene, end_session, load_effects, only_in_worker, use_no_installation

TURN = np.array([[0.8, -0.6, 0.0, 12.0], [0.6, 0.8, 0.0, -7.5], [0.0, 0.0, 1.0, 30.0], [0, 0, 0, 1.0]])


@pytest.fixture
def editor(load_module: Any, effect_host: Callable[..., Any]) -> Iterator[Callable[[Scene], Any]]:
    load_effects(load_module)
    yield lambda scene: effect_host(scene.volume, scene.segmentation, scene.ids[0])
    end_session()


def two_balls() -> np.ndarray:
    """Two balls that touch (k,j,i): something to split and to smooth."""
    k, j, i = np.indices((22, 40, 44))
    first = ((k - 10) * 2.5) ** 2 + ((j - 12) * 1.1) ** 2 + ((i - 14) * 0.8) ** 2 <= 7.5**2
    second = ((k - 10) * 2.5) ** 2 + ((j - 24) * 1.1) ** 2 + ((i - 14) * 0.8) ** 2 <= 7.0**2
    return np.asarray(first | second)


def worked(effect: Any, scene: Scene, name: str) -> None:
    """Click where the effect needs a click, and press Apply."""
    if name in ("MedSegClickLesion", "MedSegGrow"):
        effect.clicked(scene.centre_mm)
    else:
        effect.applyButton.click()


def all_masks(scene: Scene) -> list[np.ndarray]:
    from effect_scene import segment_ids, segment_mask

    return [segment_mask(scene.segmentation, one, scene.image.shape) for one in segment_ids(scene.segmentation)]


@pytest.mark.parametrize("name", ["MedSegClickLesion", "MedSegGrow", "MedSegSplit", "MedSegSmooth"])
def test_both_ways_give_the_same_voxels(name: str, editor: Any, monkeypatch: pytest.MonkeyPatch, wait_until: Any) -> None:
    found = []
    for is_here in (True, False):
        if not is_here:
            only_in_worker(monkeypatch)
        scene = ball_scene("oblique left-handed", TURN)
        if name in ("MedSegSplit", "MedSegSmooth"):
            scene.fill(0, two_balls())
        effect = editor(scene).activate(name)
        worked(effect, scene, name)
        wait_until(lambda effect=effect: not effect.isRunning, 60)
        if effect.preview.isShown:
            effect.applyButton.click()
        assert not effect.preview.isShown, effect.message.text
        found.append(all_masks(scene))
        effect.discard()
    assert len(found[0]) == len(found[1])
    assert found[0][0].any()
    assert all(np.array_equal(one, other) for one, other in zip(*found, strict=True))


def test_while_it_runs_apply_waits_and_cancel_ends_it_at_once(editor: Any, monkeypatch: pytest.MonkeyPatch, wait_until: Any) -> None:
    only_in_worker(monkeypatch)
    scene = ball_scene()
    effect = editor(scene).activate("MedSegClickLesion")
    effect.clicked(scene.centre_mm)
    assert effect.isRunning
    assert not effect.applyButton.enabled
    assert "Wait" in effect.applyButton.toolTip
    began = time.monotonic()
    effect.cancelButton.click()
    assert time.monotonic() - began < 10  # not as long as it would run
    assert not effect.isRunning
    assert not scene.mask().any()
    effect.clicked(scene.world(BALL_INDEX + np.array((1, 0, 0))))
    wait_until(lambda: effect.preview.isShown, 60)


def test_a_second_click_while_the_first_runs_counts_and_keeps_the_process(
    editor: Any, monkeypatch: pytest.MonkeyPatch, wait_until: Any
) -> None:
    from MedSegLib.session import Session

    scene = ball_scene()
    second = scene.world(BALL_INDEX + np.array((2, 1, 0)))
    here = editor(scene).activate("MedSegClickLesion")
    here.clicked(second)
    here.applyButton.click()
    expected = scene.mask()
    only_in_worker(monkeypatch)
    scene = ball_scene()
    effect = editor(scene).activate("MedSegClickLesion")
    effect.clicked(scene.centre_mm)
    process = Session.instance()._worker.pid
    effect.clicked(second)
    wait_until(lambda: not effect.isRunning, 60)
    assert len(effect.clicks.points()) == 1
    effect.applyButton.click()
    assert np.array_equal(scene.mask(), expected)
    assert Session.instance()._worker.pid == process


def test_a_dead_process_is_a_sentence_and_the_next_click_works(editor: Any, monkeypatch: pytest.MonkeyPatch, wait_until: Any) -> None:
    from MedSegLib.session import Session

    only_in_worker(monkeypatch)
    scene = ball_scene()
    effect = editor(scene).activate("MedSegClickLesion")
    effect.clicked(scene.centre_mm)
    os.kill(Session.instance()._worker.pid, signal.SIGKILL)
    wait_until(lambda: not effect.isRunning)
    assert effect.message.text
    assert "Working" not in effect.message.text
    assert not effect.preview.isShown
    effect.clicked(scene.centre_mm)
    wait_until(lambda: effect.preview.isShown, 60)


def test_leaving_the_effect_or_closing_the_scene_ends_the_run(editor: Any, monkeypatch: pytest.MonkeyPatch, wait_until: Any) -> None:
    only_in_worker(monkeypatch)
    scene = ball_scene()
    host = editor(scene)
    effect = host.activate("MedSegClickLesion")
    effect.clicked(scene.centre_mm)
    host.activate("MedSegSmooth")
    assert not effect.isRunning
    effect = host.activate("MedSegClickLesion")
    effect.clicked(scene.centre_mm)
    assert effect.isRunning
    slicer.mrmlScene.Clear(0)
    wait_until(lambda: not effect.isRunning)
    assert slicer.mrmlScene.GetFirstNodeByName("MedSeg preview") is None


def test_without_any_installation_the_panel_says_what_to_do(editor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from SegmentEditorMedSegLib import effect_runner

    monkeypatch.setattr(effect_runner, "canRunInProcess", lambda: False)
    use_no_installation()
    scene = ball_scene()
    effect = editor(scene).activate("MedSegClickLesion")
    effect.clicked(scene.centre_mm)
    assert "press Install" in effect.message.text
    assert not effect.isRunning
    assert not scene.mask().any()


def test_with_the_light_installation_alone_long_work_is_done_in_slicer_too(editor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from SegmentEditorMedSegLib import SegmentEditorMedSegGrowEffect, effect_runner

    monkeypatch.setattr(SegmentEditorMedSegGrowEffect, "isSmall", lambda self: False)
    assert effect_runner.canRunInProcess()
    use_no_installation()
    scene = ball_scene()
    effect = editor(scene).activate("MedSegGrow")
    effect.clicked(scene.centre_mm)
    effect.applyButton.click()
    assert scene.mask().any()
    model = editor(scene).activate("MedSegModel")
    model.applyButton.click()
    assert "press Install" in model.message.text
