"""What the comparisons with nnunetv2 share: the oracle itself, and real scans cut to size."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest

Oracle = Callable[..., np.ndarray]


def quietly(function: Oracle) -> Oracle:
    """Run a function without the warnings nnunetv2 gives its own users."""

    @functools.wraps(function)
    def run(*arguments: object, **named: object) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*arguments, **named)

    return run


@pytest.fixture(scope="session")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    """nnunetv2 itself: `oracle(folder, files)` returns its labels (i,j,k), as it writes them for those files."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name)))
        patch.setenv("nnUNet_def_n_proc", "1")
        predictor = pytest.importorskip("nnunetv2.inference.predict_from_raw_data", reason="nnunetv2 is not installed (development only)")
    import torch

    torch.set_num_threads(1)
    written = tmp_path_factory.mktemp("oracle")

    @quietly
    def predict(folder: Path, files: Sequence[Path], *, mirroring: bool = True, previous: Path | None = None) -> np.ndarray:
        nnunet = predictor.nnUNetPredictor(
            use_mirroring=mirroring, device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False
        )
        nnunet.initialize_from_trained_model_folder(str(folder), None)
        reader = nnunet.plans_manager.image_reader_writer_class()
        image, properties = reader.read_images([str(file) for file in files])
        seeds = None if previous is None else reader.read_seg(str(previous))[0]
        labels = nnunet.predict_single_npy_array(image, properties, seeds)
        target = written / f"{len(list(written.iterdir()))}.nii.gz"
        reader.write_seg(labels, str(target), properties)
        return np.asanyarray(nibabel.load(target).dataobj).astype(np.int64)

    return predict


@pytest.fixture(scope="session")
def ct_file(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A crop of a real abdominal CT, 3 mm."""
    return _crop(shared_data / "ct_totalseg_organs" / "image.nii.gz", tmp_path_factory.mktemp("ct") / "ct.nii.gz")


@pytest.fixture(scope="session")
def mr_file(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A crop of a real abdominal MR, 3 mm, stored LPS."""
    return _crop(shared_data / "mr_totalseg_organs" / "image.nii.gz", tmp_path_factory.mktemp("mr") / "mr.nii.gz")


def _crop(source: Path, target: Path) -> Path:
    nibabel.save(nibabel.load(source).slicer[30:74, 24:64, :24], target)
    return target
