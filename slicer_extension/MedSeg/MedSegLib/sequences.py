"""Time sequences: which frames a scan has, and the results of all of them as a sequence of their own."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _


def browserOf(volumeNode):
    """Return the sequence browser that shows its frames in this volume, None where the volume is no part of a sequence."""
    if volumeNode is None:
        return None
    for browser in slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode"):
        if browser.GetSequenceNode(volumeNode) is not None:
            return browser
    return None


def frameCount(volumeNode):
    """Return how many frames a volume has; 1 where it is no part of a sequence."""
    browser = browserOf(volumeNode)
    return browser.GetNumberOfItems() if browser is not None else 1


def question(volumeNode, choiceTitle):
    """Return what the user is asked before all frames are worked on."""
    return _('"{0}" is a time sequence of {1} frames. Run "{2}" on every frame? "No" runs it on the frame that is shown.').format(
        volumeNode.GetName(), frameCount(volumeNode), choiceTitle
    )


def askAllFrames(volumeNode, choiceTitle):
    """Ask whether all frames are worked on; return True, False for the frame that is shown, or None where nothing is to be run."""
    import qt

    buttons = qt.QMessageBox.Yes | qt.QMessageBox.No | qt.QMessageBox.Cancel
    text = question(volumeNode, choiceTitle)
    answer = slicer.util.messageBox(text, windowTitle="MedSeg", icon=qt.QMessageBox.Question, standardButtons=buttons)
    return None if answer == qt.QMessageBox.Cancel else answer == qt.QMessageBox.Yes


class FrameResults:
    """Goes through the frames of a sequence and keeps the segmentation of each in a sequence that moves with the scan."""

    def __init__(self, volumeNode):
        self.browser = browserOf(volumeNode)
        self.shown = self.browser.GetSelectedItemNumber()
        self.scans = self.browser.GetSequenceNode(volumeNode)
        self.segmentations = None

    def show(self, frame):
        """Bring a frame into the volume node."""
        self.browser.SetSelectedItemNumber(frame)

    def keep(self, frame, segmentationNode):
        """Keep a copy of the segmentation as that of a frame."""
        if self.segmentations is None:
            self.segmentations = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", f"{segmentationNode.GetName()} frames")
            self.segmentations.SetIndexName(self.scans.GetIndexName())
            self.segmentations.SetIndexUnit(self.scans.GetIndexUnit())
        self.segmentations.SetDataNodeAtValue(segmentationNode, self.scans.GetNthIndexValue(frame))

    def finish(self, segmentationNode):
        """Let the segmentation follow the browser from now on, and show the frame that was shown before."""
        if self.browser.GetScene() is None:  # the scene was closed meanwhile
            return
        if self.segmentations is not None and segmentationNode is not None and segmentationNode.GetScene() is not None:
            with slicer.util.NodeModify(self.browser):  # else the browser makes a second segmentation for the sequence in between
                self.browser.AddSynchronizedSequenceNode(self.segmentations)
                self.browser.AddProxyNode(segmentationNode, self.segmentations, False)
        self.browser.SetSelectedItemNumber(self.shown)
