"""From the network's outputs to labels on the scan: nnU-Net's interpolation, regions and uncropping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import IncompatibleModelError
from medseg.core.label_map import smallest_unsigned
from medseg.method.settings import Progress, no_progress
from medseg.segmentation.learned.dependencies import import_torch
from medseg.segmentation.learned.engine.export import LabelSink
from medseg.segmentation.learned.engine.taps import Taps, linear_taps, nearest_taps
from medseg.segmentation.learned.nnunet.cascade import Stage
from medseg.segmentation.learned.nnunet.dataset import Labels
from medseg.segmentation.learned.nnunet.plans import Resampling
from medseg.segmentation.learned.nnunet.preprocess import Prepared
from medseg.segmentation.learned.nnunet.resample import Shape, separate_axis


@dataclass(frozen=True)
class WayBack:
    """Where the outputs for a prepared scan lie in it: `taps` per transposed axis, rounding and regions as nnU-Net has them."""

    taps: tuple[Taps, Taps, Taps]
    round_to_half: bool
    regions: tuple[int, ...] | None

    def sink(self, out: npt.NDArray[Any] | None = None, progress: Progress = no_progress) -> LabelSink:
        """Return a sink that writes labels into `out` (the cropped, transposed scan), or only counts them where it is None."""
        return LabelSink(
            self.taps, regions=self.regions, round_to_half=self.round_to_half, out=out, keep=out is not None, progress=progress
        )

    def interpolated(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return values (a,b,c) of the network's grid on that of the cropped scan."""
        for axis, taps in enumerate(self.taps):
            weight = taps.weight.reshape([-1 if n == axis else 1 for n in range(3)])
            low = values.take(taps.low, axis)
            values = low + (values.take(taps.high, axis) - low) * weight
        return values


def way_back(prepared: Prepared, stage: Stage) -> WayBack:
    """Return the way from a stage's outputs back to the scan; raises IncompatibleModelError where medseg does not know it."""
    rule = stage.configuration.logit_resampling
    _, *low = prepared.image.shape
    axis = separate_axis(rule, stage.configuration.spacing_mm, prepared.spacing_mm)
    taps = output_taps(rule, (low[0], low[1], low[2]), prepared.cropped_shape, axis)
    return WayBack(taps, rule.kind == "spline", stage.dataset.labels.region_order or None)


def output_taps(rule: Resampling, low: Shape, high: Shape, axis: int | None) -> tuple[Taps, Taps, Taps]:
    """Return where voxels of shape `high` lie between outputs of shape `low`; raises IncompatibleModelError for splines."""
    orders = [rule.order_z if n == axis and rule.kind == "spline" else rule.order for n in range(3)]
    if rule.kind == "none" and low != high:
        raise IncompatibleModelError("plans.json resamples the scan, but not the outputs of the network: labels would have no place")
    if rule.kind == "spline" and max(orders) > 1:
        raise IncompatibleModelError(f"plans.json interpolates outputs with splines of order {max(orders)}; medseg knows orders 0 and 1")
    taps = []
    for n in range(3):
        if rule.kind == "torch" and n == axis:
            taps.append(_nearest_of_torch(low[n], high[n]))
        else:
            taps.append(nearest_taps(low[n], high[n]) if orders[n] == 0 else linear_taps(low[n], high[n]))
    return taps[0], taps[1], taps[2]


def label_dtype(labels: Labels) -> np.dtype[Any]:
    """Return the unsigned type that holds every number a model can paint."""
    return smallest_unsigned(max((*labels.numbers, *labels.region_order)))


def _nearest_of_torch(low: int, high: int) -> Taps:
    torch = import_torch()
    places = torch.nn.functional.interpolate(torch.arange(low, dtype=torch.float32)[None, None], high, mode="nearest-exact")
    taken = places[0, 0].numpy().astype(np.int64)
    return Taps(taken, taken, np.zeros(high, np.float32))
