"""`slicer.packaging` that installs nothing: it asks as Slicer asks and writes down what it would have installed."""

from __future__ import annotations

import importlib.metadata
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer.util
from packaging.requirements import Requirement

OFFERED = ("load_requirements", "pip_check", "pip_ensure", "pip_install", "pip_uninstall")


def _requirements(given: Any) -> list[Requirement]:
    if isinstance(given, Requirement):
        return [given]
    words = given.split() if isinstance(given, str) else given
    return [word if isinstance(word, Requirement) else Requirement(word) for word in words]


class Packaging:
    """Test side: `installed` is what pip would have been given; `fail` lets the next installation fail."""

    def __init__(self) -> None:
        self.installed: list[str] = []
        self.removed: list[str] = []
        self.constraints: list[str] = []  # the lines of the last file that was given
        self.fail = False

    def clear(self) -> None:
        self.installed.clear()
        self.removed.clear()
        self.constraints.clear()
        self.fail = False

    def load_requirements(self, path: str | Path) -> list[Requirement]:
        lines = [line.partition("#")[0].strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
        return [Requirement(line) for line in lines if line and not line.startswith("-")]

    def pip_check(self, req: Any, _seen: Any = None) -> bool:
        return all(self._present(requirement) for requirement in _requirements(req))

    def _present(self, requirement: Requirement) -> bool:
        if str(requirement) in self.installed:
            return True
        try:
            return requirement.specifier.contains(importlib.metadata.version(requirement.name), prereleases=True)
        except importlib.metadata.PackageNotFoundError:
            return False

    def pip_ensure(
        self,
        requirements: Any,
        constraints: str | Path | None = None,
        skip_packages: list[str] | None = None,
        prompt_install: bool = True,
        prompt_restart: bool = True,
        requester: str | None = None,
        skip_in_testing: bool = True,
        show_progress: bool = True,
    ) -> list[str] | None:
        missing = [requirement for requirement in _requirements(requirements) if not self._present(requirement)]
        if not missing or (skip_in_testing and slicer.app.testingEnabled()):
            return None
        if prompt_install:
            title = f"{requester} - Install Python Packages" if requester else "Install Python Packages"
            question = f"{len(missing)} Python packages need to be installed.\n\nThis will modify Slicer's Python environment. Continue?"
            if not slicer.util.confirmOkCancelDisplay(
                question, title, detailedText="\n".join(f"- {requirement}" for requirement in missing)
            ):
                raise RuntimeError("User declined package installation")
        return self.pip_install([str(requirement) for requirement in missing], constraints=constraints, requester=requester)

    def pip_install(  # noqa: PLR0917 Slicer's own signature
        self,
        requirements: str | list[str],
        constraints: str | Path | None = None,
        no_deps_requirements: str | list[str] | None = None,
        skip_packages: list[str] | None = None,
        blocking: bool = True,
        show_progress: bool = True,
        requester: str | None = None,
        logCallback: Callable[[str], None] | None = None,
        completedCallback: Callable[[int], None] | None = None,
    ) -> list[str] | None:
        words = requirements.split() if isinstance(requirements, str) else list(requirements)
        failed, self.fail = self.fail, False
        if constraints is not None:
            self.constraints[:] = Path(constraints).read_text(encoding="utf-8").split()
        if logCallback:
            logCallback(f"Collecting {' '.join(words)}")
        if failed and blocking:
            raise subprocess.CalledProcessError(1, ["PythonSlicer", "-m", "pip", "install", *words])
        if not failed:
            self.installed += words
        if not blocking and completedCallback:
            completedCallback(int(failed))
        return [] if skip_packages is not None else None

    def pip_uninstall(self, requirements: str | list[str], **_options: Any) -> None:
        self.removed += requirements.split() if isinstance(requirements, str) else list(requirements)


packaging = Packaging()
