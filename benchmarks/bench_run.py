"""Time and peak memory of `medseg run ct-body-composition` on a 512×512×300 int16 CT, above the image itself.

`python benchmarks/bench_run.py [--data FOLDER] [--pipeline NAME]` writes the CT as NIfTI, runs the real command in a child process
and reads the child's peak resident memory. The same command on a scan of 32³ voxels gives what the interpreter and the
libraries take by themselves.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
from inputs import load_ct

FULL = (300, 512, 512)
SPACING_MM = (0.75, 0.62, 0.3)  # keeps the patient's size: the input is a 3 mm CT made finer


def write_scan(array: np.ndarray, spacing_mm: tuple[float, float, float], path: Path) -> None:
    image = nibabel.Nifti1Image(array.T, np.diag([*spacing_mm, 1.0]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def run_once(pipeline: str, scan: Path, folder: Path) -> tuple[float, float]:
    """Return seconds and peak memory in MB of one run in a process of its own."""
    script = "import sys\nfrom medseg.cli.main import run\nsys.exit(run(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "run", pipeline, str(scan), "-o", str(folder), "--quiet"]
    measured = (
        "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(done.returncode)"
    )
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", measured, *command], capture_output=True, text=True, check=True)
    return time.perf_counter() - begin, int(done.stdout.split()[-1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--pipeline", default="ct-body-composition")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        array = load_ct(options.data, FULL)
        write_scan(array, SPACING_MM, folder / "scan.nii.gz")
        small = np.ascontiguousarray(array[::9, ::16, ::16])
        write_scan(small, tuple(float(s * f) for s, f in zip(SPACING_MM, (16, 16, 9), strict=True)), folder / "small.nii.gz")
        voxels, image_mb = array.size, array.nbytes / 2**20
        del array
        _, library_mb = run_once(options.pipeline, folder / "small.nii.gz", folder / "small")
        seconds, peak_mb = run_once(options.pipeline, folder / "scan.nii.gz", folder / "full")
    own_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"this script itself: {own_mb:.0f} MB (not counted)")
    print("| what | value |\n|---|---|")
    print(f"| time | {seconds:.1f} s |")
    print(f"| image | {image_mb:.0f} MB |")
    print(f"| peak of the process | {peak_mb:.0f} MB |")
    print(f"| peak with a scan of {small.size} voxels (interpreter and libraries) | {library_mb:.0f} MB |")
    print(f"| above the image | {(peak_mb - image_mb) * 2**20 / voxels:.2f} bytes per voxel |")
    print(f"| above the image and the libraries | {(peak_mb - image_mb - library_mb) * 2**20 / voxels:.2f} bytes per voxel |")


if __name__ == "__main__":
    main()
