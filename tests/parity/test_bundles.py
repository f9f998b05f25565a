"""Labels of MONAI bundles: medseg's reading of them as data against MONAI's own execution of their configuration."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

sys.path.insert(0, str(Path(__file__).parent))

from bundle_models import KINDS, spleen, tumour_regions, write_bundle  # noqa: E402

from medseg.core.geometry import Geometry  # noqa: E402
from medseg.core.volume import Volume  # noqa: E402
from medseg.segmentation.learned.bundle.model import open_bundle  # noqa: E402
from medseg.segmentation.learned.trained import Request  # noqa: E402

torch.set_num_threads(1)
LEAST_EQUAL = 0.9999


def oblique(affine: np.ndarray) -> np.ndarray:
    a, b = np.radians((14, -9))
    about_r = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_s = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    turned = affine.copy()
    turned[:3, :3] = about_s @ about_r @ affine[:3, :3]
    return turned


def left_handed(affine: np.ndarray) -> np.ndarray:
    return affine @ np.diag([1.0, 1.0, -1.0, 1.0])


GRIDS = {"as stored": lambda affine: affine, "oblique": oblique, "left-handed": left_handed}


@pytest.fixture(scope="module")
def crops(shared_data: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A CT and an MR crop of real scans, with their affines."""
    found = {}
    for name, path, size in (
        ("CT", "ct_totalseg_organs/image.nii.gz", (90, 80, 60)),
        ("MR", "mr_totalseg_organs/image.nii.gz", (70, 60, 40)),
    ):
        image = nibabel.load(shared_data / path)
        array = np.asarray(image.dataobj)
        start = [max(0, (n - m) // 2) for n, m in zip(array.shape, size, strict=True)]
        box = tuple(slice(s, s + m) for s, m in zip(start, size, strict=True))
        affine = image.affine.copy()
        affine[:3, 3] = (image.affine @ [*start, 1])[:3]
        found[name] = (np.ascontiguousarray(array[box]).astype(np.int16), affine)
    return found


def monai_result(folder: Path, files: list[Path], *, whole: bool = False) -> Any:
    """What MONAI's workflow makes of a scan: its config parser runs the bundle as it stands."""
    from monai.bundle import ConfigParser
    from monai.data import MetaTensor, decollate_batch

    parser = ConfigParser()
    config = next(path for suffix in ("json", "yaml") if (path := folder / "configs" / f"inference.{suffix}").is_file())
    parser.read_config(str(config))
    parser["device"] = "$torch.device('cpu')"
    parser["bundle_root"] = str(folder)
    parser["network_def"].pop("img_size", None)  # MONAI itself no longer takes it
    parts = parser["postprocessing"]["transforms"]
    parser["postprocessing"]["transforms"] = [part for part in parts if part["_target_"] != "SaveImaged"]
    if parser["inferer"].get("progress"):
        parser["inferer"]["progress"] = False
    network = parser.get_parsed_content("network_def")
    checkpoint = torch.load(folder / "models" / "model.pt", weights_only=True)
    network.load_state_dict(checkpoint.get("model", checkpoint))
    names = [str(file) for file in files]
    data = parser.get_parsed_content("preprocessing")({"image": names if len(names) > 1 else names[0]})
    with torch.no_grad():
        pred = parser.get_parsed_content("inferer")(data["image"][None], network.eval())
    result = parser.get_parsed_content("postprocessing")({"pred": decollate_batch(pred)[0], "image": data["image"]})
    labels = result["pred"].as_tensor()
    return MetaTensor(labels, meta=data["image"].meta) if whole else np.asarray(labels)


def write_scan(path: Path, array: np.ndarray, affine: np.ndarray, modality: str) -> Volume:
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    stored = nibabel.load(path)
    return Volume(np.asarray(stored.dataobj), Geometry(array.shape, stored.affine), modality)


def agreement(labels: np.ndarray, expected: np.ndarray) -> float:
    assert labels.T.shape == expected.shape
    return float(np.mean(expected == labels.T))


# the larger networks take seconds each: on the grid that tells most
CASES = [
    (kind, grid)
    for kind in KINDS
    for grid in GRIDS
    if kind != "tumour_regions" and (grid == "oblique" or kind not in ("swin_unetr", "whole_image"))
]


@pytest.mark.parametrize(("kind", "grid"), CASES)
def test_labels_are_those_of_monai(kind: str, grid: str, crops: dict[str, Any], tmp_path: Path) -> None:
    """The same weights on the same scan give the same labels, whichever way the grid lies."""
    modality = "MR" if kind in ("short_axis", "dynunet") else "CT"
    array, affine = crops[modality]
    volume = write_scan(tmp_path / "scan.nii.gz", array, GRIDS[grid](affine), modality)
    folder = write_bundle(tmp_path / "bundle", kind, modality=modality)
    outcome = open_bundle(folder).segment((volume,), Request(device="cpu"))
    expected = monai_result(folder, [tmp_path / "scan.nii.gz"])
    assert len(np.unique(expected)) > 1
    assert agreement(outcome.labels, expected[0]) >= LEAST_EQUAL


@pytest.mark.parametrize("grid", ["oblique", "left-handed"])
def test_overlapping_regions_are_those_of_monai(grid: str, crops: dict[str, Any], tmp_path: Path) -> None:
    """Two scans in, three overlapping masks out: the label of a voxel is the smallest structure MONAI finds there."""
    array, affine = crops["MR"]
    affine = GRIDS[grid](affine)
    other = (array[::-1] // 2 + 7).astype(np.int16)
    volumes = tuple(write_scan(tmp_path / f"{n}.nii.gz", values, affine, "MR") for n, values in enumerate((array, other)))
    folder = write_bundle(tmp_path / "bundle", "tumour_regions", modality="MR")
    outcome = open_bundle(folder).segment(volumes, Request(device="cpu"))
    masks = monai_result(folder, [tmp_path / "0.nii.gz", tmp_path / "1.nii.gz"]) > 0
    assert masks.sum(axis=0).max() > 1
    expected = np.zeros(array.shape, np.uint8)
    for channel in sorted(range(3), key=lambda n: -masks[n].sum()):
        expected[masks[channel]] = channel + 1
    assert agreement(outcome.labels, expected) >= LEAST_EQUAL
    assert [finding.code for finding in outcome.findings] == ["MODEL_OUTPUTS_OVERLAP"]


def test_the_choice_between_regions_of_the_brats_bundle(crops: dict[str, Any], tmp_path: Path) -> None:
    """A function that says which region counts and which number it gets is read as a table of choices."""
    array, affine = crops["MR"]
    volumes = tuple(write_scan(tmp_path / f"{n}.nii.gz", values, oblique(affine), "MR") for n, values in enumerate((array, array // 3)))
    entries = tumour_regions()
    function = "$lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, torch.where(x[[1]] > 0, 2, 0)))"
    entries["postprocessing"]["transforms"].insert(3, {"_target_": "Lambdad", "keys": "pred", "func": function})
    folder = write_bundle(tmp_path / "bundle", entries, modality="MR")
    model = open_bundle(folder)
    outcome = model.segment(volumes, Request(device="cpu"))
    expected = monai_result(folder, [tmp_path / "0.nii.gz", tmp_path / "1.nii.gz"])
    assert set(np.unique(expected)) == {0, 1, 2, 4}
    assert agreement(outcome.labels, expected[0]) >= LEAST_EQUAL
    named = [(1, "structure 0"), (2, "structure 1"), (4, "structure 2")]
    assert [(segment.number, segment.label) for segment in outcome.segments] == named
    assert outcome.segments == model.segments


AUTO3DSEG = """
bundle_root: null
ckpt_path: $@bundle_root + '/model'
modality: ct
input_channels: 1
output_classes: 4
class_names: [liver, spleen, kidney]
class_index: null
roi_size: [32, 32, 32]
auto_scale_allowed: true
orientation_ras: true
crop_foreground: true
sigmoid: false
resample: true
resample_resolution: [4.0, 4.0, 4.0]
anisotropic_scales: true
normalize_mode: range
intensity_bounds: [-150, 250]
loss: {_target_: DiceCELoss, softmax: $not @sigmoid}
network: {_target_: SegResNetDS, init_filters: 8, blocks_down: [1, 1, 1], norm: INSTANCE_NVFUSER, in_channels: '@input_channels',
  out_channels: '@output_classes', dsdepth: 2}
infer: {enabled: false, ckpt_name: $@bundle_root + '/model/model.pt', output_path: $@bundle_root + '/prediction_' + @infer#data_list_key}
"""


@pytest.mark.parametrize("grid", ["oblique", "left-handed"])
def test_auto3dseg_labels_are_those_of_its_template(grid: str, crops: dict[str, Any], tmp_path: Path) -> None:
    """The SegResNet template of Auto3DSeg, its steps written out with MONAI's classes as its segmenter has them."""
    from monai import transforms as t
    from monai.inferers import SlidingWindowInfererAdapt
    from monai.networks.nets import SegResNetDS

    array, affine = crops["CT"]
    volume = write_scan(tmp_path / "scan.nii.gz", array, GRIDS[grid](affine), "CT")
    folder = tmp_path / "segresnet_0"
    (folder / "configs").mkdir(parents=True)
    (folder / "model").mkdir()
    (folder / "configs" / "hyper_parameters.yaml").write_text(AUTO3DSEG)
    torch.manual_seed(2)
    network = SegResNetDS(3, 8, 1, 4, norm="INSTANCE", blocks_down=(1, 1, 1), dsdepth=2, resolution=[4.0, 4.0, 4.0]).eval()
    torch.save({"state_dict": network.state_dict(), "config": {"a": [1, None]}, "epoch": 3}, folder / "model" / "model.pt")
    model = open_bundle(folder)
    assert [segment.label for segment in model.segments] == ["liver", "spleen", "kidney"]
    outcome = model.segment((volume,), Request(device="cpu"))
    steps = t.Compose(
        [
            t.LoadImaged("image", ensure_channel_first=True, dtype=None, image_only=True),
            t.EnsureTyped("image", data_type="tensor", dtype=torch.float),
            t.Orientationd("image", axcodes="RAS"),
            t.CropForegroundd("image", source_key="image", margin=10, allow_smaller=True),
            t.Spacingd("image", [4.0] * 3, mode=["bilinear"], dtype=torch.float, min_pixdim=[3.0] * 3, max_pixdim=[5.0] * 3),
            t.ScaleIntensityRanged("image", -150, 250, -1, 1, clip=False),
            t.Lambdad("image", func=torch.sigmoid),
        ]
    )
    data = steps({"image": str(tmp_path / "scan.nii.gz")})
    with torch.no_grad():
        logits = SlidingWindowInfererAdapt([32] * 3, 1, 0.625, mode="gaussian")(data["image"][None], network)
    pred = torch.softmax(logits, dim=1, dtype=torch.double).float()[0]
    undo = t.Invertd("pred", orig_keys="image", transform=steps, nearest_interp=False)
    expected = t.AsDiscrete(argmax=True)(undo({"pred": pred, "image": data["image"]})["pred"])
    assert len(np.unique(expected)) > 1
    assert agreement(outcome.labels, np.asarray(expected[0])) >= LEAST_EQUAL


@pytest.mark.parametrize("grid", ["oblique", "left-handed"])
def test_without_invertd_labels_are_those_monai_saves(grid: str, crops: dict[str, Any], tmp_path: Path) -> None:
    """Where a bundle leaves the way back to SaveImaged (`resample`), its file is the answer: nearest neighbour, grid of the scan."""
    from monai import transforms as t

    array, affine = crops["CT"]
    volume = write_scan(tmp_path / "scan.nii.gz", array, GRIDS[grid](affine), "CT")
    entries = spleen()
    entries["postprocessing"]["transforms"] = [{"_target_": "AsDiscreted", "keys": "pred", "argmax": True}]
    folder = write_bundle(tmp_path / "bundle", entries)
    result = monai_result(folder, [tmp_path / "scan.nii.gz"], whole=True)
    t.SaveImage(output_dir=tmp_path / "out", separate_folder=False, print_log=False, resample=True)(result)
    saved = np.asarray(nibabel.load(next((tmp_path / "out").iterdir())).dataobj)
    outcome = open_bundle(folder).segment((volume,), Request(device="cpu"))
    assert set(np.unique(saved)) == {0, 1}
    assert agreement(outcome.labels, saved) >= LEAST_EQUAL
