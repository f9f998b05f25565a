"""Fixtures every test may use: real scans, the sample study, and grids of every kind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume

ROOT = Path(__file__).resolve().parents[1]
SPACING_MM = np.array([0.8, 1.1, 2.5])


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name a case of bytes by their number: packed bytes hold the time, and every worker must collect the same names."""
    return f"{len(val)}_bytes" if isinstance(val, bytes) else None


@pytest.fixture(scope="session", autouse=True)
def heard_signals() -> None:
    """Signals that whoever started the tests ignores (nohup, a job in the background) would be ignored by every program of a test."""
    for name, handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans (MEDSEG_TEST_DATA, default ../shared/data); the test is skipped where it is absent."""
    folder = Path(os.environ.get("MEDSEG_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "MANIFEST.tsv").is_file():
        pytest.skip("no folder of real scans: set MEDSEG_TEST_DATA to run this test")
    return folder


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """The small study that lies in the repository."""
    return ROOT / "sample_data"


@pytest.fixture(scope="session")
def ct(shared_data: Path) -> Volume:
    """A real abdominal CT as nibabel reads it."""
    image = nibabel.load(shared_data / "ct_totalseg_organs" / "image.nii.gz")
    array = np.asarray(image.dataobj).astype(np.int16)
    return Volume(array, Geometry(array.shape, image.affine), "CT", "HU")


@pytest.fixture(scope="session")
def organs(shared_data: Path) -> LabelMap:
    """The organs of that CT as nibabel reads them."""
    image = nibabel.load(shared_data / "ct_totalseg_organs" / "labels_full.nii.gz")
    array = np.asarray(image.dataobj).astype(np.uint8)
    segments = tuple(Segment(int(number), f"organ_{number}") for number in np.unique(array) if number)
    return LabelMap(array, Geometry(array.shape, image.affine), segments)


def _rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    a, b, c = np.radians(degrees)
    about_r = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_a = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_s = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return about_s @ about_a @ about_r


DIRECTIONS = {
    "anisotropic": np.eye(3),
    "left-handed": np.diag([-1.0, 1.0, 1.0]),
    "permuted": np.eye(3)[:, [2, 0, 1]] * [1, -1, 1],
    "oblique": _rotation((12, -20, 33)),
    "sheared": np.array([[1, 0, 0], [0, 1, np.sin(np.radians(18))], [0, 0, np.cos(np.radians(18))]]),
}


def _affine(kind: str) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = DIRECTIONS[kind] * SPACING_MM
    matrix[:3, 3] = (-31.5, 12.25, 140.0)
    return matrix


@pytest.fixture(params=list(DIRECTIONS))
def affine(request: pytest.FixtureRequest) -> np.ndarray:
    """An affine of each kind, with unequal spacing and an origin off zero."""
    return _affine(request.param)


@pytest.fixture(params=[kind for kind in DIRECTIONS if kind != "sheared"])
def right_angled(request: pytest.FixtureRequest) -> np.ndarray:
    """The affines that packages without shear can hold."""
    return _affine(request.param)
