"""Files that appear whole or not at all: temporary name, flush to disk, read back, compare, rename."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from medseg.core.errors import MedsegError, OutputError, OutputExistsError, OutputVerificationError

TEMPORARY_PREFIX = ".tmp-"  # what a killed process may leave behind; safe to delete
_FLUSHES = 8  # at a time
_SLOW_FLUSH_S = 2e-3  # threads cost less
# A folder of ours that gets its name as a whole (`give_name`): a folder of others may begin with the prefix, but not go on like this
_UNNAMED_FOLDER = re.compile(re.escape(TEMPORARY_PREFIX) + r"[0-9a-f]{16}-.+")


def write_verified(path: str | Path, write: Callable[[Path], None], verify: Callable[[Path], None], overwrite: bool = False) -> Path:
    """Let `write` make a temporary file beside `path`, let `verify` read it back, then give it its name.

    Both get the temporary path, whose suffixes are those of `path`; folders on the way are made. The temporary file is
    removed whatever happens, and a file that was at `path` stays untouched until the new one is proven. Raises
    OutputExistsError, OutputError (folder, permission, full disk) or OutputVerificationError (`verify` raised anything
    of medseg's or an OSError). In a folder that is itself temporary the file gets its name at once, and is flushed by
    `give_name` with all others there.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.txt"
    >>> def check(temporary):
    ...     if temporary.read_text() != "text":
    ...         raise OutputVerificationError("not what was written")
    >>> _ = write_verified(target, lambda temporary: temporary.write_text("text") and None, check)
    >>> target.read_text()
    'text'
    """
    path = Path(path)
    _check_target(path, overwrite)
    if any(map(_UNNAMED_FOLDER.fullmatch, path.parent.parts)):
        _write_in_temporary(path, write, verify)
        return path
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}{_suffix_of(path)}")
    try:
        try:
            write(temporary)
        except OSError as err:
            raise OutputError(_message(path, err)) from err
        _flush_and_verify(temporary, verify, path)
        _rename(temporary, path, overwrite)
    finally:
        _remove(temporary)
    _flush_folder(path.parent)
    return path


def give_name(temporary: Path, final: Path) -> None:
    """Flush every file below a temporary folder, then give the folder its name; one that is there makes way.

    The folder that was there is set aside as `<temporary>.old` until the new one has its name, and then deleted. Raises
    OutputError; `temporary` is then still there.
    """
    aside = temporary.with_name(f"{temporary.name}.old")
    try:
        _flush_tree(temporary)
        try:
            os.rename(temporary, final)
        except OSError as err:
            if err.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            os.rename(final, aside)
            os.rename(temporary, final)
    except OSError as err:
        raise OutputError(_message(final, err)) from err
    _flush_folder(final.parent)
    remove_tree(aside)


def remove_tree(folder: Path) -> None:
    """Delete a folder with all that is in it, or a file, as far as that can be done; nothing is fine too."""
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
    else:
        _remove(folder)


def _write_in_temporary(path: Path, write: Callable[[Path], None], verify: Callable[[Path], None]) -> None:
    try:
        write(path)
    except OSError as err:
        _remove(path)
        raise OutputError(_message(path, err)) from err
    try:
        verify(path)
    except (MedsegError, OSError) as err:
        _remove(path)
        if isinstance(err, OutputVerificationError):
            raise
        raise OutputVerificationError(f"{path}: what was written cannot be read back ({err}); check the disk and try again") from err


def _flush_and_verify(temporary: Path, verify: Callable[[Path], None], path: Path) -> None:
    """Wait for the disk while the file is read back: both must have ended well before it gets its name."""
    with ThreadPoolExecutor(1, thread_name_prefix="medseg-flush") as pool:
        flushed = pool.submit(_flush_file, temporary)
        try:
            verify(temporary)
        except (MedsegError, OSError) as err:
            _check_flushed(flushed, path)  # a full disk is the better explanation
            if isinstance(err, OutputVerificationError):
                raise
            reason = str(err).replace(temporary.name, path.name)  # the temporary name means nothing to a reader
            raise OutputVerificationError(f"{path}: what was written cannot be read back ({reason}); check the disk and try again") from err
        _check_flushed(flushed, path)


def _check_flushed(flushed: Future[None], path: Path) -> None:
    try:
        flushed.result()
    except OSError as err:
        raise OutputError(_message(path, err)) from err


def write_bytes(path: str | Path, data: bytes, overwrite: bool = False) -> Path:
    """Write bytes as `write_verified` does and compare them with what is read back."""
    path = Path(path)

    def write(temporary: Path) -> None:
        temporary.write_bytes(data)

    def verify(temporary: Path) -> None:
        if temporary.read_bytes() != data:
            raise OutputVerificationError(f"{path}: what was read back is not what was written; check the disk and try again")

    return write_verified(path, write, verify, overwrite)


def write_text(path: str | Path, text: str, overwrite: bool = False) -> Path:
    """Write UTF-8 text with the line ends it has, as `write_bytes` does."""
    return write_bytes(path, text.encode("utf-8"), overwrite)


def check_folder(folder: str | Path) -> Path:
    """Make a folder where it is missing and prove that files can be written there; OutputError where they cannot."""
    folder = Path(folder)
    probe = folder / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"medseg")
        _flush_file(probe)
    except (OSError, ValueError) as err:
        raise OutputError(_message(folder, err)) from err
    finally:
        _remove(probe)
    return folder


def check_writable(folder: str | Path) -> None:
    """Prove that a folder can be written, or made where it is missing, and leave nothing behind; OutputError where not."""
    folder = Path(folder)
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
    except OSError as err:  # a name that no disk takes
        raise OutputError(_message(folder, err)) from err
    check_folder(folder)


def _check_target(path: Path, overwrite: bool) -> None:
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise OutputError(f"{path} is a folder; give the name of a file")
        if not overwrite and (path.exists() or path.is_symlink()):
            raise OutputExistsError(f"{path} is there already; choose another name or allow overwriting (--overwrite)")
    except OutputError:
        raise
    except (OSError, ValueError) as err:
        raise OutputError(_message(path, err)) from err


def _suffix_of(path: Path) -> str:
    """Everything from the first dot of a short ending such as .nii.gz or .seg.nrrd; names may hold other dots."""
    parts = path.name.split(".")
    two = ".".join(parts[-2:]).lower()
    return "." + two if two in ("nii.gz", "seg.nrrd", "hdr.gz", "img.gz", "labels.csv") and len(parts) > 2 else path.suffix


def _rename(temporary: Path, path: Path, overwrite: bool) -> None:
    try:
        if not overwrite:
            try:  # a link fails where another process took the name meanwhile; a rename would replace its file
                os.link(temporary, path)
                return
            except FileExistsError as err:
                raise OutputExistsError(f"{path} was made by another process meanwhile; choose another name") from err
            except (OSError, AttributeError, NotImplementedError):
                _check_target(path, overwrite)  # this file system has no links
        os.replace(temporary, path)
    except OutputError:
        raise
    except (OSError, ValueError) as err:
        raise OutputError(_message(path, err)) from err


def _flush_file(path: Path) -> None:
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_tree(folder: Path) -> None:
    """Flush all files below a folder, then the folders."""
    folders, files = [], []
    for place, _, names in os.walk(folder, topdown=False):
        folders.append(Path(place))
        files += [Path(place, name) for name in names]
    _flush_files(files)
    for one in folders:
        _flush_folder(one)


def _flush_files(files: list[Path]) -> None:
    """Flush files one by one; from one that had to wait on, side by side: a busy disk or server lets all wait for once."""
    for done, file in enumerate(files, 1):
        begin = time.perf_counter()
        _flush_file(file)
        if time.perf_counter() - begin > _SLOW_FLUSH_S and done + 1 < len(files):
            break
    else:
        return
    try:
        with ThreadPoolExecutor(_FLUSHES, thread_name_prefix="medseg-flush") as pool:
            for flushed in [pool.submit(_flush_file, file) for file in files[done:]]:
                flushed.result()
    except RuntimeError:  # no thread can be started where memory is short
        for file in files[done:]:
            _flush_file(file)


def _flush_folder(folder: Path) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open folders; the rename itself was done
        return
    try:
        os.fsync(handle)
    except OSError:
        return
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # the folder is gone or read-only: nothing more can be done, and the first error is the one that counts
        return


def _message(path: Path, err: Exception) -> str:
    reason = getattr(err, "strerror", None) or str(err)
    advice = "free some space" if getattr(err, "errno", None) in (errno.ENOSPC, errno.EDQUOT) else "check the folder and its permissions"
    return f"{path} cannot be written ({reason}); {advice} and try again"
