from __future__ import annotations

import gzip
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from made_files import header

from medseg.core.errors import UnreadableFileError
from medseg.io import memory
from medseg.io.memory import check_memory, free_memory_bytes
from medseg.io.nifti import read_nifti


def test_free_memory_is_a_part_of_the_machines() -> None:
    free = free_memory_bytes()
    total = memory._figure(memory._MEMORY_INFO, "MemTotal:")
    assert free is not None
    assert total is not None
    assert 0 < free <= total


def test_need_and_have_are_named() -> None:
    check_memory("x.nii", 1000)
    with pytest.raises(UnreadableFileError, match=r"x\.nii needs 1,000\.0 GB of memory, and [0-9.,]+ GB are free"):
        check_memory("x.nii", 10**12)


def test_the_least_of_machine_container_and_process_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    monkeypatch.setattr(memory, "_free_of_process", lambda: None)
    whole = free_memory_bytes()
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("2000000\n")
    assert free_memory_bytes() == 1_000_000
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 500000\n")
    assert free_memory_bytes() == 1_500_000
    (tmp_path / "memory.max").write_text("max\n")
    assert whole is not None
    assert free_memory_bytes() is not None
    monkeypatch.setattr(memory, "_MEMORY_INFO", tmp_path / "missing")
    assert free_memory_bytes() is not None  # by sysconf
    monkeypatch.setattr(memory, "_free_of_machine", lambda: None)
    assert free_memory_bytes() is None
    check_memory("x", 1 << 60)  # nobody knows, so nothing is refused


def test_a_volume_beyond_the_limit_of_the_process_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """2 GB of zeros in 2 MB, as gzip; the child may take 1 GB of addresses more than it has."""
    path = tmp_path / "bomb.nii.gz"
    with gzip.open(path, "wb", 1) as file:
        file.write(header(dim=(3, 1024, 1024, 1024, 1, 1, 1, 1)) + bytes(4))
        for _ in range(128):
            file.write(bytes(1 << 24))
    script = (
        "import resource, sys\n"
        "from medseg.io import nifti, memory\n"
        "limit = memory._figure(memory._OWN_STATUS, 'VmSize:') + (1 << 30)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "try:\n    nifti.read_nifti(sys.argv[1])\n"
        "except nifti.UnreadableFileError as err:\n    print(err)\n"
        "print(memory._figure(memory._OWN_STATUS, 'VmHWM:', 1))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True, timeout=60)
    message, peak_kb = done.stdout.splitlines()
    assert "needs 2.1 GB of memory" in message
    assert int(peak_kb) < 500_000
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY


def test_a_header_of_the_largest_extents_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.nii"
    path.write_bytes(header(dim=(3, 32767, 32767, 32767, 1, 1, 1, 1)) + bytes(4))
    with pytest.raises(UnreadableFileError, match="more than"):
        read_nifti(path)
