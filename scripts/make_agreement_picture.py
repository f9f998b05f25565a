"""Make the figure and the sentences of docs/agreement.md: `python scripts/make_agreement_picture.py`.

The data are a published worked example: peak expiratory flow of 17 subjects, read twice with each of two meters (Bland & Altman
1986, doi:10.1016/S0140-6736(86)90837-8, table 1).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medseg.evaluation.agreement import Agreement, agreement
from medseg.reporting.agreement_figure import agreement_png
from medseg.reporting.agreement_text import agreement_sentences

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "agreement.png"
WRIGHT = (494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427)
MINI = (512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451)


def example() -> Agreement:
    """Compare the first readings of the two meters."""
    return agreement(np.column_stack([WRIGHT, MINI]), readers=("Wright", "mini"), quantity="peak flow", unit="l/min")


def sentences() -> str:
    """Return the sentences for the paper."""
    return agreement_sentences(example())


if __name__ == "__main__":
    result = example()
    PICTURE.write_bytes(agreement_png(result.comparisons[0], f"{result.quantity} ({result.unit})", dpi=150))
    print(sentences())
