"""The part of a scan that is patient, not air: as a mask, and to crop to."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError
from medseg.core.finding import Finding, Severity
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number
from medseg.preprocessing.crop import Box, plane_distance_mm
from medseg.preprocessing.plan import plan_crop

CT_SKIN_HU = -300.0  # between air and the fat below the skin
CT_AIR_HU = -200.0  # a CT whose darkest voxel is brighter is not in HU, or holds no air
CT_LUNG_HU = -500.0  # where more than CT_AIR_SHARE of a scan lies below, it is a CT, whatever its file leaves out
CT_AIR_SHARE = 0.05
AIR_SHARE = 0.1  # of the way from the darkest to the brightest tissue (percentiles 2 and 98), as BET does it
OPENING_MM = 4.0  # cuts the table, tubes and noise off the patient
_AXIAL = "SI"


def intensity_above_air(volume: Volume, method_name: str) -> float:
    """Return the intensity that parts air from tissue: -300 HU for CT, else a tenth of the way between the percentiles 2 and 98.

    The rule of BET (doi:10.1002/hbm.10062). Raises InputError where the scan has no two finite intensities.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.arange(101.0).reshape(1, 1, 101), Geometry((1, 1, 101), np.eye(4)))
    >>> round(intensity_above_air(scan, "foreground"), 3)
    11.6
    """
    from medseg.kernels.statistics import label_percentiles

    array = volume.array
    if array.dtype.kind == "f":
        inside = np.isfinite(array)
        if not inside.any():
            raise InputError(f"{method_name}: the scan has no finite intensity; check that the right file was read")
    else:
        inside = np.ones(array.shape, np.bool_, order="F")
    # 0 and 100 tell a constant scan, and hold where 2 and 98 fall on one intensity
    lowest, low, high, highest = label_percentiles(inside.T.view(np.uint8), array.T, [0, 2, 98, 100])[0].tolist()
    if not highest > lowest:
        raise InputError(
            f"{method_name}: the scan has one intensity only, so air and patient cannot be parted; check the file, or give threshold"
        )
    if (volume.unit == "HU" or volume.modality == "CT") and lowest < CT_AIR_HU:
        return CT_SKIN_HU
    if not high > low:
        low, high = lowest, highest
    return float(low + AIR_SHARE * (high - low))


def foreground_mask(volume: Volume, threshold: float | None, method_name: str) -> tuple[npt.NDArray[np.uint8], float]:
    """Return the patient as a mask (k,j,i), and the intensity that was taken for the limit of air.

    What is brighter than air is opened by a ball of 4 mm, its largest component is kept, and holes are closed, in 3D and in
    each axial slice (lungs, bowel and airways belong to the patient). In a scan that is no CT bone is as dark as air, so that
    the scalp is a thin shell: there clefts and holes are closed first. All 0 where nothing is brighter than the threshold.
    """
    from medseg.kernels.components import keep_largest
    from medseg.kernels.distance import close, open_
    from medseg.kernels.histogram import threshold as between

    limit = intensity_above_air(volume, method_name) if threshold is None else threshold
    tissue = between(volume.array.T, float(np.nextafter(limit, math.inf)), math.inf)
    spacing_mm = plane_distance_mm(volume.geometry)[::-1].tolist()
    if not tissue.any():
        return tissue, limit
    axis = 2 - next(n for n, code in enumerate(volume.geometry.orientation) if code in _AXIAL)  # kernels count axes k, j, i
    whole = tissue if volume.unit == "HU" or volume.modality == "CT" else _filled(close(tissue, OPENING_MM, spacing_mm), axis)
    opened = open_(whole, OPENING_MM, spacing_mm)
    if not opened.any():  # a patient thinner than the ball is still a patient
        opened = whole
    body = keep_largest(opened, connectivity=6)
    return _filled(_grown_back(body, tissue, spacing_mm), axis), limit


def refuse_hounsfield(volume: Volume, method_name: str) -> None:
    """Raise InputError for a scan in Hounsfield units, or one that looks like it: some methods make sense on MR only.

    A file that names neither modality nor unit looks like CT where more than a twentieth of it is as low as lung and air.
    """
    known = volume.modality == "CT" or volume.unit == "HU"
    if known or (not volume.modality and not volume.unit and float((volume.array <= CT_LUNG_HU).mean()) > CT_AIR_SHARE):
        what = "this scan is a CT" if known else f"this scan lies below {CT_LUNG_HU:g} in many places, as only CT does"
        raise InputError(f"{method_name} is for MR: {what}, whose Hounsfield units it would misread or spoil; give an MR scan")


def _filled(mask: npt.NDArray[np.uint8], axis: int) -> npt.NDArray[np.uint8]:
    from medseg.kernels.components import fill_holes

    return fill_holes(fill_holes(mask), axis=axis)


def _grown_back(body: npt.NDArray[np.uint8], tissue: npt.NDArray[np.uint8], spacing_mm: list[float]) -> npt.NDArray[np.uint8]:
    """The opening rounds the skin off: tissue within half of its reach comes back."""
    from medseg.kernels.distance import dilate

    return dilate(body, OPENING_MM / 2, spacing_mm) & tissue | body


class CropForegroundParams(MethodParams):
    """Parameters of `crop-foreground`."""

    threshold: Number | None = Field(
        None,
        description="Intensity up to which a voxel is air; empty: -300 HU for CT, else a tenth of the way between the percentiles 2 and 98",
        unit="image",
    )
    margin_mm: Number = Field(5.0, description="Distance that is kept around the patient", unit="mm", ge=0, le=500)


@method("crop-foreground", stage=Stage.PREPROCESS, reference="doi:10.1002/hbm.10062")
def crop_foreground(volume: Volume, params: CropForegroundParams) -> Volume:
    """Cut a scan to the box around the patient, which leaves out the air around it.

    The patient is found as `foreground` does it; every voxel that is kept stays in its place, and a label map made on the cropped
    scan goes back exactly (preprocessing.plan.CropPlan; a pipeline does it by itself). The finding CROPPED tells the
    box. Raises InputError where no voxel is brighter than air.

    >>> from medseg.core.geometry import Geometry
    >>> array = np.zeros((20, 20, 20), np.int16)
    >>> array[8:16, 8:16, 8:16] = 50
    >>> crop_foreground(Volume(array, Geometry((20, 20, 20), np.eye(4))), CropForegroundParams(margin_mm=2)).array.shape
    (12, 12, 12)
    """
    mask, limit = foreground_mask(volume, params.threshold, "crop-foreground")
    if not mask.any():
        raise InputError(f"crop-foreground: no voxel is brighter than {limit:g}, so there is no patient to crop to; give a lower threshold")
    plan = plan_crop(volume.geometry, _box_of(mask).widened(volume.geometry, params.margin_mm))
    cropped = plan.prepare(volume)
    if plan.box.shape == volume.geometry.shape:
        text = "nothing to cut: with its margin the patient reaches every side of the scan"
    else:
        text = f"cropped to the voxels from {plan.box.start} to {plan.box.stop} (i, j, k; the last not included) of {volume.geometry.shape}"
    found = Finding("CROPPED", Severity.INFO, text, {"start": list(plan.box.start), "stop": list(plan.box.stop)})
    return replace(cropped, findings=(*volume.findings, found))


def _box_of(mask: npt.NDArray[Any]) -> Box:
    from medseg.kernels.statistics import label_statistics

    found = label_statistics(mask)
    (k0, j0, i0), (k1, j1, i1) = found.first[0].tolist(), found.last[0].tolist()
    return Box((i0, j0, k0), (i1 + 1, j1 + 1, k1 + 1))
