"""The numbers behind the live slider: every region that the seeds grow, found in one pass; a limit is then only compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NEVER = np.iinfo(np.uint16).max  # the number of a voxel that joins at no limit
UNLIMITED = 1e30  # an intensity that no scan has; a job cannot say infinity


@dataclass(frozen=True, eq=False)
class NestedRegion:
    """For each voxel the number of the limit at which it joins.

    `joins` (k,j,i), uint16, lies at `extent` of the scan; `limits` are in the order in which the region grows (falling for
    "lower") and `volumesMl` are the region's volumes at them. `suggested` is the number of the limit before the greatest leap,
    `centre` the intensity from which a tolerance counts.
    """

    joins: np.ndarray
    extent: tuple[int, int, int, int, int, int]
    limits: np.ndarray
    volumesMl: np.ndarray
    vary: str
    suggested: int
    centre: float = 0.0

    def number(self, limit):
        """Return the number of the last limit that a value reaches; -1 before the first."""
        order = -self.limits if self.vary == "lower" else self.limits
        value = -limit if self.vary == "lower" else limit
        tolerance = 1e-6 * max(1.0, abs(value))  # sliders round their values
        return int(np.searchsorted(order, value + tolerance, "right")) - 1

    def mask(self, number):
        """Return the region (k,j,i) at the limit of that number as uint8."""
        if number < 0:
            return np.zeros(self.joins.shape, np.uint8)
        return np.asarray(self.joins <= number).view(np.uint8)

    def volumeMl(self, number):
        """Return the volume of the region at the limit of that number."""
        return float(self.volumesMl[number]) if number >= 0 else 0.0

    def between(self, number):
        """Return the lowest and highest intensity of the region at the limit of that number."""
        limit = float(self.limits[max(number, 0)])
        if self.vary == "lower":
            return limit, UNLIMITED
        return (-UNLIMITED, limit) if self.vary == "upper" else (self.centre - limit, self.centre + limit)

    def cutFrom(self, box, size):
        """Return the number of the limit from which on the region reaches a face of a box that is no face of the scan."""
        first = NEVER
        for at in range(6) if box is not None else ():
            isFace = box[at] == (0 if at % 2 == 0 else size[at // 2] - 1)
            if not isFace and self.extent[at] == box[at]:
                first = min(first, int(self.joins.take(0 if at % 2 == 0 else -1, axis=2 - at // 2).min()))
        return first

    @property
    def isWhole(self):
        """Whether all limits are whole numbers, as those of CT are."""
        return not np.any(self.limits % 1)

    @property
    def smallest(self):
        """The lowest limit of the slider."""
        return float(min(self.limits[0], self.limits[-1]))

    @property
    def largest(self):
        """The highest limit of the slider."""
        return float(max(self.limits[0], self.limits[-1]))


def nestedRegion(values):
    """Return the region of what MedSeg tells of a map: its file holds 1 for the first limit, 2 for the next, 0 for never."""
    joins = np.load(values["array"], mmap_mode="r") - np.uint16(1)  # 0 becomes NEVER
    return NestedRegion(
        joins,
        tuple(int(n) for n in values["extent"]),
        np.asarray(values["limits"], np.float64),
        np.asarray(values["volumes_ml"], np.float64),
        values["vary"],
        int(values["start"]) - 1,
        float(values["centre"]),
    )
