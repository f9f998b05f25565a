"""How far the passes of a network over one scan (folds, mirrored or with dropout) differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import SegmentError


@dataclass(frozen=True, eq=False)
class ModelSpread:
    """Volumes of every segment in every pass, by label and in ml, and the entropy of the mean of the passes.

    `passes` names them ("fold 0", "mirror i", "dropout 3"). `entropy` (i,j,k) is that of the class probabilities, in nats,
    on the grid of the label map: 0 where the passes are sure and agree, ln(classes) where nothing is known; None where it
    was not asked for. Raises SegmentError where a segment has not one finite volume of at least 0 a pass.

    >>> ModelSpread(("fold 0", "fold 1"), {"liver": (1500.0, 1520.0)}).volumes_ml["liver"]
    (1500.0, 1520.0)
    """

    passes: tuple[str, ...]
    volumes_ml: Mapping[str, tuple[float, ...]]
    entropy: npt.NDArray[np.floating[Any]] | None = field(default=None)

    def __post_init__(self) -> None:
        for label, volumes in self.volumes_ml.items():
            values = np.asarray(volumes, dtype=np.float64)
            if values.shape != (len(self.passes),) or not np.isfinite(values).all() or (values < 0).any():
                raise SegmentError(f"segment {label!r} needs one volume for each of the {len(self.passes)} passes, got {tuple(volumes)}")
        frozen = {label: tuple(float(volume) for volume in volumes) for label, volumes in self.volumes_ml.items()}
        object.__setattr__(self, "volumes_ml", MappingProxyType(frozen))
