"""Grow with leak guard: a region grown from clicks, its limit on a live slider, cut off where it would leak."""

from __future__ import annotations

import dataclasses

import ctk
import numpy as np
import qt
from MedSegLib import nodes
from slicer.i18n import tr as _

from SegmentEditorMedSegLib import effect_grid
from SegmentEditorMedSegLib.effect_base import MedSegEffect
from SegmentEditorMedSegLib.effect_options import Option, applyAsOption
from SegmentEditorMedSegLib.effect_preview import PreviewPart
from SegmentEditorMedSegLib.effect_runner import QUICK_VOXELS, Work
from SegmentEditorMedSegLib.effect_scene import tellings

GUARD = "Guard"
REACH = "ReachMm"
LIMIT = "Limit"
GUARD_DELAY_MS = 400  # the slider rests this long before the guard runs
DECIMALS_OF_RANGE = 1000  # a slider has about this many steps at least


class SegmentEditorMedSegGrowEffect(MedSegEffect):
    """All regions of the clicks are found in one pass; the slider then only compares numbers."""

    NAME = "MedSegGrow"
    ICON = "Grow"
    METHODS = ("nested-growing", "leak-guarded-growing")
    USES_CLICKS = True

    def __init__(self, scriptedEffect):
        MedSegEffect.__init__(self, scriptedEffect)
        self.nested = None
        self._nestedGrid = None
        self._number = -1
        self._box = None  # of the scan that is looked at; None for all of it
        self.slider = self.guardTimer = None

    def title(self):
        return _("Grow with leak guard")

    def helpText(self):
        return _(
            "<html>Click into a structure: the region of like intensities around the click is shown. "
            "Move the slider: it follows at once.<p>"
            "<ul style='margin: 0'><li><b>Click:</b> start again. <b>Shift + click:</b> one more start.</li>"
            "<li><b>Stop leaks:</b> what is reached only through a narrow passage is cut off at its narrowest place.</li>"
            "<li><b>Apply:</b> write it into the selected segment; masking and undo work as for every effect.</li></ul></html>"
        )

    def options(self):
        return (
            Option(
                "Vary",
                "choice",
                _("Slider moves"),
                "tolerance",
                _("What the slider changes."),
                choices=(
                    ("tolerance", _("the difference from the click")),
                    ("lower", _("the lowest intensity")),
                    ("upper", _("the highest intensity")),
                ),
            ),
            Option(
                "SeedRadiusMm",
                "number",
                _("Click radius"),
                3.0,
                _("Radius around a click in which the typical intensity is taken."),
                low=0.0,
                high=20.0,
                step=0.5,
                decimals=1,
                unit="mm",
            ),
            Option(
                REACH,
                "number",
                _("Reach"),
                80.0,
                _("Only voxels within this distance of the clicks are looked at, along each axis. A smaller reach is faster."),
                low=10.0,
                high=1000.0,
                step=10.0,
                unit="mm",
            ),
            *self.guardOptions(),
            applyAsOption(_),
        )

    def guardOptions(self):
        """Return the options of the leak guard."""
        return (
            Option(
                GUARD,
                "boolean",
                _("Stop leaks"),
                True,
                _("Cut the region off where it runs through a narrow passage into something wider."),
            ),
            Option(
                "NeckMm",
                "number",
                _("Widest leak"),
                10.0,
                _("Passages up to this width count as leaks."),
                low=1.0,
                high=50.0,
                step=0.5,
                decimals=1,
                unit="mm",
            ),
            Option(
                "SigmaMm",
                "number",
                _("Smoothing"),
                0.0,
                _("The scan is smoothed with this Gaussian before the leak guard grows in it. 0 keeps the region of the slider."),
                low=0.0,
                high=10.0,
                step=0.5,
                decimals=1,
                unit="mm",
            ),
        )

    def setupMore(self):
        self.slider = ctk.ctkSliderWidget()
        self.slider.setObjectName("MedSegLimit")
        self.slider.setToolTip(_("The limit of the region. Nothing is computed while it moves."))
        self.slider.setEnabled(False)
        self.scriptedEffect.addLabeledOptionsWidget(_("Limit:"), self.slider)
        self.volumeLabel = qt.QLabel()
        self.volumeLabel.setObjectName("MedSegVolume")
        self.scriptedEffect.addLabeledOptionsWidget(_("Volume:"), self.volumeLabel)
        self.guardTimer = qt.QTimer()
        self.guardTimer.setSingleShot(True)
        self.guardTimer.setInterval(GUARD_DELAY_MS)
        self.guardTimer.connect("timeout()", self.guard)
        self.slider.connect("valueChanged(double)", self.onSlider)

    def cleanup(self):
        if self.guardTimer is not None:
            self.guardTimer.stop()
            self.guardTimer.disconnect("timeout()", self.guard)
            self.slider.disconnect("valueChanged(double)", self.onSlider)
        MedSegEffect.cleanup(self)

    def work(self):
        parameters = {
            "seeds": self.clicks.points(),
            "vary": self.rows.value("Vary"),
            "seed_radius_mm": self.rows.value("SeedRadiusMm"),
            "label": self.selectedName(),
        }
        self._box = effect_grid.extentAround(self.clicks.points(), self.rows.value(REACH), nodes.ijkToWorld(self.volumeNode()), self.size())
        return Work("nested-growing", parameters, self.volumeNode(), region=self._box, isNested=True, isQuick=self.isSmall())

    def size(self):
        """Return the voxels of the scan along i, j, k."""
        return self.volumeNode().GetImageData().GetDimensions()

    def onOption(self, key):
        if key in (GUARD, "NeckMm", "SigmaMm") and self.nested is not None:
            self.updateMRMLFromGUI()
            self.showLimit(self._number)
            if self.rows.value(GUARD):
                self.guard()
            return
        MedSegEffect.onOption(self, key)

    def isSmall(self):
        """Whether what is looked at is small enough to be grown in Slicer's own process."""
        sides = self.size() if self._box is None else [self._box[at + 1] - self._box[at] + 1 for at in (0, 2, 4)]
        return int(np.prod(sides)) <= QUICK_VOXELS

    def received(self, outcome):
        self.nested, self._nestedGrid = outcome.nested, outcome
        self.bounds()
        self.showLimit(self.nested.suggested)
        appliesAfter, self._appliesAfter = self._appliesAfter, False
        if self.rows.value(GUARD):
            self.guard(appliesAfter)
        elif appliesAfter:
            self.onApply()

    def bounds(self):
        """Give the slider the limits of the region, and the one before the greatest leap."""
        wasBlocked = self.slider.blockSignals(True)
        low, high = self.nested.smallest, self.nested.largest
        self.slider.decimals = 0 if self.nested.isWhole else 3
        self.slider.minimum, self.slider.maximum = low, high
        self.slider.singleStep = 1 if self.nested.isWhole else (high - low) / DECIMALS_OF_RANGE or 1.0
        self.slider.value = float(self.nested.limits[self.nested.suggested])
        self.slider.setEnabled(high > low)
        self.slider.blockSignals(wasBlocked)

    def onSlider(self, limit):
        """The slider moves: numbers are compared, nothing is computed."""
        if self.nested is None:
            return
        number = self.nested.number(limit)
        if number == self._number:
            return
        if self.isRunning and not self._run.isQuick:
            self.stop()
        self.showLimit(number)
        if self.rows.value(GUARD):
            self.guardTimer.start()

    def showLimit(self, number):
        """Show the region at the limit of that number."""
        self._number = number
        part = effect_grid.MaskPart(self.nested.mask(number), self.nested.extent)
        grid = dataclasses.replace(self._nestedGrid, findings=[])  # those of this limit alone
        image = self.placed(part, grid)
        self.preview.show([PreviewPart(image, self.selectedName(), self.selectedColour())])
        self.volumeLabel.setText(_("{0:.4g} ml").format(self.nested.volumeMl(number)))
        reached = part.extent if number >= self.nested.cutFrom(self._box, self.size()) else effect_grid.EMPTY_EXTENT
        self.say(" ".join(text for text in (self.reachSentence(reached), *tellings(grid)) if text))
        self.updateButtons()

    def guard(self, appliesAfter=False):
        """Grow again between the slider's limits, with the guard."""
        if self.nested is None or not self.clicks.points():
            return
        self.guardTimer.stop()
        if self.letRunOut(self.guard, appliesAfter):
            return
        self.stop()
        self._appliesAfter = appliesAfter
        lower, upper = self.nested.between(self._number)
        parameters = {
            "seeds": self.clicks.points(),
            "lower": lower,
            "upper": upper,
            "neck_mm": self.rows.value("NeckMm"),
            "sigma_mm": self.rows.value("SigmaMm"),
            "seed_radius_mm": self.rows.value("SeedRadiusMm"),
            "label": self.selectedName(),
        }
        self.launch(Work("leak-guarded-growing", parameters, self.volumeNode(), region=self._box, isQuick=self.isSmall()), self.guarded)

    def guarded(self, outcome):
        """Show what the guard has left."""
        if self.guardTimer.isActive():
            return  # the slider has moved on
        MedSegEffect.received(self, outcome)
        voxels = int((outcome.array != 0).sum())
        self.volumeLabel.setText(_("{0:.4g} ml").format(voxels * effect_grid.voxelMm3(outcome.toWorld) / 1000))
        told = [self.reachSentence(outcome.extent), *tellings(outcome)]
        self.say(" ".join(text for text in told if text) if voxels else self.message.text)

    def reachSentence(self, extent):
        """Return the sentence that warns where a region ends at the reach, "" where it does not."""
        if not effect_grid.endsAt(extent, self._box, self.size()):
            return ""
        return _("The region is cut off {0:g} mm from the clicks: raise Reach, or move the limit.").format(self.rows.value(REACH))

    def onApply(self):
        if self.guardTimer.isActive():  # the slider moved a moment ago: what is shown is not guarded yet
            self.guard(appliesAfter=True)
            return
        MedSegEffect.onApply(self)

    def discard(self):
        self.nested = self._nestedGrid = None
        self._number = -1
        if self.slider is not None:
            self.guardTimer.stop()
            self.slider.setEnabled(False)
            self.volumeLabel.setText("")
        MedSegEffect.discard(self)
