"""The network that comes with medseg, on phantoms of seeds it was not trained on."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.method.settings import RunSettings
from medseg.phantom import Phantom, make_torso
from medseg.phantom.catalog import TORSO_FIELD_MM, TORSO_MIDDLE_MM, centred_geometry
from medseg.pipeline import apply, load_pipeline
from medseg.postprocessing.edges import SnapToEdgesParams
from medseg.preprocessing.orientation import reoriented
from medseg.segmentation.learned.model import ModelParams, model
from medseg.segmentation.learned.network import load_network
from medseg.segmentation.learned.store import find_model

ORGANS = ("liver", "spleen", "kidney_right", "kidney_left", "lung_right", "lung_left", "tumour")
CPU = RunSettings(device="cpu")
SNAP_SIGMA_MM = SnapToEdgesParams().sigma_mm
pytest.importorskip("torch")


@functools.cache
def torso(seed: int, spacing_mm: tuple[float, float, float], noise_hu: float, blur_mm: float) -> Phantom:
    return make_torso(seed, spacing_mm=spacing_mm, noise_hu=noise_hu, blur_mm=blur_mm)


def segment(phantom: Phantom) -> LabelMap:
    return model(phantom.volume, ModelParams(), settings=CPU)


@functools.cache
def segmented(*arguments: Any) -> LabelMap:
    return segment(torso(*arguments))


def dice(phantom: Phantom, found: LabelMap, label: str) -> float:
    truth, got = phantom.label_map.mask(label), found.mask(label)
    return 2 * np.count_nonzero(truth & got) / (np.count_nonzero(truth) + np.count_nonzero(got))


def test_it_is_small_labelled_as_a_demonstration_and_loads_strictly() -> None:
    folder = find_model("ct-phantom")
    assert folder.description.weights.bytes <= 5_000_000
    assert "phantom" in folder.description.intended_use
    assert "Not a medical device" in folder.description.intended_use
    assert folder.description.title.startswith("Demonstration")
    assert min(folder.description.training["training_seeds"]) >= 100_000
    assert set(folder.description.training["validation"]["dice_mean"]) == {s.label for s in folder.description.segments}
    load_network(folder)


@pytest.mark.parametrize(
    ("seed", "spacing_mm", "noise_hu", "blur_mm"),
    [(7, (3.0, 3.0, 3.0), 12.0, 2.0), (11, (2.0, 2.0, 5.0), 30.0, 1.0), (23, (3.0, 3.0, 2.0), 20.0, 0.0)],
)
def test_organs_of_new_torsos_are_found(seed: int, spacing_mm: tuple[float, float, float], noise_hu: float, blur_mm: float) -> None:
    phantom, found = torso(seed, spacing_mm, noise_hu, blur_mm), segmented(seed, spacing_mm, noise_hu, blur_mm)
    scores = {label: dice(phantom, found, label) for label in ORGANS}
    assert min(scores.values()) >= 0.95, scores


def test_codes_and_sides_are_those_of_the_phantom() -> None:
    found = segmented(7, (3.0, 3.0, 3.0), 12.0, 2.0)
    assert {s.number: s.label for s in found.segments} == {
        s.number: s.label for s in torso(7, (3.0, 3.0, 3.0), 12.0, 2.0).label_map.segments
    }
    for organ in ("kidney", "lung"):
        right, left = found[f"{organ}_right"], found[f"{organ}_left"]
        assert right.type == left.type
        assert right.modifier is not None
        assert left.modifier is not None
        assert (right.modifier.meaning, left.modifier.meaning) == ("Right", "Left")


@pytest.mark.parametrize("orientation", ["LAS", "PSR"])
def test_the_order_and_direction_of_the_axes_change_nothing(orientation: str) -> None:
    """Turned axes, right- or left-handed, give the same label in every voxel of the patient."""
    scan = torso(7, (3.0, 3.0, 3.0), 12.0, 2.0).volume
    turned = model(reoriented(scan, orientation), ModelParams(), settings=CPU)
    assert turned.geometry.orientation == orientation
    again = reoriented(turned, scan.geometry.orientation)
    assert again.geometry.matches(scan.geometry)
    np.testing.assert_array_equal(again.array, segmented(7, (3.0, 3.0, 3.0), 12.0, 2.0).array)


def oblique_grids() -> dict[str, Geometry]:
    plain = centred_geometry((3.0, 3.0, 4.0), TORSO_FIELD_MM, (*TORSO_MIDDLE_MM, 27.0))
    middle = plain.index_to_world((np.array(plain.shape) - 1) / 2)

    def turned(columns: np.ndarray, shape: tuple[int, int, int]) -> Geometry:
        affine = np.eye(4)
        affine[:3, :3] = columns
        affine[:3, 3] = middle - columns @ (np.array(shape) - 1) / 2
        return Geometry(shape, affine)

    i, j, k = plain.shape
    c, s = np.cos(np.radians(12)), np.sin(np.radians(12))
    step = plain.affine[:3, :3]
    return {
        "left-handed": turned(step @ np.diag([-1.0, 1.0, 1.0]), (i, j, k)),
        "oblique": turned(np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ step, (i + 8, j + 24, k)),
        "sheared": turned(np.array([[1.0, 0, 0], [0, 1, np.tan(np.radians(15))], [0, 0, 1]]) @ step, (i, j + 28, k)),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["left-handed", "oblique", "sheared"])
def test_the_pipeline_measures_organs_on_any_grid(name: str) -> None:
    """Within 1 % of where a blurred scan shows the edge: at radius R the steepest slope lies blur² / R inside the surface."""
    blur_mm = 1.5
    phantom = make_torso(7, geometry=oblique_grids()[name], noise_hu=8.0, blur_mm=blur_mm)
    found = apply(load_pipeline("ct-phantom"), phantom.volume).label_map
    assert found.geometry == phantom.volume.geometry
    truth = {entry["label"]: entry["volume_ml"] for entry in phantom.truth["segments"]}
    for label in ORGANS:
        volume_ml = np.count_nonzero(found.mask(label)) * found.geometry.voxel_volume_mm3 / 1000
        if label == "tumour":  # 19 ml at little contrast: a shell of 0.06 mm is one percent of it
            assert dice(phantom, found, label) >= 0.95
        else:
            radius_mm = np.cbrt(3 * 1000 * truth[label] / (4 * np.pi))
            shown_ml = truth[label] * (1 - (blur_mm**2 + SNAP_SIGMA_MM**2) / radius_mm**2) ** 3
            assert volume_ml == pytest.approx(shown_ml, rel=0.01), label
