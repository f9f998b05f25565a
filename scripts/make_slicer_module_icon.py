"""Draw the icons of the Slicer module MedSeg: an SVG that reads on light and on dark panels, and pictures made from it.

    QT_QPA_PLATFORM=offscreen python scripts/make_slicer_module_icon.py

Needs PySide6 (part of the environment for the Slicer tests).
"""

from __future__ import annotations

import math
from pathlib import Path

EXTENSION = Path(__file__).resolve().parent.parent / "slicer_extension"

# Mid tones: at least 3:1 against white and against the dark grey of Slicer's dark theme
BODY, ORGAN, LESION, RULER = "#4a7fb5", "#cc7722", "#d0453b", "#7a8794"


def svg(size: int = 128) -> str:
    """Return the icon: a slice of a body, an organ with a lesion, and the two ends of a measured length."""
    ticks = "".join(
        f'<line x1="{x:.1f}" y1="112" x2="{x:.1f}" y2="{104 if n % 2 else 100}" stroke="{RULER}" stroke-width="4"/>'
        for n, x in enumerate(14 + 12.5 * k for k in range(9))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{size}" height="{size}" viewBox="0 0 128 128">\n'
        f'  <ellipse cx="64" cy="52" rx="54" ry="40" fill="none" stroke="{BODY}" stroke-width="8"/>\n'
        f'  <path d="M26 52 C24 30 52 22 66 32 C78 40 74 56 62 64 C48 74 28 70 26 52 Z" fill="{ORGAN}"/>\n'
        f'  <circle cx="48" cy="50" r="9" fill="{LESION}" stroke="#ffffff" stroke-width="2.5"/>\n'
        f'  <circle cx="92" cy="50" r="11" fill="{BODY}"/>\n'
        f'  <line x1="10" y1="112" x2="118" y2="112" stroke="{RULER}" stroke-width="6" stroke-linecap="round"/>\n'
        f"  {ticks}\n"
        "</svg>\n"
    )


def draw(path: Path, source: str, size: int, background: str | None = None) -> None:
    """Write a picture of the SVG."""
    from PySide6.QtCore import QByteArray, Qt
    from PySide6.QtGui import QColor, QImage, QPainter, QPixmap

    picture = QPixmap()
    if not picture.loadFromData(QByteArray(source.encode()), "SVG"):
        raise SystemExit("this Qt cannot read SVG: install PySide6 with its plugins")
    image = QImage(size, size, QImage.Format.Format_ARGB32)
    image.fill(QColor(background) if background else Qt.GlobalColor.transparent)
    painter = QPainter(image)
    painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
    painter.drawPixmap(
        image.rect(), picture.scaled(size, size, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation)
    )
    painter.end()
    image.save(str(path))


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as WCAG 2.1 defines it (1 to 21)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else math.pow((part + 0.055) / 1.055, 2.4) for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def main() -> None:
    """Draw all icons."""
    from PySide6.QtGui import QGuiApplication

    application = QGuiApplication.instance() or QGuiApplication([])
    icons = EXTENSION / "MedSeg" / "Resources" / "Icons"
    icons.mkdir(parents=True, exist_ok=True)
    (icons / "MedSeg.svg").write_text(svg(), encoding="utf-8")
    draw(EXTENSION / "MedSeg.png", svg(512), 128)
    draw(icons / "MedSegSample.png", svg(512), 128, "#202428")
    del application


if __name__ == "__main__":
    main()
