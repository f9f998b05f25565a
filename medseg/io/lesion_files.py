"""What `medseg lesions` works on: a segmentation, its scan and a segmentation of organs, all on one grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medseg.core.errors import GeometryError, InputError, UnsupportedFormatError
from medseg.core.finding import Finding
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.io.measure_options import MeasureOptions
from medseg.io.measured import measure_file
from medseg.io.options import ReadOptions
from medseg.io.read import read_layers, read_with
from medseg.preprocessing.resample import fit_to, resample_label_map


@dataclass(frozen=True, eq=False)
class LesionScan:
    """The layers of a segmentation, the scan and the layers of the organs on one grid, and what was found on the way."""

    layers: tuple[LabelMap, ...]
    volume: Volume | None
    organs: tuple[LabelMap, ...]
    findings: tuple[Finding, ...]


def read_lesion_scan(
    segmentation: str | Path,
    image: str | Path | None = None,
    reading: ReadOptions | None = None,
    *,
    organs: str | Path | None = None,
    resample_mask: bool = False,
) -> LesionScan:
    """Read a segmentation with its scan, as `measure_file` does, and the organs onto the same grid.

    A segmentation or organs on another grid raise GeometryMismatchError, unless `resample_mask` brings them onto that of the
    scan. Of slices at uneven distances those are used that the scan is read on (finding NATIVE_SLICES is then left out); a
    mask that fits none of these raises InputError. Raises what reading raises.
    """
    path, reading = Path(segmentation), reading or ReadOptions()
    done = measure_file(path, image, reading, MeasureOptions(resample_mask=resample_mask))
    layers, volume, findings = done.layers, done.volume, done.findings
    if layers is None:
        layers, volume = _on_even_grid(path, image, reading)
        kept = [finding for finding in findings if finding.code != "NATIVE_SLICES"]
        findings = tuple({(finding.code, finding.message): finding for finding in (*kept, *volume.findings)}.values())
    geometry = layers[0].geometry if volume is None else volume.geometry
    return LesionScan(layers, volume, () if organs is None else _organs(Path(organs), geometry, resample_mask), findings)


def _on_even_grid(path: Path, image: str | Path | None, reading: ReadOptions) -> tuple[tuple[LabelMap, ...], Volume]:
    """Read a segmentation of uneven slices on the even grid that its scan is read on."""
    try:
        if image is not None:
            volume = read_with(image, reading)
            return tuple(fit_to(layer, volume.geometry) for layer in read_layers(path, geometry=volume.geometry)), volume
        reason = "give the scan with --image"
    except (GeometryError, UnsupportedFormatError):
        reason = "bring scan and mask onto an even grid first (medseg convert)"
    raise InputError(f"{path.name} was drawn on slices at uneven distances, across which a diameter cannot be taken: {reason}")


def _organs(path: Path, geometry: Geometry, resample_mask: bool) -> tuple[LabelMap, ...]:
    layers = read_layers(path, geometry=geometry)
    return tuple(resample_label_map(layer, geometry) if resample_mask else fit_to(layer, geometry) for layer in layers)
