"""Make docs/tables.md from the columns that the code describes: `python scripts/make_tables_page.py`."""

from __future__ import annotations

from pathlib import Path

from medseg.reporting.columns import tables_page

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tables.md"

if __name__ == "__main__":
    PAGE.write_text(tables_page(), encoding="utf-8")
    print(f"{PAGE.name}: {len(tables_page().splitlines())} lines")
