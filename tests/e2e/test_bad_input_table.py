"""The table of bad inputs: what each is, how it is made, and what the user gets instead of a traceback or a wrong volume."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bad_inputs as make
import pytest
from bad_batch_checks import awkward_names, broken_index, killed_worker, short_names, studies, two_runs
from bad_input_checks import (
    Bench,
    Check,
    archives,
    changed_meanwhile,
    closed,
    empty_mask,
    every,
    harmless_patient,
    harmless_uid,
    inside_the_disc,
    kinds,
    labelled,
    little_memory,
    many_labels,
    negative_labels,
    no_contrast,
    no_hounsfield,
    not_yet,
    nothing,
    passed_over,
    refuse,
    two_cases,
    warn,
)
from bad_run_checks import (
    both,
    copy_of_model,
    damaged_weights,
    decoding,
    ended,
    half_downloads,
    no_output,
    not_finite,
    other_channels,
    other_names,
    other_segments,
    pickled,
    sound,
)

from medseg.core import errors as e


@dataclass(frozen=True)
class Row:
    number: int
    what: str
    build: make.Make
    check: Check
    known: str = ""  # why the row fails for now


NUMBERS = ("0\\0", "", "-1\\-1", "nan\\nan", "1,0\\1,0")  # each as it stands in the file
ROWS = (
    Row(
        1,
        "DICOM cut short in its pixels",
        make.with_slice(lambda data: data[:-10]),
        refuse(e.InputError, r"slice_0003\.dcm has 60 of 70 bytes"),
    ),
    Row(2, "an empty file in a series", make.with_slice(lambda _: b""), refuse(e.InputError, r"slice_0003\.dcm")),
    Row(3, "NIfTI, NRRD and MetaImage cut short", make.truncated_files, refuse(e.UnreadableFileError, "cut short")),
    Row(4, "gzip with a flipped byte, a wrong checksum, more behind it", make.damaged_gzip, refuse(e.UnreadableFileError, "gz")),
    Row(5, "a gzip bomb", make.gzip_bomb, refuse(e.UnreadableFileError, "more bytes than", most_mb=50)),
    Row(6, "headers of 32767³ voxels", make.huge_headers, refuse(e.UnreadableFileError, "declares 35,181,150,961,663 voxels", most_mb=50)),
    Row(7, "65535 rows and columns", make.huge_slices, refuse(e.InputError, "70 of 8589672450 bytes", most_mb=50)),
    Row(8, "rows that differ from the compressed frame", make.wrong_codestreams, refuse(e.UnreadableFileError, r"slice_0001\.dcm")),
    Row(9, "a bomb in deflated DICOM", make.deflated_bomb, refuse(e.InputError, "grows beyond", most_mb=150)),
    Row(10, "100,000 frames in a small file", make.many_frames, refuse(e.InputError, "announces 100000 frames", most_mb=50)),
    Row(
        11,
        "frames and their descriptions differ in number",
        make.frames_without_description,
        refuse(e.InputError, "frames but describes 3|42 of 72"),
    ),
    Row(12, "archives with .., absolute names, links, bombs", nothing, archives),
    Row(13, "a series UID that is a path", make.evil_uids, harmless_uid),
    Row(14, "a patient's name with a path, control characters, 300 letters", make.evil_patient, harmless_patient),
    Row(15, "a DICOMDIR that leads out of its disc", make.dicomdir, inside_the_disc),
    Row(16, "links in a circle and out of the folder", make.junk, passed_over(symbolic_link=2)),
    Row(17, "a pipe in the folder", make.junk, passed_over(not_a_regular_file=1)),
    Row(18, "a file that may not be opened", make.series, closed),
    Row(19, "files of no interest", make.junk, passed_over(not_DICOM=6)),
    Row(20, "DICOM that is no image", make.not_images, kinds),
    Row(21, "an empty folder", make.empty_folder, refuse(e.InputError, "no DICOM, NIfTI or NRRD")),
    Row(22, "two series in one folder", make.two_series, two_cases),
    Row(
        23,
        "one series in two folders, and copies that differ",
        make.several_copies,
        every(warn("SEVERAL_FOLDERS"), refuse(e.InputError, "REPEATED_UID")),
    ),
    Row(
        24,
        "one slice, three slices",
        make.few_slices,
        every(refuse(e.InputError, "TOO_FEW_SLICES"), warn("TOO_FEW_SLICES", shape=(7, 5, 3))),
    ),
    Row(25, "long names, no suffix, Unicode, bytes", make.strange_names, warn()),
    Row(26, "paths too long for Windows, names that differ in case", awkward_names, short_names),
    Row(27, "a file that changes while it is read", make.series, changed_meanwhile),
    Row(28, "impossible pixel spacing", make.with_field("PixelSpacing", None, *NUMBERS), refuse(e.InputError, "BAD_PIXEL_SPACING")),
    Row(29, "impossible orientation or position", make.misplaced, refuse(e.InputError, "BAD_ORIENTATION|MISSING_GEOMETRY")),
    Row(
        30,
        "NaN, infinity, one value everywhere",
        make.without_contrast,
        every(*[refuse(e.UnreadableFileError, "inside the body")] * 2, no_contrast),
    ),
    Row(31, "CT without Hounsfield scale, MR for a model of CT", make.without_rescale, no_hounsfield),
    Row(32, "4D, colours, complex numbers", make.not_one_scan, refuse(e.UnsupportedFormatError, "--volume|colours|complex")),
    Row(33, "no, 65,000 and negative labels", labelled, every(empty_mask, many_labels, negative_labels)),
    Row(34, "more memory needed than is free", make.series, little_memory),
    Row(35, "model weights cut short or changed", copy_of_model, damaged_weights),
    Row(36, "a pickle as a model", copy_of_model, pickled),
    Row(37, "weights of another network", copy_of_model, other_names),
    Row(38, "a model of other channels", copy_of_model, other_channels),
    Row(39, "a model of another number of labels", copy_of_model, other_segments),
    Row(40, "no network, half a download", copy_of_model, half_downloads),
    Row(41, "too little memory on the device", nothing, not_yet("needs a CUDA device that is full")),
    Row(42, "a device that is lost", nothing, not_yet("needs a CUDA device; played by a worker in tests/batch/run/test_runner.py")),
    Row(43, "a network that gives NaN", copy_of_model, not_finite),
    Row(44, "a worker killed for want of memory", studies, killed_worker),
    Row(45, "a decoder that crashes", nothing, decoding(b"abort", "SIGABRT")),
    Row(46, "a decoder that hangs", nothing, decoding(b"hang", "too long")),
    Row(47, "Ctrl-C and SIGTERM", sound, both(ended(signal.SIGINT, 130, 0), ended(signal.SIGTERM, 143, 0))),
    Row(48, "an output that cannot be written, a full disk", sound, no_output),
    Row(49, "kill -9 while a file is written", sound, ended(signal.SIGKILL, -9, 1)),
    Row(50, "two runs into one folder", studies, two_runs),
    Row(51, "a damaged journal", studies, broken_index),
    Row(52, "a network disk that hiccups", nothing, not_yet("needs a network disk; EIO and ESTALE are played in tests/batch")),
)


def _marked(row: Row) -> Any:
    return pytest.param(row, id=f"B{row.number}", marks=[pytest.mark.xfail(reason=row.known)] if row.known else [])


@pytest.mark.parametrize("row", [_marked(row) for row in ROWS])
def test_bad_input(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    row.check(Bench(tmp_path, monkeypatch, capsys), row.build(tmp_path))


def test_the_table_is_whole() -> None:
    assert [row.number for row in ROWS] == list(range(1, 53))
