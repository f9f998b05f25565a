"""Tumours with a reference, a click in each, and phantom lesions of several kinds with a known border."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.phantom import make_torso

SARCOMAS = ("002", "019", "025")
SCANS = {"CT": "CT", "MR_T1": "MR", "PET": "PT"}
OFF_CENTRE = 0.45  # clicks off the middle lie at least this share of the greatest depth below the border


@dataclass(frozen=True, eq=False)
class Tumour:
    """A scan, the voxels of its tumour, and the patient it belongs to."""

    name: str
    patient: str
    volume: Volume
    truth: np.ndarray

    def depth_mm(self) -> np.ndarray:
        """Distance of each voxel of the tumour to the outside."""
        padded = np.pad(self.truth, 1)
        return np.asarray(ndimage.distance_transform_edt(padded, sampling=self.volume.geometry.spacing_mm))[1:-1, 1:-1, 1:-1]

    def click(self) -> np.ndarray:
        """The centroid of the tumour eroded to half its depth or, where that lies outside, its deepest voxel (index)."""
        depth = self.depth_mm()
        index = np.rint(np.argwhere(depth > depth.max() / 2).mean(axis=0)).astype(int)
        return index if self.truth[tuple(index)] else np.array(np.unravel_index(depth.argmax(), depth.shape))

    def clicks_off_centre(self, count: int) -> np.ndarray:
        """Random voxels not too near the border (N, 3), always the same."""
        depth = self.depth_mm()
        deep = np.argwhere(depth >= OFF_CENTRE * depth.max())
        return deep[np.random.default_rng(1).integers(len(deep), size=count)]


def _volume(path: Path, modality: str) -> Volume:
    image = sitk.ReadImage(str(path))
    lps = np.eye(4)
    lps[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    lps[:3, 3] = image.GetOrigin()
    array = sitk.GetArrayFromImage(image).T
    return Volume(array, Geometry(array.shape, np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps), modality, "HU" if modality == "CT" else "")


def real_tumours(data: Path) -> Iterator[Tumour]:
    """Three sarcomas in CT, MR and PET, a glioma and a breast tumour in MR."""
    for patient in SARCOMAS:
        folder = data / f"tumour_sts_{patient}" / "reference"
        for scan, modality in SCANS.items():
            volume = _volume(folder / f"{scan}_image.nii.gz", modality)
            yield Tumour(f"STS_{patient} {scan}", patient, volume, _volume(folder / f"{scan}_mask.nii.gz", "").array > 0)
    for name in ("brain1", "breast1"):
        folder = data / f"tumour_pyradiomics_{name}"
        volume = _volume(folder / f"{name}_image.nrrd", "MR")
        yield Tumour(name, name, volume, _volume(folder / f"{name}_label.nrrd", "").array > 0)


def torso_tumours(count: int) -> Iterator[Tumour]:
    """The liver tumours of the torso phantom, 8 to 40 mm across."""
    for seed in range(count):
        diameter = 8 + 32 * seed / max(count - 1, 1)
        phantom = make_torso(seed=seed + 20, preset="standard", tumour_diameter_mm=diameter)
        yield Tumour(f"torso {diameter:.0f} mm", "torso", phantom.volume, phantom.label_map.mask("tumour"))


# what a lesion and its surroundings are like: smallest and largest radius in mm, modality, intensities
KINDS = {
    "liver metastasis": (4, 28, "CT"),
    "lung nodule": (3, 18, "CT"),
    "lymph node": (4, 16, "CT"),
    "sarcoma in muscle": (8, 35, "CT"),
    "brain metastasis": (3, 20, "MR"),
    "PET lesion": (7, 25, "PT"),
}


def made_lesions(count: int) -> Iterator[Tumour]:
    """Lobed lesions of six kinds, with vessels, organs or skin beside them, blur, noise and unequal spacing."""
    for kind in KINDS:
        for seed in range(count):
            yield _made(kind, seed)


def _made(kind: str, seed: int) -> Tumour:
    rng = np.random.default_rng(1000 + seed)
    low, high, modality = KINDS[kind]
    radius = rng.uniform(low, high)
    spacing = np.array([*[rng.uniform(0.6, 1.2)] * 2, rng.choice([1.0, 2.0, 3.0, 5.0])])
    if modality == "PT":
        spacing = np.array([*[rng.uniform(3.5, 5.5)] * 2, 3.3])
    elif radius < 2 * spacing[2]:
        spacing[2] = max(0.8, radius / 2)
    shape = tuple(int(2 * max(3.2 * radius, 30) / mm) + 1 for mm in spacing)
    points = np.stack([(np.arange(n) - n / 2 - rng.uniform(-2, 2)).reshape(np.roll((-1, 1, 1), a)) * mm + np.zeros(shape)
                       for a, (n, mm) in enumerate(zip(shape, spacing, strict=True))], axis=-1)  # fmt: skip
    body = _lobed(points, radius, rng)
    array, noise, blur = _painted(kind, points, radius, body, spacing, rng)
    array = ndimage.gaussian_filter(array, blur / spacing)
    grain = rng.normal(size=shape)
    if modality == "CT":
        grain = ndimage.gaussian_filter(grain, (0.7, 0.7, 0.3))
    array += noise * grain / grain.std()
    volume = Volume(array.astype(np.float32), Geometry(shape, np.diag([*spacing, 1.0])), modality, "HU" if modality == "CT" else "")
    return Tumour(f"{kind} {seed}", kind, volume, body < 0)


def _lobed(points: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Below 0 inside an ellipsoid with five round bumps and dents."""
    axes = np.exp(rng.normal(0, 0.18, 3))
    turned = points @ np.linalg.qr(rng.normal(size=(3, 3)))[0] / (axes / axes.prod() ** (1 / 3))
    distance = np.linalg.norm(turned, axis=-1)
    unit = turned / np.maximum(distance, 1e-6)[..., None]
    surface = np.ones(distance.shape)
    for _ in range(5):
        lobe = rng.normal(size=3)
        surface += rng.normal(0, 0.15) * np.exp(6 * (unit @ (lobe / np.linalg.norm(lobe)) - 1))
    return np.asarray(distance / radius - surface)


def _painted(
    kind: str, points: np.ndarray, radius: float, body: np.ndarray, spacing: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, float, float]:
    """Intensities, the noise and the blur (mm) of the scanner."""
    share = 1 / (1 + np.exp(np.clip(2 * body * radius, -30, 30)))

    def texture(size_mm: float, strength: float) -> np.ndarray:
        grain = ndimage.gaussian_filter(rng.normal(size=body.shape), size_mm / spacing)
        return np.asarray(strength * grain / grain.std())

    def beyond(distance: float) -> np.ndarray:
        normal = rng.normal(size=3)
        return np.asarray(points @ (normal / np.linalg.norm(normal)) > distance)

    def tube(distance: float, width: float) -> np.ndarray:
        along = rng.normal(size=3)
        along /= np.linalg.norm(along)
        aside = np.cross(along, rng.normal(size=3))
        away = points - aside / np.linalg.norm(aside) * distance
        return np.asarray(np.linalg.norm(away - (away @ along)[..., None] * along, axis=-1) < width)

    def core(depth: float, softness: float) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(np.clip((body + depth) * radius / softness, -30, 30))))

    if kind == "liver metastasis":
        around = np.full(body.shape, 110.0)
        for _ in range(4):
            around[tube(radius + rng.uniform(2, 20), rng.uniform(1.5, 4))] = 170
        around[beyond(radius * rng.uniform(1.05, 1.8))] = -90
        inside, noise, blur = 50 + rng.uniform(-20, 25) + texture(3, 6), rng.uniform(8, 22), 0.9
    elif kind == "lung nodule":
        around = -850 + texture(3, 20)
        for _ in range(3):
            around[tube(rng.uniform(0, radius * 1.5), rng.uniform(1, 2.2))] = 30
        around[beyond(radius * rng.uniform(0.95, 2))] = 40
        inside, noise, blur = np.full(body.shape, rng.uniform(-50, 60)), rng.uniform(15, 40), 0.8
    elif kind == "lymph node":
        around = -100 + texture(3, 8)
        around[beyond(radius * rng.uniform(1.0, 1.6))] = 55
        around[tube(radius * rng.uniform(1.1, 1.5) + 4, 5)] = rng.uniform(120, 180)
        inside, noise, blur = np.full(body.shape, rng.uniform(40, 95)), rng.uniform(8, 18), 0.9
    elif kind == "sarcoma in muscle":
        around = 58 + texture(5, 4)
        around[beyond(radius * rng.uniform(1.0, 1.3))] = -100
        around[beyond(radius * rng.uniform(1.0, 1.5))] = -950
        around[tube(radius + 14, 10)] = 700
        inside, noise, blur = rng.uniform(15, 38) + texture(4, 4), rng.uniform(8, 20), 1.0
    elif kind == "brain metastasis":
        around = 500 + texture(8, 40)
        around[beyond(radius * 1.3 + 3)] = 250
        necrosis = core(rng.uniform(0.2, 0.6), 0.5) if rng.random() < 0.5 else 0.0
        inside = rng.uniform(750, 1100) * (1 - necrosis) + rng.uniform(350, 600) * necrosis + texture(3, 40)
        noise, blur = rng.uniform(20, 45), 0.8
    else:
        around = 0.8 + texture(8, 0.15)
        around[beyond(radius * 1.5)] = 0.1
        necrosis = core(rng.uniform(0.4, 0.7), 2) * rng.uniform(0.5, 0.8) if rng.random() < 0.4 else 0.0
        inside, noise, blur = rng.uniform(3, 10) * (1 - necrosis) * np.ones(body.shape), 0.12, 3.2
    return around * (1 - share) + inside * share, noise, blur
