"""Contrast evened out over a scan: adaptive histogram equalisation."""

from __future__ import annotations

import numpy as np
import pydantic

from medseg.core.errors import InputError, ParameterError
from medseg.core.finding import Finding, Severity
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number
from medseg.preprocessing.crop import plane_distance_mm
from medseg.preprocessing.intensity import check_limits

BINS = 256
LEAST_TILE_VOXELS = 4  # a histogram of fewer voxels along an axis says nothing
MOST_TABLES = 1 << 15  # tiles; each holds 256 numbers


class EqualiseParams(MethodParams):
    """Parameters of `equalise`."""

    tile_mm: Number = Field(40.0, description="Edge of the tiles within which contrast is evened out", unit="mm", gt=0)
    contrast_limit: Number = Field(
        3.0, description="Most by which contrast may grow anywhere: 1 changes nothing, high values raise noise too", ge=1, le=1000
    )
    lower: Number | None = Field(None, description="Intensity that becomes 0; empty: the lowest of the scan", unit="image")
    upper: Number | None = Field(None, description="Intensity that becomes 1; empty: the highest of the scan", unit="image")

    @pydantic.model_validator(mode="after")
    def _limits(self) -> EqualiseParams:
        if self.lower is not None and self.upper is not None:
            check_limits(self.lower, self.upper)
            if self.lower == self.upper:
                raise ValueError(f"lower and upper are both {self.lower:g}: give a range")
        return self


@method("equalise", stage=Stage.PREPROCESS, reference="doi:10.1016/S0734-189X(87)80186-X")
def equalise(volume: Volume, params: EqualiseParams) -> Volume:
    """Raise the contrast of a scan where it is low: adaptive histogram equalisation with a limit (CLAHE), in 3D.

    The scan is parted into tiles of about `tile_mm` (measured across the planes of the grid, so unequal spacing and shear are
    honoured). The histogram of each makes a table, limited in slope; each voxel is read from the eight tables around it. The
    result lies between 0 and 1, float32 without unit; voxels beyond `lower` and `upper` become 0 and 1 and do not count. NaN
    stays. A scan with one intensity becomes 0, with the finding CONSTANT_INTENSITY. Raises InputError where no voxel is
    finite, ParameterError where `tile_mm` makes too many tiles.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[0, 1, 2, 100]]], np.int16), Geometry((1, 1, 4), np.eye(4)))
    >>> [round(float(value), 2) for value in equalise(scan, EqualiseParams(contrast_limit=1)).array.ravel()]
    [0.0, 0.01, 0.02, 1.0]
    """
    from medseg.kernels import equalise as kernel

    image = volume.array.T
    finite = image[np.isfinite(image)] if image.dtype.kind == "f" else image
    if finite.size == 0:
        raise InputError("equalise: the scan has no finite intensity; check that the right file was read")
    low = float(finite.min()) if params.lower is None else params.lower
    high = float(finite.max()) if params.upper is None else params.upper
    if not high > low:
        flat = np.where(np.isnan(image), np.float32(np.nan), np.float32(0))
        message = f"the scan has no intensity between {low:g} and {high:g} to part: its equalised intensities are all 0"
        findings = (*volume.findings, Finding("CONSTANT_INTENSITY", Severity.WARNING, message, {"intensity": low}))
        return volume.with_array(flat.T, unit="", findings=findings)
    if not np.isfinite((high - low) * BINS):
        raise InputError("equalise: intensities go beyond the range of numbers; give lower and upper")
    extent_mm = np.asarray(volume.geometry.shape) * plane_distance_mm(volume.geometry)
    most = np.maximum(1, np.asarray(volume.geometry.shape) // LEAST_TILE_VOXELS)
    tiles = np.clip(np.rint(extent_mm / params.tile_mm), 1, most).astype(int)
    if tiles.prod() > MOST_TABLES:
        raise ParameterError(f"equalise: tile_mm {params.tile_mm:g} makes {tiles.prod()} tiles, too many: choose larger tiles")
    even = kernel.equalise(image, tiles[::-1].tolist(), (low, high), params.contrast_limit, BINS)
    return volume.with_array(even.T, unit="")
