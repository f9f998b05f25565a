"""What runs in a folder, where its scans lie, and what differs from the last run."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from medseg.batch.records.batch_file import changes, keep_salt, known_salt, read_batch, read_source, write_batch, write_source
from medseg.batch.records.layout import Layout
from medseg.batch.records.plan import Plan
from medseg.core.errors import UnreadableFileError
from medseg.io.options import ReadOptions
from medseg.pipeline import parse_pipeline

ENVIRONMENT = {"python": "CPython 3.11.1", "platform": "Linux", "libraries": {"numpy": "2.1.0"}}


def plan(lower: float = 0, **values) -> Plan:
    text = f"schema: medseg.pipeline/1\nname: p\nsegment: {{method: threshold, parameters: {{lower: {lower}, label: bright}}}}\n"
    return Plan(parse_pipeline(text, "p.yaml"), "1.0", **values)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "out")


def test_a_plan_comes_back_as_it_was_written(layout):
    given = plan(3, formats=("nii.gz",), reading=ReadOptions(spacing_mm=(1.0, 2.0, 3.0), allow_gaps=True), models={"m": "ab"})
    assert read_batch(layout) is None
    write_batch(layout, given, None, ENVIRONMENT)
    found = read_batch(layout)
    assert (found.plan, found.plan.key) == (given, given.key)
    assert [dict(entry) for entry in found.environments] == [ENVIRONMENT]


def test_the_same_again_changes_nothing_and_another_environment_is_added(layout):
    write_batch(layout, plan(), None, ENVIRONMENT)
    before = layout.batch.stat().st_mtime_ns, layout.batch.read_bytes()
    write_batch(layout, plan(), read_batch(layout), ENVIRONMENT)
    assert (layout.batch.stat().st_mtime_ns, layout.batch.read_bytes()) == before
    other = {**ENVIRONMENT, "libraries": {"numpy": "2.2.0"}}
    write_batch(layout, plan(), read_batch(layout), other)
    write_batch(layout, plan(), read_batch(layout), ENVIRONMENT)
    assert [dict(entry) for entry in read_batch(layout).environments] == [ENVIRONMENT, other]


def test_what_differs_is_named_to_the_parameter(layout):
    write_batch(layout, plan(100), None, ENVIRONMENT)
    said, libraries = changes(read_batch(layout), plan(150, formats=("dcm",)), {**ENVIRONMENT, "libraries": {"numpy": "2.2.0"}})
    assert "pipeline.segment.parameters.lower: 100, now 150" in said
    assert any(line.startswith("formats: []") for line in said)
    assert libraries == ["numpy 2.1.0, now 2.2.0"]
    assert changes(read_batch(layout), plan(100), ENVIRONMENT) == ([], [])


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"schema": "medseg.batch/1"}', "null", '{"pipeline": 3, "reading": {"spacing_mm": 1}}']
)
def test_a_file_that_is_none_of_ours_is_refused_with_advice(layout, content):
    layout.folder.mkdir()
    layout.batch.write_text(content)
    with pytest.raises(UnreadableFileError, match="give another folder, or remove the file"):
        read_batch(layout)


def test_the_folder_of_the_scans_is_kept_in_the_private_part_whatever_its_name(layout):
    assert read_source(layout) is None
    source = Path("/data/na\udce9ve \N{LATIN SMALL LETTER E WITH ACUTE}")
    keep_salt(layout, b"x" * 32)
    write_source(layout, source)
    assert read_source(layout) == source
    assert stat.S_IMODE(layout.source.stat().st_mode) == 0o600
    assert json.loads(layout.source.read_bytes())["schema"] == "medseg.folder/1"


def test_an_empty_salt_is_replaced(layout):
    layout.private.mkdir(parents=True)
    layout.salt.write_bytes(b"")  # pseudonyms without a salt could be guessed
    assert known_salt(layout) is None
    assert keep_salt(layout, b"x" * 32) == known_salt(layout) == b"x" * 32
    assert [path.name for path in layout.private.iterdir()] == ["salt"]


def test_a_salt_that_is_none_is_not_taken(layout):
    """With it every pseudonym would change without a word."""
    layout.private.mkdir(parents=True)
    layout.salt.write_bytes(b"random bytes")
    with pytest.raises(UnreadableFileError, match="bring it back"):
        known_salt(layout)


def test_a_salt_is_kept_once_and_for_its_owner_alone(layout):
    first, second = b"1" * 32, b"2" * 32
    assert known_salt(layout) is None
    assert not layout.folder.exists()
    assert keep_salt(layout, first) == first
    assert keep_salt(layout, second) == first
    assert known_salt(layout) == first
    assert stat.S_IMODE(layout.private.stat().st_mode) == 0o700
    assert stat.S_IMODE(layout.salt.stat().st_mode) == 0o600
    assert [path.name for path in layout.private.iterdir()] == ["salt"]
