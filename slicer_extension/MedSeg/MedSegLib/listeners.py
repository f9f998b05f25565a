"""Who hears of a run: the panel, which shows it, and a script, which waits for it."""

from __future__ import annotations

from slicer.i18n import tr as _

from MedSegLib.run import Listener


class PanelListener(Listener):
    """Shows in the panel what a run tells."""

    def __init__(self, widget, request):
        self.widget = widget
        self.request = request

    def said(self, text):
        self.widget.log(text)

    def progressed(self, text, done, total):
        bar = self.widget.ui.progressBar
        bar.setVisible(True)
        bar.setRange(0, total)
        bar.setValue(done)
        self.widget.tell(text, log=False)

    def found(self, finding):
        self.widget.results.add(finding)

    def imported(self, segmentationNode, segmentIDs):
        self.widget.state().segmentation = segmentationNode
        self.widget.results.keepFindings()
        if not segmentIDs:
            self.widget.log(_("Nothing was found."))

    def measured(self, document, tableNode, origin):
        self.widget.results.showDocument(document)
        self.widget.results.keep(document, tableNode, origin)

    def ended(self, sentence, kind):
        self.widget.runEnded(self.request, sentence, kind)


class Collector(Listener):
    """Keeps what a run gave."""

    def __init__(self):
        self.segmentationNode = self.tableNode = self.sentence = None
        self.kind = ""

    def imported(self, segmentationNode, segmentIDs):
        self.segmentationNode = segmentationNode

    def measured(self, document, tableNode, origin):
        self.tableNode = tableNode

    def ended(self, sentence, kind):
        self.sentence, self.kind = sentence, kind
