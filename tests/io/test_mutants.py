"""Damaged copies of every kind of file, read in a child process for each reader: named errors only, no crash, no hang, no flood.

A mutant is made from its reader's name and its number alone: `mutate(case, random.Random("NRRD-17"))` makes mutant 17 of the
reader NRRD again, from case 17 modulo the number of cases.
"""

from __future__ import annotations

import json
import random
import secrets
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from made_files import metaimage, nrrd, saved
from made_multiframe import make_enhanced
from made_series import numbered_volume
from made_structures import CLOSED, circle, write_structures
from pydicom.uid import JPEG2000Lossless, RLELossless

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.io.dicom.records import write_records
from medseg.io.dicom.seg import write_seg
from medseg.io.dicom.series import write_series
from medseg.io.nifti import write_nifti
from medseg.io.read import read
from medseg.io.seg_nrrd import write_segmentation
from medseg.phantom.faults.mosaic_faults import mosaic
from medseg.phantom.faults.scene import stack

ADDRESS_SPACE_BYTES = 3 << 30
PEAK_MB = 700
SECONDS = 60  # for one file

CHILD = '''
import contextlib, faulthandler, gzip, json, random, resource, shutil, sys, time, traceback, warnings
from pathlib import Path

import medseg.io.dicom.volume, medseg.io.dicom.seg_read, medseg.io.dicom.rtstruct_read, medseg.io.nifti, medseg.io.nrrd
from medseg.core.errors import MedsegError
from medseg.io.inspect import inspect
from medseg.io.read import read, read_label_map, read_layers

corpus, scratch, name, first, count, space, seconds = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:])
resource.setrlimit(resource.RLIMIT_AS, (space, space))
warnings.simplefilter("error")


def mutated(data, dice):
    """Bytes flipped, the end cut off, or a span set to zero; half of it near the start, where headers are."""
    near = len(data) if dice.random() < 0.5 else min(len(data), 2000)
    kind = dice.randrange(4)
    if kind == 0:
        return data[: dice.randrange(near)]
    changed = bytearray(data)
    if kind == 1:
        start = dice.randrange(near)
        end = min(len(data), start + dice.choice((1, 2, 4, 8, 64, 512)))
        changed[start:end] = bytes(end - start)
    else:
        for _ in range(dice.choice((1, 1, 2, 8))):
            place = dice.randrange(near)
            changed[place] = dice.choice((0, 0x7F, 0x80, 0xFF, changed[place] ^ 1 << dice.randrange(8), dice.randrange(256)))
    return bytes(changed)


def mutate(case, dice):
    """Damage one file of a case; gzip is damaged outside, or inside with a sound checksum."""
    files = sorted(file for file in case.rglob("*") if file.is_file())
    file = dice.choice(files)
    data = file.read_bytes()
    if data.startswith(b"\\x1f\\x8b") and dice.random() < 0.5:
        file.write_bytes(gzip.compress(mutated(gzip.decompress(data), dice), 1))
    else:
        file.write_bytes(mutated(data, dice))
    return files[0] if case.name.startswith("file") else case


cases = sorted(corpus.iterdir())
functions = (read_label_map, read_layers) if name in ("DICOM SEG", "RTSTRUCT", "seg.nrrd") else (read, inspect)
for case in cases:  # kernels are compiled before the watchdog looks
    for function in functions:
        with contextlib.suppress(MedsegError):
            function(next(file for file in sorted(case.rglob("*")) if file.is_file()) if case.name.startswith("file") else case)
escapes, slowest, answers, refusals = [], 0.0, 0, 0
for number in range(first, first + count):
    print(json.dumps({"at": number}), flush=True)
    target = scratch / cases[number % len(cases)].name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(cases[number % len(cases)], target)
    path = mutate(target, random.Random(f"{name}-{number}"))
    for function in functions:
        start = time.perf_counter()
        faulthandler.dump_traceback_later(seconds, exit=True)
        try:
            function(path)
            answers += 1
        except MedsegError as err:
            refusals += 1
            if "ZZCANARY" in str(err):
                escapes.append(f"{name}-{number} {function.__name__}: the patient stands in the message")
        except BaseException:
            escapes.append(f"{name}-{number} {function.__name__}: {traceback.format_exc()}")
        faulthandler.cancel_dump_traceback_later()
        slowest = max(slowest, time.perf_counter() - start)
status = Path("/proc/self/status").read_text().splitlines()
peak_mb = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM:"))
print(json.dumps({"escapes": escapes, "slowest": slowest, "peak_mb": peak_mb, "answers": answers, "refusals": refusals}))
'''


def _labels() -> LabelMap:
    array = np.zeros((7, 5, 6), np.uint8)
    array[1:4, 1:4, 1:4], array[5:, 2:, 3:] = 1, 2
    return LabelMap(array, Geometry(array.shape, np.diag([-0.7, -0.9, 2.5, 1.0])), (Segment(1, "a"), Segment(2, "b")))


def _classic(corpus: Path) -> None:
    write_series(numbered_volume(), corpus / "folder", seed="m")


def _compressed(corpus: Path) -> None:
    write_series(numbered_volume((48, 40, 3)), corpus / "folder-jls", seed="m", compressed=True)
    for name, syntax in (("rle", RLELossless), ("j2k", JPEG2000Lossless)):
        for file in write_series(numbered_volume((48, 40, 3)), corpus / f"folder-{name}", seed="m"):
            dataset = pydicom.dcmread(file)
            dataset.compress(syntax, generate_instance_uid=False)
            dataset.save_as(file)


def _enhanced(corpus: Path) -> None:
    (corpus / "file").mkdir(parents=True)
    make_enhanced(corpus / "file" / "x.dcm", [{"ImagePositionPatient": [0, 0, 2.5 * k]} for k in (2, 0, 1, 3)])


def _mosaic(corpus: Path) -> None:
    planes = stack()[10:74:8]
    write_records(
        [mosaic("mutants", [type(plane)(plane.position, spacing_mm=(8, 8), size=(16, 16)) for plane in planes])], corpus / "folder"
    )


def _seg(corpus: Path) -> None:
    for name, labelmap in (("file-binary", False), ("file-labelmap", True)):
        source = read(write_series(numbered_volume(), corpus.parent / name, seed="m")[0].parent)
        (corpus / name).mkdir(parents=True)
        write_seg(_labels(), corpus / name / "x.dcm", source, labelmap=labelmap)


def _structures(corpus: Path) -> None:
    for explicit in (False, True):
        folder = corpus / f"file-{explicit}"
        folder.mkdir(parents=True)
        contours = [(CLOSED, circle(9, z, points=24)) for z in (0, 2.5, 5)]
        write_structures(folder / "x.dcm", {1: contours, 2: contours[:2]}, explicit=explicit)


def _nifti(corpus: Path) -> None:
    for name, kind in (("one.nii", {}), ("two.nii", {"version": 2, "order": ">"}), ("packed.nii.gz", {}), ("pair.hdr", {})):
        (corpus / f"file-{name}").mkdir(parents=True)
        saved(corpus / f"file-{name}" / name, **kind)
    write_nifti(_labels(), corpus / "file-labels" / "labels.nii.gz")


def _nrrd(corpus: Path) -> None:
    lines = "dimension: 3\nsizes: 6 5 4\nspace: LPS\nspace directions: (0.8,0,0) (0,-1.1,0) (0,0,2.5)\nspace origin: (-10,20,30)"
    for name, packed in (("raw", False), ("gzip", True)):
        (corpus / f"file-{name}").mkdir(parents=True)
        nrrd(corpus / f"file-{name}" / "x.nrrd", lines, gz=packed)


def _seg_nrrd(corpus: Path) -> None:
    layers = (_labels(), LabelMap(np.full((7, 5, 6), 3, np.uint8), _labels().geometry, (Segment(3, "c"),)))
    write_segmentation(_labels(), corpus / "file-one" / "x.seg.nrrd")
    write_segmentation(layers, corpus / "file-layers" / "x.seg.nrrd")


def _metaimage(corpus: Path) -> None:
    (corpus / "file-raw").mkdir(parents=True)
    metaimage(corpus / "file-raw" / "x.mha", "NDims = 3\nDimSize = 6 5 4\nElementSpacing = 1 1 2\nTransformMatrix = 1 0 0 0 1 0 0 0 1")
    from medseg.io.metaimage import write_metaimage

    write_metaimage(_labels(), corpus / "file-packed" / "x.mha")


CORPORA: dict[str, Callable[[Path], None]] = {
    "classic DICOM": _classic,
    "compressed DICOM": _compressed,
    "enhanced DICOM": _enhanced,
    "mosaic": _mosaic,
    "DICOM SEG": _seg,
    "RTSTRUCT": _structures,
    "NIfTI": _nifti,
    "NRRD": _nrrd,
    "seg.nrrd": _seg_nrrd,
    "MetaImage": _metaimage,
}


def read_mutants(name: str, tmp_path: Path, first: int, count: int) -> None:
    """Read mutants in a child with a cap on its memory and a watchdog, and hold it to what a reader promises."""
    (tmp_path / "corpus").mkdir()
    (tmp_path / "scratch").mkdir()
    dice = random.Random(name)
    with pytest.MonkeyPatch.context() as patch:  # new UIDs are the only chance in the corpus
        patch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=dice.getrandbits(128), version=4))
        patch.setattr(secrets, "randbelow", dice.randrange)
        CORPORA[name](tmp_path / "corpus")
    numbers = map(str, (first, count, ADDRESS_SPACE_BYTES, SECONDS))
    command = [sys.executable, "-c", CHILD, str(tmp_path / "corpus"), str(tmp_path / "scratch"), name, *numbers]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30 + count, check=False)
    last = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}
    assert done.returncode == 0, f"the child ended with {done.returncode} at mutant {name}-{last.get('at')}\n{done.stderr[-3000:]}"
    assert last["escapes"] == [], "\n".join(last["escapes"])
    assert last["slowest"] < SECONDS
    assert last["peak_mb"] < PEAK_MB
    assert last["answers"] > 0, "some damage does no harm"
    assert last["refusals"] > 0.1 * count


@pytest.mark.parametrize("name", CORPORA)
def test_a_few_mutants_of_each_reader(name: str, tmp_path: Path) -> None:
    read_mutants(name, tmp_path, 0, 60)


@pytest.mark.slow
@pytest.mark.parametrize("name", CORPORA)
def test_a_thousand_mutants_of_each_reader(name: str, tmp_path: Path) -> None:
    read_mutants(name, tmp_path, 0, 1000)
