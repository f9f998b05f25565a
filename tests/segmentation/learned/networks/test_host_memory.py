"""Freed memory is kept within, given back afterwards, and results do not change."""

from __future__ import annotations

import platform
import resource
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from medseg.segmentation.learned.networks.host_memory import kept_host_memory  # noqa: E402

MIB = 2**20
glibc_only = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these parameters")


def _page_faults_of_ten_rounds() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.empty(40 * MIB, dtype=torch.uint8).fill_(1)  # numpy would ask for huge pages: few faults either way
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MIB


@glibc_only
def test_a_block_is_cleared_by_the_system_once_not_each_time() -> None:
    torch.set_num_threads(1)
    one_round = 40 * MIB // resource.getpagesize()
    with kept_host_memory():
        _page_faults_of_ten_rounds()
        assert _page_faults_of_ten_rounds() < one_round


@glibc_only
def test_the_memory_goes_back_when_the_last_user_leaves() -> None:
    with kept_host_memory():
        with kept_host_memory():
            blocks = [np.ones(40 * MIB, np.uint8) for _ in range(5)]
            full = _resident_mib()
            del blocks
        assert _resident_mib() > full - 100
    assert _resident_mib() < full - 100


def test_an_error_within_comes_out_and_leaves_no_user_behind() -> None:
    with pytest.raises(ValueError, match="inside"), kept_host_memory():
        raise ValueError("inside")
    test = np.ones(MIB, np.uint8)
    with kept_host_memory():
        assert test.sum() == MIB
