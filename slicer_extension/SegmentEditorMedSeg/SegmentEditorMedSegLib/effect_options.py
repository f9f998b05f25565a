"""The rows of an effect's panel, each bound to a parameter of the Segment Editor node, which is saved with the scene."""

from __future__ import annotations

from dataclasses import dataclass

import ctk
import qt


@dataclass(frozen=True)
class Option:
    """A parameter of an effect.

    `kind` is "number", "integer", "boolean" or "choice"; a choice has `choices`, pairs of value and text. A number has limits,
    a step, decimals and a unit.
    """

    key: str
    kind: str
    text: str
    default: object
    help: str = ""
    low: float = 0.0
    high: float = 100.0
    step: float = 1.0
    decimals: int = 0
    unit: str = ""
    choices: tuple[tuple[str, str], ...] = ()


class OptionRows:
    """Widgets for options, in the order given: what is chosen goes to the node, what the node says is shown."""

    def __init__(self, scriptedEffect, options):
        self.scriptedEffect = scriptedEffect
        self.options = {option.key: option for option in options}
        self.widgets = {}
        self.labels = {}
        self._connections = []

    def setDefaults(self):
        """Give each parameter its default where the node has none."""
        for option in self.options.values():
            default = int(option.default) if option.kind == "boolean" else option.default
            self.scriptedEffect.setParameterDefault(option.key, str(default))

    def build(self, onChange):
        """Make the widgets; `onChange` is called after one of them was changed by hand."""
        for option in self.options.values():
            widget = _made(option)
            self._connect(widget, _SIGNALS.get(option.kind, "valueChanged(double)"), option.key, onChange)
            widget.setObjectName(f"MedSeg{option.key}")
            widget.setToolTip(option.help)
            self.widgets[option.key] = widget
            if option.kind == "boolean":
                self.scriptedEffect.addOptionsWidget(widget)
            else:
                self.labels[option.key] = self.scriptedEffect.addLabeledOptionsWidget(option.text + ":", widget)

    def _connect(self, widget, signal, key, onChange):
        def changed(_value):
            onChange(key)

        widget.connect(signal, changed)
        self._connections.append((widget, signal, changed))

    def cleanup(self):
        """Disconnect the widgets: a connection would keep the effect alive."""
        while self._connections:
            widget, signal, changed = self._connections.pop()
            widget.disconnect(signal, changed)

    def value(self, key):
        """Return what the node says, as the kind of the option has it."""
        kind, text = self.options[key].kind, self.scriptedEffect.parameter(key)
        if kind == "boolean":
            return text not in ("", "0")
        if kind == "choice":
            return text
        return int(float(text)) if kind == "integer" else float(text)

    def write(self):
        """Write what the widgets show to the node."""
        for key, option in self.options.items():
            self.scriptedEffect.setParameter(key, _text(option, self.widgets[key]))

    def read(self):
        """Show what the node says."""
        for key, option in self.options.items():
            widget = self.widgets.get(key)
            if widget is None or not self.scriptedEffect.parameterDefined(key):
                continue
            wasBlocked = widget.blockSignals(True)
            if option.kind == "boolean":
                widget.checked = self.value(key)
            elif option.kind == "choice":
                values = [value for value, _text in option.choices]
                widget.currentIndex = values.index(self.value(key)) if self.value(key) in values else 0
            else:
                widget.value = self.value(key)
            widget.blockSignals(wasBlocked)

    def setEnabled(self, key, isEnabled):
        """Switch a row on or off."""
        self.widgets[key].setEnabled(isEnabled)
        if self.labels.get(key) is not None:
            self.labels[key].setEnabled(isEnabled)


_SIGNALS = {"boolean": "toggled(bool)", "choice": "currentIndexChanged(int)"}


def _made(option):
    if option.kind == "boolean":
        widget = qt.QCheckBox(option.text)
    elif option.kind == "choice":
        widget = qt.QComboBox()
        for _value, text in option.choices:
            widget.addItem(text)
    else:
        widget = ctk.ctkSliderWidget()
        widget.decimals = option.decimals
        widget.minimum, widget.maximum = option.low, option.high
        widget.singleStep = option.step
        widget.suffix = f" {option.unit}" if option.unit else ""
    return widget


def _text(option, widget):
    if option.kind == "boolean":
        return str(int(widget.checked))
    if option.kind == "choice":
        return option.choices[max(widget.currentIndex, 0)][0]
    value = float(widget.value)
    return str(round(value)) if option.kind == "integer" else repr(round(value, option.decimals))


APPLY_AS = "ApplyAs"


def applyAsOption(_, default="add"):
    """The row that says how a result goes into the segment; `_` translates."""
    return Option(
        APPLY_AS,
        "choice",
        _("Apply as"),
        default,
        _("How the result goes into the selected segment. Masking and 'Modify other segments' are respected."),
        choices=(("add", _("Add to the segment")), ("set", _("Replace the segment")), ("remove", _("Remove from the segment"))),
    )
