"""Finding the cases in a tree as it comes from an archive: files a second and memory, for a small and for a large tree.

Each study has a thin and a thick CT series, a localizer, a report (SR) and a text file; headers are those of
bench_dicom_discovery. The search runs in a fresh process each time, so that its memory is its own. `--cold` takes the content of
the files out of the cache before every search (Linux). The cases are checked: one for each study, the thin series.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def _uid(*numbers: int) -> str:
    """A UID that is as long as every other one, so that one can stand in for another."""
    return "1.2.826.0.1.3680043.10." + ".".join(str(100_000 + number) for number in numbers)


_INSTANCE, _STUDY, _SERIES = (_uid(899_999, 899_999, number) for number in (1, 2, 3))
_POSITION = "-190.0\\-190.0\\0777.77"
SERIES = ((1, 250, 1.0), (2, 40, 5.0), (3, 2, 1.0), (4, 1, 1.0))  # number, files, spacing; 3 is the localizer, 4 the report


def template(number: int) -> bytes:
    """A file of one series, with marks where files differ."""
    from bench_dicom_discovery import scanner_header  # pydicom is no part of the memory of a search

    data = scanner_header()
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = _INSTANCE
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = _STUDY, _SERIES, _STUDY
    data.SeriesNumber, data.PatientID = number, "PATIENT000000"
    data.ImagePositionPatient = _POSITION.split("\\")
    if number == 3:
        data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    if number == 4:
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.33"
        data.Modality = "SR"
        for keyword in ("PixelData", "Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient"):
            delattr(data, keyword)
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def write_tree(folder: Path, files: int) -> tuple[int, int]:
    """Write studies until there are about that many files; returns the files and the studies."""
    templates = {number: template(number) for number, _, _ in SERIES}
    written = study = 0
    while written < files:
        place = folder / f"{study // 100:03d}" / f"study_{study:06d}"
        place.mkdir(parents=True)
        (place / "readme.txt").write_text("exported\n")
        written += 1
        for number, count, spacing in SERIES:
            own = templates[number].replace(_STUDY.encode(), _uid(study, 0, 0).encode())
            own = own.replace(_SERIES.encode(), _uid(study, number, 0).encode()).replace(b"PATIENT000000", b"PATIENT%06d" % study)
            for k in range(count):
                one = own.replace(_INSTANCE.encode(), _uid(study, number, k + 1).encode())
                one = one.replace(_POSITION.encode(), f"-190.0\\-190.0\\{k * spacing:07.2f}".encode())
                (place / f"{number}_{k:04d}").write_bytes(one)
            written += count
        study += 1
    return written, study


def search(folder: Path) -> dict[str, float]:
    """Search once in this process; the time, what was found and the largest memory."""
    from medseg.batch.cases.find_cases import find_cases

    begin = time.perf_counter()
    with find_cases(folder, modality="CT", salt=b"benchmark") as found:
        counts = found.counts
        slices = {case.slices for case in found.cases()}
    seconds = time.perf_counter() - begin
    assert slices == {SERIES[0][1]}, slices
    # of this process alone: what getrusage says includes the program that started it
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
    return {"seconds": seconds, "files": counts["files"], "cases": counts["cases"], "found": counts["found"], "peak_bytes": peak}


def in_child(folder: Path, is_cold: bool) -> dict[str, float]:
    """Search in a fresh process."""
    for path in (file for file in folder.rglob("*") if is_cold and file.is_file()):
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)  # only what is on the disk can leave the memory
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)
    command = [sys.executable, __file__, "--search", str(folder)]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="600 files, to try the benchmark itself")
    parser.add_argument("--cold", action="store_true", help="take the content of the files out of the cache before every search")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--search", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.search:
        print(json.dumps(search(options.search)))
        return
    rows = []
    print("| files | cases | files/s | peak memory, MB |\n|---|---|---|---|")
    for files in [600] if options.small else options.files:
        with tempfile.TemporaryDirectory() as folder:
            written, studies = write_tree(Path(folder), files)
            runs = sorted((in_child(Path(folder), options.cold) for _ in range(options.rounds)), key=lambda run: run["seconds"])
            row = runs[len(runs) // 2]
            assert (row["files"], row["cases"]) == (written, studies), (row, written, studies)
            rows.append(row)
            print(f"| {written:,} | {studies:,} | {row['files'] / row['seconds']:,.0f} | {row['peak_bytes'] / 1e6:.0f} |", flush=True)
    if options.out:
        options.out.write_text(json.dumps({"rounds": options.rounds, "is_cold": options.cold, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
