"""A lesion from one click: the closed surface around it that stands out most, then the scan's own edge near it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number, PointRAS
from medseg.segmentation.classical.click_border import Found, grown_region, refined
from medseg.segmentation.classical.click_scan import click_scan
from medseg.segmentation.classical.click_surface import RULES, Candidate, Clicks, Rules, best_candidate
from medseg.segmentation.classical.result import label_map_on
from medseg.segmentation.classical.seeds import seed_indices

WEAK_EDGE = 0.3  # edge times contrast below which the border is not to be trusted


class ClickLesionParams(MethodParams):
    """Parameters of `click-lesion`."""

    seeds: list[PointRAS] = Field(
        description="A click on the lesion, best near its middle; more clicks must lie inside too", unit="mm RAS", min_length=1
    )
    background_seeds: list[PointRAS] = Field([], description="Clicks beside the lesion, where it has run out", unit="mm RAS")
    largest_mm: Number = Field(90.0, description="Largest diameter of a lesion that is looked for", unit="mm", gt=0, le=300)
    stiffness: Number = Field(
        1.0, description="How round the lesion is taken to be; below 1 follows bumps, above 1 is rounder", gt=0, le=100
    )
    modality: Literal["auto", "CT", "MR", "PT"] = Field(
        "auto", description="What was scanned; auto: what the scan says; PT: lesions are hot"
    )
    label: str = Field("lesion", description="Name of the segment", min_length=1)


@method("click-lesion", stage=Stage.SEGMENT, reference="doi:10.1109/TPAMI.2006.19; doi:10.1109/TPAMI.2006.200; doi:10.1109/83.701170")
def click_lesion(volume: Volume, params: ClickLesionParams) -> LabelMap:
    """Segment the lesion under a click.

    From the click, 162 rays are read in mm (unequal spacing, oblique and sheared grids are honoured). For eight sizes the
    optimal closed surface is drawn: one radius a ray, by edges, by what the inside and each ray's surroundings look like
    (learnt anew in every round) and by smoothness. The surface with the best edge and contrast, an even inside and the click
    near its middle is kept; voxels near it go to the side they look like. A lesion that is no such body is grown level by level
    to where its border is steepest, if that stands out more. Voxels that are not finite are outside. The finding CLICK_LESION
    tells volume and size, LESION_EDGE_WEAK that the border is a guess, CLICK_NOT_FOLLOWED that a click is on the wrong side.
    Raises ParameterError for a click outside the scan, InputError where the scan is not finite or has no border.

    >>> from medseg.core.geometry import Geometry
    >>> k, j, i = np.indices((30, 30, 30))
    >>> ball = ((k - 15) ** 2 + (j - 15) ** 2 + (i - 15) ** 2 <= 36) * 100.0
    >>> scan = Volume(ball, Geometry((30, 30, 30), np.eye(4)), "CT", "HU")
    >>> found = click_lesion(scan, ClickLesionParams(seeds=[(14, 16, 15)]))
    >>> round(float(found.array.sum() / (ball > 0).sum()), 1)
    1.0
    """
    inside = seed_indices(volume.geometry, params.seeds, "click-lesion")
    outside = seed_indices(volume.geometry, params.background_seeds, "click-lesion", "background_seeds")
    if not np.isfinite(volume.array[tuple(inside.T)].astype(np.float64)).all():
        raise InputError("click-lesion: the scan holds NaN or infinity under a click; move the click to a voxel with an intensity")
    kind = volume.modality if params.modality == "auto" else params.modality
    surface, found = find_lesion(volume, params, kind, RULES.get(kind, Rules()))
    mask = np.zeros(volume.array.T.shape, np.uint8)
    mask[found.slices] = found.mask
    findings = _findings(volume, surface, found, mask, (inside, outside))
    return label_map_on(volume, mask, [Segment(1, params.label, algorithm="click-lesion")], findings)


def find_lesion(volume: Volume, params: ClickLesionParams, kind: str, rules: Rules) -> tuple[Candidate, Found]:
    """Return the surface that stands out most around the clicks, and the voxels of the lesion; clicks must lie in the scan."""
    clicks = Clicks(np.array(params.seeds, np.float64), np.array(params.background_seeds, np.float64).reshape(-1, 3))
    i, j, k = (int(n) for n in seed_indices(volume.geometry, params.seeds[:1], "click-lesion")[0])
    scan = click_scan(volume, clicks.inside.mean(axis=0), params.largest_mm, kind)
    surface = best_candidate(scan, clicks, rules, params.stiffness)
    found = refined(scan, surface, (i, j, k), rules)
    if surface.edge * surface.contrast < WEAK_EDGE:
        found = grown_region(scan, found, (i, j, k), rules.polarity)
    return surface, found


def _findings(
    volume: Volume,
    surface: Candidate,
    found: Found,
    mask: npt.NDArray[np.uint8],
    clicks: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
) -> list[Finding]:
    volume_ml = int(found.mask.sum()) * volume.geometry.voxel_volume_mm3 / 1000
    size_mm = 2 * (volume_ml * 1000 * 0.75 / np.pi) ** (1 / 3)
    strength = surface.edge * surface.contrast
    details: dict[str, Any] = {
        "volume_ml": volume_ml,
        "diameter_mm": size_mm,
        "edge": strength,
        "from": "levels" if found.grown else "surface",
    }
    findings = [
        Finding("CLICK_LESION", Severity.INFO, f"a lesion of {volume_ml:.3g} ml ({size_mm:.3g} mm across) lies under the click", details)
    ]
    if strength < WEAK_EDGE and not found.grown:
        message = f"the border of the lesion stands out little (edge {strength:.2f} of 1): parts of it are a smooth guess"
        findings.append(Finding("LESION_EDGE_WEAK", Severity.WARNING, message, {"edge": strength, "weak_share": surface.weak}))
    wrong = [index for points, side in zip(clicks, (1, 0), strict=True) for index in points if mask[tuple(index[::-1])] != side]
    for index in wrong:
        place = ", ".join(f"{value:.1f}" for value in volume.geometry.index_to_world(index))
        message = f"the click at ({place}) mm RAS lies on the wrong side of the border that was found"
        findings.append(Finding("CLICK_NOT_FOLLOWED", Severity.WARNING, message, {"index": index.tolist()}))
    return findings
