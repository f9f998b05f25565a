"""TorchScript archives: sound networks load and give the same outputs; programs that do more are refused before loading."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks import nets

from medseg.core.errors import ChecksumError, IncompatibleModelError, ModelNotFoundError, UnsafeModelError
from medseg.core.volume import Volume
from medseg.segmentation.learned.bundle.model import open_bundle
from medseg.segmentation.learned.bundle.torchscript import inspect_archive, load_script
from medseg.segmentation.learned.bundle.trust import bundle_sha256
from medseg.segmentation.learned.trained import Request

CANARY = "canary_of_the_script_tests"


class _Parts(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ops = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3, padding=1), torch.nn.ELU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.ops(x)


NETWORKS: dict[str, Callable[[], Any]] = {
    "UNet": lambda: nets.UNet(3, 1, 2, [4, 8, 8], [2, 2], num_res_units=2, norm="batch"),
    "UNet with dropout": lambda: nets.UNet(3, 1, 2, [4, 8, 8], [2, 2], norm="instance", act="leakyrelu", dropout=0.1),
    "SegResNet": lambda: nets.SegResNet(init_filters=8, out_channels=3, blocks_down=[1, 1], blocks_up=[1]),
    "DynUNet": lambda: nets.DynUNet(3, 1, 2, [3, 3, 3], [1, 2, 2], [2, 2], filters=[4, 8, 8], res_block=True),
    "BasicUNet": lambda: nets.BasicUNet(3, 1, 2, [4, 4, 8, 8, 8, 4]),
    "a part called ops, as in VNet": _Parts,
}


def save(module: Any, path: Path, **extra: str) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = module if isinstance(module, torch.jit.ScriptModule) else torch.jit.script(module.eval())
        torch.jit.save(scripted, str(path), _extra_files=extra)
    return path


@pytest.mark.parametrize("name", list(NETWORKS))
def test_networks_of_monai_are_read(name: str, tmp_path: Path) -> None:
    """MONAI's networks as TorchScript give exactly the outputs of the network they were made of."""
    torch.manual_seed(1)
    network = NETWORKS[name]().eval()
    clean, extra = inspect_archive(save(network, tmp_path / "net.ts", **{"metadata.json": "{}"}))
    patch = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        assert torch.equal(load_script(clean)(patch), network(patch))
    assert extra == {"metadata.json": b"{}"}


class _ReadsFile(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.from_file("canary_of_the_script_tests", shared=True, size=4).sum()


class _Saves(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "canary_of_the_script_tests")
        return x


class _Forks(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.jit.wait(torch.jit.fork(torch.relu, x))


class _Strides(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_strided(x, [2, 2], [1, 1], 10)


class _OnLoad(torch.nn.Module):
    """A state that is set while the archive is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 1
        self.training = False

    @torch.jit.export
    def __getstate__(self) -> tuple[int, bool]:
        return self.n, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[int, bool]) -> None:
        self.n = state[0]
        self.training = state[1]
        torch.save(torch.zeros(1), "canary_of_the_script_tests")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize("kind", [_ReadsFile, _Saves, _Forks, _Strides, _OnLoad])
def test_programs_that_do_more_are_refused(kind: type[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators on files, tasks and raw memory are refused by name before torch sees the archive."""
    monkeypatch.chdir(tmp_path)
    try:
        path = save(kind(), tmp_path / "net.ts")
    except (RuntimeError, torch.jit.Error) as err:
        pytest.skip(f"this torch does not write such a program ({type(err).__name__})")
    with pytest.raises(UnsafeModelError, match=r"operator|call of"):
        inspect_archive(path)
    assert [one.name for one in tmp_path.iterdir()] == ["net.ts"]


def changed(path: Path, change: Callable[[dict[str, bytes]], None], target: Path) -> Path:
    """The archive with changed members; code is deflated, as torch writes it."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    change(members)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content, zipfile.ZIP_DEFLATED if "/code/" in name else zipfile.ZIP_STORED)
    return target


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(NETWORKS["UNet"](), tmp_path_factory.mktemp("ts") / "net.ts")


def _code(members: dict[str, bytes]) -> str:
    return next(name for name in members if name.endswith("unet.py"))


LINES = [
    "  _9 = torch.save(1, 'x')\n",
    "  _9 = torch.save\n",
    "  torch = ops.aten\n",
    "  _9 = ops.aten.from_file('x', True, 4)\n",
    "  _9 = ops.prim.PythonOp(1)\n",
    "  _9 = __torch__.torch.classes.evil.Thing(1)\n",
    "  _9 = fork(1)\n",
    "  import os\n",
    "  _9 = self.__class__\n",
    "  with torch.no_grad():\n    pass\n",
    "  _9 = lambda: 1\n",
    "  _9 = [x for x in [1]]\n",
]


@pytest.mark.parametrize("line", LINES)
def test_changed_code_is_refused(line: str, sound: Path, tmp_path: Path) -> None:
    """A line that uses anything off the list is found, whichever way it is written."""

    def change(members: dict[str, bytes]) -> None:
        members[_code(members)] += b"def evil(x: Tensor) -> Tensor:\n" + line.encode() + b"  return x\n"

    with pytest.raises(UnsafeModelError):
        inspect_archive(changed(sound, change, tmp_path / "evil.ts"))


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"cos\nsystem\n(S'touch x'\ntR.", "os system"), (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "STACK_GLOBAL"), (b"nonsense", "pickle")],
)
def test_pickles_that_name_other_things(content: bytes, what: str, sound: Path, tmp_path: Path) -> None:
    """A pickle within the archive may name tensors and the archive's own classes alone."""

    def change(members: dict[str, bytes]) -> None:
        members[next(name for name in members if name.endswith("/data.pkl"))] = content

    with pytest.raises(UnsafeModelError, match=what):
        inspect_archive(changed(sound, change, tmp_path / "evil.ts"))


@pytest.mark.parametrize("name", ["net/../../evil", "/etc/evil", "net/other/x", "net/code//x.py", "evil", "net\\code\\x.py"])
def test_members_in_other_places(name: str, sound: Path, tmp_path: Path) -> None:
    """A member where TorchScript writes none is refused."""
    with pytest.raises((UnsafeModelError, ChecksumError)):
        inspect_archive(changed(sound, lambda members: members.update({name: b"x"}), tmp_path / "evil.ts"))


def test_a_bomb(sound: Path, tmp_path: Path) -> None:
    """Code that unpacks to more than a network needs is refused by the size its header states."""

    def change(members: dict[str, bytes]) -> None:
        members[_code(members)] = b"#" * (65 << 20)

    with pytest.raises(UnsafeModelError, match="unpacks"):
        inspect_archive(changed(sound, change, tmp_path / "bomb.ts"))


def test_damaged_files(sound: Path, tmp_path: Path) -> None:
    """A truncated archive is damaged, an archive of something else is no network."""
    (tmp_path / "cut.ts").write_bytes(sound.read_bytes()[:-200])
    with pytest.raises(ChecksumError, match="damaged"):
        inspect_archive(tmp_path / "cut.ts")
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("a/data.pkl", b"")
    (tmp_path / "other.ts").write_bytes(other.getvalue())
    with pytest.raises(IncompatibleModelError, match="no TorchScript"):
        inspect_archive(tmp_path / "other.ts")


def test_a_bundle_in_one_file_and_in_a_folder(bundles: ModuleType, scan: Volume, tmp_path: Path) -> None:
    """The labels of a `.ts` file with its configuration inside, of a folder with `model.ts`, and of plain weights are the same."""
    entries = bundles.spleen()
    folder = bundles.write_bundle(tmp_path / "bundle", entries)
    expected = open_bundle(folder).segment((scan,), Request(device="cpu")).labels
    network = bundles.random_network(entries)
    extra = {"metadata.json": json.dumps(bundles.metadata(entries)), "inference.json": json.dumps(entries)}
    alone = open_bundle(save(network, tmp_path / "spleen.ts", **extra))
    assert [segment.label for segment in alone.segments] == ["structure 1"]
    assert np.array_equal(alone.segment((scan,), Request(device="cpu")).labels, expected)
    (folder / "models" / "model.pt").unlink()
    save(network, folder / "models" / "model.ts")
    assert np.array_equal(open_bundle(folder).segment((scan,), Request(device="cpu")).labels, expected)
    with pytest.raises(ModelNotFoundError, match="metadata"):
        open_bundle(save(network, tmp_path / "bare.ts"))


def test_a_trusted_archive(bundles: ModuleType, tmp_path: Path) -> None:
    """Only the file's own hash opens a program that is refused otherwise."""
    entries = bundles.spleen()
    extra = {"metadata.json": json.dumps(bundles.metadata(entries)), "inference.json": json.dumps(entries)}
    path = save(_Strides(), tmp_path / "odd.ts", **extra)
    with pytest.raises(UnsafeModelError, match="as_strided"):
        open_bundle(path)
    with pytest.raises(ChecksumError):
        open_bundle(path, "0" * 64)
    assert open_bundle(path, bundle_sha256(path)).identity.kind == "monai-bundle"
