"""Make the tables of columns in docs/cohort.md, and its figure: `python scripts/make_cohort_page.py [OUT of medseg batch]`.

With the output folder of a batch its flow diagram becomes the picture of the page.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from medseg.reporting.cohort_columns import cohort_page

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cohort.md"
BEGIN = "<!-- columns: made from medseg/reporting/cohort_columns.py by scripts/make_cohort_page.py; do not edit -->\n"
END = "<!-- /columns -->"

if __name__ == "__main__":
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(head + BEGIN + cohort_page() + END + rest.partition(END)[2], encoding="utf-8")
    for folder in sys.argv[1:]:
        shutil.copy(Path(folder) / "flow.svg", PAGE.parent / "pictures" / "cohort_flow.svg")
    print(f"{PAGE.name}: {len(PAGE.read_text(encoding='utf-8').splitlines())} lines")
