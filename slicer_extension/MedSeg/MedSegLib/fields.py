"""One row of the panel for each kind of parameter: a widget, its value in the worker's form, and the node it may point at."""

from __future__ import annotations

from dataclasses import replace

import qt
import slicer
from slicer.i18n import tr as _

_LARGEST = 1e9
_WORDS = {None: lambda: _("automatic"), True: lambda: _("yes"), False: lambda: _("no")}  # said when shown: the language may change


def fieldFor(parameter, onChange):
    """Return the field of a parameter; `onChange` is called when the user changes it."""
    if parameter.kind == "point":
        return PointField(parameter, onChange)
    if parameter.kind in ("label-map", "scan"):
        return NodeField(parameter, onChange)
    if parameter.kind == "boolean":
        undecided = parameter.default is None
        return ChoiceField(replace(parameter, choices=(True, False)), onChange) if undecided else BooleanField(parameter, onChange)
    if parameter.kind == "choice" and not parameter.isList:
        return ChoiceField(parameter, onChange)
    if parameter.kind in ("number", "integer") and not parameter.isList and parameter.default is not None:
        return NumberField(parameter, onChange)
    return TextField(parameter, onChange)


class Field:
    """What all fields share: the widget, `value` (None: not given) and `setValue`."""

    def __init__(self, parameter, widget):
        self.parameter = parameter
        self.widget = widget
        self.widget.toolTip = parameter.help

    def detach(self):
        """Let go of what is observed, before the row is removed."""


class BooleanField(Field):
    """A check box."""

    def __init__(self, parameter, onChange):
        super().__init__(parameter, qt.QCheckBox())
        self.setValue(parameter.default)
        self.widget.connect("toggled(bool)", lambda checked: onChange())

    def value(self):
        return bool(self.widget.checked)

    def setValue(self, value):
        self.widget.checked = bool(value)


class ChoiceField(Field):
    """A list to choose from; what may be left out has "automatic" as its first line."""

    def __init__(self, parameter, onChange):
        super().__init__(parameter, qt.QComboBox())
        self._values = ([None] if parameter.default is None else []) + list(parameter.choices)
        for value in self._values:
            self.widget.addItem(_WORDS[value]() if value is None or isinstance(value, bool) else str(value))
        self.setValue(parameter.default)
        self.widget.connect("currentIndexChanged(int)", lambda index: onChange())

    def value(self):
        index = self.widget.currentIndex
        return self._values[index] if 0 <= index < len(self._values) else None

    def setValue(self, value):
        if value in self._values:
            self.widget.setCurrentIndex(self._values.index(value))


class NumberField(Field):
    """A number with its unit, between its limits."""

    def __init__(self, parameter, onChange):
        whole = parameter.kind == "integer"
        super().__init__(parameter, qt.QSpinBox() if whole else qt.QDoubleSpinBox())
        lowest, highest = _range(parameter)
        if whole:
            self.widget.setRange(int(max(lowest, -(2**31))), int(min(highest, 2**31 - 1)))
        else:
            self.widget.setDecimals(_decimals(parameter))
            self.widget.setRange(lowest, highest)
            self.widget.setSingleStep(_step(parameter))
        if parameter.shownUnit:
            self.widget.setSuffix(f" {parameter.shownUnit}")
        self._exact = parameter.default
        self.setValue(parameter.default)
        self.widget.connect("valueChanged(int)" if whole else "valueChanged(double)", lambda value: onChange())

    def value(self):
        shown = self.widget.value
        # a value with more digits than the box shows is kept as it was given
        return self._exact if self._exact is not None and abs(shown - self._exact) < 0.6 * 10.0 ** -_decimals(self.parameter) else shown

    def setValue(self, value):
        if isinstance(value, (int, float)):
            self._exact = value
            self.widget.setValue(value)


class TextField(Field):
    """A text; also a number that may be left out, and lists, with commas between their entries."""

    def __init__(self, parameter, onChange):
        super().__init__(parameter, qt.QLineEdit())
        self.widget.setPlaceholderText(self._placeholder())
        self.setValue(parameter.default)
        self.widget.connect("textChanged(QString)", lambda text: onChange())

    def value(self):
        text = self.widget.text.strip()
        if not text:
            return [] if self.parameter.isList else None
        if self.parameter.isList:
            return [self._one(part.strip()) for part in text.split(",") if part.strip()]
        return self._one(text)

    def setValue(self, value):
        self.widget.setText("" if value is None else ", ".join(map(_shown, value)) if isinstance(value, (list, tuple)) else _shown(value))

    def _one(self, text):
        if self.parameter.kind in ("number", "integer"):
            try:
                return int(text) if self.parameter.kind == "integer" else float(text)
            except ValueError:
                return text  # the worker refuses it with a sentence that names the parameter
        if self.parameter.kind == "choice":
            return next((choice for choice in self.parameter.choices if str(choice) == text), text)
        return text

    def _placeholder(self):
        unit = f" ({self.parameter.shownUnit})" if self.parameter.shownUnit else ""
        if self.parameter.required:
            return _("must be given") + unit
        if self.parameter.isList:
            return (
                _("all, or several with commas between")
                if self.parameter.kind == "text"
                else _("automatic, or several with commas between") + unit
            )
        return _("automatic") + unit


class NodeField(Field):
    """A segmentation or a scan of the scene; `nodeID` is its ID, the job gets what the node holds."""

    def __init__(self, parameter, onChange):
        super().__init__(parameter, slicer.qMRMLNodeComboBox())
        kind = "vtkMRMLScalarVolumeNode" if parameter.kind == "scan" else "vtkMRMLSegmentationNode"
        self.widget.nodeTypes = [kind]
        self.widget.showChildNodeTypes = False
        self.widget.addEnabled = False
        self.widget.removeEnabled = False
        self.widget.noneEnabled = True
        self.widget.setMRMLScene(slicer.mrmlScene)
        self.widget.setCurrentNode(None)
        self.widget.connect("currentNodeChanged(vtkMRMLNode*)", lambda node: onChange())

    def value(self):
        node = self.widget.currentNode()
        return node.GetID() if node is not None else None

    def setValue(self, value):
        self.widget.setCurrentNode(slicer.mrmlScene.GetNodeByID(value) if value else None)


class PointField(Field):
    """Points that are placed in the views; the value is the ID of their node, the job gets their positions in RAS mm."""

    def __init__(self, parameter, onChange):
        holder = qt.QWidget()
        layout = qt.QHBoxLayout(holder)
        layout.setContentsMargins(0, 0, 0, 0)
        super().__init__(parameter, holder)
        self._onChange = onChange
        self._observed = None
        self._tags = []
        self.selector = slicer.qMRMLNodeComboBox()
        self.selector.nodeTypes = ["vtkMRMLMarkupsFiducialNode"]
        self.selector.baseName = parameter.title
        self.selector.noneEnabled = True
        self.selector.addEnabled = True
        self.selector.removeEnabled = True
        self.selector.setMRMLScene(slicer.mrmlScene)
        self.selector.setCurrentNode(None)
        self.selector.toolTip = parameter.help
        self.placeButton = qt.QPushButton(_("Place"))
        self.placeButton.toolTip = _("Click into the views to place points: {0}. Press Esc to stop.").format(parameter.description)
        layout.addWidget(self.selector, 1)
        layout.addWidget(self.placeButton)
        self.placeButton.connect("clicked()", self.place)
        self.selector.connect("currentNodeChanged(vtkMRMLNode*)", self._nodeChanged)

    def detach(self):
        """Stop watching the points."""
        for tag in self._tags:
            self._observed.RemoveObserver(tag)
        self._observed, self._tags = None, []

    def _nodeChanged(self, node):
        self.detach()
        if node is not None:
            events = (slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent, slicer.vtkMRMLMarkupsNode.PointRemovedEvent)
            self._observed, self._tags = node, [node.AddObserver(event, lambda caller, name: self._onChange()) for event in events]
        self._onChange()

    def place(self):
        """Make a list of points where there is none, and let the next clicks into the views add to it."""
        node = self.selector.currentNode()
        if node is None:
            name = slicer.mrmlScene.GenerateUniqueName(self.parameter.title)
            node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
            node.CreateDefaultDisplayNodes()
            self._colour(node)
            self.selector.setCurrentNode(node)
        logic = slicer.modules.markups.logic()
        logic.SetActiveList(node)
        logic.StartPlaceMode(True)

    def value(self):
        node = self.selector.currentNode()
        return node.GetID() if node is not None else None

    def setValue(self, value):
        self.selector.setCurrentNode(slicer.mrmlScene.GetNodeByID(value) if value else None)

    def _colour(self, node):
        """Green is inside, red is beside: what the points mean must be seen where they are."""
        display = node.GetDisplayNode()
        if display is not None:
            display.SetSelectedColor(*((0.9, 0.25, 0.2) if "background" in self.parameter.name else (0.2, 0.8, 0.3)))


def pointsOf(node):
    """Return the positions of a node's defined points in the world's RAS mm."""
    points = []
    for n in range(node.GetNumberOfControlPoints()):
        if node.GetNthControlPointPositionStatus(n) == slicer.vtkMRMLMarkupsNode.PositionDefined:
            position = [0.0, 0.0, 0.0]
            node.GetNthControlPointPositionWorld(n, position)
            points.append(position)
    return points


def _range(parameter):
    limits = parameter.limits
    small = 10.0 ** -_decimals(parameter)
    lowest = limits["ge"] if "ge" in limits else limits["gt"] + small if "gt" in limits else -_LARGEST
    highest = limits["le"] if "le" in limits else limits["lt"] - small if "lt" in limits else _LARGEST
    return float(lowest), float(highest)


def _decimals(parameter):
    if parameter.kind == "integer":
        return 0
    numbers = [value for value in (parameter.default, *parameter.limits.values()) if isinstance(value, (int, float))]
    digits = [len(f"{abs(value):.6f}".rstrip("0").partition(".")[2]) for value in numbers]
    return min(max([2, *digits]), 6)


def _step(parameter):
    default = abs(parameter.default or 0)
    return 10.0 if default >= 100 else 1.0 if default >= 5 else 0.1 if default >= 0.5 or not default else 10.0 ** -_decimals(parameter)


def _shown(value):
    return f"{value:g}" if isinstance(value, float) else str(value)
