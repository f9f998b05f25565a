"""What must become of bad models, decoders that fail, runs that are ended, and outputs that cannot be written."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import bad_inputs as make
import pytest
from bad_input_checks import Bench, Check

from medseg.io.dicom import header
from medseg.io.dicom.codestream import JPEG_2000, Codestream
from medseg.io.dicom.decoder import DecoderPool, DecodingError

MODEL = Path(str(header.__file__)).parents[2] / "models" / "ct-phantom"


def copy_of_model(folder: Path) -> Path:
    pytest.importorskip("monai")
    make.saved(folder / "scan.nii")
    return Path(shutil.copytree(MODEL, folder / "model"))


def with_model(bench: Bench, model: Path, says: str) -> None:
    code, _, text = bench.cli("segment", "model", bench.folder / "scan.nii", "-o", bench.folder / "o.nii.gz", "--model", model)
    assert (code, says in text) == (4, True), text
    assert not (bench.folder / "o.nii.gz").exists()


def damaged_weights(bench: Bench, model: Path) -> None:
    weights = model / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with_model(bench, model, "bytes")
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with_model(bench, model, "SHA-256")


def _describe(model: Path, **changes: Any) -> None:
    entries = json.loads((model / "model.json").read_text()) | changes
    (model / "model.json").write_text(json.dumps(entries))


def pickled(bench: Bench, model: Path) -> None:
    evil = bench.folder / "evil"
    (model / "weights.pt").write_bytes(f"cos\nsystem\n(S'touch {evil}'\ntR.".encode())
    with_model(bench, model / "weights.pt", "can run code")
    _describe(model, weights={"file": "weights.pt", "sha256": "0" * 64, "bytes": 3})
    with_model(bench, model, "can run code")
    assert not evil.exists()


def other_names(bench: Bench, model: Path) -> None:
    from safetensors.numpy import load, save

    weights = save({f"x.{name}": value for name, value in load((model / "weights.safetensors").read_bytes()).items()})
    (model / "weights.safetensors").write_bytes(weights)
    entry = {"file": "weights.safetensors", "sha256": hashlib.sha256(weights).hexdigest(), "bytes": len(weights)}
    _describe(model, weights=entry)
    with_model(bench, model, "is missing; ")
    with_model(bench, model, "more")


def other_channels(bench: Bench, model: Path) -> None:
    _describe(model, channels=["T1", "T2"])
    with_model(bench, model, "needs 2 scans")


def other_segments(bench: Bench, model: Path) -> None:
    _describe(model, segments=[{"number": 1, "label": "only"}])
    with_model(bench, model, "out_channels")


def not_finite(bench: Bench, model: Path) -> None:
    import torch

    from medseg.segmentation.learned import medseg_model as module

    class Broken(torch.nn.Conv3d):
        def forward(self, x: Any) -> Any:
            return super().forward(x) * float("nan")

    bench.patch.setattr(module, "load_network", lambda _: Broken(1, 10, 1))
    with_model(bench, model, "not finite")


class _CutOnce(BaseHTTPRequestHandler):
    """Serves one file; the first answer ends in its middle."""

    content = b""
    answers = 0

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        kind = type(self)
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(kind.content) - 1}/{len(kind.content)}")
        self.send_header("Content-Length", str(len(kind.content) - start))
        self.end_headers()
        kind.answers += 1
        self.wfile.write(kind.content[start : len(kind.content) // 2 if kind.answers == 1 else None])


def half_downloads(bench: Bench, model: Path) -> None:
    """A download that is cut goes on where it ended; without a network the error says what to do; nothing half counts."""
    archive = Path(shutil.make_archive(str(bench.folder / "packed"), "zip", model))
    _CutOnce.content, _CutOnce.answers = archive.read_bytes(), 0
    sha256 = hashlib.sha256(_CutOnce.content).hexdigest()
    store = bench.folder / "store"
    stated = ("--licence", "Apache-2.0", "--intended-use", "tests", "--accept-licence", "--name", "fetched", "--store", store)
    with ThreadingHTTPServer(("127.0.0.1", 0), _CutOnce) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/packed.zip"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        code, _, text = bench.cli("models", "add", url, "--sha256", "0" * 64, *stated)
        assert (code, "SHA-256" in text, (store / "fetched").exists()) == (4, True, False), text
        _CutOnce.answers = 0
        code, _, text = bench.cli("models", "add", url, "--sha256", sha256, *stated)
        assert (code, _CutOnce.answers, (store / "fetched").is_dir()) == (0, 2, True), text
        server.shutdown()
    other = ("--licence", "Apache-2.0", "--intended-use", "tests", "--accept-licence", "--name", "other", "--store", bench.folder / "empty")
    for option, says in (((), "Without a network: fetch the file on another machine"), (("--offline",), "--offline")):
        code, _, text = bench.cli("models", "add", url, "--sha256", sha256, *option, *other)
        assert (code, says in text, (bench.folder / "empty" / "other").exists()) == (4, True, False), text


DECODER = """
import os, time
def decoder(kind):
    return decode
def decode(stream, rows, columns):
    os.abort() if stream == b"abort" else time.sleep(600)
"""


def decoding(what: bytes, says: str) -> Check:
    def check(bench: Bench, folder: Path) -> None:
        (folder / "bad_codec.py").write_text(DECODER)
        bench.patch.syspath_prepend(str(folder))
        start = time.monotonic()
        with DecoderPool(packages=["bad_codec"], frame_seconds=1) as pool, pytest.raises(DecodingError, match=says):
            pool.decode(what, Codestream(JPEG_2000, 3, 4, 1, 16, False, True))
        assert time.monotonic() - start < 120

    return check


SLOW = """
import sys, time
from medseg.cli import convert, main
from medseg.io import atomic, read
def wait(*arguments):
    def write(temporary):
        temporary.write_bytes(b"half")
        print("ready", flush=True)
        time.sleep(60)
    atomic.write_verified(sys.argv[1], write, lambda _: None)
read.read_with = wait
main.main(["convert", sys.argv[2], sys.argv[1]])
"""


def ended(number: signal.Signals, code: int, left: int) -> Check:
    """A program that is ended while it writes has this exit code, and leaves this many temporary files and nothing else."""

    def check(bench: Bench, path: Path) -> None:
        target = bench.folder / "out" / "x.nii.gz"
        command = [sys.executable, "-c", SLOW, str(target), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            child.send_signal(number)
            _, text = child.communicate(timeout=120)
        assert child.returncode == code, text
        assert "Traceback" not in text
        assert [item.name[:5] for item in target.parent.iterdir()] == [".tmp-"] * left

    return check


def both(*checks: Check) -> Check:
    def check(bench: Bench, path: Path) -> None:
        for one in checks:
            one(bench, path)

    return check


def no_output(bench: Bench, path: Path) -> None:
    (bench.folder / "file").write_text("in the way")
    for target in (bench.folder / "file" / "x.nii.gz", *([Path("/proc/none/x.nii.gz")] if Path("/proc").is_dir() else [])):
        code, _, text = bench.cli("convert", path, target)
        assert code == 5, text
    bench.patch.setattr(os, "fsync", partial(_full_disk))
    code, _, text = bench.cli("convert", path, bench.folder / "full" / "x.nii.gz")
    assert (code, "free some space" in text) == (5, True), text
    assert not list((bench.folder / "full").glob("*"))


def _full_disk(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def sound(folder: Path) -> Path:
    return make.saved(folder / "scan.nii")
