"""The part of the panel that installs, updates, removes and examines; it changes nothing unless a button is pressed."""

from __future__ import annotations

import html

import ctk
import slicer
from slicer.i18n import tr as _

from MedSegLib import hostchecks, install
from MedSegLib.session import JobError, Session
from MedSegLib.steps import Steps

_COLOURS = {"ok": "#2e7d32", "warning": "#b26a00", "error": "#c62828"}
_SIGNS = {"ok": "✔", "warning": "▲", "error": "✖"}


def checksHtml(checks):
    """Return the doctor's checks as rich text: one line each, what to do in italics; texts are escaped."""
    lines = []
    for check in checks:
        status = check.get("status", "warning")
        text = html.escape(str(check.get("sentence", "")))
        if check.get("advice"):
            text += f" <i>{html.escape(str(check['advice']))}</i>"
        lines.append(f'<span style="color:{_COLOURS.get(status, "#666666")}">{_SIGNS.get(status, "●")}</span> {text}')
    return "<br>".join(lines)


class SetupPanel:
    """Buttons and fields of the installation section. `changed` is called when medseg came, went or changed; `log` takes lines."""

    def __init__(self, ui, requirementsFile, changed, log):
        self.ui = ui
        self.installation = install.Installation()
        self._requirementsFile = requirementsFile
        self._changed = changed
        self._log = log
        self._steps = None
        self._told = ""
        self._fillFields()
        for radio in (ui.lightRadio, ui.fullRadio, ui.remoteRadio):
            radio.connect("toggled(bool)", lambda checked: self.update())
        ui.installButton.connect("clicked()", self.install)
        ui.updateButton.connect("clicked()", self.update_)
        ui.removeButton.connect("clicked()", self.remove)
        ui.doctorButton.connect("clicked()", self.examine)
        ui.filesButton.connect("clicked()", self.clearFiles)
        self.update()

    @property
    def installing(self):
        """Whether an installation is going on."""
        return self._steps is not None and self._steps.running

    def state(self):
        """Return the state of what is installed."""
        return self.installation.state()

    def update(self):
        """Show what is chosen, what is there, and which buttons make sense."""
        ui, state = self.ui, self.state()
        ui.setupLabel.setText("\n".join(dict.fromkeys(text for text in (self._told, state.sentence) if text)))
        ui.fullArea.setVisible(ui.fullRadio.checked)
        ui.remoteArea.setVisible(ui.remoteRadio.checked)
        ui.installButton.setText(_("Cancel") if self.installing else _("Use") if ui.remoteRadio.checked else _("Install"))
        ui.updateButton.enabled = state.kind in (install.LIGHT, install.FULL) and bool(state.version) and not self.installing
        ui.removeButton.enabled = state.kind != "" and not self.installing

    def install(self):
        """Install what is chosen; while it goes on, the button cancels."""
        self._told = ""
        if self.installing:
            self._steps.cancel()
        elif self.ui.remoteRadio.checked:
            self._guarded(lambda: self.installation.useRemote(self.ui.addressBox.currentText))
            self._changed()
        elif self.ui.lightRadio.checked:
            self._guarded(self._installLight)
            self._changed()
        elif self.ui.fullRadio.checked:
            self._guarded(self._installFull)
        else:
            self.tell(_("Choose Light, Full or Remote first."))
        self.update()

    def update_(self):
        """Install the newest version that fits, in the way that was chosen before."""
        kind = self.state().kind
        self.ui.lightRadio.checked, self.ui.fullRadio.checked = kind == install.LIGHT, kind == install.FULL
        self.install()

    def remove(self):
        """Remove the environment, after asking."""
        question = _("Remove MedSeg's environment with all networks in it? Slicer's own Python is left as it is.")
        if not slicer.util.confirmOkCancelDisplay(question, windowTitle="MedSeg"):
            return
        self._stopWorker()
        if self._guarded(self.installation.remove):
            self.tell(_("Removed."))
        self._changed()
        self.update()

    def examine(self):
        """Check what can be seen from here, then ask the worker for the rest."""
        state = self.state()
        here = [{"status": "ok" if state.ready else "error", "sentence": state.sentence}]
        if not state.ready:  # the worker's own checks come with it
            here += hostchecks.hostChecks(self.installation)
        self.ui.doctorLabel.setText(checksHtml(here))
        self.ui.setupSection.collapsed = False
        if not state.ready:
            return

        def heard(event):
            if event["event"] == "result":
                self.ui.doctorLabel.setText(checksHtml(here + list(event.get("checks", ()))))
            elif event["event"] == "error":
                self.ui.doctorLabel.setText(checksHtml([*here, {"status": "error", "sentence": event.get("message", "")}]))

        self._guarded(lambda: Session.instance().submit({"do": "doctor", "folder": Session.instance().files.path}, heard))

    def clearFiles(self):
        """Remove the files that were handed over; the worker reads scans again when they are needed."""
        if Session.instance().busy:
            self.tell(_("A run is going on. Wait for it, or cancel it, then clear the files."))
            return
        self._stopWorker()
        self.tell(_("Cleared."))

    def tell(self, sentence):
        """Show a sentence of the installation."""
        self._told = sentence
        self._log(sentence)
        self.update()

    def close(self):
        """Stop what is being installed."""
        if self.installing:
            self._steps.cancel()

    # Inside

    def _fillFields(self):
        ui, installation = self.ui, self.installation
        for edit in (ui.folderEdit, ui.bundleEdit):
            edit.filters = ctk.ctkPathLineEdit.Dirs
        ui.folderEdit.setCurrentPath(installation.folder)
        ui.addressBox.clear()
        for address in installation.addresses:
            ui.addressBox.addItem(address)
        kind = installation.kind or self.state().kind
        for radio, own in ((ui.lightRadio, install.LIGHT), (ui.fullRadio, install.FULL), (ui.remoteRadio, install.REMOTE)):
            radio.checked = kind == own

    def _installLight(self):
        install.checkLight()  # before a run is ended for it
        self._stopWorker()
        self.installation.installLight(self._requirementsFile)

    def _installFull(self):
        if self.ui.folderEdit.currentPath:
            self.installation.folder = self.ui.folderEdit.currentPath
        python = self.ui.pythonEdit.currentPath or install.findPython()
        steps = self.installation.fullSteps(python, self.ui.bundleEdit.currentPath)
        self._stopWorker()
        self.tell(_("Installing; this takes some minutes. Slicer can be used meanwhile."))
        self._steps = Steps(steps, self._log, self._installed)
        self._steps.start()

    def _installed(self, succeeded, sentence):
        if succeeded:
            self.installation.fullDone()
        self._told = sentence
        if sentence:
            self._log(sentence)
        self._changed()
        self.update()

    def _guarded(self, action):
        """Do something and show the sentence where it cannot be done; return whether it was."""
        try:
            action()
        except JobError as err:
            self.tell(str(err))
            return False
        return True

    @staticmethod
    def _stopWorker():
        """End the worker, so that its files can be replaced; what runs is told that it was cancelled, the next job starts another one."""
        Session.instance().cancel()
        Session.discard()
