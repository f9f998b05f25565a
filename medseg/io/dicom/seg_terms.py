"""Codes and colours of segments, between medseg's types and DICOM's attributes (PS3.3, C.8.20.4 and 8.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from medseg.core.codes import Code
from medseg.core.segment import Colour

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

UNSPECIFIED = "unspecified"  # the algorithm of a segment that names none; DICOM wants a name there

_LONGEST_MEANING = 64  # characters of Code Meaning (LO)

# sRGB to XYZ under D50, the white of DICOM's CIELab (PS3.3, C.10.7.1.1): Bradford-adapted, IEC 61966-2-1
_SRGB_TO_XYZ = np.array([[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]])
_WHITE = _SRGB_TO_XYZ.sum(axis=1)
_LINEAR_BELOW = (6 / 29) ** 3


def code_item(code: Code) -> Dataset:
    """Return the item of a code sequence."""
    from pydicom.dataset import Dataset

    item = Dataset()
    if len(code.value) <= 16:
        item.CodeValue = code.value
    else:
        item.LongCodeValue = code.value
    item.CodingSchemeDesignator = code.scheme
    item.CodeMeaning = code.meaning[:_LONGEST_MEANING]
    return item


def code_of(dataset: Dataset, keyword: str) -> Code | None:
    """Return the first code of a code sequence, None where there is none."""
    items = dataset.get(keyword)
    if not items:
        return None
    item = items[0]
    value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue") or ""
    if not value:
        return None
    return Code(str(item.get("CodingSchemeDesignator", "")), str(value), str(item.get("CodeMeaning", "")))


def lab_from_rgb(colour: Colour) -> list[int]:
    """Return DICOM's 16-bit CIELab of a colour (r, g, b, 0 to 255).

    >>> lab_from_rgb((255, 255, 255))
    [65535, 32896, 32896]
    """
    stored = np.asarray(colour, dtype=np.float64) / 255
    linear = np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)
    share = _SRGB_TO_XYZ @ linear / _WHITE
    x, y, z = np.where(share > _LINEAR_BELOW, np.cbrt(share), share / (3 * (6 / 29) ** 2) + 4 / 29)
    lightness, a, b = 116 * y - 16, 500 * (x - y), 200 * (y - z)
    scaled = (lightness * 65535 / 100, (a + 128) * 65535 / 255, (b + 128) * 65535 / 255)
    return [round(float(np.clip(value, 0, 65535))) for value in scaled]


def rgb_from_lab(values: npt.ArrayLike) -> Colour:
    """Return the colour (r, g, b, 0 to 255) nearest to DICOM's 16-bit CIELab.

    >>> rgb_from_lab(lab_from_rgb((200, 30, 90)))
    (200, 30, 90)
    """
    first, second, third = (float(value) for value in np.asarray(values, dtype=np.float64).ravel()[:3])
    lightness, a, b = first * 100 / 65535, second * 255 / 65535 - 128, third * 255 / 65535 - 128
    y = (lightness + 16) / 116
    roots = np.array([y + a / 500, y, y - b / 200])
    share = np.where(roots > 6 / 29, roots**3, 3 * (6 / 29) ** 2 * (roots - 4 / 29))
    linear = np.clip(np.linalg.solve(_SRGB_TO_XYZ, share * _WHITE), 0, 1)
    stored = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = (round(float(value) * 255) for value in np.clip(stored, 0, 1))
    return red, green, blue
