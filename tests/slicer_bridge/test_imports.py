"""Inside Slicer only the standard library and numpy can be counted on: the bridge must load with nothing else there."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

import pytest

FOREIGN = (
    "pydantic", "scipy", "numba", "pydicom", "nibabel", "highdicom", "SimpleITK", "torch", "monai", "click", "rich", "skimage", "vtk",
    "matplotlib", "jinja2", "slicer", "qt", "ctk",
)  # fmt: skip
# what the host loads; the worker's own files run in an environment that has everything
LIGHT = ("arrays", "array_files", "terminology", "rows", "jobs", "job_fields", "client", "doctor", "paths")

PROGRAM = """
import importlib, importlib.abc, json, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {foreign!r}:
            raise ModuleNotFoundError("not inside Slicer: " + name, name=name)
        return None

sys.meta_path.insert(0, Blocked())
importlib.import_module({module!r})
print(json.dumps(sorted(name for name in sys.modules if name.startswith("medseg."))))
"""


def loaded_by(module: str) -> tuple[int, list[str], str]:
    program = PROGRAM.format(foreign=FOREIGN, module=module)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout) if done.returncode == 0 else [], done.stderr


@pytest.mark.parametrize("name", LIGHT)
def test_loads_with_numpy_and_the_core_alone(name: str) -> None:
    code, modules, error = loaded_by(f"medseg.slicer_bridge.{name}")
    assert code == 0, error
    assert f"medseg.slicer_bridge.{name}" in modules
    strange = [module for module in modules if module.split(".")[1] not in ("core", "slicer_bridge")]
    assert strange == []


def test_only_the_worker_is_heavy() -> None:
    """A new file of the bridge is either loaded by the host, and stands in the list above, or is the worker's."""
    import medseg.slicer_bridge

    names = {module.name for module in pkgutil.iter_modules(medseg.slicer_bridge.__path__)}
    assert {name for name in names if not name.startswith("worker")} == set(LIGHT)


def test_the_blocker_blocks() -> None:
    code, _, error = loaded_by("medseg.method.method")
    assert code != 0
    assert "not inside Slicer" in error
