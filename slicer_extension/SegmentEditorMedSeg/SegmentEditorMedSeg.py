"""Registers the MedSeg effects of the Segment Editor; a hidden module, loaded when Slicer starts."""

from __future__ import annotations

import os

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleTest


class SegmentEditorMedSeg(ScriptedLoadableModule):
    """Hidden: its effects appear in the Segment Editor."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("Segment Editor MedSeg effects")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = ["Segmentations", "MedSeg"]
        parent.hidden = True
        parent.contributors = ["The medseg developers"]
        parent.helpText = _("Click lesion, Grow with leak guard, Watershed split, Smooth keeping volume and Model for the Segment Editor.")
        parent.acknowledgementText = _("Part of medseg, Apache License 2.0.")
        slicer.app.connect("startupCompleted()", self.registerEffects)

    def registerEffects(self):
        """Make the effects known to every Segment Editor."""
        import qSlicerSegmentationsEditorEffectsPythonQt as effects

        # the package must be imported before setPythonSource asks for it: see its __init__
        import SegmentEditorMedSegLib

        folder = os.path.dirname(SegmentEditorMedSegLib.__file__)
        for effect in SegmentEditorMedSegLib.EFFECTS:
            instance = effects.qSlicerSegmentEditorScriptedEffect(None)
            instance.setPythonSource(os.path.join(folder, effect.__name__ + ".py").replace("\\", "/"))
            instance.self().register()


class SegmentEditorMedSegTest(ScriptedLoadableModuleTest):
    """What Slicer's own self test runs: the effects are there."""

    def runTest(self):
        self.setUp()
        self.test_effectsAreRegistered()

    def setUp(self):
        slicer.mrmlScene.Clear()

    def test_effectsAreRegistered(self):
        """Each effect is in the list of the Segment Editor."""
        import SegmentEditorMedSegLib

        known = [effect.name for effect in slicer.qSlicerSegmentEditorEffectFactory.instance().registeredEffects()]
        for effect in SegmentEditorMedSegLib.EFFECTS:
            assert effect.NAME in known, f"{effect.NAME} is not among {known}"
        self.delayDisplay(_("All effects are registered."))
