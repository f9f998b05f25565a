"""Icons for light and dark themes."""

from __future__ import annotations

import os

import qt
import slicer

DARK_BELOW = 128  # lightness of the window's background


def isDarkTheme():
    """Whether the application draws light text on a dark ground."""
    return slicer.app.palette().color(qt.QPalette.Window).lightness() < DARK_BELOW


def effectIcon(name):
    """Return the icon of that name for the theme in use."""
    theme = "Dark" if isDarkTheme() else "Light"
    path = os.path.join(os.path.dirname(__file__), "Icons", f"MedSegEffect{name}{theme}.png")
    return qt.QIcon(path) if os.path.isfile(path) else qt.QIcon()
