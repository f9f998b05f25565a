"""`medseg.measure` of more than 100 labels on 512 x 512 x 300, and all shape and intensity features, beside SimpleITK.

Ours gives more: mesh volume, 95 % interval, border contact and (features) the values of the IBSI. SimpleITK's two filters
give count, centroid, box, border contact, principal moments, perimeter, and mean to maximum; percentiles and moments of
the intensities come with them and cannot be left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from harness import Case, Run, main
from inputs import block_labels

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.measurement.intensity import intensity_features
from medseg.measurement.measure import measure
from medseg.measurement.shape import shape_features

SPACING_MM = (0.8, 0.8, 1.5)
LABELS = 120


def close_to(first: Any, second: Any) -> float:
    """Share of the volumes and means that agree."""
    return float(np.isclose(np.asarray(first), np.asarray(second), rtol=1e-9).mean())


def inputs(ct: np.ndarray) -> tuple[LabelMap, Volume, sitk.Image, sitk.Image, list[int]]:
    labels = block_labels(ct, LABELS)
    grid = Geometry(labels.shape[::-1], np.diag([*SPACING_MM, 1.0]))
    numbers = np.unique(labels)[1:].tolist()
    segments = tuple(Segment(number, f"segment {number}") for number in numbers)
    image, map_ = sitk.GetImageFromArray(ct), sitk.GetImageFromArray(labels)
    for picture in (image, map_):
        picture.SetSpacing(SPACING_MM)
    return LabelMap(labels.T, grid, segments), Volume(ct.T, grid, "CT", "HU"), image, map_, numbers


def simpleitk_of(image: sitk.Image, map_: sitk.Image, numbers: list[int], feret: bool = False) -> Run:
    def run() -> list[tuple[float, float]]:
        intensity, shape = sitk.LabelIntensityStatisticsImageFilter(), sitk.LabelShapeStatisticsImageFilter()
        shape.SetComputeFeretDiameter(feret)
        shape.ComputePerimeterOn()
        intensity.Execute(map_, image)
        shape.Execute(map_)
        return [(shape.GetPhysicalSize(number) / 1000, intensity.GetMean(number)) for number in numbers]

    return run


def table(ct: np.ndarray) -> dict[str, Run]:
    label_map, volume, image, map_, numbers = inputs(ct)

    def ours() -> list[tuple[float, float]]:
        rows = measure(label_map, volume)
        return [(row.measurements["volume"].value, row.measurements["mean"].value) for row in rows]

    return {"medseg.measure": ours, "SimpleITK LabelIntensityStatistics + LabelShapeStatistics": simpleitk_of(image, map_, numbers)}


def features(ct: np.ndarray) -> dict[str, Run]:
    label_map, volume, image, map_, numbers = inputs(ct)

    def ours() -> list[tuple[float, float]]:
        shape, intensity = shape_features(label_map, volume), intensity_features(label_map, volume)
        return [(shape[number]["voxel_volume_ml"].value, intensity[number]["mean"].value) for number in numbers]

    return {"medseg shape and intensity features": ours, "SimpleITK (no mesh, no hull)": simpleitk_of(image, map_, numbers)}


CASES = [Case("measure of 120 labels", table, close_to), Case("features of 120 labels", features, close_to)]

if __name__ == "__main__":
    main(CASES, __file__)
