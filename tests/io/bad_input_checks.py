"""What must become of bad input: refusals, warnings, and nothing left behind."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bad_inputs as make
import pydicom
import pytest

from medseg.cli.main import run
from medseg.core import errors as e
from medseg.core.volume import Volume
from medseg.io import memory
from medseg.io.archive import Caps, unpacked
from medseg.io.dicom import find, pixels
from medseg.io.read import read, read_label_map


@dataclass
class Bench:
    """What a row works with."""

    folder: Path
    patch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def cli(self, *arguments: object) -> tuple[int, str, str]:
        self.capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        done = self.capsys.readouterr()
        assert "Traceback" not in done.err
        assert "ZZCANARY" not in done.out + done.err
        return code, done.out, done.err

    def refused(self, path: Path, error: type[e.MedsegError], says: str) -> None:
        """`read` raises the error with a message that fits, and the program ends with its code, one line and no file."""
        with pytest.raises(error, match=says):
            read(path)
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        code, _, text = self.cli("convert", path, self.folder / "out" / "x.nii.gz")
        assert (code, text[:8]) == (error.exit_code, "medseg: "), text
        assert not (self.folder / "out" / "x.nii.gz").exists()
        assert not list(self.folder.rglob(".tmp-*"))


Check = Callable[[Bench, Any], None]


def each(made: Any) -> Iterable[Path]:
    return made if isinstance(made, list) else [made]


def refuse(error: type[e.MedsegError], says: str, most_mb: float = 0.0) -> Check:
    """Every path is refused; with `most_mb` without taking that much memory."""

    def check(bench: Bench, made: Any) -> None:
        for path in each(made):
            if most_mb:
                tracemalloc.start()
            try:
                bench.refused(path, error, says)
                assert tracemalloc.get_traced_memory()[1] < most_mb * 1e6 or not most_mb
            finally:
                tracemalloc.stop()

    return check


def warn(*codes: str, shape: tuple[int, int, int] = (7, 5, 6)) -> Check:
    """The scan is read whole, with these codes among its findings, and the program ends well."""

    def check(bench: Bench, made: Any) -> None:
        for path in each(made):
            volume = read(path)
            assert volume.geometry.shape == shape
            assert set(codes) <= {finding.code for finding in volume.findings}
            code, _, text = bench.cli("convert", path, bench.folder / "out" / "x.nii.gz", "--overwrite")
            assert code == 0, text

    return check


def every(*checks: Check) -> Check:
    """One check for each path that was made, in order."""

    def check(bench: Bench, made: list[Path]) -> None:
        for one, path in zip(checks, made, strict=True):
            one(bench, path)

    return check


def not_yet(reason: str) -> Check:
    def check(_: Bench, __: Any) -> None:
        pytest.skip(reason)

    return check


def nothing(folder: Path) -> Path:
    return folder


def archives(bench: Bench, folder: Path) -> None:
    names = ("../evil", "/tmp/evil", "a/../../evil")
    for n, name in enumerate(names):
        with zipfile.ZipFile(folder / f"{n}.zip", "w") as archive:
            archive.writestr(name, b"evil")
    with tarfile.open(folder / "link.tar", "w") as tar:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(member)
    with zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(20 << 20))
    for path in sorted(folder.iterdir()):
        with pytest.raises(e.UnreadableFileError), unpacked(path, Caps(least_bytes=1 << 20)):
            pass
    assert len(list(folder.iterdir())) == 5
    assert not Path("/tmp/evil").exists()


def harmless_uid(bench: Bench, path: Path) -> None:
    (found,) = find.find_series(path)
    assert pydicom.uid.UID(found.series_uid).is_valid
    warn("INVALID_UID")(bench, path)
    assert sorted(item.name for item in bench.folder.iterdir()) == ["out", "series"]
    assert not Path("/tmp/evil").exists()


def harmless_patient(bench: Bench, path: Path) -> None:
    code, out, text = bench.cli("convert", path, bench.folder / "out" / "x.nii.gz", "--json")
    assert code == 0, text
    assert json.loads(out)["output"].endswith("x.nii.gz")
    assert b"ZZCANARY" not in (bench.folder / "out" / "x.nii.gz").read_bytes()
    assert sorted(item.name for item in bench.folder.rglob("*") if "series" not in str(item)) == ["out", "x.nii.gz"]


def inside_the_disc(bench: Bench, path: Path) -> None:
    (found,) = find.find_series(path)
    assert len(found.slices) == 6
    assert not [file for file in found.files if "secret" in file]


def passed_over(**skipped: int) -> Check:
    def check(bench: Bench, path: Path) -> None:
        (found,) = find.find_series(path)
        assert len(found.slices) == 6
        assert {kind: found.skipped[kind.replace("_", " ")] for kind in skipped} == skipped
        warn()(bench, path)

    return check


def closed(bench: Bench, path: Path) -> None:
    open_file = os.open

    def refuse_one(file: Any, *rest: Any, **more: Any) -> int:
        if str(file).endswith("slice_0003.dcm"):
            raise PermissionError(errno.EACCES, "Permission denied", file)
        return open_file(file, *rest, **more)

    with bench.patch.context() as patch:
        patch.setattr(os, "open", refuse_one)
        bench.refused(path, e.InputError, r"slice_0003\.dcm.*Permission denied")


def kinds(bench: Bench, made: list[Path]) -> None:
    for path, name in zip(made, make.NOT_IMAGES.values(), strict=True):
        bench.refused(path, e.UnsupportedFormatError, name)


def two_cases(bench: Bench, path: Path) -> None:
    assert len(find.find_series(path)) == 2
    bench.refused(path, e.InputError, "--series")


def changed_meanwhile(bench: Bench, path: Path) -> None:
    honest = pixels.read_pixels

    def late(slices: Any, *rest: Any, **more: Any) -> Any:
        (path / "slice_0003.dcm").write_bytes((path / "slice_0004.dcm").read_bytes())
        return honest(slices, *rest, **more)

    from medseg.io.dicom import volume

    bench.patch.setattr(volume, "read_pixels", late)
    bench.refused(path, e.InputError, "changed")


def no_contrast(bench: Bench, path: Path) -> None:
    code, out, _ = bench.cli("inspect", path, "--json")
    assert code == 0
    assert "CONSTANT_INTENSITY" in out


def no_hounsfield(bench: Bench, path: Path) -> None:
    bench.refused(path, e.InputError, "--assume-hu")
    assert "HU_ASSUMED" in {finding.code for finding in read(path, assume_hu=True).findings}
    wrong_modality(bench, path)


def wrong_modality(bench: Bench, path: Path) -> None:
    pytest.importorskip("monai")
    from medseg.segmentation.learned.model import ModelParams, model

    scan = read(path, assume_hu=True)
    with pytest.raises(e.IncompatibleModelError, match="trained on CT, this scan is MR"):
        model(Volume(scan.array, scan.geometry, "MR"), ModelParams(model="ct-phantom"))


def empty_mask(bench: Bench, path: Path) -> None:
    (path.with_name("labels.labels.csv")).write_text("LabelValue,Name\n1,liver\n")
    code, out, text = bench.cli("measure", path, "--json")
    assert code == 0, text
    assert [(row["label"], row["volume_ml"]) for row in json.loads(out)["segments"]] == [("liver", None)]


def many_labels(bench: Bench, path: Path) -> None:
    assert "MANY_LABELS" in {finding.code for finding in read_label_map(path).findings}


def negative_labels(bench: Bench, path: Path) -> None:
    code, _, text = bench.cli("measure", path)
    assert code == 3
    assert "negative" in text


def labelled(folder: Path) -> list[Path]:
    made = [make.labels(), make.labels(*range(1, 65_001), shape=(50, 50, 50)), make.labels(1, -3)]
    for n, _ in enumerate(made):
        (folder / str(n)).mkdir()
    return [build(folder / str(n)) for n, build in enumerate(made)]


def little_memory(bench: Bench, path: Path) -> None:
    bench.patch.setattr(memory, "free_memory_bytes", lambda: 1 << 20)
    bench.refused(path, e.InputError, r"needs .* GB of memory, and .* GB are free")
