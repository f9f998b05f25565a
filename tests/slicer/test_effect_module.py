"""The hidden module registers five effects with names, titles, help and icons; each copy is an effect of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import slicer
from effect_scene import Scene, ball_scene, end_session, load_effects

NAMES = ("MedSegClickLesion", "MedSegGrow", "MedSegSplit", "MedSegSmooth", "MedSegModel")
EXTENSION = Path(__file__).resolve().parents[2] / "slicer_extension"
LIBRARY = EXTENSION / "SegmentEditorMedSeg" / "SegmentEditorMedSegLib"


@pytest.fixture
def editor(load_module: Any, effect_host: Callable[..., Any]) -> Iterator[Callable[[Scene], Any]]:
    load_effects(load_module)
    yield lambda scene: effect_host(scene.volume, scene.segmentation, scene.ids[0])
    end_session()


def test_five_effects_are_registered_at_start_and_the_module_is_hidden(load_module: Any) -> None:
    module = load_effects(load_module)
    factory = slicer.qSlicerSegmentEditorEffectFactory.instance()
    assert [effect.name for effect in factory.registeredEffects()] == list(NAMES)
    assert module.hidden


@pytest.mark.parametrize("name", NAMES)
def test_each_has_a_title_help_an_icon_and_a_panel(name: str, editor: Any) -> None:
    host = editor(ball_scene())
    effect = host.effects[name]
    assert effect.title
    assert effect.title != name
    assert effect.helpText().startswith("<html>")
    assert not effect.icon().isNull()
    host.activate(name)
    assert effect.self().applyButton.text == "Apply"
    assert effect.self().applyButton.toolTip


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_is_an_effect_of_its_own(name: str, editor: Any) -> None:
    host = editor(ball_scene())
    copied = host.effects[name].clone()
    assert copied is not host.effects[name]
    assert copied.self() is not host.effects[name].self()
    assert type(copied.self()) is type(host.effects[name].self())
    assert copied.name == name


def test_files_are_named_as_slicer_looks_classes_up() -> None:
    files = sorted(path.stem for path in LIBRARY.glob("*Effect.py"))
    source = (LIBRARY / "__init__.py").read_text(encoding="utf-8")
    assert len(files) == len(NAMES)
    for stem in files:
        assert f"class {stem}(" in (LIBRARY / f"{stem}.py").read_text(encoding="utf-8")
        assert f"import {stem}" in source


def test_icons_of_both_themes_are_there_and_differ() -> None:
    for name in ("ClickLesion", "Grow", "Split", "Smooth", "Model"):
        light, dark = (LIBRARY / "Icons" / f"MedSegEffect{name}{theme}.png" for theme in ("Light", "Dark"))
        assert light.read_bytes()[:8] == dark.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert light.read_bytes() != dark.read_bytes()


def test_the_theme_decides_on_the_icon(editor: Any) -> None:
    import qt

    editor(ball_scene())
    from SegmentEditorMedSegLib import effect_icons

    before = slicer.app.palette()
    try:
        for lightness, expected in ((20, True), (240, False)):
            palette = qt.QPalette(before)
            palette.setColor(qt.QPalette.Window, qt.QColor(lightness, lightness, lightness))
            qt.QApplication.setPalette(palette)
            assert effect_icons.isDarkTheme() is expected
    finally:
        qt.QApplication.setPalette(before)


def test_the_self_test_of_the_module_passes(editor: Any) -> None:
    editor(ball_scene())
    import SegmentEditorMedSeg

    SegmentEditorMedSeg.SegmentEditorMedSegTest().test_effectsAreRegistered()


def test_without_a_scan_or_with_one_slice_the_panel_says_what_to_do(editor: Any) -> None:
    import numpy as np

    scene = ball_scene()
    host = editor(scene)
    effect = host.activate("MedSegClickLesion")
    slicer.util.updateVolumeFromArray(scene.volume, np.zeros((1, 40, 44), np.int16))
    effect.clicked(scene.centre_mm)
    assert "single slice" in effect.message.text
    scene.volume.SetAndObserveImageData(None)
    effect.clicked(scene.centre_mm)
    assert "no voxels" in effect.message.text
    assert not scene.mask().any()


def test_options_live_in_the_node_of_the_editor_and_come_back(editor: Any) -> None:
    scene = ball_scene()
    host = editor(scene)
    effect = host.activate("MedSegSmooth")
    effect.rows.widgets["SigmaMm"].value = 4.5
    assert host.node.GetAttribute("MedSegSmooth.SigmaMm") == "4.5"
    host.node.SetAttribute("MedSegSmooth.SigmaMm", "7.5")
    effect.scriptedEffect.updateGUIFromMRML()
    assert effect.rows.widgets["SigmaMm"].value == 7.5


@pytest.mark.parametrize("name", NAMES)
def test_after_cleanup_no_widget_holds_the_effect(name: str, editor: Any) -> None:
    """A connection left behind keeps an effect alive in Slicer when its editor is gone."""
    host = editor(ball_scene())
    effect = host.activate(name)
    key = next(iter(effect.rows.options))
    before = effect.scriptedEffect.parameter(key)
    effect.cleanup()
    widget = effect.rows.widgets[key]
    if effect.rows.options[key].kind == "choice":
        widget.currentIndex = 1
    else:
        widget.value = widget.value + widget.singleStep
    assert effect.scriptedEffect.parameter(key) == before
    effect.applyButton.click()
    assert not effect.isRunning
