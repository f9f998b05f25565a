from __future__ import annotations

import threading
import time

import pytest

from medseg.kernels.slabs import in_slabs, slab_limits


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 300])
def test_slabs_cover_every_plane_once_in_order(count: int) -> None:
    planes = [n for start, stop in slab_limits(count) for n in range(start, stop)]
    assert planes == list(range(count))
    assert all(start < stop for start, stop in slab_limits(count))


def test_results_come_in_the_order_of_the_slabs() -> None:
    assert in_slabs(lambda start, stop: (start, stop), 40) == slab_limits(40)


def test_an_error_in_a_slab_reaches_the_caller() -> None:
    def fail(start: int, stop: int) -> None:
        raise ArithmeticError(f"{start} {stop}")

    with pytest.raises(ArithmeticError, match="0 2"):
        in_slabs(fail, 32)


def test_after_an_error_no_thread_is_left_and_the_first_slab_that_failed_speaks() -> None:
    before = threading.active_count()

    def fail(start: int, stop: int) -> int:
        if start >= 20:
            raise ArithmeticError(f"slab from {start}")
        return start

    for _ in range(20):
        with pytest.raises(ArithmeticError, match="slab from 20"):
            in_slabs(fail, 32)
    assert threading.active_count() == before


def test_slabs_may_use_slabs() -> None:
    found = in_slabs(lambda start, stop: sum(in_slabs(lambda low, high: high - low, stop - start)), 100)
    assert found == [stop - start for start, stop in slab_limits(100)]


def test_an_interrupt_of_the_calling_thread_ends_the_others() -> None:
    main = threading.current_thread()

    def interrupted(start: int, stop: int) -> None:
        if threading.current_thread() is main:
            raise KeyboardInterrupt
        time.sleep(0.01)  # so that the calling thread gets a turn

    with pytest.raises(KeyboardInterrupt):
        in_slabs(interrupted, 32)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("medseg-")]
