"""The rows of parameters of the chosen method, made from its description, and their state in the parameter node."""

from __future__ import annotations

import json
import re

import qt
import slicer
from slicer.i18n import tr as _

from MedSegLib import fields
from MedSegLib.choices import changedValues, missing, valuesFrom, whyRefused
from MedSegLib.session import JobError

FEW = 6  # rows shown at once; the others wait behind "More"
NODE_KINDS = ("point", "label-map", "scan")


class ParameterPanel:
    """Rows in a form layout; `onChange` is called when the user changed a value.

    Values are kept in the parameter node for each choice, nodes as references, so that both live in the saved scene.
    """

    def __init__(self, layout, onChange):
        self._layout = layout
        self._onChange = onChange
        self._fields = {}
        self._choice = None
        self._state = None
        self._filling = False
        self._more = None
        self._hidden = []

    @property
    def choice(self):
        """The choice whose rows are shown, None where there is none."""
        return self._choice

    def show(self, choice, state):
        """Make the rows of a choice and fill them from the parameter node."""
        if choice is not self._choice:
            self._clear()
            self._choice = choice
            self._build()
        self._state = state
        self.fill()

    def fill(self):
        """Take the values from the parameter node."""
        if self._choice is None or self._state is None:
            return
        values = valuesFrom(self._state.values).get(self._choice.key, {})
        self._filling = True
        try:
            for name, field in self._fields.items():
                if field.parameter.kind in NODE_KINDS:
                    field.setValue(self._node(self._state).GetNodeReferenceID(self._role(name)))
                else:
                    field.setValue(values.get(name, field.parameter.default))
        finally:
            self._filling = False

    def values(self):
        """Return what the rows hold; nodes are given by their ID."""
        return {name: field.value() for name, field in self._fields.items()}

    def problems(self):
        """Return a sentence for each value that is missing or out of its range."""
        if self._choice is None:
            return []
        values = self._pointed(self.values())
        found = [_("{0} must be given.").format(title) for title in missing(self._choice, values)]
        found += [sentence for field in self._fields.values() if (sentence := whyRefused(field.parameter, values[field.parameter.name]))]
        return found

    def jobParameters(self, volumeNode, onFinding=None):
        """Return the values as the worker takes them: points in RAS mm, segmentations as labels on the grid of the scan.

        `onFinding` hears of segments that reach beyond the scan.
        """
        from MedSegLib import nodes

        values = self._pointed(self.values())
        for name, field in self._fields.items():
            node = slicer.mrmlScene.GetNodeByID(values[name]) if field.parameter.kind in NODE_KINDS[1:] and values[name] else None
            if node is not None and field.parameter.kind == "label-map" and self._choice.makesSegments:  # else it is of another scan
                ref = nodes.labelsRef(node, None, volumeNode, onFinding=onFinding)
                values[name] = [ref] if field.parameter.isList else ref
        problems = self.problems()
        if problems:
            raise JobError(" ".join(problems), "Parameters", 2)
        return changedValues(self._choice, values)

    def nodeOf(self, name):
        """Return the node that a row points at."""
        value = self._fields[name].value() if name in self._fields else None
        return slicer.mrmlScene.GetNodeByID(value) if value else None

    def reset(self):
        """Set every row to its default."""
        self._filling = True
        try:
            for field in self._fields.values():
                field.setValue(None if field.parameter.kind in NODE_KINDS else field.parameter.default)
        finally:
            self._filling = False
        self._changed()

    def close(self):
        """Remove all rows."""
        self._clear()
        self._choice = self._state = None

    # Inside

    def _pointed(self, values):
        """Return the values with points in place of the nodes that hold them."""
        for name, field in self._fields.items():
            if field.parameter.kind == "point" and values[name]:
                points = fields.pointsOf(slicer.mrmlScene.GetNodeByID(values[name]))
                values[name] = points if field.parameter.isList else (points[0] if points else None)
            elif field.parameter.kind == "point":
                values[name] = [] if field.parameter.isList else None
        return values

    def _build(self):
        parameters = sorted(self._choice.parameters, key=lambda p: (not p.required, p.kind != "point"))
        for count, parameter in enumerate(parameters):
            field = fields.fieldFor(parameter, self._changed)
            label = qt.QLabel(f"{parameter.title}:")
            label.toolTip = parameter.help
            self._layout.addRow(label, field.widget)
            self._fields[parameter.name] = field
            if count >= FEW:
                self._hidden += [label, field.widget]
        if self._hidden:
            self._more = qt.QCheckBox(_("Show all {0} parameters").format(len(parameters)))
            self._layout.addRow("", self._more)
            self._more.connect("toggled(bool)", self._showAll)
            self._showAll(False)

    def _showAll(self, shown):
        for widget in self._hidden:
            widget.setVisible(shown)

    def _clear(self):
        for field in self._fields.values():
            field.detach()
        while self._layout.rowCount():
            self._layout.removeRow(0)
        self._fields, self._hidden, self._more = {}, [], None

    def _changed(self):
        if self._filling or self._state is None:
            return
        plain, node = {}, self._node(self._state)
        modified = node.StartModify()
        try:
            for name, field in self._fields.items():
                value = field.value()
                if field.parameter.kind in NODE_KINDS:
                    node.SetNodeReferenceID(self._role(name), value or "")
                elif value is not None and value != field.parameter.default:
                    plain[name] = value
            kept = valuesFrom(self._state.values)
            kept.pop(self._choice.key, None)
            self._state.values = json.dumps({**kept, **({self._choice.key: plain} if plain else {})})
        finally:
            node.EndModify(modified)
        self._onChange()

    def _role(self, name):
        return re.sub(r"[^A-Za-z0-9]", "_", f"MedSeg_{self._choice.key}_{name}")

    @staticmethod
    def _node(state):
        return state.parameterNode
