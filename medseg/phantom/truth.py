"""What is known about an anatomy: volumes by formula, centroids and diameters, as a JSON document."""

from __future__ import annotations

from typing import Any

import numpy as np

from medseg.core.geometry import Geometry
from medseg.phantom.anatomy import Anatomy, Structure
from medseg.phantom.sections import in_plane_diameters
from medseg.phantom.solids import Kind, maximum_diameter_mm

SCHEMA = "medseg.truth/1"


def truth(anatomy: Anatomy, geometry: Geometry | None = None) -> dict[str, Any]:
    """Return the known answers of an anatomy, and of a scan of it where its grid is given.

    Per segment: `volume_ml` by `volume_formula`, `centroid_ras_mm`, `maximum_diameter_mm` (largest distance between two
    points of the surface; `maximum_diameter_method` is "2·max(a,b,c)", exact, or "search over the surface", to 1e-6 mm).
    A lesion, or a solid alone, also has `in_plane` for the grid: its longest diameter on a slice and the longest at right
    angles to it there (`medseg.phantom.sections`). An organ with a lesion cut out of it also has `volume_with_lesions_ml`. A
    segment that no field of view holds wholly has the status "cut_by_field_of_view" and null for its numbers.
    """
    segments = [_segment(anatomy, segment.number, segment.label, geometry) for segment in anatomy.segments]
    return {"schema": SCHEMA, "name": anatomy.name, "seed": anatomy.seed, "segments": segments}


def _segment(anatomy: Anatomy, number: int, label: str, geometry: Geometry | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"number": number, "label": label}
    if label not in anatomy or anatomy[label].solid.kind is not Kind.CLOSED:
        reason = f"{label} runs on beyond every field of view"
        nothing = dict.fromkeys(("volume_ml", "volume_formula", "centroid_ras_mm", "maximum_diameter_mm"))
        return entry | {"status": "cut_by_field_of_view", "reason": reason} | nothing
    organ, lesions = anatomy[label], anatomy.lesions_of(label)
    whole = organ.solid.volume_mm3
    volume = whole - sum(lesion.solid.volume_mm3 for lesion in lesions)
    moment = whole * np.asarray(organ.solid.centroid_mm)
    for lesion in lesions:
        moment -= lesion.solid.volume_mm3 * np.asarray(lesion.solid.centroid_mm)
    entry |= {"status": "measured", "hu": organ.hu, "volume_ml": volume / 1000, "volume_formula": _formula(organ, lesions)}
    if lesions:
        entry["volume_with_lesions_ml"] = whole / 1000
    if geometry is not None and (organ.within is not None or len(anatomy.segments) == 1):
        entry["in_plane"] = in_plane_diameters(organ.solid, geometry)
    return entry | {
        "centroid_ras_mm": (moment / volume).tolist(),
        "maximum_diameter_mm": maximum_diameter_mm(organ.solid),
        "maximum_diameter_method": "2·max(a,b,c)" if organ.solid.is_ellipsoid else "search over the surface",
    }


def _formula(organ: Structure, lesions: tuple[Structure, ...]) -> str:
    return " - ".join([organ.solid.volume_formula, *(f"({lesion.name}: {lesion.solid.volume_formula})" for lesion in lesions)])
