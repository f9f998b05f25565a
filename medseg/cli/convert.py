"""`medseg convert`: any readable form to another."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg.cli.output_checks import refuse_inputs
from medseg.cli.reading import reading as reading_options
from medseg.cli.terminal import Terminal, overwrite_option, speaking

if TYPE_CHECKING:
    from medseg.core.finding import Finding
    from medseg.core.label_map import LabelMap
    from medseg.core.volume import Volume
    from medseg.io.options import ReadOptions

_LABEL_MAP_SUFFIXES = (".seg.nrrd", ".dcm", ".stl", ".obj", ".ply", ".vtp", ".glb")
_RTSTRUCT = "rtstruct"


@click.command()
@click.argument("input", type=click.Path())
@click.argument("output", type=click.Path())
@click.option("--label-map", is_flag=True, help="Treat the input as a segmentation (told by itself for .seg.nrrd, DICOM SEG, RTSTRUCT).")
@click.option("--like", type=click.Path(), help="Put the result on the grid of this scan; contours are filled on it.")
@click.option("--source", type=click.Path(), help="The DICOM series that a DICOM SEG or RTSTRUCT belongs to.")
@click.option("--as", "form", type=click.Choice(["seg", _RTSTRUCT]), help="What a .dcm holds: voxels (seg, the default) or contours.")
@click.option("--segment", "segments", multiple=True, metavar="NAME", help="Surfaces of these segments only; repeatable.")
@click.option(
    "--smoothing", type=click.IntRange(0), default=16, show_default=True, help="Steps of smoothing of surfaces (volumes are kept)."
)
@reading_options(takes_all="writes each as NAME_0000, NAME_0001 …")
@overwrite_option
@speaking
def convert(
    input: str,
    output: str,
    label_map: bool,
    like: str | None,
    source: str | None,
    form: str | None,
    segments: tuple[str, ...],
    smoothing: int,
    reading: ReadOptions,
    every_volume: bool,
    overwrite: bool,
    terminal: Terminal,
) -> None:
    """Write INPUT (a file or a DICOM folder) as OUTPUT: .nii.gz .nii .nrrd .mha; segmentations also as .seg.nrrd, .dcm and surfaces.

    Surfaces are .stl .obj .ply .vtp .glb; {label} or {number} in the name gives one file a segment, as in "{label}.stl".

    A segmentation written as .dcm is a DICOM SEG, or with --as rtstruct (or the suffix .rtstruct.dcm) contours; both need
    --source. Overlapping segments go into .seg.nrrd, DICOM SEG and RTSTRUCT. --volume all writes every volume of 4D data.
    """
    from medseg.io.read import holds_label_map, read_with
    from medseg.io.surface import SURFACE_SUFFIXES, write_surfaces

    refuse_inputs(output, {"what is converted": [input], "--like": [like] if like else [], "--source": [source] if source else []})
    of = read_with(source, reading) if source else None
    grid = read_with(like, reading) if like else None
    if label_map or output.lower().endswith(_LABEL_MAP_SUFFIXES) or holds_label_map(Path(input)):
        layers = _segments(input, grid, of)
        if Path(output).suffix.lower() in SURFACE_SUFFIXES:
            path = write_surfaces(layers, output, segments=segments or None, smoothing=smoothing, overwrite=overwrite)
        else:
            path = _write_segments(layers, output, of, form, overwrite)
        done: dict[str, Any] = {"kind": "label_map", "layers": len(layers)}
        _report(terminal, layers, [path], done, reading)
        return
    volumes = _scans(input, reading, every_volume, grid)
    paths = _write_scans(volumes, output, every_volume, overwrite)
    _report(terminal, volumes, paths, {"kind": "volume"}, reading)


def _segments(input: str, grid: Volume | None, source: Volume | None) -> tuple[LabelMap, ...]:
    """Read the layers of a segmentation, on the grid of `grid` where given; contours on that of the source otherwise."""
    from medseg.io.dicom_objects import is_contours
    from medseg.io.read import read_layers
    from medseg.preprocessing.resample import resample_label_map

    if is_contours(input):
        on = grid or source
        return read_layers(input, geometry=on.geometry if on is not None else None)
    layers = read_layers(input)
    return layers if grid is None else tuple(resample_label_map(layer, grid.geometry) for layer in layers)


def _write_segments(layers: tuple[LabelMap, ...], output: str, source: Volume | None, form: str | None, overwrite: bool) -> Path:
    from medseg.core.errors import UnsupportedFormatError
    from medseg.io.write import write

    if form == _RTSTRUCT and not output.lower().endswith(".rtstruct.dcm"):
        if not output.lower().endswith(".dcm"):
            raise UnsupportedFormatError(f"{output}: contours (--as rtstruct) are written as .dcm")
        if source is None:
            raise UnsupportedFormatError(f"{output}: contours belong to a DICOM scan: give its series with --source")
        from medseg.io.dicom.rtstruct import write_rtstruct

        write_rtstruct(layers, Path(output), source, overwrite=overwrite)
        return Path(output)
    return write(layers if len(layers) > 1 else layers[0], output, source=source, overwrite=overwrite)


def _scans(input: str, reading: ReadOptions, every_volume: bool, grid: Volume | None) -> list[Volume]:
    from medseg.io.read import read_volumes, read_with
    from medseg.preprocessing.resample import resample_volume

    volumes = read_volumes(input, reading) if every_volume else [read_with(input, reading)]
    return volumes if grid is None else [resample_volume(volume, grid.geometry) for volume in volumes]


def _write_scans(volumes: list[Volume], output: str, every_volume: bool, overwrite: bool) -> list[Path]:
    from medseg.io.write import check_output, write

    paths = numbered(output, len(volumes)) if every_volume else [Path(output)]
    for path in paths:  # nothing is written where one of many could not be
        check_output(path, label_map=False, overwrite=overwrite)
    return [write(volume, path, overwrite=overwrite) for volume, path in zip(volumes, paths, strict=True)]


def numbered(output: str, count: int) -> list[Path]:
    """Return the names of several outputs: the number stands before the suffix.

    >>> [path.name for path in numbered("out/bold.nii.gz", 2)]
    ['bold_0000.nii.gz', 'bold_0001.nii.gz']
    """
    from medseg.io.write import SUFFIXES

    path = Path(output)
    suffix = next((ending for ending in SUFFIXES if path.name.lower().endswith(ending)), path.suffix)
    stem = path.name[: len(path.name) - len(suffix)]
    return [path.with_name(f"{stem}_{n:04d}{path.name[len(stem) :]}") for n in range(count)]


def _report(terminal: Terminal, values: Iterable[Volume | LabelMap], paths: list[Path], done: dict[str, Any], reading: ReadOptions) -> None:
    from medseg.io.report import choices_of

    values = list(values)
    findings: dict[str, Finding] = {finding.message: finding for value in values for finding in value.findings}
    terminal.findings(findings.values())
    for path in paths:
        terminal.show(f"wrote {path}")
    terminal.document(
        {
            "schema": "medseg.convert/1",
            "output": str(paths[0]),
            "outputs": [str(path) for path in paths],
            **done,
            **values[0].geometry.to_dict(),
            "reading": choices_of(reading),
            "findings": [finding.to_dict() for finding in findings.values()],
        }
    )
