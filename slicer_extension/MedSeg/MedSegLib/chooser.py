"""The searchable list of what can be done."""

from __future__ import annotations

import html

import qt
from slicer.i18n import tr as _

from MedSegLib.choices import matching


class Chooser:
    """A list with a search above it and the description of the chosen line below; `onChoice` is called with it."""

    def __init__(self, searchEdit, listWidget, summaryLabel, onChoice):
        self._search = searchEdit
        self._list = listWidget
        self._summary = summaryLabel
        self._onChoice = onChoice
        self._all = []
        self._shown = []
        self.choice = None
        searchEdit.connect("textChanged(QString)", lambda text: self._fill())
        listWidget.connect("currentRowChanged(int)", self._rowChanged)
        self._describe()

    def setChoices(self, choices):
        """Show other choices; the one that is chosen stays where it is among them."""
        self._all = list(choices)
        key = self.choice.key if self.choice is not None else ""
        self.choice = next((one for one in self._all if one.key == key), None)
        self._fill()
        self._describe()

    def select(self, key):
        """Choose by key, without telling; an unknown key chooses nothing."""
        self.choice = next((one for one in self._all if one.key == key), None)
        self._fill()
        self._describe()

    # Inside

    def _fill(self):
        groups = {
            "pipeline": _("Pipeline"),
            "model": _("Network"),
            "segment": _("Method"),
            "postprocess": _("Clean up"),
            "measure": _("Measure"),
        }
        self._shown = matching(self._all, self._search.text)
        blocked = self._list.blockSignals(True)
        self._list.clear()
        for choice in self._shown:
            modality = f"  ({choice.modality})" if choice.modality else ""
            item = qt.QListWidgetItem(f"{groups[choice.group]}: {choice.title}{modality}")
            item.setToolTip(choice.summary)
            self._list.addItem(item)
        self._list.setCurrentRow(self._shown.index(self.choice) if self.choice in self._shown else -1)
        self._list.blockSignals(blocked)
        if self._all and not self._shown:
            self._summary.setText(_("Nothing matches. Try an organ, a modality, or part of a name."))
        else:
            self._describe()

    def _rowChanged(self, row):
        if 0 <= row < len(self._shown):
            self.choice = self._shown[row]
            self._describe()
            self._onChoice(self.choice)

    def _describe(self):
        self._summary.setText(html.escape(self.choice.summary) if self.choice is not None else "")
        self._summary.setVisible(bool(self._summary.text))
