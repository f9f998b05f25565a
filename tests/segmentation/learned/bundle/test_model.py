"""Bundles as models: who they are, what they refuse, and scans of every poor kind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from medseg.core.errors import GeometryMismatchError, IncompatibleModelError, ModelNotFoundError, UnsafeModelError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.method.settings import RunSettings
from medseg.segmentation.learned.bundle.model import BundleModel, open_bundle
from medseg.segmentation.learned.loading import open_model
from medseg.segmentation.learned.trained import Request, TrainedModel

CPU = Request(device="cpu")


@pytest.fixture
def folder(bundles: ModuleType, tmp_path: Path) -> Path:
    return bundles.write_bundle(tmp_path / "bundle", "spleen")


def rewrite(folder: Path, name: str, **changes: Any) -> None:
    path = folder / "configs" / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_identity(folder: Path) -> None:
    """A bundle is opened by its folder and says who it is, for what, and with which weights."""
    model = open_model(folder)
    assert isinstance(model, TrainedModel)
    identity = model.identity
    assert (identity.kind, identity.name, identity.version, identity.modality) == ("monai-bundle", "bundle", "0.1.0", "CT")
    assert identity.spacing_mm == (3.5, 3.5, 4.0)
    assert identity.channels == ("image",)
    assert identity.intended_use == "tests"
    assert len(identity.sha256) == 64
    assert identity.licence["copyright"].startswith("Copyright")
    assert [(segment.number, segment.label) for segment in model.segments] == [(1, "structure 1")]


def test_the_method_model_runs_a_bundle(folder: Path, scan: Volume) -> None:
    """`medseg segment model --model FOLDER` gives a label map that says which bundle made it, and refuses another modality."""
    import medseg

    found = medseg.segment(scan, "model", model=str(folder), settings=RunSettings(device="cpu"))
    assert np.array_equal(found.array.T, open_bundle(folder).segment((scan,), CPU).labels)
    assert found.provenance is not None
    assert found.provenance.model is not None
    assert found.provenance.model["kind"] == "monai-bundle"
    with pytest.raises(IncompatibleModelError, match="trained on CT"):
        medseg.segment(replace(scan, modality="MR"), "model", model=str(folder), settings=RunSettings(device="cpu"))


def test_labels_have_the_grid_and_the_record(folder: Path, scan: Volume) -> None:
    """Labels are (K,J,I), unsigned and C-contiguous; the record names inferer and preprocessing."""
    outcome = open_bundle(folder).segment((scan,), CPU)
    assert outcome.labels.shape == scan.array.T.shape
    assert outcome.labels.dtype == np.uint8
    assert outcome.labels.flags.c_contiguous
    assert outcome.record["inferer"] == "SlidingWindowInferer"
    assert outcome.record["patch_size"] == [32, 32, 32]
    assert set(np.unique(outcome.labels)) == {0, 1}


@pytest.mark.parametrize("shape", [(1, 1, 1), (40, 36, 1), (3, 2, 2), (70, 8, 8)])
def test_small_and_thin_scans(shape: tuple[int, int, int], folder: Path) -> None:
    """One voxel, one slice, smaller than the patch: labels come back on the grid of the scan."""
    values = np.random.default_rng(2).integers(-900, 300, shape).astype(np.int16)
    volume = Volume(values, Geometry(shape, np.diag([2.0, -2.0, 3.0, 1.0])), "CT", "HU")
    assert open_bundle(folder).segment((volume,), CPU).labels.T.shape == shape


def test_constant_and_broken_scans(folder: Path, scan: Volume) -> None:
    """A constant scan is segmented; NaN counts as outside and is said; a scan of NaN alone is refused."""
    model = open_bundle(folder)
    assert model.segment((scan.with_array(np.zeros(scan.array.shape, np.int16)),), CPU).labels.shape == scan.array.T.shape
    broken = scan.array.astype(np.float32)
    broken[:3] = np.nan
    broken[5, 5, 5] = np.inf
    outcome = model.segment((scan.with_array(broken),), CPU)
    assert [finding.code for finding in outcome.findings] == ["NON_FINITE_REPLACED"]
    with pytest.raises(IncompatibleModelError, match="no finite number"):
        model.segment((scan.with_array(np.full(scan.array.shape, np.nan, np.float32)),), CPU)


def test_what_a_bundle_cannot_do(folder: Path, scan: Volume) -> None:
    """Mirroring, folds, uncertainty and other numbers of scans are refused with what to do."""
    model = open_bundle(folder)
    for request in (
        Request(device="cpu", mirroring=True),
        Request(device="cpu", folds=(1,)),
        Request(device="cpu", uncertainty="mirror"),
        Request(device="cpu", step=0.0),
    ):
        with pytest.raises(IncompatibleModelError):
            model.segment((scan,), request)
    with pytest.raises(IncompatibleModelError, match="needs 1 scan"):
        model.segment((scan, scan), CPU)
    with pytest.raises(IncompatibleModelError, match="needs 1 scan"):
        model.segment((), CPU)


def test_a_smaller_step_is_the_overlap_of_the_bundle(folder: Path, scan: Volume) -> None:
    """`step` 0.5 is the bundle's own overlap of 0.5."""
    model = open_bundle(folder)
    own = model.segment((scan,), CPU)
    asked = model.segment((scan,), Request(device="cpu", step=0.5))
    assert np.array_equal(own.labels, asked.labels)
    assert model.segment((scan,), Request(device="cpu", step=1.0)).record["step"] == 1.0


def test_channels_on_other_grids(bundles: ModuleType, scan: Volume, tmp_path: Path) -> None:
    """Scans of one case that lie on different grids are refused."""
    model = open_bundle(bundles.write_bundle(tmp_path / "bundle", "tumour_regions"))
    moved = scan.with_array(scan.array, Geometry(scan.geometry.shape, scan.geometry.affine @ np.diag([1, 1, 1.1, 1])))
    with pytest.raises(GeometryMismatchError):
        model.segment((scan, moved), CPU)


def test_weights_that_do_not_fit(folder: Path, scan: Volume) -> None:
    """Other names or shapes: the first differences are named, and how many there are."""
    path = folder / "models" / "model.pt"
    state = torch.load(path, weights_only=True)["model"]
    name = next(iter(state))
    torch.save({"model": {**{k: v for k, v in state.items() if k != name}, "other": torch.zeros(1)}}, path)
    with pytest.raises(IncompatibleModelError, match=r"2 differences.*is missing"):
        open_bundle(folder).segment((scan,), CPU)
    torch.save({"module." + key: value.half() for key, value in state.items()}, path)
    assert open_bundle(folder).segment((scan,), CPU).labels.any()
    torch.save([1, 2], path)
    with pytest.raises(IncompatibleModelError):
        open_bundle(folder).segment((scan,), CPU)


def test_safetensors_come_first(folder: Path, scan: Volume) -> None:
    """Where the same weights lie there as safetensors, the pickle is not even opened."""
    safetensors = pytest.importorskip("safetensors.torch")
    path = folder / "models" / "model.pt"
    expected = open_bundle(folder).segment((scan,), CPU).labels
    state = torch.load(path, weights_only=True)["model"]
    safetensors.save_file({key: value.contiguous() for key, value in state.items()}, path.with_suffix(".safetensors"))
    path.write_bytes(b"no weights")
    assert np.array_equal(open_bundle(folder).segment((scan,), CPU).labels, expected)


def test_bundles_that_are_not_whole(folder: Path) -> None:
    """Missing weights, configuration or metadata, and label counts that do not fit the network, are refused."""
    formats = json.loads((folder / "configs" / "metadata.json").read_text())["network_data_format"]
    formats["outputs"]["pred"]["channel_def"] = {str(n): f"organ {n}" for n in range(5)}
    rewrite(folder, "metadata.json", network_data_format=formats)
    with pytest.raises(IncompatibleModelError, match="names 5 outputs"):
        open_bundle(folder)
    rewrite(folder, "metadata.json", network_data_format={})
    assert [segment.label for segment in open_bundle(folder).segments] == ["label 1"]
    (folder / "models" / "model.pt").unlink()
    with pytest.raises(ModelNotFoundError, match="no weights"):
        open_bundle(folder)
    (folder / "configs" / "inference.json").unlink()
    with pytest.raises(ModelNotFoundError, match="inference"):
        open_bundle(folder)
    (folder / "configs" / "metadata.json").unlink()
    with pytest.raises(ModelNotFoundError, match=r"metadata\.json"):
        BundleModel.open(folder)


def test_a_network_and_a_patch_that_do_not_fit(bundles: ModuleType, scan: Volume, tmp_path: Path) -> None:
    """A patch the network cannot take is found before anything is computed; unknown arguments are named."""
    entries = bundles.spleen()
    entries["inferer"] = {"_target_": "SlidingWindowInferer", "roi_size": [30, 31, 32]}
    with pytest.raises(IncompatibleModelError, match="30×31×32"):
        open_bundle(bundles.write_bundle(tmp_path / "a", entries)).segment((scan,), CPU)
    entries = bundles.spleen()
    entries["network_def"]["nonsense"] = 1
    with pytest.raises(IncompatibleModelError, match="nonsense"):
        open_bundle(bundles.write_bundle(tmp_path / "b", entries, weights=False))


def test_sizes_that_fill_the_memory(bundles: ModuleType, scan: Volume, tmp_path: Path) -> None:
    """A spacing or a size beyond all reason is refused before it is tried."""
    entries = bundles.spleen()
    entries["preprocessing"]["transforms"][3]["pixdim"] = [0.02, 0.02, 0.02]
    with pytest.raises(IncompatibleModelError, match="voxels: crop it"):
        open_bundle(bundles.write_bundle(tmp_path / "a", entries)).segment((scan,), CPU)
    for place, value in (("pixdim", [1e-9, 1, 1]), ("pixdim", ["x", 1, 1])):
        entries["preprocessing"]["transforms"][3][place] = value
        with pytest.raises(UnsafeModelError, match="Spacingd"):
            open_bundle(bundles.write_bundle(tmp_path / str(value[0]), entries))
    entries = bundles.spleen()
    entries["preprocessing"]["transforms"].append({"_target_": "SpatialPadd", "keys": "image", "spatial_size": [99999, 1, 1]})
    with pytest.raises(UnsafeModelError, match="99999"):
        open_bundle(bundles.write_bundle(tmp_path / "c", entries))
    entries["preprocessing"]["transforms"][-1]["spatial_size"] = [4000, 4000, 4000]
    with pytest.raises(UnsafeModelError, match="4000"):
        open_bundle(bundles.write_bundle(tmp_path / "d", entries))


def test_label_numbers_are_never_interpolated(bundles: ModuleType, scan: Volume, tmp_path: Path) -> None:
    """A bundle that brings label numbers back linearly gets nearest neighbours, and that is said."""
    entries = bundles.whole_body(4)
    post = entries["postprocessing"]["transforms"]
    assert post[2]["_target_"] == "Invertd"
    expected = open_bundle(bundles.write_bundle(tmp_path / "a", entries)).segment((scan,), CPU)
    post[2]["nearest_interp"] = False
    outcome = open_bundle(bundles.write_bundle(tmp_path / "b", entries)).segment((scan,), CPU)
    assert np.array_equal(outcome.labels, expected.labels)
    assert [finding.code for finding in outcome.findings] == ["BUNDLE_LABELS_NEAREST"]
    assert not expected.findings


def test_several_configuration_files(bundles: ModuleType, scan: Volume, tmp_path: Path) -> None:
    """A second file changes entries of the first, as on MONAI's command line."""
    folder = bundles.write_bundle(tmp_path / "bundle", "spleen")
    (folder / "configs" / "coarse.yaml").write_text("inferer#overlap: 0.0\n")
    model = open_bundle(folder, configs=("inference", "coarse"))
    assert model.segment((scan,), CPU).record["step"] == 1.0
    with pytest.raises(ModelNotFoundError, match="coarser"):
        open_bundle(folder, configs=("coarser",))
    with pytest.raises(ModelNotFoundError):
        open_bundle(folder, configs=("../../secret",))
