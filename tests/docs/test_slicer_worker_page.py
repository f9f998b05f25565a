"""The page on the worker: its Python runs, its JSON is what the protocol takes, and it names every job, field and option."""

from __future__ import annotations

import json
import re
from pathlib import Path

from medseg.cli.bundle import bundle
from medseg.cli.bundle_folder import install_command
from medseg.cli.bundle_target import PLATFORMS, Target
from medseg.slicer_bridge.jobs import FORMATS, KINDS, LabelsRef, ScanRef

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "slicer_worker.md").read_text(encoding="utf-8")


def test_the_page_lists_every_job_with_its_fields():
    rows = {row[0]: row[1] for row in re.findall(r"^\| `(\w+)` \| (.*?) \|", TEXT, re.MULTILINE)}
    for kind, fields in KINDS.items():
        assert set(re.findall(r"`(\w+)`", rows[kind])) == set(fields), kind
        required = {name for name, rule in fields.items() if rule.required}
        assert set(re.findall(r"`(\w+)`", rows[kind].split("[")[0])) == required, kind


def test_the_references_of_the_page_are_valid():
    scans, labels = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    for entry in re.split(r"(?<=\})\n(?=\{)", scans.strip()):
        ScanRef.from_json(json.loads(entry))
    LabelsRef.from_json(json.loads(labels))


def test_formats_platforms_and_options_are_named():
    for name in (*FORMATS, *PLATFORMS):
        assert f"`{name}`" in TEXT, name
    for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", TEXT.split("## A machine without a network")[1].split("##")[0]):
        known = {flag for parameter in bundle.params for flag in parameter.opts} | {"--no-index", "--find-links", "--require-hashes"}
        assert option in known, option
    assert install_command(Target("linux-x86_64", "3.12")) in TEXT
