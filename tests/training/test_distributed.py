"""Two processes train one network: same loss, same weights, and only the first writes."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

from medseg.training.distributed import Group, join_group  # noqa: E402

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")

PROGRAM = textwrap.dedent(
    f"""
    import hashlib, json, sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
    import torch; torch.set_num_threads(1)
    from pathlib import Path
    from toy import toy_case, toy_plan
    from medseg.training.distributed import join_group, leave_group
    from medseg.training.loop import LoopSettings, train_fold
    group = join_group()
    losses = []
    cases = [toy_case(n) for n in range(3)]
    settings = LoopSettings(group=group, progress=lambda p: losses.append(p.loss))
    plan = toy_plan(4, batch_size=1, time_budget_minutes=10)
    result = train_fold(cases, cases[:1], plan, Path(sys.argv[1]), device="cpu", settings=settings)
    digest = hashlib.sha256(b"".join(t.numpy().tobytes() for t in result.weights.values())).hexdigest()
    facts = {{"rank": group.rank, "world": group.world, "losses": losses, "weights": digest, "rows": len(result.curve)}}
    (Path(sys.argv[1]) / f"facts_{{group.rank}}.json").write_text(json.dumps(facts))
    leave_group(group)
    """
)


def test_without_torchrun_a_process_is_alone():
    assert join_group() == Group(0, 1)
    assert Group().mean(0.5) == 0.5
    assert Group().same(0.5) == 0.5


@pytest.mark.slow
def test_two_processes_have_the_same_losses_and_weights(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*command, str(program), str(tmp_path / "run")], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (json.loads((tmp_path / "run" / f"facts_{rank}.json").read_text()) for rank in (0, 1))
    assert (first["world"], second["rank"]) == (2, 1)
    assert first["losses"] == second["losses"]
    assert len(first["losses"]) == 4
    assert first["weights"] == second["weights"]
    assert first["rows"] == 4
    assert len(list((tmp_path / "run").glob("checkpoint*"))) == 1
