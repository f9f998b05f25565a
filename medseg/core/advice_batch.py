"""Advice on what is found while many cases are run: (effect, action)."""

from __future__ import annotations

BATCH: dict[str, tuple[str, str]] = {
    "NO_THUMBNAIL": (
        "None: the case is not drawn on the contact sheet.",
        "Look at its segmentation in a viewer; report a fault of the drawing.",
    ),
    "WRONG_MODALITY": ("The scan was not measured.", "Choose a pipeline for this kind of scan, or leave its series out with --select."),
}
