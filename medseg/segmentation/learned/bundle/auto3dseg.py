"""SegResNet folders of MONAI's Auto3DSeg, as far as `hyper_parameters.yaml` defines them.

An Auto3DSeg folder keeps its steps in Python (`scripts/segmenter.py`), its choices in `configs/hyper_parameters.yaml`. The
steps of the SegResNet template are known, so they are written here as the entries of a bundle; the folder's scripts
are never imported. The other templates keep essential parts in their scripts alone and are refused.
Source: github.com/Project-MONAI/research-contributions, auto3dseg/algorithm_templates/segresnet.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg.segmentation.learned.bundle.config import Configuration, read_files, unsafe
from medseg.segmentation.learned.bundle.contents import BundleContents, known_target, read_contents
from medseg.segmentation.learned.bundle.metadata import BundleMetadata

HYPER_PARAMETERS = "configs/hyper_parameters.yaml"
_IMAGE = "image"
_OVERLAP = 0.625  # the template's own
_OTHER_STEPS = ("custom_data_transforms", "custom_transforms", "extra_modalities", "sliding_inferrer")
_MODALITIES = {"ct": "CT", "mri": "MR", "mr": "MR", "pet": "PT"}


def is_auto3dseg(folder: Path) -> bool:
    """Whether a folder has the choices of an Auto3DSeg algorithm and no bundle's own description."""
    return (folder / HYPER_PARAMETERS).is_file() and not (folder / "configs" / "metadata.json").is_file()


def read_auto3dseg(folder: Path) -> BundleContents:
    """Return the contents of an Auto3DSeg SegResNet folder; raises UnsafeModelError for what only its scripts define."""
    hyper = {**read_files([folder / HYPER_PARAMETERS]), "bundle_root": "."}
    settings = Configuration(hyper, known_target, folder)
    network = settings.raw("network")
    target = str(network.get("_target_", "")).rpartition(".")[2] if isinstance(network, Mapping) else ""
    if target not in ("SegResNetDS", "SegResNet"):
        raise unsafe(folder.name, [f"network: {target or 'none'}; of Auto3DSeg's templates only SegResNet is defined by data alone"])
    other = [f"{name}: steps beyond the template's" for name in _OTHER_STEPS if settings.raw(name)]
    if other:
        raise unsafe(folder.name, other)
    sigmoid = bool(settings.quietly("sigmoid"))
    entries = {
        **hyper,
        "network_def": _network(network, settings),
        "preprocessing": {"_target_": "Compose", "transforms": _preprocessing(settings, folder)},
        "inferer": {
            "_target_": "SlidingWindowInfererAdapt",
            "roi_size": "@roi_size",
            "overlap": _OVERLAP,
            "mode": "gaussian",
        },
        "postprocessing": {"_target_": "Compose", "transforms": _postprocessing(sigmoid=sigmoid)},
    }
    return read_contents(entries, _metadata(settings, folder), folder)


def _network(network: Mapping[str, Any], settings: Configuration) -> dict[str, Any]:
    definition = dict(network)
    norm = settings.quietly("network::norm")
    name, *rest = norm if isinstance(norm, list) and norm else [norm]
    if isinstance(name, str) and name.upper() == "INSTANCE_NVFUSER":  # a faster implementation of the same layer
        definition["norm"] = ["INSTANCE", *rest] if rest else "INSTANCE"
    if settings.quietly("anisotropic_scales") and "SegResNetDS" in str(network.get("_target_")):
        definition["resolution"] = "@resample_resolution"
    return definition


def _preprocessing(settings: Configuration, folder: Path) -> list[dict[str, Any]]:
    def step(target: str, **arguments: Any) -> dict[str, Any]:
        return {"_target_": target, "keys": _IMAGE, **arguments}

    steps = [step("LoadImaged", ensure_channel_first=True), step("EnsureTyped", dtype="$torch.float32")]
    if settings.quietly("orientation_ras"):
        steps.append(step("Orientationd", axcodes="RAS"))
    if settings.quietly("crop_foreground"):
        steps.append(step("CropForegroundd", source_key=_IMAGE, margin=10, allow_smaller=True))
    spacing = settings.quietly("resample_resolution")
    if settings.quietly("resample") and isinstance(spacing, list):
        nearly = {"min_pixdim": [0.75 * mm for mm in spacing], "max_pixdim": [1.25 * mm for mm in spacing]}
        steps.append(step("Spacingd", pixdim="@resample_resolution", mode="bilinear", dtype="$torch.float32", **nearly))
    mode = settings.quietly("normalize_mode") or "meanstd"
    lower, upper = settings.quietly("intensity_bounds") or (-250, 250)
    known = {
        "none": [],
        "range": [step("ScaleIntensityRanged", a_min=lower, a_max=upper, b_min=-1, b_max=1, clip=False), step("Sigmoidd")],
        "meanstd": [step("NormalizeIntensityd", nonzero=True, channel_wise=True)],
        "meanstdtanh": [step("NormalizeIntensityd", nonzero=True, channel_wise=True), step("SoftLimitd")],
        "pet": [step("SigmoidOfDeviationd")],
    }
    known |= {"ct": known["range"], "mri": known["meanstd"]}
    if mode not in known:
        raise unsafe(folder.name, [f"normalize_mode: {str(mode)[:60]!r} is not one of {', '.join(known)}"])
    return [*steps, *known[mode]]


def _postprocessing(*, sigmoid: bool) -> list[dict[str, Any]]:
    undo = {"transform": "@preprocessing", "orig_keys": _IMAGE, "nearest_interp": False}
    return [
        {"_target_": "Activationsd", "keys": "pred", **({"sigmoid": True} if sigmoid else {"softmax": True})},
        {"_target_": "Invertd", "keys": "pred", **undo},
        {"_target_": "AsDiscreted", "keys": "pred", **({"threshold": 0.5} if sigmoid else {"argmax": True})},
    ]


def _metadata(settings: Configuration, folder: Path) -> BundleMetadata:
    names = settings.quietly("class_names")
    names = [entry.get("name", "") if isinstance(entry, Mapping) else entry for entry in names] if isinstance(names, list) else []
    count = settings.quietly("output_classes")
    softmax = not settings.quietly("sigmoid")
    if not isinstance(count, int) or len(names) not in (count, count - 1 if softmax else count):
        names = []
    return BundleMetadata(
        name=folder.name,
        title=f"Auto3DSeg {folder.name}",
        modality=_MODALITIES.get(str(settings.quietly("modality")).lower(), ""),
        outputs=tuple(str(name) for name in names),
        output_count=count if isinstance(count, int) else None,
    )
