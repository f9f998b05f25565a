"""An example of every method, from method_examples/*.yaml: read, checked, and run on the scans of `example_scans`.

The keys of a file stand at the top of scripts/make_method_pictures.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.method.catalog import find
from medseg.method.method import Method, Stage
from medseg.method.schema import parameters_of
from medseg.phantom.example_scans import ExampleScan

FOLDER = Path(__file__).resolve().parents[1] / "method_examples"
SCANS = ("ct", "mr", "multi", "head")
LABEL_MAPS = ("truth", "seeds", "rough", "shifted", "lesions")
_KEYS = {"scan", "label_map", "parameters", "caption", "view", "window"}


@dataclass(frozen=True)
class Example:
    """One file: the method, the scan it runs on, its parameters as written, and how the picture is drawn."""

    name: str
    scan: str
    caption: str
    parameters: dict[str, Any] = field(default_factory=dict)
    label_map: str = "rough"
    view: dict[str, Any] = field(default_factory=dict)
    window: tuple[float, float] | None = None

    @property
    def method(self) -> Method:
        """The method it shows."""
        return find(self.name)

    def label_map_parameters(self) -> list[str]:
        """Return the names of the given parameters that take a label map; raises ValueError where one names none."""
        kinds = {info.name: info.kind for info in parameters_of(self.method.params)}
        names = [name for name in self.parameters if kinds.get(name) == "label-map"]
        for name in names:
            if self.parameters[name] not in LABEL_MAPS:
                raise ValueError(f"{self.name}.yaml: {name} takes a label map, one of {', '.join(LABEL_MAPS)}")
        return names

    def values(self, scan: ExampleScan) -> dict[str, Any]:
        """Return the parameters with every name of a label map replaced by the label map."""
        maps = {name: scan.label_maps[self.parameters[name]] for name in self.label_map_parameters()}
        return {**self.parameters, **maps}

    def subject(self, scan: ExampleScan) -> Volume | tuple[Volume, ...] | LabelMap:
        """Return what the method works on."""
        if self.method.stage is Stage.POSTPROCESS:
            return scan.label_maps[self.label_map]
        return scan.channels if self.method.several and len(scan.channels) > 1 else scan.volume

    def run(self, scan: ExampleScan) -> Any:
        """Run the method in Python."""
        method = self.method
        return method(self.subject(scan), method.build(self.values(scan)), volume=scan.volume)


def examples() -> dict[str, Example]:
    """Return every example by the name of its method; raises ValueError that names the file with a fault."""
    return {path.stem: read_example(path) for path in sorted(FOLDER.glob("*.yaml"))}


def example_names() -> list[str]:
    """Return the names of the methods that have an example."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def example(name: str) -> Example:
    """Return the example of a method; raises KeyError where it has none."""
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise KeyError(name)
    return read_example(path)


def read_example(path: Path) -> Example:
    """Return one example; raises ValueError that names the file and its fault."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as err:
        raise ValueError(f"{path.name} is no YAML (a caption with a colon needs quotes): {err}") from err
    if not isinstance(content, dict) or not {"scan", "caption"} <= set(content) <= _KEYS:
        raise ValueError(f"{path.name}: needs scan and caption, may have {', '.join(sorted(_KEYS - {'scan', 'caption'}))}")
    if content["scan"] not in SCANS or content.get("label_map", "rough") not in LABEL_MAPS:
        raise ValueError(f"{path.name}: scan is one of {', '.join(SCANS)}, label_map one of {', '.join(LABEL_MAPS)}")
    return Example(path.stem, **{key: value for key, value in content.items() if value is not None})
