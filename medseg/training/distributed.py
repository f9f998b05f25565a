"""Training by several processes at once (torchrun): who a process is, and how gradients become those of all."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from medseg.segmentation.learned.dependencies import import_torch
from medseg.training.networks import deep_module

if TYPE_CHECKING:
    import torch

_PATIENCE = timedelta(hours=24)  # the others wait while the first prepares cases and scores whole scans


@dataclass(frozen=True)
class Group:
    """The processes that train together: `rank` of this one, `world` of them in all. Only rank 0 writes files."""

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def device(self, device: torch.device) -> torch.device:
        """Return the device of this process: each its own where there are several CUDA devices."""
        torch = import_torch()
        if self.world == 1 or device.type != "cuda":
            return device
        own = torch.device("cuda", self.rank % torch.cuda.device_count())
        torch.cuda.set_device(own)
        return own

    def wrap(self, network: torch.nn.Module, lower: int, device: torch.device) -> torch.nn.Module:
        """Return a module that gives all outputs of a network (see `outputs_of`); gradients are the mean of those of all processes."""
        torch = import_torch()
        module = deep_module(network, lower)
        if self.world == 1:
            return module
        ids = [device.index] if device.type == "cuda" else None
        parallel: Any = torch.nn.parallel.DistributedDataParallel(module, device_ids=ids, broadcast_buffers=False)
        return parallel

    def mean(self, value: float) -> float:
        """Return the mean of a number over all processes, the same in each."""
        if self.world == 1:
            return value
        torch = import_torch()
        tensor = torch.tensor([value], dtype=torch.float64, device=self._device())
        torch.distributed.all_reduce(tensor)
        return float(tensor) / self.world

    def same(self, value: float) -> float:
        """Return the number of rank 0 in every process."""
        if self.world == 1:
            return value
        torch = import_torch()
        tensor = torch.tensor([value], dtype=torch.float64, device=self._device())
        torch.distributed.broadcast(tensor, 0)
        return float(tensor)

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.world > 1:
            import_torch().distributed.barrier()

    def _device(self) -> str:
        return "cuda" if import_torch().distributed.get_backend() == "nccl" else "cpu"


def join_group() -> Group:
    """Return the group torchrun started this process in; a group of one where it did not.

    Joins it on the first call (torch reads address and rank from what torchrun set): NCCL with CUDA, else gloo.
    """
    distributed = import_torch().distributed
    if not distributed.is_available() or not (distributed.is_initialized() or distributed.is_torchelastic_launched()):
        return Group()
    if not distributed.is_initialized():
        backend = "nccl" if import_torch().cuda.is_available() else "gloo"
        distributed.init_process_group(backend, init_method="env://", timeout=_PATIENCE)
    return Group(distributed.get_rank(), distributed.get_world_size())


def leave_group(group: Group) -> None:
    """Leave the group at the end of a run."""
    if group.world > 1:
        import_torch().distributed.destroy_process_group()
