"""What leaves a run: folders with segmentation, tables, pictures, report and provenance, and reports made from them again."""

from __future__ import annotations

from medseg.outputs.phantom_folder import write_phantom
from medseg.outputs.run_folder import FORMATS, RunOutput, default_formats, draw, input_record, run, write_report, write_result

__all__ = ["FORMATS", "RunOutput", "default_formats", "draw", "input_record", "run", "write_phantom", "write_report", "write_result"]
