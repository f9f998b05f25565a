"""The patient without the air around, and the brain without the skull: masks by classical means."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number
from medseg.preprocessing.foreground import foreground_mask
from medseg.preprocessing.skull_strip import brain_mask
from medseg.segmentation.classical.result import label_map_on

BRAIN_ML = (900.0, 1700.0)  # of adults, with what little fluid the clefts hold
CUT_SIDES = 2  # the neck cuts a scan of the head on one side


class ForegroundParams(MethodParams):
    """Parameters of `foreground`."""

    threshold: Number | None = Field(
        None,
        description="Intensity up to which a voxel is air; empty: -300 HU for CT, else a tenth of the way between the percentiles 2 and 98",
        unit="image",
    )
    label: str = Field("body", description="Name of the segment", min_length=1)


@method("foreground", stage=Stage.SEGMENT, reference="doi:10.1002/hbm.10062")
def foreground(volume: Volume, params: ForegroundParams) -> LabelMap:
    """Segment the patient: everything in the scan but the air around, the table and the noise.

    What is brighter than air is opened by a ball of 4 mm and its largest piece kept; holes are filled in 3D and in each axial
    slice, so lungs and bowel belong to the patient. Lengths are measured across the planes of the grid. NaN is not brighter than air.
    The finding FOREGROUND_THRESHOLD tells the intensity that was taken; where nothing is brighter the segment is
    empty, with SEGMENT_EMPTY. Raises InputError where no threshold is given and the scan has one intensity only.

    >>> from medseg.core.geometry import Geometry
    >>> array = np.zeros((9, 9, 9), np.int16)
    >>> array[2:7, 2:7, 2:7], array[4, 4, 4] = 80, 0
    >>> int(foreground(Volume(array, Geometry((9, 9, 9), np.eye(4))), ForegroundParams(threshold=10)).array.sum())
    125
    """
    mask, limit = foreground_mask(volume, params.threshold, "foreground")
    text = f"air was taken to end at {limit:g} {volume.unit}".rstrip()
    findings = [Finding("FOREGROUND_THRESHOLD", Severity.INFO, text, {"threshold": limit})]
    if not mask.any():
        message = f"no voxel is brighter than {limit:g}: the segment is empty"
        findings.append(Finding("SEGMENT_EMPTY", Severity.WARNING, message, {"threshold": limit}))
    return label_map_on(volume, mask, [Segment(1, params.label, algorithm="foreground")], findings)


class BrainParams(MethodParams):
    """Parameters of `brain`."""

    bridge_mm: Number = Field(
        4.0, description="Radius of the bridges (vessels, nerves, meninges) between brain and scalp that are cut", unit="mm", gt=0, le=15
    )
    closing_mm: Number = Field(8.0, description="Width of the clefts (sulci) that count as brain", unit="mm", ge=0, le=30)
    label: str = Field("brain", description="Name of the segment", min_length=1)


@method("brain", stage=Stage.SEGMENT, reference="doi:10.1006/nimg.2000.0730")
def brain(volume: Volume, params: BrainParams) -> LabelMap:
    """Segment the brain in a T1-weighted MR scan of the head, without a model.

    In the head (see `foreground`), what is as bright as grey matter is eroded by `bridge_mm` until the bridges to the scalp break; the
    piece deepest in the head is kept, grows back within its own intensities, and clefts and holes are closed. Lengths are measured
    across the planes of the grid. It is quick and needs no training, and is less exact than a trained network: look
    at every slice. A volume that no brain has, or a brain cut by two or more sides of the scan, gives the finding
    BRAIN_IMPLAUSIBLE. Raises InputError for a CT, where no brain is found, and where the scan holds NaN or infinity.

    >>> from medseg.core.geometry import Geometry
    >>> distance = np.linalg.norm(np.indices((64, 64, 64)).T - 31.5, axis=-1).T * 3.0
    >>> head = np.select([distance < 60, distance < 75, distance < 85], [100, 10, 90], 0).astype(np.int16)
    >>> scan = Volume(head, Geometry((64, 64, 64), np.diag([3.0, 3.0, 3.0, 1.0])), "MR")
    >>> found = brain(scan, BrainParams()).array
    >>> bool(0.97 < found.sum() / (distance < 60).sum() < 1.03)
    True
    """
    mask = brain_mask(volume, params.bridge_mm, params.closing_mm, "brain")
    return label_map_on(volume, mask, [Segment(1, params.label, algorithm="brain")], _implausible(mask, volume))


def _implausible(mask: npt.NDArray[np.uint8], volume: Volume) -> list[Finding]:
    """What speaks against a mask (k,j,i) being a whole brain."""
    volume_ml = int(np.count_nonzero(mask)) * volume.geometry.voxel_volume_mm3 / 1000
    ends = [np.take(mask, end, axis) for axis in range(3) for end in (0, -1)]
    cut = sum(bool(end.any()) for end in ends)
    doubts = []
    if not BRAIN_ML[0] <= volume_ml <= BRAIN_ML[1]:
        doubts.append(f"its volume is {volume_ml:.0f} ml, and a brain has {BRAIN_ML[0]:g} to {BRAIN_ML[1]:g}")
    if cut >= CUT_SIDES:
        doubts.append(f"{cut} sides of the scan cut it")
    if not doubts:
        return []
    message = f"what was found is hardly a whole brain: {'; '.join(doubts)}; look at it in three planes before you use it"
    return [Finding("BRAIN_IMPLAUSIBLE", Severity.WARNING, message, {"volume_ml": volume_ml, "cut_sides": cut})]
