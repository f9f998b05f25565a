"""How the learning rate and the averaging of weights change over a run."""

from __future__ import annotations

_AVERAGE_WARMUP = 20  # steps after which the average of the weights begins to look back further


def learning_rate(step: int, done: float, highest: float, warmup_steps: int, power: float) -> float:
    """Return the rate of a step (0-based) when a share `done` of the run is over: linear warm-up times (1 - done)^power.

    >>> [round(learning_rate(step, step / 100, 1.0, 10, 1.0), 2) for step in (0, 9, 50, 99)]
    [0.1, 0.91, 0.5, 0.01]
    """
    warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    return float(highest * warmup * max(0.0, 1 - done) ** power)


def average_decay(step: int, decay: float) -> float:
    """Return the share of the old average that stays after a step (1-based): small at first, `decay` in the end."""
    return min(decay, step / (step + _AVERAGE_WARMUP))
