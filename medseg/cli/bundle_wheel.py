"""medseg itself as a wheel, made from the package as it is installed: no build tools and no network are needed."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import medseg
from medseg.core.errors import OutputError

DEVELOPERS = ("dev", "slicer-test")  # extras of those who develop medseg: never in a bundle
_LEFT_OUT = {"__pycache__"}
_STAMP = (2020, 1, 1, 0, 0, 0)  # the same package gives the same file


def write_own_wheel(folder: Path) -> Path:
    """Write medseg-<version>-py3-none-any.whl into a folder and return its path; raises OutputError."""
    version = medseg.__version__
    info = f"medseg-{version}.dist-info"
    path = folder / f"medseg-{version}-py3-none-any.whl"
    records: list[str] = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in [*_package_files(), *_metadata(info, version)]:
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode("ascii")
            records.append(f"{name},sha256={digest},{len(content)}")
            _put(wheel, name, content)
        records.append(f"{info}/RECORD,,")
        _put(wheel, f"{info}/RECORD", ("\n".join(records) + "\n").encode("utf-8"))
    return path


def _put(wheel: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _STAMP)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    wheel.writestr(entry, content)


def _package_files() -> Iterator[tuple[str, bytes]]:
    """Yield the files of the package with their names in the wheel; the sample study belongs to it."""
    package = Path(medseg.__file__).parent
    yield from _files_below(package, "medseg")
    beside = package.parent / "sample_data"  # of a working copy
    if not (package / "sample_data").is_dir() and (beside / "MANIFEST.tsv").is_file():
        yield from _files_below(beside, "medseg/sample_data")


def _files_below(folder: Path, name: str) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not _LEFT_OUT & set(parts) and not path.name.startswith("."):
            yield "/".join((name, *parts)), path.read_bytes()


def _metadata(info: str, version: str) -> Iterator[tuple[str, bytes]]:
    """Yield the description of the package as its installation keeps it."""
    try:
        installed = importlib.metadata.distribution("medseg")
    except importlib.metadata.PackageNotFoundError as err:
        raise OutputError("medseg runs from a folder that was never installed: pip install it, then make the bundle") from err
    text = installed.read_text("METADATA")
    if text is None or installed.version != version:
        raise OutputError(f"medseg {version} runs, but {installed.version} is what was installed: install it again, then make the bundle")
    _check_fresh(installed.requires or [])
    yield f"{info}/METADATA", text.encode("utf-8")
    yield f"{info}/WHEEL", b"Wheel-Version: 1.0\nGenerator: medseg\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    entry_points = installed.read_text("entry_points.txt")
    if entry_points is not None:
        yield f"{info}/entry_points.txt", entry_points.encode("utf-8")
    for file in installed.files or ():
        if ".dist-info/licenses/" in file.as_posix():
            yield f"{info}/licenses/{file.name}", Path(str(file.locate())).read_bytes()


def _check_fresh(required: list[str]) -> None:
    """Raise where a working copy requires packages by now that its installation knows nothing of."""
    project = Path(medseg.__file__).parents[1] / "pyproject.toml"
    if not project.is_file() or sys.version_info < (3, 11):
        return
    import tomllib

    described = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {})
    extras = [needs for extra, needs in described.get("optional-dependencies", {}).items() if extra not in DEVELOPERS]
    listed = [*described.get("dependencies", ()), *(one for needs in extras for one in needs)]
    missing = sorted({_name_of(one) for one in listed} - {_name_of(one) for one in required} - {"medseg"})
    if missing and described.get("name") == "medseg":
        text = (
            f"medseg was installed before it required {missing[0]}: install the working copy again (pip install -e .), then make the bundle"
        )
        raise OutputError(text)


def _name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", found.group()).lower() if found else ""
