"""The road from a scan to the input of a network: the same for using a model and for training one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medseg.core.errors import GeometryMismatchError, IncompatibleModelError
from medseg.core.volume import Volume
from medseg.preprocessing.plan import PreparationPlan, plan_preparation
from medseg.segmentation.learned.description import ModelDescription
from medseg.segmentation.learned.normalisation import Rule, background_of, normalised, normaliser


@dataclass(frozen=True)
class Prepared:
    """The input of a network: `image` (C,K,J,I) float32, normalised; `background` (C,) is what lies outside the scan.

    `plan` leads from the grid of the scan to that of the image and back.
    """

    image: npt.NDArray[np.float32]
    background: npt.NDArray[np.float32]
    plan: PreparationPlan


def prepare(volumes: Sequence[Volume], description: ModelDescription) -> Prepared:
    """Bring the channels of one scan to the orientation, spacing and intensities of a model.

    Voxels that are no finite numbers count as outside the scan. Raises IncompatibleModelError for another number of
    channels, GeometryMismatchError for channels on different grids, InputError for scans with nothing to segment.
    """
    check_channels(volumes, description)
    plan = plan_preparation(volumes[0].geometry, description.spacing_mm, description.orientation, description.alignment)
    image = np.empty((len(volumes), *plan.target.shape[::-1]), np.float32)
    backgrounds = []
    for number, volume in enumerate(volumes):
        background = background_of(volume, description)
        rule = normaliser(volume, description, number)
        normalised(_on_target(volume, plan, rule, background), rule, out=image[number])
        backgrounds.append(float(normalised(np.array([background]), rule)[0]))
    return Prepared(image, np.array(backgrounds, np.float32), plan)


def check_channels(volumes: Sequence[Volume], description: ModelDescription) -> None:
    """Raise IncompatibleModelError or GeometryMismatchError where volumes are not the channels of one scan for a model."""
    if len(volumes) != len(description.channels):
        raise IncompatibleModelError(
            f"model {description.name!r} takes {len(description.channels)} scan(s) ({', '.join(description.channels)}), not {len(volumes)}"
        )
    first = volumes[0].geometry
    for name, volume in zip(description.channels[1:], volumes[1:], strict=True):
        if not volume.geometry.matches(first):
            raise GeometryMismatchError(
                f"channel {name!r} lies on another grid than {description.channels[0]!r}: resample it onto the first scan before",
                first,
                volume.geometry,
            )


def _on_target(volume: Volume, plan: PreparationPlan, rule: Rule, background: float) -> npt.NDArray[np.float32]:
    """One channel (k,j,i) on the grid of the network, clipped."""
    clean = volume.array
    if clean.dtype.kind == "f" and not np.isfinite(clean).all():
        clean = np.where(np.isfinite(clean), clean, background)
    # Clipping before interpolation keeps metal and padding values from bleeding into their neighbours.
    with np.errstate(over="ignore"):  # what float32 cannot hold is clipped next
        clipped = clean.astype(np.float32, order="F")
    np.clip(clipped, np.float32(rule[0]), np.float32(rule[1]), out=clipped)
    return np.ascontiguousarray(plan.prepare(volume.with_array(clipped), background).array.T)
