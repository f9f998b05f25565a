"""A lesion from one click on a 512×512×300 CT that is loaded: the region and its volume, beside SimpleITK's ConfidenceConnected."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from harness import Case, Run, main

from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.kernels.filters import gaussian
from medseg.segmentation.segment import segment

RADIUS_MM = 10.0


def even_place(ct: np.ndarray) -> np.ndarray:
    """The voxel in soft tissue around which the scan is most even: the middle of a large organ."""
    scan = ct.astype(np.float32)
    mean = gaussian(scan, (8.0, 12.0, 12.0))
    spread = gaussian((scan - mean) ** 2, (8.0, 12.0, 12.0))
    spread[(mean < 40) | (mean > 200)] = np.inf
    return np.array(np.unravel_index(np.argmin(spread), ct.shape))


def click(ct: np.ndarray) -> dict[str, Run]:
    """A dark ball of 2 cm, with a soft edge and the noise of the scan, in soft tissue (the liver, where the scan has one)."""
    spacing = np.array([1.25, 0.8, 0.8])
    centre = even_place(ct)
    k, j, i = np.ogrid[tuple(slice(length) for length in ct.shape)]
    parts = zip((k, j, i), centre, spacing, strict=True)
    away_mm = np.sqrt(sum(((axis - at) * step).astype(np.float32) ** 2 for axis, at, step in parts))
    scan = (ct - 60 / (1 + np.exp(np.clip((away_mm - RADIUS_MM) / 0.7, -30, 30)))).astype(np.int16)
    volume = Volume(scan.T, Geometry(scan.shape[::-1], np.diag([0.8, 0.8, 1.25, 1])), "CT", "HU")
    point = tuple(volume.geometry.index_to_world(centre[::-1]).tolist())
    voxel_ml = volume.geometry.voxel_volume_mm3 / 1000
    image = sitk.GetImageFromArray(scan)
    seed = [int(n) for n in centre[::-1]]

    def ours() -> float:
        return np.count_nonzero(segment(volume, "click-lesion", seeds=[point]).array) * voxel_ml

    def theirs() -> float:
        return np.count_nonzero(sitk.GetArrayFromImage(sitk.ConfidenceConnected(image, [seed], 4, 2.5, 1, 1))) * voxel_ml

    return {"medseg": ours, "SimpleITK ConfidenceConnected": theirs}


CASES = [Case("click-lesion in the liver", click)]

if __name__ == "__main__":
    main(CASES, __file__)
