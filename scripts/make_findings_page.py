"""Write docs/findings.md: every code a reader can give, from the tables the readers and the advice are made of."""

from __future__ import annotations

from pathlib import Path

from medseg.core.advice import ADVICE
from medseg.io.dicom.fault_codes import CODES as DICOM_CODES
from medseg.io.file_codes import CODES as FILE_CODES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "findings.md"
_HEAD = """# Findings: every code, what it does to a volume, what to do

Made by `scripts/make_findings_page.py` from the tables in the code; `medseg inspect` prints the same advice. "Row" is the row of the
catalogue of faults in [reliability.md](reliability.md). An error forbids a number (exit code 3), a warning travels with it, a note
says what was done.
"""


def page() -> str:
    """Return the page."""
    parts = [_HEAD]
    for title, codes in (("DICOM series", DICOM_CODES), ("NIfTI, NRRD and MetaImage files", FILE_CODES)):
        parts += [f"\n## {title}\n", "| code | row | severity | meaning | effect on a volume | what to do |", "|---|---|---|---|---|---|"]
        for name, code in codes.items():
            advice = ADVICE.get(name)
            effect, action = (advice.effect, advice.action) if advice else ("", "")
            parts.append(f"| `{name}` | {code.rows or '–'} | {code.severity.value} | {code.meaning} | {effect} | {action} |")
    others = [name for name in ADVICE if name not in DICOM_CODES and name not in FILE_CODES]
    parts += ["\n## Segmentations, contours and reading in general\n", "| code | effect on a volume | what to do |", "|---|---|---|"]
    parts += [f"| `{name}` | {ADVICE[name].effect} | {ADVICE[name].action} |" for name in others]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
