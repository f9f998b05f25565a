"""What nnU-Net models do with scans they were not made for, and what they say about a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from medseg.core.errors import GeometryMismatchError, IncompatibleModelError, InputError, OutOfMemoryError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.segmentation.learned.loading import open_model
from medseg.segmentation.learned.nnunet.model import NnunetModel
from medseg.segmentation.learned.trained import Request, TrainedModel

CPU = Request(device="cpu")


def codes(outcome: Any) -> set[str]:
    return {finding.code for finding in outcome.findings}


def test_any_road_opens_it(write_model: Callable[..., Path], scan: Volume) -> None:
    folder = write_model()
    model = open_model(folder)
    assert isinstance(model, NnunetModel)
    assert isinstance(model, TrainedModel)
    assert model.identity.kind == "nnunet"
    assert len(model.identity.sha256) == 64
    assert [segment.label for segment in model.segments] == ["liver", "thing"]
    outcome = model.segment((scan,), CPU)
    assert outcome.labels.shape == scan.array.T.shape
    assert outcome.labels.flags.c_contiguous
    assert set(np.unique(outcome.labels)) <= {0, 1, 2}
    assert outcome.findings == ()
    record = outcome.record
    assert (record["patch_size"], record["folds"], record["configuration"]) == ([8, 8, 8], ["0"], "3d_fullres")


def test_another_number_of_scans(write_model: Callable[..., Path], scan: Volume) -> None:
    with pytest.raises(IncompatibleModelError, match="needs 1 scan on one grid, in this order: CT; 2 were given"):
        NnunetModel.open(write_model()).segment((scan, scan), CPU)


def test_channels_in_the_wrong_order(
    write_model: Callable[..., Path], scan: Volume, plans: dict[str, Any], dataset: dict[str, Any]
) -> None:
    dataset["channel_names"] = {"0": "PET", "1": "CT"}
    plans["configurations"]["3d_fullres"] |= {"normalization_schemes": ["ZScoreNormalization"] * 2, "use_mask_for_norm": [False] * 2}
    model = NnunetModel.open(write_model(channels=2))
    pet = scan.with_array(np.abs(scan.array), modality="PT")
    assert model.segment((pet, scan), CPU).labels.any()
    with pytest.raises(IncompatibleModelError, match="give them in the order PET, CT"):
        model.segment((scan, pet), CPU)
    shifted = scan.with_array(scan.array, Geometry(scan.geometry.shape, np.diag([2.1, 2.5, 3, 1])))
    with pytest.raises(GeometryMismatchError, match="another grid"):
        model.segment((pet, shifted), CPU)


def test_plans_and_dataset_of_different_models(write_model: Callable[..., Path], dataset: dict[str, Any]) -> None:
    dataset["channel_names"] = {"0": "CT", "1": "PET"}
    with pytest.raises(IncompatibleModelError, match=r"normalises 1 channels, dataset\.json names 2"):
        NnunetModel.open(write_model())


@pytest.mark.parametrize("value", [0, -1000])
def test_a_constant_scan_holds_nothing(value: int, write_model: Callable[..., Path], scan: Volume) -> None:
    with pytest.raises(InputError, match="same intensity"):
        NnunetModel.open(write_model()).segment((scan.with_array(np.full(scan.array.shape, value, np.int16)),), CPU)


def test_no_finite_voxel(write_model: Callable[..., Path], scan: Volume) -> None:
    with pytest.raises(InputError, match="no voxel that is a finite number"):
        NnunetModel.open(write_model()).segment((scan.with_array(np.full(scan.array.shape, np.nan, np.float32)),), CPU)


def test_some_voxels_are_not_finite(write_model: Callable[..., Path], scan: Volume) -> None:
    array = scan.array.astype(np.float32)
    lowest = array.min()
    array[:2, 0, 0] = np.nan, np.inf
    model = NnunetModel.open(write_model())
    outcome = model.segment((scan.with_array(array),), CPU)
    assert "NON_FINITE_REPLACED" in codes(outcome)
    array[:2, 0, 0] = lowest
    assert (model.segment((scan.with_array(array),), CPU).labels == outcome.labels).all()


@pytest.mark.parametrize("shape", [(18, 15, 1), (1, 15, 12), (3, 2, 4), (1, 1, 2)])
def test_slices_and_crumbs(shape: tuple[int, int, int], write_model: Callable[..., Path], scan: Volume) -> None:
    i, j, k = shape
    small = scan.with_array(scan.array[:i, :j, :k], Geometry(shape, scan.geometry.affine))
    outcome = NnunetModel.open(write_model()).segment((small,), CPU)
    assert outcome.labels.shape == shape[::-1]
    assert ("SINGLE_SLICE_IN_3D_MODEL" in codes(outcome)) == (1 in shape)


def test_far_coarser_than_the_model(write_model: Callable[..., Path], scan: Volume) -> None:
    coarse = scan.with_array(scan.array, Geometry(scan.geometry.shape, np.diag([2.0, 2.0, 7.0, 1.0])))
    outcome = NnunetModel.open(write_model()).segment((coarse,), CPU)
    (finding,) = [finding for finding in outcome.findings if finding.code == "SPACING_FAR_FROM_MODEL"]
    assert finding.details["ratio"] == pytest.approx(3.5)


def test_a_spacing_that_cannot_be_meant(write_model: Callable[..., Path], scan: Volume) -> None:
    metres = scan.with_array(scan.array, Geometry(scan.geometry.shape, np.diag([2000.0, 2000.0, 3000.0, 1.0])))
    with pytest.raises(OutOfMemoryError, match="check the spacing"):
        NnunetModel.open(write_model()).segment((metres,), CPU)


def test_a_ct_without_air(write_model: Callable[..., Path], scan: Volume) -> None:
    outcome = NnunetModel.open(write_model()).segment((scan.with_array(np.abs(scan.array)),), CPU)
    assert "INTENSITIES_NOT_HU" in codes(outcome)


def test_mirroring_is_what_it_was_trained_for(write_model: Callable[..., Path], scan: Volume) -> None:
    model = NnunetModel.open(write_model(mirror=(0, 2)))
    assert model.segment((scan,), CPU).record["passes"] == 4
    assert model.segment((scan,), Request(device="cpu", mirroring=False)).record["passes"] == 1


def test_mirroring_it_was_not_trained_for(write_model: Callable[..., Path], scan: Volume) -> None:
    model = NnunetModel.open(write_model())
    assert model.segment((scan,), CPU).record["passes"] == 1
    with pytest.raises(IncompatibleModelError, match="not trained for mirroring"):
        model.segment((scan,), Request(device="cpu", mirroring=True))


def test_outputs_that_are_not_finite(write_model: Callable[..., Path], scan: Volume) -> None:
    def edit(checkpoint: dict[str, Any]) -> None:
        for name, tensor in checkpoint["network_weights"].items():
            if "seg_layers" in name:
                tensor.fill_(3e38)

    with pytest.raises(IncompatibleModelError, match="finite"):
        NnunetModel.open(write_model(edit=edit)).segment((scan,), CPU)


def test_folds_differ_and_say_by_how_much(write_model: Callable[..., Path], scan: Volume) -> None:
    model = NnunetModel.open(write_model(folds=3))
    outcome = model.segment((scan,), Request(device="cpu", uncertainty="folds"))
    assert outcome.uncertainty.passes == ("fold 0", "fold 1", "fold 2")
    for fold in range(3):
        alone = model.segment((scan,), Request(device="cpu", folds=(fold,))).labels
        for number in (1, 2):
            expected = (alone == number).sum() * scan.geometry.voxel_volume_mm3 / 1000
            assert outcome.uncertainty.volumes_ml[number][fold] == pytest.approx(expected)
    entropy = outcome.uncertainty.entropy
    assert entropy.shape == outcome.labels.shape
    assert 0 <= entropy.min() < entropy.max() <= np.log(3) + 1e-3


def test_mirrored_passes_differ_and_one_pass_does_not(write_model: Callable[..., Path], scan: Volume) -> None:
    model = NnunetModel.open(write_model(mirror=(0, 1)))
    outcome = model.segment((scan,), Request(device="cpu", uncertainty="mirror"))
    assert outcome.uncertainty.passes == ("mirror none", "mirror a", "mirror b", "mirror ab")
    with pytest.raises(IncompatibleModelError, match="two or more"):
        model.segment((scan,), Request(device="cpu", uncertainty="folds"))
    with pytest.raises(IncompatibleModelError, match="dropout"):
        model.segment((scan,), Request(device="cpu", uncertainty="dropout"))
