"""The module without its panel, for scripts: what the panel can do, in one call that waits."""

from __future__ import annotations

import time

import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from MedSegLib.choices import choicesOf
from MedSegLib.listeners import Collector
from MedSegLib.run import Request, Run
from MedSegLib.session import JobError, Session
from MedSegLib.state import MedSegParameterNode


class MedSegLogic(ScriptedLoadableModuleLogic):
    """The module without its panel, for scripts."""

    _state = None

    def getParameterNode(self):
        """Return the state of the panel, as it is saved with the scene."""
        node = super().getParameterNode()
        if self._state is None or self._state.parameterNode is not node:  # each wrapper observes the node for good: one is enough
            self._state = MedSegParameterNode(node)
        return self._state

    def choices(self):
        """Return everything that can be run, as the panel lists it."""
        return choicesOf(Session.instance().runBlocking({"do": "describe"}, timeout_s=60))

    def process(self, volumeNode, key, parameters=None, segmentationNode=None, timeout_s=3600, **options):
        """Run a choice such as "method:otsu", "model:ct-phantom" or "measure:measure" and wait; return (segmentation, table) nodes.

        `parameters` are those of the worker (points in RAS mm); `options` are fields of Request. Raises JobError with the sentence.
        """
        choice = next((one for one in self.choices() if one.key == key), None)
        if choice is None:
            raise JobError(_('There is no "{0}". MedSegLogic().choices() lists what there is.').format(key), "Unknown", 2)
        listener = Collector()
        sent = {**(parameters or {}), **choice.fixed}
        run = Run(Request(choice, volumeNode, segmentationNode, sent, createNew=segmentationNode is None, **options), listener)
        run.start()
        deadline = time.monotonic() + timeout_s
        while run.running:
            Session.instance().poll()
            slicer.app.processEvents()
            time.sleep(0.001)
            if time.monotonic() > deadline:
                run.cancel()
        if listener.sentence:
            raise JobError(listener.sentence, listener.kind)
        return listener.segmentationNode or segmentationNode, listener.tableNode
