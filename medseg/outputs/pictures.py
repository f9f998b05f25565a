"""Which pictures a report shows, drawn from the scan and its segments."""

from __future__ import annotations

from collections.abc import Sequence

from medseg.core.label_map import LabelMap
from medseg.core.measurement import MeasurementTable
from medseg.core.volume import Volume
from medseg.reporting.html import Picture

_FULL_STRIPS = 24  # beyond, strips are half as wide and without surfaces: a hundred segments stay a minute and a few MB


def draw_pictures(volume: Volume | None, layers: Sequence[LabelMap], table: MeasurementTable) -> tuple[Picture, ...]:
    """Return the pictures of a report: overview, surfaces, slices, and a strip for every segment that has voxels.

    Segments that share voxels come in several `layers`; the overview shows the layer with most of them. Without a scan
    there are surfaces and outlines only. Raises MissingDependencyError without the extra `report`.
    """
    from medseg.reporting.rendering import render_3d_png

    main = max(layers, key=lambda layer: len(layer.segments))
    found = []
    if volume is not None:
        found += _with_scan(volume, main, table)
    surfaces = Picture("rendering_3d", "Surfaces of the segments, seen from the front", render_3d_png(main, table=table))
    found.insert(1 if found else 0, surfaces)
    return (*found, *draw_strips(volume, layers))


def _with_scan(volume: Volume, main: LabelMap, table: MeasurementTable) -> list[Picture]:
    from medseg.reporting.figures import axial_montage_png, segment_gallery_png, three_planes_png

    planes = three_planes_png(volume, main, table=table)
    slices = axial_montage_png(volume, main)
    gallery = segment_gallery_png(volume, main, table=table)
    return [
        Picture("three_planes", "Axial, coronal and sagittal plane with the outlines of the segments", planes),
        Picture("axial_slices", "Axial slices from superior to inferior", slices),
        Picture("segments", "Each segment where it is largest", gallery),
    ]


def draw_strips(volume: Volume | None, layers: Sequence[LabelMap]) -> tuple[Picture, ...]:
    """Return one strip (three planes and the surface) for every segment that has voxels, in the order of their numbers."""
    from medseg.reporting.places import find_places
    from medseg.reporting.segment_planes import segment_planes_png

    placed = [(place, layer) for layer in layers for place in find_places(layer)]
    placed.sort(key=lambda pair: pair[0].segment.number)
    full = len(placed) <= _FULL_STRIPS
    return tuple(
        Picture(
            f"segment_{place.segment.number}",
            f"{place.segment.label} where it is largest in each plane" + (", and its surface" if full else ""),
            segment_planes_png(volume, layer, place, surface=full, width=1240 if full else 640),
            segment=place.segment.label,
        )
        for place, layer in placed
    )
