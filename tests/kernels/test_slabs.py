from __future__ import annotations

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
