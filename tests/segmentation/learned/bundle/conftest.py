"""Bundles with random weights, written on the spot by the parity tests' own writer."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from medseg.core.geometry import Geometry
from medseg.core.volume import Volume

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
torch.set_num_threads(1)

_WRITER = Path(__file__).resolve().parents[3] / "parity" / "bundle_models.py"


@pytest.fixture(scope="session")
def bundles() -> ModuleType:
    """The module that writes bundles."""
    spec = importlib.util.spec_from_file_location("bundle_models", _WRITER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bundle_models"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def scan() -> Volume:
    """A small CT of smooth noise, left-handed and anisotropic."""
    from scipy.ndimage import gaussian_filter

    values = gaussian_filter(np.random.default_rng(5).normal(0, 3000, (40, 36, 20)), 1.5)
    affine = np.diag([-2.0, 2.0, 4.0, 1.0])
    affine[:3, 3] = (30, -20, 100)
    return Volume(values.astype(np.int16), Geometry((40, 36, 20), affine), "CT", "HU")
