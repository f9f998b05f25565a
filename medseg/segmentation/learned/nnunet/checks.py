"""Whether a scan is one an nnU-Net model can be asked about, and what is doubtful about it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from medseg.core.errors import IncompatibleModelError, InputError, OutOfMemoryError
from medseg.core.finding import Finding, Severity
from medseg.core.volume import Volume
from medseg.segmentation.learned.nnunet.dataset import DatasetEntry
from medseg.segmentation.learned.nnunet.plans import Configuration, Plans
from medseg.segmentation.learned.nnunet.reading import Reading
from medseg.segmentation.learned.nnunet.resample import resampled_shape

FAR_SPACING = 3.0  # a scan this many times coarser than the model's own spacing has lost what the model looks for
_MOST_VALUES = 1 << 33  # float32 values of a resampled scan: 32 GiB, beyond every scanner's field of view
_AIR_HU = -200.0  # every CT that shows air has voxels below this


def check_scans(name: str, dataset: DatasetEntry, volumes: Sequence[Volume]) -> list[Finding]:
    """Return what is doubtful about the intensities of the scans given to a model.

    Raises IncompatibleModelError where the scans stand in the wrong order, InputError where one holds nothing.
    """
    findings: list[Finding] = []
    mixed = len(set(dataset.modalities)) > 1
    for number, (volume, modality) in enumerate(zip(volumes, dataset.modalities, strict=True)):
        which = f"channel {number} ({dataset.channels[number]})" if len(volumes) > 1 else "the scan"
        if mixed and volume.modality and modality and volume.modality != modality:
            raise IncompatibleModelError(
                f"model {name!r}: {which} is {modality}, the scan given for it {volume.modality}: "
                f"give them in the order {', '.join(dataset.channels)}"
            )
        broken = int(np.count_nonzero(~np.isfinite(volume.array))) if volume.array.dtype.kind == "f" else 0
        if broken == volume.array.size:
            raise InputError(f"{which} has no voxel that is a finite number: there is nothing to segment")
        if broken:
            message = f"{which}: {broken} voxels are no finite numbers: taken for the lowest intensity there is"
            findings.append(Finding("NON_FINITE_REPLACED", Severity.WARNING, message, {"count": broken}))
        least, most = float(np.fmin.reduce(volume.array, axis=None)), float(np.fmax.reduce(volume.array, axis=None))
        if least == most:
            raise InputError(f"{which} has the same intensity ({least:g}) in every voxel: there is nothing to segment")
        if modality == "CT" and not least < _AIR_HU:
            message = f"{which}: the lowest intensity is {least:g}: a CT in HU has air near -1000, so this may be no CT or not in HU"
            findings.append(Finding("INTENSITIES_NOT_HU", Severity.WARNING, message, {"minimum": least}))
    return findings


def check_grid(name: str, plans: Plans, configuration: Configuration, reading: Reading, volume: Volume) -> list[Finding]:
    """Return what is doubtful about the grid of a scan; raises OutOfMemoryError where resampling it would explode."""
    findings: list[Finding] = []
    spacing = [reading.spacing_mm[axis] for axis in plans.transpose_forward]
    shape = [reading.arrays[0].shape[axis] for axis in plans.transpose_forward]
    target = resampled_shape(shape, spacing, configuration.spacing_mm)
    if math.prod(target) * len(reading.arrays) > _MOST_VALUES:
        raise OutOfMemoryError(
            f"model {name!r} works at {_text(configuration.spacing_mm)} mm; this scan of {_text(spacing)} mm would get "
            f"{_text(target)} voxels: check the spacing of the scan (medseg inspect), or cut out the part that matters"
        )
    ratio = max(mm / own for mm, own in zip(spacing, configuration.spacing_mm, strict=True))
    if ratio >= FAR_SPACING:
        message = (
            f"the scan's spacing of {_text(spacing)} mm is {ratio:.1f} times as coarse as "
            f"the {_text(configuration.spacing_mm)} mm of model {name!r}"
        )
        details = {"spacing_mm": spacing, "model_spacing_mm": list(configuration.spacing_mm), "ratio": ratio}
        findings.append(Finding("SPACING_FAR_FROM_MODEL", Severity.WARNING, message, details))
    if min(shape) == 1:
        message = f"the scan has a single slice; model {name!r} looks at {_text(configuration.patch_size)} voxels at once"
        findings.append(Finding("SINGLE_SLICE_IN_3D_MODEL", Severity.WARNING, message, {"shape": shape}))
    if volume.geometry.is_sheared:
        message = f"the grid is sheared by {volume.geometry.shear_degrees:.1f} degrees; the model takes it for a straight one"
        findings.append(Finding("SHEARED_GRID_IN_MODEL", Severity.WARNING, message, {"degrees": volume.geometry.shear_degrees}))
    return findings


def _text(values: Sequence[float]) -> str:
    return " × ".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value in values)
