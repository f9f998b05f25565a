"""The public surface: what it lists is there, and importing it stays cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import medseg

HEAVY = ("torch", "vtk", "vtkmodules", "numba", "pydicom", "SimpleITK", "nibabel", "highdicom", "monai", "matplotlib", "scipy")


def test_every_listed_name_can_be_had():
    for name in medseg.__all__:
        assert getattr(medseg, name) is not None


def test_the_stub_lists_the_same_names():
    tree = ast.parse((Path(medseg.__file__).parent / "__init__.pyi").read_text())
    stubbed = {alias.asname for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert stubbed == set(medseg.__all__) - {"__version__"}


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(medseg, "volumes")


def _loaded_after(*arguments: str) -> set[str]:
    """Return which heavy packages a fresh interpreter has loaded after running its argument."""
    code = f"{arguments[0]}\nimport sys\nprint('LOADED', *[n for n in {HEAVY!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split("LOADED")[1].split())


def test_import_loads_nothing_heavy():
    assert _loaded_after("import medseg") == set()


def test_help_loads_nothing_heavy():
    assert _loaded_after("from medseg.cli.main import run; run(['--help'])") == set()


def test_listing_methods_loads_nothing_heavy():
    assert _loaded_after("import medseg; medseg.methods()") == set()
