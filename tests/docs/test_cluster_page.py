"""The page on clusters: every option it names exists, and every option for clusters is named."""

from __future__ import annotations

import re
from pathlib import Path

from medseg.batch.cluster.dask_clusters import OPTION_NAMES
from medseg.batch.cluster.dask_task import MOST_STARTS
from medseg.batch.cluster.slurm import WARNING_S
from medseg.cli.batch import batch

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
# of sbatch and of dask worker
FOREIGN = {"--cpus-per-task", "--mem", "--time", "--partition", "--gres", "--signal", "--nthreads", "--resources"}


def test_every_option_of_the_page_exists():
    there = {flag for parameter in batch.params for flag in parameter.opts}
    assert set(OPTION.findall(TEXT)) - FOREIGN - there == set()


def test_every_option_for_clusters_is_on_the_page():
    there = {flag for parameter in batch.params for flag in parameter.opts if flag.startswith(("--slurm", "--dask"))}
    assert len(there) == 9
    assert {flag for flag in there if f"| `{flag}" not in TEXT} == set()


def test_every_option_of_a_pool_is_on_the_page():
    assert {name for name in OPTION_NAMES if f"`{name}`" not in TEXT} == set()


def test_the_numbers_are_those_of_the_code():
    assert f"B:USR1@{WARNING_S}" in TEXT
    assert (MOST_STARTS, "three times in all" in TEXT) == (3, True)
