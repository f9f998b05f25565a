"""What a folder of training cases says about itself: scans, label maps, channels and names (dataset.json)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medseg.core.errors import InputError
from medseg.core.volume import Volume

DATASET_FILE = "dataset.json"
MOST_LABELS = 254  # cached labels are one byte a voxel
_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
_SHOWN = 20
_MODALITIES = {
    "ct": "CT",
    "cbct": "CT",
    "mr": "MR",
    "mri": "MR",
    "t1": "MR",
    "t1w": "MR",
    "t1gd": "MR",
    "t1ce": "MR",
    "t1c": "MR",
    "t2": "MR",
    "t2w": "MR",
    "flair": "MR",
    "adc": "MR",
    "dwi": "MR",
    "pd": "MR",
    "pet": "PT",
    "pt": "PT",
    "us": "US",
    "ultrasound": "US",
}


@dataclass(frozen=True)
class TrainingCase:
    """One scan and its label map: a file for each channel, or one 4D file that holds all of them."""

    id: str
    images: tuple[Path, ...]
    label: Path


@dataclass(frozen=True)
class Dataset:
    """A folder of training cases; `labels` maps each number above 0 to its name, `modality` is DICOM's word ("CT", "MR", "OT").

    Voxels of `ignore_label` were not judged by anyone: they are neither learned from nor scored. `left_out` are cases that
    `without` took away, with the reasons.
    """

    name: str
    folder: Path
    cases: tuple[TrainingCase, ...]
    channels: tuple[str, ...]
    modality: str
    labels: dict[int, str]
    licence: str = ""
    reference: str = ""
    description: str = ""
    ignore_label: int | None = None
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def without(self, problems: Mapping[str, tuple[str, ...]]) -> Dataset:
        """Return the dataset without the cases that have problems, which it then names in `left_out`.

        Raises InputError where fewer than two cases remain.
        """
        cases = tuple(case for case in self.cases if case.id not in problems)
        if len(cases) < 2:
            raise InputError(f"{self.folder}: {len(cases)} of {len(self.cases)} cases can be used; training needs two at least")
        return replace(self, cases=cases, left_out={**self.left_out, **problems})


def read_dataset(folder: str | Path) -> Dataset:
    """Read the dataset.json of a folder, as the Medical Segmentation Decathlon or nnU-Net (raw, version 2) writes it.

    Nothing but dataset.json (and for nnU-Net the names of the files) is looked at: `take_fingerprint` checks the files.
    Raises InputError with every fault of dataset.json.
    """
    folder = Path(folder)
    file = folder / DATASET_FILE if folder.is_dir() else folder
    entries = _entries(file)
    folder = file.parent
    channels = _channels(entries, file)
    labels = _labels(entries, file)
    ignored = [number for number, name in labels.items() if name.lower() == "ignore"]
    labels = {number: name for number, name in labels.items() if number not in ignored}
    cases = _listed_cases(folder, entries, file) if "training" in entries else _nnunet_cases(folder, entries, len(channels))
    if len(cases) < 2:
        raise InputError(f"{file} names {len(cases)} training case(s); training needs two at least (one to learn from, one to check)")
    twice = sorted({case.id for case in cases if sum(other.id == case.id for other in cases) > 1})
    if twice:
        raise InputError(f"{file}: cases listed more than once: {some(twice)}; a case in two folds would be scored on what was learned")
    return Dataset(
        name=_text(entries, "name") or folder.resolve().name,
        folder=folder,
        cases=tuple(sorted(cases, key=lambda case: case.id)),
        channels=channels,
        modality=_modality(channels),
        labels=labels,
        licence=_text(entries, "licence") or _text(entries, "license"),
        reference=_text(entries, "reference"),
        description=_text(entries, "description"),
        ignore_label=ignored[0] if ignored else None,
    )


def read_case(case: TrainingCase, dataset: Dataset) -> tuple[tuple[Volume, ...], Volume]:
    """Return the channels of a case (one Volume each, of the dataset's modality) and its label values as a Volume.

    Raises what `medseg.io.read` raises, InputError where the number of channels is not the dataset's.
    """
    from medseg.io.read import read, read_volumes

    volumes = [volume for path in case.images for volume in read_volumes(path)]
    expected = len(dataset.channels)
    if len(volumes) != expected:
        raise InputError(f"the image holds {len(volumes)} channel(s), {DATASET_FILE} names {expected} ({', '.join(dataset.channels)})")
    return tuple(replace(volume, modality=dataset.modality) for volume in volumes), read(case.label)


def some(names: Iterable[str]) -> str:
    """Return names as one text; of very many, the first and how many more."""
    listed = list(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more


def _entries(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise InputError(
            f"{file.parent} has no {DATASET_FILE}: a training folder needs one that names channels, labels and cases (see docs/training.md)"
        )
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as err:
        raise InputError(f"{file} is no valid JSON: repair it (a comma or quote is missing, or it was cut short)") from err
    if not isinstance(entries, dict):
        raise InputError(f"{file} is no JSON object: it must name modality (or channel_names), labels and training")
    return entries


def _channels(entries: dict[str, Any], file: Path) -> tuple[str, ...]:
    named = entries.get("channel_names", entries.get("modality"))
    if isinstance(named, dict) and named and all(str(key).isdigit() for key in named):
        order = sorted(named, key=int)
        if [int(key) for key in order] == list(range(len(order))):
            return tuple(str(named[key]) for key in order)
    raise InputError(f'{file}: name the channels of a scan as "modality": {{"0": "CT"}} (numbers 0, 1, ... without gaps)')


def _labels(entries: dict[str, Any], file: Path) -> dict[int, str]:
    """Number to name, without the background; the Decathlon has {"1": "name"}, nnU-Net {"name": 1}."""
    named = entries.get("labels")
    if not isinstance(named, dict) or not named:
        raise InputError(f'{file}: name the labels as "labels": {{"0": "background", "1": "liver"}}')
    labels: dict[int, str] = {}
    for key, value in named.items():
        number, name = (int(key), value) if str(key).isdigit() else (value, key)
        if isinstance(number, list | tuple):
            raise InputError(f"{file}: label {key!r} is a region of several numbers: medseg trains on single labels, give one number each")
        if isinstance(number, bool) or not isinstance(number, int) or number < 0 or not isinstance(name, str):
            raise InputError(f"{file}: label {key!r}: {value!r} is not a whole number with a name")
        if number in labels:
            raise InputError(f"{file}: two labels have the number {number}")
        labels[number] = name
    labels.pop(0, None)
    names = list(labels.values())
    if not labels or len(labels) > MOST_LABELS:
        raise InputError(f"{file} names {len(labels)} labels besides the background; 1 to {MOST_LABELS} can be trained")
    if len(set(names)) != len(names) or not all(names):
        raise InputError(f"{file}: every label needs a name of its own")
    return dict(sorted(labels.items()))


def _listed_cases(folder: Path, entries: dict[str, Any], file: Path) -> list[TrainingCase]:
    listed = entries["training"]
    cases, faults = [], []
    for place, entry in enumerate(listed if isinstance(listed, list) else [None]):
        images, label = (entry.get("image"), entry.get("label")) if isinstance(entry, dict) else (None, None)
        images = [images] if isinstance(images, str) else images
        if not isinstance(label, str) or not isinstance(images, list) or not images or not all(isinstance(one, str) for one in images):
            faults.append(f"training[{place}] needs an image (one file or a list) and a label")
            continue
        paths = [Path(one) for one in (*images, label)]
        if any(path.is_absolute() or ".." in path.parts for path in paths):
            faults.append(f"training[{place}] leads out of the folder: name files inside it")
            continue
        cases.append(TrainingCase(case_id(paths[-1]), tuple(folder / path for path in paths[:-1]), folder / paths[-1]))
    if faults:
        raise InputError(f"{file}: {'; '.join(faults[:_SHOWN])}")
    return cases


def _nnunet_cases(folder: Path, entries: dict[str, Any], channels: int) -> list[TrainingCase]:
    """imagesTr/CASE_0000.nii.gz, CASE_0001.nii.gz ... with labelsTr/CASE.nii.gz; or the entry "dataset" with the paths."""
    ending = str(entries.get("file_ending", ".nii.gz"))
    named = entries.get("dataset")
    if isinstance(named, dict):
        listed = [{"image": entry.get("images"), "label": entry.get("label")} for entry in named.values() if isinstance(entry, dict)]
        return _listed_cases(folder, {"training": listed}, folder / DATASET_FILE)
    labels = sorted(path for path in (folder / "labelsTr").glob(f"*{ending}") if not path.name.startswith("."))
    if not labels:
        raise InputError(f'{folder / DATASET_FILE} lists no "training" cases and {folder / "labelsTr"} holds no *{ending} files')
    names = [path.name[: -len(ending)] for path in labels]
    images = folder / "imagesTr"
    return [
        TrainingCase(name, tuple(images / f"{name}_{channel:04d}{ending}" for channel in range(channels)), label)
        for name, label in zip(names, labels, strict=True)
    ]


def case_id(path: Path) -> str:
    """Return the name of a case: its label file without the suffix.

    >>> case_id(Path("labelsTr/hippocampus_001.nii.gz"))
    'hippocampus_001'
    """
    for suffix in _SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def _modality(channels: tuple[str, ...]) -> str:
    """DICOM's word for the first channel whose name says it, "OT" (other) where none does."""
    for channel in channels:
        words = channel.lower().replace("-", " ").replace("_", " ").split()
        for word in words:
            if word in _MODALITIES:
                return _MODALITIES[word]
    return "OT"


def _text(entries: dict[str, Any], key: str) -> str:
    value = entries.get(key, "")
    return value.strip() if isinstance(value, str) else ""
