"""CTK's widgets for numbers: a slider with a box, a box, and ranges with two ends."""

from __future__ import annotations

import math
from typing import Any

from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Signal

from standins.properties import qt_property
from standins.pythonqt import read

STEPS = 1000


def _bounded(value: float) -> float:
    # QDoubleSpinBox cannot hold infinity
    return max(-1e12, min(1e12, value))


class _Number(QtWidgets.QWidget):
    """What all with one value share: kept within its bounds, the signal only on change."""

    valueChanged = Signal(float)
    locals().update(qt_property(float, "minimum", 0.0, "", "_rebound"))
    locals().update(qt_property(float, "maximum", 99.0, "", "_rebound"))
    locals().update(qt_property(float, "singleStep", 1.0, "", "_refresh"))
    has_slider, has_box = True, True

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._held = 0.0
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        self._slider.setObjectName("Slider")
        read(self._slider, "setRange")(0, STEPS)
        self._box = QtWidgets.QDoubleSpinBox()
        self._box.setObjectName("SpinBox")
        if self.has_slider:
            layout.addWidget(self._slider, 1)
        if self.has_box:
            layout.addWidget(self._box)
        self._refresh()
        read(self._slider, "valueChanged").connect(self._slid)
        read(self._box, "valueChanged").connect(self.setValue)

    def _slid(self, step: int) -> None:
        if math.isfinite(self.maximum - self.minimum) and step != self._step():
            self.setValue(self.minimum + (self.maximum - self.minimum) * step / STEPS)

    def _step(self) -> int:
        extent = self.maximum - self.minimum
        return round(STEPS * (self._held - self.minimum) / extent) if extent > 0 and math.isfinite(extent) else 0

    def _rebound(self, _value: float) -> None:
        self.setValue(self._held)
        self._refresh()

    def _refresh(self, _value: Any = None) -> None:
        for item in (self._slider, self._box):
            item.blockSignals(True)
        read(self._box, "setDecimals")(self._digits())
        read(self._box, "setRange")(_bounded(self.minimum), _bounded(self.maximum))
        read(self._box, "setSingleStep")(self.singleStep)
        for name in ("prefix", "suffix"):
            if hasattr(type(self), name):
                read(self._box, "set" + name.capitalize())(getattr(self, name))
        read(self._box, "setValue")(self._held)
        read(self._slider, "setValue")(self._step())
        for item in (self._slider, self._box):
            item.blockSignals(False)

    def _digits(self) -> int:
        return self.decimals if hasattr(type(self), "decimals") else 6

    def _value(self) -> float:
        return self._held

    def setValue(self, value: float) -> None:
        held = min(max(round(float(value), self._digits()), self.minimum), self.maximum)
        if held == self._held:
            return
        self._held = held
        self._refresh()
        self.valueChanged.emit(held)

    value = QtCore.Property(float, _value, setValue)

    def setRange(self, minimum: float, maximum: float) -> None:
        self.setMinimum(minimum)
        self.setMaximum(maximum)


_TEXTS = {
    **qt_property(int, "decimals", 2, "", "_refresh"),
    **qt_property(str, "prefix", "", "", "_refresh"),
    **qt_property(str, "suffix", "", "", "_refresh"),
}
_STEPS = {**qt_property(float, "pageStep", 10.0), **qt_property(float, "tickInterval", 0.0), **qt_property(bool, "tracking", True)}


class ctkSliderWidget(_Number):
    """A slider and a box."""

    valueIsChanging = Signal(float)
    locals().update(_TEXTS)
    locals().update(_STEPS)
    locals().update(qt_property(bool, "spinBoxVisible", True, "", "_show_box"))

    def _show_box(self, visible: bool) -> None:
        self._box.setVisible(visible)

    def slider(self) -> QtWidgets.QSlider:
        return self._slider

    def spinBox(self) -> QtWidgets.QDoubleSpinBox:
        return self._box


class ctkDoubleSlider(_Number):
    """A slider alone: no digits, no unit."""

    locals().update(_STEPS)
    rangeChanged = Signal(float, float)
    has_box = False


class ctkDoubleSpinBox(_Number):
    """A box alone."""

    locals().update(_TEXTS)
    locals().update(qt_property(bool, "readOnly", False))
    has_slider = False

    def spinBox(self) -> QtWidgets.QDoubleSpinBox:
        return self._box


class _Range(QtWidgets.QWidget):
    """Two values within bounds."""

    valuesChanged = Signal(float, float)
    minimumValueChanged = Signal(float)
    maximumValueChanged = Signal(float)
    rangeChanged = Signal(float, float)
    locals().update(qt_property(float, "minimum", 0.0))
    locals().update(qt_property(float, "maximum", 99.0))
    locals().update(qt_property(float, "singleStep", 1.0))
    locals().update(qt_property(float, "tickInterval", 0.0))
    locals().update(qt_property(bool, "tracking", True))
    locals().update(qt_property(bool, "symmetricMoves", False))

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._low, self._high = 0.0, 99.0
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._boxes = (QtWidgets.QDoubleSpinBox(), QtWidgets.QDoubleSpinBox())
        for name, box in zip(("MinimumSpinBox", "MaximumSpinBox"), self._boxes, strict=True):
            box.setObjectName(name)
            read(box, "setRange")(-1e12, 1e12)
            layout.addWidget(box)
        self._refresh()
        read(self._boxes[0], "valueChanged").connect(self.setMinimumValue)
        read(self._boxes[1], "valueChanged").connect(self.setMaximumValue)

    def _refresh(self) -> None:
        for box, value in zip(self._boxes, (self._low, self._high), strict=True):
            box.blockSignals(True)
            read(box, "setValue")(value)
            box.blockSignals(False)

    def setValues(self, low: float, high: float) -> None:
        low, high = sorted(min(max(float(value), self.minimum), self.maximum) for value in (low, high))
        before = (self._low, self._high)
        if (low, high) == before:
            return
        self._low, self._high = low, high
        self._refresh()
        if low != before[0]:
            self.minimumValueChanged.emit(low)
        if high != before[1]:
            self.maximumValueChanged.emit(high)
        self.valuesChanged.emit(low, high)

    def setMinimumValue(self, value: float) -> None:
        self.setValues(value, max(self._high, value))

    def setMaximumValue(self, value: float) -> None:
        self.setValues(min(self._low, value), value)

    minimumValue = QtCore.Property(float, lambda self: self._low, setMinimumValue)
    maximumValue = QtCore.Property(float, lambda self: self._high, setMaximumValue)

    def setRange(self, minimum: float, maximum: float) -> None:
        self.setMinimum(minimum)
        self.setMaximum(maximum)
        self.setValues(self._low, self._high)
        self.rangeChanged.emit(float(minimum), float(maximum))


class ctkRangeWidget(_Range):
    """The two ends in boxes beside a slider."""

    locals().update(qt_property(int, "decimals", 2))
    locals().update(qt_property(str, "prefix", ""))
    locals().update(qt_property(str, "suffix", ""))


class ctkDoubleRangeSlider(_Range):
    """The two ends on one slider: no digits, no unit."""


NUMBER_WIDGETS: dict[str, type] = {
    kind.__name__: kind for kind in (ctkSliderWidget, ctkDoubleSlider, ctkDoubleSpinBox, ctkRangeWidget, ctkDoubleRangeSlider)
}
