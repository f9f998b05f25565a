"""Archives and folders that lead elsewhere, are far larger than they look, or hold no model."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from malicious_checkpoints import Reduced
from sound_models import make_medseg


def zipped(source: Path, file: Path, extra: Callable[[zipfile.ZipFile], None] | None = None) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(source.rglob("*")):
            if path.is_file():
                archive.write(path, f"{source.name}/{path.relative_to(source).as_posix()}")
        if extra is not None:
            extra(archive)
    return file


def tarred(source: Path, file: Path, extra: Callable[[tarfile.TarFile], None] | None = None) -> Path:
    with tarfile.open(file, "w:gz" if file.name.endswith("gz") else "w") as archive:
        archive.add(source, source.name)
        if extra is not None:
            extra(archive)
    return file


def zip_slip(folder: Path, canary: Path) -> Path:
    name = os.path.relpath(canary, folder / "somewhere")
    return zipped(make_medseg(folder), folder / "m.zip", lambda archive: archive.writestr(name, "out"))


def zip_slip_enough_levels(folder: Path, canary: Path) -> Path:
    return zipped(make_medseg(folder), folder / "m.zip", lambda archive: archive.writestr("../" * 40 + str(canary)[1:], "out"))


def zip_absolute(folder: Path, canary: Path) -> Path:
    return zipped(make_medseg(folder), folder / "m.zip", lambda archive: archive.writestr(str(canary), "out"))


def zip_backslashes(folder: Path, canary: Path) -> Path:
    """Written by hand: zipfile turns backslashes into slashes on Windows only."""
    return zipped(make_medseg(folder), folder / "m.zip", lambda archive: archive.writestr("sound\\..\\..\\out", "out"))


def zip_symlink(folder: Path, canary: Path) -> Path:
    def add(archive: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("sound/link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, str(canary.parent))
        archive.writestr("sound/link/" + canary.name, "out")

    return zipped(make_medseg(folder), folder / "m.zip", add)


def zip_bomb(folder: Path, canary: Path) -> Path:
    """120 MB of zeros in 120 kB."""

    def add(archive: zipfile.ZipFile) -> None:
        with archive.open("sound/zeros.bin", "w") as stream:
            for _ in range(120):
                stream.write(b"\0" * (1 << 20))

    return zipped(make_medseg(folder), folder / "m.zip", add)


def zip_that_lies_about_size(folder: Path, canary: Path) -> Path:
    """The directory of the archive claims ten bytes for a hundred megabytes."""
    file = zip_bomb(folder, canary)
    content = file.read_bytes()
    true = struct.pack("<I", 120 << 20)
    file.write_bytes(content.replace(true, struct.pack("<I", 10)))
    return file


def zip_many_files(folder: Path, canary: Path) -> Path:
    def add(archive: zipfile.ZipFile) -> None:
        for number in range(20_001):
            archive.writestr(f"sound/{number}", "")

    return zipped(make_medseg(folder), folder / "m.zip", add)


def zip_duplicate(folder: Path, canary: Path) -> Path:
    import warnings

    def add(archive: zipfile.ZipFile) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # zipfile warns of what we want here
            archive.writestr("sound/model.json", "{}")

    return zipped(make_medseg(folder), folder / "m.zip", add)


def zip_case_collision(folder: Path, canary: Path) -> Path:
    return zipped(make_medseg(folder), folder / "m.zip", lambda archive: archive.writestr("sound/MODEL.json", "{}"))


def zip_file_as_folder(folder: Path, canary: Path) -> Path:
    return zipped(make_medseg(folder), folder / "m.zip", lambda archive: archive.writestr("sound/model.json/inner", "{}"))


def zip_truncated(folder: Path, canary: Path) -> Path:
    file = zipped(make_medseg(folder), folder / "m.zip")
    file.write_bytes(file.read_bytes()[:-200])
    return file


def tar_slip(folder: Path, canary: Path) -> Path:
    return tarred(make_medseg(folder), folder / "m.tar", lambda archive: archive.addfile(tarfile.TarInfo("../" * 40 + str(canary)[1:])))


def tar_symlink(folder: Path, canary: Path) -> Path:
    def add(archive: tarfile.TarFile) -> None:
        link = tarfile.TarInfo("sound/link")
        link.type, link.linkname = tarfile.SYMTYPE, str(canary.parent)
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo(f"sound/link/{canary.name}"))

    return tarred(make_medseg(folder), folder / "m.tar.gz", add)


def tar_hard_link(folder: Path, canary: Path) -> Path:
    def add(archive: tarfile.TarFile) -> None:
        link = tarfile.TarInfo("sound/link")
        link.type, link.linkname = tarfile.LNKTYPE, "/etc/passwd"
        archive.addfile(link)

    return tarred(make_medseg(folder), folder / "m.tar", add)


def tar_device(folder: Path, canary: Path) -> Path:
    def add(archive: tarfile.TarFile) -> None:
        pipe = tarfile.TarInfo("sound/pipe")
        pipe.type = tarfile.FIFOTYPE
        archive.addfile(pipe)

    return tarred(make_medseg(folder), folder / "m.tar", add)


def tar_bomb(folder: Path, canary: Path) -> Path:
    def add(archive: tarfile.TarFile) -> None:
        zeros = tarfile.TarInfo("sound/zeros.bin")
        zeros.size = 120 << 20
        archive.addfile(zeros, _Zeros(zeros.size))

    return tarred(make_medseg(folder), folder / "m.tar.gz", add)


def tar_header_bomb(folder: Path, canary: Path) -> Path:
    """A name of 200 MB, which a reader of tar would take into memory."""
    folder.mkdir(parents=True)
    long_name = tarfile.TarInfo("././@LongLink")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 200 << 20
    with gzip.open(folder / "m.tar.gz", "wb", 1) as stream:
        stream.write(long_name.tobuf())
        for _ in range(200):
            stream.write(b"a" * (1 << 20))
    return folder / "m.tar.gz"


def tar_truncated(folder: Path, canary: Path) -> Path:
    file = tarred(make_medseg(folder), folder / "m.tar.gz")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return file


def folder_with_a_link(folder: Path, canary: Path) -> Path:
    source = make_medseg(folder)
    (source / "link").symlink_to("/etc/passwd")
    return source


def folder_with_a_pipe(folder: Path, canary: Path) -> Path:
    source = make_medseg(folder)
    os.mkfifo(source / "pipe")
    return source


class _Zeros(io.RawIOBase):
    def __init__(self, size: int) -> None:
        self.left = size

    def read(self, size: int = -1) -> bytes:
        taken = self.left if size < 0 else min(size, self.left)
        self.left -= taken
        return b"\0" * taken


def empty_folder(folder: Path, canary: Path) -> Path:
    (folder / "empty").mkdir(parents=True)
    return folder / "empty"


def no_archive(folder: Path, canary: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "page.zip").write_text("<html>404 not found</html>")
    return folder / "page.zip"


def two_models(folder: Path, canary: Path) -> Path:
    source = make_medseg(folder / "two")
    shutil.copytree(source, folder / "two" / "again")
    return folder / "two"


def executable_file(folder: Path, canary: Path) -> Path:
    source = make_medseg(folder)
    script = source / "setup.sh"
    script.write_text(f"touch {canary}")
    script.chmod(0o755)
    (source / "model.pkl").write_bytes(pickle.dumps(Reduced(os.system, f"touch {canary}")))
    return source
