"""Model: a trained network, on the whole scan or on a region of interest."""

from __future__ import annotations

import numpy as np
import qt
import slicer
from MedSegLib import nodes
from MedSegLib.session import JobError, Session
from slicer.i18n import tr as _

from SegmentEditorMedSegLib import effect_grid, effect_segments
from SegmentEditorMedSegLib.effect_base import MedSegEffect
from SegmentEditorMedSegLib.effect_options import APPLY_AS, Option, applyAsOption
from SegmentEditorMedSegLib.effect_preview import PreviewPart
from SegmentEditorMedSegLib.effect_runner import Work

MODEL, INTO, REGION_ROLE = "Model", "Into", "Region"
DEFAULT_MODEL = "ct-phantom"
PROMPT_KINDS = ("click", "vista3d")  # networks that need clicks: they are no method `model`


class SegmentEditorMedSegModelEffect(MedSegEffect):
    """Runs in MedSeg's own process: Slicer stays responsive, and Cancel ends it within a second."""

    NAME = "MedSegModel"
    ICON = "Model"
    HAS_PREVIEW_BUTTON = True

    def __init__(self, scriptedEffect):
        MedSegEffect.__init__(self, scriptedEffect)
        self.models = []
        self.modelBox = self.regionBox = None

    def title(self):
        return _("Model")

    def helpText(self):
        return _(
            "<html>Segment with a trained network.<p><ul style='margin: 0'>"
            "<li><b>Region:</b> a box from the Markups module; only the scan inside it is looked at.</li>"
            "<li><b>Result:</b> all it finds into the selected segment, or each structure into a segment of its own name.</li></ul>"
            "It runs in the background and can be cancelled.</html>"
        )

    def options(self):
        return (
            Option(
                INTO,
                "choice",
                _("Result"),
                "each",
                _("Where the result goes."),
                choices=(("each", _("Each structure into its own segment")), ("selected", _("All into the selected segment"))),
            ),
            applyAsOption(_),
            Option(
                "Force",
                "boolean",
                _("Also on scans of another kind"),
                False,
                _("Use the model on a scan of another modality than it was trained on."),
            ),
        )

    def setMRMLDefaults(self):
        MedSegEffect.setMRMLDefaults(self)
        self.scriptedEffect.setParameterDefault(MODEL, DEFAULT_MODEL)

    def setupFirst(self):
        self.modelBox = qt.QComboBox()
        self.modelBox.setObjectName("MedSegModelName")
        self.modelBox.setEditable(True)
        self.modelBox.setToolTip(_("An installed model. `medseg models add` on the command line adds one."))
        self.scriptedEffect.addLabeledOptionsWidget(_("Model:"), self.modelBox)
        self.regionBox = slicer.qMRMLNodeComboBox()
        self.regionBox.setObjectName("MedSegRegion")
        self.regionBox.nodeTypes = ["vtkMRMLMarkupsROINode"]
        self.regionBox.noneEnabled = True
        self.regionBox.noneDisplay = _("Whole scan")
        self.regionBox.addEnabled = False
        self.regionBox.removeEnabled = False
        self.regionBox.setMRMLScene(slicer.mrmlScene)
        self.regionBox.setToolTip(_("The box that the network looks at. Make one in the Markups module."))
        self.scriptedEffect.addLabeledOptionsWidget(_("Region:"), self.regionBox)
        self.modelBox.connect("currentTextChanged(QString)", self.onModel)
        self.regionBox.connect("currentNodeChanged(vtkMRMLNode*)", self.onRegion)

    def cleanup(self):
        if self.modelBox is not None:
            self.modelBox.disconnect("currentTextChanged(QString)", self.onModel)
            self.regionBox.disconnect("currentNodeChanged(vtkMRMLNode*)", self.onRegion)
        MedSegEffect.cleanup(self)

    def activate(self):
        MedSegEffect.activate(self)
        if not self.models:
            self.askForModels()

    def interactionNodeModified(self, interactionNode):
        """Stay active while a region is placed or moved."""

    def askForModels(self):
        """Fill the list with the installed models, once MedSeg's process has told them."""
        try:
            Session.instance().submit({"do": "describe"}, self.onDescribed)
        except JobError as err:
            self.say(str(err))

    def onDescribed(self, event):
        """Show the models; a fault is said and leaves the list as it is."""
        if event["event"] == "error":
            self.say(event.get("message", ""))
        if event["event"] != "result":
            return
        self.models = list(event.get("models", []))
        wasBlocked = self.modelBox.blockSignals(True)
        self.modelBox.clear()
        for card in self.models:
            if card.get("kind") not in PROMPT_KINDS:
                self.modelBox.addItem(card["name"])
        self.modelBox.blockSignals(wasBlocked)
        self.updateGUIFromMRML()

    def onModel(self, name):
        """Another model was chosen."""
        self.scriptedEffect.setParameter(MODEL, name)
        self._changed()

    def onRegion(self, node):
        """Another region was chosen."""
        self.scriptedEffect.setNodeReference(REGION_ROLE, node)
        self._changed()

    def _changed(self):
        self.stop()
        self.preview.clear()
        self.updateButtons()

    def updateGUIFromMRML(self):
        MedSegEffect.updateGUIFromMRML(self)
        if self.modelBox is None or self.isWriting or self.scriptedEffect.parameterSetNode() is None:
            return
        name = self.scriptedEffect.parameter(MODEL)
        if name != self.modelBox.currentText:
            wasBlocked = self.modelBox.blockSignals(True)
            self.modelBox.setCurrentText(name)
            self.modelBox.blockSignals(wasBlocked)
        wasBlocked = self.regionBox.blockSignals(True)
        self.regionBox.setCurrentNode(self.scriptedEffect.nodeReference(REGION_ROLE))
        self.regionBox.blockSignals(wasBlocked)

    def missing(self):
        return self.sourceProblem() or ("" if self.scriptedEffect.parameter(MODEL).strip() else _("Choose a model."))

    def work(self):
        parameters = {"model": self.scriptedEffect.parameter(MODEL).strip(), "force": self.rows.value("Force")}
        return Work("model", parameters, self.volumeNode(), region=self.region())

    def region(self):
        """Return the region as an extent (i0, i1, j0, j1, k0, k1) of the scan's voxels, None for the whole scan."""
        node = self.scriptedEffect.nodeReference(REGION_ROLE)
        if node is None:
            return None
        extent = roiExtent(node, self.volumeNode())
        if effect_grid.isEmptyExtent(extent):
            raise JobError(_("The region lies outside the scan: move the box, or choose the whole scan."), "Input", 3)
        return extent

    def parts(self, outcome):
        if self.rows.value(INTO) == "selected":
            return MedSegEffect.parts(self, outcome)
        masks = effect_segments.numberedParts(outcome, [entry["number"] for entry in outcome.segments])
        found = []
        for entry, mask in zip(outcome.segments, masks, strict=True):
            if not mask.isEmpty:
                colour = effect_segments.colourOf(entry)
                found.append(PreviewPart(self.placed(mask, outcome), entry["label"], colour, entry=entry))
        return found

    def write(self):
        segmentation = self.segmentationNode()
        for part in self.preview.parts:
            if not part.entry:
                MedSegEffect.write(self)
                return
            isNew = not segmentation.GetSegmentation().GetSegmentIdBySegmentName(part.name)
            segmentId = effect_segments.segmentNamed(segmentation, part.name, part.colour)
            if isNew:
                effect_segments.describe(segmentation, segmentId, part.entry)
            self.modifyAs(segmentId, part.image, self.rows.value(APPLY_AS))


def roiExtent(roiNode, volumeNode):
    """Return the voxels of a scan that a box, turned or not, touches, cut at the scan; empty where it lies outside."""
    matrix = effect_grid.worldFromParent(roiNode) @ slicer.util.arrayFromVTKMatrix(roiNode.GetObjectToNodeMatrix())
    half = np.array(roiNode.GetSize()) / 2
    signs = np.array([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)], float)
    corners = np.c_[signs * half, np.ones(8)] @ matrix.T
    index = (corners @ np.linalg.inv(nodes.ijkToWorld(volumeNode)).T)[:, :3]
    low = np.ceil(index.min(axis=0) - 0.5).astype(int)
    high = np.floor(index.max(axis=0) + 0.5).astype(int)
    size = volumeNode.GetImageData().GetDimensions()
    return effect_grid.commonExtent(
        tuple(int(n) for pair in zip(low, high, strict=True) for n in pair), tuple(n for length in size for n in (0, length - 1))
    )
