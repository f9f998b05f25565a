"""The module MedSeg of 3D Slicer: segment, measure, compare. Class of the module, its panel, its logic and its self test."""

from __future__ import annotations

import time

import slicer
import vtk
from MedSegLib import nodes, origin, sequences
from MedSegLib.choices import choicesOf
from MedSegLib.chooser import Chooser
from MedSegLib.listeners import PanelListener
from MedSegLib.logic import MedSegLogic
from MedSegLib.panel import ParameterPanel
from MedSegLib.results import ResultsView
from MedSegLib.run import Request, Run
from MedSegLib.session import JobError, Session
from MedSegLib.setuppanel import SetupPanel
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

OUT_OF_MEMORY = "OutOfMemoryError"


class MedSeg(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened; nothing heavy happens here."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = "MedSeg"
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = []
        self.parent.contributors = ["The medseg developers"]
        self.parent.helpText = _(
            "Organs, lesions and volumes with intervals from CT and MR, in a few clicks. "
            'See the <a href="https://github.com/medseg/medseg/blob/main/docs/slicer.md">tutorial</a>. Not a medical device.'
        )
        self.parent.acknowledgementText = _("medseg is free software under the Apache-2.0 licence. Each method names its source.")
        slicer.app.connect("startupCompleted()", self.onStartupCompleted)

    def onStartupCompleted(self):
        """Register sample data and the terms of the segments; the worker, if there will be one, ends with the application."""
        from MedSegLib import samples

        slicer.app.connect("aboutToQuit()", Session.discard)
        terminologies = getattr(slicer.modules, "terminologies", None)
        if terminologies is not None:
            terminologies.logic().LoadTerminologyFromFile(self.resourcePath("MedSeg.term.json"))
        samples.register(self.resourcePath("Icons"))


class MedSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: it puts together the parts in MedSegLib, and holds what the user does against the parameter node."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.run = None
        self.described = False
        self.panel = self.setupPanel = None
        self._parameterNode = None
        self._guiTag = None

    def setup(self):
        """Load the panel and connect it; the worker is not started before the module is opened."""
        ScriptedLoadableModuleWidget.setup(self)
        widget = slicer.util.loadUI(self.resourcePath("UI/MedSeg.ui"))
        self.layout.addWidget(widget)
        self.ui = slicer.util.childWidgetVariables(widget)
        widget.setMRMLScene(slicer.mrmlScene)
        self.logic = MedSegLogic()
        ui = self.ui
        for title, modality in ((_("as the scan says"), ""), ("CT", "CT"), ("MR", "MR"), ("PET", "PT")):
            ui.modalityBox.addItem(title, modality)
        self.chooser = Chooser(ui.searchEdit, ui.choiceList, ui.summaryLabel, self.onChoice)
        self.panel = ParameterPanel(ui.parametersForm, self.update)
        self.results = ResultsView(ui, self.state, self.tell)
        self.setupPanel = SetupPanel(ui, self.resourcePath("MedSeg-requirements.txt"), self.onInstallationChanged, self.log)
        ui.memoryBox.setValue(float(slicer.app.userSettings().value("MedSeg/MemoryGB") or 0))
        ui.progressBar.setVisible(False)
        ui.statusLabel.setVisible(False)
        self._connect()
        self.results.begin()
        self.initializeParameterNode()

    def _connect(self):
        ui = self.ui
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndClose)
        ui.applyButton.connect("clicked()", self.onApply)
        ui.noticeButton.connect("clicked()", self.onSetUp)
        ui.sampleButton.connect("clicked()", self.onSample)
        ui.batchButton.connect("clicked()", self.onBatch)
        ui.resetButton.connect("clicked()", self.panel.reset)
        ui.modalityBox.connect("activated(int)", self.onModality)
        ui.memoryBox.connect("valueChanged(double)", self.onMemory)

    def cleanup(self):
        """The panel goes: a run goes with it."""
        if self.run is not None:
            self.run.cancel()
        if self.setupPanel is not None:  # None: the panel could not be made
            self.setupPanel.close()
        self.setParameterNode(None)
        if self.panel is not None:
            self.panel.close()
        self.removeObservers()
        Session.discard()

    def enter(self):
        """The module is opened: ask the worker what it can do, once."""
        self.initializeParameterNode()
        self.describe()

    def exit(self):
        """Another module is opened: a run goes on, the panel stops following the scene."""
        if self._parameterNode is not None:
            self.setParameterNode(None)

    # The parameter node

    def state(self):
        """Return the parameter node; while another module is open it is the scene's, which a run that goes on writes to."""
        return self._parameterNode or self.logic.getParameterNode()

    def initializeParameterNode(self):
        """Follow the parameter node, and choose the first scan where none is chosen."""
        self.setParameterNode(self.logic.getParameterNode())
        if self._parameterNode.inputVolume is None:
            kind = "vtkMRMLScalarVolumeNode"
            scans = [node for node in slicer.util.getNodesByClass(kind) if node.GetClassName() == kind]  # label maps are a kind of it
            if scans:
                self._parameterNode.inputVolume = scans[0]

    def setParameterNode(self, node):
        """Follow another parameter node, or none."""
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.update)
        self._parameterNode = node
        if node is None:
            return
        named = {widget.property("SlicerParameterName"): widget for widget in vars(self.ui).values()}
        self._guiTag = node.connectParametersToGui({name: one for name, one in named.items() if name})  # connectGui gives no tag
        self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self.update)
        self.chooser.select(node.choice)
        self._showParameters()
        if self.run is None:
            self.results.restore()
        self.update()

    def onSceneStartClose(self, caller, event):
        """The scene closes: its nodes must not be touched any more, and a run has lost its scan."""
        if self.run is not None:
            self.run.cancel()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        """The scene is closed or loaded: follow its parameter node when the module is open."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    # What can be done

    def describe(self):
        """Ask the worker for its methods, networks and pipelines, without waiting."""
        self._showState()
        if self.described or not self.setupPanel.state().ready:
            return

        def heard(event):
            if event["event"] == "result":
                self.described = True
                self.chooser.setChoices(choicesOf(event))
                if self._parameterNode is not None:
                    self.chooser.select(self._parameterNode.choice)
                    self._showParameters()
                self.update()
            elif event["event"] == "error":
                self.tell(event.get("message", ""), True)

        try:
            Session.instance().submit({"do": "describe"}, heard)
        except JobError as err:
            self.tell(str(err), True)

    def onInstallationChanged(self):
        """medseg came, went or changed: ask again what it can do."""
        self.described = False
        self.chooser.setChoices([])
        self.describe()
        self.update()

    def onChoice(self, choice):
        """Another line of the list was chosen."""
        if self._parameterNode is not None and choice is not None:
            self._parameterNode.choice = choice.key
        self._showParameters()
        self.update()

    def _showParameters(self):
        choice = self.chooser.choice
        if choice is not None and self._parameterNode is not None:
            self.panel.show(choice, self._parameterNode)
        makes = choice is None or choice.makesSegments
        self.ui.createNewCheck.setVisible(makes)
        self.ui.measureCheck.setVisible(makes and (choice is None or choice.group != "pipeline"))

    def _showState(self):
        state = self.setupPanel.state()
        self.ui.noticeArea.setVisible(not state.ready)
        self.ui.noticeLabel.setText(state.sentence)
        return state

    def whyNot(self):
        """Return every reason why Apply cannot be pressed, [] where it can."""
        state, choice = self._parameterNode, self.chooser.choice
        installed = self._showState()
        if not installed.ready:
            return [installed.sentence]
        if state is None:
            return [_("The scene is being closed.")]
        reasons = [nodes.whyNotUsable(state.inputVolume)]
        if choice is None:
            reasons.append(_("Choose what to do from the list.") if self.described else _("The list of methods is being made; one moment."))
        else:
            reasons += [choice.whyNot(bool(nodes.segmentIDsOf(state.segmentation))), *self.panel.problems()]
        return [reason for reason in reasons if reason]

    def update(self, caller=None, event=None):
        """Bring buttons and boxes up to date with the scene."""
        ui, state = self.ui, self._parameterNode
        if self.run is not None:
            ui.applyButton.setText(_("Cancel"))
            ui.applyButton.enabled = True
            ui.applyButton.toolTip = _("Stop the run; nothing of it stays in the scene")
        else:
            reasons = self.whyNot()
            ui.applyButton.setText(_("Apply"))
            ui.applyButton.enabled = not reasons
            ui.applyButton.toolTip = "\n".join(reasons) or _('Run "{0}" in the background').format(self.chooser.choice.title)
            ui.whyLabel.setText(" ".join(reasons))
        ui.whyLabel.setVisible(self.run is None and not ui.applyButton.enabled and ui.noticeArea.isHidden())
        volume = state.inputVolume if state is not None else None
        said = volume.GetAttribute(nodes.MODALITY_ATTRIBUTE) if volume is not None else ""
        ui.modalityBox.setCurrentIndex(max(ui.modalityBox.findData(said or ""), 0))
        ui.modalityBox.enabled = volume is not None
        if state is not None:
            self.results.update()

    # What the user does

    def onApply(self):
        """Begin a run, or cancel the one that goes on."""
        if self.run is not None:
            self.run.cancel()
            return
        try:
            request = self._request()
        except JobError as err:
            self.tell(str(err), True)
            return
        if request is not None:
            self._begin(request)

    def _request(self):
        """Return what is to be run, None where the user does not want it after all."""
        state, choice = self._parameterNode, self.chooser.choice
        findings = []
        request = Request(
            choice,
            state.inputVolume,
            state.segmentation,
            self.panel.jobParameters(state.inputVolume, findings.append),
            state.createNew,
            state.measureAfterwards,
            state.device,
            inSpiteOfErrors=state.inSpiteOfErrors,
            findings=tuple(findings),
        )
        if choice.name == "change":
            request.earlierScan, request.earlierLabels = self.panel.nodeOf("earlier_scan"), self.panel.nodeOf("earlier_labels")
        elif not choice.needsSegments and sequences.frameCount(state.inputVolume) > 1:
            request.allFrames = sequences.askAllFrames(state.inputVolume, choice.title)
        return request if request.allFrames is not None else None

    def _begin(self, request):
        self.results.begin()
        origin.clear(self.state())
        self.tell("", False)
        run = None
        try:
            run = self.run = Run(request, PanelListener(self, request))
            run.start()
        except BaseException as err:
            if self.run is run:  # the button never stays "Cancel" without a run
                self.run = None
            if not isinstance(err, JobError):
                self.tell(_("MedSeg met a fault of its own. Please report it with the text of Slicer's error log."), True)
                raise
            self.tell(str(err), True)
        finally:
            self.update()

    def runEnded(self, request, sentence, kind):
        """A run is over; where the graphics card was too small the processor is offered."""
        self.run = None
        self.ui.progressBar.setVisible(False)
        self.tell(sentence, bool(sentence) and kind != "Cancelled")
        self.update()
        question = _("The graphics card has too little memory for this. Run it again on the processor (slower)?")
        if kind == OUT_OF_MEMORY and request.device != "cpu" and slicer.util.confirmYesNoDisplay(question, windowTitle="MedSeg"):
            request.device = "cpu"
            self._begin(request)

    def onSetUp(self):
        """Show the installation section."""
        self.ui.setupSection.collapsed = False
        self.ui.lightRadio.setFocus()

    def onSample(self):
        """Load the sample scan and choose it."""
        from MedSegLib import samples

        try:
            self._parameterNode.inputVolume = samples.load()
        except JobError as err:
            self.tell(str(err), True)

    def onBatch(self):
        """Write the choice as a pipeline file."""
        choice, state = self.chooser.choice, self._parameterNode
        if choice is None or state is None:
            self.tell(_("Choose what to do from the list."), True)
            return
        try:
            self.results.saveBatch(choice, self.panel.jobParameters(state.inputVolume))
        except JobError as err:
            self.tell(str(err), True)

    def onModality(self, index):
        """The user says what kind of scan it is."""
        state = self._parameterNode
        if state is not None and state.inputVolume is not None:
            nodes.setModality(state.inputVolume, self.ui.modalityBox.itemData(index))

    def onMemory(self, gigabytes):
        """Keep the limit of the worker's memory; the next worker has it."""
        slicer.app.userSettings().setValue("MedSeg/MemoryGB", gigabytes)

    # What the user is told

    def tell(self, sentence, isError=False, log=True):
        """Show a sentence below Apply, red where something went wrong."""
        label = self.ui.statusLabel
        label.setText(sentence)
        label.setStyleSheet("color: #c62828; font-weight: bold" if isError else "")
        label.setVisible(bool(sentence))
        if sentence and log:
            self.log(sentence)

    def log(self, line):
        """Add a line to the log, which keeps the last 500."""
        self.ui.logView.appendPlainText(f"{time.strftime('%H:%M:%S')}  {line}")


class MedSegTest(ScriptedLoadableModuleTest):
    """The self test inside Slicer: the sample scan, one method, its volume."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_sample()

    def test_sample(self):
        """Air and tissue of the sample are told apart, and the volume of the segment is that of its voxels."""
        from MedSegLib import samples
        from MedSegLib.install import Installation

        if not Installation().state().ready:
            return self.delayDisplay(_("Skipped: MedSeg is not installed here"))
        volume = samples.load()
        segmentation, table = MedSegLogic().process(volume, "method:otsu")
        self.assertEqual(segmentation.GetSegmentation().GetNumberOfSegments(), 1)
        array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, nodes.segmentIDsOf(segmentation)[0], volume)
        spacing = volume.GetSpacing()
        expected = float((array > 0).sum()) * spacing[0] * spacing[1] * spacing[2] / 1000
        measured = table.GetTable().GetColumnByName("volume_ml").GetValue(0)
        self.assertAlmostEqual(measured, expected, delta=1e-6 * expected)
        self.delayDisplay(_("Test passed"))
