"""The method `model`: fit, the way to the network's grid and back, provenance."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medseg.core.errors import DeviceError, IncompatibleModelError, InputError, ModelNotFoundError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.method.catalog import find
from medseg.method.settings import RunSettings
from medseg.segmentation.learned import medseg_model as module
from medseg.segmentation.learned.engine.windows import Windows
from medseg.segmentation.learned.model import ModelParams, model

MakeModel = Callable[..., Path]
CPU = RunSettings(device="cpu")

SEMI_AXES_MM = np.array([42.0, 33.0, 37.0])
TRUE_ML = 4 / 3 * np.pi * SEMI_AXES_MM.prod() / 1000


def turned(axis: int, degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = [(1, 2), (0, 2), (0, 1)][axis]
    matrix = np.eye(3)
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix


def centred(shape: tuple[int, int, int], columns: np.ndarray) -> Geometry:
    affine = np.eye(4)
    affine[:3, :3] = columns
    affine[:3, 3] = -columns @ (np.array(shape) - 1) / 2 + [0.3, -0.2, 0.1]
    return Geometry(shape, affine)


TILT = np.eye(3)
TILT[1, 2] = np.tan(np.radians(20))
GRIDS = {
    "plain": centred((60, 50, 25), np.diag([2.0, 2.0, 4.0])),
    "LPS": centred((60, 50, 25), np.diag([-2.0, -2.0, 4.0])),
    "left-handed": centred((60, 50, 25), np.diag([-2.0, 2.0, 4.0])),
    "sagittal": centred((50, 25, 60), np.array([[0.0, 0, 2.0], [2.0, 0, 0], [0, -4.0, 0]])),
    "fine": centred((92, 74, 82), np.eye(3)),
    "anisotropic": centred((98, 80, 14), np.diag([0.9, 0.9, 7.0])),
    "oblique": centred((60, 55, 30), turned(0, 25) @ turned(2, 15) @ np.diag([2.0, 2.0, 4.0])),
    "sheared": centred((60, 60, 25), TILT @ np.diag([2.0, 2.0, 4.0])),
    "sheared-left-handed": centred((60, 60, 25), TILT @ np.diag([2.0, -2.0, 4.0])),
}


@functools.cache
def ellipsoid_share(geometry: Geometry, samples: int = 3) -> np.ndarray:
    """How much of each voxel lies in the ellipsoid, by samples within the voxel."""
    total = np.zeros(geometry.shape, np.float32)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij"), axis=-1)
    centres = (geometry.index_to_world(index) / SEMI_AXES_MM).astype(np.float32)
    steps = (np.arange(samples) + 0.5) / samples - 0.5
    for offset in itertools.product(steps, steps, steps):
        points = centres + (geometry.affine[:3, :3] @ offset / SEMI_AXES_MM).astype(np.float32)
        total += np.einsum("...n,...n", points, points) <= 1
    return total / samples**3


def ellipsoid_scan(geometry: Geometry, modality: str = "CT") -> Volume:
    return Volume(-300 + 600 * ellipsoid_share(geometry), geometry, modality=modality, unit="HU")


def threshold_network(*_: Any) -> torch.nn.Module:
    """A "trained network" with a known answer: above 0 HU is the first segment, nothing is the second."""
    network = torch.nn.Conv3d(1, 3, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([-10.0, 10.0, 0.0]).reshape(3, 1, 1, 1, 1))
        network.bias.copy_(torch.tensor([0.0, 0.0, -100.0]))
    return network


@pytest.mark.parametrize("alignment", ["patient", "grid"])
@pytest.mark.parametrize("name", GRIDS)
def test_labels_lie_on_the_grid_of_the_scan_with_the_true_volume(
    name: str, alignment: str, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that is right gives the volume of the ellipsoid on every grid, and labels where the ellipsoid is."""
    monkeypatch.setattr(module, "load_network", threshold_network)
    folder = make_model(spacing_mm=[2.2, 2.2, 2.2], patch_size=[48, 48, 48], alignment=alignment)
    scan = ellipsoid_scan(GRIDS[name])
    found = model(scan, ModelParams(model=str(folder)), settings=CPU)
    assert found.geometry == scan.geometry
    inside = found.mask("first")
    volume_ml = np.count_nonzero(inside) * scan.geometry.voxel_volume_mm3 / 1000
    assert volume_ml == pytest.approx(TRUE_ML, rel=0.01)
    truth = ellipsoid_share(scan.geometry) > 0.5
    dice = 2 * np.count_nonzero(inside & truth) / (np.count_nonzero(inside) + np.count_nonzero(truth))
    assert dice > 0.97


def test_repeated_runs_are_equal_and_say_what_ran(make_model: MakeModel) -> None:
    folder = make_model(name="tiny")
    scan = ellipsoid_scan(GRIDS["plain"])
    first = model(scan, ModelParams(model=str(folder)), settings=CPU)
    second = model(scan, ModelParams(model=str(folder)), settings=CPU)
    np.testing.assert_array_equal(first.array, second.array)
    record = first.provenance
    assert record is not None
    assert record.device == "cpu"
    described = json.loads((folder / "model.json").read_text())
    assert record.model is not None
    assert record.model["sha256"] == described["weights"]["sha256"]
    assert record.model["licence"]["weights"] == "CC0-1.0"
    assert set(record.versions) == {"torch", "monai"}
    assert record.steps[0].parameters["model"] == "tiny", "the name, not a path of this machine"
    assert str(folder) not in json.dumps(record.to_dict())
    assert [segment.number for segment in first.segments] == [1, 7]


def test_progress_is_reported_to_the_end(make_model: MakeModel) -> None:
    seen: list[tuple[str, int, int]] = []
    settings = RunSettings(device="cpu", progress=lambda *step: seen.append(step))
    model(ellipsoid_scan(GRIDS["plain"]), ModelParams(model=str(make_model())), settings=settings)
    for what in ("segmenting", "labelling"):
        last = [step for step in seen if step[0] == what][-1]
        assert last[1] == last[2] > 0


def test_another_modality_needs_force(make_model: MakeModel) -> None:
    folder = str(make_model())
    scan = ellipsoid_scan(GRIDS["plain"], modality="MR")
    with pytest.raises(IncompatibleModelError, match="trained on CT, this scan is MR"):
        model(scan, ModelParams(model=folder), settings=CPU)
    forced = model(scan, ModelParams(model=folder, force=True), settings=CPU)
    assert [finding.code for finding in forced.findings] == ["MODALITY_FORCED"]


def test_an_unknown_modality_is_taken_with_a_finding(make_model: MakeModel) -> None:
    found = model(ellipsoid_scan(GRIDS["plain"], modality=""), ModelParams(model=str(make_model())), settings=CPU)
    assert [finding.code for finding in found.findings] == ["MODALITY_UNKNOWN"]


def test_intensities_without_air_are_noticed(make_model: MakeModel) -> None:
    scan = ellipsoid_scan(GRIDS["plain"])
    raised = scan.with_array(scan.array + 1000)
    found = model(raised, ModelParams(model=str(make_model())), settings=CPU)
    assert [finding.code for finding in found.findings] == ["INTENSITIES_NOT_HU"]


def test_broken_voxels_are_replaced_and_counted(make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_network", threshold_network)
    scan = ellipsoid_scan(GRIDS["plain"])
    array = scan.array.copy()
    array[0, 0, :3] = np.nan
    array[1, 0, 0] = np.inf
    params = ModelParams(model=str(make_model()))
    found = model(scan.with_array(array), params, settings=CPU)
    assert [finding.code for finding in found.findings] == ["NON_FINITE_REPLACED"]
    assert found.findings[0].message.startswith("4 voxels")
    np.testing.assert_array_equal(found.array, model(scan, params, settings=CPU).array)


def test_several_channels_mirroring_and_devices_are_checked_first(make_model: MakeModel) -> None:
    scan = ellipsoid_scan(GRIDS["plain"])
    two = make_model(name="two", channels=["T1", "T2"], modality="MR")
    with pytest.raises(IncompatibleModelError, match="needs 2 scans"):
        model(scan, ModelParams(model=str(two)), settings=CPU)
    with pytest.raises(IncompatibleModelError, match="not trained for mirroring"):
        model(scan, ModelParams(model=str(make_model()), test_time_mirroring=True), settings=CPU)
    with pytest.raises(DeviceError):
        model(scan, ModelParams(model=str(make_model())), settings=RunSettings(device="tpu"))
    with pytest.raises(ModelNotFoundError):
        model(scan, ModelParams(model="nowhere"), settings=CPU)


def test_mirroring_passes_the_axes_of_the_description(make_model: MakeModel) -> None:
    folder = make_model(mirror_axes=[0, 1])
    seen: list[Windows] = []
    run = module.run

    def watch(networks: Any, image: Any, windows: Windows, *rest: Any, **options: Any) -> Any:
        seen.append(windows)
        return run(networks, image, windows, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "run", watch)
        model(ellipsoid_scan(GRIDS["plain"]), ModelParams(model=str(folder), test_time_mirroring=True), settings=CPU)
    assert seen[0].mirror_axes == (2, 1), "axes i and j are the last two of (k,j,i)"


@pytest.mark.parametrize("kind", [{"kind": "z-score"}, {"kind": "clip-and-scale", "lower": -500, "upper": 500}])
def test_normalisation_reaches_the_network(kind: dict[str, Any], make_model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    class Watch(torch.nn.Conv3d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.clone())
            return super().forward(x)

    monkeypatch.setattr(module, "load_network", lambda _: Watch(1, 3, 1))
    scan = ellipsoid_scan(centred((40, 40, 40), np.eye(3) * 4.0))
    folder = make_model(normalisation=kind, background=None, patch_size=[48, 48, 48])
    model(scan, ModelParams(model=str(folder)), settings=CPU)
    inner = seen[0][0, 0, 4:44, 4:44, 4:44].numpy()
    values = scan.array.T
    expected = (values - values.mean()) / values.std() if kind["kind"] == "z-score" else np.clip(values, -500, 500) / 500
    np.testing.assert_allclose(inner, expected, atol=1e-4)


def test_a_scan_of_one_intensity_cannot_be_z_scored(make_model: MakeModel) -> None:
    folder = make_model(normalisation={"kind": "z-score"})
    flat = Volume(np.full((20, 20, 20), -500.0, np.float32), centred((20, 20, 20), np.eye(3)), modality="CT")
    with pytest.raises(InputError, match="one intensity"):
        model(flat, ModelParams(model=str(folder)), settings=CPU)


@pytest.mark.parametrize("shape", [(1, 1, 1), (40, 30, 1), (3, 90, 2)])
def test_very_small_scans_work(shape: tuple[int, int, int], make_model: MakeModel) -> None:
    scan = Volume(np.full(shape, -900, np.int16), centred(shape, np.eye(3) * 3.0), modality="CT")
    assert model(scan, ModelParams(model=str(make_model())), settings=CPU).array.shape == shape


def test_the_method_is_listed_without_importing_torch() -> None:
    import subprocess
    import sys

    code = "import sys; from medseg.method.catalog import find; find('model'); sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert find("model").name == "model"
