"""What every reader and writer of image files must do, whatever the format."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.core.errors import InputError, MedsegError, UnreadableFileError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.io.inspect import inspect
from medseg.io.read import read, read_label_map
from medseg.io.write import write

SCAN_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha")
LABEL_SUFFIXES = (*SCAN_SUFFIXES, ".seg.nrrd")

SHEAR = np.array([[-0.8, 0, 0, 40], [0, 1.1, 0.9, -20], [0, 0, 2.5, 5], [0, 0, 0, 1]])
TURN = np.linalg.qr(np.array([[0.3, 0.9, 0.1], [-0.8, 0.2, 0.4], [0.1, -0.5, 0.9]]))[0]


def affine_of(matrix: np.ndarray[Any, Any], origin: tuple[float, float, float] = (0.1, -20, 300.7)) -> np.ndarray[Any, Any]:
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = origin
    return affine


GRIDS = {
    "RAS": affine_of(np.diag([1.0, 1, 1])),
    "LPS, unequal": affine_of(np.diag([-0.7, -0.7, 5.0])),
    "flipped, left-handed": affine_of(np.diag([-0.7, 1.3, 2.0])),
    "axes exchanged": affine_of(np.array([[0, 0, 1.5], [-0.6, 0, 0], [0, 2.0, 0]])),
    "oblique": affine_of(TURN * (0.9, 1.1, 3.0)),
    "oblique, other hand": affine_of(TURN * (0.9, 1.1, -3.0)),
    "sheared": SHEAR,
}
SHAPES = {"usual": (7, 6, 5), "one voxel": (1, 1, 1), "one slice": (7, 6, 1), "one line": (1, 6, 1), "long": (3000, 2, 2)}
CONTENTS = {
    "constant": lambda shape: np.full(shape, 5, np.int16),
    "zero": lambda shape: np.zeros(shape, np.uint8),
    "negative": lambda shape: np.full(shape, -1024, np.int16),
    "extremes": lambda shape: np.resize(np.array([-32768, 32767], np.int16), shape),
    "float": lambda shape: np.resize(np.array([0.1, -1e30, 3e-39], np.float32), shape),
    "double": lambda shape: np.resize(np.array([0.1, 1e300]), shape),
    "unsigned 32": lambda shape: np.resize(np.array([0, 4294967295], np.uint32), shape),
    "C order": lambda shape: np.ascontiguousarray(np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)),
}


@pytest.mark.parametrize("suffix", SCAN_SUFFIXES)
@pytest.mark.parametrize("name", GRIDS)
def test_grids_survive(tmp_path: Path, suffix: str, name: str) -> None:
    grid = Geometry((7, 6, 5), GRIDS[name])
    volume = read(write(Volume(np.arange(210, dtype=np.int16).reshape(7, 6, 5), grid), tmp_path / f"x{suffix}"))
    assert volume.geometry.distance_mm(grid) < 1e-4
    assert volume.geometry.orientation == grid.orientation
    assert volume.geometry.is_left_handed == grid.is_left_handed
    assert volume.geometry.voxel_volume_mm3 == pytest.approx(grid.voxel_volume_mm3, rel=1e-6)


@pytest.mark.parametrize("suffix", SCAN_SUFFIXES)
@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_voxels_survive(tmp_path: Path, suffix: str, content: str, shape: str) -> None:
    array = CONTENTS[content](SHAPES[shape])
    volume = read(write(Volume(array, Geometry(array.shape, GRIDS["oblique"])), tmp_path / f"x{suffix}"))
    np.testing.assert_array_equal(volume.array, array)
    assert volume.array.dtype == array.dtype
    assert volume.array.T.flags.c_contiguous
    assert not volume.array.flags.writeable


@pytest.mark.parametrize("suffix", SCAN_SUFFIXES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_scan_of_nothing_but_nan_is_refused(tmp_path: Path, suffix: str, shape: str) -> None:
    """Not a number anywhere: there is no smallest intensity to put in its place."""
    array = np.full(SHAPES[shape], np.nan, np.float32)
    path = write(Volume(array, Geometry(array.shape, GRIDS["oblique"])), tmp_path / f"x{suffix}")
    with pytest.raises(UnreadableFileError, match="no finite number"):
        read(path)


@pytest.mark.parametrize("suffix", LABEL_SUFFIXES)
@pytest.mark.parametrize("largest", [0, 1, 255, 256, 65_535, 70_000])
def test_labels_survive_in_the_smallest_type(tmp_path: Path, suffix: str, largest: int) -> None:
    array = np.zeros((4, 3, 2), np.uint32)
    array[1, 2, 1] = largest
    segments = (Segment(largest, "last"),) if largest else ()
    got = read_label_map(write(LabelMap(array, Geometry(array.shape, SHEAR), segments), tmp_path / f"x{suffix}"))
    np.testing.assert_array_equal(got.array, array)
    assert got.segments == segments
    if suffix != ".seg.nrrd":
        assert got.array.dtype.itemsize == (1 if largest < 256 else 2 if largest < 65_536 else 4)


@pytest.mark.parametrize("suffix", LABEL_SUFFIXES)
def test_left_stays_left(tmp_path: Path, suffix: str) -> None:
    """A mark on the patient's left is on the left after every format, whichever way the grid runs."""
    for index, affine in enumerate(GRIDS.values()):
        grid = Geometry((9, 8, 7), affine)
        array = np.zeros(grid.shape, np.uint8)
        centre = grid.index_to_world((4, 3.5, 3))
        left = tuple(int(n) for n in np.rint(grid.world_to_index(centre - np.array([2.0, 0, 0]))))
        array[left] = 1
        got = read_label_map(write(LabelMap(array, grid, (Segment(1, "left"),)), tmp_path / str(index) / f"x{suffix}"))
        world = got.geometry.index_to_world(np.argwhere(got.array)[0])
        np.testing.assert_allclose(world, grid.index_to_world(left), atol=1e-4)


@pytest.mark.parametrize("suffix", LABEL_SUFFIXES)
def test_no_damage_is_silent(tmp_path: Path, suffix: str) -> None:
    """Cut anywhere or with bytes changed at random: the right voxels on a grid, or an error of ours; never another crash."""
    array = np.random.default_rng(3).integers(0, 3, (8, 7, 6), dtype=np.uint8)
    organs = LabelMap(array, Geometry(array.shape, GRIDS["LPS, unequal"]), (Segment(1, "a"), Segment(2, "b")))
    data = write(organs, tmp_path / f"x{suffix}").read_bytes()
    path = tmp_path / f"damaged{suffix}"
    rng = np.random.default_rng(11)
    for _ in range(150):
        broken = bytearray(data)
        for position in rng.integers(0, len(data), rng.integers(1, 4)):
            broken[position] = int(rng.integers(256))
        path.write_bytes(bytes(broken))
        for call in (read, read_label_map):
            with contextlib.suppress(MedsegError):
                assert call(path).geometry.voxel_volume_mm3 > 0
    for length in range(0, len(data), max(1, len(data) // 120)):
        path.write_bytes(data[:length])
        with pytest.raises(MedsegError):
            read(path)


@pytest.mark.parametrize("call", [read, read_label_map])
@pytest.mark.parametrize(
    "start", [b"", b"\0", b"\x1f\x8b", b"\x1f\x8b\x08\0", b"NRRD0004\n", b"NRRD", b"ObjectType = Image\n", b"\x5c\x01\0\0"]
)
@pytest.mark.parametrize("rest", [b"", b"\0" * 400, b"\xff" * 2000, b"\n\n\n"])
def test_beginnings_of_a_format_without_the_rest(tmp_path: Path, call: Any, start: bytes, rest: bytes) -> None:
    (tmp_path / "x").write_bytes(start + rest)
    with pytest.raises((InputError, ValueError)) as caught:
        call(tmp_path / "x")
    assert isinstance(caught.value, MedsegError)
    (report,) = inspect(tmp_path / "x")
    assert not report.is_readable
