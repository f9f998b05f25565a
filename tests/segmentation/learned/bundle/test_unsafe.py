"""Bundles that try to run something: refused with everything named, and not one file appears."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from medseg.core.errors import ModelError, UnsafeModelError
from medseg.core.volume import Volume
from medseg.segmentation.learned.bundle.model import open_bundle
from medseg.segmentation.learned.trained import Request

CANARY = "canary_of_the_bundle_tests"
CODE = f"__import__('os').system('touch {CANARY}')"


def _network(entries: dict[str, Any], **changes: Any) -> None:
    entries["network_def"].update(changes)


def _before(entries: dict[str, Any], part: dict[str, Any]) -> None:
    entries["preprocessing"]["transforms"].insert(1, {"keys": "@image_key", **part})


def _after(entries: dict[str, Any], part: dict[str, Any]) -> None:
    entries["postprocessing"]["transforms"].insert(1, {"keys": "pred", **part})


ATTACKS: dict[str, Any] = {
    "network argument": lambda e: _network(e, norm=f"${CODE}"),
    "network target": lambda e: _network(e, _target_="os.system", command=f"touch {CANARY}"),
    "own script": lambda e: _network(e, _target_="scripts.net.Evil"),
    "target by expression": lambda e: _network(e, _target_="$__import__('os').system"),
    "target by reference": lambda e: _network(e, _target_="@evil"),
    "nested component": lambda e: _network(e, channels={"_target_": "subprocess.run", "args": ["touch", CANARY]}),
    "required": lambda e: _network(e, _requires_=f"${CODE}"),
    "disabled": lambda e: _network(e, _disabled_=f"${CODE}"),
    "debugger": lambda e: _network(e, _mode_="debug"),
    "callable": lambda e: _network(e, _mode_="callable"),
    "lambda before": lambda e: _before(e, {"_target_": "Lambdad", "func": f"$lambda x: {CODE}"}),
    "lambda after": lambda e: _after(e, {"_target_": "Lambdad", "func": f"$lambda x: {CODE}"}),
    "post function": lambda e: e["postprocessing"]["transforms"][1].update(post_func=f"$lambda x: {CODE}"),
    "crop function": lambda e: _before(e, {"_target_": "CropForegroundd", "source_key": "image", "select_fn": f"$lambda x: {CODE}"}),
    "activation": lambda e: _after(e, {"_target_": "Activationsd", "other": f"$lambda x: {CODE}"}),
    "reader": lambda e: e["preprocessing"]["transforms"][0].update(reader=f"${CODE}"),
    "reader class": lambda e: e["preprocessing"]["transforms"][0].update(reader="scripts.reader.Evil"),
    "pickle reader": lambda e: e["preprocessing"]["transforms"][0].update(reader="NumpyReader"),
    "loading": lambda e: _before(e, {"_target_": "monai.data.utils.pickle_operations", "data": "x"}),
    "saver": lambda e: _before(e, {"_target_": "SaveImage", "output_dir": "."}),
    "inferer": lambda e: e["inferer"].update(roi_size=f"${CODE}"),
    "inferer target": lambda e: e["inferer"].update(_target_="monai.bundle.run"),
    "inferer weights": lambda e: e["inferer"].update(roi_weight_map=f"$torch.load('{CANARY}')"),
    "by reference": lambda e: (e.update(evil=f"${CODE}"), _network(e, norm="@evil")),
    "by macro": lambda e: (e.update(evil={"x": f"${CODE}"}), _network(e, norm="%evil#x")),
    "macro to a file": lambda e: _network(e, norm="%/etc/passwd.json"),
    "device": lambda e: (e.update(device=f"$torch.device({CODE})"), _before(e, {"_target_": "EnsureTyped", "device": "@device"})),
    "import": lambda e: _network(e, norm="$import os"),
    "huge": lambda e: _network(e, channels="$[4] * 10**9"),
}
HARMLESS: dict[str, Any] = {
    "imports": lambda e: e["imports"].append(f"${CODE}"),
    "handlers": lambda e: e["handlers"].append({"_target_": "os.system", "command": f"touch {CANARY}"}),
    "initialize": lambda e: e["initialize"].append(f"${CODE}"),
    "run": lambda e: e["run"].append(f"${CODE}"),
    "dataset": lambda e: e["dataset"].update(data=f"${CODE}"),
    "saving": lambda e: e["postprocessing"]["transforms"][-1].update(output_dir=f"${CODE}"),
    "loader": lambda e: e["checkpointloader"].update(load_path=f"${CODE}"),
    "switched off": lambda e: _before(e, {"_target_": "os.system", "command": f"${CODE}", "_disabled_": True}),
}


@pytest.mark.parametrize("name", list(ATTACKS))
def test_what_inference_would_run_is_refused(name: str, bundles: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Expressions and targets in the parts inference needs are refused, named, and not run."""
    monkeypatch.chdir(tmp_path)
    entries = bundles.spleen()
    ATTACKS[name](entries)
    folder = bundles.write_bundle(tmp_path / "bundle", entries, weights=False)
    (folder / "scripts").mkdir()
    (folder / "scripts" / "__init__.py").write_text(f"open('{CANARY}', 'w')\n")
    with pytest.raises(UnsafeModelError, match=r"not read as data|--trust-bundle") as caught:
        open_bundle(folder)
    assert "  - " in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("name", list(HARMLESS))
def test_what_inference_does_not_need_is_left_alone(
    name: str, bundles: ModuleType, scan: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same expressions in handlers, loaders and savers are neither refused nor run: the bundle works."""
    monkeypatch.chdir(tmp_path)
    entries = bundles.spleen()
    HARMLESS[name](entries)
    folder = bundles.write_bundle(tmp_path / "bundle", bundles.spleen())
    (folder / "configs" / "inference.json").write_text(json.dumps(entries))
    assert open_bundle(folder).segment((scan,), Request(device="cpu")).labels.shape == scan.array.T.shape
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_everything_refused_is_named_at_once(bundles: ModuleType, tmp_path: Path) -> None:
    """One error names the refusals of all parts, each with its place and its text."""
    entries = bundles.spleen()
    for name in ("network argument", "lambda before", "lambda after", "inferer"):
        ATTACKS[name](entries)
    with pytest.raises(UnsafeModelError) as caught:
        open_bundle(bundles.write_bundle(tmp_path / "bundle", entries, weights=False))
    text = str(caught.value)
    for place in ("network_def::norm", "preprocessing::transforms::1", "postprocessing::transforms::1::func", "inferer::roi_size"):
        assert place in text
    assert CANARY in text
    assert text.count("\n  - ") == 4


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return (os.system, (f"touch {CANARY}",))


@pytest.mark.parametrize("how", ["torch", "pickle", "legacy"])
def test_weights_that_are_a_program(how: str, bundles: ModuleType, scan: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pickle in place of weights is refused when the network is loaded, and nothing runs."""
    monkeypatch.chdir(tmp_path)
    folder = bundles.write_bundle(tmp_path / "bundle", "spleen", weights=False)
    path = folder / "models" / "model.pt"
    if how == "pickle":
        path.write_bytes(pickle.dumps({"model": _Evil()}))
    else:
        torch.save({"model": _Evil()}, path, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(ModelError):
        open_bundle(folder).segment((scan,), Request(device="cpu"))
    assert [one.name for one in tmp_path.iterdir()] == ["bundle"]


def test_weights_outside_of_the_bundle(bundles: ModuleType, scan: Volume, tmp_path: Path) -> None:
    """A link or a path that leaves the bundle is refused."""
    entries = bundles.spleen()
    outside = bundles.write_bundle(tmp_path / "other", "spleen") / "models" / "model.pt"
    folder = bundles.write_bundle(tmp_path / "bundle", entries, weights=False)
    (folder / "models" / "model.pt").symlink_to(outside)
    with pytest.raises(UnsafeModelError, match="outside"):
        open_bundle(folder)
    (folder / "models" / "model.pt").unlink()
    entries["checkpointloader"]["load_path"] = "$@bundle_root + '/../other/models/model.pt'"
    (folder / "configs" / "inference.json").write_text(json.dumps(entries))
    with pytest.raises(UnsafeModelError, match="outside"):
        open_bundle(folder)
