"""What is raised when a scheduler or a pool cannot be used."""

from __future__ import annotations

from medseg.core.errors import MedsegError


class ClusterError(MedsegError):
    """The scheduler or the pool of a cluster cannot be used."""

    exit_code = 4
