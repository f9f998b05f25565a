"""From clicks to masks: the cube that grows and shrinks, tried with a stand-in network, and the trained one on phantoms."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.settings import RunSettings
from medseg.phantom import make_torso
from medseg.phantom.catalog import Phantom
from medseg.segmentation.learned.prompt.click import ClickSegmenter
from medseg.segmentation.learned.prompt.loading import find_prompt_model
from medseg.segmentation.learned.prompt.method import PromptParams, prompt
from medseg.segmentation.learned.prompt.prompts import Prompts, check_prompts

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
ndimage = pytest.importorskip("scipy.ndimage")

CPU = RunSettings("cpu")


def _alike(channels: Any) -> Any:
    """A stand-in for the network: what looks like the click, by the second channel alone."""
    return 10 * (0.98 - channels[:, 1:2].abs())


@pytest.fixture
def stand_in() -> ClickSegmenter:
    """The segmenter with that stand-in, so that only the way to and from the cube is tried."""
    segmenter = ClickSegmenter(find_prompt_model("click-3d"), torch.device("cpu"))
    segmenter.network = _alike
    return segmenter


def _balls(grid: Geometry, balls: list[tuple[tuple[float, float, float], float]]) -> Volume:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1)
    places = grid.index_to_world(index)
    array = np.random.default_rng(1).normal(0, 4, grid.shape).astype(np.float32)
    for centre, radius in balls:
        array[np.linalg.norm(places - centre, axis=-1) <= radius] += 100
    return Volume(array, grid)


def _grid(shape: tuple[int, int, int], spacing: tuple[float, float, float], turned: bool = False) -> Geometry:
    affine = np.diag([*spacing, 1.0])
    if turned:
        c, s = np.cos(0.4), np.sin(0.4)
        affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, -1]]) * spacing
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2
    return Geometry(shape, affine)


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("radius", [6.0, 20.0, 70.0])
def test_the_cube_grows_and_shrinks_to_the_structure(stand_in: ClickSegmenter, radius: float, turned: bool) -> None:
    """A ball of 12, 40 or 140 mm comes out whole from one click beside its middle, on straight and turned grids."""
    spacing = (1.0, 1.0, 1.0) if radius < 10 else (2.0, 2.0, 3.0)
    grid = _grid((96, 90, 60), spacing, turned)
    scan = _balls(grid, [((3.0, -2.0, 1.0), radius)])
    found = stand_in.segment(scan, Prompts(np.array([[4.0, 0.0, 2.0]])))
    assert _dice(found.mask.astype(bool), scan.array.T > 50) > 0.93
    sizes = [size * spacing_mm for size, spacing_mm in found.looks]
    assert sizes[-1] > 2 * radius


def test_only_the_component_of_the_click_is_kept(stand_in: ClickSegmenter) -> None:
    """A second ball of the same intensity needs a click of its own."""
    scan = _balls(_grid((80, 60, 60), (1.0, 1.0, 1.0)), [((-20.0, 0, 0), 12.0), ((20.0, 0, 0), 12.0)])
    one = stand_in.segment(scan, Prompts(np.array([[-20.0, 0, 0]]))).mask
    both = stand_in.segment(scan, Prompts(np.array([[-20.0, 0, 0], [20.0, 0, 0]]))).mask
    truth = scan.array.T > 50
    assert _dice(both.astype(bool), truth) > 0.9
    truth[:, :, 40:] = False
    assert _dice(one.astype(bool), truth) > 0.9


def test_boxes_and_previous_masks_need_no_click(stand_in: ClickSegmenter) -> None:
    """The middle of the box, or the mask, says where the structure is."""
    scan = _balls(_grid((80, 60, 60), (1.0, 1.0, 1.0)), [((-20.0, 0, 0), 12.0), ((20.0, 0, 0), 12.0)])
    truth = scan.array.T > 50
    truth[:, :, 40:] = False
    box = check_prompts(scan.geometry, box_corners=[(-33, -13, -13), (-7, 13, 13)])
    assert _dice(stand_in.segment(scan, box).mask.astype(bool), truth) > 0.9
    rough = np.roll(truth, 3, axis=1).astype(np.uint8)
    assert _dice(stand_in.segment(scan, Prompts(previous=rough)).mask.astype(bool), truth) > 0.9


def test_a_structure_cut_by_the_edge_of_the_scan_is_found_to_the_edge(stand_in: ClickSegmenter) -> None:
    """The cube does not grow for ever where the scan ends."""
    scan = _balls(_grid((60, 60, 30), (1.0, 1.0, 1.0)), [((0.0, 0.0, 12.0), 14.0)])
    found = stand_in.segment(scan, Prompts(np.array([[0.0, 0.0, 10.0]])))
    assert _dice(found.mask.astype(bool), scan.array.T > 50) > 0.93
    assert found.mask[-1].any()


def test_a_scan_of_one_slice_and_of_one_intensity(stand_in: ClickSegmenter) -> None:
    """Neither raises; the mask lies on the grid of the scan."""
    flat = Volume(np.zeros((30, 30, 30), np.int16), _grid((30, 30, 30), (1.0, 1.0, 1.0)))
    assert stand_in.segment(flat, Prompts(np.array([[0.0, 0, 0]]))).mask.shape == (30, 30, 30)
    thin = _balls(_grid((60, 60, 1), (1.0, 1.0, 5.0)), [((0.0, 0, 0), 10.0)])
    found = stand_in.segment(thin, Prompts(np.array([[0.0, 0, 0]]))).mask
    assert found.shape == (1, 60, 60)
    assert found[0, 30, 30]


@pytest.fixture(scope="module")
def torso() -> Phantom:
    """A torso that the network was not trained on."""
    return make_torso(3)


def _deepest(mask: np.ndarray, geometry: Geometry) -> tuple[float, float, float]:
    depth = ndimage.distance_transform_edt(mask, sampling=geometry.spacing_mm)
    place = geometry.index_to_world(np.array(np.unravel_index(depth.argmax(), depth.shape)))
    return float(place[0]), float(place[1]), float(place[2])


@pytest.mark.parametrize(("label", "least"), [("liver", 0.85), ("kidney_left", 0.85), ("tumour", 0.7)])
def test_one_click_marks_an_organ_of_a_phantom(torso: Phantom, label: str, least: float) -> None:
    """The built-in network, one click in the middle of a structure, no other help."""
    mask = torso.label_map.mask(label)
    params = PromptParams(points=[_deepest(mask, torso.volume.geometry)], label=label)
    found = prompt(torso.volume, params, settings=CPU)
    assert [segment.label for segment in found.segments] == [label]
    assert _dice(found.array > 0, mask) > least
    assert found.provenance is not None
    assert found.provenance.model is not None
    assert found.provenance.model["name"] == "click-3d"


def test_the_same_click_gives_the_same_mask(torso: Phantom) -> None:
    """Nothing is left to chance."""
    params = PromptParams(points=[_deepest(torso.label_map.mask("kidney_left"), torso.volume.geometry)])
    first, second = (prompt(torso.volume, params, settings=CPU).array for _ in range(2))
    assert np.array_equal(first, second)


def test_an_outside_click_takes_voxels_away(torso: Phantom) -> None:
    """A click marked outside is not in the mask, or the finding says that the network did not follow."""
    volume, mask = torso.volume, torso.label_map.mask("liver")
    inside = _deepest(mask, volume.geometry)
    found = prompt(volume, PromptParams(points=[inside]), settings=CPU)
    wrong = _deepest((found.array > 0) & ~mask, volume.geometry)
    corrected = prompt(volume, PromptParams(points=[inside], background_points=[wrong]), settings=CPU)
    index = tuple(np.rint(volume.geometry.world_to_index(wrong)).astype(int))
    codes = [finding.code for finding in corrected.findings]
    assert bool(corrected.array[index]) == ("PROMPT_NOT_FOLLOWED" in codes)


def test_a_previous_mask_on_the_grid_is_refined(torso: Phantom) -> None:
    """A rough mask, given back, comes out nearer to the truth."""
    mask = torso.label_map.mask("kidney_left")
    rough = ndimage.binary_dilation(mask, iterations=3)
    before = LabelMap(rough.astype(np.uint8), torso.volume.geometry, (Segment(1, "kidney"),))
    found = prompt(torso.volume, PromptParams(previous=before), settings=CPU)
    assert _dice(found.array > 0, mask) > _dice(rough, mask)


def test_an_answer_is_a_matter_of_seconds(torso: Phantom, benchmark_seconds: Callable[[Callable[[], Any]], float]) -> None:
    """Far from a benchmark: it only catches an answer that takes ten times as long as it should."""
    params = PromptParams(points=[_deepest(torso.label_map.mask("kidney_left"), torso.volume.geometry)])
    assert benchmark_seconds(lambda: prompt(torso.volume, params, settings=CPU)) < 20


@pytest.fixture
def benchmark_seconds() -> Callable[[Callable[[], Any]], float]:
    """Seconds that a call takes on the processor, after one call that compiles."""

    def measure(call: Callable[[], Any]) -> float:
        call()
        begun = time.process_time()
        call()
        return time.process_time() - begun

    return measure
