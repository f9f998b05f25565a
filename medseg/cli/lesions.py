"""`medseg lesions`: one row a lesion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medseg.cli.reading import reading as reading_options
from medseg.cli.terminal import Terminal, overwrite_option, speaking

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.core.finding import Finding
    from medseg.core.label_map import LabelMap
    from medseg.core.segment import Segment
    from medseg.core.volume import Volume
    from medseg.io.options import ReadOptions
    from medseg.measurement.lesions import LesionTable


@click.command()
@click.argument("segmentation", type=click.Path())
@click.option("--image", type=click.Path(), help="The scan: for pictures, the slices' UIDs and intensities. An RTSTRUCT needs it.")
@click.option("--organs", type=click.Path(), help="A segmentation of organs on the same grid; default: the other segments of SEGMENTATION.")
@click.option("-o", "--output", type=click.Path(), help="Folder for lesions.csv, lesions.json, the lesions' masks and pictures/.")
@click.option("--segment", "segments", multiple=True, help="Only this segment (name or number) holds lesions; repeatable.")
@click.option("--node", "nodes", multiple=True, help="This segment holds lymph nodes: measurable by the short axis; repeatable.")
@click.option(
    "--plane",
    type=click.Choice(["acquired", "axial", "coronal", "sagittal"]),
    default="acquired",
    show_default=True,
    help="The slices in which diameters are taken.",
)
@click.option("--connectivity", type=click.Choice(["6", "18", "26"]), default="26", show_default=True, help="Which voxels touch.")
@click.option("--whole", is_flag=True, help="Each segment is one lesion, in however many parts.")
@click.option("--at-least", "keep_at_least_mm3", type=click.FloatRange(min=0), default=0.0, help="Leave out parts of less mm³.")
@click.option(
    "--pictures", "most_pictures", type=click.IntRange(min=0), default=100, show_default=True, help="Draw at most so many lesions."
)
@click.option("--resample-mask", is_flag=True, help="Bring a segmentation from another grid onto that of the scan (nearest neighbour).")
@reading_options()
@overwrite_option
@speaking
def lesions(
    segmentation: str,
    image: str | None,
    organs: str | None,
    output: str | None,
    segments: tuple[str, ...],
    nodes: tuple[str, ...],
    plane: str,
    connectivity: str,
    whole: bool,
    keep_at_least_mm3: float,
    most_pictures: int,
    resample_mask: bool,
    reading: ReadOptions,
    overwrite: bool,
    terminal: Terminal,
) -> None:
    """Measure every lesion of SEGMENTATION: volume, RECIST and WHO diameters with end points, slice, organ, measurable or why not.

    A lesion is a connected part of a segment. Without --segment these are the segments whose name or type says lesion, or
    all where none does. Diameters lie in the acquired slices, within half a voxel of the truth of a smooth lesion.
    """
    from medseg.io.lesion_files import read_lesion_scan
    from medseg.io.report import choices_of
    from medseg.measurement.lesions import lesions as measure_lesions
    from medseg.reporting.lesion_table import rich_lesions

    if output:
        _check(Path(output), overwrite)
    scan = read_lesion_scan(segmentation, image, reading, organs=organs, resample_mask=resample_mask)
    chosen, others, notes = chosen_segments(scan.layers, segments, nodes)
    table = measure_lesions(
        scan.layers,
        scan.volume,
        segments=chosen,
        organs=scan.organs or others or None,
        connectivity=None if whole else int(connectivity),  # type: ignore[arg-type]
        keep_at_least_mm3=keep_at_least_mm3,
        plane=plane,  # type: ignore[arg-type]
        nodes=nodes,
    )
    findings = [*scan.findings, *notes, *table.findings]
    if output:
        findings += _write_masks_and_pictures(table, scan.volume, Path(output), most_pictures, overwrite)
    document = table.to_dict() | {"findings": [finding.to_dict() for finding in findings], "reading": choices_of(reading)}
    if output:
        _write_tables(table, document, Path(output), overwrite)
    terminal.findings(findings)
    terminal.show(rich_lesions(table))
    terminal.document(document)


def chosen_segments(
    layers: Sequence[LabelMap], names: Sequence[str], nodes: Sequence[str]
) -> tuple[list[str | int], list[LabelMap], list[Finding]]:
    """Return the numbers of the segments that hold lesions, the other segments as organs, and what was decided."""
    from medseg.core.finding import Finding, Severity
    from medseg.core.layers import segments_of
    from medseg.measurement.lesion_organs import without_segments
    from medseg.measurement.measurable import is_lymph_node
    from medseg.reporting.places import is_lesion

    known = segments_of(layers)
    if names:
        numbers = {int(name) for name in (*names, *nodes) if name.isdecimal()}
        return [*names, *nodes], without_segments(layers, {*names, *nodes}, numbers), []
    found = [s for s in known if is_lesion(s) or is_lymph_node(s) or {s.label, str(s.number)} & set(nodes)]
    if not found or len(found) == len(known):
        return [segment.number for segment in known], [], [] if found or len(known) < 2 else [_unnamed(known)]
    left = [segment.label for segment in known if segment not in found]
    text = f"lesions are the parts of {_listed([s.label for s in found])}; taken as organs: {_listed(left)}. Choose with --segment"
    finding = Finding("LESION_SEGMENTS_CHOSEN", Severity.INFO, text, {"lesions": [s.label for s in found], "organs": left})
    return [segment.number for segment in found], without_segments(layers, (), {segment.number for segment in found}), [finding]


def _unnamed(known: Sequence[Segment]) -> Finding:
    from medseg.core.finding import Finding, Severity

    text = f"no segment is named or coded as a lesion: the parts of all {len(known)} are listed. Choose with --segment"
    return Finding("LESION_SEGMENTS_UNNAMED", Severity.INFO, text, {"segments": len(known)})


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


_FILES = ("lesions.csv", "lesions.json")


def _check(folder: Path, overwrite: bool) -> None:
    """Raise before anything is computed what writing would raise afterwards."""
    from medseg.core.errors import OutputExistsError
    from medseg.io.atomic import check_writable

    there = [name for name in _FILES if (folder / name).exists()]
    if there and not overwrite:
        raise OutputExistsError(f"{folder.name} holds {there[0]} already: choose another folder or give --overwrite")
    check_writable(folder)


def _write_masks_and_pictures(table: LesionTable, volume: Volume | None, folder: Path, most: int, overwrite: bool) -> list[Finding]:
    """Write the masks of the lesions and a picture of each; return what was left out."""
    from medseg.io.atomic import check_folder
    from medseg.io.write import write

    check_folder(folder)
    _forget(folder)
    if table.lesions:
        several = len(table.layers) > 1
        masks = folder / ("lesions.seg.nrrd" if several else "lesions.nii.gz")
        write(table.layers if several else table.layers[0], masks, overwrite=overwrite)
    return _draw(table, volume, folder, most, overwrite)


def _write_tables(table: LesionTable, document: dict[str, Any], folder: Path, overwrite: bool) -> None:
    """Written last: their presence says that the folder is complete."""
    import json

    from medseg.io.atomic import write_text
    from medseg.reporting.lesion_table import lesions_csv

    write_text(folder / "lesions.csv", lesions_csv(table), overwrite=overwrite)
    write_text(folder / "lesions.json", json.dumps(document, indent=2, allow_nan=False) + "\n", overwrite=overwrite)


def _forget(folder: Path) -> None:
    """Remove the pictures and masks of the run that is replaced: one of a lesion that is gone would be taken for a new one."""
    import json

    try:
        earlier = json.loads((folder / "lesions.json").read_text(encoding="utf-8"))
        ids = [str(lesion["id"]) for lesion in earlier["lesions"]]
    except (OSError, ValueError, KeyError, TypeError):
        return
    names = [f"pictures/{id}.png" for id in ids if Path(id).name == id]
    for name in (*names, "lesions.nii.gz", "lesions.labels.csv", "lesions.seg.nrrd"):
        (folder / name).unlink(missing_ok=True)


def _draw(table: LesionTable, volume: Volume | None, folder: Path, most: int, overwrite: bool) -> list[Finding]:
    from medseg.core.errors import MissingDependencyError
    from medseg.core.finding import Finding, Severity
    from medseg.io.atomic import check_folder, write_bytes
    from medseg.reporting.calipers import calipers_png

    # the largest come first within a segment; over all segments the longest are the ones to look at
    shown = sorted(table.lesions, key=lambda lesion: -lesion.longest.length_mm)[:most]
    try:
        for lesion in shown:
            png = calipers_png(table, lesion, volume)
            write_bytes(check_folder(folder / "pictures") / f"{lesion.id}.png", png, overwrite=overwrite)
    except MissingDependencyError as err:
        return [Finding("NO_PICTURES", Severity.INFO, f"no picture was drawn: {err}")]
    left = len(table) - len(shown)
    if not left or not most:
        return []
    text = f"pictures of the {len(shown)} longest lesions were drawn; {left} have none (--pictures {len(table)} draws all)"
    return [Finding("PICTURES_LEFT_OUT", Severity.INFO, text, {"drawn": len(shown), "left_out": left})]
