"""Installing: whole or not at all, whoever else installs, whatever is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from malicious_archives import zipped

from medseg.core.errors import ChecksumError, IncompatibleModelError, ModelNotFoundError, OutputError, OutputExistsError
from medseg.segmentation.learned.store import add as module
from medseg.segmentation.learned.store import find_installed, find_model, list_installed, locate_model
from medseg.segmentation.learned.store.add import Request, StagedModel, staged
from medseg.segmentation.learned.store.installed import InstalledModel, default_store, find_broken, read_installed, remove_installed

LICENCE = {"weights": "CC-BY-4.0"}


def install(source: Path, store: Path, name: str, **request: object) -> InstalledModel:
    with staged(Request(str(source), **request), store) as model:  # type: ignore[arg-type]
        return model.install(name, LICENCE, "tests")


def test_an_installed_model_is_found_by_its_name(sound: dict[str, Path], tmp_path: Path) -> None:
    model = install(sound["medseg"], tmp_path, "liver")
    assert find_model("liver", [tmp_path]).read_weights() == (sound["medseg"] / "weights.safetensors").read_bytes()
    assert [one.name for one in list_installed([tmp_path])] == ["liver"]
    assert model.identity.licence == LICENCE
    assert model.identity.intended_use == "tests"
    assert model.origin.source == "sound"
    assert [segment.label for segment in model.segments] == ["first"]
    assert read_installed(tmp_path / "liver") == model
    model.check()


def test_a_model_of_nnunet_keeps_the_names_it_needs(sound: dict[str, Path], tmp_path: Path) -> None:
    """Data set and configuration are told by folder names, whichever folder was given."""
    for number, source in enumerate((sound["nnunet"], sound["nnunet"] / "nnUNetTrainer__nnUNetPlans__3d_fullres")):
        model = install(source, tmp_path, f"model{number}")
        assert model.identity.kind == "nnunet"
        assert model.root.name == "nnUNetTrainer__nnUNetPlans__3d_fullres"
        assert [segment.label for segment in model.segments] == ["liver", "spleen"]
        assert locate_model(f"model{number}", [tmp_path]) == model.root
        assert model.root.parent.name == "Dataset999_Test"
        assert model.identity.name == "Dataset999_Test"


def test_a_bundle_keeps_its_name_from_a_folder_and_from_a_flat_archive(sound: dict[str, Path], tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "spleen_ct"), "zip", sound["bundle"])
    named = []
    for source in (sound["bundle"], Path(archive)):
        with staged(Request(str(source)), tmp_path / "store") as model:
            named.append(model.suggested_name)
    assert named == ["sound_bundle", "spleen_ct"]


def test_archives_of_archives_folders_are_seen_through(sound: dict[str, Path], tmp_path: Path) -> None:
    wrapped = tmp_path / "download" / "v2" / "final"
    shutil.copytree(sound["medseg"], wrapped)
    file = zipped(tmp_path / "download", tmp_path / "liver.zip")
    model = install(file, tmp_path / "store", "liver")
    assert model.root.name == "final"
    assert model.origin.bytes == file.stat().st_size
    assert find_model("liver", [tmp_path / "store"]).description.name == "sound"


def test_one_of_several_configurations_is_chosen(sound: dict[str, Path], tmp_path: Path) -> None:
    source = tmp_path / "Dataset999_Test"
    shutil.copytree(sound["nnunet"], source)
    full = source / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    low = shutil.copytree(full, source / "nnUNetTrainer__nnUNetPlans__3d_lowres")
    assert install(source, tmp_path / "store", "a").root.name == full.name
    (low / "fold_0" / "checkpoint_final.pth").unlink()
    with pytest.raises(ModelNotFoundError, match="fold"):
        install(source, tmp_path / "store", "b", configuration="3d_lowres")
    with pytest.raises(IncompatibleModelError, match="no nnU-Net configuration '2d'"):
        install(source, tmp_path / "store", "b", configuration="2d")


def test_the_hash_of_a_folder_is_that_of_sha256sum(sound: dict[str, Path], tmp_path: Path) -> None:
    command = r"find . -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum"
    expected = subprocess.run(command, shell=True, cwd=sound["medseg"], capture_output=True, text=True, check=True).stdout.split()[0]
    assert install(sound["medseg"], tmp_path, "liver", sha256=expected).origin.sha256 == expected
    with pytest.raises(ChecksumError, match="expected"):
        install(sound["medseg"], tmp_path, "other", sha256="0" * 64)
    assert sorted(os.listdir(tmp_path)) == [".adding", "liver"]


def test_names_are_checked_and_taken_once(sound: dict[str, Path], tmp_path: Path) -> None:
    install(sound["medseg"], tmp_path, "liver")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "liver").iterdir()}
    for name, error, word in (
        ("liver", OutputExistsError, "installed already"),
        ("ct-phantom", OutputExistsError, "comes with medseg"),
        ("../liver", IncompatibleModelError, "no name"),
        (".adding", IncompatibleModelError, "no name"),
        ("", IncompatibleModelError, "no name"),
    ):
        with pytest.raises(error, match=word):
            install(sound["medseg"], tmp_path, name)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "liver").iterdir()} == before
    assert list((tmp_path / ".adding").iterdir()) == []


def test_licence_and_use_must_be_stated(sound: dict[str, Path], tmp_path: Path) -> None:
    with staged(Request(str(sound["medseg"])), tmp_path) as model:
        for licence, use in (({}, "tests"), ({"weights": " "}, "tests"), (LICENCE, "")):
            with pytest.raises(IncompatibleModelError, match="stated"):
                model.install("liver", licence, use)
    assert list_installed([tmp_path]) == []


def test_of_many_at_once_one_wins_and_is_whole(sound: dict[str, Path], tmp_path: Path) -> None:
    def attempt(_: int) -> str:
        try:
            install(sound["medseg"], tmp_path, "liver")
        except OutputExistsError:
            return "taken"
        return "installed"

    with ThreadPoolExecutor(4) as pool:
        results = sorted(pool.map(attempt, range(8)))
    assert results == ["installed"] + ["taken"] * 7
    read_installed(tmp_path / "liver").check()
    assert list((tmp_path / ".adding").iterdir()) == []


CHILD = """
import os, signal, sys
from pathlib import Path
from medseg.segmentation.learned.store import add, durable, unpack
from medseg.segmentation.learned.store.verify import Facts
from medseg.segmentation.learned.trained import ModelIdentity
stop = sys.argv[3]
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
if stop == "unpacking":
    unpack.os.fsync = die
elif stop == "verifying":
    add.verify_model = die
else:  # without the networks, which take long to import
    add.verify_model = lambda *_: Facts(ModelIdentity("sound", "1.0", "Sound", "medseg"), ())
if stop == "marking":
    add.write_marker = die
elif stop == "renaming":
    durable.os.rename = die
elif stop == "renamed":
    add.read_installed = die
with add.staged(add.Request(sys.argv[1]), Path(sys.argv[2])) as model:
    model.install("liver", {"weights": "CC0-1.0"}, "tests")
"""


@pytest.mark.parametrize("stop", ["unpacking", "verifying", "marking", "renaming", "renamed"])
def test_a_kill_leaves_no_model_or_a_whole_one(stop: str, sound: dict[str, Path], tmp_path: Path) -> None:
    child = subprocess.run([sys.executable, "-c", CHILD, str(sound["medseg"]), str(tmp_path), stop], check=False)
    assert child.returncode == -signal.SIGKILL
    names = [model.name for model in list_installed([tmp_path])]
    if stop == "renamed":
        assert names == ["liver"]
        read_installed(tmp_path / "liver").check()
        return
    assert names == []
    assert find_broken([tmp_path]) == {}
    with pytest.raises(ModelNotFoundError):
        locate_model("liver", [tmp_path])
    left = list((tmp_path / ".adding").iterdir())
    assert len(left) == 1
    os.utime(left[0], (time.time() - 2 * 86400,) * 2)
    install(sound["medseg"], tmp_path, "liver").check()
    assert list((tmp_path / ".adding").iterdir()) == [], "a later call clears what was left"


def test_an_interrupt_clears_up(sound: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "verify_model", interrupted)
    with pytest.raises(KeyboardInterrupt):
        install(sound["medseg"], tmp_path, "liver")
    assert list(tmp_path.rglob("*.safetensors")) == []


def test_what_changed_later_does_not_count(sound: dict[str, Path], tmp_path: Path) -> None:
    model = install(sound["medseg"], tmp_path, "liver")
    weights = model.root / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    read_installed(model.folder)  # the size is the same: only the hashes show it
    with pytest.raises(ChecksumError, match=r"weights\.safetensors has changed"):
        model.check()
    weights.write_bytes(content[:-1])
    for ask in (lambda: find_installed("liver", [tmp_path]), lambda: find_model("liver", [tmp_path]), lambda: read_installed(model.folder)):
        with pytest.raises(ChecksumError, match="add it again"):
            ask()
    assert list_installed([tmp_path]) == []
    assert list(find_broken([tmp_path])) == ["liver"]
    (model.folder / ".complete").unlink()
    with pytest.raises(ChecksumError, match="to its end"):
        read_installed(model.folder)
    remove_installed("liver", tmp_path)
    assert find_broken([tmp_path]) == {}


@pytest.mark.parametrize("entry", ["root", "identity", "segments", "schema"])
def test_a_damaged_entry_is_no_surprise(entry: str, sound: dict[str, Path], tmp_path: Path) -> None:
    model = install(sound["medseg"], tmp_path, "liver")
    file = model.folder / "store.json"
    entries = json.loads(file.read_text())
    entries[entry] = "../.." if entry == "root" else "nonsense"
    content = json.dumps(entries)
    file.write_text(content.ljust(file.stat().st_size)[: max(file.stat().st_size, len(content))])
    marker = json.loads((model.folder / ".complete").read_text())
    marker["files"]["store.json"]["bytes"] = file.stat().st_size
    (model.folder / ".complete").write_text(json.dumps(marker))
    with pytest.raises(IncompatibleModelError, match="damaged"):
        read_installed(model.folder)


def test_removing_takes_only_models(sound: dict[str, Path], tmp_path: Path) -> None:
    install(sound["medseg"], tmp_path, "liver")
    (tmp_path / "private").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "liver")
    for name in ("private", "linked", "absent", "..", ".adding", "liver/.."):
        with pytest.raises(ModelNotFoundError):
            remove_installed(name, tmp_path)
    remove_installed("liver", tmp_path)
    assert not (tmp_path / "liver").exists()
    assert (tmp_path / "private").is_dir()


def test_a_store_that_cannot_be_written_is_said(sound: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="--store"):
        install(sound["medseg"], tmp_path / "file", "liver")


def test_a_marker_of_the_source_counts_for_nothing(sound: dict[str, Path], tmp_path: Path) -> None:
    first = install(sound["medseg"], tmp_path / "one", "liver")
    (first.folder / "added.txt").write_text("later")
    second = install(first.folder, tmp_path / "two", "liver")
    second.check()
    assert second.origin.source == "liver"
    assert {"added.txt", "store.json"} < set(second.files)


def test_the_default_place_is_the_users_own() -> None:
    assert default_store().is_relative_to(Path.home())
    assert default_store().name == "models"


def test_names_are_made_from_those_of_models() -> None:
    from medseg.segmentation.learned.store.installed import Origin
    from medseg.segmentation.learned.trained import ModelIdentity

    def suggested(name: str) -> str:
        identity = ModelIdentity(name, "1", "", "nnunet")
        return StagedModel(Path(), Path(), Path(), identity, (), Origin("", "", 0, "")).suggested_name

    assert suggested("Dataset291_TotalSegmentator_part1_organs_1559subj") == "dataset291_totalsegmentator_part1_organs_1559subj"
    assert suggested("Spleen CT (segmentation)") == "spleen-ct-segmentation"
    assert suggested("") == suggested("肝") == "model"
