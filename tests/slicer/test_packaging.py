"""What ships: the CMake lists are the tree, names are unique, the catalog entry fits its schema, nothing heavy is imported."""

from __future__ import annotations

import ast
import csv
import json
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXTENSION = ROOT / "slicer_extension"
MODULES = ("MedSeg", "SegmentEditorMedSeg")
CODE = sorted(path for module in MODULES for path in (EXTENSION / module).rglob("*.py"))
# Slicer's own guideline for the file scope: the standard library, Slicer, VTK, SimpleITK, numpy, scipy. We allow less.
ALLOWED = {"slicer", "vtk", "qt", "ctk", "numpy", "MedSegLib", "SegmentEditorMedSegLib", "SegmentEditorEffects"} | set(
    sys.stdlib_module_names
)
SCHEMA_VERSION = "v1.0.2"

# The rules of Slicer's catalog schema v1.0.2, written out: what a key holds, and which keys must be there
CATALOG_TYPES = {
    "$schema": str, "category": str, "scm_url": str, "scm_revision": str, "scm_type": str, "build_dependencies": list,
    "dicom_support_rule": str, "build_subdirectory": str, "enabled": bool, "tier": int,
}  # fmt: skip
CATALOG_REQUIRED = {"$schema", "category", "scm_url"}


def cmake_list(module: str, name: str) -> list[str]:
    """The entries of a list in a module's CMakeLists.txt."""
    text = re.sub(r"#.*", "", (EXTENSION / module / "CMakeLists.txt").read_text(encoding="utf-8"))
    found = re.search(rf"set\({name}\s+(.*?)\)\s*\n", text, re.DOTALL)
    assert found, f"{module}/CMakeLists.txt has no {name}"
    return [entry.replace("${MODULE_NAME}", module) for entry in found.group(1).split()]


def shipped(module: str) -> set[str]:
    """The files of a module's folder that a user must get."""
    folder = EXTENSION / module
    left_out = ("CMakeLists.txt", "Testing/", "__pycache__")
    return {
        name
        for path in folder.rglob("*")
        if path.is_file() and not any(part in (name := path.relative_to(folder).as_posix()) for part in left_out)
    }


@pytest.mark.parametrize("module", MODULES)
def test_cmake_lists_are_the_tree(module):
    listed = cmake_list(module, "MODULE_PYTHON_SCRIPTS") + cmake_list(module, "MODULE_PYTHON_RESOURCES")
    assert sorted(listed) == sorted(shipped(module))


@pytest.mark.parametrize("module", MODULES)
def test_the_self_test_of_each_module_is_run_by_ctest(module):
    assert f"class {module}Test(" in (EXTENSION / module / f"{module}.py").read_text(encoding="utf-8")
    text = re.sub(r"#.*", "", (EXTENSION / module / "CMakeLists.txt").read_text(encoding="utf-8"))
    assert re.search(r"if\(BUILD_TESTING\)\s*slicer_add_python_unittest\(SCRIPT \$\{MODULE_NAME\}\.py\)\s*endif", text)


def test_no_two_files_land_on_the_same_path():
    landing = [name for module in MODULES for name in shipped(module)]
    assert len({name.casefold() for name in landing}) == len(landing)


def test_every_module_is_part_of_the_extension():
    text = (EXTENSION / "CMakeLists.txt").read_text(encoding="utf-8")
    assert re.findall(r"add_subdirectory\((\w+)\)", text) == list(MODULES)
    assert {path.parent.name for path in EXTENSION.glob("*/CMakeLists.txt")} == set(MODULES)


def test_catalog_entry_fits_its_schema():
    entry = json.loads((EXTENSION / "MedSeg.json").read_text(encoding="utf-8"))
    assert entry["$schema"].endswith(f"catalog-entry-schema-{SCHEMA_VERSION}.json#")
    assert set(entry) <= set(CATALOG_TYPES)
    assert set(entry) >= CATALOG_REQUIRED
    assert all(type(value) is CATALOG_TYPES[name] for name, value in entry.items())
    assert 1 <= entry["tier"] <= 5
    assert all(isinstance(name, str) for name in entry["build_dependencies"])
    assert entry["scm_url"].endswith(".git")


def test_catalog_entry_says_what_cmake_says():
    entry = json.loads((EXTENSION / "MedSeg.json").read_text(encoding="utf-8"))
    said = dict(
        re.findall(r'set\(EXTENSION_(\w+) "([^"]*)"\)', re.sub(r" #.*", "", (EXTENSION / "CMakeLists.txt").read_text(encoding="utf-8")))
    )
    assert said["CATEGORY"] == entry["category"]
    assert said["HOMEPAGE"] == entry["scm_url"].removesuffix(".git")
    assert said["DEPENDS"] == "NA"
    assert entry["build_dependencies"] == []
    for address in [said["ICONURL"], *said["SCREENSHOTURLS"].split()]:
        path = re.sub(r"https://raw\.githubusercontent\.com/[^/]+/[^/]+/main/", "", address)
        assert (EXTENSION / path).is_file(), path


def test_icon_is_a_square_of_128():
    header = (EXTENSION / "MedSeg.png").read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", header[16:24]) == (128, 128)


def test_module_icon_reads_on_light_and_on_dark():
    text = (EXTENSION / "MedSeg" / "Resources" / "Icons" / "MedSeg.svg").read_text(encoding="utf-8")
    for colour in set(re.findall(r'(?:fill|stroke)="(#[0-9a-f]{6})"', text)) - {"#ffffff"}:
        assert min(contrast(colour, "#ffffff"), contrast(colour, "#2b2b2b")) >= 3, colour


def contrast(one: str, other: str) -> float:
    """Contrast by WCAG 2.1; 3:1 is what it asks of graphics."""
    levels = []
    for colour in (one, other):
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        levels.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(levels) + 0.05) / (min(levels) + 0.05)


def file_scope(tree: ast.Module) -> list[ast.stmt]:
    """Statements that run on import, inside `if` and `try` too."""
    found: list[ast.stmt] = []
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        found.append(node)
        if isinstance(node, (ast.If, ast.Try, ast.With)) and "TYPE_CHECKING" not in ast.unparse(node):
            waiting += [child for child in ast.walk(node) if isinstance(child, ast.stmt) and child is not node]
    return found


def imported(node: ast.AST) -> list[str]:
    """The packages that a statement imports, "" for one of its own folder."""
    if isinstance(node, ast.Import):
        return [alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return ["" if node.level else (node.module or "").split(".")[0]]
    return []


def code() -> Iterator[tuple[str, ast.Module]]:
    """Every file that ships, with its name."""
    for path in CODE:
        yield path.name, ast.parse(path.read_text(encoding="utf-8"))


def test_nothing_heavy_is_imported_at_file_scope():
    """Not even medseg: the panel opens, and says what to install, where nothing is."""
    for name, tree in code():
        for node in file_scope(tree):
            heavy = set(imported(node)) - ALLOWED - {""}
            assert not heavy, f"{name} line {node.lineno} imports {heavy} when it is loaded"


def test_nothing_runs_at_file_scope():
    """Only definitions, imports, constants and the docstring: no call that installs, downloads or shows anything."""
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.If)
    for name, tree in code():
        for node in tree.body:
            is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            assert is_text or isinstance(node, kinds), f"{name}: {ast.unparse(node)}"


def test_pip_is_called_by_the_installation_only():
    for name, tree in code():
        calls = {node.func.attr for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)}
        assert name == "install.py" or not calls & {"pip_install", "pip_ensure", "pip_uninstall"}


def test_nothing_is_sent_anywhere():
    for name, tree in code():
        modules = {module for node in ast.walk(tree) for module in imported(node)}
        assert not modules & {"requests", "urllib", "http", "socket", "ftplib", "smtplib"}, name


def is_bare(node: ast.AST) -> bool:
    """Whether a text for people stands there as it is, not in _()."""
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"[A-Za-z]{3}", node.value) is not None


def test_sentences_can_be_translated():
    """A text that is shown (setText, toolTip, tell, JobError and the like) is wrapped in _()."""
    calls = {
        "setText",
        "setToolTip",
        "setPlaceholderText",
        "tell",
        "JobError",
        "confirmOkCancelDisplay",
        "confirmYesNoDisplay",
        "errorDisplay",
    }
    for name, tree in code():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args:
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                assert not (called in calls and is_bare(node.args[0])), f"{name} line {node.lineno}: {ast.unparse(node)}"
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
                shown = node.targets[0].attr in ("text", "toolTip", "helpText", "acknowledgementText")
                assert not (shown and is_bare(node.value)), f"{name} line {node.lineno}: {ast.unparse(node)}"


def test_files_and_functions_are_short():
    for name, tree in code():
        assert (tree.body[-1].end_lineno or 0) <= 400, name
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{name}: {node.name}"


@pytest.mark.parametrize("path", sorted(EXTENSION.rglob("*.ui")), ids=lambda path: path.name)
def test_panels_are_sound(path):
    root = ElementTree.parse(path).getroot()
    names = [widget.get("name") for widget in root.iter("widget")]
    assert len(names) == len(set(names))
    assert root.find("widget").get("class") == "qMRMLWidget"
    for connection in root.iter("connection"):
        assert connection.findtext("receiver") in names
    custom = {entry.findtext("class") for entry in root.iter("customwidget")}
    used = {widget.get("class") for widget in root.iter("widget") if not widget.get("class").startswith("Q")}
    assert used <= custom


def test_bound_names_are_fields_of_the_parameter_node():
    root = ElementTree.parse(EXTENSION / "MedSeg" / "Resources" / "UI" / "MedSeg.ui").getroot()
    bound = {prop.findtext("string") for prop in root.iter("property") if prop.get("name") == "SlicerParameterName"}
    tree = ast.parse((EXTENSION / "MedSeg" / "MedSegLib" / "state.py").read_text(encoding="utf-8"))
    (state,) = (node for node in tree.body if isinstance(node, ast.ClassDef))
    assert bound <= {node.target.id for node in state.body if isinstance(node, ast.AnnAssign)}
    assert {"inputVolume", "segmentation", "createNew", "measureAfterwards", "device"} <= bound


def test_terms_are_those_of_the_bridge():
    from medseg.slicer_bridge.terminology import term_json

    assert (EXTENSION / "MedSeg" / "Resources" / "MedSeg.term.json").read_text(encoding="utf-8") == term_json()


def test_requirements_leave_alone_what_slicer_ships():
    text = (EXTENSION / "MedSeg" / "Resources" / "MedSeg-requirements.txt").read_text(encoding="utf-8")
    names = {re.split(r"[<>=!~ ]", line)[0].casefold() for line in text.splitlines() if line and not line.startswith("#")}
    assert not names & {"numpy", "scipy", "simpleitk", "vtk", "requests", "torch", "medseg"}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    needed = re.search(r"^dependencies = \[(.*?)^\]", project, re.DOTALL | re.MULTILINE).group(1)
    wanted = {re.split(r"[<>=!~; ]", entry)[0].casefold() for entry in re.findall(r'"([^"]+)"', needed)}
    assert names == wanted - {"numpy", "scipy", "simpleitk"}


def test_sample_files_are_listed_with_their_checksums():
    with open(ROOT / "sample_data" / "MANIFEST.tsv", encoding="utf-8") as file:
        rows = list(csv.DictReader((line for line in file if not line.startswith("#")), delimiter="\t"))
    assert all(re.fullmatch("[0-9a-f]{64}", row["sha256"]) for row in rows)
    assert sum(row["file"].endswith(".dcm") for row in rows) > 3


def test_licence_is_that_of_the_project():
    assert (EXTENSION / "LICENSE.txt").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_readme_has_what_the_index_asks_for():
    text = (EXTENSION / "README.md").read_text(encoding="utf-8")
    for wanted in (
        "MedSeg.png",
        "Screenshots/",
        "## Tutorial",
        "## Modules",
        "## Citation",
        "## Licence",
        "not a medical device",
        "Nothing is sent",
    ):
        assert wanted.casefold() in text.casefold(), wanted
    for link in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
        assert (EXTENSION / link).is_file(), link


def test_the_page_names_what_the_panel_shows():
    """Every name in bold on the page is written on the panel; every picture is there."""
    page = (ROOT / "docs" / "slicer.md").read_text(encoding="utf-8")
    panel = (EXTENSION / "MedSeg" / "Resources" / "UI" / "MedSeg.ui").read_text(encoding="utf-8")
    panel += "".join(path.read_text(encoding="utf-8") for path in CODE if path.parent.name in ("MedSeg", "MedSegLib"))
    for name in re.findall(r"\*\*([^*]+)\*\*", page):
        assert f">{name}" in panel or f'"{name}"' in panel, name
    for picture in re.findall(r"\]\((pictures/[^)]+)\)", page):
        assert (ROOT / "docs" / picture).is_file(), picture
