"""Configuration files of bundles: references, macros, merging, targets, and one list of everything refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medseg.core.errors import IncompatibleModelError, ModelNotFoundError
from medseg.segmentation.learned.bundle.config import Component, Configuration, read_files, read_text

pytest.importorskip("monai")


def known(target: str) -> str | None:
    return target.rpartition(".")[2] if target.rpartition(".")[2] in ("UNet", "Compose", "SaveImaged") else None


def configuration(entries: dict[str, Any], root: Path | None = None) -> Configuration:
    return Configuration(entries, known, root, frozenset(("SaveImaged",)))


def test_references_are_followed_as_monai_follows_them() -> None:
    """Absolute, relative and nested ids give the values MONAI's parser gives."""
    from monai.bundle import ConfigParser

    entries = {
        "a": 2,
        "b": {"c": [1, "@a", "$@#1 + @###a"], "d": "@##a", "e": "%a", "f": "@b#c#0"},
        "g": "$@b::c[2] * @a",
        "h": "a text with @a in it",
        "i": "@b#c",
    }
    expected = ConfigParser(json.loads(json.dumps(entries)))
    ours = configuration(entries)
    for place in ("b::c::2", "b::d", "b::e", "b::f", "g", "h", "i"):
        assert ours.section(place) == expected.get_parsed_content(place), place
    assert ours.refusals == []


@pytest.mark.parametrize("entries", [{"a": "@b", "b": "@a"}, {"a": "$@a + 1"}, {"a": "%b", "b": "%a"}, {"a": {"x": "@a"}}])
def test_circles_are_refused(entries: dict[str, Any]) -> None:
    """A reference that leads back to itself ends in a refusal."""
    ours = configuration(entries)
    assert ours.section("a") is None
    assert "circle" in ours.refusals[0]


def test_all_refusals_are_collected_once() -> None:
    """Every refused thing is named with its place; what depends on it is not named again."""
    ours = configuration(
        {
            "bad": "$open('x')",
            "net": {"_target_": "UNet", "a": "@bad", "b": "$exec('1')", "c": {"_target_": "os.system", "command": "x"}},
        }
    )
    assert ours.section("net") is None
    assert len(ours.refusals) == 3
    text = "\n".join(ours.refusals)
    assert "open('x')" in text
    assert "net::b" in text
    assert "os.system" in text


def test_disabled_and_unread_targets() -> None:
    """A disabled component is None; the arguments of a target that is left out are not looked at."""
    ours = configuration(
        {
            "off": {"_target_": "os.system", "_disabled_": "$not @on", "command": "x"},
            "on": False,
            "save": {"_target_": "SaveImaged", "output_dir": "$datetime.now()"},
            "mode": {"_target_": "UNet", "_mode_": "callable"},
            "needs": {"_target_": "UNet", "_requires_": "$print('x')"},
            "fine": {"_target_": "monai.networks.nets.UNet", "_requires_": ["@on"], "_desc_": "a net", "x": 1},
        }
    )
    assert ours.section("off") is None
    assert ours.section("save") == Component("SaveImaged", {}, "save")
    assert ours.section("fine") == Component("UNet", {"x": 1}, "fine")
    assert ours.refusals == []
    assert ours.section("mode") is None
    assert ours.section("needs") is None
    assert len(ours.refusals) == 2


def test_macros_stay_within_the_bundle(tmp_path: Path) -> None:
    """A macro may name another file of the bundle, and none outside of it, by whatever way."""
    bundle = tmp_path / "bundle"
    (bundle / "configs").mkdir(parents=True)
    (bundle / "configs" / "more.json").write_text('{"net": {"_target_": "UNet", "x": [1, 2]}}')
    secret = tmp_path / "secret.json"
    secret.write_text('{"net": 1}')
    (bundle / "configs" / "link.json").symlink_to(secret)
    ours = configuration(
        {
            "a": "%configs/more.json#net",
            "b": "%../secret.json#net",
            "c": f"%{secret}::net",
            "d": "%configs/link.json#net",
            "e": "%none.json",
        },
        bundle,
    )
    assert ours.section("a") == Component("UNet", {"x": [1, 2]}, "a")
    for place in "bcde":
        assert ours.section(place) is None
    assert len(ours.refusals) == 4


def test_files_are_merged_in_order(tmp_path: Path) -> None:
    """Later files win, `#` reaches into entries, `+` adds to a list or a mapping: as in MONAI."""
    from monai.bundle import ConfigParser

    first, second = tmp_path / "a.json", tmp_path / "b.yaml"
    first.write_text('{"a": {"b": [1, 2], "c": {"d": 1}}, "e": 1}')
    second.write_text('"a#b#0": 5\n"+a#c": {x: 2}\n"+a#b": [9]\ne: 3\n')
    assert read_files([first, second]) == ConfigParser.load_config_files([str(first), str(second)])


# every line repeats the line before nine times: a few hundred bytes that stand for thousands of millions of entries
ALIASES = b"c0: &c0 [x, x]\n" + b"".join(b"c%d: &c%d [%s]\n" % (n, n, b", ".join([b"*c%d" % (n - 1)] * 9)) for n in range(1, 10))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.json", b"{"),
        ("x.json", b"[1]"),
        ("x.json", b'{"a": "\xff"}'),
        ("x.json", b"[" * 100_000),
        ("x.yaml", b"!!python/object/apply:os.system ['touch canary']"),
        ("x.yaml", ALIASES),
        ("x.yaml", b"a: &a {x: 1}\nb: {<<: *a}"),
        ("x.yaml", b"a: &a [*a]"),
        ("x.yaml", b"1: 2"),
    ],
)
def test_files_that_are_no_configuration(name: str, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken, bombed and poisoned files are refused with an error of our own."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IncompatibleModelError):
        read_text(content, name)
    assert not list(tmp_path.iterdir())


def test_a_missing_file(tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(ModelNotFoundError, match="inference"):
        read_files([tmp_path / "inference.json"])
