"""A scan without NaN and infinity, for methods that look at neighbourhoods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError


def filled(
    image: npt.NDArray[Any], method_name: str, spacing_mm: Sequence[float] = (1, 1, 1)
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """Return an array (k,j,i) whose NaN and infinite voxels hold the value of the nearest finite voxel, and where it was finite.

    Nearest is meant in mm, for `spacing_mm` along (i,j,k); shear is not looked at. The second is None where every voxel is
    finite (the array is then the one that was given). So a hole makes no edge, and a filter does not spread it. Raises
    InputError where no voxel is finite, or where float32 cannot hold the intensities.

    >>> filled(np.array([[[1.0, np.nan, np.nan, 5.0]]]), "canny")[0].tolist()
    [[[1.0, 1.0, 5.0, 5.0]]]
    """
    if image.dtype.kind != "f":
        return image, None
    finite = None
    if not (np.isfinite(image.min()) and np.isfinite(image.max())):
        from scipy.ndimage import distance_transform_edt

        finite = np.isfinite(image)
        if not finite.any():
            raise InputError(f"{method_name}: no voxel of the scan holds a finite number; look at how the scan was made")
        nearest = distance_transform_edt(~finite, sampling=tuple(spacing_mm)[::-1], return_distances=False, return_indices=True)
        image = np.ascontiguousarray(image[tuple(nearest)])
    if image.dtype.itemsize > 4 and max(-image.min(), image.max()) > np.finfo(np.float32).max / 4:
        raise InputError(f"{method_name}: intensities go beyond the range of float32 (3.4e38); clip the scan first")
    return image, finite
