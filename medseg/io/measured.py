"""A segmentation file measured, against its scan where one is given: on the grid, or on the slices as they were scanned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.core.errors import GeometryError, GeometryMismatchError, MedsegError, UnsupportedFormatError
from medseg.core.finding import Finding, Severity, errors_in
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.measurement import MeasurementTable
from medseg.core.native_slices import NativeSlices
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.io.dicom_objects import frames_left_out, is_contours
from medseg.io.measure_options import MeasureOptions, read_probabilities, read_replicates
from medseg.io.options import ReadOptions
from medseg.io.read import find_reader, read_layers, read_with
from medseg.measurement.measure import measure
from medseg.measurement.measured_rows import chosen_rows, volume_findings, with_features
from medseg.measurement.native import ScannedSlices, measure_native
from medseg.preprocessing.resample import fit_to, resample_label_map

if TYPE_CHECKING:
    from medseg.io.dicom.volume import NativeStack


@dataclass(frozen=True, eq=False)
class Measured:
    """The measurements of a segmentation file, its segments, what was found on the way, and what they were measured on.

    `layers` and `volume` are None where the segmentation was measured on slices at uneven distances.
    """

    table: MeasurementTable
    segments: tuple[Segment, ...]
    findings: tuple[Finding, ...]
    layers: tuple[LabelMap, ...] | None = None
    volume: Volume | None = None


def measure_file(
    segmentation: str | Path,
    image: str | Path | None = None,
    reading: ReadOptions | None = None,
    options: MeasureOptions | None = None,
) -> Measured:
    """Measure every segment of a file, overlapping ones each in its own layer.

    Where the scan is a DICOM stack with missing slices or uneven distances, and the segmentation was drawn on its slices,
    volumes are the sum of area × slice width (finding NATIVE_SLICES). A segmentation on another grid raises
    GeometryMismatchError, unless `options.resample_mask` brings it onto that of the scan (finding MASK_RESAMPLED with the
    volumes before and after). A segment that `options.segments` names and the file lacks is `not_attempted`. Raises what
    reading and `measure` raise.
    """
    path, reading, options = Path(segmentation), reading or ReadOptions(), options or MeasureOptions()
    if image is not None:
        native = _on_native_slices(path, Path(image), reading, options.percentiles)
        if native is not None:
            return _finished(native, options)
    volume = read_with(image, reading) if image is not None else None
    try:
        layers = read_layers(path, geometry=_contour_grid(path, volume))
    except (GeometryError, UnsupportedFormatError) as err:
        lonely = _native_seg(path) if volume is None else None
        if lonely is None:
            raise
        return _finished(_measured_alone(lonely, err), options)
    done = measure_layers(layers, volume, options)
    return done if volume is not None else replace(done, findings=(*done.findings, *frames_left_out(path)))


def measure_layers(layers: tuple[LabelMap, ...], volume: Volume | None, options: MeasureOptions) -> Measured:
    """Measure segments that are in memory, on the grid of the scan, as `measure_file` does those of a file."""
    return _finished(_on_grid(layers, volume, options), options)


def _finished(done: Measured, options: MeasureOptions) -> Measured:
    """Keep the segments that were asked for, and say which volumes are to be taken with care."""
    table = chosen_rows(done.table, options.segments) if options.segments else done.table
    findings = [*done.findings, *volume_findings(table)]
    if options.features and done.layers is None:
        text = (
            "shape and intensity features need an even grid: on slices at uneven distances only volumes and plain intensities are measured"
        )
        findings.append(Finding("FEATURES_LEFT_OUT", Severity.WARNING, text))
    return replace(done, table=table, findings=tuple(findings))


def _contour_grid(path: Path, volume: Volume | None) -> Geometry | None:
    """Return the grid that contours are filled on; any other segmentation brings its own."""
    return volume.geometry if volume is not None and is_contours(path) else None


def _fitted(layer: LabelMap, geometry: Geometry, resample_mask: bool) -> LabelMap:
    """Return a layer on the grid of the scan; resampled only where that was asked for and is needed."""
    try:
        return fit_to(layer, geometry)
    except GeometryMismatchError:
        if not resample_mask:
            raise
    moved = resample_label_map(layer, geometry)
    volumes = [
        {"label": before.label, "before_ml": before.measurements["volume"].value, "after_ml": after.measurements["volume"].value}
        for before, after in zip(measure(layer), measure(moved), strict=True)
    ]
    listed = ", ".join(f"{one['label']} {one['before_ml']:.2f} → {one['after_ml']:.2f} ml" for one in volumes[:4])
    text = f"the segmentation lay on another grid and was brought onto that of the scan (nearest neighbour): {listed}"
    finding = Finding("MASK_RESAMPLED", Severity.WARNING, text, {"volumes": volumes})
    return replace(moved, findings=(*moved.findings, finding))


def _on_grid(layers: tuple[LabelMap, ...], volume: Volume | None, options: MeasureOptions) -> Measured:
    if volume is not None:
        layers = tuple(_fitted(layer, volume.geometry, options.resample_mask) for layer in layers)
    replicates = read_replicates(options)
    tables = []
    for layer in layers:
        soft = read_probabilities(layer, options)
        table = measure(layer, volume, percentiles=options.percentiles, probabilities=soft, replicates=replicates)
        tables.append(with_features(table, layer, volume, options.features, bin_width=options.bin_width))
    findings = [*(finding for layer in layers for finding in layer.findings), *(volume.findings if volume else ())]
    if len(layers) > 1:
        text = f"segments share voxels: each was measured in its own of {len(layers)} layers, so volumes must not be added up"
        findings.append(Finding("OVERLAPPING_SEGMENTS", Severity.INFO, text, {"layers": len(layers)}))
    if not any(layer.segments for layer in layers):
        text = "the segmentation holds no segment: every voxel is background, so there is nothing to measure"
        findings.append(Finding("NO_SEGMENTS", Severity.WARNING, text))
    return Measured(_joined(tables), _segments(layers), _once(findings), layers, volume)


def _joined(tables: Sequence[MeasurementTable]) -> MeasurementTable:
    return replace(tables[0], rows=tuple(sorted((row for table in tables for row in table), key=lambda row: row.number)))


def _segments(layers: Sequence[Any]) -> tuple[Segment, ...]:
    return tuple(sorted((segment for layer in layers for segment in layer.segments), key=lambda segment: segment.number))


def _once(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Layers of one file, and the files of one scan, repeat what they have in common."""
    return tuple({(finding.code, finding.message): finding for finding in findings}.values())


def _on_native_slices(path: Path, image: Path, reading: ReadOptions, percentiles: Sequence[float]) -> Measured | None:
    """Measure on the scanned slices where they lie unevenly and the segmentation was drawn on them; None otherwise."""
    if find_reader(image) is not None:
        return None
    from medseg.io.dicom.volume import native_stack
    from medseg.io.native import native_labels

    try:
        stack = native_stack(image, reading)
    except MedsegError:
        return None  # reading the scan says what is wrong with it
    if stack.is_even or errors_in(stack.findings):
        return None
    drawn = native_labels(path, stack)
    if drawn is None:
        return None
    scanned = _scanned(stack)
    parts = [NativeSlices(part.labels, part.segments, stack.positions_mm, stack.pixel_area_mm2) for part in drawn]
    tables = [measure_native(part, scanned, percentiles=percentiles) for part in parts]
    found = (*stack.findings, *scanned.volume.findings, _native_finding(len(stack.positions_mm)))
    return Measured(_joined(tables), _segments(parts), _once(found))


def _scanned(stack: NativeStack) -> ScannedSlices:
    from medseg.io.dicom.pixels import read_pixels
    from medseg.io.dicom.volume import _unit

    array, padding = read_pixels(stack.slices)
    affine = stack.plane.copy()
    affine[:3, 2] = (stack.origins_mm[-1] - stack.origins_mm[0]) / (len(stack.slices) - 1)
    first = stack.slices[0]
    geometry = Geometry((first.columns, first.rows, len(stack.slices)), affine)
    return ScannedSlices(Volume(array.T, geometry, first.modality, _unit(first), findings=padding), stack.origins_mm)


def _native_finding(count: int) -> Finding:
    text = (
        f"the segmentation was drawn on the {count} scanned slices, which lie at uneven distances: its volumes are the sum of"
        " area × slice width on the true positions"
    )
    return Finding("NATIVE_SLICES", Severity.INFO, text, {"slices": count})


def _native_seg(path: Path) -> NativeSlices | None:
    """Return a DICOM SEG slice by slice; None for what is none or cannot be read so."""
    from medseg.io.dicom.seg_read import is_seg, read_native_slices

    try:
        return read_native_slices(path) if find_reader(path) is None and is_seg(path) else None
    except MedsegError:
        return None


def _measured_alone(native: NativeSlices, why: MedsegError) -> Measured:
    """Measure a SEG that no even grid holds by its own frames; empty slices that it leaves out are not known."""
    text = (
        f"the segmentation lies on {len(native.positions_mm)} slices at uneven distances ({why}): its volumes are the sum of area × width"
        " of the slices it has. Give the scan with --image, whose slices say how wide each is"
    )
    finding = Finding("NATIVE_SLICES", Severity.WARNING, text, {"slices": len(native.positions_mm)})
    return Measured(measure_native(native), native.segments, (finding,))
