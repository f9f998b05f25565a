"""The page on the batch: every option it names exists, every option there is is named, its Python and its sentences hold."""

from __future__ import annotations

import re
from pathlib import Path

from medseg.batch.cases.series_rules import CHOICES, parse_selection
from medseg.batch.records.layout import Layout
from medseg.cli.batch import batch
from medseg.cli.review import review
from medseg.cli.verify import verify

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "batch.md").read_text(encoding="utf-8")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
ELSEWHERE = {"--quiet", "--help", "--overwrite"}


def options_of(command) -> set[str]:
    return {flag for parameter in command.params for flag in parameter.opts if flag.startswith("--")}


def test_every_option_of_the_page_exists():
    assert set(OPTION.findall(TEXT)) <= options_of(batch) | options_of(verify) | options_of(review)


def test_every_option_of_the_commands_is_on_the_page_or_on_that_of_the_clusters():
    named = set(OPTION.findall(TEXT)) | ELSEWHERE | {"--output"}
    there = options_of(batch) | options_of(verify)
    assert {option for option in there - named if not option.startswith(("--slurm", "--dask"))} == set()


def test_the_rules_of_the_page_are_understood():
    table = TEXT.split("| `--select` |")[1].split("\n\n")[0]
    rules = re.findall(r"`([^`]+)`", table.split("|---|---|")[1])
    assert set(CHOICES) <= set(rules)
    for rule in rules:
        parse_selection([rule])


def test_the_files_of_the_page_are_those_of_the_folder(tmp_path):
    layout = Layout(tmp_path)
    for name in (
        "cohort",
        "cohort_wide",
        "qc",
        "flow",
        "summary",
        "lock",
        "found",
        "batch",
        "events",
        "private",
        "state",
        "review",
        "cases",
    ):
        assert f"`{getattr(layout, name).name}" in TEXT, name


def test_the_python_of_the_page_names_what_there_is(tmp_path, monkeypatch):
    """Run with a stand-in for the cases, which are not there."""
    import medseg.batch.batch
    from medseg.batch.run.run_options import Summary

    (snippet,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    asked = []

    def run_batch(request, options, *, observe):
        asked.append((request, options))
        return medseg.batch.batch.BatchDone(Summary(done=3), None, None)

    monkeypatch.setattr(medseg.batch.batch, "run_batch", run_batch)
    exec(compile(snippet, "batch.md", "exec"), {})
    ((request, options),) = asked
    assert (request.pipeline.name, options.workers) == ("ct-body-composition", 2)


def test_the_links_lead_somewhere():
    for name in re.findall(r"\]\(([\w_]+\.md)\)", TEXT):
        assert (ROOT / "docs" / name).is_file(), name
