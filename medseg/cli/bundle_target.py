"""The machine a bundle is made for: its wheels' tags, and what markers in requirements mean there."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from typing import Any

from medseg.core.errors import OutputError

# name → tags for pip, then what `sys_platform`, `platform_system`, `os_name` and `platform_machine` are there
PLATFORMS: dict[str, tuple[tuple[str, ...], tuple[str, str, str, str]]] = {
    "linux-x86_64": (
        ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_24_x86_64", "manylinux2014_x86_64"),
        ("linux", "Linux", "posix", "x86_64"),
    ),
    "linux-aarch64": (
        ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_24_aarch64", "manylinux2014_aarch64"),
        ("linux", "Linux", "posix", "aarch64"),
    ),
    "windows-x86_64": (("win_amd64",), ("win32", "Windows", "nt", "AMD64")),
    "macos-arm64": (("macosx_14_0_arm64", "macosx_14_0_universal2"), ("darwin", "Darwin", "posix", "arm64")),
    "macos-x86_64": (("macosx_13_0_x86_64", "macosx_13_0_universal2"), ("darwin", "Darwin", "posix", "x86_64")),
}


@dataclass(frozen=True)
class Target:
    """A platform of `PLATFORMS` and a version of Python such as "3.12"."""

    platform: str
    python: str

    @property
    def pip_options(self) -> list[str]:
        """The options that make pip choose wheels for this machine; none can be built for another one."""
        tags = [option for tag in PLATFORMS[self.platform][0] for option in ("--platform", tag)]
        return ["--only-binary", ":all:", "--implementation", "cp", "--python-version", self.python, *tags]

    def markers(self, extra: str = "") -> dict[str, str]:
        """Return the environment in which the markers of requirements are read for this machine."""
        sys_platform, system, os_name, machine = PLATFORMS[self.platform][1]
        return {
            "sys_platform": sys_platform,
            "platform_system": system,
            "os_name": os_name,
            "platform_machine": machine,
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_version": "",
            "extra": extra,
        }


def this_machine() -> Target:
    """Return the target that this machine is; raises OutputError where it is none of those known."""
    system = {"linux": "linux", "win32": "windows", "darwin": "macos"}.get(sys.platform, sys.platform)
    machine = {"AMD64": "x86_64", "arm64": "arm64" if system == "macos" else "aarch64"}.get(platform.machine(), platform.machine())
    name = f"{system}-{machine}"
    if name not in PLATFORMS:
        raise OutputError(f"this machine ({name}) is none that wheels are known for: give --platform, one of {', '.join(PLATFORMS)}")
    return Target(name, f"{sys.version_info[0]}.{sys.version_info[1]}")


def requirements_module() -> Any:
    """Return `packaging.requirements`, from the package or from pip, which brings it along."""
    import importlib

    for name in ("packaging.requirements", "pip._vendor.packaging.requirements"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise OutputError("a bundle is fetched with pip, which this Python does not have: python -m ensurepip")
