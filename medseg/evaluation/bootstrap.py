"""How sure a mean over cases is: the cases are drawn again with replacement, many times at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from medseg.core.errors import ParameterError

FloatArray = npt.NDArray[np.float64]

LEVEL = 0.95
_CELLS_AT_ONCE = 1 << 24  # of the table draws × cases


@dataclass(frozen=True)
class Bootstrap:
    """How often cases are drawn, and the seed that makes the answer repeatable; 0 resamples leave the intervals out."""

    resamples: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.resamples <= 1_000_000:
            raise ParameterError(f"the bootstrap draws 0 to 1,000,000 times, got {self.resamples:,}")
        if self.seed < 0:
            raise ParameterError(f"the seed of the bootstrap is a number from 0, got {self.seed}")

    def draws(self, cases: int) -> FloatArray | None:
        """Return how often each case occurs in each resample (resamples, cases); None where no interval is defined.

        Two cases are the fewest of which a spread can be said.
        """
        if cases < 2 or self.resamples < 1:
            return None
        random = np.random.default_rng(self.seed)
        step = max(1, _CELLS_AT_ONCE // cases)
        weights = np.empty((self.resamples, cases))
        for start in range(0, self.resamples, step):
            stop = min(start + step, self.resamples)
            weights[start:stop] = random.multinomial(cases, np.full(cases, 1 / cases), size=stop - start)
        return weights

    def why_none(self, cases: int) -> str:
        """Why there is no interval for so many cases, or ""."""
        if self.resamples < 1:
            return "the bootstrap was left out"
        return f"an interval over cases needs 2 or more of them, there {'is' if cases == 1 else 'are'} {cases}" if cases < 2 else ""


def intervals(draws: FloatArray, sums: FloatArray, counts: FloatArray) -> list[tuple[float, float] | None]:
    """Return the 95 % percentile interval of each ratio sum / count over the resampled cases.

    `draws` is (resamples, cases), `sums` and `counts` are (cases, columns). All columns share the draws, so that intervals
    belong together (paired over cases); values of one case stay together. None for a column that fewer than two cases have.
    A resample that holds none of them says nothing about the column and is left out of it (Efron and Tibshirani 1993,
    doi:10.1201/9780429246593, percentile interval).

    >>> draws = Bootstrap(1000).draws(4)
    >>> intervals(draws, np.array([[1.0], [1.0], [1.0], [1.0]]), np.ones((4, 1)))
    [(1.0, 1.0)]
    """
    tail = 100 * (1 - LEVEL) / 2
    distinct, which = np.unique(counts, axis=1, return_inverse=True)  # most metrics are defined for the same cases
    resampled = np.ascontiguousarray((draws @ np.concatenate([sums, distinct], axis=1)).T)
    total, number = resampled[: sums.shape[1]], resampled[sums.shape[1] :]
    found: list[tuple[float, float] | None] = []
    for column, row in enumerate(which.reshape(-1)):
        if np.count_nonzero(distinct[:, row]) < 2:
            found.append(None)
            continue
        held = number[row] > 0
        ratio = total[column] / number[row] if held.all() else total[column][held] / number[row][held]
        low, high = np.percentile(ratio, (tail, 100 - tail))
        found.append((float(low), float(high)))
    return found
