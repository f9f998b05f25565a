"""A search whose sums are checked each time: every file is in a case, left out with a reason, or counted as passed over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medseg.batch.cases.find_cases import find_cases
from medseg.batch.records.case import Case, LeftOut

SALT = b"test"


def found_in(folder: Path, **options: Any) -> tuple[list[Case], list[LeftOut], dict[str, Any]]:
    """What a search finds; that every file is accounted for once is checked each time."""
    with find_cases(folder, salt=SALT, **options) as found:
        cases, left_out, counts = list(found.cases()), list(found.left_out()), found.counts
    named = {name for one in (*cases, *left_out) for name in one.files if not (folder / name).is_dir()}
    not_files = ("symbolic link", "no ordinary file", "folder that medseg wrote", "folder of the file system")
    passed = sum(count for reason, count in counts["passed_over"].items() if reason not in not_files)
    assert len(named) + passed == counts["files"]
    assert counts["cases"] == len(cases)
    assert counts["found"] == len(cases) + len(left_out) == counts["cases"] + sum(counts["left_out"].values())
    assert [case.case_id for case in cases] == sorted({case.case_id for case in cases})
    return cases, left_out, counts


def reasons(left_out: Sequence[LeftOut]) -> list[str]:
    return sorted(one.reason for one in left_out)
