"""The volumes that the benchmarks run on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk


def load_ct(data: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """A CT as int16 (k, j, i) of the given shape: real and made finer, with noise, or an analytic torso."""
    path = data / "ct_totalseg_organs" / "image.nii.gz"
    ct = _finer(sitk.ReadImage(str(path)), shape) if path.is_file() else _torso(shape)
    noise = np.random.default_rng(0).standard_normal(ct.shape, np.float32)
    noise *= 8
    return (ct + noise.astype(np.int16)).astype(np.int16)


def _finer(image: sitk.Image, shape: tuple[int, int, int]) -> np.ndarray:
    size = [int(length) for length in shape[::-1]]
    spacing = [s * (n - 1) / (m - 1) for s, n, m in zip(image.GetSpacing(), image.GetSize(), size, strict=True)]
    finer = sitk.Resample(
        image, size, sitk.Transform(), sitk.sitkLinear, image.GetOrigin(), spacing, image.GetDirection(), -1024, sitk.sitkInt16
    )
    return sitk.GetArrayFromImage(finer)


def _torso(shape: tuple[int, int, int]) -> np.ndarray:
    """An elliptic cylinder of soft tissue with two lungs and a spine, in air."""
    k, j, i = np.meshgrid(*[np.linspace(-1, 1, length, dtype=np.float32) for length in shape], indexing="ij", sparse=True)
    ct = np.full(shape, -1000, np.int16)
    ct[np.broadcast_to((i / 0.9) ** 2 + (j / 0.6) ** 2 < 1, shape)] = 40
    for side in (-0.4, 0.4):
        ct[((i - side) / 0.28) ** 2 + (j / 0.4) ** 2 + ((k - 0.3) / 0.7) ** 2 < 1] = -850
    ct[np.broadcast_to((i / 0.1) ** 2 + ((j - 0.42) / 0.1) ** 2 < 1, shape)] = 500
    return ct


def block_labels(ct: np.ndarray, count: int = 100) -> np.ndarray:
    """A label map (uint8) of about ``count`` regions inside the body: the voxels nearest to points on a grid."""
    per_axis = round(count ** (1 / 3) + 0.5)
    places = [np.minimum(np.arange(length) * per_axis // length, per_axis - 1) for length in ct.shape]
    cells = (places[0][:, None, None] * per_axis + places[1][None, :, None]) * per_axis + places[2][None, None, :]
    labels = (cells % count + 1).astype(np.uint8)
    labels[ct < -300] = 0
    return labels
