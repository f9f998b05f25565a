"""How many volumes a file holds, before one of them is read."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from medseg.core.errors import UnsupportedFormatError
from medseg.io.read import find_reader


def volume_count(path: str | Path) -> int:
    """Return how many volumes a NIfTI, NRRD or MetaImage file holds, from its header alone; 1 for every 3D file.

    Raises UnreadableFileError, and UnsupportedFormatError for colours, vectors and DICOM, whose stacks `inspect` lists.

    >>> import tempfile, numpy
    >>> from medseg.core import geometry, volume
    >>> from medseg.io.nifti import write_nifti
    >>> scan = volume.Volume(numpy.zeros((2, 3, 4)), geometry.Geometry((2, 3, 4), numpy.eye(4)))
    >>> volume_count(write_nifti(scan, Path(tempfile.mkdtemp()) / "scan.nii.gz"))
    1
    """
    path = Path(path)
    reader = find_reader(path)
    if reader is None:
        raise UnsupportedFormatError(f"{path}: volumes are counted in files of one image; inspect lists the stacks of a DICOM series")
    count: int = import_module(reader.module).volume_count(path)
    return count
