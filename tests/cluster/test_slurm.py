"""The scripts of a job array, without a SLURM: quoting, privacy, refusals, and what is waited for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medseg.batch.cluster.cluster_error import ClusterError
from medseg.batch.cluster.slurm import SlurmArray, SlurmOptions, Submitted, submit, wait_for_results, write_array
from medseg.batch.cluster.slurm_run import without_options
from medseg.batch.records.layout import Layout

ODD = 'it\'s a "$HOME" `id` $(id) \\ %j\nline * é'
SHOW = [sys.executable, "-c", "import os, sys; print(ascii([os.getcwd(), *sys.argv[1:]]))"]


def program(path: Path, text: str) -> str:
    """Write a script that stands in for one of SLURM's programs."""
    path.write_text(f"#!{sys.executable}\nimport sys\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_any_path_reaches_the_task_as_it_is(tmp_path):
    """The script is run by the shell that SLURM would run it with; nothing in a name is taken for anything else."""
    directory = tmp_path / ODD
    directory.mkdir()
    name = os.fsdecode(b"M\xfcller")  # no UTF-8
    arguments = [ODD, name, "", "-o", "--weird"]
    array = write_array(Layout(directory / "out"), SHOW, arguments, SHOW, SlurmOptions(3), directory=directory)
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "2"}
    done = subprocess.run(["bash", array.array], env=environment, capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == ascii([str(directory), "--shard", "2/3", *arguments])


def test_the_job_that_collects_leaves_its_exit_code(tmp_path):
    layout = Layout(tmp_path / ODD)
    collect = [sys.executable, "-c", "raise SystemExit(5)"]
    array = write_array(layout, SHOW, [], collect, SlurmOptions(), directory=tmp_path)
    done = subprocess.run(["bash", array.collect], env={**os.environ, "SLURM_JOB_ID": "42"}, cwd="/", check=False)
    assert done.returncode == 5
    assert wait_for_results(Submitted(array, "41", "42"), squeue="/bin/false") == 5


def test_the_scripts_lie_where_only_this_user_reads(tmp_path):
    """They name the folder of the scans, which nothing outside of private/ may."""
    layout = Layout(tmp_path / "out")
    array = write_array(layout, SHOW, ["/data/DOE^JOHN"], SHOW, SlurmOptions(), directory=tmp_path)
    assert layout.private in array.array.parents
    assert oct(layout.private.stat().st_mode)[-3:] == "700"
    others = [path for path in layout.folder.rglob("*") if path.is_file() and layout.private not in path.parents]
    assert others == []


def test_options_of_sbatch_stand_in_the_script_and_cannot_add_a_line(tmp_path):
    options = SlurmOptions(8, 2, ("--partition=gpu", "--gres=gpu:1", '--comment=it\'s "mine"', "--exclusive"))
    array = write_array(Layout(tmp_path), SHOW, [], SHOW, options, directory=tmp_path)
    lines = array.array.read_text().splitlines()
    assert {"#SBATCH --array=1-8%2", "#SBATCH --signal=B:USR1@60", "#SBATCH --partition=gpu", "#SBATCH --exclusive"} <= set(lines)
    collecting = array.collect.read_text()
    assert "--partition=gpu" in collecting
    assert "gres" not in collecting  # reporting needs no GPU


@pytest.mark.parametrize(
    "option", ["gpu", "-p gpu", "--partition gpu", "--mem=4G\n#SBATCH --uid=0", "--array=1-9", "--wrap=id", "--output=x"]
)
def test_what_is_no_single_option_is_refused(option):
    with pytest.raises(ValueError, match=r"sbatch|medseg itself"):
        SlurmOptions(options=(option,))


def test_without_sbatch_the_scripts_stay_and_the_error_says_what_to_do(tmp_path):
    array = write_array(Layout(tmp_path), SHOW, [], SHOW, SlurmOptions(), directory=tmp_path)
    with pytest.raises(ClusterError, match="this machine has no SLURM") as raised:
        submit(array, sbatch=str(tmp_path / "no-such-program"))
    assert raised.value.exit_code == 4
    assert str(array.folder) in str(raised.value)
    assert array.array.exists()
    assert array.collect.exists()


def test_a_refusal_of_sbatch_is_passed_on(tmp_path):
    array = write_array(Layout(tmp_path), SHOW, [], SHOW, SlurmOptions(), directory=tmp_path)
    sbatch = program(tmp_path / "sbatch", "sys.exit('sbatch: error: invalid partition specified: nowhere')")
    with pytest.raises(ClusterError, match=r"sbatch refused \(invalid partition specified: nowhere\)"):
        submit(array, sbatch=sbatch)


def test_the_second_job_waits_for_the_whole_array(tmp_path):
    array = write_array(Layout(tmp_path), SHOW, [], SHOW, SlurmOptions(), directory=tmp_path)
    record = f"open({str(tmp_path / 'calls')!r}, 'a').write(repr(sys.argv[1:]) + chr(10))"
    sbatch = program(tmp_path / "sbatch", f"{record}\nprint('17;federated' if 'array.sh' in sys.argv[-1] else '18')")
    submitted = submit(array, sbatch=sbatch)
    assert (submitted.array_job, submitted.collect_job) == ("17", "18")
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == ["['--parsable', 'array.sh']", "['--parsable', '--dependency=afterany:17', 'collect.sh']"]


def submitted_in(folder: Path) -> Submitted:
    return Submitted(SlurmArray(folder, folder / "array.sh", folder / "collect.sh"), "1", "2")


def test_jobs_that_are_gone_without_a_word_end_the_wait(tmp_path):
    squeue = program(tmp_path / "squeue", "sys.exit('slurm_load_jobs error: Invalid job id specified')")
    with pytest.raises(ClusterError, match="ended without collecting"):
        wait_for_results(submitted_in(tmp_path), squeue=squeue, every_s=0.01, settle_s=0.05)


def test_a_controller_that_does_not_answer_ends_no_wait(tmp_path):
    """Only the file that the job leaves counts; here it comes while squeue fails for the third time."""
    count = tmp_path / "count"
    text = f"""
from pathlib import Path
count = Path({str(count)!r})
count.write_text(count.read_text() + "x" if count.exists() else "x")
if len(count.read_text()) == 3:
    Path({str(tmp_path / "collected-2")!r}).write_text("1")
sys.exit("slurm_load_jobs error: Unable to contact slurm controller")
"""
    squeue = program(tmp_path / "squeue", text)
    assert wait_for_results(submitted_in(tmp_path), squeue=squeue, every_s=0.01, settle_s=0.0) == 1
    assert count.read_text() == "xxx"


def test_what_is_left_is_told(tmp_path):
    seen: list[int] = []

    def observe(left: int) -> None:
        seen.append(left)
        (tmp_path / "collected-2").write_text("0")

    squeue = program(tmp_path / "squeue", "print('1_1'); print('1_2'); print('2')")
    assert wait_for_results(submitted_in(tmp_path), squeue=squeue, every_s=0.01, observe=observe) == 0
    assert seen == [3]


def test_arguments_of_the_tasks_are_those_of_the_batch_without_its_cluster():
    given = ["in", "--slurm", "--slurm-shards=4", "--slurm-option", "--mem=4G", "-o", "out", "--slurm-wait", "--", "--slurm"]
    kept = without_options(given, flags=["--slurm", "--slurm-wait"], valued=["--slurm-shards", "--slurm-option"])
    assert kept == ("in", "-o", "out", "--", "--slurm")
