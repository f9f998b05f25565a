"""One look at how a file begins: which image format it is, how many slices it has, whether it holds labels; no voxels."""

from __future__ import annotations

import os
import re
import struct
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.core.errors import MedsegError, UnreadableFileError, UnsupportedFormatError
from medseg.io.archive import is_archive
from medseg.io.labels import label_table_path
from medseg.io.read import READERS, first_bytes
from medseg.io.voxels import detached_file

IMAGE_ENDINGS = {
    ".nii": "NIfTI", ".nii.gz": "NIfTI", ".hdr": "NIfTI", ".hdr.gz": "NIfTI", ".nrrd": "NRRD", ".nhdr": "NRRD",
    ".mha": "MetaImage", ".mhd": "MetaImage", ".dcm": "DICOM", ".dicom": "DICOM", ".ima": "DICOM",
}  # fmt: skip
_ARCHIVE_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")
_LABEL_INTENT = 1002  # NIFTI_INTENT_LABEL
_EIGHT_BITS = {2, 256}  # NIfTI's codes of whole numbers of one byte
_NRRD_EIGHT_BITS = frozenset({"signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"})
_METAIMAGE_FIELD = re.compile(rb"^\s*(\w+)\s*=\s*([^\r\n]*)", re.MULTILINE)


@dataclass(frozen=True)
class ImageGlance:
    """What the beginning of an image file says.

    `kind` is NIfTI, NRRD, MetaImage, archive or DICOM; `sizes` are the first three extents (empty where they are not known),
    `holds_labels` whether it says of itself that it holds segments, `has_one_byte` whether a voxel takes one byte. `data_files`
    hold its voxels where they lie apart. `problem` says why it is no sound file of its kind.
    """

    kind: str
    sizes: tuple[int, ...] = ()
    holds_labels: bool = False
    has_one_byte: bool = False
    data_files: tuple[Path, ...] = ()
    problem: str = ""


def glance_at_image(path: Path) -> ImageGlance | None:
    """Look at a file that is not DICOM; None where neither its first bytes nor its name are those of an image or archive.

    What only its name calls an image (cut short, empty, garbage) is one with a `problem`, so that it never vanishes. Raises OSError
    where the disk fails.
    """
    promised = promised_kind(path.name)
    try:
        start = first_bytes(path)
    except MedsegError as err:
        return ImageGlance(promised, problem=_reason(err)) if promised else None
    name = next((reader.name for reader in READERS if reader.recognises(start)), "")
    if name:
        try:
            found = _LOOKS[name](path, start)
            return found if all(size > 0 for size in found.sizes) else replace(found, sizes=(), problem="its extents are impossible")
        except (MedsegError, struct.error, ValueError):
            return ImageGlance(name, problem="its header is damaged")
    if path.name.lower().endswith(_ARCHIVE_ENDINGS):
        return ImageGlance("archive", problem="" if is_archive(path) else "its content is no archive's")
    if start[128:132] == b"DICM":
        return ImageGlance("DICOM", problem="it is packed")
    return ImageGlance(promised, problem="its content is that of no image") if promised else None


def promised_kind(name: str) -> str:
    """Return the format that a file's name promises, "" where it promises none.

    >>> promised_kind("Liver.NII.gz"), promised_kind("notes.txt")
    ('NIfTI', '')
    """
    lower = name.lower()
    if lower.endswith(_ARCHIVE_ENDINGS):
        return "archive"
    return next((kind for ending, kind in IMAGE_ENDINGS.items() if lower.endswith(ending)), "")


def _reason(err: MedsegError) -> str:
    return "it is damaged or empty" if isinstance(err, UnreadableFileError | UnsupportedFormatError) else "it cannot be read"


def _nifti(path: Path, start: bytes) -> ImageGlance:
    order = "<" if struct.unpack_from("<i", start)[0] in (348, 540) else ">"
    if struct.unpack_from(order + "i", start)[0] == 348:
        dims, intent, datatype = struct.unpack_from(order + "4h", start, 40), *struct.unpack_from(order + "2h", start, 68)
    else:
        dims, intent = struct.unpack_from(order + "4q", start, 16), struct.unpack_from(order + "i", start, 504)[0]
        datatype = struct.unpack_from(order + "h", start, 12)[0]
    if not 1 <= dims[0] <= 7:
        return ImageGlance("NIfTI", problem="its number of axes is impossible")
    sizes = dims[1 : 1 + dims[0]]  # what stands behind them means nothing
    holds_labels = intent == _LABEL_INTENT or _has_names_beside(path)
    return ImageGlance("NIfTI", sizes, holds_labels, datatype in _EIGHT_BITS, _pair(path))


def _has_names_beside(path: Path) -> bool:
    return os.path.isfile(label_table_path(path))  # unlike Path.is_file, also where that name would be too long


def _pair(path: Path) -> tuple[Path, ...]:
    """The .img beside a .hdr."""
    lower = path.name.lower()
    ending = next((ending for ending in (".hdr", ".hdr.gz") if lower.endswith(ending)), "")
    if not ending:
        return ()
    stem = path.name[: -len(ending)]
    return tuple(file for suffix in (".img", ".img.gz", ".IMG") if os.path.isfile(file := path.with_name(stem + suffix)))[:1]


def _nrrd(path: Path, start: bytes) -> ImageGlance:
    from medseg.io.nrrd import parse
    from medseg.io.nrrd_header import data_path

    header = parse(path)
    is_segmentation = any(key.startswith(("Segment0_", "Segmentation_")) for key in header.keys)
    sizes = header.sizes
    if len(sizes) > 3 and len(header.kinds) == len(sizes):
        sizes = tuple(size for size, kind in zip(sizes, header.kinds, strict=True) if kind in ("domain", "space")) or sizes
    data = data_path(header, path)
    one_byte = header.fields.get("type", "").lower() in _NRRD_EIGHT_BITS
    return ImageGlance("NRRD", sizes[:3], is_segmentation or _has_names_beside(path), one_byte, _apart(path, data))


def _metaimage(path: Path, start: bytes) -> ImageGlance:
    fields = {name.lower(): value.strip() for name, value in _METAIMAGE_FIELD.findall(start)}
    sizes = tuple(int(size) for size in fields.get(b"dimsize", b"").split()[:3])
    one_byte = fields.get(b"elementtype", b"").upper() in (b"MET_CHAR", b"MET_UCHAR")
    target = fields.get(b"elementdatafile", b"LOCAL")
    data = path if target.upper() == b"LOCAL" else detached_file(path, target.decode("utf-8", "surrogateescape"))
    return ImageGlance("MetaImage", sizes, _has_names_beside(path), one_byte, _apart(path, data))


def _apart(path: Path, data: Path) -> tuple[Path, ...]:
    return () if data == path else (data,)


_LOOKS = {"NIfTI": _nifti, "NRRD": _nrrd, "MetaImage": _metaimage}
