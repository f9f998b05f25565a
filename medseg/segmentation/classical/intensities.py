"""What the methods that part a scan by its intensities share: where they look, how they count, and where a cut falls."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryMismatchError, InputError
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume

FRACTION_BINS = 256  # bins of a scan whose intensities are no whole numbers, as scikit-image and ImageJ take
_MOST_VALUES = 65536
_MOST_EXACT = 2**53  # beyond it a double does not tell neighbouring whole numbers apart


@dataclass(frozen=True)
class Bins:
    """Counted intensities: the middle of each bin in rising order, its voxels, its greatest intensity, and the width of a bin."""

    values: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    upper: npt.NDArray[np.float64]
    width: float
    is_exact: bool

    @property
    def different(self) -> int:
        """Bins that hold a voxel."""
        return int(np.count_nonzero(self.counts))


def looked_at(
    volume: Volume, lower: float | None, upper: float | None, mask: LabelMap | None, method_name: str
) -> npt.NDArray[np.uint8] | None:
    """Return where a method looks, as a mask (k,j,i), or None for everywhere; raises GeometryMismatchError."""
    from medseg.kernels import histogram

    inside = None
    if lower is not None or upper is not None:
        inside = histogram.threshold(volume.array.T, -math.inf if lower is None else lower, math.inf if upper is None else upper)
    if mask is None:
        return inside
    if not mask.geometry.matches(volume.geometry):
        raise GeometryMismatchError(
            f"{method_name}: mask lies on another grid than the scan; restore it onto the scan's grid first", volume.geometry, mask.geometry
        )
    within = np.asarray(mask.array.T != 0).view(np.uint8)
    return within if inside is None else inside & within


def seen(image: npt.NDArray[Any], inside: npt.NDArray[np.uint8] | None) -> npt.NDArray[Any]:
    """Return the voxels of an image (k,j,i) that a method looks at, as an image of one line where they are not all."""
    return image if inside is None else image[inside.view(np.bool_)].reshape(1, 1, -1)


def count(image: npt.NDArray[Any], bins: int | None = None) -> Bins:
    """Count the finite intensities of an image (k,j,i).

    Whole numbers that span fewer than 65,536 are counted value by value, whatever their dtype, unless `bins` asks for fewer
    bins; others in `bins` equal bins (256 where it is None) of the finite range.

    >>> counted = count(np.array([[[3.0, 3.0, 5.0]]]))
    >>> counted.values.tolist(), counted.counts.tolist(), counted.is_exact
    ([3.0, 4.0, 5.0], [2, 0, 1], True)
    """
    from medseg.kernels import histogram

    nothing = np.empty(0)
    if not image.size:
        return Bins(nothing, np.empty(0, np.int64), nothing, 1.0, True)
    whole = _as_few_whole_numbers(image)
    if whole is not None:
        low, numbers = whole
        values, counts = histogram.histogram(numbers)
        values = values + low
        exact = Bins(values, counts, values, 1.0, True)
        return exact if bins is None or bins >= len(values) else _grouped(exact, bins)
    values, counts = histogram.histogram(image)
    if len(values) < 2:
        return Bins(values, counts, values, 1.0, False)
    step = float(values[1] - values[0])
    upper = np.nextafter(values + step / 2, -np.inf)  # what lies on an edge belongs to the next bin
    return _grouped(Bins(values, counts, upper, step, False), bins or FRACTION_BINS)


def _as_few_whole_numbers(image: npt.NDArray[Any]) -> tuple[float, npt.NDArray[Any]] | None:
    """The image as a lowest number and integers of up to 16 bits to add to it, or None where it holds anything else."""
    if image.dtype.kind in "bui" and image.dtype.itemsize <= 2:
        return 0.0, image
    if image.dtype.kind == "f":
        # plane by plane, so that the first plane with a fraction ends it
        if not all(bool(np.all((np.rint(plane) == plane) | ~np.isfinite(plane))) for plane in image):
            return None
        image = image[np.isfinite(image)].reshape(1, 1, -1)
        if not image.size:
            return None
    low, high = image.min(), image.max()
    if int(high) - int(low) >= _MOST_VALUES or max(-int(low), int(high)) > _MOST_EXACT:
        return None
    return float(low), (image - low).astype(np.uint16)


def _grouped(fine: Bins, bins: int) -> Bins:
    if bins >= len(fine.values):
        return fine
    group = np.arange(len(fine.values)) * bins // len(fine.values)
    last = np.append(np.flatnonzero(np.diff(group)), len(group) - 1)
    first = np.append(0, last[:-1] + 1)
    counts = np.add.reduceat(fine.counts, first)
    width = fine.width * len(fine.values) / bins
    return Bins((fine.values[first] + fine.values[last]) / 2, counts, fine.upper[last], width, False)


def refuse_too_few(different: int, classes: int, method_name: str) -> None:
    """Raise InputError where there are fewer intensities than classes to part them into."""
    if different < classes:
        raise InputError(
            f"{method_name}: {different} different finite intensities cannot be parted into {classes} classes; "
            "look at the scan, or choose fewer classes or a wider range"
        )


def middle_and_scale(values: npt.NDArray[np.float64], counts: npt.NDArray[Any]) -> tuple[float, float]:
    """Return mean and standard deviation of counted intensities, however large they are.

    >>> middle_and_scale(np.array([-1e300, 1e300]), np.array([1, 1]))
    (0.0, 1e+300)
    """
    middle = float(np.average(values, weights=counts))
    reach = float(np.abs(values - middle).max()) or 1.0
    return middle, reach * float(np.sqrt(np.average(((values - middle) / reach) ** 2, weights=counts)))


def greatest_at_most(image: npt.NDArray[Any], upper: float) -> float:
    """Return the greatest intensity of an image that does not lie above a limit."""
    return float(image[image <= np.float64(upper)].max())


def around(dtype: np.dtype[Any], value: float) -> tuple[float, float]:
    """Return the greatest intensity that the dtype can hold at or below a threshold, and the next one above it.

    >>> around(np.dtype(np.int16), 4.5)
    (4.0, 5.0)
    """
    if dtype.kind != "f":
        below = float(math.floor(value))
        return below, below + 1
    held = dtype.type(value)
    if held > value:
        held = np.nextafter(held, dtype.type(-math.inf))
    return float(held), float(np.nextafter(held, dtype.type(math.inf)))
