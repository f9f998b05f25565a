"""One press of Apply: the checks of the scan, the job, its result in the scene, and the measurement, one after another.

The steps wait for the worker without blocking: each is a job whose events come from the session.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass, field

import slicer
from slicer.i18n import tr as _

from MedSegLib import nodes, origin, tables
from MedSegLib.choices import Choice
from MedSegLib.sequences import FrameResults
from MedSegLib.session import JobError, Session, medsegErrors

LESION_FIELDS = ("chosen", "nodes", "plane", "whole", "keep_at_least_mm3")


@dataclass
class Request:
    """What the user asked for. `segmentationNode` is what is measured or changed, and what a result is added to without `createNew`."""

    choice: Choice
    volumeNode: object = None
    segmentationNode: object = None
    parameters: dict = field(default_factory=dict)
    createNew: bool = True
    measure: bool = True
    device: str = "auto"
    earlierScan: object = None
    earlierLabels: object = None
    allFrames: bool = False
    inSpiteOfErrors: bool = False
    findings: tuple = ()  # what was found while the request was made


class Listener:
    """What a run tells; the panel overrides what it shows."""

    def said(self, text):
        """A line for the log."""

    def progressed(self, text, done, total):
        """How far a step is; total 0: not known."""

    def found(self, finding):
        """A finding, before any number."""

    def imported(self, segmentationNode, segmentIDs):
        """A result is in the scene."""

    def measured(self, document, tableNode, origin):
        """A measurement is in the scene; `origin` says what was measured."""

    def ended(self, sentence, kind):
        """The run is over: "" and "" where all went well, else what happened and its kind ("Cancelled" for a cancelled run)."""


class Run:
    """One run; `start` it, `cancel` it, and hear of it through the listener."""

    def __init__(self, request, listener, session=None):
        self.request = request
        self.listener = listener
        self.session = session or Session.instance()
        self.tableNode = None
        self._flow = None
        self._jobId = None
        self._folder = None
        self._made = None  # the segmentation that this run empties before each frame: never one of the user's
        self._began = time.monotonic()

    @property
    def running(self):
        """Whether it is still going on."""
        return self._flow is not None

    def start(self):
        """Check everything that needs no worker, and begin; raises JobError where it cannot begin."""
        if self.session.busy:
            raise JobError(_("Another MedSeg run is still going on. Wait for it, or press Cancel."), "Busy", 2)
        if self.request.allFrames and self.request.choice.needsSegments:
            text = _('"{0}" works on the segments of one frame. Show that frame in the views and run it there.')
            raise JobError(text.format(self.request.choice.title), "Input", 2)
        nodes.checkVolume(self.request.volumeNode)
        self._folder = self.session.files.newFolder("run")
        self._flow = self._steps()
        self._next(None)

    def cancel(self):
        """Stop it; the listener hears of it at once."""
        if self.running:
            self.session.cancel(self._jobId)
            if self.running:  # between two jobs
                self._end(_("Cancelled."), "Cancelled")

    # The steps

    def _steps(self):
        """Yield jobs; each yield returns the job's result."""
        request = self.request
        for finding in request.findings:
            self.listener.found(finding)
        self.listener.progressed(_("Checking the scan"), 0, 0)
        yield from self._audited(request.volumeNode)
        if request.choice.name == "change" and request.earlierScan is not None:
            yield from self._audited(request.earlierScan, _("earlier scan: "))
        if request.choice.group == "measure":
            yield from self._measured()
        elif request.allFrames:
            yield from self._frames()
        else:
            yield from self._segmented()

    def _audited(self, volumeNode, whose=""):
        checked = yield {"do": "audit", "scan": auditRef(volumeNode)}
        for finding in checked.get("findings", ()):
            self.listener.found({**finding, "message": f"{whose}{finding.get('message', '')}"})
        if not checked.get("usable", True) and not self.request.inSpiteOfErrors:
            raise JobError(_notUsable(checked, whose), "Audit", 3)

    def _measured(self):
        request = self.request
        job = self._measuringJob()
        marks = origin.marks(request.volumeNode, request.segmentationNode)
        result = yield job
        self._checkScan(job["scan"] if "scan" in job else job["scans"][-1])
        parts = None
        if result.get("labels"):  # each lesion a segment, so that its row finds it
            parts = nodes.newSegmentation(request.volumeNode, request.choice.title)
            nodes.importLabels(result["labels"], parts, request.volumeNode)
        measuredOn = origin.Origin(request.volumeNode, request.segmentationNode, parts, marks=marks)
        self._documented(result["document"], measuredOn)

    def _segmented(self, frame=None, count=0):
        request = self.request
        job = self._mainJob()
        self.listener.progressed(request.choice.title, 0, 0)
        result = yield job
        self._checkScan(job["scan"])
        target = self._target(job)
        ids = nodes.importLabels(result["labels"], target, request.volumeNode)
        self.listener.imported(target, ids)
        marks = origin.marks(request.volumeNode, target)
        document = result.get("document")
        if document is None and request.measure and ids:
            self.listener.progressed(_("Measuring"), 0, 0)
            answer = yield {"do": "measure", "scan": job["scan"], "labels": result["labels"], "out": self._folder}
            document = answer["document"]
        if document is not None:
            where = "" if frame is None else _("frame {0} of {1} (the table node has all frames)").format(frame + 1, count)
            measuredOn = origin.Origin(request.volumeNode, target, frame=where, marks="" if where else marks)
            self._documented(document, measuredOn, frame)

    def _frames(self):
        results = FrameResults(self.request.volumeNode)
        count = results.browser.GetNumberOfItems()
        try:
            for frame in range(count):
                self.listener.said(_("Frame {0} of {1}").format(frame + 1, count))
                results.show(frame)
                if self._made is not None:
                    self._checkTarget(self._made)
                    self._made.GetSegmentation().RemoveAllSegments()
                yield from self._segmented(frame, count)
                results.keep(frame, self._made)
        finally:
            results.finish(self._made)

    # Jobs

    def _mainJob(self):
        request = self.request
        job = {"scan": nodes.scanRef(request.volumeNode), "device": request.device, "out": self._folder}
        if request.choice.group == "pipeline":
            return {"do": "run", "pipeline": request.choice.name, **job}
        job = {"do": "segment", "method": request.choice.name, "parameters": request.parameters, **job}
        if request.choice.needsSegments:
            job["labels"] = self._labelsRef(request.segmentationNode, request.volumeNode)
        return job

    def _labelsRef(self, segmentationNode, volumeNode):
        return nodes.labelsRef(segmentationNode, None, volumeNode, onFinding=self.listener.found)

    def _measuringJob(self):
        request, values = self.request, dict(self.request.parameters)
        scan, labels = nodes.scanRef(request.volumeNode), self._labelsRef(request.segmentationNode, request.volumeNode)
        job = {"do": request.choice.name, "out": self._folder}
        if request.choice.name == "measure":
            features = {"none": [], "both": ["shape", "intensity"]}.get(values.get("features", "none"), [values.get("features")])
            return {**job, "scan": scan, "labels": labels, "features": features}
        job.update({name: values[name] for name in LESION_FIELDS if name in values})
        if request.choice.name == "lesions":
            return {**job, "scan": scan, "labels": labels}
        if request.earlierScan is None or request.earlierLabels is None:
            raise JobError(_("Choose the earlier scan and its lesions."), "Input", 2)
        scans = [nodes.scanRef(request.earlierScan), scan]
        days = values.get("days_between")
        return {
            **job,
            "scans": scans,
            "labels": [self._labelsRef(request.earlierLabels, request.earlierScan), labels],
            "registration": values.get("registration", "auto"),
            **({"days": [0, days]} if days is not None else {}),
        }

    def _target(self, job):
        """Return the segmentation a result goes into; a new one keeps what was there."""
        request = self.request
        node = self._made
        if node is None and not (request.allFrames or request.createNew or "labels" in job):
            node = request.segmentationNode
        if node is None:
            node = nodes.newSegmentation(request.volumeNode, request.choice.title)
            self._made = node if request.allFrames else None
        self._checkTarget(node)
        return node

    # Results

    def _documented(self, document, measuredOn, frame=None):
        table = tables.tableOf(document)
        name = f"{self.request.volumeNode.GetName()} {self.request.choice.title}"
        self.tableNode = tables.toNode(table, name, self.tableNode, frame)
        nodes.placeBeside(self.tableNode, self.request.volumeNode)
        self.listener.measured(document, self.tableNode, measuredOn)

    def _checkScan(self, ref):
        """Raise JobError where the scan is no longer what the worker was given: its result would lie in the wrong place."""
        volumeNode = self.request.volumeNode
        if volumeNode.GetScene() is None:
            raise JobError(_("The scan was removed from the scene while MedSeg worked on it; the result was dropped."), "SceneClosed", 3)
        if nodes.scanRef(volumeNode)["key"] != ref["key"]:
            raise JobError(_("The scan was changed while MedSeg worked on it; the result was dropped. Run it again."), "ScanChanged", 3)

    @staticmethod
    def _checkTarget(node):
        if node.GetScene() is None:
            text = _("The segmentation was removed from the scene while MedSeg worked on it; the result was dropped.")
            raise JobError(text, "SceneClosed", 3)

    # The way from step to step

    def _next(self, result):
        try:
            job = self._flow.send(result)
            self._jobId = self.session.submit(job, self._heard)
        except StopIteration:
            seconds = time.monotonic() - self._began
            self.listener.said(_("Done in {0:.1f} s.").format(seconds))
            self._end("", "")
        except JobError as err:
            self._end(str(err), err.kind)
        except medsegErrors() as err:
            self._end(str(err), type(err).__name__)
        except BaseException:
            self._end(_("MedSeg met a fault of its own. Please report it with the text of Slicer's error log."), "Fault")
            raise

    def _heard(self, event):
        if not self.running:
            return
        kind = event["event"]
        if kind == "progress":
            self.listener.progressed(event.get("text", ""), event.get("done", 0), event.get("total", 0))
        elif kind == "log":
            self.listener.said(event.get("text", ""))
        elif kind == "finding":
            self.listener.found(event)
        elif kind == "result":
            self._next(event)
        elif kind == "error":
            self._end(event.get("message", ""), event.get("kind", "") or "Error")

    def _end(self, sentence, kind):
        flow, self._flow = self._flow, None
        if flow is not None and not flow.gi_running:
            flow.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        self.listener.ended(sentence, kind)


def _notUsable(checked, whose=""):
    errors = [finding["message"] for finding in checked.get("findings", ()) if finding.get("severity") == "error"]
    return _("Stopped before any number, because the checks found an error in this scan: {0}").format(
        whose + (checked.get("reason") or " ".join(errors))
    )


def auditRef(volumeNode):
    """Return the scan as the checks should see it: its DICOM files where they are known, else its voxels."""
    files = nodes.dicomFiles(volumeNode)
    if not files:
        return nodes.scanRef(volumeNode)
    return dicomRef(files)


def dicomRef(files):
    """Return the scan as its DICOM files, for what needs more than voxels: the checks, DICOM SEG, DICOM SR."""
    series = slicer.dicomDatabase.fileValue(files[0], "0020,000E")
    return {"path": os.path.dirname(files[0]), "series": series or None}
