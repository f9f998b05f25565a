"""What the cases of a batch cost: seconds of each stage, memory, and bytes on disk, from the results that it wrote.

`python benchmarks/batch_costs.py OUT [OUT ...]` prints a row for each output folder of `medseg batch`.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from medseg.batch.records.layout import Layout
from medseg.batch.records.plan import Plan
from medseg.batch.records.result import CaseResult, read_result
from medseg.outputs.case_folder import read_document

STAGES = ("read", "compute", "write")


def row_of(folder: Path) -> str:
    """Return the row of one output folder."""
    layout = Layout(folder)
    plan = Plan.from_dict(read_document(layout.batch))
    done = [result for path in layout.results() if (result := read_result(path)) is not None and result.status == "done"]
    if not done:
        raise SystemExit(f"{folder}: no case is done")
    seconds = [_spread([result.seconds.get(stage, 0.0) for result in done]) for stage in STAGES]
    inputs = _spread([result.inputs.bytes / 1e6 for result in done if result.inputs])
    outputs = _spread([_written(layout, result) / 1e6 for result in done])
    memory = max(result.peak_memory_bytes for result in done) / 1e6
    return f"| {plan.pipeline.name} | {len(done)} | {' | '.join(seconds)} | {inputs} | {outputs} | {memory:.0f} |"


def _written(layout: Layout, result: CaseResult) -> int:
    return sum(output.bytes for output in result.outputs.values()) + layout.result(result.case_id).stat().st_size


def _spread(values: list[float]) -> str:
    """The median, and the largest in brackets."""
    return f"{statistics.median(values):.2f} ({max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    print("| pipeline | cases | read s | compute s | write s | input MB | output MB | peak MB of a worker |")
    print("|---|---|---|---|---|---|---|---|")
    for folder in parser.parse_args().folders:
        print(row_of(folder))


if __name__ == "__main__":
    main()
