"""What a run stands on: libraries by version, and what differs in words."""

from __future__ import annotations

import importlib.metadata

from medseg.batch.records.environment import differences, environment, library_versions


def test_direct_and_indirect_dependencies_have_the_versions_that_are_installed():
    found = library_versions("medseg")
    for name in ("numpy", "numba", "llvmlite", "pydantic-core", "simpleitk", "pyyaml"):  # llvmlite: only through numba
        assert found[name] == importlib.metadata.version(name), name
    assert list(found) == sorted(found)
    assert not {"pytest", "ruff", "mypy", "hypothesis"} & set(found)  # tools of the tests are no part of a result


def test_a_package_that_is_not_installed_has_no_libraries():
    assert library_versions("no-package-is-called-this") == {}


def test_extras_of_dependencies_count_only_when_asked_for(monkeypatch):
    class Package:
        def __init__(self, *requires):
            self.requires, self.version = list(requires), "1"

    packages = {
        "root": Package("a[fast]>=1", "b ; sys_platform == 'win32'", "t; extra == 'dev'"),
        "a": Package("c; extra == 'fast'", "d; extra == 'slow'", "root"),
        "c": Package(), "d": Package(), "t": Package(),
    }  # fmt: skip

    def distribution(name):
        if name not in packages:
            raise importlib.metadata.PackageNotFoundError(name)
        return packages[name]

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    assert library_versions("root") == {"a": "1", "c": "1", "root": "1"}


def test_nothing_names_the_machine():
    import getpass
    import platform

    text = str(environment())
    assert platform.node() not in text or len(platform.node()) < 3
    assert getpass.getuser() not in text.split()


def test_differences_are_said_for_each_library():
    before = {"python": "CPython 3.11.1", "platform": "Linux", "libraries": {"a": "1", "b": "1", "gone": "3"}}
    now = {"python": "CPython 3.12.0", "platform": "Linux", "libraries": {"a": "1", "b": "2", "new": "4"}}
    assert differences(before, now) == [
        "CPython 3.11.1, now CPython 3.12.0",
        "b 1, now 2",
        "gone 3, now not installed",
        "new not installed, now 4",
    ]
    assert differences(now, now) == []
