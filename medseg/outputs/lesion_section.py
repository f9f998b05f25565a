"""The lesions of given segmentations for their report: a table of diameters and a picture of each with its calipers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.io.atomic import check_folder, write_bytes, write_text
from medseg.reporting.sections import Section, section_of

_MOST_PICTURES = 24


def lesion_sections(layers: Sequence[LabelMap], volume: Volume | None) -> Iterator[Section]:
    """Yield the section of the lesions of these layers; nothing where there is none.

    Lesions are the parts of the segments whose name or type says so, of all segments where none does.
    """
    from medseg.measurement.lesions import lesions
    from medseg.reporting.calipers import calipers_png
    from medseg.reporting.lesion_table import lesions_csv
    from medseg.reporting.places import is_lesion

    named = [segment.number for layer in layers for segment in layer.segments if is_lesion(segment)]
    table = lesions(layers, volume, segments=named or None)
    if not table.lesions:
        return
    drawn = sorted(table.lesions, key=lambda lesion: -lesion.longest.length_mm)[:_MOST_PICTURES]
    pictures = tuple(
        (lesion.id, f"{lesion.id}: longest diameter and the one across it", calipers_png(table, lesion, volume)) for lesion in drawn
    )
    section = section_of(table.to_dict(), pictures, csv=lesions_csv(table))
    if section is not None:
        yield section


def write_lesions(section: Section, folder: Path, *, overwrite: bool) -> dict[str, Path]:
    """Write the table and the pictures of a section of lesions, as `medseg lesions -o` names them."""
    import json

    document = json.dumps(dict(section.document), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    files = {
        "lesions.csv": write_text(folder / "lesions.csv", section.csv, overwrite=overwrite),
        "lesions.json": write_text(folder / "lesions.json", document, overwrite=overwrite),
    }
    for name, _, data in section.pictures:
        path = check_folder(folder / "pictures") / f"{name}.png"
        files[f"pictures/{path.name}"] = write_bytes(path, data, overwrite=overwrite)
    return files
