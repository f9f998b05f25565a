"""The part of the panel that shows what came out: findings first, then numbers, then files."""

from __future__ import annotations

import html
import json
import os

import qt
import slicer
from slicer.i18n import tr as _

from MedSegLib import batch, export, origin, tables
from MedSegLib.session import JobError, Session

_COLOURS = {"error": "#c62828", "warning": "#b26a00", "info": "#1565c0"}  # legible on light and on dark panels
_SIGNS = {"error": "✖", "warning": "▲", "info": "●"}
_ORDER = ("error", "warning", "info")


def findingsHtml(findings):
    """Return findings as rich text, the worst first, each once; texts are escaped."""
    merged = {}
    for finding in findings:  # the checks of the scan give advice, a method repeats the finding without it
        key = (finding.get("code"), finding.get("message"))
        merged[key] = {**finding, "advice": finding.get("advice") or merged.get(key, {}).get("advice")}
    unique = list(merged.values())
    unique.sort(key=lambda f: _ORDER.index(f.get("severity")) if f.get("severity") in _ORDER else len(_ORDER))
    lines = []
    for finding in unique:
        severity = finding.get("severity", "info")
        text = html.escape(str(finding.get("message", "")))
        if finding.get("advice"):
            text += f" <i>{html.escape(str(finding['advice']))}</i>"
        lines.append(f'<span style="color:{_COLOURS.get(severity, "#666666")}">{_SIGNS.get(severity, "●")}</span> {text}')
    return "<br>".join(lines)


class ResultsView:
    """Shows findings and tables, jumps to segments, and writes files; `state` gives the parameter node."""

    def __init__(self, ui, state, tell):
        self.ui = ui
        self._state = state
        self._tell = tell
        self._findings = []
        self._segmentIDs = {}
        for kind, title in export.formats():
            ui.exportBox.addItem(title, kind)
        ui.exportBox.connect("currentIndexChanged(int)", lambda index: self.update())
        ui.exportButton.connect("clicked()", self.export)
        ui.resultTable.connect("cellClicked(int,int)", self.jump)
        ui.resultTable.verticalHeader().setVisible(False)

    def begin(self):
        """Forget the findings and numbers of the run before."""
        self._findings = []
        self.showFindings([])
        self.ui.resultTable.setRowCount(0)
        self.ui.resultTable.setVisible(False)
        self.ui.originLabel.setVisible(False)

    def add(self, finding):
        """Show one more finding."""
        self._findings.append({name: finding.get(name) for name in ("code", "severity", "message", "advice") if finding.get(name)})
        self.showFindings(self._findings)

    def showFindings(self, findings):
        """Show findings above the numbers."""
        self._findings = list(findings)
        self.ui.findingsLabel.setText(findingsHtml(findings))
        self.ui.findingsLabel.setVisible(bool(findings))

    def showDocument(self, document):
        """Show the rows of a measurement."""
        table = tables.tableOf(document)
        tables.fill(self.ui.resultTable, table, tables.shownColumns(document))
        self.ui.resultTable.setVisible(True)
        self.ui.resultsSection.collapsed = False

    def keep(self, document, tableNode, measuredOn):
        """Keep a measurement with its findings and what it was measured on in the parameter node, so that it is saved with the scene."""
        state = self._state()
        if state is not None:
            with slicer.util.NodeModify(state):
                state.document = json.dumps(document)
                state.findings = json.dumps(self._findings)
                state.resultTable = tableNode
                origin.write(state, measuredOn)
            self.showOrigin(state)

    def keepFindings(self):
        """Keep the findings alone: a result that was not measured has them too."""
        state = self._state()
        if state is not None:
            state.findings = json.dumps(self._findings)

    def showOrigin(self, state):
        """Say above the table whose numbers they are, and whether they are out of date."""
        label = self.ui.originLabel
        label.setVisible(bool(state.document))
        if state.document:
            text, isDoubtful = origin.sentence(state)
            label.setText(text)
            label.setStyleSheet(f"color: {_COLOURS['warning']}" if isDoubtful else "")

    def restore(self):
        """Show what the parameter node holds, after a scene was loaded or closed."""
        state = self._state()
        self.begin()
        if state is None:
            return
        self.showFindings(_loaded(state.findings, []))
        document = _loaded(state.document, {})
        if document:
            self.showDocument(document)
        self.showOrigin(state)

    def update(self):
        """Enable the export where it can be done, and say why where it cannot."""
        state = self._state()
        if state is not None:
            self.showOrigin(state)
        kind = self.ui.exportBox.itemData(self.ui.exportBox.currentIndex)
        sentence = _("Wait for the run to end.") if Session.instance().busy else ""
        if not sentence:
            sentence = export.whyNot(kind, state.inputVolume, state.segmentation) if state is not None else _("Choose a scan first.")
        self.ui.exportButton.enabled = not sentence
        self.ui.exportButton.toolTip = sentence or _("Write the segmentation or its measurements to a file")

    def export(self):
        """Ask for a path and write the chosen format."""
        state = self._state()
        kind = self.ui.exportBox.itemData(self.ui.exportBox.currentIndex)
        suggested = export.suggestedPath(kind, state.segmentation, "")
        if kind == "report":
            path = qt.QFileDialog.getExistingDirectory(self.ui.exportButton, _("Folder for the report"))
            path = os.path.join(path, "medseg_report") if path else ""  # a folder of its own: other files there stay as they are
        else:
            path = qt.QFileDialog.getSaveFileName(self.ui.exportButton, _("Export"), suggested, f"*{export.SUFFIXES[kind]}")
        path = _agreed(path, export.withSuffix(path, kind))
        if not path:
            return
        try:
            for finding in export.doubts(kind, state.inputVolume, state.segmentation):
                self.add(finding)
            folder = Session.instance().files.newFolder("export")
            job = export.job(kind, state.inputVolume, state.segmentation, path, folder, self.add)
            Session.instance().submit(job, self._exported)
        except JobError as err:
            self._tell(str(err), True)
            return
        self._tell(_("Writing…"), False)
        self.update()

    def saveBatch(self, choice, parameters):
        """Ask for a path and write the choice as a pipeline file."""
        try:
            text = batch.pipelineText(choice, parameters)
        except JobError as err:
            self._tell(str(err), True)
            return
        path = qt.QFileDialog.getSaveFileName(self.ui.batchButton, _("Pipeline file"), "pipeline.yaml", "*.yaml")
        path = _agreed(path, path if path.lower().endswith((".yaml", ".yml")) else path + ".yaml")
        if not path:
            return
        try:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        except OSError:
            self._tell(_("The file could not be written there. Choose another folder."), True)
            return
        self._tell(_("Written. For each scan run: {0}").format(batch.commandFor(path)), False)

    def jump(self, row, column):
        """Show the middle of the segment of a row in the slice views."""
        state = self._state()
        item = self.ui.resultTable.item(row, 0)
        node = (state.measuredParts or state.measuredSegmentation or state.segmentation) if state is not None else None
        if node is None or item is None:
            return
        segmentID = node.GetSegmentation().GetSegmentIdBySegmentName(item.text())
        centre = node.GetSegmentCenterRAS(segmentID) if segmentID else None
        if centre is not None:
            slicer.modules.markups.logic().JumpSlicesToLocation(*centre, True)

    def _exported(self, event):
        if event["event"] == "finding":
            self.add(event)
        elif event["event"] == "result":
            written = event.get("files") or []
            self._tell(_("Written: {0}").format(", ".join(written)) if written else _("Written."), False)
            self.update()
        elif event["event"] == "error":
            self._tell(event.get("message", ""), True)
            self.update()


def _agreed(chosen, path):
    """Return the path that will be written, "" where there is none or the user keeps what is there.

    The dialog has asked about the name that was typed, not about the one with its suffix, nor about a folder of ours.
    """
    if not chosen or (path == chosen and not os.path.isdir(path)) or not os.path.exists(path):
        return path if chosen else ""
    question = _("{0} is there already. Replace it?").format(os.path.basename(path))
    return path if slicer.util.confirmOkCancelDisplay(question, windowTitle="MedSeg") else ""


def _loaded(text, otherwise):
    try:
        return json.loads(text) if text else otherwise
    except ValueError:
        return otherwise
