"""Surfaces of segments as files: .stl, .obj, .ply, .vtp and .glb, one file a segment or one scene of all."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from medseg.core.errors import OutputExistsError, SegmentError, UnsupportedFormatError
from medseg.core.label_map import LabelMap
from medseg.io.atomic import write_bytes
from medseg.io.surface_formats import FORMATS
from medseg.measurement.surfaces import DEFAULT_SMOOTHING, Surface, surfaces

SURFACE_SUFFIXES = tuple(FORMATS)
_PLACES = ("{label}", "{number}")


def write_surfaces(
    label_map: LabelMap | Sequence[LabelMap],
    path: str | Path,
    *,
    segments: Collection[str | int] | None = None,
    smoothing: int = DEFAULT_SMOOTHING,
    overwrite: bool = False,
) -> Path:
    """Write the closed surfaces of segments in RAS mm; return the file, or the folder where there is one file a segment.

    The suffix decides: .stl (binary), .ply (binary) and .vtp hold RAS mm and say so in the way 3D Slicer reads
    (`SPACE=RAS`); .obj too, with one group a segment; .glb (glTF 2.0) is a scene with names and colours, turned to metres with
    the head up, as that format asks. A name that holds {label} or {number}, such as `organs/{label}.stl`, gives one file
    a segment. Segments without voxels are left out. Raises UnsupportedFormatError, SegmentError where no segment has voxels,
    UnknownSegmentError, OutputExistsError, OutputError; every file is read back before it gets its name.

    >>> import tempfile, numpy as np
    >>> from medseg.core.geometry import Geometry
    >>> from medseg.core.segment import Segment
    >>> box = LabelMap(np.ones((2, 2, 2), np.uint8), Geometry((2, 2, 2), np.eye(4)), (Segment(1, "box"),))
    >>> write_surfaces(box, Path(tempfile.mkdtemp()) / "{label}.stl").joinpath("box.stl").stat().st_size  # 84 + 50 a triangle
    2484
    """
    path = Path(path)
    write = FORMATS.get(path.suffix.lower())
    if write is None:
        raise UnsupportedFormatError(f"{path.name}: surfaces are written as {', '.join(SURFACE_SUFFIXES)}")
    if any(place in part for place in _PLACES for part in path.parts[:-1]):
        raise UnsupportedFormatError(f"{path}: {' and '.join(_PLACES)} stand for a segment in the name of the file, not of a folder")
    one_each = any(place in path.name for place in _PLACES)
    if not one_each:
        _check_free([path], overwrite)
    found = [surface for surface in surfaces(label_map, segments, smoothing=smoothing) if len(surface.triangles)]
    if not found:
        raise SegmentError("none of these segments has a voxel: there is no surface to write")
    if not one_each:
        return write_bytes(path, write(found), overwrite)
    targets = dict(zip(_names(found, path), found, strict=True))
    _check_free(targets, overwrite)
    for target, surface in targets.items():
        write_bytes(target, write([surface]), overwrite)
    return path.parent


def _check_free(paths: Collection[Path], overwrite: bool) -> None:
    """Nothing is written where one of many files is there already."""
    for path in paths:
        if not overwrite and path.exists():
            raise OutputExistsError(f"{path} is there already; choose another name or allow overwriting (--overwrite)")


def _names(found: Sequence[Surface], pattern: Path) -> list[Path]:
    """The files of the segments; two labels that would give one name get their numbers."""
    labels = [file_label(surface.segment.label) for surface in found]
    names = []
    for surface, label in zip(found, labels, strict=True):
        twice = [other.casefold() for other in labels].count(label.casefold()) > 1 and "{number}" not in pattern.name
        unique = f"{label}_{surface.segment.number}" if twice else label
        names.append(pattern.with_name(pattern.name.replace("{label}", unique).replace("{number}", str(surface.segment.number))))
    return names


def file_label(label: str) -> str:
    """Return a label as part of the name of a file, on every system.

    >>> file_label("left lung / upper lobe"), file_label("../..")
    ('left_lung_upper_lobe', 'segment')
    """
    kept = "".join(c if c.isalnum() or c in "-+" else " " for c in label).split()
    return "_".join(kept)[:100] or "segment"
