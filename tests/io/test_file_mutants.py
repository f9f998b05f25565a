"""Mutants of NIfTI, NRRD and MetaImage files in a child process: named errors only, little memory, no hang."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
from made_files import VOXELS, metaimage, nrrd, saved

from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.io.nifti import write_nifti
from medseg.io.nrrd import write_nrrd

CHILD = """
import json, sys, time, warnings
from pathlib import Path
from medseg.core.errors import MedsegError
from medseg.io.read import read, read_label_map
warnings.simplefilter("error")
foreign, slowest, read_well = [], 0.0, 0
for path in sorted(Path(sys.argv[1]).iterdir()):
    if path.suffix in (".img", ".raw"):
        continue
    for function in (read, read_label_map):
        start = time.perf_counter()
        try:
            function(path)
            read_well += 1
        except MedsegError as err:
            if path.name not in str(err) and path.stem not in str(err):
                foreign.append(f"{path.name}: unnamed in {err}")
        except BaseException as err:
            foreign.append(f"{path.name}: {type(err).__name__} {err}")
        slowest = max(slowest, time.perf_counter() - start)
status = Path("/proc/self/status").read_text().splitlines()  # the figure of getrusage is that of the parent, where it is larger
peak_mb = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM:"))
print(json.dumps({"foreign": foreign, "slowest": slowest, "peak_mb": peak_mb, "read_well": read_well}))
"""
MUTANTS = 25
DIRECTIONS = "space: LPS\nspace directions: (0.8,0,0) (0,-1.1,0) (0,0,2.5)\nspace origin: (-10,20,30)\nkinds: domain domain domain"


def seeds(folder: Path) -> list[Path]:
    noise = np.random.default_rng(0).integers(0, 300, (100, 100, 130), dtype=np.int16)
    large = Volume(noise, Geometry(noise.shape, np.eye(4)))
    return [
        write_nifti(large, folder / "slabs.nii.gz"),
        write_nrrd(large, folder / "slabs.nrrd"),
        saved(folder / "one.nii"),
        saved(folder / "two.nii", version=2, order=">"),
        saved(folder / "packed.nii.gz", VOXELS.astype(np.float32)),
        saved(folder / "pair.hdr"),
        nrrd(folder / "plain.nrrd", f"dimension: 3\nsizes: 6 5 4\n{DIRECTIONS}"),
        nrrd(folder / "packed.nrrd", "dimension: 3\nsizes: 6 5 4\nspacings: 1 1 1", gz=True),
        metaimage(folder / "x.mha", "NDims = 3\nDimSize = 6 5 4\nElementSpacing = 1 1 2\nTransformMatrix = 1 0 0 0 1 0 0 0 1"),
    ]


def mutant(data: bytes, dice: random.Random) -> bytes:
    """Cut, with bytes changed anywhere or in the header, or with a piece lost or doubled."""
    kind = dice.randrange(5)
    changed = bytearray(data)
    if kind == 0:
        return data[: dice.randrange(len(data))]
    if kind == 1:
        start, end = sorted(dice.randrange(len(data)) for _ in range(2))
        return data[:start] + data[start:end] * dice.choice((0, 2)) + data[end:]
    for _ in range(dice.choice((1, 1, 2, 8))):
        changed[dice.randrange(len(data) if kind == 2 else min(len(data), 540))] = dice.choice(
            (0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256))
        )
    return bytes(changed)


def test_mutants_raise_named_errors_and_take_little(tmp_path: Path) -> None:
    dice = random.Random(4)
    (tmp_path / "mutants").mkdir()
    (tmp_path / "seeds").mkdir()
    for seed in seeds(tmp_path / "seeds"):
        data = seed.read_bytes()
        for number in range(MUTANTS):
            inside = seed.name == "packed.nii.gz" and number % 2
            broken = gzip.compress(mutant(gzip.decompress(data), dice), 1) if inside else mutant(data, dice)
            path = tmp_path / "mutants" / f"{number}-{seed.name}"
            path.write_bytes(broken)
            if seed.suffix == ".hdr":
                path.with_suffix(".img").write_bytes(seed.with_suffix(".img").read_bytes())
    command = [sys.executable, "-c", CHILD, str(tmp_path / "mutants")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    result = json.loads(done.stdout)
    assert result["foreign"] == []
    assert result["slowest"] < 60
    assert result["peak_mb"] < 400
    assert 0 < result["read_well"] < 2 * 9 * MUTANTS
