"""NIfTI-1 and NIfTI-2: single files and pairs, plain and gzip, both byte orders."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from medseg.core.errors import (
    MedsegError,
    OutputError,
    OutputVerificationError,
    SeveralVolumesError,
    UnreadableFileError,
    UnsupportedFormatError,
)
from medseg.core.finding import Finding, Severity
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.io.atomic import write_verified
from medseg.io.grid import Spacing, settled
from medseg.io.label_xml import segments_from_xml
from medseg.io.nifti_affine import Xform, geometry_of, header_fields
from medseg.io.nifti_header import NiftiHeader, can_hold, header_bytes, read_header
from medseg.io.stored import StoredImage
from medseg.io.stream import Stream, chunks_of, differs_from, open_stream, write_gzipped
from medseg.io.values import Array, rescaled, rescaled_bytes
from medseg.io.voxels import check_choice, check_enough, count_voxels, padding_findings, read_array

_MOST_EXTENSIONS = 64


def read_nifti(path: str | Path, xform: Xform | None = None, volume_index: int | None = None, spacing_mm: Spacing | None = None) -> Volume:
    """Read a NIfTI file as a scan.

    `volume_index` chooses one volume of a 4D file, or one colour (0 red, 1 green, 2 blue), `xform` one of two grids that
    differ ("sform" or "qform"), `spacing_mm` (i,j,k) stands in where the file has no usable spacing; what was used is among
    the findings. Raises UnreadableFileError (cut short, corrupted, NaN), SeveralVolumesError (4D, colours),
    UnsupportedFormatError (complex), GeometryError.
    """
    return read_stored(path, volume_index=volume_index, xform=xform, spacing_mm=spacing_mm).to_volume()


def read_stored(
    path: str | Path, *, volume_index: int | None = None, xform: Xform | None = None, spacing_mm: Spacing | None = None
) -> StoredImage:
    """Read voxels, scaled, and grid of a NIfTI file; options as in `read_nifti`."""
    path = Path(path)
    with open_stream(path) as stream:
        try:
            header = read_header(stream)
            shape, count = _extents(header, path.name)
            index = check_choice(path.name, count, header.dim, volume_index, "colours" if header.components > 1 else "")
            geometry, findings = geometry_of(header, shape, xform, path.name, spacing_mm)
            geometry, settling = settled(geometry, spacing_mm, path.name)
        except SeveralVolumesError:
            raise
        except MedsegError:
            stream.check_rest()  # a flipped bit in compressed data makes any nonsense of a header
            raise
        if header.in_one_file:
            segments = _segments_of_extensions(stream, header)
            array, padding = _read_voxels(stream, header, shape, index, count)
        else:
            segments = ()
            array, padding = _read_pair(path, header, shape, index, count)
        is_gzip = stream.is_compressed
    findings = (*header.findings, *findings, *settling, *_file_findings(path, is_gzip, padding))
    return StoredImage(path, header.format, rescaled(array, header.slope, header.intercept), geometry, findings, segments)


def volume_count(path: str | Path) -> int:
    """Return how many volumes a file holds (1 but for 4D), from its header alone."""
    path = Path(path)
    with open_stream(path) as stream:
        return _extents(read_header(stream), path.name)[1]


def _extents(header: NiftiHeader, name: str) -> tuple[tuple[int, int, int], int]:
    """The three extents and the number of volumes, of which each colour is one."""
    if len(header.dim) < 3:
        raise UnsupportedFormatError(f"{name} is a {len(header.dim)}D image; give a 3D volume, such as its whole series")
    i, j, k = header.dim[:3]
    return (i, j, k), count_voxels(header.dim, name) // (i * j * k) * header.components


def _segments_of_extensions(stream: Stream, header: NiftiHeader) -> tuple[Segment, ...]:
    """Read what stands between header and voxels and take label names from it; anything odd there is passed over."""
    between = stream.read(header.data_offset - (348 if header.version == 1 else 540))
    if between[:1] in (b"", b"\0"):
        return ()
    order = header.dtype.str[0].replace("|", "<")
    position = 4
    for _ in range(_MOST_EXTENSIONS):
        if position + 8 > len(between):
            break
        # the byte order of one-byte voxels does not tell that of the header, so both are tried
        sizes = [struct.unpack_from(f"{sign}ii", between, position)[0] for sign in (order, "<", ">")]
        size = next((value for value in sizes if 8 <= value <= len(between) - position), 0)
        if not size:
            break
        segments = segments_from_xml(between[position + 8 : position + size])
        if segments:
            return segments
        position += size
    return ()


def _read_pair(path: Path, header: NiftiHeader, shape: tuple[int, int, int], index: int, count: int) -> tuple[Array, int]:
    """Read the voxels of a pair from the .img (or .img.gz) beside the .hdr."""
    name = path.name
    stem = name[: name.lower().rfind(".hdr")] if ".hdr" in name.lower() else path.stem
    candidates = [path.with_name(stem + suffix) for suffix in (".img", ".img.gz", ".IMG")]
    image = next((candidate for candidate in candidates if candidate.is_file()), None)
    if image is None:
        raise UnreadableFileError(f"{path} is the header of a pair, but {candidates[0].name} is not beside it; copy both files")
    with open_stream(image) as stream:
        stream.skip(header.data_offset)
        return _read_voxels(stream, header, shape, index, count)


def _read_voxels(stream: Stream, header: NiftiHeader, shape: tuple[int, int, int], index: int, count: int) -> tuple[Array, int]:
    """Fill the final array straight from the stream, then read on to the end of the file."""
    volume_bytes = count_voxels(shape, stream.name) * header.dtype.itemsize * header.components
    index, colour = divmod(index, header.components)
    count //= header.components
    check_enough(stream, volume_bytes * count)
    stream.skip(volume_bytes * index)
    if header.components == 1:
        scaled = rescaled_bytes(volume_bytes // header.dtype.itemsize, header.dtype, header.slope, header.intercept)
        array = read_array(stream, shape, header.dtype, scaled)
    else:  # the colours of a voxel follow one another
        array = np.asfortranarray(read_array(stream, (header.components, *shape), header.dtype)[colour])
    stream.skip(volume_bytes * (count - 1 - index))
    return array, stream.finish()


def _file_findings(path: Path, is_gzip: bool, padding: int) -> list[Finding]:
    found = []
    if is_gzip != path.name.lower().endswith(".gz"):
        message = f"the file is {'gzip' if is_gzip else 'not gzip'}, unlike its name says; it was read for what it is"
        found.append(Finding("WRONG_SUFFIX", Severity.INFO, message))
    found += padding_findings(padding)
    return found


def write_nifti(value: Volume | LabelMap, path: str | Path, overwrite: bool = False) -> Path:
    """Write a single-file NIfTI (gzip where the name ends in .gz), read it back and compare every voxel.

    NIfTI-2 where an extent exceeds 32,767. The grid goes into the sform, and into the qform where that can hold it. The
    header holds no text. The same value gives the same bytes. Raises OutputError and its kinds.
    """
    path = Path(path)
    array = value.array if can_hold(value.array.dtype) else value.array.astype(np.float32)
    header = header_bytes(value.geometry.shape, array.dtype, header_fields(value.geometry))
    compress = path.name.lower().endswith(".gz")
    _check_twin(path, header, array)

    def write(temporary: Path) -> None:
        write_file(temporary, header, array, compress)

    def verify(temporary: Path) -> None:
        _verify(temporary, array, value.geometry, path)

    return write_verified(path, write, verify, overwrite)


def _check_twin(path: Path, header: bytes, array: Array) -> None:
    """Refuse x.nii.gz beside another scan x.nii, and the reverse.

    ITK, and so 3D Slicer and SimpleITK, opens x.nii.gz for its header and then takes the voxels from x.nii if there is one.
    """
    name = path.name
    twin = path.with_name(name[:-3] if name.lower().endswith(".gz") else name + ".gz")
    if not twin.is_file():
        return
    try:
        with open_stream(twin) as stream:
            stream.skip(len(header))
            differs = differs_from(stream, array)
    except UnreadableFileError:
        differs = True
    if differs:
        raise OutputError(
            f"{path}: {twin.name} lies in the same folder and holds other voxels; 3D Slicer and SimpleITK would mix the two up: "
            "choose another name or folder, or remove it"
        )


def write_file(path: Path, header: bytes, array: Array, compress: bool) -> None:
    """Write header and voxels, both inside the gzip stream where `compress`."""
    with path.open("xb") as file:
        if compress:
            write_gzipped(file, header, array)
            return
        file.write(header)
        for chunk in chunks_of(array):
            file.write(chunk)


def _verify(temporary: Path, array: Array, geometry: Geometry, path: Path) -> None:
    """Read the new file as any other and compare; NIfTI-1 holds the affine in single precision, nothing less is accepted."""
    with open_stream(temporary) as stream:
        header = read_header(stream)
        got, _ = geometry_of(header, geometry.shape, "auto", path.name)
        precision: Any = np.float32 if header.version == 1 else np.float64
        same = np.array_equal(got.affine, geometry.affine.astype(precision)) and header.dim[:3] == geometry.shape
        stream.skip(header.data_offset - (348 if header.version == 1 else 540))
        if not same or header.dtype.newbyteorder("=") != array.dtype or differs_from(stream, array):
            raise OutputVerificationError(f"{path}: what was read back is not what was written; check the disk and try again")
        stream.finish()
