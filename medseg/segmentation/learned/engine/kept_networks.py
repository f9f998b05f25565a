"""Networks that outlive a scan: built once, and what a backend made of them, made once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, TypeVar, cast

from medseg.segmentation.learned.engine.placement import is_on_cuda, placed

T = TypeVar("T")


class Forms:
    """What backends made of networks (OpenVINO's form, torch's compiled one), each made once.

    It lives as long as the networks: a network that is given here is held.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[int, Hashable], tuple[Any, Any]] = {}

    def get(self, network: Any, kind: Hashable, make: Callable[[], T]) -> T:
        """Return the form of a kind of a network; `make` makes it where there is none yet."""
        place = id(network), kind
        if place not in self._made:
            self._made[place] = (network, make())
        return cast(T, self._made[place][1])


class KeptNetworks:
    """The networks of one model, by fold or another key: each is built when it is first asked for, and serves scan after scan.

    They are `lent` to one run at a time: a run hangs hooks into them and moves them between devices, so two at once would
    disturb each other. Held are the networks that were asked for, in main memory or on the device where they ran last.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._networks: dict[Hashable, Any] = {}
        self.forms = Forms()

    @contextlib.contextmanager
    def lent(self, builders: Mapping[Hashable, Callable[[], Any]]) -> Iterator[list[Any]]:
        """Lend the networks of some keys, in their order; a builder is called only where there is no network yet.

        >>> kept = KeptNetworks()
        >>> for _ in range(2):
        ...     with kept.lent({"fold 0": lambda: print("built") or "network"}) as networks:
        ...         print(networks)
        built
        ['network']
        ['network']
        """
        with self._lock:
            for key, build in builders.items():
                if key not in self._networks:
                    self._networks[key] = build()
            yield [self._networks[key] for key in builders]

    def leave_device(self) -> bool:
        """Move what lies on a CUDA device to main memory, after the run it is lent to; return whether anything did."""
        from medseg.segmentation.learned.dependencies import import_torch

        with self._lock:
            there = [network for network in self._networks.values() if is_on_cuda(network)]
            for network in there:
                placed(network, import_torch().device("cpu"))
        if there:
            import_torch().cuda.empty_cache()
        return bool(there)
