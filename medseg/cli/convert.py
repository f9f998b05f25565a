"""`medseg convert`: any readable form to another."""

from __future__ import annotations

from pathlib import Path

import click

from medseg.cli.terminal import Terminal, overwrite_option, series_option, speaking, volume_option

_LABEL_MAP_SUFFIXES = (".seg.nrrd", ".dcm")


@click.command()
@click.argument("input", type=click.Path())
@click.argument("output", type=click.Path())
@click.option("--label-map", is_flag=True, help="Treat the input as a segmentation (told by itself for .seg.nrrd and DICOM SEG).")
@click.option("--like", type=click.Path(), help="Put the result on the grid of this scan.")
@click.option("--source", type=click.Path(), help="The DICOM series a DICOM SEG belongs to.")
@series_option
@volume_option
@overwrite_option
@speaking
def convert(
    input: str,
    output: str,
    label_map: bool,
    like: str | None,
    source: str | None,
    series: str | None,
    volume_index: int | None,
    overwrite: bool,
    terminal: Terminal,
) -> None:
    """Write INPUT (a file or a DICOM folder) as OUTPUT: .nii.gz .nii .nrrd .mha, and for segmentations .seg.nrrd and DICOM SEG .dcm."""
    from medseg.core.label_map import LabelMap
    from medseg.core.volume import Volume
    from medseg.io.read import holds_label_map, read, read_label_map
    from medseg.io.write import write
    from medseg.preprocessing.resample import resample_label_map, resample_volume

    value: Volume | LabelMap
    if label_map or output.lower().endswith(_LABEL_MAP_SUFFIXES) or holds_label_map(Path(input)):
        value = read_label_map(input)
    else:
        value = read(input, series=series, volume_index=volume_index)
    if like:
        grid = read(like, series=series).geometry
        value = resample_label_map(value, grid) if isinstance(value, LabelMap) else resample_volume(value, grid)
    of = read(source, series=series) if source else None
    path = write(value, output, source=of, overwrite=overwrite)
    terminal.findings(value.findings)
    terminal.show(f"wrote {path}")
    terminal.document(
        {
            "schema": "medseg.convert/1",
            "output": str(path),
            "kind": "label_map" if isinstance(value, LabelMap) else "volume",
            **value.geometry.to_dict(),
            "findings": [finding.to_dict() for finding in value.findings],
        }
    )
