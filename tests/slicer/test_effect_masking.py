"""Apply changes the voxels that masking and 'Modify other segments' allow, and no other: every combination equals numpy."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import slicer
from effect_scene import SHAPE, Scene, ball_scene, end_session, load_effects

Segmentation = slicer.vtkMRMLSegmentationNode
EditorNode = slicer.vtkMRMLSegmentEditorNode
MASKS = {
    "everywhere": Segmentation.EditAllowedEverywhere,
    "inside all": Segmentation.EditAllowedInsideAllSegments,
    "inside visible": Segmentation.EditAllowedInsideVisibleSegments,
    "outside all": Segmentation.EditAllowedOutsideAllSegments,
    "outside visible": Segmentation.EditAllowedOutsideVisibleSegments,
    "inside one": Segmentation.EditAllowedInsideSingleSegment,
}
OVERWRITES = {"all": EditorNode.OverwriteAllSegments, "visible": EditorNode.OverwriteVisibleSegments, "none": EditorNode.OverwriteNone}
RANGE_HU = (-24.0, 95.0)


@pytest.fixture
def editor(load_module: Any, effect_host: Callable[..., Any]) -> Iterator[Callable[[Scene], Any]]:
    load_effects(load_module)
    yield lambda scene: effect_host(scene.volume, scene.segmentation, scene.ids[0])
    end_session()


def boxes() -> dict[str, np.ndarray]:
    """What is in the segments (overlapping nowhere), and what the effect found."""
    found = {}
    for name, (low, high) in {
        "target": ((4, 6, 6), (10, 20, 24)),
        "visible": ((4, 22, 6), (14, 32, 30)),
        "hidden": ((12, 6, 6), (18, 20, 30)),
        "result": ((6, 10, 10), (16, 28, 26)),
    }.items():
        found[name] = np.zeros(SHAPE, bool)
        found[name][tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return found


def prepared(editor: Any, mask: str, overwrite: str) -> tuple[Scene, Any]:
    scene = ball_scene(names=("target", "visible", "hidden"))
    for number, name in enumerate(("target", "visible", "hidden")):
        scene.fill(number, boxes()[name])
    scene.segmentation.GetDisplayNode().SetSegmentVisibility(scene.ids[2], False)
    host = editor(scene)
    host.node.SetMaskMode(MASKS[mask])
    host.node.SetMaskSegmentID(scene.ids[1])
    host.node.SetOverwriteMode(OVERWRITES[overwrite])
    host.node.SetSourceVolumeIntensityMaskRange(*RANGE_HU)
    return scene, host


def editable(scene: Scene, mask: str, has_range: bool) -> np.ndarray:
    given = boxes()
    seen = given["visible"]
    other = given["visible"] | given["hidden"]
    allowed = {
        "everywhere": np.ones(SHAPE, bool),
        "inside all": given["target"] | other,
        "inside visible": given["target"] | seen,
        "outside all": ~other,
        "outside visible": ~seen,
        "inside one": seen,
    }[mask]
    return allowed & ((scene.image >= RANGE_HU[0]) & (scene.image <= RANGE_HU[1])) if has_range else allowed


def expected(scene: Scene, mask: str, overwrite: str, mode: str, has_range: bool) -> list[np.ndarray]:
    """The three segments after Apply."""
    given = boxes()
    allowed = editable(scene, mask, has_range)
    target = given["target"]
    if mask == "inside one" and mode == "remove":
        # Slicer's rule: where one segment is the mask, the selected one may be erased everywhere, and the mask segment gets what was erased
        erased = given["result"] & (allowed | target)
        return [target & ~erased, given["visible"] | erased, given["hidden"] & ~erased if overwrite == "all" else given["hidden"]]
    written = given["result"] & allowed
    after = {"add": target | written, "set": written | (target & ~allowed), "remove": target & ~written}[mode]
    overwritten = {"all": ("visible", "hidden"), "visible": ("visible",), "none": ()}[overwrite] if mode != "remove" else ()
    return [after] + [given[name] & ~written if name in overwritten else given[name] for name in ("visible", "hidden")]


@pytest.mark.parametrize(("mask", "overwrite"), list(itertools.product(MASKS, OVERWRITES)))
def test_apply_equals_numpy_and_undo_brings_all_back(mask: str, overwrite: str, editor: Any) -> None:
    from SegmentEditorMedSegLib import effect_grid
    from SegmentEditorMedSegLib.effect_preview import PreviewPart

    scene, host = prepared(editor, mask, overwrite)
    effect = host.activate("MedSegClickLesion")
    part = effect_grid.croppedMask(boxes()["result"])
    image = effect_grid.orientedImage(part.array, part.extent, effect_grid.imageMatrix(effect.reference()))
    for mode, has_range in itertools.product(("add", "set", "remove"), (False, True)):
        host.node.SetSourceVolumeIntensityMask(has_range)
        effect.scriptedEffect.setParameter("ApplyAs", mode)
        effect.preview.show([PreviewPart(image, "result", (1, 0, 0))])
        effect.updateButtons()
        effect.applyButton.click()
        wanted = expected(scene, mask, overwrite, mode, has_range)
        for number in range(3):
            assert np.array_equal(scene.mask(number), wanted[number]), (mode, has_range, number)
        host.undo()
        for number, name in enumerate(("target", "visible", "hidden")):
            assert np.array_equal(scene.mask(number), boxes()[name]), (mode, has_range, name)


def test_a_hidden_segment_is_not_changed_without_asking(editor: Any, dialogs: Any) -> None:
    import qt

    scene = ball_scene()
    host = editor(scene)
    effect = host.activate("MedSegClickLesion")
    effect.clicked(scene.centre_mm)
    scene.segmentation.GetDisplayNode().SetSegmentVisibility(scene.ids[0], False)
    dialogs.answer(qt.QMessageBox.Cancel)
    effect.applyButton.click()
    assert not scene.mask().any()
    assert effect.preview.isShown
    dialogs.answer(qt.QMessageBox.Yes)
    effect.applyButton.click()
    assert scene.mask().any()
