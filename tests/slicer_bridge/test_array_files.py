"""Arrays between host and worker: every kind arrives as it was, and none is cut short unnoticed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medseg.core.errors import InputError, OutputError, UnreadableFileError
from medseg.slicer_bridge.array_files import disk_sentence, read_array, write_array


@pytest.mark.parametrize("dtype", ["uint8", "int16", ">i2", "uint16", "float32", "<f8", "bool", "uint32"])
@pytest.mark.parametrize("form", ["whole", "strided", "fortran", "flipped"])
def test_arrays_arrive_as_they_were(tmp_path: Path, dtype: str, form: str) -> None:
    whole = np.arange(4 * 5 * 6).reshape(4, 5, 6).astype(dtype)
    given = {"whole": whole, "strided": whole[1:, ::2, 1:4], "fortran": np.asfortranarray(whole), "flipped": whole[::-1]}[form]
    write_array(tmp_path / "a.npy", given)
    for read in (np.load(tmp_path / "a.npy"), read_array(tmp_path / "a.npy", "it")):
        assert read.dtype == given.dtype
        assert np.array_equal(read, given)
    assert not read.flags.writeable


def test_what_is_no_scan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="numbers"):
        write_array(tmp_path / "a.npy", np.array([None, 1], object))
    write_array(tmp_path / "a.npy", np.zeros((3, 3)))
    with pytest.raises(InputError, match="the mask has 2 axes"):
        read_array(tmp_path / "a.npy", "the mask")
    with pytest.raises(UnreadableFileError, match="gone"):
        read_array(tmp_path / "b.npy", "the mask")
    write_array(tmp_path / "a.npy", np.zeros((3, 3, 3)))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-1])
    with pytest.raises(UnreadableFileError, match="cut short"):
        read_array(tmp_path / "a.npy", "the mask")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
@pytest.mark.parametrize("voxels", [300, 4096, 70_000, 3_000_000])
def test_a_disk_that_fills_up_is_noticed_whatever_the_size(tmp_path: Path, voxels: int) -> None:
    """The limit on file sizes cuts the last byte off, which `numpy.save` passes over for small arrays."""
    program = (
        "import resource, sys\n"
        "import numpy as np\n"
        "from medseg.slicer_bridge.array_files import write_array\n"
        "voxels = int(sys.argv[2])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (128 + voxels - 1,) * 2)\n"
        "write_array(sys.argv[1], np.ones((1, 1, voxels), np.uint8))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a.npy"), str(voxels)], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "OutputError: the disk of the job folder is full" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_a_sentence_without_its_path(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as caught:
        write_array(tmp_path / "secret" / "a.npy", np.zeros((1, 1, 1)))
    assert "secret" not in str(caught.value)
    assert "check the folder" in str(caught.value)
    assert "unknown reason" in disk_sentence(OSError())
