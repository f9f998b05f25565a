"""How far the passes of an nnU-Net model differ: its mirrored passes, its folds, or several with dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import IncompatibleModelError
from medseg.segmentation.learned.engine.uncertainty import PassMeter, dropout_networks, mirror_name
from medseg.segmentation.learned.engine.windows import Windows
from medseg.segmentation.learned.nnunet.back import WayBack
from medseg.segmentation.learned.nnunet.folder import Fold
from medseg.segmentation.learned.trained import ModelUncertainty, Request

if TYPE_CHECKING:
    import torch

_AXES = "abc"  # the network's own axes, which plans.json may have permuted


def pass_names(request: Request, folds: Sequence[Fold], networks: Sequence[torch.nn.Module], windows: Windows) -> list[str]:
    """Return the names of the passes whose spread is asked for, none where it is not.

    Raises IncompatibleModelError where there is nothing that could differ.
    """
    if request.uncertainty == "none":
        return []
    if request.uncertainty == "folds":
        if len(folds) < 2:
            raise IncompatibleModelError("the spread of folds needs two or more of them: copy the other fold_ folders of the model too")
        return [f"fold {fold.name}" for fold in folds]
    if request.uncertainty == "mirror":
        if not windows.mirror_axes:
            raise IncompatibleModelError("this model was not trained for mirroring: ask for the uncertainty of its folds or of dropout")
        within = [mirror_name(axes, _AXES) for axes in windows.mirrors()]
    else:
        within = [f"dropout {number}" for number in range(len(dropout_networks(networks[0])))]
    return [f"fold {fold.name} {name}" if len(folds) > 1 else name for fold in folds for name in within]


def uncertainty(
    meter: PassMeter, way: WayBack, cropped: npt.NDArray[np.float32], whole: npt.NDArray[np.float32], voxel_mm3: float, numbers: Any
) -> ModelUncertainty:
    """Return what the meter found; the entropy is written into `cropped`, the part of `whole` (K,J,I) that the network saw."""
    volumes_ml = meter.volumes_ml(numbers, voxel_mm3)
    cropped[...] = way.interpolated(meter.entropy())
    return ModelUncertainty(meter.names, volumes_ml, whole)
