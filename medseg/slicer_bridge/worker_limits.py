"""What the worker does to itself before it works: a memory cap."""

from __future__ import annotations


def limit_memory(gigabytes: float | None) -> bool:
    """Cap the address space of this process where the platform can; return whether it is capped.

    The cap counts mapped files and what a GPU driver reserves too, so a GPU needs a generous one or none.
    """
    if not gigabytes or gigabytes <= 0:
        return False
    try:
        import resource

        limit = int(gigabytes * 1e9)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ImportError, AttributeError, OSError, ValueError):  # Windows has none; macOS refuses
        return False
    return True
