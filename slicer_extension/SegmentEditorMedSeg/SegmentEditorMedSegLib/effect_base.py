"""What the MedSeg effects share: clicks, a run that can be cancelled, a preview, and Apply with masking and undo by the editor."""

from __future__ import annotations

import sys

import qt
import vtk
from MedSegLib.session import JobError
from SegmentEditorEffects import AbstractScriptedSegmentEditorEffect
from slicer.i18n import tr as _

from SegmentEditorMedSegLib import effect_grid, effect_runner
from SegmentEditorMedSegLib.effect_clicks import INSIDE, OUTSIDE, Clicks
from SegmentEditorMedSegLib.effect_icons import effectIcon
from SegmentEditorMedSegLib.effect_options import APPLY_AS, OptionRows
from SegmentEditorMedSegLib.effect_preview import Preview, PreviewPart
from SegmentEditorMedSegLib.effect_scene import EditedScene, tellings


class MedSegEffect(AbstractScriptedSegmentEditorEffect, EditedScene):
    """Base of the effects: subclasses say what to compute (`work`), when it cannot be (`missing`) and how it is shown.

    A preview never touches the segment. Apply saves the state for undo and hands the result to the editor, which honours
    masking, overwrite mode and the selected segment.
    """

    NAME = ""  # never translated: modules and saved scenes know the effect by it
    ICON = ""
    METHODS = ()  # what it runs
    USES_CLICKS = False
    USES_OUTSIDE_CLICKS = False
    HAS_PREVIEW_BUTTON = False  # effects of clicks show theirs at once
    BOUND_TO_SEGMENT = False  # whether a preview belongs to the segment that was selected when it was made

    def __init__(self, scriptedEffect):
        scriptedEffect.name = self.NAME
        scriptedEffect.title = self.title()
        AbstractScriptedSegmentEditorEffect.__init__(self, scriptedEffect)
        self.rows = OptionRows(scriptedEffect, self.options())
        self.clicks = Clicks(scriptedEffect)
        self.preview = Preview(scriptedEffect)
        self.message = self.bar = self.previewButton = self.applyButton = self.cancelButton = self.undoClickButton = None
        self._run = None
        self._appliesAfter = False
        self._again = None  # what to do once the run is over whose result is of no use any more
        self._forGrid = self._forSegment = None

    # What subclasses say

    def title(self):
        """Return the translated name on the button."""
        raise NotImplementedError

    def options(self):
        """Return the options of the panel."""
        return ()

    def missing(self):
        """Return the sentence that says what is missing before the effect can run, "" where nothing is."""
        return self.sourceProblem() or (
            _("Click on the structure in a slice view.") if self.USES_CLICKS and not self.clicks.points() else ""
        )

    def work(self):
        """Return the Work to be done."""
        raise NotImplementedError

    def parts(self, outcome):
        """Return what is shown and applied as PreviewParts; by default all that was found, as one part."""
        image = self.placed(effect_grid.croppedMask(outcome.array, outcome.extent), outcome)
        return [PreviewPart(image, self.selectedName(), self.selectedColour())]

    def write(self):
        """Write what is shown into the selected segment, as the option `ApplyAs` says."""
        mode = self.rows.value(APPLY_AS) if APPLY_AS in self.rows.options else "set"
        self.modify(self.preview.parts[0].image, mode)

    # What the editor calls

    def clone(self):
        import qSlicerSegmentationsEditorEffectsPythonQt as effects

        cloned = effects.qSlicerSegmentEditorScriptedEffect(None)
        cloned.setPythonSource(sys.modules[type(self).__module__].__file__.replace("\\", "/"))
        return cloned

    def icon(self):
        return effectIcon(self.ICON)

    def setMRMLDefaults(self):
        self.rows.setDefaults()

    def setupOptionsFrame(self):
        self.setupFirst()
        self.rows.build(self.onOption)
        self.setupMore()
        self.message = qt.QLabel()
        self.message.setObjectName("MedSegMessage")
        self.message.setWordWrap(True)
        self.scriptedEffect.addOptionsWidget(self.message)
        self.bar = qt.QProgressBar()
        self.bar.setVisible(False)
        self.scriptedEffect.addOptionsWidget(self.bar)
        self.cancelButton = qt.QPushButton(_("Cancel"))
        self.cancelButton.setObjectName("MedSegCancel")
        self.cancelButton.setToolTip(_("Stop what is running, or take the preview away."))
        self.applyButton = qt.QPushButton(_("Apply"))
        self.applyButton.setObjectName("MedSegApply")
        self.previewButton = qt.QPushButton(_("Preview"))
        self.previewButton.setObjectName("MedSegPreview")
        self.previewButton.setToolTip(_("Show the result without changing the segment."))
        self.previewButton.setVisible(self.HAS_PREVIEW_BUTTON)
        self.undoClickButton = qt.QPushButton(_("Undo last click"))
        self.undoClickButton.setObjectName("MedSegUndoClick")
        self.undoClickButton.setToolTip(_("Take the newest click back and look again with the others."))
        self.undoClickButton.setVisible(self.USES_CLICKS)
        self.scriptedEffect.addOptionsWidget(self.undoClickButton)
        line = qt.QHBoxLayout()
        for button in (self.previewButton, self.cancelButton, self.applyButton):
            line.addWidget(button)
        self.scriptedEffect.addOptionsWidget(line)
        for button, slot in self._slots():
            button.connect("clicked()", slot)

    def _slots(self):
        return (
            (self.undoClickButton, self.onUndoClick),
            (self.previewButton, self.onPreview),
            (self.cancelButton, self.onCancel),
            (self.applyButton, self.onApply),
        )

    def setupFirst(self):
        """Add what an effect has above its options."""

    def setupMore(self):
        """Add what an effect has beside its options; called between them and the buttons."""

    def activate(self):
        self.say("")
        effect_runner.warmUp(self.METHODS)
        self.updateGUIFromMRML()

    def deactivate(self):
        self.discard()

    def cleanup(self):
        """Let go of the widgets, so that the effect can be deleted."""
        self.stop()
        self.rows.cleanup()
        for button, slot in self._slots():
            if button is not None:
                button.disconnect("clicked()", slot)

    def sourceVolumeNodeChanged(self):
        self._checkGrid()

    def referenceGeometryChanged(self):
        self._checkGrid()

    def updateGUIFromMRML(self):
        if self.applyButton is None or self.isWriting:
            return
        if self.scriptedEffect.parameterSetNode() is None or self.segmentationNode() is None:
            self.stop()
        elif self.BOUND_TO_SEGMENT and self._forSegment not in (None, self.segmentId()):
            self.discard()
        self.rows.read()
        self.updateButtons()

    def updateMRMLFromGUI(self):
        self.rows.write()

    def processInteractionEvents(self, callerInteractor, eventId, viewWidget):
        isClick = self.USES_CLICKS and eventId == vtk.vtkCommand.LeftButtonPressEvent and viewWidget.className() == "qMRMLSliceWidget"
        if not isClick:
            return False
        place = self.xyToRas(callerInteractor.GetEventPosition(), viewWidget)
        self.clicked(place, isMore=bool(callerInteractor.GetShiftKey()), isOutside=bool(callerInteractor.GetControlKey()))
        return True

    # What the user does

    def clicked(self, point, isMore=False, isOutside=False):
        """Take a click [R, A, S] in mm: a new start, or with Shift one more inside, with Ctrl one outside; then run."""
        if self.scriptedEffect.confirmCurrentSegmentVisible() != self.scriptedEffect.ConfirmedWithoutDialog:
            return  # the dialog took the click
        problem = self.sourceProblem()
        if problem:
            self.say(problem)
            return
        if isOutside and not (self.USES_OUTSIDE_CLICKS and self.clicks.points()):
            return
        if not (isMore or isOutside):
            self.clicks.clear()
        self.clicks.add(point, OUTSIDE if isOutside else INSIDE)
        self.start()

    def onOption(self, key):
        """An option was changed by hand: what was shown is no longer what Apply would do."""
        self.updateMRMLFromGUI()
        if key == APPLY_AS:
            return
        if self.USES_CLICKS and self.clicks.points():
            self.start()
            return
        self.stop()
        self.preview.clear()
        self.updateButtons()

    def onUndoClick(self):
        """Take the newest click back; what the others give is looked for again."""
        self.clicks.removeLast()
        if not self.clicks.points():
            self.discard()
            self.say(self.missing())
            return
        self.preview.clear()
        self.start()
        self.updateButtons()

    def onPreview(self):
        """Compute and show; nothing is written."""
        self.start()

    def onCancel(self):
        """Stop the run, or take preview and clicks away."""
        self.discard()
        self.say(_("Cancelled. The segment is as it was."))

    def onApply(self):
        """Write the preview into the segment; without one, compute it first."""
        if not self.preview.isShown:
            self.start(appliesAfter=True)
            return
        if self.scriptedEffect.confirmCurrentSegmentVisible() == self.scriptedEffect.NotConfirmed:
            return
        self.scriptedEffect.saveStateForUndo()
        self.write()
        self.discard()
        self.say(_("Applied. Undo brings the segment back as it was."))

    # Running

    @property
    def isRunning(self):
        """Whether a run is on its way."""
        return self._run is not None and not self._run.isOver

    def start(self, appliesAfter=False):
        """Run the work of the effect and show what it finds; work that takes a moment is let run out first, and done again."""
        if self.letRunOut(self.start, appliesAfter):
            return
        self.stop()
        problem = self.missing()
        if problem:
            self.say(problem)
            return
        try:
            work = self.work()
            self._forGrid, self._forSegment = self._grid(), self.segmentId()
        except JobError as err:
            self.say(str(err))
            return
        self._appliesAfter = appliesAfter
        self.say(_("Working..."))
        self.launch(work, self.received)

    def letRunOut(self, again, appliesAfter):
        """Whether quick work is on its way: its end is waited for, and then `again` is called in place of showing it."""
        if not (self.isRunning and self._run.isQuick):
            return False
        self._again, self._appliesAfter = again, appliesAfter
        return True

    def applyWhenDone(self):
        """Let the run that is on its way be applied when it is over."""
        self._appliesAfter = self.isRunning

    def launch(self, work, onDone):
        """Start a work; the buttons follow it."""
        self._run = effect_runner.start(work, lambda outcome: self._ended(onDone, outcome), self.failed, self.progressed)
        self.updateButtons()

    def received(self, outcome):
        """Show what was found, and apply it where that was asked for."""
        parts = [part for part in self.parts(outcome) if not effect_grid.isEmptyExtent(part.image.GetExtent())]
        told = tellings(outcome)
        if not parts:
            self.preview.clear()
            self.say(" ".join([_("Nothing was found here."), *told]))
            return
        self.preview.show(parts)
        self.say(" ".join(told))
        if self._appliesAfter:
            self._appliesAfter = False
            self.onApply()

    def failed(self, sentence, _kind):
        """Say what went wrong; the segment is as it was."""
        self._run = None
        if self._doneAgain():
            return
        self._appliesAfter = False
        self.preview.clear()
        self.say(sentence)
        self.updateButtons()

    def progressed(self, event):
        """Show how far the run is."""
        if event["event"] == "progress":
            self.bar.setRange(0, int(event.get("total", 0)))
            self.bar.setValue(int(event.get("done", 0)))
            self.say(event.get("text", ""))

    def stop(self):
        """End a run; what it would have found is not shown."""
        run, self._run = self._run, None
        self._appliesAfter, self._again = False, None
        if run is not None:
            run.cancel()

    def discard(self):
        """End a run and take preview and clicks away; the segment is not touched."""
        self.stop()
        self.preview.clear()
        self.clicks.clear()
        self._forGrid = self._forSegment = None
        self.updateButtons()

    def _doneAgain(self):
        """Whether clicks or options changed while it ran, and the work was started again."""
        again, self._again = self._again, None
        if again is not None:
            again(self._appliesAfter)
        return again is not None

    def _ended(self, onDone, outcome):
        self._run = None
        if self._doneAgain():
            return
        try:
            onDone(outcome)
        except JobError as err:
            self.failed(str(err), err.kind)
        self.updateButtons()

    def _grid(self):
        volume, reference = self.volumeNode(), self.reference()
        if volume is None or reference is None:
            return None
        return volume.GetID(), effect_grid.imageMatrix(reference).tobytes(), tuple(reference.GetExtent())

    def _checkGrid(self):
        if self._forGrid is not None and self._forGrid != self._grid():
            self.discard()
            self.say(_("The scan or the grid of the segmentation changed: click again."))

    # What is said

    def say(self, sentence):
        """Show a sentence in the panel."""
        if self.message is not None:
            self.message.setText(sentence)

    def updateButtons(self):
        """Show what can be pressed, and why not."""
        if self.applyButton is None or self.scriptedEffect.parameterSetNode() is None:
            return
        missing = _("Wait until the run is over, or press Cancel.") if self.isRunning else self.missing()
        problem = "" if self.preview.isShown and not self.isRunning else missing
        self.previewButton.setEnabled(not missing)
        self.applyButton.setEnabled(not problem)
        self.applyButton.setToolTip(problem or _("Write the result into the segment. It can be undone."))
        self.undoClickButton.setEnabled(bool(self.clicks.points()))
        self.cancelButton.setEnabled(self.isRunning or self.preview.isShown or bool(self.clicks.points()))
        self.bar.setVisible(self.isRunning)
