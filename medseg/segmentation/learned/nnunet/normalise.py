"""nnU-Net's normalisation schemes, in its own single precision arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import IncompatibleModelError, InputError
from medseg.segmentation.learned.nnunet.plans import Intensities

_LEAST = 1e-8  # what is divided by is at least this, so that a constant image stays finite

Float32 = npt.NDArray[np.float32]


def normalise(image: Float32, scheme: str, intensities: Intensities | None, mask: npt.NDArray[np.bool_] | None = None) -> None:
    """Normalise one channel in place.

    `mask` limits ZScoreNormalization to its voxels (None: all). Sums run over the memory as given: the mean of nnU-Net
    is that of a float32 sum, whose last digits depend on the order. Raises IncompatibleModelError where the plans lack
    what the scheme needs, InputError where the scheme refuses the intensities.
    """
    if scheme == "CTNormalization":
        _ct(image, intensities)
    elif scheme == "ZScoreNormalization":
        _z_score(image, mask)
    elif scheme == "RescaleTo01Normalization":
        image -= image.min()
        image /= np.clip(image.max(), a_min=_LEAST, a_max=None)
    elif scheme == "RGBTo01Normalization":
        if image.size and not (image.min() >= 0 and image.max() <= 255):
            raise InputError(
                "this model takes intensities from 0 to 255 (RGBTo01Normalization), the scan goes beyond: choose another model"
            )
        image /= np.float32(255.0)
    elif scheme != "NoNormalization":
        raise IncompatibleModelError(f"normalisation {scheme!r} is not known to medseg")


def _ct(image: Float32, intensities: Intensities | None) -> None:
    if intensities is None:
        raise IncompatibleModelError("plans.json has no intensities of the foreground for a channel that needs CTNormalization")
    scale = max(intensities.std, _LEAST)
    for rows in image:  # row by row: each stays in the cache for all three steps
        np.clip(rows, intensities.percentile_00_5, intensities.percentile_99_5, out=rows)
        np.subtract(rows, intensities.mean, out=rows)
        np.divide(rows, scale, out=rows)


def _z_score(image: Float32, mask: npt.NDArray[Any] | None) -> None:
    if mask is None:
        mean, deviation = image.mean(), image.std()
        image -= mean
        image /= max(deviation, _LEAST)
        return
    inside = image[mask]
    if inside.size:
        image[mask] = (inside - inside.mean()) / max(inside.std(), _LEAST)
