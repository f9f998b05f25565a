"""`medseg models` as a person and as a program uses it."""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("safetensors")

Program = Callable[..., tuple[int, str, str]]
MODEL = Path(__file__).resolve().parents[2] / "medseg" / "models" / "ct-phantom"


@pytest.fixture
def medseg(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Program:
    """Run `medseg models …` with a store of the test's own; returns exit code, standard output, standard error."""
    from medseg.cli.main import run

    def call(*arguments: Any) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(["models", *(str(argument) for argument in arguments), "--store", str(tmp_path / "store")])
        done = capsys.readouterr()
        return code, done.out, done.err

    return call


@pytest.fixture(scope="module")
def models() -> ModuleType:
    """The functions that write models of every kind."""
    return importlib.import_module("sound_models")


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """A person at a terminal who gives these answers; returns the list of what was asked."""

    def answer(*answers: str) -> list[str]:
        asked: list[str] = []
        left = iter(answers)

        def prompt(question: str, **_: Any) -> str:
            asked.append(question)
            return next(left)

        def confirm(question: str, *, abort: bool, **_: Any) -> bool:
            if prompt(question) != "y":
                raise click.Abort
            return True

        monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
        monkeypatch.setattr(click, "prompt", prompt)
        monkeypatch.setattr(click, "confirm", confirm)
        return asked

    return answer


def nnunet(models: ModuleType, folder: Path) -> Path:
    path: Path = models.make_nnunet(folder)
    return path


def test_add_list_info_use_and_remove(medseg: Program, tmp_path: Path) -> None:
    code, out, err = medseg("add", MODEL, "--name", "mine", "--accept-licence")
    assert (code, err) == (0, "")
    assert "intended use: Demonstration" in out
    assert "licence, weights: Apache-2.0" in out
    assert "medseg segment model IN -o OUT --model mine" in out
    code, out, _ = medseg("list", "--json")
    found = {model["name"]: model for model in json.loads(out)["models"]}
    assert {"ct-phantom", "mine"} <= set(found)
    assert found["mine"]["origin"]["source"] == "ct-phantom"
    code, out, _ = medseg("list")
    assert code == 0
    assert "mine" in out
    code, out, _ = medseg("info", "mine", "--verify", "--json")
    card = json.loads(out)
    assert card["verified"] is True
    assert card["model"]["sha256"] == hashlib.sha256((MODEL / "weights.safetensors").read_bytes()).hexdigest()
    assert medseg("remove", "mine", "--yes")[0] == 0
    assert "mine" not in {model["name"] for model in json.loads(medseg("list", "--json")[1])["models"]}


def test_the_card_shows_what_matters(medseg: Program) -> None:
    code, out, _ = medseg("info", "ct-phantom")
    assert code == 0
    for word in (
        "liver (SCT 10200004 Liver)",
        "kidney_left (SCT 64033007 Kidney, Left)",
        "3 × 3 × 3 mm",
        "Not a medical device",
        "SHA-256",
        "dice",
    ):
        assert word in out, word


def test_what_is_not_stated_is_asked_for(medseg: Program, models: ModuleType, tmp_path: Path, answering: Callable[..., list[str]]) -> None:
    source = nnunet(models, tmp_path)
    asked = answering("CC-BY-NC-4.0", "Liver and spleen in CT, research only", "y")
    code, out, _ = medseg("add", source, "--name", "organs")
    assert code == 0
    assert len(asked) == 3
    assert "NON-COMMERCIAL USE ONLY" in out
    model = json.loads(medseg("info", "organs", "--json")[1])["model"]
    assert model["licence"]["weights"] == "CC-BY-NC-4.0"
    assert model["non_commercial"] == ["weights"]
    assert model["intended_use"] == "Liver and spleen in CT, research only"
    assert "(non-commercial)" in medseg("list")[1]


def test_a_licence_that_is_not_accepted_installs_nothing(medseg: Program, answering: Callable[..., list[str]], tmp_path: Path) -> None:
    answering("n")
    code, _, err = medseg("add", MODEL, "--name", "mine")
    assert code == 130
    assert "interrupted" in err
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == [".adding"]


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ([], "--licence"),
        (["--licence", "MIT"], "--intended-use"),
        (["--licence", "MIT", "--intended-use", "tests"], "--accept-licence"),
    ],
)
def test_without_a_person_the_flags_are_named(flags: list[str], word: str, medseg: Program, models: ModuleType, tmp_path: Path) -> None:
    code, out, err = medseg("add", nnunet(models, tmp_path), "--json", *flags)
    assert code == 2
    assert word in err
    assert word in json.loads(out)["error"]["message"]
    assert list((tmp_path / "store" / ".adding").iterdir()) == []


def test_flags_are_enough_for_a_program(medseg: Program, models: ModuleType, tmp_path: Path) -> None:
    flags = ["--licence", "MIT", "--intended-use", "tests", "--accept-licence", "--json"]
    code, out, _ = medseg("add", nnunet(models, tmp_path), *flags)
    assert code == 0
    assert json.loads(out)["model"]["name"] == "dataset999_test"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A server of this machine with the zipped model `model.zip`."""
    (tmp_path / "www").mkdir()
    shutil.make_archive(str(tmp_path / "www" / "model"), "zip", MODEL)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "www")))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/model.zip"
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_address_needs_its_hash(medseg: Program, address: str, tmp_path: Path) -> None:
    sha256 = hashlib.sha256((tmp_path / "www" / "model.zip").read_bytes()).hexdigest()
    code, _, err = medseg("add", address, "--name", "mine", "--accept-licence")
    assert (code, "--sha256" in err) == (2, True)
    code, _, err = medseg("add", address, "--sha256", "0" * 64, "--name", "mine", "--accept-licence")
    assert (code, sha256 in err) == (4, True)
    code, _, err = medseg("add", address, "--sha256", sha256, "--name", "mine", "--accept-licence", "--offline")
    assert (code, "--offline" in err) == (4, True)
    code, _, err = medseg("add", address + "?token=secret", "--sha256", sha256.upper(), "--name", "mine", "--accept-licence")
    assert (code, err) == (0, "")
    entry = (tmp_path / "store" / "mine" / "store.json").read_text()
    assert json.loads(entry)["origin"] | {"added": ""} == {
        "source": address,
        "sha256": sha256,
        "bytes": (tmp_path / "www" / "model.zip").stat().st_size,
        "added": "",
    }
    assert "secret" not in entry
    assert list((tmp_path / "store" / ".downloads").iterdir()) == []


def test_a_list_of_models_serves_machines_without_a_network(medseg: Program, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "organs"), "gztar", MODEL))
    entry = {
        "name": "organs",
        "file": archive.name,
        "sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
        "bytes": archive.stat().st_size,
        "licence": "CC-BY-4.0",
        "intended_use": "Organs of phantoms",
    }
    registry = tmp_path / "registry.json"
    registry.write_text(json.dumps({"schema": "medseg.model-registry/1", "models": [entry]}))
    code, _, err = medseg("add", "organs", "--registry", registry, "--accept-licence", "--offline")
    assert (code, err) == (0, "")
    model = json.loads(medseg("info", "organs", "--json")[1])["model"]
    assert (model["licence"]["weights"], model["intended_use"]) == ("CC-BY-4.0", "Organs of phantoms")
    archive.write_bytes(archive.read_bytes() + b"x")
    code, _, err = medseg("add", "organs", "--registry", registry, "--accept-licence", "--name", "again")
    assert code == 4
    assert "SHA-256" in err
    assert medseg("add", "absent", "--registry", registry)[0] == 4


def test_a_taken_name_is_said_before_anything_is_read(medseg: Program) -> None:
    code, _, err = medseg("add", MODEL, "--name", "ct-phantom")
    assert code == 5
    assert "comes with medseg" in err
    assert medseg("add", "/nowhere/at/all", "--name", "x")[0] == 4
    assert medseg("add", MODEL, "--name", "No Name")[0] == 4


def test_broken_models_are_listed_as_such(medseg: Program, tmp_path: Path) -> None:
    medseg("add", MODEL, "--name", "mine", "--accept-licence")
    weights = tmp_path / "store" / "mine" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    code, _, err = medseg("info", "mine", "--verify")
    assert code == 4
    assert "weights.safetensors has changed" in err
    weights.write_bytes(b"short")
    code, out, _ = medseg("list")
    assert code == 0
    assert "mine cannot be used" in out
    assert "│ mine" not in out
    listed = json.loads(medseg("list", "--json")[1])
    assert [entry["name"] for entry in listed["broken"]] == ["mine"]
    assert "mine" not in {entry["name"] for entry in listed["models"]}
    assert medseg("info", "mine")[0] == 4
    assert medseg("remove", "mine")[0] == 2, "nobody there to be asked"
    assert medseg("remove", "mine", "--yes")[0] == 0
    assert medseg("remove", "mine", "--yes")[0] == 4


def test_words_of_strangers_do_not_reach_the_terminal_as_orders(medseg: Program, models: ModuleType, tmp_path: Path) -> None:
    source = models.make_medseg(tmp_path)
    models.write_description(source, title="[red]T\x1b[2J\x07\u202ettl", intended_use="[link=http://x]use[/]")
    code, out, _ = medseg("add", source, "--accept-licence")
    assert code == 0
    assert "[red]T[2Jttl" in out
    assert "[link=http://x]use[/]" in out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert "\x1b" not in medseg("list")[1]


def test_convert_writes_a_model_without_pickles(medseg: Program, models: ModuleType, tmp_path: Path) -> None:
    source = nnunet(models, tmp_path) / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    out_folder = tmp_path / "converted"
    code, out, err = medseg("convert", source, "-o", out_folder, "--name", "organs", "--licence", "CC-BY-4.0", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["model"]["licence"]["weights"] == "CC-BY-4.0"
    assert not list(out_folder.rglob("*.pth"))
    assert medseg("convert", source, "-o", out_folder)[0] == 5
    code, _, err = medseg("convert", models.make_bundle(tmp_path), "-o", tmp_path / "other")
    assert code == 4
    assert "MONAI bundle" in err


def test_the_help_needs_no_torch() -> None:
    import subprocess

    code = "import sys; from medseg.cli.models import models; sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_hash_that_trust_asks_for_is_printed(models: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from medseg.cli.main import run
    from medseg.segmentation.learned.bundle.trust import bundle_sha256

    bundle = models.make_bundle(tmp_path)
    capsys.readouterr()
    assert run(["models", "hash", str(bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == bundle_sha256(bundle)
