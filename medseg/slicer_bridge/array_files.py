"""Arrays as `.npy` files between a host and its worker: memory-mapped where they are read, and never cut short unnoticed."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError, OutputError, UnreadableFileError

_AXES = 3


def write_array(path: str | Path, array: npt.NDArray[Any]) -> Path:
    """Write an array for the other side; OutputError where the disk is full, and nothing half-written is left.

    `numpy.save` does not notice a disk that fills up while its last bytes are flushed. Give each state of a scan a file of its
    own: one that is overwritten while the worker has it mapped would end the worker.

    >>> import tempfile
    >>> file = write_array(Path(tempfile.mkdtemp()) / "a.npy", np.arange(6, dtype=np.int16).reshape(1, 2, 3))
    >>> read_array(file, "the scan")[0, 1, 2]
    np.int16(5)
    """
    path = Path(path)
    whole = np.ascontiguousarray(array)
    if whole.dtype.hasobject:
        raise InputError("only arrays of numbers can be handed over")
    try:
        with path.open("wb") as file:  # written by Python, which checks every write and the last flush
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(whole))
            file.write(whole.reshape(-1).view(np.uint8).data)
    except OSError as err:
        path.unlink(missing_ok=True)
        raise OutputError(disk_sentence(err)) from err
    return path


def read_array(path: str | Path, what: str) -> npt.NDArray[Any]:
    """Return a `.npy` file (k,j,i) as a memory-mapped array.

    Raises UnreadableFileError where it is gone or no such file, InputError for another number of axes and no voxels; `what`
    names it in the message, which never holds its path.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as err:
        raise UnreadableFileError(f"the file that holds {what} is gone: the host must hand it over again") from err
    except (OSError, ValueError, EOFError) as err:
        raise UnreadableFileError(f"the file that holds {what} is cut short or no .npy file: the host must write it again") from err
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iufb":
        raise InputError(f"{what} must be one array of real numbers")
    if array.ndim != _AXES:
        raise InputError(f"{what} has {array.ndim} axes: three are needed, (k,j,i); of a time sequence give one frame")
    if array.size == 0:
        raise InputError(f"{what} holds no voxel: load the images before they are segmented")
    return array


def disk_sentence(err: OSError) -> str:
    """Say what stopped a file from being written, without its path."""
    if err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "the disk of the job folder is full: free some space and start again"
    return f"a file in the job folder cannot be written ({err.strerror or 'unknown reason'}): check the folder and its permissions"
